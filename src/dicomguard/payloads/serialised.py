"""Serialised objects that run code where they are loaded: Python, Java, .NET."""

from __future__ import annotations

import pickletools
import re
import struct
from itertools import islice

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload
from dicomguard.payloads.words import first

# --- Python pickles: PEP 307, PEP 3154 and pickletools --------------------------------------------

_OPERATIONS = 200_000
_WINDOWS = (1 << 10, 1 << 14, 1 << 18, 1 << 22)
"""Bytes that are read of a pickle; the next only where one does not suffice."""
_IMPORTS = frozenset({"GLOBAL", "INST", "STACK_GLOBAL"})
_CALLS = frozenset({"REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_TEXTS = frozenset(
    {
        "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING",
        "SHORT_BINSTRING",
    }
)  # fmt: skip
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_DANGEROUS = frozenset(
    {
        "os", "posix", "nt", "subprocess", "sys", "socket", "shutil", "pty", "ctypes", "_ctypes",
        "importlib", "imp", "runpy", "code", "codeop", "commands", "popen2", "marshal", "pickle",
        "_pickle", "cPickle", "dill", "cloudpickle", "webbrowser", "timeit", "pdb", "bdb", "trace",
        "cProfile", "profile", "asyncio", "multiprocessing", "threading", "_thread", "signal",
        "platform", "pip", "setuptools", "distutils", "pydoc", "doctest", "http", "urllib",
        "urllib2", "requests", "httplib", "ftplib", "smtplib", "telnetlib", "operator",
        "_operator", "functools", "types", "inspect", "gc", "builtins", "__builtin__", "tempfile",
        "pathlib", "io", "_io", "zipimport", "pkgutil", "site", "venv", "idlelib", "lib2to3",
        "ensurepip", "sqlite3", "linecache",
    }
)  # fmt: skip
"""Modules, by their first part, through which code is run and files and networks are reached."""
_HARMLESS = re.compile(
    r"(?:builtins|__builtin__) (?:set|frozenset|bytearray|complex|slice|range|xrange|list|dict"
    r"|tuple|object|int|long|float|bool|str|unicode|bytes|[A-Z]\w{1,64})"
    r"|_?io (?:BytesIO|StringIO)|functools partial|types SimpleNamespace"
    r"|pathlib (?:Pure)?(?:Posix|Windows)?Path"
)
"""What honest data import from those modules."""


def pickle(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A Python pickle that calls what runs code; ``hit`` is at its head or at an import in it.

    The operations from there on are read, never run: one must import from a module through which
    code is run, and a later one must call. Of a pickle of more than 4 MiB no more is read.
    """
    for size in _WINDOWS:
        window = data[hit : min(hit + size, high)]
        try:
            called = _called(window)
        except _CutShort:
            if len(window) < size:
                return None
            continue
        if called is None:
            return None
        name, end = called
        return Payload(
            start=hit,
            end=hit + end,
            description=f"Python pickle that calls {name}",
            whole_file=hit == 0,
        )
    return None


class _CutShort(Exception):  # noqa: N818 - no error: more has to be read
    """The pickle goes on behind what was read."""


def _called(window: bytes) -> tuple[str, int] | None:
    """The first dangerous import that is called, and where the call ends.

    Raises:
        _CutShort: The operations lead out of the window.
    """
    imported, place = "", 0
    memo: dict[object, str] = {}
    texts = ["", ""]
    is_text = False  # whether the operation before left a text on the stack
    try:
        for opcode, argument, at in islice(pickletools.genops(window), _OPERATIONS):
            name, place = opcode.name, at or 0
            if name in _IMPORTS:
                # An argument of GLOBAL is the module and the name, parted by a blank.
                what = " ".join(texts[-2:]) if name == "STACK_GLOBAL" else str(argument)
                imported = imported or (what if _is_dangerous(what) else "")
            if imported and name in _CALLS:
                return _shown(imported), place + 1
            if name in _TEXTS:
                texts.append(str(argument)[:_NAME_MAX])
            elif name in _GETS:
                texts.append(memo.get(argument, ""))
            elif name in _PUTS or name == "MEMOIZE":
                memo[argument if name in _PUTS else len(memo)] = texts[-1] if is_text else ""
                continue
            is_text = name in _TEXTS or name in _GETS
    except (ValueError, OverflowError) as error:  # what pickletools raises for any bytes
        if "unknown" in str(error):
            return None
        raise _CutShort from error
    return None


_NAME_MAX = 256


def _is_dangerous(what: str) -> bool:
    module, _, name = what.partition(" ")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", module) or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return False
    return module.partition(".")[0] in _DANGEROUS and _HARMLESS.fullmatch(what) is None


def _shown(imported: str) -> str:
    return imported.replace(" ", ".").encode("ascii", "replace").decode("ascii")[:80]


# --- NumPy arrays: the NPY format, versions 1.0 to 3.0 --------------------------------------------

_NPY_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\0..|[\x02\x03]\0..\0\0)\{[^\0]{0,8192}?'descr'\s*:\s*[^\0]{0,8192}?"
    rb"'[|<>=]?O\d?'",
    re.DOTALL,
)


def npy(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A NumPy array of Python objects, which is a pickle; ``hit`` is at its magic."""
    match = _NPY_HEADER.match(data, hit, min(high, len(data)))
    if match is None or b"}" in match[0]:
        return None
    return Payload(
        start=hit,
        end=min(high, len(data)),
        description="NumPy array of Python objects",
        whole_file=hit == 0,
    )


# --- Java: Java Object Serialization Specification, chapter 6 -------------------------------------

_JAVA_CLASS = re.compile(
    rb"\xac\xed\0\x05(?:[\x73\x75]|\x77.(?s:.){0,255}?[\x73\x75])\x72(..)([\w$./;\[-]{2,512})",
    re.DOTALL,
)
_JAVA_FLAGS = struct.Struct(">8xBH")  # flags and number of fields behind the version
_JAVA_FLAGS_DEFINED = 0x1F
_JAVA_FIELDS_MAX = 1024


def java_object(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A serialised Java object; ``hit`` is at the magic of its stream.

    The description of its class must be sound: a name as long as it says, flags that exist and a
    believable number of fields.
    """
    match = _JAVA_CLASS.match(data, hit, min(high, len(data)))
    if match is None:
        return None
    size = int.from_bytes(match[1], "big")
    name = match[2][:size]
    fields = read_fields(_JAVA_FLAGS, data, match.start(2) + size)
    if len(name) != size or fields is None:
        return None
    flags, count = fields
    if not flags or flags & ~_JAVA_FLAGS_DEFINED or count > _JAVA_FIELDS_MAX:
        return None
    return Payload(
        start=hit,
        end=max(min(high, len(data)), match.end()),
        description=f"serialised Java object of {name.decode('ascii')[:80]}",
        whole_file=hit == 0,
    )


# --- .NET: [MS-NRBF] section 2.6.1 ----------------------------------------------------------------

_DOTNET_HEADER = re.compile(rb"\0\x01\0{3}\xff{4}\x01\0{7}[\x01-\x16]")


def dotnet_object(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A serialised .NET object of a class that runs code; ``hit`` is at the name of the class."""
    start = first(data, _DOTNET_HEADER, low, min(high, len(data)))
    if not 0 <= start < hit:
        return None
    return Payload(
        start=start,
        end=max(min(high, len(data)), hit + 1),
        description="serialised .NET object of a class that runs code",
        whole_file=start == 0,
    )
