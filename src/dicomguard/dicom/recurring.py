"""Layouts that serve again: the files of a series differ in values, and seldom in structure.

Of a plain file the walker reads the headers, and of the values only those that tell it how to go
on. Where another file of that size has the same bytes in all these places, the walk is the same.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.layout import Data, Layout, Sort, by_sort
from dicomguard.dicom.walker import TRANSFER_SYNTAX, walk
from dicomguard.model import Region

_SHAPES = 32
"""Sizes of files and numbers of elements that are remembered; a layout is kept when both have come
before, and not so long ago that it would be forgotten before it comes again."""
_KEPT = 32
"""Layouts that are kept, the last ones that were of use."""
_LONGEST = 1 << 15
"""Bytes before the last value at most, so that those layouts are small."""

_READ = frozenset(("SQ", "UN"))
"""VRs whose values the walker may read."""
_UNEXPLAINED = (Region.TAIL, Region.GAP)


class _Kept(Struct, frozen=True, eq=False):
    """A layout, and what a file must hold to have it.

    Attributes:
        length: Bytes from the start of the file that count.
        mask: A number with the bits of those that the walk depends on.
        read: What they were.
        layout: What the walk made of them.
    """

    length: int
    mask: int
    read: int
    layout: Layout

    def fits(self, data: Data) -> bool:
        """Whether a file of that size has that layout."""
        return int.from_bytes(data[: self.length], "little") & self.mask == self.read


class Layouts:
    """Walks files, or remembers what it would make of them.

    The layouts are shared by files: nobody may change one.

    Args:
        budgets: Limits of each walk.
    """

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._shapes: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._kept: OrderedDict[_Kept, None] = OrderedDict()

    def of(self, data: Data) -> Layout:
        """The layout of a file, as `walk` makes it."""
        size = len(data)
        for kept in reversed(self._kept):
            if kept.layout.size == size and kept.fits(data):
                self._kept.move_to_end(kept)
                return kept.layout
        layout = walk(data, self._budgets)
        shape = size, len(layout.elements)
        if shape not in self._shapes:
            self._shapes[shape] = None
            if len(self._shapes) > _SHAPES:
                self._shapes.popitem(last=False)
            return layout
        made = _kept(data, layout)
        if made:
            self._kept[made] = None
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return layout


def _kept(data: Data, layout: Layout) -> _Kept | None:
    """What the walk depended on; None where that is not told easily."""
    if not layout.has_preamble or layout.big_endian or layout.inflated:
        return None
    if layout.oddities or layout.limits or not layout.elements:
        return None
    last = layout.elements[-1]
    length = last.value if last.end == layout.size and not last.is_container else layout.size
    if length > _LONGEST or layout.values_of(_is_unexplained):
        return None
    mask = bytearray(b"\xff") * length
    for each in layout.values_of(_is_skipped):
        if each.value < length:
            mask[each.value : each.end] = bytes(each.end - each.value)
    bits = int.from_bytes(mask, "little")
    return _Kept(length, bits, int.from_bytes(data[:length], "little") & bits, layout)


@by_sort
def _is_unexplained(sort: Sort) -> bool:
    return sort.region in _UNEXPLAINED


@by_sort
def _is_skipped(sort: Sort) -> bool:
    """Whether the walker goes over the value, which is an element's and not a fragment."""
    is_read = sort.vr in _READ or sort.is_private_creator or sort.tag == TRANSFER_SYNTAX
    return bool(sort.vr) and not is_read
