"""The layout of a DICOM file: every byte has an owner.

A `Layout` is what `dicomguard.dicom.walker.walk` makes of any bytes at all. Its spans cover the
data exactly, in order, without gap or overlap: each span begins where the one before it ends, by
construction. What was odd on the way is recorded as an `Oddity`; nothing here judges.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar, cast

from dicomguard.dicom.vr import TEXT_VRS
from dicomguard.model import Region

T = TypeVar("T")

Data = bytes | mmap.mmap
"""The bytes of a whole file: slices are ``bytes``."""

UNDEFINED_LENGTH = 0xFFFFFFFF

_PATH_LEVELS = 12
"""A tag path deeper than this is shown without its middle."""

_VALUE_BYTES = 1 << 16
"""The most bytes of a value that are read as text or number."""


@dataclass(slots=True, eq=False)
class Element:
    """One data element as it stands in the file.

    Attributes:
        tag: ``group << 16 | element``.
        vr: As written, or from the dictionaries in implicit VR (``UN`` if they do not know it;
            ``US or SS`` where they leave it open).
        start: Offset of the tag.
        value: Offset of the value field.
        end: Offset after the value field, and after the delimiter of items or fragments; clipped to
            what contains it.
        declared: Value length as written, `UNDEFINED_LENGTH` included.
        parent: The sequence item that holds it; None in the data set itself.
        creator: Private creator of its block; None if public or without a creator.
        implicit: Whether its header has no VR.
        big_endian: Byte order of its header and numbers.
        region: What its bytes belong to.
        is_container: Whether its value was walked as items or fragments.
    """

    tag: int
    vr: str
    start: int
    value: int
    end: int
    declared: int
    parent: Item | None
    creator: str | None
    implicit: bool
    big_endian: bool
    region: Region
    is_container: bool = False

    @property
    def group(self) -> int:
        """Group number."""
        return self.tag >> 16

    @property
    def element(self) -> int:
        """Element number within the group."""
        return self.tag & 0xFFFF

    @property
    def is_private(self) -> bool:
        """Whether the group is odd."""
        return bool(self.tag >> 16 & 1)

    @property
    def is_private_creator(self) -> bool:
        """Whether it reserves a private block: (gggg,0010-00FF) with an odd group (PS3.5 7.8.1)."""
        return self.is_private and 0x10 <= self.tag & 0xFFFF <= 0xFF


@dataclass(slots=True, eq=False)
class Item:
    """One item of a sequence, or one fragment of encapsulated data, counted from 0."""

    container: Element
    index: int
    start: int


Owner = Element | Item | None


def tag_path(owner: Owner) -> str:
    """Where an element lies: ``(0040,A730)[2] > (0029,1010)``; a fragment is ``(7FE0,0010)[3]``."""
    levels: list[str] = []
    while owner is not None:
        suffix = ""
        if isinstance(owner, Item):
            suffix = f"[{owner.index}]"
            owner = owner.container
        levels.append(f"({owner.tag >> 16:04X},{owner.tag & 0xFFFF:04X}){suffix}")
        owner = owner.parent
    levels.reverse()
    if len(levels) > _PATH_LEVELS:
        half = _PATH_LEVELS // 2
        left_out = f"… {len(levels) - 2 * half} levels …"
        levels = [*levels[:half], left_out, *levels[-half:]]
    return " > ".join(levels)


def private_creator(owner: Owner) -> str:
    """Creator of the innermost private element that holds something; empty where there is none."""
    while owner is not None:
        element = owner.container if isinstance(owner, Item) else owner
        if element.creator:
            return element.creator
        owner = element.parent
    return ""


class Span(NamedTuple):
    """A run of bytes with one owner.

    ``is_value`` tells a value (or unexplained bytes) from structure: headers, delimiters, items.
    """

    start: int
    end: int
    region: Region
    owner: Owner
    is_value: bool


class OddityKind(StrEnum):
    """What the walker met that PS3.5 or PS3.10 does not allow, or that honest files hardly have."""

    LENGTH_OVERRUN = "length beyond the end of what contains it"
    TRUNCATED = "length beyond the end of the file"
    UNKNOWN_VR = "two bytes that are no VR"
    RESERVED_BYTES = "non-zero reserved bytes after a VR"
    OUT_OF_ORDER = "tag not above the one before it"
    DUPLICATE = "tag twice at one level"
    DELIMITER = "missing, extra or wrong delimiter"
    DELIMITER_LENGTH = "delimiter with a length"
    UNDEFINED_LENGTH = "undefined length where it is not allowed"
    UNREADABLE = "bytes that cannot be read as elements or items"
    MIXED_VR = "implicit VR among explicit, or explicit among implicit"
    DEPTH = "sequences nested deeper than the budget"
    WIDE = "a sequence of more items than any image has frames"


class Oddity(NamedTuple):
    """Something odd at one offset; ``owner`` is the element or item concerned, where there is one.

    ``amount`` is the kind's own number: bytes overrun, the delimiter's length, the depth.
    """

    kind: OddityKind
    offset: int
    owner: Owner
    amount: int = 0


class StreamError(StrEnum):
    """How the inflating of a deflated data set ended, where it did not end well."""

    BROKEN = "the deflate stream is damaged or cut short"
    TOO_LARGE = "the deflated data set is larger than the budget"


@dataclass(slots=True, kw_only=True)
class Inflated:
    """A deflated data set (PS3.5 A.5), unwrapped: a layout of its own.

    Attributes:
        offset: Where its deflate stream starts in the file.
        length: Bytes of the stream in the file.
        data: The inflated bytes; of more than the budget allows only the first ones.
        size: How many there are; beyond the budget, how many the rest of the stream promises.
        layout: Their layout.
        error: Why ``data`` is not the whole; None when it is.
    """

    offset: int
    length: int
    data: Data
    size: int
    layout: Layout
    error: StreamError | None


@dataclass(slots=True, kw_only=True)
class Layout:
    """Every byte of a file and its owner.

    Attributes:
        size: Bytes of the data.
        is_dicom: Whether a DICOM structure was recognised; if not, one ``gap`` covers everything.
        has_preamble: Whether the file starts with 128 bytes and ``DICM``.
        transfer_syntax: UID from (0002,0010), empty where absent.
        implicit: VR encoding found in the data set.
        big_endian: Byte order found in the data set.
        depth: Sequences within sequences, at most.
        elements: Every element, in file order, nested ones included.
        root: The first element of each tag outside sequences, file meta included.
        oddities: At most a thousand.
        limits: Budgets that were exceeded, in words; the walk is not complete if there is one.
        inflated: The deflated data set, where there is one.
    """

    size: int
    is_dicom: bool = False
    has_preamble: bool = False
    transfer_syntax: str = ""
    implicit: bool = False
    big_endian: bool = False
    depth: int = 0
    elements: list[Element] = field(default_factory=list)
    root: dict[int, Element] = field(default_factory=dict)
    oddities: list[Oddity] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    inflated: Inflated | None = None
    _starts: list[int] = field(default_factory=list)
    _owners: list[tuple[Region, Owner, bool]] = field(default_factory=list)
    _derived: dict[Callable[[Layout], Any], Any] = field(default_factory=dict)

    def cut(self, start: int, region: Region, owner: Owner, *, is_value: bool) -> None:
        """Begin a span at ``start``: the one before it ends there. Starts never go back."""
        starts = self._starts
        if starts and starts[-1] == start:  # the one before it was empty
            self._owners[-1] = (region, owner, is_value)
        elif start < self.size:
            starts.append(start)
            self._owners.append((region, owner, is_value))

    def uncut(self, start: int) -> None:
        """Take back every span that begins at ``start`` or after it."""
        while self._starts and self._starts[-1] >= start:
            self._starts.pop()
            self._owners.pop()

    def spans(self) -> Iterator[Span]:
        """All spans in file order; together they are exactly ``[0, size)``."""
        ends = [*self._starts[1:], self.size]
        for start, end, owner in zip(self._starts, ends, self._owners, strict=False):
            yield Span(start, end, *owner)

    def values(self) -> Iterator[Span]:
        """Spans of values and of unexplained bytes: everything but structure."""
        return iter(self.derived(_values))

    def derived(self, derive: Callable[[Layout], T]) -> T:
        """What follows from the layout alone, derived once.

        A layout may serve many files (`dicomguard.dicom.recurring`), so that ``derive`` must not
        look at their bytes.
        """
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        return cast("T", self._derived[derive])

    def span_at(self, offset: int) -> Span:
        """The span that holds the byte at ``offset``.

        Raises:
            IndexError: The offset is outside the data.
        """
        if not 0 <= offset < self.size:
            raise IndexError(offset)
        index = bisect_right(self._starts, offset) - 1
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self.size
        return Span(self._starts[index], end, *self._owners[index])

    def text(self, data: Data, tag: int) -> str:
        """Text of a root element, as `text_of`; empty if it is absent."""
        element = self.root.get(tag)
        return text_of(data, element) if element else ""

    def number(self, data: Data, tag: int) -> int | None:
        """Number in a root element, as `number_of`; None if it is absent."""
        element = self.root.get(tag)
        return number_of(data, element) if element else None


def _values(layout: Layout) -> list[Span]:
    return [span for span in layout.spans() if span.is_value]


def text_of(data: Data, element: Element) -> str:
    """Value as ASCII text without its padding, bounded; other bytes are replaced."""
    if element.is_container:
        return ""
    raw = data[element.value : min(element.end, element.value + _VALUE_BYTES)]
    return raw.decode("ascii", "replace").strip(" \0")


def number_of(data: Data, element: Element) -> int | None:
    """Value as one whole number, from text or from two or four bytes; None if it is none."""
    if element.is_container:
        return None
    if element.vr in TEXT_VRS:
        text = text_of(data, element)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
    if element.end - element.value not in (2, 4):
        return None
    raw = data[element.value : element.end]
    return int.from_bytes(raw, "big" if element.big_endian else "little")
