// The harmless file by which anti-malware is tested, escaped here lest it be found in this rule.

rule eicar
{
    meta:
        id         = "EMB-EICAR"
        title      = "EICAR test file"
        category   = "malware"
        severity   = "high"
        confidence = "confirmed"
        where      = "printable"
        attack     = "T1027.009"
        reference  = "EICAR anti-malware test file"
        why        = "Harmless by itself: someone tests whether scanners look inside DICOM files. If nobody here does, find out who sent it."
    strings:
        $test_file = /X5O!P%@AP\[4\\PZX54\(P\^\)7CC\)7\}\$\x45ICAR-STANDARD-ANTIVIRUS-TEST-FILE!\$H\+H\*/
    condition:
        $test_file
}
