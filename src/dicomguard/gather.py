"""Where a rule looks: one class of values of a file, gathered into one buffer.

A rule set scans a buffer that holds only the bytes its rules are about. Scanning the whole file and
dropping matches elsewhere would be unsound: ``$a and not $b`` sees strings outside its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from dicomguard.dicom.layout import Data, Element, Span
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import TEXT_VRS
from dicomguard.model import Region

SEPARATOR = bytes(16)
"""Between two gathered values; a match that touches it is no match."""


class Where(StrEnum):
    """The class of bytes a rule looks at, as its ``meta.where`` says."""

    FILE = "file"
    """The raw bytes of the file, or of unwrapped data."""
    PREAMBLE = "preamble"
    """The 128 bytes before ``DICM``."""
    META = "meta"
    """Values of group 0002."""
    TEXT = "text"
    """Values of string VRs."""
    PRIVATE = "private"
    """Values of private elements."""
    DOCUMENT = "document"
    """Encapsulated documents."""
    NONPIXEL = "nonpixel"
    """All values but pixel data, and all bytes that no structure explains."""
    TAIL = "tail"
    """Bytes after the data set, padding and gaps."""


_UNEXPLAINED = (Region.TAIL, Region.PADDING, Region.GAP)


def _is_text(span: Span) -> bool:
    return isinstance(span.owner, Element) and span.owner.vr in TEXT_VRS


_HOLDS: dict[Where, Callable[[Span], bool]] = {
    Where.PREAMBLE: lambda span: span.region is Region.PREAMBLE,
    Where.META: lambda span: span.region is Region.META,
    Where.TEXT: _is_text,
    Where.PRIVATE: lambda span: span.region is Region.PRIVATE,
    Where.DOCUMENT: lambda span: span.region is Region.DOCUMENT,
    Where.NONPIXEL: lambda span: span.region is not Region.PIXELS,
    Where.TAIL: lambda span: span.region in _UNEXPLAINED,
}


class Buffer(NamedTuple):
    """Gathered bytes and the way back: ``spans[i]`` was copied to ``starts[i]``."""

    data: Data
    starts: list[int]
    spans: list[Span]

    def origin(self, offset: int, length: int) -> int | None:
        """Offset in the source of a match, None if the match reaches out of its value."""
        index = bisect_right(self.starts, offset) - 1
        span = self.spans[index]
        within = offset - self.starts[index]
        return span.start + within if within + length <= span.end - span.start else None


class Gathered:
    """The buffers of a source, each gathered once.

    Args:
        source: What to gather from.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._buffers: dict[Where, Buffer] = {}

    def __getitem__(self, where: Where) -> Buffer:
        """The buffer that rules with ``where`` scan."""
        if where not in self._buffers:
            self._buffers[where] = gather(self.source, where)
        return self._buffers[where]


def gather(source: Source, where: Where) -> Buffer:
    """The buffer that rules with ``where`` scan.

    A file that is not DICOM has no values: all of it counts as every class, for whatever it is, it
    has been put where DICOM files are read.
    """
    if where is Where.FILE or not source.layout.is_dicom:
        everything = Span(0, len(source.data), Region.GAP, None, is_value=True)
        return Buffer(source.data, [0], [everything])
    holds = _HOLDS[where]
    return join(source, [span for span in source.values() if holds(span)])


def join(source: Source, spans: list[Span]) -> Buffer:
    """The bytes of the spans in one buffer, each followed by `SEPARATOR`."""
    starts, chunks, at = [], [], 0
    for span in spans:
        starts.append(at)
        chunks += [source.data[span.start : span.end], SEPARATOR]
        at += span.end - span.start + len(SEPARATOR)
    return Buffer(b"".join(chunks), starts, spans)
