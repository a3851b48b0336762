// Scripts, by words that ordinary text does not hold; the validator asks for two of them or for a
// form that is nothing but a script. They hide in pixel data as well as anywhere, so that the rules
// look at whatever may be text there as well.
//
// A trigger is the head of a word: blanks and options are the validator's, lest a second blank be
// enough to get past.
// A trigger only asks the question; the validator that `meta` names answers it.

rule powershell
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "PowerShell script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "powershell"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.001"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for PowerShell. The text is run by whatever pastes, pipes or decodes it. Isolate the file and find out which system it came from."
    strings:
        $program           = "powershell" ascii wide nocase
        $core              = "pwsh" ascii wide nocase
        $base64            = "FromBase64String" ascii wide nocase
        $invoke_expression = "Invoke-Expression" ascii wide nocase
        $invoke_web        = "Invoke-WebRequest" ascii wide nocase
        $invoke_rest       = "Invoke-RestMethod" ascii wide nocase
        $invoke_command    = "Invoke-Command" ascii wide nocase
        $invoke_shellcode  = "Invoke-Shellcode" ascii wide nocase
        $invoke_mimikatz   = "Invoke-Mimikatz" ascii wide nocase
        $invoke_wmi        = "Invoke-WmiMethod" ascii wide nocase
        $client            = "Net.WebClient" ascii wide nocase
        $download_string   = "DownloadString" ascii wide nocase
        $download_file     = "DownloadFile" ascii wide nocase
        $download_data     = "DownloadData" ascii wide nocase
        $new_object        = "New-Object" ascii wide nocase
        $start_process     = "Start-Process" ascii wide nocase
        $policy            = "-ExecutionPolicy" ascii wide nocase
        $hidden            = "-WindowStyle" ascii wide nocase
        $load              = "Reflection.Assembly]::Load" ascii wide nocase
        $add_type          = "Add-Type" ascii wide nocase
        $request           = /i(wr|rm)[ \t]/ ascii wide nocase
        $pipeline          = /(curl|wget)[ \t][^|\r\n]{1,256}\|[ \t]{0,64}iex/ ascii wide nocase
        $expression        = /iex[ \t]{0,64}["'(&$]/ ascii wide nocase
    condition:
        any of them
}

rule batch
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "Windows batch script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "batch"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.003"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for Windows commands. The command processor skips what it cannot run, so binary data around the commands does not stop it. Isolate the file and find out which system it came from."
    strings:
        $echo          = "@echo" ascii wide nocase
        $comspec       = "%COMSPEC%" ascii wide nocase
        $cmd           = /cmd(\.exe)?["']?[ \t]{0,64}\// ascii wide nocase
        $setlocal      = "setlocal" ascii wide nocase
        $certutil      = "certutil" ascii wide nocase
        $bitsadmin     = "bitsadmin" ascii wide nocase
        $reg           = /reg(\.exe)?["']?[ \t]{1,64}add[ \t]/ ascii wide nocase
        $schtasks      = "schtasks" ascii wide nocase
        $regsvr        = "regsvr32" ascii wide nocase
        $rundll        = "rundll32" ascii wide nocase
        $mshta         = "mshta" ascii wide nocase
        $shadow        = "vssadmin" ascii wide nocase
        $here          = "%~dp0" ascii wide nocase
        $appdata       = "%APPDATA%" ascii wide nocase
        $temp          = "%TEMP%" ascii wide nocase
        $public        = "%PUBLIC%" ascii wide nocase
        $profile       = "%USERPROFILE%" ascii wide nocase
        $powershell    = "powershell" ascii wide nocase
    condition:
        any of them
}

rule windows_script
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "VBScript or JScript"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "windows_script"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.005"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for Windows scripts. Windows Script Host runs one when it is opened under a name that ends in .vbs, .js or .wsf. Isolate the file and find out which system it came from."
    strings:
        $shell          = "WScript.Shell" ascii wide nocase
        $create_host    = "WScript.Create" ascii wide nocase
        $quit           = "WScript.Quit" ascii wide nocase
        $sleep          = "WScript.Sleep" ascii wide nocase
        $echo           = "WScript.Echo" ascii wide nocase
        $arguments      = "WScript.Arguments" ascii wide nocase
        $script_name    = "WScript.ScriptFullName" ascii wide nocase
        $files          = "Scripting.FileSystemObject" ascii wide nocase
        $application    = "Shell.Application" ascii wide nocase
        $request        = "MSXML2.XMLHTTP" ascii wide nocase
        $server_request = "MSXML2.ServerXMLHTTP" ascii wide nocase
        $http           = "WinHttp.WinHttpRequest" ascii wide nocase
        $stream         = "ADODB.Stream" ascii wide nocase
        $active         = "ActiveXObject" ascii wide nocase
        $create         = "CreateObject" ascii wide nocase
        $moniker        = "winmgmts:" ascii wide nocase
        $resume         = /On[ \t]{1,8}Error[ \t]{1,8}Resume/ ascii wide nocase
    condition:
        any of them
}

rule html_script
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "HTML with script in it"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "html"
        where      = "printable"
        polyglot   = "POLY-HTML"
        attack     = "T1059.007"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for HTML with script. A browser or a viewer that shows the text as a page runs it, and mshta.exe runs it with the rights of the user. Isolate the file and find out which system it came from."
    strings:
        $script      = "<script" ascii wide nocase
        $application = "<hta:application" ascii wide nocase
        $url         = "javascript:" ascii wide nocase
        $handler     = /on(error|load|click|focus|toggle|begin|start|mouse|pageshow|animation)[a-z]{0,9}\s{0,8}=/ ascii wide nocase
    condition:
        any of them
}

rule php
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "PHP script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "php"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for PHP. A web server that serves uploaded files by the wrong rule runs it, whatever stands before it. Isolate the file and find out which system it came from."
    strings:
        $tag       = "<?php" ascii wide nocase
        // Before what runs a command, includes a file or shows what the request brought
        $short_tag = /<\?=?\s{0,64}@?(eval|assert|exec|system|passthru|shell_exec|popen|proc_open|include|require|base64_decode|call_user_func|phpinfo|\$_[GPRCSF])/ ascii wide nocase
        $command   = /<\?=\s{0,64}`[\t -~]{1,256}`/ ascii wide
    condition:
        any of them
}

rule shell
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "Shell script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "shell"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.004"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for shell commands. A POSIX shell runs a text file even without an interpreter line. Isolate the file and find out which system it came from."
    strings:
        $tcp              = "/dev/tcp/" ascii
        $udp              = "/dev/udp/" ascii
        $curl             = "curl" ascii
        $wget             = "wget" ascii
        $mode             = "chmod" ascii
        $decode           = /base64[ \t]{1,64}-/ ascii
        $interactive      = /\/bin\/(ba|da|z)?sh[ \t]{1,64}-/ ascii
        $program          = /-[a-z]{0,4}[ec][ \t]{1,64}["']?(\/usr)?\/bin\// ascii
        $fifo             = "mkfifo" ascii
        $listen           = "nc -" ascii
        $listen_ncat      = "ncat" ascii
        $listen_netcat    = "netcat" ascii
        $one_liner        = /(python[0-9.]{0,4}|perl|ruby|php|node|lua)(\.exe)?[ \t]{1,64}-(c|e|r|-eval|M[!-~]{1,40}[ \t]{1,8}-e)[ \t]/ ascii
        $wipe             = /rm[ \t]{1,64}-[rf]{1,4}[ \t]/ ascii
        $quiet            = "/dev/null" ascii
    condition:
        any of them
}

rule python
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "Python script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "python"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.006"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for Python that starts programs or runs text. Isolate the file and find out which system it came from."
    strings:
        $os         = "os.system(" ascii wide
        $popen      = "os.popen(" ascii wide
        $exec_os    = "os.exec" ascii wide
        $spawn      = "os.spawn" ascii wide
        $pty        = "pty.spawn(" ascii wide
        $subprocess = "subprocess." ascii wide
        $imported   = "__import__(" ascii wide
        // The brackets keep the word from being taken for a statement of YARA
        $module     = /(im[p]ort|from)[ \t]{1,8}(os|sys|subprocess|socket|pty|ctypes|base64|urllib|requests|zlib|marshal)/ ascii wide
        $exec       = "exec(" ascii wide
        $eval       = "eval(" ascii wide
        $decode     = "b64decode(" ascii wide
        $marshal    = "marshal.loads(" ascii wide
        $open       = "urlopen(" ascii wide
        $retrieve   = "urlretrieve(" ascii wide
        $socket     = "socket.socket(" ascii wide
        $native     = "ctypes." ascii wide
    condition:
        any of them
}

rule perl
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "Perl script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "perl"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for Perl. Isolate the file and find out which system it came from."
    strings:
        $use    = /use[ \t]{1,8}(strict|warnings|IO::Socket|Socket|MIME::Base64|LWP)/ ascii wide
        $system = /(system|exec)[ \t]{0,8}\(?[ \t]{0,8}["']/ ascii wide
        $eval   = /eval[ \t]{0,8}\(?[ \t]{0,8}(unpack|decode_base64|pack)/ ascii wide
        $socket = "IO::Socket::INET->new" ascii wide
    condition:
        any of them
}

rule node
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "JavaScript that starts programs"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "node"
        where      = "printable"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.007"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for JavaScript that starts programs. Isolate the file and find out which system it came from."
    strings:
        $require = /require[ \t]{0,4}\([ \t]{0,4}["'](node:)?child_process/ ascii wide
    condition:
        $require
}

rule shebang
{
    meta:
        id                = "EMB-SCRIPT"
        title             = "Script with an interpreter line"
        category          = "malware"
        severity          = "high"
        confidence        = "strong"
        validator         = "shebang"
        where             = "printable"
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
