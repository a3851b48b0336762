"""Where gathered bytes are printable for long enough to be text in which something is encoded.

Each search for such text goes over all it is given. Most of the bytes of an image are letters now
and then, but seldom one after another, and this is found out once for all searches.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, islice

from dicomguard.gather import Buffer
from dicomguard.runs import PRINTABLE, Runs

SHORTEST = 16
"""Characters of a passage."""

_RUNS = Runs(PRINTABLE, SHORTEST)
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
        if len(buffer.data) not in _SIZES:
            return
        runs = list(islice(_RUNS.extents(buffer.data), _MOST + 1))
        if len(runs) <= _MOST:
            self.data = b"\0".join([buffer.data[start:end] for start, end in runs])
            self._places = [start for start, _ in runs]
            self._starts = list(accumulate((end - start + 1 for start, end in runs), initial=0))

    def origin(self, offset: int, length: int) -> int | None:
        """As `Buffer.origin`."""
        index = bisect_right(self._starts, offset) - 1
        return self._buffer.origin(self._places[index] + offset - self._starts[index], length)
