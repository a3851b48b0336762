"""Where gathered bytes are printable for long enough to be text in which something is encoded.

Each search for such text goes over all it is given. Most of the bytes of an image are letters now
and then, but seldom one after another, and this is found out once for all searches.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from dicomguard.gather import Buffer

SHORTEST = 16
"""Characters of a passage."""

_MARKS = bytes(1 if byte in b"\t\n\r" or 0x20 <= byte < 0x7F else 0 for byte in range(256))
_SIZES = range(1 << 16, 1 << 26)
"""Bytes of which passages are told apart: fewer are searched as quickly, more are not copied."""
_MOST = 1 << 16
"""Passages that are told apart."""


class Passages:
    """The passages of a buffer, parted by NULs, and the way back.

    Of a small buffer, a very large one, or one of very many passages it is all the bytes.

    Args:
        buffer: Where to look.

    Attributes:
        data: The bytes.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.data = buffer.data
        self._places = [0]
        self._starts = [0]
        runs = _runs(buffer.data[:]) if len(buffer.data) in _SIZES else None
        if runs is not None:
            self.data = b"\0".join([buffer.data[start:end] for start, end in runs])
            self._places = [start for start, _ in runs]
            self._starts = list(accumulate((end - start + 1 for start, end in runs), initial=0))

    def origin(self, offset: int, length: int) -> int | None:
        """As `Buffer.origin`."""
        index = bisect_right(self._starts, offset) - 1
        return self._buffer.origin(self._places[index] + offset - self._starts[index], length)


def _runs(data: bytes) -> list[tuple[int, int]] | None:
    """Where passages begin and end; None if they are too many."""
    marked = data.translate(_MARKS)
    needle = b"\1" * SHORTEST
    runs: list[tuple[int, int]] = []
    start = marked.find(needle)
    while start >= 0:
        if len(runs) == _MOST:
            return None
        end = marked.find(b"\0", start + SHORTEST)
        runs.append((start, end if end >= 0 else len(marked)))
        start = marked.find(needle, end) if end >= 0 else -1
    return runs
