"""Bytes that no structure explains: tail, padding, gaps, and what values hold beyond their end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from dicomguard import naming
from dicomguard.detectors.entropy import entropy
from dicomguard.detectors.image import frame_bits, frames, image_bytes
from dicomguard.detectors.tiff import is_tiff
from dicomguard.dicom.layout import Element, Item, Layout, Sort, Span, by_sort, is_text, number_of
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import (
    DEFLATED,
    ENCAPSULATED_DOCUMENT,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PIXEL_DATA,
)
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity

TAIL = FindingKind(
    id="TAIL-DATA",
    title="Bytes after the end of the data set",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="Viewers ignore them, unpackers and programs do not. Find out what appended them.",
    reference="PS3.10 section 7",
    attack="T1027.009",
)
PADDING = FindingKind(
    id="TAIL-PADDING",
    title="Data in the trailing padding",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="Its content has no meaning in DICOM; honest files fill it with zeros or a TIFF directory.",
    reference="PS3.10 section 7.2",
    attack="T1027.009",
)
GAP = FindingKind(
    id="GAP-DATA",
    title="Bytes that cannot be read as elements",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="The structure breaks off here: damage in transfer, or data that was put between.",
    attack="T1027.009",
)
DEFLATE_GAP = FindingKind(
    id="GAP-DEFLATE",
    title="Bytes after the end of the deflated data set",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Every reader ignores them silently, so nobody but their author sees them.",
    reference="PS3.5 section A.5",
    attack="T1027.009",
)
SLACK = FindingKind(
    id="GAP-VALUE-SLACK",
    title="Data in a value beyond its own end",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="Viewers stop before it. Pieces of programs are hidden in such places.",
    attack="T1027.009",
)
PIXEL_SLACK = FindingKind(
    id="PIX-LONGER",
    title="Pixel data longer than the image",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="What is beyond the last row is shown by no viewer, or by some as an extra frame.",
    reference="PS3.3 section C.7.6.3",
    attack="T1027.009",
)

_UNEXPLAINED = (Region.TAIL, Region.GAP, Region.PADDING)
_HEADER_BYTES = 12
_DENSE_BITS = 6.5
_DENSE_BYTES = 4096
_LARGE_PADDING = 64 << 10
_SLACK_TEXT_BYTES = 16
_DOCUMENT_LENGTH = 0x00420015
_OVERLAYS = range(0x6000, 0x6020, 2)
_MEASURED = frozenset(
    (PIXEL_DATA, ENCAPSULATED_DOCUMENT, *(group << 16 | 0x3000 for group in _OVERLAYS))
)
_PHOTOMETRIC = 0x00280004
_NATIVE = ("", IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, *DEFLATED)
"""Transfer syntaxes whose pixel data is as long as the image."""


class UnexplainedDetector:
    """Tail, padding, gaps and slack; one finding a kind, with a count."""

    kinds = (TAIL, PADDING, GAP, DEFLATE_GAP, SLACK, PIXEL_SLACK)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at what the layout could not give to any structure, and at the ends of values."""
        layout = source.layout
        if not layout.is_dicom:
            return
        has_tiff = layout.has_preamble and is_tiff(source.data[:4])
        gap = DEFLATE_GAP if layout.inflated else GAP
        spans: dict[FindingKind, list[Span]] = defaultdict(list)
        for span in layout.derived(_unexplained):
            if span.region is Region.TAIL:
                spans[_graded(source, TAIL, span)].append(span)
            elif span.region is Region.GAP:
                spans[_graded(source, gap, span)].append(span)
            elif span.region is Region.PADDING and not has_tiff:
                yield from _padding(source, span)
        for kind, alike in spans.items():
            yield _first(source, kind, alike)
        yield from _value_slack(source)


def _unexplained(layout: Layout) -> list[Span]:
    return [
        Span(each.value, each.end, each.sort.region, each.owner, is_value=True)
        for each in layout.values_of(_is_unexplained)
    ]


@by_sort
def _is_unexplained(sort: Sort) -> bool:
    return sort.region in _UNEXPLAINED


def _graded(source: Source, kind: FindingKind, span: Span) -> FindingKind:
    """Low if the bytes are all zero, or too few for an element's header: a file that was cut."""
    too_few = span.end - span.start < _HEADER_BYTES and span.end == source.layout.size
    if too_few or not source.data[span.start : span.end].strip(b"\0"):
        return replace(kind, category=Category.CONFORMANCE, severity=Severity.LOW)
    return kind


def _first(source: Source, kind: FindingKind, spans: list[Span]) -> Finding:
    first = spans[0]
    raw = source.data[first.start : first.end]
    told = [naming.name(raw) if raw.strip(b"\0") else "all zero"]
    if len(spans) > 1:
        total = sum(span.end - span.start for span in spans)
        told.append(f"{len(spans)} such places with {total} bytes, the first is here")
    detail = "; ".join(filter(None, told))
    return source.finding(kind, first.start, first.end, detail=detail, count=len(spans))


def _padding(source: Source, span: Span) -> Iterator[Finding]:
    raw = source.data[span.start : span.end]
    if not raw.strip(b"\0"):
        return
    kind = PADDING
    dense = len(raw) > _DENSE_BYTES and entropy(raw) > _DENSE_BITS
    if not dense and len(raw) <= _LARGE_PADDING:
        kind = replace(kind, category=Category.CONFORMANCE, severity=Severity.LOW)
    yield source.finding(kind, span.start, span.end, detail=naming.name(raw))


def _texts(layout: Layout) -> list[Element]:
    """Those long enough to hide something."""
    return [
        each
        for each in layout.of(_is_text)
        if each.end - each.value > _SLACK_TEXT_BYTES and not each.is_container
    ]


@by_sort
def _is_text(sort: Sort) -> bool:
    return (
        is_text(sort)
        # A private element's VR that is not written is a dictionary's guess.
        and not (sort.implicit and sort.is_private)
        and sort.region is not Region.META
    )


def _levels(layout: Layout) -> list[dict[int, Element]]:
    """The elements of each level that has something whose length others tell."""
    levels: dict[Item | None, dict[int, Element]] = {}
    measured = {each.parent for each in layout.of(_is_measured)}
    for element in layout.elements if measured else ():
        if element.parent in measured and (not element.is_container or element.tag == PIXEL_DATA):
            levels.setdefault(element.parent, {}).setdefault(element.tag, element)
    return [level for level in levels.values() if not _MEASURED.isdisjoint(level)]


@by_sort
def _is_measured(sort: Sort) -> bool:
    return sort.tag in _MEASURED


def _value_slack(source: Source) -> Iterator[Finding]:
    texts: list[Finding] = []
    count = 0
    for element in _ended(source):
        hidden = _text_slack(source, element)
        count += hidden is not None
        if hidden is not None and not texts:
            detail = "after the NUL that ends the text"
            texts += _slack(source, SLACK, element, hidden, detail)
    if count > 1:
        detail = f"{texts[0].detail}; {count} such values"
        place = replace(texts[0].place, private_creator="")
        texts = [replace(texts[0], place=place, detail=detail, count=count)]
    yield from texts
    for level in source.layout.derived(_levels):
        yield from _document_slack(source, level)
        yield from _overlay_slack(source, level)
        yield from _pixel_slack(source, level)


def _ended(source: Source) -> list[Element]:
    """Texts with a NUL and enough bytes behind it."""
    data, least = source.data, _SLACK_TEXT_BYTES - 1
    texts = source.layout.derived(_texts)
    if b"\0" not in b"".join([data[each.value : each.end - least] for each in texts]):
        return []
    return [each for each in texts if data.find(b"\0", each.value, each.end - least) >= 0]


def _slack(
    source: Source, kind: FindingKind, element: Element, start: int, detail: str
) -> Iterator[Finding]:
    """A finding of ``[start, element.end)`` unless that is one byte of padding or all zero."""
    raw = source.data[start : element.end]
    if len(raw) > 1 and raw.strip(b"\0 "):
        yield source.finding(
            kind, start, element.end, detail=detail, region=Region.GAP, owner=element
        )


def _text_slack(source: Source, element: Element) -> int | None:
    """Where text that is hidden behind a NUL begins; None if there is none worth the name."""
    found = source.data.find(b"\0", element.value, element.end)
    if found >= 0 and len(source.data[found : element.end].strip(b"\0 ")) >= _SLACK_TEXT_BYTES:
        return found
    return None


def _document_slack(source: Source, level: dict[int, Element]) -> Iterator[Finding]:
    document = level.get(ENCAPSULATED_DOCUMENT)
    length = _number(source, level, _DOCUMENT_LENGTH) if document else None
    if document is not None and length is not None and document.value + length < document.end:
        detail = f"the document ends after {length} bytes"
        yield from _slack(source, SLACK, document, document.value + length, detail)


def _overlay_slack(source: Source, level: dict[int, Element]) -> Iterator[Finding]:
    for group in _OVERLAYS:
        overlay = level.get(group << 16 | 0x3000)
        if overlay is None:
            continue
        rows = _number(source, level, group << 16 | 0x0010)
        columns = _number(source, level, group << 16 | 0x0011)
        if rows and columns:
            frames = _number(source, level, group << 16 | 0x0015) or 1
            expected = (rows * columns * frames + 7) // 8
            if expected < overlay.end - overlay.value:
                detail = f"the overlay ends after {expected} bytes"
                yield from _slack(source, SLACK, overlay, overlay.value + expected, detail)


def _pixel_slack(source: Source, level: dict[int, Element]) -> Iterator[Finding]:
    pixels = level.get(PIXEL_DATA)
    if pixels is None or pixels.is_container or source.file.transfer_syntax not in _NATIVE:
        return
    bits, expected = frame_bits(source.data, level), image_bytes(source.data, level)
    if not bits or not expected:
        return
    length = pixels.end - pixels.value
    photometric = level.get(_PHOTOMETRIC)
    is_422 = photometric and b"_422" in source.data[photometric.value : photometric.end][:16]
    if is_422 and length < expected:  # two of three samples are stored (PS3.3 C.7.6.3.1.2)
        expected = expected * 2 // 3
    surplus = length - expected
    if surplus <= 1:
        return
    kind = PIXEL_SLACK
    if frames(source.data, level) is None and surplus * 8 % bits < 16:
        kind = replace(kind, category=Category.CONFORMANCE)  # frames that nobody counted
    elif surplus * 8 >= bits:
        kind = replace(kind, severity=Severity.HIGH)
    detail = f"the image ends after {expected} bytes"
    yield from _slack(source, kind, pixels, pixels.value + expected, detail)


def _number(source: Source, level: dict[int, Element], tag: int) -> int | None:
    element = level.get(tag)
    return number_of(source.data, element) if element else None
