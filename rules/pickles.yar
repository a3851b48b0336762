// Imports of Python pickles as the older protocols write them: lines of text.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule pickle_import
{
    meta:
        id         = "EMB-PICKLE"
        title      = "Python pickle"
        category   = "malware"
        severity   = "critical"
        confidence = "strong"
        validator  = "pickle"
        where      = "printable"
        polyglot   = "POLY-PICKLE"
        attack     = "T1059.006"
        reference  = "CWE-502"
        why        = "Loading the pickle runs what it names. Isolate the file, and load no pickles that others made."
    strings:
        // GLOBAL or INST, then a module through which code is run
        $module = /[ci](__builtin__|_ctypes|_io|_operator|_pickle|_thread|asyncio|bdb|builtins|cPickle|cProfile|cloudpickle|code|codeop|commands|ctypes|dill|distutils|doctest|ensurepip|ftplib|functools|gc|http|httplib|idlelib|imp|importlib|inspect|io|lib2to3|linecache|marshal|multiprocessing|nt|operator|os|pathlib|pdb|pickle|pip|pkgutil|platform|popen2|posix|profile|pty|pydoc|requests|runpy|setuptools|shutil|signal|site|smtplib|socket|sqlite3|subprocess|sys|telnetlib|tempfile|threading|timeit|trace|types|urllib|urllib2|venv|webbrowser|zipimport)[.\n][A-Za-z_]/
    condition:
        $module
}
