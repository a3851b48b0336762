"""Segmented palette data (PS3.3 section C.7.9.2): how many entries it expands to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

ENTRIES: Final = 65_536
"""The most that a table can have."""
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


class SegmentError(ValueError):
    """Segments that cannot be expanded; says why."""


def entries(values: Sequence[int], width: int) -> int:
    """Entries that the segments expand to; zeros behind the last one are padding.

    Args:
        values: The data, one number each ``width`` bytes.
        width: Bytes of a number, 1 or 2; an indirect segment's offset counts bytes.

    Raises:
        SegmentError: A segment reaches out of the data, is empty or of no known kind, repeats
            another indirect one, or they all make more than `ENTRIES`.
    """
    at = total = 0
    while at < len(values) and (total == 0 or any(values[at : at + 4])):
        made, at = _segment(values, at, width, is_first=total == 0)
        total += made
        if total > ENTRIES:
            raise SegmentError(f"more than {ENTRIES} entries")
    return total


def _segment(values: Sequence[int], at: int, width: int, *, is_first: bool) -> tuple[int, int]:
    """Entries of the segment at ``at``, and where the next one begins."""
    if at + 2 > len(values):
        raise SegmentError("a segment is cut")
    kind, count = values[at], values[at + 1]
    if kind == _DISCRETE:
        end = at + 2 + count
        made = count
    elif kind == _LINEAR:
        if is_first:
            raise SegmentError("the first segment is linear")
        end, made = at + 3, count
    elif kind == _INDIRECT:
        end = at + 2 + 4 // width
        made = _repeated(values, at, width) if end <= len(values) else 0
    else:
        raise SegmentError(f"a segment of kind {kind}")
    if end > len(values):
        raise SegmentError("a segment reaches beyond the data")
    if not made:  # else they could be repeated without end
        raise SegmentError("a segment without entries")
    return made, end


def _repeated(values: Sequence[int], at: int, width: int) -> int:
    """Entries of the segments that the indirect segment at ``at`` repeats."""
    bits = 8 * width
    parts = values[at + 2 : at + 2 + 4 // width]
    target = sum(part << bits * number for number, part in enumerate(parts)) // width
    total = 0
    for _ in range(values[at + 1]):
        if target + 2 > len(values):
            raise SegmentError("an indirect segment points outside the data")
        if values[target] == _INDIRECT:
            raise SegmentError("an indirect segment points to another")
        made, target = _segment(values, target, width, is_first=False)
        total += made
        if total > ENTRIES:
            break
    return total
