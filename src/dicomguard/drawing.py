"""Layout → what a picture of a file needs, within bounds that no file can widen."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from dicomguard.detectors.entropy import entropy
from dicomguard.dicom.dictionary import name_of
from dicomguard.dicom.layout import Data, Element, Layout
from dicomguard.model import Drawing, DrawnElement, Finding, Region, Stretch

MOST_STRETCHES = 2_000
MOST_ELEMENTS = 2_000
MOST_BINS = 512
"""Parts of a file whose entropy is measured."""

_LEAST_BIN = 256
"""Bytes that a part has at least: fewer cannot show what entropy they have."""
_SAMPLE = 4096
"""Bytes of a part that are measured."""
_LONGEST_NAME = 64


def draw(data: Data, layout: Layout, findings: Iterable[Finding]) -> Drawing:
    """What a picture of a file needs.

    Args:
        data: The file.
        layout: Its layout.
        findings: What was found in it.
    """
    elements = [(each, False) for each in layout.elements]
    if layout.inflated:
        elements += [(each, True) for each in layout.inflated.layout.elements]
    found = {
        (finding.place.inner_offset, True)
        if finding.place.inner_offset is not None and not finding.place.chain
        else (finding.place.offset, False)
        for finding in findings
    }
    return Drawing(
        stretches=tuple(_stretches(layout)),
        entropy=tuple(_entropies(data)),
        elements=tuple(_elements(elements, found)),
        elements_in_file=len(elements),
    )


def _stretches(layout: Layout) -> list[Stretch]:
    runs: list[tuple[int, Region]] = []
    for span in layout.spans():
        if not runs or runs[-1][1] is not span.region:
            runs.append((span.start, span.region))
    shortest = 1
    while len(runs) > MOST_STRETCHES:
        shortest *= 2
        runs = list(_merged(runs, layout.size, shortest))
    ends = [start for start, _ in runs[1:]] + [layout.size]
    return [
        Stretch(region=region, offset=start, length=end - start)
        for (start, region), end in zip(runs, ends, strict=False)
    ]


def _merged(
    runs: Sequence[tuple[int, Region]], size: int, shortest: int
) -> Iterator[tuple[int, Region]]:
    """Runs of which those shorter than ``shortest`` have become part of the one before."""
    last: Region | None = None
    for index, (start, region) in enumerate(runs):
        end = runs[index + 1][0] if index + 1 < len(runs) else size
        if last is None or (end - start >= shortest and region is not last):
            yield start, region
            last = region


def _entropies(data: Data) -> Iterator[float]:
    size = len(data)
    bins = min(MOST_BINS, max(1, size // _LEAST_BIN)) if size else 0
    for index in range(bins):
        start, end = size * index // bins, size * (index + 1) // bins
        yield round(entropy(data[start : min(end, start + _SAMPLE)]), 2)


def _elements(
    elements: Sequence[tuple[Element, bool]], found: set[tuple[int, bool]]
) -> Iterator[DrawnElement]:
    depths = [_depth(element) for element, _ in elements]
    deepest = _deepest_that_fits(depths)
    offsets = {each: sorted(at for at, inner in found if inner is each) for each in (False, True)}
    left = {True: MOST_ELEMENTS, False: MOST_ELEMENTS}
    for (element, inflated), depth in zip(elements, depths, strict=True):
        holds = _holds(element, offsets[inflated])
        if not left[holds] or (depth > deepest and not holds):
            continue
        left[holds] -= 1
        yield DrawnElement(
            tag=f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X})",
            vr=element.vr,
            name=name_of(element.tag, element.creator)[:_LONGEST_NAME],
            creator=(element.creator or "")[:_LONGEST_NAME],
            depth=depth,
            item=element.parent.index if element.parent else None,
            offset=element.start,
            length=element.end - element.start,
            region=element.region,
            inflated=inflated,
        )


def _holds(element: Element, offsets: Sequence[int]) -> bool:
    """Whether one of the offsets, which are in order, lies in the element."""
    next_one = bisect_left(offsets, element.start)
    return next_one < len(offsets) and offsets[next_one] < element.end


def _deepest_that_fits(depths: Sequence[int]) -> int:
    """Down to which depth all elements can be shown; 0 at least."""
    counts = Counter(depths)
    total = 0
    deepest = 0
    for depth in sorted(counts):
        total += counts[depth]
        if total > MOST_ELEMENTS:
            break
        deepest = depth
    return deepest


def _depth(element: Element) -> int:
    depth = 0
    while element.parent is not None:
        element = element.parent.container
        depth += 1
    return depth
