"""RLE as DICOM writes it (PS3.5 annex G): the segment table, and how far a segment expands."""

from __future__ import annotations

from itertools import pairwise
from struct import unpack_from

from dicomguard.codecs.header import FlawKind, Header

_HEADER_BYTES, _SEGMENTS = 64, 15
_EXPANDED = (*range(1, 129), 0, *range(128, 1, -1))
"""Bytes that a run expands to, by its first byte."""
_TAKEN = (*range(2, 130), 1, *[2] * 127)
"""Bytes that it takes, by the same."""


def read(data: bytes, size: int) -> Header:
    """Look at the segment table of one frame.

    Args:
        data: Its first bytes, up to all of them.
        size: Bytes of the whole frame.
    """
    header = Header()
    if len(data) < _HEADER_BYTES:
        header.flaw(FlawKind.NO_START, 0, f"{size} bytes are too few for the table")
        return header
    count, *offsets = unpack_from("<16I", data)
    if not 1 <= count <= _SEGMENTS:
        header.flaw(FlawKind.SEGMENTS, 0, f"{count} segments")
        return header
    header.samples = count
    used = offsets[:count]
    if used[0] != _HEADER_BYTES:
        header.flaw(FlawKind.SEGMENT_OFFSET, 4, f"the first at {used[0]}, not at 64")
    elif any(one >= other for one, other in pairwise(used)) or used[-1] > size:
        header.flaw(FlawKind.SEGMENT_OFFSET, 4, f"offsets {used} in {size} bytes")
    if any(offsets[count:]):
        header.flaw(FlawKind.UNUSED_OFFSET, 4 + 4 * count)
    return header


def segments(data: bytes) -> list[int]:
    """Offsets of the segments that the table of a flawless frame gives."""
    (count,) = unpack_from("<I", data)
    return list(unpack_from(f"<{count}I", data, 4))


def surplus(segment: bytes, expected: int, steps: int) -> int:
    """Bytes that a segment expands to beyond what it should (PS3.5 G.3.2).

    Args:
        segment: The whole segment.
        expected: Bytes it should expand to.
        steps: Runs to follow.

    Returns:
        0 if it does not expand further, or if that takes more than ``steps`` to find out.
    """
    at = total = 0
    runs = segment[:-1]  # the last byte cannot begin one
    try:
        for _ in range(steps):
            run = runs[at]
            total += _EXPANDED[run]
            at += _TAKEN[run]
    except IndexError:  # quicker than to ask first
        return max(0, total - expected)
    return 0
