// Archives, and programs that are archives.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule zip
{
    meta:
        id         = "EMB-ARCHIVE"
        title      = "ZIP archive or office document"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "zip"
        where      = "file"
        polyglot   = "POLY-ZIP"
        attack     = "T1027.009"
        reference  = "APPNOTE 6.3.10 section 4.3.16"
        why        = "A DICOM object is not a container for other files, and readers find an archive wherever it stands. Isolate the file and look at what the archive holds."
    strings:
        // The end record: readers look for it from the end of the file, so a ZIP may follow anything.
        $end_record = { 50 4B 05 06 }
    condition:
        $end_record
}

rule jar
{
    meta:
        id         = "EMB-JAR"
        title      = "Java, Android or Python application"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "jar"
        where      = "file"
        polyglot   = "POLY-JAR"
        attack     = "T1027.009"
        reference  = "APPNOTE 6.3.10 section 4.3.16"
        why        = "Java, Android and Python run such an archive as a program, whatever stands before it in the file. Isolate the file and find out which system it came from."
    strings:
        $end_record = { 50 4B 05 06 }
    condition:
        $end_record
}

rule rar
{
    meta:
        id         = "EMB-ARCHIVE"
        title      = "RAR archive"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "rar"
        where      = "file"
        polyglot   = "POLY-RAR"
        attack     = "T1027.009"
        reference  = "RAR 5.0 archive format"
        why        = "A DICOM object is not a container for other files, and readers find an archive wherever it stands. Isolate the file and look at what the archive holds."
    strings:
        $rar_4 = { 52 61 72 21 1A 07 00 }
        $rar_5 = { 52 61 72 21 1A 07 01 00 }
    condition:
        any of them
}

rule sevenzip
{
    meta:
        id         = "EMB-ARCHIVE"
        title      = "7z archive"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "sevenzip"
        where      = "file"
        polyglot   = "POLY-7Z"
        attack     = "T1027.009"
        reference  = "LZMA SDK 7zFormat.txt"
        why        = "A DICOM object is not a container for other files, and readers find an archive wherever it stands. Isolate the file and look at what the archive holds."
    strings:
        $magic = { 37 7A BC AF 27 1C }
    condition:
        $magic
}

rule cab
{
    meta:
        id         = "EMB-ARCHIVE"
        title      = "Windows cabinet"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "cab"
        where      = "file"
        polyglot   = "POLY-CAB"
        attack     = "T1027.009"
        reference  = "MS-CAB section 2.1"
        why        = "A DICOM object is not a container for other files, and readers find an archive wherever it stands. Isolate the file and look at what the archive holds."
    strings:
        // The magic, then a reserved field of zeros
        $magic = { 4D 53 43 46 00 00 00 00 }
    condition:
        $magic
}

rule tar
{
    meta:
        id         = "EMB-ARCHIVE"
        title      = "tar archive"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "tar"
        where      = "file"
        attack     = "T1027.009"
        reference  = "POSIX.1-2017 pax, ustar"
        why        = "A DICOM object is not a container for other files, and readers find an archive wherever it stands. Isolate the file and look at what the archive holds."
    strings:
        $ustar = { 75 73 74 61 72 00 30 30 }
        $gnu   = { 75 73 74 61 72 20 20 00 }
    condition:
        any of them
}

rule disk_image
{
    meta:
        id         = "EMB-ARCHIVE"
        title      = "Disk image"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "disk_image"
        where      = "file"
        attack     = "T1553.005"
        reference  = "ECMA-119 section 8"
        why        = "Windows mounts a disk image with a click, and what it holds escapes the marks of downloaded files. Isolate the file and look at what the image holds."
    strings:
        $iso = { 01 43 44 30 30 31 01 00 }
        $udf = { 00 42 45 41 30 31 01 00 }
    condition:
        any of them
}
