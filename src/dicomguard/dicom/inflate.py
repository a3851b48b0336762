"""A deflate stream of unknown size: counted while it is inflated, held only if that is allowed."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from dicomguard.dicom.layout import Data, StreamError

_STEP = 1 << 20
_HELD: Final = 16 << 20
"""Bytes that are held before the size is known, and all that is held of what is too large."""


class Stream(NamedTuple):
    """What a stream held.

    Attributes:
        data: The inflated bytes; of more than the budget allows only the first ones.
        size: How many there are, or were counted before an error; of what is too large, how many
            there are if the rest inflates as the beginning did.
        end: Offset after the stream; that of the data after an error.
        error: How it ended, where it did not end well.
    """

    data: Data
    size: int
    end: int
    error: StreamError | None


class _Inflater:
    """One pass over a stream; ``end`` and ``error`` hold once `steps` has come to its end.

    ``consumed`` counts the bytes of the stream that were inflated so far.
    """

    def __init__(self, data: Data, start: int, window: int) -> None:
        self.data, self.start, self.window = data, start, window
        self.consumed = 0
        self.end = len(data)
        self.error: StreamError | None = None

    def steps(self) -> Iterator[bytes]:
        """The inflated bytes in pieces of bounded size."""
        stream = zlib.decompressobj(self.window)
        position, pending = self.start, b""
        try:
            while not stream.eof:
                if not pending:
                    pending = self.data[position : position + _STEP]
                    position += len(pending)
                made = stream.decompress(pending, _STEP)
                if not pending and not made:  # zlib may hold output after its last input
                    self.error = StreamError.BROKEN
                    return
                pending = stream.unconsumed_tail
                self.consumed = position - self.start - len(pending)
                yield made
        except zlib.error:
            self.error = StreamError.BROKEN
            return
        self.end = position - len(stream.unused_data)


def inflate(data: Data, start: int, window: int, budget: int) -> Stream:
    """Inflate in bounded steps.

    What proves larger than is held at first is inflated twice, so that it is never held twice.

    Args:
        data: What the stream stands in.
        start: Where it begins.
        window: As for `zlib.decompressobj`.
        budget: The most bytes to inflate.
    """
    inflater = _Inflater(data, start, window)
    held: list[bytes] = []
    size = 0
    for made in inflater.steps():
        if size < _HELD:
            held.append(made)
        size += len(made)
        if size > budget:
            first = b"".join(held)[: min(_HELD, budget)]
            size = size * (len(data) - start) // max(1, inflater.consumed)
            return Stream(first, size, len(data), StreamError.TOO_LARGE)
    content: Data
    if size <= _HELD + _STEP and sum(map(len, held)) == size:
        content = b"".join(held)
    else:
        del held
        content = _whole(_Inflater(data, start, window), size)
    return Stream(content, size, inflater.end, inflater.error)


def _whole(inflater: _Inflater, size: int) -> Data:
    """All that a stream holds, in memory that is filled once."""
    content = mmap.mmap(-1, size)
    for made in inflater.steps():
        content.write(made)
    return content
