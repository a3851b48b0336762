// Serialised objects that run code where they are loaded.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule pickle
{
    meta:
        id         = "EMB-PICKLE"
        title      = "Python pickle"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "pickle"
        where      = "file"
        polyglot   = "POLY-PICKLE"
        attack     = "T1059.006"
        reference  = "CWE-502"
        why        = "Loading the pickle runs what it names. Isolate the file, and load no pickles that others made."
    strings:
        // A frame of protocol 4 or 5, whose length has few bytes; then the modules through which code is run, as each protocol names them.
        $frame_4           = { 80 04 95 ?? ?? ?? 00 00 00 00 00 }
        $frame_5           = { 80 05 95 ?? ?? ?? 00 00 00 00 00 }
        $m_os              = { 8C 02 6F 73 }
        $m_nt              = { 8C 02 6E 74 }
        $m_posix           = { 8C 05 70 6F 73 69 78 }
        $m_subprocess      = { 8C 0A 73 75 62 70 72 6F 63 65 73 73 }
        $m_builtins        = { 8C 08 62 75 69 6C 74 69 6E 73 }
        $m_builtin_        = { 8C 0B 5F 5F 62 75 69 6C 74 69 6E 5F 5F }
        $m_sys             = { 8C 03 73 79 73 }
        $m_importlib       = { 8C 09 69 6D 70 6F 72 74 6C 69 62 }
        $m_runpy           = { 8C 05 72 75 6E 70 79 }
        $m_shutil          = { 8C 06 73 68 75 74 69 6C }
        $m_socket          = { 8C 06 73 6F 63 6B 65 74 }
        $m_webbrowser      = { 8C 0A 77 65 62 62 72 6F 77 73 65 72 }
        $m_pty             = { 8C 03 70 74 79 }
        $m_ctypes          = { 8C 06 63 74 79 70 65 73 }
        $m_marshal         = { 8C 07 6D 61 72 73 68 61 6C }
        $m_operator        = { 8C 08 6F 70 65 72 61 74 6F 72 }
        $m_operator_       = { 8C 09 5F 6F 70 65 72 61 74 6F 72 }
        $m_functools       = { 8C 09 66 75 6E 63 74 6F 6F 6C 73 }
        $m_types           = { 8C 05 74 79 70 65 73 }
        $m_pickle          = { 8C 06 70 69 63 6B 6C 65 }
        $m_pickle_         = { 8C 07 5F 70 69 63 6B 6C 65 }
        $m_timeit          = { 8C 06 74 69 6D 65 69 74 }
        $m_commands        = { 8C 08 63 6F 6D 6D 61 6E 64 73 }
        $m_code            = { 8C 04 63 6F 64 65 }
        $m_asyncio         = { 8C 07 61 73 79 6E 63 69 6F }
        $m_multiprocessing = { 8C 0F 6D 75 6C 74 69 70 72 6F 63 65 73 73 69 6E 67 }
        $m_urllib_request  = { 8C 0E 75 72 6C 6C 69 62 2E 72 65 71 75 65 73 74 }
        $m_pip             = { 8C 03 70 69 70 }
        $x_posix           = { 58 05 00 00 00 70 6F 73 69 78 }
        $x_subprocess      = { 58 0A 00 00 00 73 75 62 70 72 6F 63 65 73 73 }
        $x_builtins        = { 58 08 00 00 00 62 75 69 6C 74 69 6E 73 }
    condition:
        any of them
}

rule npy
{
    meta:
        id         = "EMB-NPY"
        title      = "NumPy array of Python objects"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "npy"
        where      = "file"
        attack     = "T1059.006"
        reference  = "CWE-502"
        why        = "Such an array is a pickle: loading it runs what it names. Isolate the file, and load arrays with allow_pickle=False."
    strings:
        $magic = { 93 4E 55 4D 50 59 }
    condition:
        $magic
}

rule java_object
{
    meta:
        id         = "EMB-JAVA-SER"
        title      = "Serialised Java object"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "java_object"
        where      = "file"
        attack     = "T1203"
        reference  = "CWE-502"
        why        = "A Java program that reads the object back runs what its class does on being read. Check that no system behind reads it."
    strings:
        $object = { AC ED 00 05 (73 | 75 | 77) }
    condition:
        $object
}

rule dotnet_object
{
    meta:
        id         = "EMB-DOTNET-BINFMT"
        title      = "Serialised .NET object that runs code"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "dotnet_object"
        where      = "file"
        attack     = "T1203"
        reference  = "CWE-502"
        why        = "A .NET program that reads the object back runs what its class does on being read. Check that no system behind reads it."
    strings:
        $class_01 = "System.DelegateSerializationHolder"
        $class_02 = "System.Collections.Generic.SortedSet`1"
        $class_03 = "System.Windows.Data.ObjectDataProvider"
        $class_04 = "System.Management.Automation.PSObject"
        $class_05 = "Microsoft.VisualStudio.Text.Formatting"
        $class_06 = "System.Security.Principal.Windows"
        $class_07 = "System.Security.Claims.Claims"
        $class_08 = "System.Windows.Forms.AxHost"
        $class_09 = "System.Configuration.Install"
        $class_10 = "System.Activities.Presentation"
        $class_11 = "System.Web.Security.RolePrincipal"
        $class_12 = "System.IdentityModel.Tokens"
        $class_13 = "System.Workflow.ComponentModel"
        $class_14 = "System.CodeDom.Compiler"
        $class_15 = "System.Diagnostics.Process"
        $class_16 = "System.Resources.ResXResource"
        $class_17 = "System.Data.DataSet"
    condition:
        any of them
}
