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
