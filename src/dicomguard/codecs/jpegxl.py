"""JPEG XL (ISO/IEC 18181-1 annex D): the size header."""

from __future__ import annotations

from typing import Final

from dicomguard.codecs.header import FlawKind, Header

START: Final = b"\xff\x0a"
BOX: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
"""The signature box of a container (ISO/IEC 18181-2)."""
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_BOXES = 64


def read(data: bytes, size: int) -> Header:
    """Read the size header of one codestream, or of the one in a container.

    Args:
        data: Its first bytes, up to all of them.
        size: Bytes of the whole codestream.
    """
    header = Header()
    start = _codestream(data) if data[:12] == BOX else 0
    if data[start : start + 2] != START:
        header.flaw(FlawKind.NO_START, 0)
        return header
    bits = int.from_bytes(data[start + 2 : start + 14], "little")
    if size - start < 4:
        header.flaw(FlawKind.NO_FRAME_HEADER, 0)
        return header

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & (1 << count) - 1, bits >> count
        return value

    def length(small: int) -> int:
        return (take(5) + 1) * 8 if small else take(_SIZE_BITS[take(2)]) + 1

    small = take(1)
    header.rows = length(small)
    ratio = take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio - 1]
        header.columns = header.rows * numerator // denominator
    else:
        header.columns = length(small)
    return header


def _codestream(data: bytes) -> int:
    """Where the codestream of a container begins; the end of ``data`` if it has none there."""
    at = 0
    for _ in range(_BOXES):
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if name == b"jxlc":
            return at + 8
        if name == b"jxlp":
            return at + 12
        if length < 8:
            break
        at += length
    return len(data)
