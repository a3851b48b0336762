"""One finding for many elements alike: a million oddities make no million findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dicomguard.dicom.layout import Element
from dicomguard.dicom.source import Source
from dicomguard.model import Finding, FindingKind


def first_of(
    source: Source, kind: FindingKind, elements: Iterable[Element], detail: str = ""
) -> Iterator[Finding]:
    """A finding at the first of the elements, with their number; none if there are none."""
    first, count, one_creator = None, 0, True
    for element in elements:
        first = first or element
        count += 1
        one_creator &= element.creator == first.creator
    if first is None:
        return
    told = [detail] if detail else []
    told += [f"{count} such elements, the first is here"] if count > 1 else []
    yield source.finding(
        kind,
        first.start,
        first.end,
        detail="; ".join(told),
        region=first.region,
        owner=first,
        count=count,
        one_creator=one_creator,
    )
