"""One finding for many places alike: a million oddities make no million findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct

from dicomguard.dicom.layout import Element, Item
from dicomguard.dicom.source import Source
from dicomguard.model import Finding, FindingKind


class Hit(NamedTuple):
    """What one check found: a kind at ``[start, end)``, which belongs to ``owner``."""

    kind: FindingKind
    owner: Element | Item
    start: int
    end: int
    detail: str

    @classmethod
    def at(cls, kind: FindingKind, element: Element, detail: str) -> Hit:
        """A hit that is all of an element."""
        return cls(kind, element, element.start, element.end, detail)

    @property
    def element(self) -> Element:
        """The element that the owner is, or is an item of."""
        return self.owner.container if isinstance(self.owner, Item) else self.owner


class _Group(Struct):
    """The hits of one kind: the first of them, and what holds for all."""

    first: Hit
    count: int = 0
    one_creator: bool = True

    @property
    def detail(self) -> str:
        """What the first one says, and how many there are."""
        told = [self.first.detail] if self.first.detail else []
        told += [f"{self.count} such elements, the first is here"] if self.count > 1 else []
        return "; ".join(told)


def first_hits(source: Source, hits: Iterable[Hit]) -> Iterator[Finding]:
    """A finding for the first hit of each kind and severity, with their number."""
    groups: dict[FindingKind, _Group] = {}
    for hit in hits:
        group = groups.setdefault(hit.kind, _Group(hit))
        group.count += 1
        group.one_creator &= hit.element.creator == group.first.element.creator
    for kind, group in groups.items():
        first = group.first
        yield source.finding(
            kind,
            first.start,
            first.end,
            detail=group.detail,
            region=first.element.region,
            owner=first.owner,
            count=group.count,
            one_creator=group.one_creator,
        )


def first_of(
    source: Source, kind: FindingKind, elements: Iterable[Element], detail: str = ""
) -> Iterator[Finding]:
    """A finding at the first of the elements, with their number; none if there are none."""
    return first_hits(source, (Hit.at(kind, element, detail) for element in elements))
