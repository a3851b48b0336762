"""Where a rule looks: one class of values of a file, gathered into one buffer.

A rule set scans a buffer that holds only the bytes its rules are about. Scanning the whole file and
dropping matches elsewhere would be unsound: ``$a and not $b`` sees strings outside its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple

from stringzilla import translate

from dicomguard.dicom.layout import Concern, Data, Held, Layout, by_sort, is_text
from dicomguard.dicom.source import Source
from dicomguard.model import Region
from dicomguard.regex import regex
from dicomguard.runs import CHARACTER, CLASSES, NUL, Form, runs_of

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
    PRINTABLE = "printable"
    """The raw bytes, but of pixel data only what may be text: runs of 9 printable characters, or of
    50 in UTF-16."""
    TAIL = "tail"
    """Bytes after the data set, padding and gaps."""


def _of(*regions: Region) -> Concern[bool]:
    return by_sort(lambda sort: sort.region in regions)


_CONCERNS: dict[Where, Concern[bool]] = {
    Where.PREAMBLE: _of(Region.PREAMBLE),
    Where.META: _of(Region.META),
    Where.TEXT: is_text,
    Where.PRIVATE: _of(Region.PRIVATE),
    Where.DOCUMENT: _of(Region.DOCUMENT),
    Where.NONPIXEL: by_sort(lambda sort: sort.region is not Region.PIXELS),
    Where.TAIL: _of(Region.TAIL, Region.PADDING, Region.GAP),
}
_PIXELS = _of(Region.PIXELS)


class _Piece(NamedTuple):
    """A run that is no value, from ``value`` on."""

    value: int
    end: int


_Run = Held | _Piece


class Buffer:
    """Gathered bytes and the way back.

    Args:
        data: Runs of the source, each followed by `SEPARATOR` unless there is but one.
        runs: Where they begin and end in the source.

    Attributes:
        data: The bytes.
    """

    def __init__(self, data: Data, runs: Sequence[_Run]) -> None:
        self.data = data
        self._runs = runs
        self._starts: list[int] = []

    def origin(self, offset: int, length: int) -> int | None:
        """Offset in the source of a match, None if the match reaches out of its value."""
        if not self._starts:
            sizes = (each.end - each.value + len(SEPARATOR) for each in self._runs)
            self._starts = list(accumulate(sizes, initial=0))[:-1]
        index = bisect_right(self._starts, offset) - 1
        run = self._runs[index]
        within = offset - self._starts[index]
        return run.value + within if within + length <= run.end - run.value else None

    def extents(self, least: int) -> list[tuple[int, int]]:
        """Where runs of so many bytes at least begin and end in the source."""
        return [(each.value, each.end) for each in self._runs if each.end - each.value >= least]


class Gathered:
    """The buffers of a source, each gathered once.

    Args:
        source: What to gather from.

    Attributes:
        sought: What was looked for ahead, by whatever looks for it.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.sought: dict[object, Sequence[Any]] = {}
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
        return _whole(source)
    if where is Where.PRINTABLE:
        return _printable(source)
    return _joined(source.data, source.layout.values_of(_CONCERNS[where]))


def _whole(source: Source) -> Buffer:
    return Buffer(source.data, [_Piece(0, len(source.data))])


def _joined(data: Data, runs: Sequence[_Run]) -> Buffer:
    chunks = [data[each.value : each.end] for each in runs]
    chunks.append(b"")
    return Buffer(SEPARATOR.join(chunks), runs)


# ---------------------------------------------------------------------- what may be text

_LEAST, _LEAST_WIDE = 9, 50
"""Characters of text at least, and of text in UTF-16."""
_BESIDE = 32
"""Bytes next to a run that are gathered with it: what is no character may part a short text."""
_RUNS_TOLD_APART = 256
"""With more of them in a window it is taken whole: compressed data are full of such runs."""
_WINDOW = 1 << 19
_COPIED = 64 << 20
"""Beyond this, or half of the data, all of it is looked at where it is."""

# To HTML and scripts these two are white space as well.
_MARKS = bytes(CHARACTER if byte in b"\v\f" else kind for byte, kind in enumerate(CLASSES))
_ASCII = Form(bytes([CHARACTER]) * _LEAST, regex(rb"\x01*+"))
_UTF16 = Form(
    bytes([CHARACTER, NUL]) * (_LEAST_WIDE - 1) + bytes([CHARACTER]),
    regex(rb"(?:\x02\x01)*+\x02?+"),
)
"""In either byte order the NULs are in between."""


def _pixels(layout: Layout) -> list[Held]:
    return [each for each in layout.values_of(_PIXELS) if each.end - each.value > 2 * _LEAST_WIDE]


def _printable(source: Source) -> Buffer:
    """All bytes but those of pixels that cannot be text, in order."""
    size = len(source.data)
    room = min(size // 2, _COPIED)
    pieces: list[_Piece] = []
    for each in _but_pixels(source):
        pieces.append(each)
        room -= each.end - each.value
        if room < 0:
            return _whole(source)
    return _joined(source.data, pieces)


def _but_pixels(source: Source) -> Iterator[_Piece]:
    start = 0
    for each in source.layout.derived(_pixels):
        yield _Piece(start, each.value)
        yield from _texts(source.data, each.value, each.end)
        start = each.end
    yield _Piece(start, len(source.data))


def _texts(data: Data, low: int, high: int) -> Iterator[_Piece]:
    """Runs that may be text, with the bytes next to them: what touches is one piece."""
    begin = end = low
    with memoryview(data) as whole:
        for base in range(low, high, _WINDOW):
            with whole[base : min(base + _WINDOW + 2 * _LEAST_WIDE, high)] as window:
                runs = _runs_in(window)
            for first, last in runs:
                start = max(base + first - _BESIDE, low)
                if start > end:
                    if begin < end:
                        yield _Piece(begin, end)
                    begin = start
                end = max(end, min(base + last + _BESIDE, high))
    if begin < end:
        yield _Piece(begin, end)


def _runs_in(window: memoryview) -> list[tuple[int, int]]:
    """In order; what begins in a window and is but just long enough must end there."""
    marked = translate(window, _MARKS)
    found = chain(runs_of(_ASCII, marked), runs_of(_UTF16, marked))
    runs = list(islice(found, _RUNS_TOLD_APART))
    return sorted(runs) if len(runs) < _RUNS_TOLD_APART else [(0, len(marked))]
