"""The layout of a DICOM file: every byte has an owner.

A `Layout` is what `dicomguard.dicom.walker.walk` makes of any bytes at all. Its spans cover the
data exactly, in order, without gap or overlap: each span begins where the one before it ends, by
construction. What was odd on the way is recorded as an `Oddity`; nothing here judges.
"""

from __future__ import annotations

import mmap
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import chain, compress
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from msgspec import Struct, field
from msgspec.structs import force_setattr

from dicomguard.dicom.vr import LONG_VRS, TEXT_VRS
from dicomguard.model import Region

T = TypeVar("T")

Data = bytes | mmap.mmap
"""The bytes of a whole file: slices are ``bytes``."""

UNDEFINED_LENGTH = 0xFFFFFFFF

_PATH_LEVELS = 12
"""A tag path deeper than this is shown without its middle."""

_START, _VALUE, _SORT = attrgetter("start"), attrgetter("value"), attrgetter("sort")
_FEW = 8
"""Of so many one at most is looked up by sort, instead of looking at all."""

NOWHERE = sys.maxsize
"""Beyond the end of any file."""

_VALUE_BYTES = 1 << 16
"""The most bytes of a value that are read as text or number."""


class Sort(Struct, frozen=True, eq=False):
    """What many elements have in common: all that does not tell one from the next of its sort.

    A file of a thousand elements has some forty sorts. They are shared by all files, so that what
    follows from a sort alone is found once (`by_sort`); two that say the same are mostly one.

    Attributes:
        tag: ``group << 16 | element``.
        vr: As written, or from the dictionaries in implicit VR (``UN`` if they do not know it;
            ``US or SS`` where they leave it open).
        creator: Private creator of its block; None if public or without a creator.
        implicit: Whether its header has no VR.
        big_endian: Byte order of its header and numbers.
        region: What its bytes belong to.
        header: Bytes before the value: tag, VR and length.
    """

    tag: int
    vr: str
    creator: str | None
    implicit: bool
    big_endian: bool
    region: Region
    header: int = 0

    def __post_init__(self) -> None:
        is_long = not self.implicit and self.vr.encode() in LONG_VRS
        force_setattr(self, "header", 12 if is_long else 8)

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


_SORTS = 4096
"""Sorts that are remembered: more than the files of one archive have."""

sort_of = lru_cache(maxsize=_SORTS)(Sort)
"""The sort with these attributes, the same one each time as long as it is remembered."""


def bare_sort(region: Region) -> Sort:
    """The sort of bytes that no element owns."""
    return sort_of(0, "", None, False, False, region)


Concern = Callable[[Sort], T]
by_sort: Callable[[Concern[T]], Concern[T]] = lru_cache(maxsize=_SORTS)
"""Makes a question about a sort one that is answered once."""


@by_sort
def is_text(sort: Sort) -> bool:
    """Whether values are character strings."""
    return sort.vr in TEXT_VRS


class Element(Struct, eq=False, gc=False):
    """One data element as it stands in the file.

    There may be a million of them, and a structure of msgspec is made four times as fast as a
    dataclass.

    Attributes:
        sort: Its tag, VR, private creator, encoding and region.
        start: Offset of the tag.
        value: Offset of the value field.
        end: Offset after the value field, and after the delimiter of items or fragments; clipped to
            what contains it.
        declared: Value length as written, `UNDEFINED_LENGTH` included.
        parent: The sequence item that holds it; None in the data set itself.
        is_container: Whether its value was walked as items or fragments.
    """

    sort: Sort
    start: int
    value: int
    end: int
    declared: int
    parent: Item | None
    is_container: bool = False

    @property
    def tag(self) -> int:
        """As `Sort.tag`."""
        return self.sort.tag

    @property
    def vr(self) -> str:
        """As `Sort.vr`."""
        return self.sort.vr

    @property
    def creator(self) -> str | None:
        """As `Sort.creator`."""
        return self.sort.creator

    @property
    def implicit(self) -> bool:
        """As `Sort.implicit`."""
        return self.sort.implicit

    @property
    def big_endian(self) -> bool:
        """As `Sort.big_endian`."""
        return self.sort.big_endian

    @property
    def region(self) -> Region:
        """As `Sort.region`."""
        return self.sort.region

    @property
    def group(self) -> int:
        """Group number."""
        return self.sort.tag >> 16

    @property
    def element(self) -> int:
        """Element number within the group."""
        return self.sort.tag & 0xFFFF

    @property
    def is_private(self) -> bool:
        """As `Sort.is_private`."""
        return self.sort.is_private

    @property
    def is_private_creator(self) -> bool:
        """As `Sort.is_private_creator`."""
        return self.sort.is_private_creator

    @property
    def owner(self) -> Element:
        """Itself: whose its bytes are."""
        return self


class Item(Struct, eq=False):
    """One item of a sequence, or one fragment of encapsulated data, counted from 0.

    Unlike `Element` it is known to the collector of garbage, which lets go of what is nested deeply
    without recursion.

    Attributes:
        container: Whose value it is in.
        index: Its number.
        start: Offset of its tag.
        value: Beyond the end of any file, as of a `Cut` that is structure.
    """

    container: Element
    index: int
    start: int
    value: ClassVar[int] = NOWHERE

    @property
    def sort(self) -> Sort:
        """As of a `Cut`."""
        return bare_sort(self.container.sort.region)

    @property
    def owner(self) -> Item:
        """Itself: whose its header is."""
        return self


Owner = Element | Item | None


class Cut(Struct, eq=False, gc=False):
    """Where a run of bytes begins that is no element's header and value.

    Attributes:
        start: Its offset.
        value: The same if it is a value or unexplained, else beyond the end of any file.
        sort: That of an element which owns the bytes, else one without a VR, of the same region.
        owner: Whose they are.
    """

    start: int
    value: int
    sort: Sort
    owner: Owner


class Loose(NamedTuple):
    """Bytes from ``value`` to ``end`` that are no structure, and not just an element's value.

    Fragments are, the preamble, and what nothing explains; ``sort`` and ``owner`` are as of `Cut`.
    """

    value: int
    end: int
    sort: Sort
    owner: Owner


Held = Element | Loose
"""A value that is not empty, or unexplained bytes."""

H = TypeVar("H", Element, Held)


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


class Inflated(Struct, eq=False, kw_only=True):
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


class Layout(Struct, eq=False, kw_only=True):
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
        marks: Where spans begin, in file order: an element is the beginning of its header and of
            its value, an item that of its header.
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
    marks: list[Element | Item | Cut] = field(default_factory=list)
    _derived: dict[object, Any] = field(default_factory=dict)

    def cut(self, start: int, region: Region, owner: Owner, *, is_value: bool) -> None:
        """Begin a span at ``start``: the one before it ends there. Starts never go back."""
        if start < self.size:
            self.drop_empty(start)
            sort = _sort_within(owner, region)
            self.marks.append(Cut(start, start if is_value else NOWHERE, sort, owner))

    def drop_empty(self, start: int) -> None:
        """Forget a beginning at ``start``: what it began is empty, as another begins there."""
        if self.marks and self.marks[-1].start == start:
            self.marks.pop()

    def uncut(self, start: int) -> None:
        """Take back every span and element that begins at ``start`` or after it."""
        while self.marks and self.marks[-1].start >= start:
            self.marks.pop()
        while self.elements and self.elements[-1].start >= start:
            element = self.elements.pop()
            if self.root.get(element.tag) is element:
                del self.root[element.tag]

    def spans(self) -> Iterator[Span]:
        """All spans in file order; together they are exactly ``[0, size)``."""
        for mark, end in zip(self.marks, _ends(self), strict=True):
            yield from _spans_of(mark, end)

    def span_at(self, offset: int) -> Span:
        """The span that holds the byte at ``offset``.

        Raises:
            IndexError: The offset is outside the data.
        """
        if not 0 <= offset < self.size:
            raise IndexError(offset)
        marks = self.marks
        index = bisect_right(marks, offset, key=_START)
        end = marks[index].start if index < len(marks) else self.size
        return next(span for span in _spans_of(marks[index - 1], end) if offset < span.end)

    def values_of(self, concerns: Concern[object]) -> list[Held]:
        """Values and unexplained bytes of the sorts that concern somebody, in file order.

        Args:
            concerns: Says so of a sort (`by_sort`).
        """
        key = Loose, concerns
        if key not in self._derived:
            values, groups = self.derived(_held), self.derived(_held_by_sort)
            self._derived[key] = _concerned(values, groups, concerns)
        return cast("list[Held]", self._derived[key])

    def of(self, concerns: Concern[object]) -> list[Element]:
        """The elements of the sorts that concern somebody, in file order.

        Args:
            concerns: Says so of a sort (`by_sort`).
        """
        key = Element, concerns
        if key not in self._derived:
            self._derived[key] = _concerned(self.elements, self.derived(_by_sort), concerns)
        return cast("list[Element]", self._derived[key])

    def derived(self, derive: Callable[[Layout], T]) -> T:
        """What follows from the layout alone, derived once.

        A layout may serve many files (`dicomguard.dicom.recurring`), so that ``derive`` must not
        look at their bytes.
        """
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        return cast("T", self._derived[derive])

    def text(self, data: Data, tag: int) -> str:
        """Text of a root element, as `text_of`; empty if it is absent."""
        element = self.root.get(tag)
        return text_of(data, element) if element else ""

    def number(self, data: Data, tag: int) -> int | None:
        """Number in a root element, as `number_of`; None if it is absent."""
        element = self.root.get(tag)
        return number_of(data, element) if element else None


def in_order(*lists: Sequence[Element]) -> list[Element]:
    """The elements of all lists in file order, each of them once."""
    return sorted({each for elements in lists for each in elements}, key=_START)


def _sort_within(owner: Owner, region: Region) -> Sort:
    """The sort of bytes that are no element's header and value."""
    if not isinstance(owner, Element):
        return bare_sort(region)
    sort = owner.sort
    return sort_of(sort.tag, sort.vr, sort.creator, sort.implicit, sort.big_endian, region)


def _ends(layout: Layout) -> list[int]:
    """Where what begins at each mark ends: at the next one."""
    ends = [mark.start for mark in layout.marks]
    ends.append(layout.size)
    return ends[1:]


def _spans_of(mark: Element | Item | Cut, end: int) -> Iterator[Span]:
    """What begins at a mark, up to the next one."""
    region, owner = mark.sort.region, mark.owner
    if mark.start < min(mark.value, end):
        yield Span(mark.start, min(mark.value, end), region, owner, is_value=False)
    if mark.value < end:
        yield Span(mark.value, end, region, owner, is_value=True)


def _held(layout: Layout) -> list[Held]:
    """Every value: that of an element ends where the element does, if it has one."""
    return [
        mark if type(mark) is Element else Loose(mark.value, end, mark.sort, mark.owner)
        for mark, end in zip(layout.marks, _ends(layout), strict=True)
        if mark.value < end
    ]


def _by_sort(layout: Layout) -> Mapping[Sort, list[Element]]:
    return _grouped(layout.elements)


def _held_by_sort(layout: Layout) -> Mapping[Sort, list[Held]]:
    return _grouped(layout.derived(_held))


def _grouped(those: list[H]) -> Mapping[Sort, list[H]]:
    groups: dict[Sort, list[H]] = defaultdict(list)
    for each in those:
        groups[each.sort].append(each)
    return groups


def _concerned(
    those: list[H], groups: Mapping[Sort, list[H]], concerns: Concern[object]
) -> list[H]:
    """Those whose sort concerns somebody, in their order."""
    chosen = set(filter(concerns, groups))
    if len(chosen) == len(groups):
        return those
    if sum(len(groups[sort]) for sort in chosen) < len(those) // _FEW:
        return sorted(chain.from_iterable(groups[sort] for sort in chosen), key=_VALUE)
    return list(compress(those, map(chosen.__contains__, map(_SORT, those))))


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
