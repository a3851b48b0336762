// Scripts that name their interpreter in the first line. They run from anywhere a file system reaches,
// so unlike the other script rules this one looks at pixel data too.

rule shebang
{
    meta:
        id                = "EMB-SCRIPT"
        title             = "Script with an interpreter line"
        category          = "malware"
        severity          = "high"
        confidence        = "strong"
        validator         = "shebang"
        where             = "file"
        polyglot          = "POLY-SCRIPT-SHEBANG"
        polyglot_severity = "critical"
        attack            = "T1059.004"
        reference         = "execve(2)"
        why               = "Started as a program, the file is handed to the interpreter that its first line names. Isolate the file and read the script."
    strings:
        // 256 bytes are what Linux reads of the line.
        $line = /#![ \t]{0,252}\/[!-~]/
    condition:
        $line
}
