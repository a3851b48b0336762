// Programs of any operating system.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule pe
{
    meta:
        id         = "EMB-PE"
        title      = "Windows executable"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "pe"
        where      = "file"
        polyglot   = "POLY-PE"
        attack     = "T1027.009"
        reference  = "CVE-2019-11687"
        why        = "A DICOM object has no use for a Windows program. Whoever or whatever opens the file as a program runs it: isolate the file and find out which system it came from."
    strings:
        // PE signature, then the Machine: x86, x86-64, ARM64, Thumb-2, ARM, Itanium, RISC-V 32 and 64
        $nt_headers = { 50 45 00 00 (4C 01 | 64 86 | 64 AA | C4 01 | C0 01 | 00 02 | 32 50 | 64 50) }
    condition:
        $nt_headers
}

rule elf
{
    meta:
        id         = "EMB-ELF"
        title      = "Linux executable"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "elf"
        where      = "file"
        polyglot   = "POLY-ELF"
        attack     = "T1027.009"
        reference  = "CVE-2019-11687"
        why        = "A DICOM object has no use for a Linux program. Whoever or whatever opens the file as a program runs it: isolate the file and find out which system it came from."
    strings:
        // Only the magic: Linux does not look at the class, byte order and version bytes behind it.
        $magic = { 7F 45 4C 46 }
    condition:
        $magic
}

rule macho
{
    meta:
        id         = "EMB-MACHO"
        title      = "macOS executable"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "macho"
        where      = "file"
        polyglot   = "POLY-MACHO"
        attack     = "T1027.009"
        reference  = "Apple mach-o/loader.h"
        why        = "A DICOM object has no use for a macOS program. Whoever or whatever opens the file as a program runs it: isolate the file and find out which system it came from."
    strings:
        $thin_32_be   = { FE ED FA CE }
        $thin_32_le   = { CE FA ED FE }
        $thin_64_be   = { FE ED FA CF }
        $thin_64_le   = { CF FA ED FE }
        $universal_32 = { CA FE BA BE }
        $universal_64 = { CA FE BA BF }
    condition:
        any of them
}

rule java_class
{
    meta:
        id         = "EMB-CLASS"
        title      = "Java class file"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "java_class"
        where      = "file"
        polyglot   = "POLY-JAVA"
        attack     = "T1027.009"
        reference  = "JVMS chapter 4"
        why        = "A DICOM object has no use for compiled Java. A Java program that loads the file as a class runs it: isolate the file and find out which system it came from."
    strings:
        $magic = { CA FE BA BE }
    condition:
        $magic
}

rule lnk
{
    meta:
        id         = "EMB-LNK"
        title      = "Windows shortcut"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "lnk"
        where      = "file"
        polyglot   = "POLY-LNK"
        attack     = "T1204.002"
        reference  = "MS-SHLLINK section 2.1"
        why        = "A shortcut starts any command line as soon as someone opens it. Isolate the file and read the command that it holds."
    strings:
        // Size of the header (its zeros left to the validator: libyara would search for those),
        // then the class identifier of shortcuts
        $header = { 4C ?? ?? ?? 01 14 02 00 00 00 00 00 C0 00 00 00 00 00 00 46 }
    condition:
        $header
}

rule dex
{
    meta:
        id         = "EMB-DEX"
        title      = "Android program"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "dex"
        where      = "file"
        polyglot   = "POLY-DEX"
        attack     = "T1027.009"
        reference  = "Dalvik executable format"
        why        = "A DICOM object has no use for an Android program. Isolate the file and find out which system it came from."
    strings:
        $magic = { 64 65 78 0A 30 (33 | 34) }
    condition:
        $magic
}

rule wasm
{
    meta:
        id         = "EMB-WASM"
        title      = "WebAssembly module"
        category   = "malware"
        severity   = "medium"
        confidence = "strong"
        validator  = "wasm"
        where      = "file"
        polyglot   = "POLY-WASM"
        attack     = "T1027.009"
        reference  = "WebAssembly Core Specification section 5.5"
        why        = "A DICOM object has no use for WebAssembly, but it runs only where a program loads it. Find out which system the file came from."
    strings:
        $magic = { 00 61 73 6D 01 00 00 00 }
    condition:
        $magic
}

rule pyc
{
    meta:
        id         = "EMB-PYC"
        title      = "Compiled Python"
        category   = "malware"
        severity   = "medium"
        confidence = "strong"
        validator  = "pyc"
        where      = "file"
        polyglot   = "POLY-PYC"
        attack     = "T1027.009"
        reference  = "PEP 552"
        why        = "A DICOM object has no use for compiled Python, but it runs only where a program loads it. Find out which system the file came from."
    strings:
        $magic = { (0C | 0D) 0D 0A (00 | 01 | 03) 00 00 00 }
    condition:
        $magic
}

rule dos_stub
{
    meta:
        id         = "EMB-DOS-STUB"
        title      = "Text of a Windows executable without its header"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "dos_stub"
        where      = "file"
        attack     = "T1027.009"
        reference  = "Microsoft PE Format"
        why        = "The sentence stands near the start of nearly every Windows program and nowhere else, but no sound header is before it: a program cut in pieces or with its header altered. Isolate the file."
    strings:
        $dos     = "This program cannot be run in DOS mode"
        $windows = "This program must be run under Win"
    condition:
        any of them
}
