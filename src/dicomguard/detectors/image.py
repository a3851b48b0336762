"""What one level of a data set says of its pixels (PS3.3 section C.7.6.3, PS3.5 section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from struct import unpack_from
from typing import Final

from msgspec import Struct, field

from dicomguard.dicom.layout import (
    UNDEFINED_LENGTH,
    Data,
    Element,
    Item,
    Layout,
    Sort,
    by_sort,
    number_of,
    text_of,
)
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import TEXT_VRS
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Region

SAMPLES: Final = 0x00280002
PHOTOMETRIC: Final = 0x00280004
FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
ALLOCATED: Final = 0x00280100
STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXELS: Final = (PIXEL_DATA, 0x7FE00008, 0x7FE00009)
"""Pixel Data, and as 32-bit and 64-bit floating point numbers."""

_GROUPS = frozenset((0x0028, 0x003A, 0x5400, 0x7FE0, *range(0x6000, 0x6020, 2)))
_KEYS = frozenset(
    (
        *PIXELS,
        *range(0x00281101, 0x00281104),  # palette descriptors
        0x00283006,  # LUT Data
        0x54001010,  # Waveform Data
        *(group << 16 | 0x3000 for group in range(0x6000, 0x6020, 2)),  # Overlay Data
    )
)
"""Elements without which an item has nothing to judge."""
_VALUES = 8
_DIGITS = 12


class Level(Struct, frozen=True, dict=True):
    """The elements of the data set itself or of one item, each tag's first.

    Attributes:
        source: What they stand in.
        parent: The item; None for the data set itself.
        elements: By tag; of an item only those about pixels, tables, overlays and waveforms.
    """

    source: Source
    parent: Item | None
    elements: Mapping[int, Element]
    _numbers: dict[int, int | None] = field(default_factory=dict)

    def get(self, tag: int) -> Element | None:
        """The element, or None."""
        return self.elements.get(tag)

    def number(self, tag: int) -> int | None:
        """One whole number that is not negative, as `number_of`."""
        if tag not in self._numbers:
            element = self.elements.get(tag)
            self._numbers[tag] = number_of(self.source.data, element) if element else None
        return self._numbers[tag]

    def text(self, tag: int) -> str:
        """Text, as `text_of`."""
        element = self.elements.get(tag)
        return text_of(self.source.data, element) if element else ""

    def words(self, element: Element) -> tuple[int, ...]:
        """The first 16-bit numbers of a binary value, unsigned; none of a text or a sequence."""
        if element.is_container or element.vr in TEXT_VRS:
            return ()
        count = min(_VALUES, (element.end - element.value) // 2)
        order = ">" if element.big_endian else "<"
        return unpack_from(f"{order}{count}H", self.source.data, element.value)

    @cached_property
    def pixels(self) -> Element | None:
        """The first element that holds pixels."""
        return next((self.elements[tag] for tag in PIXELS if tag in self.elements), None)

    @cached_property
    def frames(self) -> int:
        """Number of Frames, signed; 1 if it is absent, empty or no number."""
        text = self.text(FRAMES)
        is_number = text.isascii() and text.lstrip("+-").isdigit() and len(text) <= _DIGITS
        return int(text) if is_number and text[:2].count("-") < 2 else 1

    @cached_property
    def frame_bits(self) -> int:
        """Bits of one frame; 0 if the elements do not tell."""
        return _frame_bits(self.number) or 0

    @cached_property
    def is_cut(self) -> bool:
        """Whether the file ends within the pixels: what is missing was once there."""
        pixels = self.pixels
        if pixels is None or pixels.end < self.source.layout.size:
            return False
        if pixels.declared != UNDEFINED_LENGTH:
            return pixels.declared > pixels.end - pixels.value
        return self.source.data[pixels.end - 8 : pixels.end - 4] != b"\xfe\xff\xdd\xe0"


def levels(source: Source) -> Iterator[Level]:
    """The data set itself, and every public item with pixels, tables, overlays or waveforms.

    Items in private elements are their vendor's: GE keeps JPEG there as native words.
    """
    yield Level(source, None, source.layout.root)
    for item, elements in source.layout.derived(_items):
        yield Level(source, item, elements)


def _items(layout: Layout) -> list[tuple[Item, dict[int, Element]]]:
    judged = {each.parent for each in layout.of(_is_key)} - {None}
    items: dict[Item, dict[int, Element]] = {}
    for element in layout.of(_is_of_image) if judged else ():
        if element.parent is not None and element.parent in judged:
            items.setdefault(element.parent, {}).setdefault(element.tag, element)
    return list(items.items())


@by_sort
def _is_key(sort: Sort) -> bool:
    return sort.tag in _KEYS and _is_of_image(sort)


@by_sort
def _is_of_image(sort: Sort) -> bool:
    return sort.group in _GROUPS and sort.region is not Region.PRIVATE


def frame_bits(data: Data, level: Mapping[int, Element]) -> int | None:
    """Bits of one frame, from the elements of one level; None if they do not tell."""

    def number(tag: int) -> int | None:
        element = level.get(tag)
        return number_of(data, element) if element else None

    return _frame_bits(number)


def _frame_bits(number: Callable[[int], int | None]) -> int | None:
    rows, columns, bits = number(ROWS), number(COLUMNS), number(ALLOCATED)
    if not (rows and columns and bits):
        return None
    return rows * columns * bits * (number(SAMPLES) or 1)


def frames(data: Data, level: Mapping[int, Element]) -> int | None:
    """Number of Frames; None if it is absent or no number."""
    element = level.get(FRAMES)
    return number_of(data, element) if element else None


def image_bytes(data: Data, level: Mapping[int, Element]) -> int | None:
    """Bytes of all frames, without padding; None if the elements do not tell."""
    bits = frame_bits(data, level)
    return None if bits is None else (bits * (frames(data, level) or 1) + 7) // 8
