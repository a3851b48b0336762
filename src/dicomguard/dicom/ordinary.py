"""Elements that nothing need be asked about: runs of them, read quickly.

Nearly all elements of a file have a known VR, fit into what holds them and come in the order of
their tags. Whatever else the walker concludes of such an element follows from its first bytes (tag
and VR, or the tag alone in implicit VR), from what holds it, and from the private creator of its
block: it has been concluded once, of the first of its sort, and is remembered here. What is not as
it should be ends a run; the walker looks at that itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from struct import Struct

from dicomguard.dicom.layout import UNDEFINED_LENGTH, Data, Element, Item, Sort
from dicomguard.model import Region

_EXPLICIT = Struct("<6sH")
"""Tag, VR and 16-bit length, or two reserved bytes."""
_IMPLICIT = Struct("<4sI")
"""Tag and length."""
_LENGTH = Struct("<I")
_REMEMBERED = 8192
"""Sorts of one kind of container."""


class Ordinary(ABC):
    """The ordinary sorts of elements in containers of one region and VR encoding, little endian."""

    _key: int
    """Bytes by which a sort is known."""

    def __init__(self) -> None:
        self._sorts: dict[bytes, Sort] = {}

    def remember(self, data: Data, position: int, sort: Sort) -> None:
        """Elements with the header at ``position`` are of that sort wherever they are ordinary."""
        if len(self._sorts) >= _REMEMBERED:
            self._sorts.clear()
        self._sorts[data[position : position + self._key]] = sort

    @abstractmethod
    def run(
        self,
        data: Data,
        position: int,
        end: int,
        *,
        above: int,
        parent: Item | None,
        creators: Mapping[int, str],
        most: int,
    ) -> list[Element]:
        """The ordinary elements that follow upon one another.

        Args:
            data: What they are in.
            position: Where the first one begins, if it is ordinary.
            end: Where their container ends.
            above: The highest tag before them: they go on above it, each above the one before.
            parent: The item that holds them.
            creators: The private creators in force, by group and block.
            most: How many of them to read.
        """


class _Explicit(Ordinary):
    _key = 6

    def run(
        self,
        data: Data,
        position: int,
        end: int,
        *,
        above: int,
        parent: Item | None,
        creators: Mapping[int, str],
        most: int,
    ) -> list[Element]:
        run: list[Element] = []
        last, sorts = end - 8, self._sorts
        unpack, append = _EXPLICIT.unpack_from, run.append
        try:
            for _ in range(most):
                if position > last:
                    break
                key, length = unpack(data, position)
                sort = sorts[key]
                tag, header = sort.tag, sort.header
                value = position + header
                if header == 12:
                    if length or value > end:
                        break
                    (length,) = _LENGTH.unpack_from(data, position + 8)
                    if length == UNDEFINED_LENGTH:
                        break
                after = value + length
                if tag <= above or after > end:
                    break
                if sort.creator is not None and creators.get(tag >> 8) != sort.creator:
                    break
                append(Element(sort, position, value, after, length, parent))
                above, position = tag, after
        except KeyError:  # quicker than to ask first
            pass
        return run


class _Implicit(Ordinary):
    _key = 4

    def run(
        self,
        data: Data,
        position: int,
        end: int,
        *,
        above: int,
        parent: Item | None,
        creators: Mapping[int, str],
        most: int,
    ) -> list[Element]:
        run: list[Element] = []
        last, sorts = end - 8, self._sorts
        unpack, append = _IMPLICIT.unpack_from, run.append
        try:
            for _ in range(most):
                if position > last:
                    break
                key, length = unpack(data, position)
                sort = sorts[key]
                tag, value = sort.tag, position + 8
                after = value + length
                if tag <= above or after > end or length == UNDEFINED_LENGTH:
                    break
                if sort.creator is not None and creators.get(tag >> 8) != sort.creator:
                    break
                append(Element(sort, position, value, after, length, parent))
                above, position = tag, after
        except KeyError:  # quicker than to ask first
            pass
        return run


_KNOWN = {(region, False): _Explicit() for region in Region} | {
    (region, True): _Implicit() for region in Region
}


def ordinary_in(region: Region, *, implicit: bool, big_endian: bool) -> Ordinary | None:
    """What is ordinary in a container; None in big endian, of which there are too few files."""
    return None if big_endian else _KNOWN[region, implicit]
