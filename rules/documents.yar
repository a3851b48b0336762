// Documents that can carry programs of their own.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule pdf
{
    meta:
        id                = "EMB-PDF"
        title             = "PDF document"
        category          = "malware"
        severity          = "medium"
        confidence        = "strong"
        validator         = "pdf"
        where             = "file"
        polyglot          = "POLY-PDF"
        polyglot_severity = "high"
        not_in            = "document"
        attack            = "T1036.008"
        reference         = "ISO 32000-2 section 7.5"
        why               = "A PDF belongs in Encapsulated Document (0042,0011) and nowhere else. Readers take one that starts in the first 1024 bytes as the whole file: look at what it shows and does before anyone opens it."
    strings:
        $header = "%PDF-"
    condition:
        $header
}

rule ole
{
    meta:
        id         = "EMB-OLE"
        title      = "Office document or installer (OLE compound file)"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "ole"
        where      = "file"
        polyglot   = "POLY-OLE"
        attack     = "T1204.002"
        reference  = "MS-CFB section 2.2"
        why        = "Office documents of this format can hold macros and installers run with the rights of an administrator; DICOM has no use for either. Isolate the file."
    strings:
        $magic = { D0 CF 11 E0 A1 B1 1A E1 }
    condition:
        $magic
}

rule pdf_active
{
    meta:
        id         = "DOC-PDF-ACTIVE"
        title      = "PDF that does something by itself"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "active_pdf"
        where      = "file"
        attack     = "T1204.002"
        reference  = "ISO 32000-2 section 12.6"
        why        = "A report needs no script, no program and no address that it opens by itself. Whoever opens the PDF runs what it holds with the faults of their viewer: have it looked at before anyone opens it."
    strings:
        // Some readers do without the header.
        $header = "%PDF-"
        $end    = "startxref"
    condition:
        any of them
}

rule pdf_opaque
{
    meta:
        id         = "DOC-PDF-OPAQUE"
        title      = "PDF with parts that cannot be read"
        category   = "inventory"
        severity   = "low"
        confidence = "strong"
        validator  = "opaque_pdf"
        where      = "file"
        attack     = "T1027"
        reference  = "ISO 32000-2 section 7.6"
        why        = "Encrypted reports are common, and what they hold was not looked at. Open it with care where it comes from somebody unknown."
    strings:
        $header = "%PDF-"
        $end    = "startxref"
    condition:
        any of them
}

rule macros
{
    meta:
        id         = "DOC-MACRO"
        title      = "Office macros"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "macros"
        where      = "file"
        attack     = "T1059.005"
        reference  = "MS-OVBA section 2.3.4"
        why        = "Macros are programs that an office document brings along. DICOM has no use for them: isolate the file and read their source."
    strings:
        $magic = { D0 CF 11 E0 A1 B1 1A E1 }
    condition:
        $magic
}

rule rtf
{
    meta:
        id         = "EMB-RTF"
        title      = "RTF document"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "rtf"
        where      = "file"
        polyglot   = "POLY-RTF"
        attack     = "T1204.002"
        reference  = "Rich Text Format Specification 1.9.1"
        why        = "Objects, remote templates and fields are how rich text brings programs along. Isolate the file and look at what the object holds."
    strings:
        $head = "{\\rt"
    condition:
        $head
}

rule chm
{
    meta:
        id         = "EMB-CHM"
        title      = "Windows help file"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "chm"
        where      = "file"
        polyglot   = "POLY-CHM"
        attack     = "T1218.001"
        reference  = "ITSF"
        why        = "A help file is pages with scripts that run with the rights of the user. Isolate the file."
    strings:
        $header = { 49 54 53 46 (02 | 03 | 04) 00 00 00 (58 | 60) 00 00 00 }
    condition:
        $header
}

rule postscript
{
    meta:
        id         = "EMB-PS"
        title      = "PostScript program"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "postscript"
        where      = "file"
        polyglot   = "POLY-PS"
        attack     = "T1059"
        reference  = "PostScript Language Reference section 3.8"
        why        = "PostScript is a program, and this one opens files, runs commands or leaves its sandbox. Isolate the file and read it."
    strings:
        $head = "%!PS"
    condition:
        $head
}
