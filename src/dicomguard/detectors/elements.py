"""Each element against what the dictionary and its VR say of it (PS3.5 section 6.2, PS3.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from dicomguard.detectors.grouping import Hit, first_hits
from dicomguard.dicom import dictionary
from dicomguard.dicom.layout import UNDEFINED_LENGTH, Element, Layout, Sort, by_sort, in_order
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import VRS
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity

OTHER_VR = FindingKind(
    id="DS-VR-MISMATCH",
    title="Element with another value representation than the standard gives it",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "Unpatched readers take the value for what the standard says it is: text for a sequence,"
        " a number for another, memory for a pointer."
    ),
    reference="CVE-2024-28130, CVE-2026-5442, CWE-843",
    attack="T1203",
)
ODD_LENGTH = FindingKind(
    id="DS-LEN-ODD",
    title="Value of odd length",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Lengths are even in DICOM; readers differ in whether they skip a byte.",
    reference="PS3.5 section 7.1.1",
)
VR_LENGTH = FindingKind(
    id="DS-LEN-VR",
    title="Length that the value representation cannot have",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers that copy whole numbers read beyond the end of the value.",
    reference="CVE-2025-14607, PS3.5 section 6.2",
)
ILLEGAL_GROUP = FindingKind(
    id="DS-ILLEGAL-GROUP",
    title="Group number that DICOM does not allow",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="No writer has a use for it, and readers differ in whether they show it.",
    reference="PS3.5 section 7.1, 7.8",
)
UNKNOWN = FindingKind(
    id="DS-UNKNOWN-STD",
    title="Public element that the standard does not know",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="A value nobody reads is a place to hide data in. Newer editions of DICOM add elements.",
    reference="PS3.6",
)

_HARMLESS_VR = replace(OTHER_VR, category=Category.CONFORMANCE, severity=Severity.LOW)

_SEQUENCE = frozenset(("SQ", "UN"))
_NUMBERS = frozenset(("US", "SS", "UN"))
_TABLE = frozenset(("US", "SS", "OW", "OB", "UN"))
_CONFUSED: dict[int, frozenset[str]] = {
    0x00280010: _NUMBERS | {"IS"},  # Rows
    0x00280011: _NUMBERS | {"IS"},  # Columns
    0x00281101: _NUMBERS,  # palette descriptors
    0x00281102: _NUMBERS,
    0x00281103: _NUMBERS,
    0x00281201: _TABLE,  # palettes
    0x00281202: _TABLE,
    0x00281203: _TABLE,
    0x00283000: _SEQUENCE,  # Modality LUT Sequence
    0x00283002: _NUMBERS,  # LUT Descriptor
    0x00283006: _TABLE,  # LUT Data
    0x00283010: _SEQUENCE,  # VOI LUT Sequence
    0x00081140: _SEQUENCE,  # Referenced Image Sequence
    0x0040A730: _SEQUENCE,  # Content Sequence
    PIXEL_DATA: frozenset(("OB", "OW", "OF", "OD", "OL", "OV", "UN")),
}
"""Elements that readers were seen to confuse, and the VRs that do no harm there."""

_UNITS = {
    "US": 2, "SS": 2, "OW": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4, "AT": 4, "AS": 4,
    "FD": 8, "SV": 8, "UV": 8, "OD": 8, "OV": 8,
}  # fmt: skip
"""Bytes of which a value is a multiple, by VR."""

_ILLEGAL_GROUPS = frozenset((0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF))
_META_GROUPS = frozenset((0x0000, 0x0002))
_UNREAD_BYTES = 256


class ElementDetector:
    """Every element of the data set; one finding a kind, with a count."""

    kinds = (OTHER_VR, ODD_LENGTH, VR_LENGTH, ILLEGAL_GROUP, UNKNOWN)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Hold elements to the dictionary and values to their VR."""
        yield from first_hits(source, source.layout.derived(_hits))


def _hits(layout: Layout) -> list[Hit]:
    odd = [each for each in layout.elements if (each.end - each.value) & 1]
    uneven = [
        each for each in layout.of(_unit) if (each.end - each.value) % (_unit(each.sort) or 1)
    ]
    suspects = in_order(odd, uneven, layout.of(_kind))
    return [hit for element in suspects for hit in _hits_of(element)]


@by_sort
def _unit(sort: Sort) -> int | None:
    """Bytes of which a value must be a multiple, where an even number is not enough."""
    unit = _UNITS.get(sort.vr, 2)
    return unit if unit > 2 else None


@by_sort
def _kind(sort: Sort) -> FindingKind | None:
    """What is wrong with a tag and the VR that is written for it."""
    return _judged(sort.tag, sort.vr, sort.implicit)


def _hits_of(element: Element) -> Iterator[Hit]:
    if element.region is Region.META:
        return
    size = element.end - element.value
    kind = _kind(element.sort)
    if kind is not None and _matters(kind, element, size):
        yield Hit.at(kind, element, f"VR {element.vr}, {size} bytes")
    if element.declared == UNDEFINED_LENGTH or size != element.declared:
        return  # open, or cut: no length to judge
    if size % _UNITS.get(element.vr, 1):
        yield Hit.at(VR_LENGTH, element, f"{size} bytes of VR {element.vr}")
    elif size & 1:
        yield Hit.at(ODD_LENGTH, element, f"{size} bytes")


def _matters(kind: FindingKind, element: Element, size: int) -> bool:
    """Whether there is enough of an element: empty ones confuse nobody and hide nothing."""
    if kind is UNKNOWN:
        return size > _UNREAD_BYTES
    return kind is ILLEGAL_GROUP or (size > 0 and element.region is not Region.PRIVATE)


def _judged(tag: int, vr: str, is_implicit: bool) -> FindingKind | None:
    """What is wrong with a tag and the VR that is written for it; None if nothing is."""
    group = tag >> 16
    if group in _ILLEGAL_GROUPS:
        return ILLEGAL_GROUP
    if group & 1 or group in _META_GROUPS or not tag & 0xFFFF:
        return None
    known = dictionary.public_vr(tag)
    if known is None:
        return UNKNOWN
    if is_implicit or vr == "UN" or vr.encode() not in VRS or vr in known.split(" or "):
        return None
    return _HARMLESS_VR if vr in _CONFUSED.get(tag, (vr,)) else OTHER_VR
