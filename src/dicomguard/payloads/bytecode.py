"""Programs for virtual machines: Java, Android, WebAssembly, Python."""

from __future__ import annotations

import re
import struct

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload
from dicomguard.regex import regex

# --- Java class file: The Java Virtual Machine Specification, chapter 4 ---------------------------

_CLASS_HEADER = struct.Struct(">4x3H")  # minor, major, constant_pool_count
_U16_BE = struct.Struct(">H")
_U32_BE = struct.Struct(">I")
_MAJOR_FIRST, _MAJOR_LAST = 45, 80
_UTF8, _LONG, _DOUBLE = 1, 5, 6
_CONSTANT_SIZES = {  # bytes after the tag
    **dict.fromkeys((7, 8, 16, 19, 20), 2),
    15: 3,
    **dict.fromkeys((3, 4, 9, 10, 11, 12, 17, 18), 4),
    **dict.fromkeys((_LONG, _DOUBLE), 8),
}
_CLASS_PROVEN = 8
_CLASS_STEPS = 1024


def java_class(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A Java class file; ``hit`` is at its magic.

    The first 8 entries of the constant pool must be sound, where it has so many. Up to 1,024 steps
    follow the pool, fields, methods and attributes to find the extent; it is to the end of the
    value where they do not lead to one.
    """
    fields = read_fields(_CLASS_HEADER, data, hit)
    if fields is None:
        return None
    _, major, count = fields
    if not _MAJOR_FIRST <= major <= _MAJOR_LAST or count < 2:
        return None
    place: int | None = hit + _CLASS_HEADER.size
    index, steps = 1, 0
    while index < count and steps < _CLASS_STEPS and place is not None:
        tag = data[place] if place < len(data) else 0
        place = _constant_end(data, place, tag)
        if place is None and steps < _CLASS_PROVEN:
            return None
        # A long or a double takes two slots of the pool (section 4.4.5).
        index += 2 if tag in (_LONG, _DOUBLE) else 1
        steps += 1
    end = None
    if place is not None and index >= count:
        end = _members_end(data, place, _CLASS_STEPS - steps)
    return Payload(
        start=hit,
        end=max(min(high, len(data)), hit + _CLASS_HEADER.size) if end is None else end,
        description=f"Java class file, version {major}",
        whole_file=hit == 0,
    )


def _constant_end(data: Data, place: int, tag: int) -> int | None:
    """Where the constant at a place ends; None if it is none, or not wholly in the data."""
    if tag == _UTF8:
        length = read_fields(_U16_BE, data, place + 1)
        end = place + 3 + length[0] if length else len(data) + 1
    elif tag in _CONSTANT_SIZES:
        end = place + 1 + _CONSTANT_SIZES[tag]
    else:
        return None
    return end if end <= len(data) else None


def _members_end(data: Data, place: int, budget: int) -> int | None:
    """Where the class whose constant pool ended at ``place`` ends, if ``budget`` steps find it."""
    interfaces = read_fields(_U16_BE, data, place + 6)
    if interfaces is None:
        return None
    place += 8 + 2 * interfaces[0]
    for _ in ("fields", "methods"):
        members = read_fields(_U16_BE, data, place)
        if members is None:
            return None
        place += 2
        for _ in range(members[0]):
            budget -= 1
            after = _attributes_end(data, place + 6, budget)
            if after is None:
                return None
            place, budget = after
    after = _attributes_end(data, place, budget)
    return None if after is None else after[0]


def _attributes_end(data: Data, place: int, budget: int) -> tuple[int, int] | None:
    """Where a table of attributes ends, and what is left of the budget."""
    attributes = read_fields(_U16_BE, data, place)
    if attributes is None or attributes[0] > budget:
        return None
    place += 2
    for _ in range(attributes[0]):
        length = read_fields(_U32_BE, data, place + 2)
        if length is None:
            return None
        place += 6 + length[0]
    return (place, budget - attributes[0]) if place <= len(data) else None


# --- Dalvik: Android's "Dalvik executable format" -------------------------------------------------

# Checksum; what it covers begins behind it. Size of the file and of the header, byte order.
_DEX_HEADER = struct.Struct("<8xI20x3I")
_DEX_MAGIC = regex(rb"dex\n0\d\d\0")
_DEX_SIZE = 0x70
_DEX_LITTLE_ENDIAN = 0x12345678


def dex(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """An Android program; ``hit`` is at its magic.

    Header size, byte order and a size within the data must be sound. The runtime refuses a false
    checksum only where it verifies, so that it is not asked.
    """
    fields = read_fields(_DEX_HEADER, data, hit)
    if fields is None or not _DEX_MAGIC.match(data, hit):
        return None
    _checksum, size, header, order = fields
    if header != _DEX_SIZE or order != _DEX_LITTLE_ENDIAN:
        return None
    if not _DEX_SIZE <= size <= len(data) - hit:
        return None
    return Payload(
        start=hit,
        end=hit + size,
        description="Dalvik executable",
        whole_file=hit == 0,
    )


# --- WebAssembly: WebAssembly Core Specification, 5.5 ---------------------------------------------

_WASM_SECTIONS = 13
_WASM_HEADER = 8


def wasm(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A WebAssembly module; ``hit`` is at its magic and version.

    Sections are followed for as long as they are sound: the first must be.
    """
    limit = min(high, len(data))
    place, count = hit + _WASM_HEADER, 0
    while place < limit and data[place] <= _WASM_SECTIONS:
        size, after = _leb128(data, place + 1)
        if not after or after + size > limit:
            break
        place, count = after + size, count + 1
    if not count:
        return None
    return Payload(
        start=hit,
        end=place,
        description=f"WebAssembly module, {count} sections" if count > 1 else "WebAssembly module",
        whole_file=hit == 0,
    )


def _leb128(data: Data, place: int) -> tuple[int, int]:
    """An unsigned number of at most five bytes and where it ends; 0 where it does not."""
    value = 0
    for number, byte in enumerate(data[place : place + 5]):
        value |= (byte & 0x7F) << (7 * number)
        if not byte & 0x80:
            return value, place + number + 1
    return 0, 0


# --- CPython: importlib._bootstrap_external and marshal -------------------------------------------

_PYC_CODE = regex(rb"[\xe3\x63](?:\0{3}[\0-\x7f]|[\0-\xff]\0{3})", re.DOTALL)
_PYC_MAGIC = (3000, 3800)


def pyc(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """Compiled Python; ``hit`` is at the second byte of its magic number.

    It must begin the value. Confirmed by the marshalled code object behind the header.
    """
    start = hit - 1
    magic = int.from_bytes(data[max(start, 0) : hit + 1], "little")
    if start not in (0, low) or not _PYC_MAGIC[0] <= magic <= _PYC_MAGIC[1]:
        return None
    if _PYC_CODE.match(data, start + 16, min(high, len(data))) is None:
        return None
    return Payload(
        start=start,
        end=min(high, len(data)),
        description="compiled Python module",
        whole_file=start == 0,
    )
