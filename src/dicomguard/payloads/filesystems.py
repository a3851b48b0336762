"""Whole trees of files in fixed blocks: tar archives and images of optical disks."""

from __future__ import annotations

from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data, Payload
from dicomguard.regex import regex

# --- tar: POSIX.1-2017, pax, "ustar Interchange Format" -------------------------------------------

_BLOCK = 512
_MAGIC_AT = 257
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_OCTAL = regex(rb"[ \0]*([0-7]{1,12})[ \0]*\Z")
_MAGIC = regex(rb"ustar(?:\x0000|  \0)")
_MEMBERS = 4096
_RECORD = 20 * _BLOCK  # archives are padded with zeros to a multiple of it


def tar(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A tar archive; ``hit`` is at the magic in the header of a member.

    The checksum of that header is the proof. A value is one archive, from its first member on.
    """
    high = min(high, len(data))
    start = hit - _MAGIC_AT
    if start < low or start != _first_member(data, low, high):
        return None
    members, place = 0, start
    while members < _MEMBERS and (size := _member(data, place)) is not None:
        members += 1
        place += _BLOCK + -(-size // _BLOCK) * _BLOCK
    padded = min(place + _RECORD, high)
    while place < padded and data[place : place + _BLOCK] == bytes(_BLOCK):
        place += _BLOCK
    return Payload(
        start=start,
        end=min(place, high),
        description=f"tar archive, {members} member{'s' if members > 1 else ''}",
        whole_file=start == 0,
    )


@remembered
def _first_member(data: Data, low: int, high: int) -> int:
    """Where the first sound header of a value begins, -1 for nowhere."""
    for match in _MAGIC.finditer(data, low, high):
        start = match.start() - _MAGIC_AT
        if start >= low and _member(data, start) is not None:
            return start
    return -1


def _member(data: Data, start: int) -> int | None:
    """The size of a member whose header has its checksum; None if there is no such header."""
    header = data[start : start + _BLOCK]
    stored = _OCTAL.match(header[_CHECKSUM])
    if len(header) < _BLOCK or stored is None:
        return None
    # The field itself counts as blanks.
    if int(stored[1], 8) != sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" "):
        return None
    size = _OCTAL.match(header[_SIZE])
    return int(size[1], 8) if size else 0


# --- Optical disks: ECMA-119 section 8, ECMA-167 part 2 -------------------------------------------

_SECTOR = 2048
_SYSTEM_AREA = 16 * _SECTOR
_DESCRIPTOR = regex(rb"[\0-\x03\xff](?:CD001|BEA01|NSR0[23]|TEA01|BOOT2)[\x01\x02]")
_NAMES = {b"CD001": "ISO 9660 disk image", b"BEA01": "UDF disk image"}


def disk_image(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """An image of an optical disk; ``hit`` is at its first volume descriptor.

    Another descriptor must stand in the sector behind. The 16 sectors before are the system area,
    if the value has so many.
    """
    if not _DESCRIPTOR.match(data, hit + _SECTOR, min(hit + _SECTOR + 8, len(data))):
        return None
    previous = hit - _SECTOR
    if previous >= low and _DESCRIPTOR.match(data, previous, previous + 8):
        return None
    start = hit - _SYSTEM_AREA
    return Payload(
        start=start if start >= low else hit,
        end=max(min(high, len(data)), hit + 1),
        description=_NAMES[data[hit + 1 : hit + 6]],
        whole_file=start == 0,
    )
