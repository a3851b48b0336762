// Programs written as text, found by the sentence in their DOS stub or by their start, where the text
// cannot be decoded: among pixels, or cut.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule base64_program
{
    meta:
        id         = "EMB-ENC-B64"
        title      = "Executable in Base64"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        where      = "printable"
        attack     = "T1027.013"
        reference  = "RFC 4648 section 4"
        why        = "A program written as text passes filters that look for binary programs. Isolate the file and look for what decodes it."
    strings:
        // The DOS stub at any alignment; the usual start of a PE; the start of a 32-bit or 64-bit ELF
        $dos      = "This program cannot be run in DOS mode" base64
        $windows  = "This program must be run under Win" base64
        $pe       = "TVqQAAMAAAAEAAAA" ascii wide
        $elf      = /f0VMRg[EI]BA[QA]/ ascii wide
    condition:
        any of them
}
