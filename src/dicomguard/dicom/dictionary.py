"""The DICOM data dictionary (PS3.6), the private dictionary and UID names, as pydicom keeps them.

pydicom's dictionary modules are plain tables, an entry a line. They are read as text, of which only
the lines that are asked for are looked at: importing the pydicom package costs 0.2 to 0.35 s, more
than scanning a hundred small files, and making 6,000 entries more than scanning one.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from dicomguard.errors import DicomguardError


@cache
def _folder() -> Path:
    package = find_spec("pydicom")
    if package is None or not package.submodule_search_locations:
        raise DicomguardError("pydicom, a dependency of dicomguard, is not installed")
    return Path(package.submodule_search_locations[0])


def _source(module: str) -> str:
    return (_folder() / f"{module}.py").read_bytes().decode("utf-8")


@cache
def _lines(module: str, table: str) -> list[str]:
    """The source of each entry of a table.

    Raises:
        DicomguardError: The module is not written as it was.
    """
    source = _source(module)
    begin = source.find("{\n    ", source.find(f"\n{table}")) + len("{\n    ")
    end = source.find("\n}", begin)
    lines = source[begin:end].split(",\n    ")
    if len(lines) <= source.count("\n", begin, end):
        raise DicomguardError(_UNKNOWN_FORM)
    return lines


_UNKNOWN_FORM = "pydicom's dictionary is not written as dicomguard knows it: install pydicom 3.0"


def load() -> None:
    """Read the tables, which are else read when they are first asked.

    Raises:
        DicomguardError: They are not there, or not written as they were.
    """
    if _lines(*_PUBLIC) != sorted(_lines(*_PUBLIC)) or not _transfer_syntaxes():
        raise DicomguardError(_UNKNOWN_FORM)
    _lines(*_REPEATERS)
    _private_blocks()


_PUBLIC = "_dicom_dict", "DicomDictionary"
_REPEATERS = "_dicom_dict", "RepeatersDictionary"
_UIDS = "_uid_dict", "UID_dictionary"

_REPEATING = (0x50, 0x60, 0x7F)
_REPEATING_GROUPS = (0x0020, 0x0028, 0x1000, 0x1010)
"""Where PS3.6 has repeating elements; a test holds it to pydicom's list."""


@lru_cache(maxsize=8192)
def _public_entry(tag: int) -> str:
    text = f"{tag:08X}"
    lines = _lines(*_PUBLIC)
    at = bisect_left(lines, f"0x{text}")
    if at < len(lines) and lines[at].startswith(f"0x{text}"):
        return lines[at].partition(": ")[2]
    repeats = tag >> 24 in _REPEATING or tag >> 16 in _REPEATING_GROUPS
    if repeats and not tag >> 16 & 1:
        for line in _lines(*_REPEATERS):
            mask, _, entry = line.partition(": ")
            if all(m in ("x", c) for m, c in zip(mask.strip("'"), text, strict=True)):
                return entry
    return ""


def public_vr(tag: int) -> str | None:
    """VR of a public element, None if PS3.6 does not know it; ``US or SS`` where it says so.

    Repeating groups (50xx, 60xx, 7Fxx) are included.
    """
    return _vr(_public_entry(tag))


def _vr(entry: str) -> str | None:
    return entry.split("'", 2)[1] if entry else None


@cache
def _private_blocks() -> dict[str, str]:
    """The source of the private dictionary by creator, as its first line has it.

    All of it has 11,000 elements and takes longer to load than many files to scan.
    """
    _, _, source = _source("_private_dict").partition(" = {\n")
    blocks = (block.split(": {\n", 1) for block in source.split("\n    },\n"))
    return {block[0].strip(): block[1] for block in blocks if len(block) == 2}


def _line(block: str, key: str) -> str:
    """The source of an entry, empty if there is none: to read a block takes longer than a file."""
    start = block.find(f"'{key}': ")
    return block[start + len(key) + 4 : block.find("),", start) + 1] if start >= 0 else ""


def private_vr(tag: int, creator: str) -> str | None:
    """VR of a private element under its creator, None if the private dictionary lacks it."""
    return _vr(_private_line(tag, creator))


@lru_cache(maxsize=8192)
def _private_line(tag: int, creator: str) -> str:
    block = _private_blocks().get(repr(creator))
    if block is None:
        return ""
    text = f"{tag:08X}"
    group, number = text[:4], text[6:]
    # An entry for the very element counts before one for any block, that before any group.
    for key in (text, f"{group}xx{number}", f"{group[:2]}xxxx{number}"):
        line = _line(block, key)
        if line:
            return line
    return ""


def name_of(tag: int, creator: str | None) -> str:
    """Name of an element, empty if the dictionaries do not know it."""
    if not tag >> 16 & 1:
        entry = _public_entry(tag)
    elif 0x10 <= tag & 0xFFFF <= 0xFF:
        return "Private Creator"
    else:
        entry = _private_line(tag, creator) if creator else ""
    if not entry:
        return ""
    from ast import literal_eval  # noqa: PLC0415 - names are shown of little

    name: str = literal_eval(entry)[2]
    return name


def is_known_creator(creator: str) -> bool:
    """Whether the private dictionary has this private creator."""
    return repr(creator) in _private_blocks()


_NEWER_SYNTAXES = frozenset(
    (
        "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
        "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
        "1.2.840.10008.1.2.4.112",  # JPEG XL
        "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
    )
)
"""Registered since pydicom's table was made."""


@cache
def _transfer_syntaxes() -> frozenset[str]:
    known = (line.split("'")[1] for line in _lines(*_UIDS) if "', 'Transfer Syntax', '" in line)
    return frozenset(known)


def is_transfer_syntax(uid: str) -> bool:
    """Whether PS3.6 registers the UID as a transfer syntax, retired ones included."""
    return uid in _transfer_syntaxes() or uid in _NEWER_SYNTAXES
