"""The DICOM data dictionary (PS3.6), the private dictionary and UID names, as pydicom keeps them.

pydicom's dictionary modules are plain tables. They are loaded by their path, because importing the
pydicom package itself costs 0.2 to 0.35 s, more than scanning a hundred small files.
"""

from __future__ import annotations

from ast import literal_eval
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


@cache
def _folder() -> Path:
    package = find_spec("pydicom")
    if package is None or not package.submodule_search_locations:
        msg = "pydicom, a dependency of dicomguard, is not installed"
        raise ModuleNotFoundError(msg)
    return Path(package.submodule_search_locations[0])


@cache
def _table(name: str) -> ModuleType:
    spec = spec_from_file_location(f"dicomguard.dicom.{name}", _folder() / f"{name}.py")
    assert isinstance(spec, ModuleSpec)
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load() -> None:
    """Read the tables, which are else read when they are first asked."""
    for name in ("_dicom_dict", "_uid_dict"):
        _table(name)
    _private_blocks()


_REPEATING = (0x50, 0x60, 0x7F)
_REPEATING_GROUPS = (0x0020, 0x0028, 0x1000, 0x1010)
"""Where PS3.6 has repeating elements; a test holds it to pydicom's list."""


@lru_cache(maxsize=8192)
def _public_entry(tag: int) -> tuple[str, ...] | None:
    tables = _table("_dicom_dict")
    entry: tuple[str, ...] | None = tables.DicomDictionary.get(tag)
    repeats = tag >> 24 in _REPEATING or tag >> 16 in _REPEATING_GROUPS
    if entry is None and repeats and not tag >> 16 & 1:
        text = f"{tag:08X}"
        for mask, candidate in tables.RepeatersDictionary.items():
            if all(m in ("x", c) for m, c in zip(mask, text, strict=True)):
                entry = candidate
                break
    return entry


def public_vr(tag: int) -> str | None:
    """VR of a public element, None if PS3.6 does not know it; ``US or SS`` where it says so.

    Repeating groups (50xx, 60xx, 7Fxx) are included.
    """
    entry = _public_entry(tag)
    return entry[0] if entry else None


@cache
def _private_blocks() -> dict[str, str]:
    """The source of the private dictionary by creator, as its first line has it.

    All of it has 11,000 elements and takes longer to load than many files to scan.
    """
    _, _, source = (_folder() / "_private_dict.py").read_text("utf-8").partition(" = {\n")
    blocks = (block.split(": {\n", 1) for block in source.split("\n    },\n"))
    return {block[0].strip(): block[1] for block in blocks if len(block) == 2}


def _line(block: str, key: str) -> str:
    """The source of an entry, empty if there is none: to read a block takes longer than a file."""
    start = block.find(f"'{key}': ")
    return block[start + len(key) + 4 : block.find("),", start) + 1] if start >= 0 else ""


def private_vr(tag: int, creator: str) -> str | None:
    """VR of a private element under its creator, None if the private dictionary lacks it."""
    line = _private_line(tag, creator)
    return line.split("'", 2)[1] if line else None


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
        line = _private_line(tag, creator) if creator else ""
        entry = literal_eval(line) if line else None
    return entry[2] if entry else ""


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


def is_transfer_syntax(uid: str) -> bool:
    """Whether PS3.6 registers the UID as a transfer syntax, retired ones included."""
    if uid in _NEWER_SYNTAXES:
        return True
    entry = _table("_uid_dict").UID_dictionary.get(uid)
    return entry is not None and entry[1] == "Transfer Syntax"
