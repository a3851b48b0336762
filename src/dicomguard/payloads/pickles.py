"""Python pickles (PEP 307, PEP 3154): what they would call, read and never run."""

from __future__ import annotations

import pickletools
import re
import warnings
from itertools import islice

from msgspec import Struct, field

from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data, Payload
from dicomguard.regex import regex

_OPERATIONS = 200_000
_WINDOWS = (1 << 10, 1 << 14, 1 << 18, 1 << 22)
"""Bytes that are read of a pickle; the next only where one does not suffice."""
_NAME_MAX = 256
_BEFORE = 1 << 10
"""Bytes before an ``INST`` in which its arguments begin."""

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
_DANGEROUS_NAMES = regex(
    r"(?:.*\.)?(?:system|popen\d?|Popen|eval|exec|execfile|exec_|execv?p?e?|run|runstring|run_code"
    r"|runsource|call|check_call|check_output|getoutput|getstatusoutput|spawn\w{0,6}|import_module"
    r"|__import__|getlincoef|load_module|exec_module|compile|interact|runeval|urlopen|urlretrieve)"
)
"""What runs code whatever module it is said to come from."""
_HARMLESS = regex(
    r"(?:builtins|__builtin__) (?:set|frozenset|bytearray|complex|slice|range|xrange|list|dict"
    r"|tuple|object|int|long|float|bool|str|unicode|bytes|iter|len|reversed|enumerate|zip"
    r"|[A-Z]\w{1,64})"
    r"|_?io (?:BytesIO|StringIO)|functools partial|types SimpleNamespace"
    r"|pathlib (?:Pure)?(?:Posix|Windows)?Path"
)
"""What honest data import from those modules."""
_IMPORT = regex(r"[A-Za-z_]\w{0,63}(?:\.\w{1,64}){0,8} [A-Za-z_]\w{0,63}(?:\.\w{1,64}){0,4}")


def pickle(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A Python pickle that calls what runs code; ``hit`` is at its head or at an import in it.

    The operations from there on are followed on a stack, as far as a call of something that was
    imported from a module through which code is run. Of a pickle of more than 4 MiB no more is
    read. The operation ``INST`` is import and call in one: there it is the arguments before it that
    must be sound.
    """
    if hit in _seen(data, low, high):
        return None
    starts = [hit]
    if data[hit : hit + 1] == b"i":
        starts = _marks(data, hit, low)
    elif hit > low and data[hit - 1 : hit] == b"(":
        starts.append(hit - 1)  # what is called with OBJ stands behind a mark
    for start in starts:
        called = _called_from(data, start, min(high, len(data)), hit, _seen(data, low, high))
        if called is not None:
            name, end = called
            return Payload(
                start=start,
                end=end,
                description=f"Python pickle that calls {name}",
                whole_file=start == 0,
            )
    return None


def _marks(data: Data, hit: int, low: int) -> list[int]:
    """Where the arguments of an ``INST`` may begin: the nearest marks before it."""
    base = max(low, hit - _BEFORE)
    before = data[base:hit]
    marks = [match.start() for match in re.finditer(rb"\(", before)]
    return [base + mark for mark in reversed(marks[-_MARKS:])]


_MARKS = 8


@remembered
def _seen(_data: Data, _low: int, _high: int) -> set[int]:
    """Imports of a value that were met while no call was found.

    To begin at one of them would find no more: whatever it put on the stack was there.
    """
    return set()


def _called_from(
    data: Data, start: int, high: int, hit: int, seen: set[int]
) -> tuple[str, int] | None:
    """What is called in the pickle at a place and where the call ends; None if nothing is.

    A call before ``hit`` does not count: it is another trigger's.
    """
    for size in _WINDOWS:
        window = data[start : min(start + size, high)]
        try:
            met: set[int] = set()
            called = _called(window, met)
        except _CutShort:
            if len(window) == size < _WINDOWS[-1]:
                continue
            called = None
        if called is None:
            seen.update(start + at for at in met if start + at != hit)
        if called is None or start + called[1] <= hit:
            return None
        return called[0], start + called[1]
    return None


class _CutShort(Exception):  # noqa: N818 - no error: more has to be read
    """The pickle goes on behind what was read."""


class _Broken(Exception):  # noqa: N818 - no error: it is no pickle
    """An operation takes from the stack what is not there."""


_MARK = "("
_OTHER = ""


class _Machine(Struct):
    """What an unpickler would have on its stack: texts and imports by their words.

    Attributes:
        stack: ``(`` for a mark, ``text:`` and the text, ``import:`` module and name, or nothing
            for anything else.
        memo: The same by number.
    """

    stack: list[str] = field(default_factory=list)
    memo: dict[object, str] = field(default_factory=dict)

    def pop(self, count: int) -> list[str]:
        if count > len(self.stack):
            raise _Broken
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def pop_mark(self) -> list[str]:
        """Everything above the last mark, and the mark itself."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] == _MARK:
                taken = self.stack[index + 1 :]
                del self.stack[index:]
                return taken
        raise _Broken

    def top(self) -> str:
        if not self.stack:
            raise _Broken
        return self.stack[-1]


def _called(window: bytes, met: set[int]) -> tuple[str, int] | None:
    """The first dangerous import that is called, and where the operation begins plus one.

    Where imports and texts stand goes into ``met``.

    Raises:
        _CutShort: The operations lead out of the window.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            for opcode, argument, at in islice(pickletools.genops(window), _OPERATIONS):
                if opcode.name in _NAMING:
                    met.add(at or 0)
                called = _step(machine, opcode, argument)
                if called and _is_dangerous(called):
                    return _shown(called), (at or 0) + 1
    except _Broken:
        return None
    except (ValueError, OverflowError) as error:  # what pickletools raises for any bytes
        if "unknown" in str(error):
            return None
        raise _CutShort from error
    return None


_TEXTS = frozenset(
    {
        "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING",
        "SHORT_BINSTRING",
    }
)  # fmt: skip
_NAMING = _TEXTS | {"GLOBAL"}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_CALL_ARGUMENTS = {"REDUCE": 1, "NEWOBJ": 1, "NEWOBJ_EX": 2}


def _step(machine: _Machine, opcode: pickletools.OpcodeInfo, argument: object) -> str:
    """Do one operation; what it calls, if that was imported."""
    name, called = opcode.name, ""
    if name in _PUTS or name == "MEMOIZE":
        machine.memo[argument if name in _PUTS else len(machine.memo)] = machine.top()
    elif name in _GETS:
        machine.stack.append(machine.memo.get(argument, _OTHER))
    elif name == "DUP":
        machine.stack.append(machine.top())
    elif name in _TEXTS:
        machine.stack.append(f"text:{str(argument)[:_NAME_MAX]}")
    elif name == "GLOBAL":
        machine.stack.append(f"import:{argument}")
    elif name == "STACK_GLOBAL":
        module, attribute = (part.removeprefix("text:") for part in machine.pop(2))
        machine.stack.append(f"import:{module} {attribute}")
    elif name in _CALL_ARGUMENTS:
        called = machine.pop(1 + _CALL_ARGUMENTS[name])[0]
        machine.stack.append(_OTHER)
    elif name == "OBJ":
        called = (machine.pop_mark() or [""])[0]
        machine.stack.append(_OTHER)
    elif name == "INST":
        machine.pop_mark()
        called = f"import:{argument}"
        machine.stack.append(_OTHER)
    else:
        _move(machine, opcode)
    return called.removeprefix("import:") if called.startswith("import:") else ""


def _move(machine: _Machine, opcode: pickletools.OpcodeInfo) -> None:
    """Take from the stack and put on it what `pickletools` says of any other operation."""
    before, after = opcode.stack_before, opcode.stack_after
    if pickletools.markobject in before:
        machine.pop_mark()
        machine.pop(before.index(pickletools.markobject))
    else:
        machine.pop(len(before))
    machine.stack += [_MARK if each is pickletools.markobject else _OTHER for each in after]


def _is_dangerous(what: str) -> bool:
    if not _IMPORT.fullmatch(what) or _HARMLESS.fullmatch(what):
        return False
    module, _, name = what.partition(" ")
    return module.partition(".")[0] in _DANGEROUS or bool(_DANGEROUS_NAMES.fullmatch(name))


def _shown(imported: str) -> str:
    return imported.replace(" ", ".").encode("ascii", "replace").decode("ascii")[:80]
