// Scripts, by words that ordinary text does not hold; the validator asks for two of them or for a
// form that is nothing but a script.
//
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
        where      = "nonpixel"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.001"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for PowerShell. The text is run by whatever pastes, pipes or decodes it. Isolate the file and find out which system it came from."
    strings:
        $command           = "powershell -" ascii wide nocase
        $slash             = "powershell /" ascii wide nocase
        $exe               = "powershell.exe" ascii wide nocase
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
        $new_object        = "New-Object " ascii wide nocase
        $start_process     = "Start-Process " ascii wide nocase
        $policy            = "-ExecutionPolicy " ascii wide nocase
        $hidden            = "-WindowStyle " ascii wide nocase
        $load              = "Reflection.Assembly]::Load" ascii wide nocase
        $add_type          = "Add-Type " ascii wide nocase
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
        where      = "nonpixel"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.003"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for Windows commands. The command processor skips what it cannot run, so binary data around the commands does not stop it. Isolate the file and find out which system it came from."
    strings:
        $echo_off      = "@echo off" ascii wide nocase
        $comspec       = "%COMSPEC%" ascii wide nocase
        $cmd_c         = "cmd /c " ascii wide nocase
        $cmd_k         = "cmd /k " ascii wide nocase
        $cmd_exe       = "cmd.exe /" ascii wide nocase
        $setlocal      = "setlocal enable" ascii wide nocase
        $certutil      = "certutil -" ascii wide nocase
        $certutil_exe  = "certutil.exe" ascii wide nocase
        $bitsadmin     = "bitsadmin /" ascii wide nocase
        $bitsadmin_exe = "bitsadmin.exe" ascii wide nocase
        $reg           = "reg add " ascii wide nocase
        $reg_exe       = "reg.exe add " ascii wide nocase
        $schtasks      = "schtasks /" ascii wide nocase
        $schtasks_exe  = "schtasks.exe" ascii wide nocase
        $regsvr        = "regsvr32 /" ascii wide nocase
        $regsvr_exe    = "regsvr32.exe" ascii wide nocase
        $rundll        = "rundll32 " ascii wide nocase
        $rundll_exe    = "rundll32.exe" ascii wide nocase
        $mshta         = "mshta " ascii wide nocase
        $mshta_exe     = "mshta.exe" ascii wide nocase
        $shadow        = "vssadmin delete" ascii wide nocase
        $shadow_exe    = "vssadmin.exe delete" ascii wide nocase
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
        where      = "nonpixel"
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
        $resume         = "On Error Resume Next" ascii wide nocase
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
        where      = "nonpixel"
        polyglot   = "POLY-HTML"
        attack     = "T1059.007"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for HTML with script. A browser or a viewer that shows the text as a page runs it, and mshta.exe runs it with the rights of the user. Isolate the file and find out which system it came from."
    strings:
        $script      = "<script" ascii wide nocase
        $application = "<hta:application" ascii wide nocase
        $url         = "javascript:" ascii wide nocase
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
        where      = "nonpixel"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for PHP. A web server that serves uploaded files by the wrong rule runs it, whatever stands before it. Isolate the file and find out which system it came from."
    strings:
        $tag = "<?php" ascii wide nocase
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
        where      = "nonpixel"
        polyglot   = "POLY-SCRIPT-NOSHEBANG"
        attack     = "T1059.004"
        reference  = "PS3.10 section 7.5"
        why        = "A DICOM object has no use for shell commands. A POSIX shell runs a text file even without an interpreter line. Isolate the file and find out which system it came from."
    strings:
        $tcp              = "/dev/tcp/" ascii
        $udp              = "/dev/udp/" ascii
        $curl             = "curl -" ascii
        $curl_http        = "curl http" ascii
        $wget             = "wget -" ascii
        $wget_http        = "wget http" ascii
        $mode             = "chmod +x" ascii
        $mode_octal       = "chmod 7" ascii
        $decode           = "base64 -d" ascii
        $decode_long      = "base64 --decode" ascii
        $interactive      = "bin/sh -" ascii
        $interactive_bash = "bin/bash -" ascii
        $listen           = "mkfifo " ascii
    condition:
        any of them
}
