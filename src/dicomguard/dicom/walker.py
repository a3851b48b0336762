"""Bytes → `Layout`: iterative, bounded and total.

`walk` answers for any bytes at all: it never raises, never recurses, never allocates by a length
it read. It follows what the readers of the field do with malformed files, so that what they would
see is what is examined, and records what was odd.

Where the data set ends before the file does, the rest is the *tail*. Bytes appended to a file often
happen to parse as an element or two (``MZ`` reads as group 5A4D), so an element counts as part of
the data set only if something vouches for it: a valid VR, the dictionary, a private creator. When
the walk cannot go on, the tail begins at the first of the trailing elements that nothing vouches
for.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from enum import Enum, auto
from struct import Struct, pack
from typing import Final, NamedTuple

import msgspec

from dicomguard.dicom import dictionary
from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.inflate import inflate
from dicomguard.dicom.layout import (
    UNDEFINED_LENGTH,
    Data,
    Element,
    Inflated,
    Item,
    Layout,
    Oddity,
    OddityKind,
    Owner,
    Sort,
    StreamError,
    sort_of,
)
from dicomguard.dicom.ordinary import Ordinary, ordinary_in
from dicomguard.dicom.vr import LONG_VRS, TEXT_VRS, VRS
from dicomguard.model import Region
from dicomguard.regex import regex

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = frozenset(
    (
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    )
)
"""Transfer syntaxes whose whole data set is deflated."""

PIXEL_DATA: Final = 0x7FE00010
_PIXEL_TAGS: Final = frozenset(
    (0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00008, 0x7FE00009, PIXEL_DATA)
)
ENCAPSULATED_DOCUMENT: Final = 0x00420011
_TRAILING_PADDING: Final = 0xFFFCFFFC
TRANSFER_SYNTAX: Final = 0x00020010
_ITEM: Final = 0xE000
_ITEM_TAG: Final = b"\xfe\xff\x00\xe0"
_ITEM_IS_ENDED: Final = b"\xfe\xff\x0d\xe0\0\0\0\0"
_ITEM_END: Final = 0xE00D
_SEQUENCE_END: Final = 0xE0DD

_ZLIB_HEADER = regex(rb"\x78[\x01\x5e\x9c\xda]")
_EMPTY_ITEMS = regex(rb"(?:\xfe\xff\x00\xe0\0{4}){256,}+")
_BIG_EMPTY_ITEMS = regex(rb"(?:\xff\xfe\xe0\x00\0{4}){256,}+")
_UID = regex(r"[0-9.]{1,64}")
_ODDITIES = 1000
_INFLATE_STEP = 1 << 20
_CLOCK_EVERY = 4096
_CREATOR_BYTES = 64
_WIDE = 100_000
"""Items of one sequence; whole-slide images describe each of their frames in one."""

_LITTLE_TAG, _BIG_TAG = Struct("<HH"), Struct(">HH")
_LITTLE_HEADER, _BIG_HEADER = Struct("<HH2sH"), Struct(">HH2sH")
"""Tag, VR and 16-bit length."""
_ITEM_HEADER = Struct("<4sI")
"""Tag and length."""
_LITTLE_16 = Struct("<H")
_LITTLE_32, _BIG_32 = Struct("<I"), Struct(">I")

_NO_CREATORS: Final[Mapping[int, str]] = {}


class _Holds(Enum):
    """What a container's content is made of."""

    ELEMENTS = auto()
    ITEMS = auto()
    FRAGMENTS = auto()


class _Frame(msgspec.Struct, eq=False, kw_only=True):
    """A container that is open: the data set, a sequence, an item or encapsulated data.

    ``end`` is its own end if it has a defined length, else that of what contains it. ``runs`` are
    its elements whose tags have not become ``seen`` yet.
    """

    holds: _Holds
    end: int
    owner: Owner
    region: Region
    implicit: bool
    big_endian: bool
    is_defined: bool
    depth: int
    ordinary: Ordinary | None
    last_tag: int = -1
    highest: int = -1
    count: int = 0
    seen: set[int] = msgspec.field(default_factory=set)
    creators: dict[int, str] = msgspec.field(default_factory=dict)
    runs: list[list[Element]] = msgspec.field(default_factory=list)

    def has_seen(self, tag: int) -> bool:
        """Whether a tag that is not above all others is one of them."""
        for run in self.runs:
            self.seen.update(each.sort.tag for each in run)
        self.runs.clear()
        return tag in self.seen


class _Header(NamedTuple):
    """An element header as read: nothing is believed of it yet. ``vr`` is empty if unwritten."""

    tag: int
    vr: str
    value: int
    length: int
    is_known_vr: bool = True
    reserved: int = 0


def walk(data: Data, budgets: Budgets | None = None) -> Layout:
    """The layout of a file.

    Args:
        data: The whole file.
        budgets: Limits; reaching one is recorded in `Layout.limits`.

    Returns:
        A layout whose spans cover ``data`` exactly. A file without a DICOM structure is one gap.
    """
    return _Walker(data, budgets or Budgets()).file()


class _Walker:
    """One walk over one piece of data."""

    def __init__(self, data: Data, budgets: Budgets, deadline: float | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.budgets = budgets
        self.deadline = deadline or time.monotonic() + budgets.seconds
        self.layout = Layout(size=self.size)
        self.frames: list[_Frame] = []
        self.steps = 0
        self.unvouched: int | None = None
        """Start of the trailing run of root elements that nothing vouches for."""
        self.descends = False
        """Whether that run is out of order: a tail even if it can be read to its end (NULs)."""

    # ------------------------------------------------------------------ the file

    def file(self) -> Layout:
        """Walk a whole file: preamble, prefix, file meta, data set."""
        layout = self.layout
        start = self._recognise()
        if start is None:
            layout.cut(0, Region.GAP, None, is_value=True)
            return layout
        layout.is_dicom = True
        if start == 132:
            layout.has_preamble = True
            layout.cut(0, Region.PREAMBLE, None, is_value=True)
        if start:
            layout.cut(start - 4, Region.PREFIX, None, is_value=False)
        start = self._command_set(self._meta(start))
        syntax = layout.text(self.data, TRANSFER_SYNTAX)
        layout.transfer_syntax = syntax if _UID.fullmatch(syntax) else ""
        if layout.transfer_syntax not in DEFLATED or not self._deflated(start):
            self.dataset(start)
        return layout

    def _recognise(self) -> int | None:
        """Where file meta or data set start; None if this is no DICOM file.

        Part 10 files have ``DICM`` at 128 (PS3.10 section 7.1). Files without a preamble, and bare
        data sets as ACR-NEMA and some archives keep them, are read as the field's readers do.
        """
        data = self.data
        if data[128:132] == b"DICM":
            # Readers go on at 132 whatever comes before: only where they could not is it a value.
            is_readable = any(
                self._header(132, self.size, implicit=False, big_endian=order)
                for order in (False, True)
            )
            return 132 if is_readable or not self._is_bare_dataset(across=132) else 0
        if data[:4] == b"DICM":
            return 4
        return 0 if self._is_bare_dataset() else None

    def _is_bare_dataset(self, across: int = 0) -> bool:
        """Whether ascending elements that begin in group 0002 or 0008 stand at offset 0.

        ``across`` asks that they reach beyond that offset.
        """
        position, last, found = 0, -1, 0
        while found < 3 or position < across:
            header = self._plausible(position, last)
            if header is None or (found == 0 and header.tag >> 16 not in (0x0002, 0x0008)):
                return found > 0 and position == self.size
            position, last, found = header.value + header.length, header.tag, found + 1
        return True

    def _plausible(self, position: int, last: int) -> _Header | None:
        """A known element above ``last`` that fits, in the first encoding that allows it."""
        for implicit, big_endian in ((False, False), (True, False), (False, True)):
            header = self._header(position, self.size, implicit=implicit, big_endian=big_endian)
            if (
                header is not None
                and header.is_known_vr
                and bool(header.vr) is not implicit
                and header.tag > last
                and (dictionary.public_vr(header.tag) or header.tag & 0xFFFF == 0)
                and header.length <= self.size - header.value
            ):
                return header
        return None

    def _meta(self, position: int) -> int:
        """Walk group 0002 and answer where it ends.

        It is explicit VR little endian (PS3.10 section 7.1); readers accept implicit VR as well.
        """
        frame = self._open_root(Region.META, implicit=False, big_endian=False)
        while self.data[position : position + 2] == b"\2\0" and not self._exhausted():
            after = self._ordinary(frame, position)
            if after > position:
                position = after
                continue
            header = self._header(position, self.size, implicit=False, big_endian=False)
            if header is None or header.length == UNDEFINED_LENGTH:
                self._odd(OddityKind.UNREADABLE, position, None)
                break
            end = header.value + header.length
            if end > self.size:
                self._overrun(position, None, end, self.size)
                end = self.size
            self._element(frame, header, position, end)
            position = end
        self.frames.clear()
        return position

    def _command_set(self, position: int) -> int:
        """Walk group 0000 before the data set and answer where it ends.

        It is implicit VR little endian whatever follows (PS3.7 section 6.3.1). It has no place in a
        file, but readers skip it and read the data set in the encoding of its own first element.
        """
        frame = self._open_root(Region.DATASET, implicit=True, big_endian=False)
        while self.data[position : position + 2] == b"\0\0" and not self._exhausted():
            header = self._header(position, self.size, implicit=True, big_endian=False)
            if (
                header is None
                or header.vr
                or header.length > self.size - header.value
                or not dictionary.public_vr(header.tag)  # else it may be a deflate stream
            ):
                break
            end = header.value + header.length
            self._element(frame, header, position, end)
            position = end
        self.frames.clear()
        return position

    def _encoding(self, position: int) -> tuple[bool, bool]:
        """VR encoding and byte order of the data set.

        As readers do, the first element is believed before the transfer syntax.
        """
        syntax = self.layout.transfer_syntax
        if not _is_capitals(self.data[position + 4 : position + 6]):
            return position + 6 <= self.size or syntax in ("", IMPLICIT_LITTLE), False
        if syntax:
            return False, syntax == EXPLICIT_BIG
        return False, self.data[position] == 0 and self.data[position + 1] != 0

    def _deflated(self, start: int) -> bool:
        """Inflate a deflated data set in bounded steps (PS3.5 section A.5) and walk the result.

        False if it is no deflate stream but stands there plain. Only what zlib refuses is taken for
        plain: a stream can be made to begin with the bytes of a known element.
        """
        layout = self.layout
        # Some writers wrap the stream as zlib does (RFC 1950).
        has_header = _ZLIB_HEADER.match(self.data, start) is not None
        window = zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
        inflated, size, end, error = inflate(self.data, start, window, self.budgets.inflated_bytes)
        if error is StreamError.BROKEN and not size and self._plausible(start, -1):
            return False
        if error is None:
            # Some writers leave gzip's check values (RFC 1952) behind the stream.
            check = pack("<II", zlib.crc32(inflated), size & 0xFFFFFFFF)
            if self.data[end : end + 8] == check:
                end += 8
            odd_length = (end - start) % 2 == 1 or end == self.size - 1
            if odd_length and self.data[end : end + 1] == b"\0":
                end += 1
        else:
            self._limit(str(error))
        layout.cut(start, Region.DATASET, None, is_value=True)
        layout.cut(end, Region.GAP, None, is_value=True)
        inner = type(self)(inflated, self.budgets, self.deadline)
        inner.layout.is_dicom = True
        inner.layout.transfer_syntax = layout.transfer_syntax
        inner.dataset(0)
        layout.limits.extend(inner.layout.limits)
        layout.implicit, layout.big_endian = inner.layout.implicit, inner.layout.big_endian
        layout.inflated = Inflated(
            offset=start,
            length=end - start,
            data=inflated,
            size=size,
            layout=inner.layout,
            error=error,
        )
        return True

    # ------------------------------------------------------------------ data set

    def dataset(self, position: int) -> None:
        """Walk elements from ``position`` to the end of the data."""
        layout = self.layout
        layout.implicit, layout.big_endian = self._encoding(position)
        self._open_root(Region.DATASET, implicit=layout.implicit, big_endian=layout.big_endian)
        asked = -1
        while self.frames:
            frame = self.frames[-1]
            if position >= frame.end:
                if not frame.is_defined:
                    self._odd(OddityKind.DELIMITER, position, frame.owner)
                elif frame.owner is None and self.unvouched is not None and self.descends:
                    self._tail(position)
                self._close(position)
            elif self._exhausted():
                layout.cut(position, Region.GAP, None, is_value=True)
                self.frames.clear()
            elif frame.end - position < 8:
                position = self._give_up(position)
            else:
                # Where ordinary elements end there is none.
                asked = position if position == asked else self._ordinary(frame, position)
                position = asked if asked > position else self._step(frame, position)

    def _step(self, frame: _Frame, position: int) -> int:
        """Take one element, item or delimiter at ``position``; answer where to go on."""
        tag = _BIG_TAG if frame.big_endian else _LITTLE_TAG
        group, element = tag.unpack_from(self.data, position)
        if group == 0xFFFE and element in (_ITEM, _ITEM_END, _SEQUENCE_END):
            return self._delimiter(frame, position, element)
        if frame.holds is not _Holds.ELEMENTS:
            return self._no_item(frame, position)
        header = self._header(
            position, frame.end, implicit=frame.implicit, big_endian=frame.big_endian
        )
        if header is None or (frame.owner is None and not self._belongs(frame, header, position)):
            return self._give_up(position)
        if header.length == UNDEFINED_LENGTH:
            return self._undefined(frame, header, position)
        end = header.value + header.length
        if end > frame.end:
            self._overrun(position, frame.owner, end, frame.end)
            end = frame.end
        made = self._element(frame, header, position, end)
        if end > made.value and (made.vr == "SQ" or (made.vr == "UN" and _is_sequence(made))):
            if self._is_tag(made.value, _ITEM, big_endian=frame.big_endian and made.vr != "UN"):
                return self._open_sequence(frame, made, is_defined=True)
            self._odd(OddityKind.UNREADABLE, made.value, made)
        return end

    def _belongs(self, frame: _Frame, header: _Header, position: int) -> bool:
        """Whether a root element is part of the data set and not the start of a tail."""
        fits = header.length == UNDEFINED_LENGTH or header.length <= frame.end - header.value
        if header.vr and header.is_known_vr and fits:
            vouched = True
        else:
            vouched = header.tag > frame.last_tag and self._is_vouched(frame, header)
        if vouched:
            self.unvouched = None
            return True
        if self.unvouched is None:
            self.unvouched, self.descends = position, False
        self.descends |= header.tag <= frame.last_tag
        return fits and frame.last_tag < PIXEL_DATA

    def _is_vouched(self, frame: _Frame, header: _Header) -> bool:
        """Whether the dictionary or a private creator accounts for an element."""
        group, element = header.tag >> 16, header.tag & 0xFFFF
        if element == 0:
            return header.length == 4
        if not group & 1:
            return dictionary.public_vr(header.tag) is not None
        if 0x10 <= element <= 0xFF:
            text = self.data[header.value : header.value + min(header.length, _CREATOR_BYTES)]
            return 0 < header.length <= _CREATOR_BYTES and _is_printable(text)
        return header.tag >> 8 in frame.creators

    # ------------------------------------------------------------------ containers

    def _open_root(self, region: Region, *, implicit: bool, big_endian: bool) -> _Frame:
        frame = _Frame(
            holds=_Holds.ELEMENTS,
            end=self.size,
            owner=None,
            region=region,
            implicit=implicit,
            big_endian=big_endian,
            is_defined=True,
            depth=0,
            ordinary=ordinary_in(region, implicit=implicit, big_endian=big_endian),
        )
        self.frames.append(frame)
        return frame

    def _open(self, frame: _Frame, element: Element, holds: _Holds, *, is_defined: bool) -> int:
        """Go into the items or fragments of an element."""
        element.is_container = True
        if holds is _Holds.ITEMS:
            self.layout.depth = max(self.layout.depth, frame.depth + 1)
        from_un = holds is _Holds.ITEMS and element.vr == "UN"
        region = element.region
        implicit = frame.implicit or from_un  # UN holds implicit VR little endian (CP-246)
        big_endian = frame.big_endian and not from_un
        self.frames.append(
            _Frame(
                holds=holds,
                end=element.end,
                owner=element,
                region=region,
                implicit=implicit,
                big_endian=big_endian,
                is_defined=is_defined,
                depth=frame.depth + 1,
                ordinary=ordinary_in(region, implicit=implicit, big_endian=big_endian),
            )
        )
        return element.value

    def _open_sequence(self, frame: _Frame, element: Element, *, is_defined: bool) -> int:
        """Go into a sequence's items, unless that is deeper than the budget."""
        if frame.depth < self.budgets.depth:
            return self._open(frame, element, _Holds.ITEMS, is_defined=is_defined)
        self._odd(OddityKind.DEPTH, element.start, element, frame.depth + 1)
        self._limit(f"sequences are nested deeper than {self.budgets.depth} levels")
        return element.end if is_defined else self._give_up(element.value)

    def _undefined(self, frame: _Frame, header: _Header, position: int) -> int:
        """An element of undefined length: a sequence, encapsulated fragments, or neither."""
        made = self._element(frame, header, position, frame.end)
        big_endian = frame.big_endian and made.vr != "UN"
        if not (
            self._is_tag(made.value, _ITEM, big_endian=big_endian)
            or self._is_tag(made.value, _SEQUENCE_END, big_endian=big_endian)
        ):
            return self._raw_undefined(frame, made)
        is_sequence = made.vr == "SQ" or (
            (made.vr == "UN" or (made.implicit and made.tag != PIXEL_DATA))
            and self._holds_elements(made.value, big_endian=big_endian)
        )
        if is_sequence:
            return self._open_sequence(frame, made, is_defined=False)
        if made.tag != PIXEL_DATA:
            self._odd(OddityKind.UNDEFINED_LENGTH, position, made)
        return self._open(frame, made, _Holds.FRAGMENTS, is_defined=False)

    def _holds_elements(self, position: int, *, big_endian: bool) -> bool:
        """Whether the first item that is not empty begins with an element, not with other bytes."""
        u32 = _BIG_32 if big_endian else _LITTLE_32
        while self._is_tag(position, _ITEM, big_endian=big_endian):
            if position + 8 > self.size:
                return True
            (length,) = u32.unpack_from(self.data, position + 4)
            start = position + 8
            if length:
                end = self.size if length == UNDEFINED_LENGTH else min(start + length, self.size)
                header = self._header(start, end, implicit=True, big_endian=big_endian)
                # An offset table begins with a zero, which is no group of a data set.
                return (header is not None and header.tag >> 16 != 0) and (
                    header.length == UNDEFINED_LENGTH or header.length <= end - header.value
                )
            self.steps += 1
            position = start
        return True

    def _raw_undefined(self, frame: _Frame, element: Element) -> int:
        """Undefined length without items: readers take bytes up to the next sequence delimiter."""
        found = self._sequence_end(frame, element.value)
        if found < 0 and self.size - element.value < 8:
            self._overrun(element.start, element, element.value + 8, self.size)
            return self._give_up(element.value)
        self._odd(OddityKind.UNDEFINED_LENGTH, element.start, element)
        if found < 0:
            return self._give_up(element.value)
        self.layout.cut(found, element.region, element, is_value=False)
        element.end = found
        return found + 8

    def _delimiter(self, frame: _Frame, position: int, element: int) -> int:
        """An item tag or a delimiter (PS3.5 section 7.5)."""
        u32 = _BIG_32 if frame.big_endian else _LITTLE_32
        (length,) = u32.unpack_from(self.data, position + 4)
        if element == _ITEM:
            return self._item(frame, position, length)
        after = position + 8
        in_element = frame.holds is _Holds.ELEMENTS
        if not frame.is_defined and in_element and element == _SEQUENCE_END:
            self._odd(OddityKind.DELIMITER, position, frame.owner)
            if not (
                self._is_tag(after, _ITEM, big_endian=frame.big_endian)
                or self._is_tag(after, _SEQUENCE_END, big_endian=frame.big_endian)
            ):
                self._close(position)  # the item's own delimiter is missing
                return position
        elif frame.is_defined or in_element is not (element == _ITEM_END):
            self._odd(OddityKind.DELIMITER, position, frame.owner)
        self.steps += 1
        if length:
            self._odd(OddityKind.DELIMITER_LENGTH, position, frame.owner, length)
        self.layout.cut(position, frame.region, frame.owner, is_value=False)
        if not frame.is_defined and (in_element or element == _SEQUENCE_END):
            self._close(after)
        return after

    def _item(self, frame: _Frame, position: int, length: int) -> int:
        """An item of a sequence, or a fragment."""
        container = frame.owner
        if frame.holds is _Holds.ELEMENTS:
            if frame.is_defined:
                return self._stray_item(frame, position, length)
            self._odd(OddityKind.DELIMITER, position, frame.owner)  # the item before never ended
            self._close(position)
            return position
        assert isinstance(container, Element)
        if length == 0 and frame.holds is _Holds.ITEMS:
            end = self._empty_items(frame, position)
            if end:
                return end
        self.steps += 1
        item = Item(container, frame.count, position)
        frame.count += 1
        self.layout.drop_empty(position)
        self.layout.marks.append(item)
        start, is_defined = position + 8, length != UNDEFINED_LENGTH
        end = start + length if is_defined else frame.end
        if end > frame.end:
            self._overrun(position, item, end, frame.end)
            end = frame.end
        if frame.holds is _Holds.FRAGMENTS:
            if not is_defined:
                self._odd(OddityKind.UNDEFINED_LENGTH, position, item)
                return self._give_up(start)
            self.layout.cut(start, frame.region, item, is_value=True)
            return end
        implicit = self._is_implicit_item(frame, start, end)
        if implicit and not frame.implicit:
            self._odd(OddityKind.MIXED_VR, position, item)
        self._open_item(frame, item, end, implicit=implicit, is_defined=is_defined)
        return start

    def _open_item(
        self, frame: _Frame, item: Item, end: int, *, implicit: bool, is_defined: bool = True
    ) -> _Frame:
        """Go into an item of a sequence."""
        opened = _Frame(
            holds=_Holds.ELEMENTS,
            end=end,
            owner=item,
            region=frame.region,
            implicit=implicit,
            big_endian=frame.big_endian,
            is_defined=is_defined,
            depth=frame.depth,
            ordinary=ordinary_in(frame.region, implicit=implicit, big_endian=frame.big_endian),
        )
        self.frames.append(opened)
        return opened

    def _empty_items(self, frame: _Frame, position: int) -> int:
        """Where a long run of items without content ends, 0 if none is here.

        They are counted, but not told apart.
        """
        empty = _BIG_EMPTY_ITEMS if frame.big_endian else _EMPTY_ITEMS
        run = empty.match(self.data, position, frame.end)
        if run is None:
            return 0
        count = min((run.end() - position) // 8, max(1, self.budgets.elements - self.steps))
        self.steps += count
        frame.count += count
        self.layout.cut(position, frame.region, frame.owner, is_value=False)
        return position + 8 * count

    def _is_implicit_item(self, frame: _Frame, start: int, end: int) -> bool:
        """Whether the elements of an item have no VR: as for readers, its first one decides."""
        has_vr = _is_capitals(self.data[start + 4 : start + 6])
        if frame.implicit:
            assert isinstance(frame.owner, Element)
            return not (has_vr and frame.owner.vr == "UN")
        is_empty = end - start < 8 or any(
            self._is_tag(start, delimiter, big_endian=frame.big_endian)
            for delimiter in (_ITEM, _ITEM_END, _SEQUENCE_END)
        )
        return not (has_vr or is_empty)

    def _stray_item(self, frame: _Frame, position: int, length: int) -> int:
        """An item where none can be: readers step over it and read on, so its bytes are a gap."""
        end = position + 8 + length
        if length == UNDEFINED_LENGTH or end >= frame.end:
            return self._give_up(position)
        self._odd(OddityKind.UNREADABLE, position, frame.owner)
        self.layout.cut(position, Region.GAP, frame.owner, is_value=True)
        self.layout.cut(end, frame.region, frame.owner, is_value=False)
        return end

    def _close(self, position: int) -> None:
        """Leave the innermost container."""
        frame = self.frames.pop()
        if isinstance(frame.owner, Element):
            frame.owner.end = position
            if frame.holds is _Holds.ITEMS and frame.count > _WIDE:
                self._odd(OddityKind.WIDE, frame.owner.start, frame.owner, frame.count)

    def _give_up(self, position: int) -> int:
        """Nothing readable here: skip to where the nearest container of defined length ends.

        In the data set itself that makes the rest of the file its tail.
        """
        at_root = self.frames[-1].owner is None
        while not self.frames[-1].is_defined:
            self.frames.pop()
        frame = self.frames.pop()
        if at_root:
            self._tail(position)
        else:
            self._odd(OddityKind.UNREADABLE, position, frame.owner)
            self.layout.cut(position, Region.GAP, frame.owner, is_value=True)
        return frame.end

    def _no_item(self, frame: _Frame, position: int) -> int:
        """Something else among items, or among fragments: there readers look for the end."""
        found = self._sequence_end(frame, position) if frame.holds is _Holds.FRAGMENTS else -1
        if found < 0:
            return self._give_up(position)
        self._odd(OddityKind.UNREADABLE, position, frame.owner)
        self.layout.cut(position, Region.GAP, frame.owner, is_value=True)
        return found

    def _sequence_end(self, frame: _Frame, position: int) -> int:
        """Where the next sequence delimiter stands within a container; -1 if there is none."""
        tag = _BIG_TAG if frame.big_endian else _LITTLE_TAG
        return self.data.find(tag.pack(0xFFFE, _SEQUENCE_END) + bytes(4), position, frame.end)

    def _tail(self, position: int) -> None:
        """The data set ended at ``position``, or where the trailing run of strangers began."""
        layout = self.layout
        if self.unvouched is not None:
            position = self.unvouched
            layout.oddities[:] = [odd for odd in layout.oddities if odd.offset < position]
            layout.uncut(position)
        layout.cut(position, Region.TAIL, None, is_value=True)
        is_empty = all(element.region is Region.META for element in layout.elements)
        if is_empty and self.data[position : position + _INFLATE_STEP].strip(b"\0"):
            self._limit(
                "no element of the data set can be read: it is damaged or encoded otherwise"
            )

    # ------------------------------------------------------------------ elements

    def _header(  # noqa: PLR0911 - a return for each form that a header has
        self, position: int, end: int, *, implicit: bool, big_endian: bool
    ) -> _Header | None:
        """Read an element header; None if it makes no sense in either VR encoding."""
        data = self.data
        if end - position < 8:
            return None
        group, element, raw, short = (_BIG_HEADER if big_endian else _LITTLE_HEADER).unpack_from(
            data, position
        )
        tag = group << 16 | element
        vr = VRS.get(raw)
        if vr is not None and not implicit and raw not in LONG_VRS:
            return _Header(tag, vr, position + 8, short)
        u32 = _BIG_32 if big_endian else _LITTLE_32
        (length,) = u32.unpack_from(data, position + 4)
        room = end - position - 8
        fits = length == UNDEFINED_LENGTH or length <= room
        if implicit and (fits or vr is None):
            return _Header(tag, "", position + 8, length)
        if raw in LONG_VRS:
            if room < 4:
                return None
            (length,) = u32.unpack_from(data, position + 8)
            (reserved,) = _LITTLE_16.unpack_from(data, position + 6)
            return _Header(tag, VRS[raw], position + 12, length, reserved=reserved)
        if vr is None and not b"AA" <= raw <= b"ZZ":
            return _Header(tag, "", position + 8, length) if fits else None
        # pydicom takes whatever sorts between for a VR, and any it does not know to have a
        # 16-bit length; who reads another length there loses sight of all that follows.
        name = raw.decode("ascii") if _is_capitals(raw) else "??"
        return _Header(tag, name, position + 8, short, is_known_vr=vr is not None)

    def _element(self, frame: _Frame, header: _Header, position: int, end: int) -> Element:
        """Record an element whose value ends at ``end``."""
        tag = header.tag
        self.steps += 1
        group, element = tag >> 16, tag & 0xFFFF
        creator = frame.creators.get(tag >> 8) if group & 1 and element > 0xFF else None
        vr = header.vr or _implicit_vr(tag, creator)
        owner, value = frame.owner, header.value
        region = _region(frame.region, tag, vr)
        sort = sort_of(tag, vr, creator, not header.vr, frame.big_endian, region)
        parent = owner if isinstance(owner, Item) else None
        made = Element(sort, position, value, end, header.length, parent)
        if frame.ordinary is not None and _is_ordinary(header, sort, implicit=frame.implicit):
            frame.ordinary.remember(self.data, position, sort)
        if header.vr:
            if frame.implicit:
                self._odd(OddityKind.MIXED_VR, position, made)
            if not header.is_known_vr:
                self._odd(OddityKind.UNKNOWN_VR, position, made)
            if header.reserved:
                self._odd(OddityKind.RESERVED_BYTES, position, made, header.reserved)
        elif not frame.implicit:
            self._odd(OddityKind.MIXED_VR, position, made)
        if tag <= frame.highest:
            if frame.has_seen(tag):
                self._odd(OddityKind.DUPLICATE, position, made)
            elif tag < frame.last_tag:
                self._odd(OddityKind.OUT_OF_ORDER, position, made)
        self._follow(frame, [made])
        if group & 1 and sort.is_private_creator and end - value <= _CREATOR_BYTES:
            name = self.data[value:end].decode("ascii", "replace").strip(" \0")
            frame.creators[group << 8 | element] = name
        return made

    def _follow(self, frame: _Frame, elements: list[Element]) -> None:
        """Record elements of one level that follow upon one another."""
        layout, last_tag = self.layout, elements[-1].sort.tag
        layout.drop_empty(elements[0].start)
        layout.marks += elements
        layout.elements += elements
        if frame.owner is None:
            for each in elements:
                layout.root.setdefault(each.sort.tag, each)
        frame.runs.append(elements)
        frame.last_tag = last_tag
        frame.highest = max(frame.highest, last_tag)

    # ------------------------------------------------------------------ ordinary elements

    def _unasked(self) -> int:
        """How many steps may be taken before `_exhausted` has to be asked again."""
        return min(self.budgets.elements - self.steps, _CLOCK_EVERY - self.steps % _CLOCK_EVERY)

    def _ordinary(self, frame: _Frame, position: int) -> int:
        """Take ordinary elements, or items of such, from ``position``; answer where to go on."""
        ordinary = frame.ordinary
        if ordinary is None or frame.holds is _Holds.FRAGMENTS:
            return position
        if frame.holds is _Holds.ITEMS:
            return self._ordinary_items(frame, ordinary, position)
        parent = frame.owner if isinstance(frame.owner, Item) else None
        run = ordinary.run(
            self.data,
            position,
            frame.end,
            above=frame.highest,
            parent=parent,
            creators=frame.creators,
            most=self._unasked(),
        )
        if not run:
            return position
        self.steps += len(run)
        self._follow(frame, run)
        if frame.owner is None:
            self.unvouched = None
        return run[-1].end

    def _ordinary_items(self, frame: _Frame, ordinary: Ordinary, position: int) -> int:
        """Take items that begin with ordinary elements, and go into the first that has others."""
        layout, data, owner = self.layout, self.data, frame.owner
        assert isinstance(owner, Element)
        if frame.implicit and owner.vr == "UN":
            return position  # each of its items may be in explicit VR
        marks, elements = layout.marks, layout.elements
        last, frame_end = frame.end - 16, frame.end
        most = unasked = self._unasked()
        while most > 1 and position <= last:
            tag, length = _ITEM_HEADER.unpack_from(data, position)
            start = position + 8
            is_defined = length != UNDEFINED_LENGTH
            end = start + length if is_defined else frame_end
            if tag != _ITEM_TAG or end > frame_end:
                break
            item = Item(owner, frame.count, position)
            run = ordinary.run(
                data, start, end, above=-1, parent=item, creators=_NO_CREATORS, most=most - 1
            )
            if not run:
                break
            frame.count += 1
            most -= len(run) + 1
            layout.drop_empty(position)
            marks.append(item)
            position = run[-1].end
            if is_defined:
                is_ended = position == end
            else:
                is_ended = most > 0 and data[position : min(position + 8, end)] == _ITEM_IS_ENDED
            if not is_ended:
                opened = self._open_item(
                    frame, item, end, implicit=frame.implicit, is_defined=is_defined
                )
                self._follow(opened, run)
                break
            marks += run
            elements += run
            if not is_defined:
                layout.cut(position, frame.region, item, is_value=False)
                most -= 1
                position += 8
        self.steps += unasked - most
        return position

    # ------------------------------------------------------------------ small things

    def _is_tag(self, position: int, element: int, *, big_endian: bool) -> bool:
        """Whether (FFFE,``element``) stands at ``position``."""
        tag = _BIG_TAG if big_endian else _LITTLE_TAG
        return self.data[position : position + 4] == tag.pack(0xFFFE, element)

    def _odd(self, kind: OddityKind, offset: int, owner: Owner, amount: int = 0) -> None:
        if len(self.layout.oddities) < _ODDITIES:
            self.layout.oddities.append(Oddity(kind, offset, owner, amount))

    def _overrun(self, offset: int, owner: Owner, end: int, limit: int) -> None:
        """A length that reaches to ``end`` where only ``limit`` is to be had."""
        is_cut = limit == self.size
        kind = OddityKind.TRUNCATED if is_cut else OddityKind.LENGTH_OVERRUN
        self._odd(kind, offset, owner, end - limit)

    def _limit(self, reason: str) -> None:
        if reason not in self.layout.limits:
            self.layout.limits.append(reason)

    def _exhausted(self) -> bool:
        """Whether a budget for the whole walk is used up."""
        if self.steps >= self.budgets.elements:
            self._limit(f"more than {self.budgets.elements} elements and items")
            return True
        if self.steps % _CLOCK_EVERY == 0 and time.monotonic() > self.deadline:
            self._limit(f"reading the structure took longer than {self.budgets.seconds} s")
            return True
        return False


def _is_ordinary(header: _Header, sort: Sort, *, implicit: bool) -> bool:
    """Whether sort, encoding and private creator tell all but where the value ends.

    Values of sequences are gone into, private creators are remembered, and lengths of groups vouch
    for these only if they are four bytes.
    """
    if not sort.element or "SQ" in (sort.vr, _implicit_vr(sort.tag, sort.creator)):
        return False
    if sort.is_private and sort.creator is None:
        return False
    if implicit:
        return not header.vr and (sort.is_private or dictionary.public_vr(sort.tag) is not None)
    return bool(header.vr) and header.is_known_vr


def _implicit_vr(tag: int, creator: str | None) -> str:
    """VR of an element that has none written, as the dictionaries know it."""
    group, element = tag >> 16, tag & 0xFFFF
    if not group & 1:
        return dictionary.public_vr(tag) or ("UL" if element == 0 else "UN")
    if 0x10 <= element <= 0xFF:
        return "LO"
    return (dictionary.private_vr(tag, creator) if creator else None) or "UN"


def _is_sequence(element: Element) -> bool:
    """Whether the dictionaries know an element as a sequence."""
    return _implicit_vr(element.tag, element.creator) == "SQ"


def _region(container: Region, tag: int, vr: str) -> Region:
    """Region of an element: what is nested in private elements is private."""
    if container in (Region.META, Region.PRIVATE):
        return container
    if tag >> 16 & 1:
        return Region.PRIVATE
    if tag in _PIXEL_TAGS and vr not in TEXT_VRS and vr != "SQ":
        return Region.PIXELS
    if tag == ENCAPSULATED_DOCUMENT:
        return Region.DOCUMENT
    if tag == _TRAILING_PADDING:
        return Region.PADDING
    return Region.DATASET


def _is_capitals(raw: bytes) -> bool:
    """Whether two bytes look like a VR, known or not."""
    return len(raw) == 2 and raw.isalpha() and raw.isupper()


def _is_printable(raw: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in raw.rstrip(b"\0"))
