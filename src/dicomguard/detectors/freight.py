"""What a data set carries besides its image: nothing bad in itself, but good to know.

All of it is inventory, but for a colour profile whose tables lead out of it, which colour engines
follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import unpack_from

from msgspec.structs import replace

from dicomguard.detectors.entropy import SAMPLE_BYTES, entropy
from dicomguard.detectors.grouping import Hit, first_hits
from dicomguard.dicom.layout import Element, Layout, Sort, by_sort, in_order
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import LONG_TEXT_VRS
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity

ENCRYPTED = FindingKind(
    id="DS-ENCRYPTED",
    title="Encrypted attributes",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="Nobody without the key can tell what is in them, and nothing here has looked.",
    reference="PS3.15 section E.1, PS3.3 section C.12.1.1.4",
    attack="T1027.013",
)
SCRAMBLED = FindingKind(
    id="HIGH-ENTROPY",
    title="Scrambled bytes in a public value",
    category=Category.INVENTORY,
    severity=Severity.LOW,
    confidence=Confidence.STRONG,
    why="Encrypted or packed data where the standard has text or plain numbers.",
    attack="T1027.013",
)
BULK = FindingKind(
    id="BULK-TEXT",
    title="Very long text",
    category=Category.INVENTORY,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="More than 1 MiB of text is no description: know what it is.",
    reference="PS3.5 section 6.2",
)
HOST = FindingKind(
    id="FILE-HOST",
    title="File that is mostly something else than its image",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="Tools that carry arbitrary data in DICOM files make such; so do vendors that keep volumes"
    " in private elements.",
    attack="T1001",
)
PROFILE = FindingKind(
    id="EMB-ICC",
    title="Malformed colour profile",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Colour engines follow the tables of a profile; unpatched ones read beyond its end.",
    reference="ICC.1:2022 section 7, CWE-125",
    attack="T1203",
)

_UNTIDY_PROFILE = replace(PROFILE, category=Category.CONFORMANCE, severity=Severity.LOW)
"""A size that is not quite that of the value: readers go by the smaller."""

_ENCRYPTED_CONTENT = 0x04000520
_ICC_PROFILE = 0x00282000
_PACKABLE_VRS = frozenset(("OB", "UN", *LONG_TEXT_VRS, "UC"))
"""VRs of values that are bytes or text; numbers are scrambled enough by nature."""
_HONESTLY_SCRAMBLED = (0x0016, 0x0400)
"""Groups of photographs' maker notes, and of signatures and certificates."""
_SCRAMBLED_BYTES, _SCRAMBLED_BITS = 4096, 7.5
_BULK_BYTES = 1 << 20
_HOST_BYTES = 1 << 20
_ICC_HEAD, _ICC_TAG, _ICC_MOST_TAGS = 132, 12, 1024


class FreightDetector:
    """Everything large or opaque that is public and no image."""

    kinds = (ENCRYPTED, SCRAMBLED, BULK, HOST, PROFILE)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at public values, and at how much of the file is image."""
        if source.layout.is_dicom:
            yield from first_hits(source, _hits(source))
            yield from _host(source)


def _candidates(layout: Layout) -> list[Element]:
    large = [each for each in layout.elements if each.end - each.value >= _SCRAMBLED_BYTES]
    return in_order(large, layout.of(_is_opened))


@by_sort
def _is_opened(sort: Sort) -> bool:
    return sort.tag in (_ENCRYPTED_CONTENT, _ICC_PROFILE)


def _hits(source: Source) -> Iterator[Hit]:
    for element in source.layout.derived(_candidates):
        size = element.end - element.value
        if element.tag == _ENCRYPTED_CONTENT:
            yield Hit.at(ENCRYPTED, element, f"{size} bytes")
        elif element.tag == _ICC_PROFILE:
            yield from _profile(source, element)
        elif element.region is Region.DATASET:
            yield from _large(source, element, size)


def _large(source: Source, element: Element, size: int) -> Iterator[Hit]:
    if element.is_container or element.vr not in _PACKABLE_VRS:
        return
    if size > _BULK_BYTES and element.vr not in ("OB", "UN"):
        yield Hit.at(BULK, element, f"{size} bytes")
    if element.group not in _HONESTLY_SCRAMBLED:
        bits = entropy(source.data[element.value : min(element.end, element.value + SAMPLE_BYTES)])
        if bits > _SCRAMBLED_BITS:
            yield Hit.at(SCRAMBLED, element, f"{size} bytes, {bits:.1f} bits a byte")


def _profile(source: Source, element: Element) -> Iterator[Hit]:
    """An ICC profile: its size, its signature, and where its tag table leads."""
    profile = source.data[element.value : element.end]
    if not profile.strip(b"\0"):
        return
    if len(profile) < _ICC_HEAD or profile[36:40] != b"acsp":
        yield Hit.at(_UNTIDY_PROFILE, element, "no ICC profile")
        return
    (declared,) = unpack_from(">I", profile)
    (count,) = unpack_from(">I", profile, _ICC_HEAD - 4)
    if count > _ICC_MOST_TAGS or _ICC_HEAD + count * _ICC_TAG > len(profile):
        yield Hit.at(PROFILE, element, f"{count} tags are declared in {len(profile)} bytes")
        return
    for index in range(count):
        offset, size = unpack_from(">II", profile, _ICC_HEAD + index * _ICC_TAG + 4)
        if offset + size > len(profile):
            detail = f"a tag reaches to {offset + size}, the profile has {len(profile)} bytes"
            yield Hit.at(PROFILE, element, detail)
            return
    if not declared <= len(profile) <= declared + 3:  # profiles are padded to four bytes
        detail = f"{declared} bytes are declared, {len(profile)} are there"
        yield Hit.at(_UNTIDY_PROFILE, element, detail)


def _host(source: Source) -> Iterator[Finding]:
    layout = source.layout
    pixels = layout.root.get(PIXEL_DATA)
    if pixels is None or layout.size < _HOST_BYTES:
        return
    share = (pixels.end - pixels.value) / layout.size
    if share < 0.1:
        yield source.finding(HOST, 0, layout.size, detail=f"{share:.1%} of it is image")
