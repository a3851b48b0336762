"""Private elements (PS3.5 section 7.8): who put them there, and do they keep to the rules.

Payloads in private elements are the rules' business (``EMB-*`` with region ``private``). Unknown
creators and elements are the normal case in honest files and are inventory only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from dicomguard.detectors import vendors
from dicomguard.detectors.entropy import SAMPLE_BYTES, entropy
from dicomguard.detectors.grouping import first_of
from dicomguard.dicom import dictionary
from dicomguard.dicom.layout import Element, Item, Layout, Sort, by_sort
from dicomguard.dicom.source import Source
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity

ORPHAN = FindingKind(
    id="PRIV-ORPHAN",
    title="Private elements without a private creator",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Anonymisers and some modalities leave such elements; so do tools that hide data.",
    reference="PS3.5 section 7.8.1",
)
ILLEGAL = FindingKind(
    id="PRIV-ILLEGAL-ELEM",
    title="Private element where none is allowed",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Elements outside the reserved blocks confuse readers; honest software writes none.",
    reference="PS3.5 section 7.8.1",
)
BAD_CREATOR = FindingKind(
    id="PRIV-CREATOR-BAD",
    title="Private creator that is no name",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="A creator is one printable text of at most 64 characters; anything else was not written by"
    " a modality.",
    reference="PS3.5 section 7.8.1",
)
UNKNOWN_CREATOR = FindingKind(
    id="PRIV-CREATOR-UNKNOWN",
    title="Private creator that the dictionary does not know",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="A quarter of honest files have one; it helps to tell sources apart.",
    reference="PS3.5 section 7.8",
)
OPAQUE = FindingKind(
    id="PRIV-OPAQUE",
    title="Large scrambled value under an unknown private creator",
    category=Category.MALWARE,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="Encrypted or packed data that nobody can read: ask the vendor of the source what it is.",
    attack="T1027.013",
)

SPOOF = FindingKind(
    id="PRIV-CREATOR-SPOOF",
    title="Private value that is not what its vendor keeps there",
    category=Category.MALWARE,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="A vendor's name makes scanners and people look away. Ask the vendor, or compare with other"
    " files of the same device.",
    reference="PS3.5 section 7.8",
    attack="T1036.008",
)
COLLISION = FindingKind(
    id="PRIV-BLOCK-COLLISION",
    title="Private creator twice in one group",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Readers that look for a block by its creator find one of both: the other stays unseen.",
    reference="PS3.5 section 7.8.1",
)
HUGE = FindingKind(
    id="PRIV-HUGE",
    title="Very large private value",
    category=Category.INVENTORY,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="More than 16 MiB that no viewer shows: know what it is before you store it for years.",
    reference="PS3.5 section 7.8",
)

_UNLIKE = replace(SPOOF, category=Category.CONFORMANCE, severity=Severity.LOW)
"""Not the vendor's form, but nothing scrambled either: an anonymiser has been there."""

_ILLEGAL_GROUPS = (0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF)
_OPAQUE_BYTES = 4096
_OPAQUE_BITS = 7.2
_FORM_BYTES = 64
_HUGE_BYTES = 16 << 20
_NAMED = 10
_CREATORS_LISTED = 20


class PrivateDetector:
    """Private blocks at any depth."""

    kinds = (ORPHAN, ILLEGAL, BAD_CREATOR, UNKNOWN_CREATOR, OPAQUE, SPOOF, COLLISION, HUGE)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at every private element, wherever it is nested."""
        private = source.layout.derived(_sorted)
        creators = [(each, _text(source, each)) for each in private.creators]
        bad: list[Element] = []
        good: dict[str, Element] = {}
        for each, text in creators:
            if _is_bad(each, text):
                bad.append(each)
            else:
                good[text] = each
        yield from first_of(source, ORPHAN, private.orphans)
        yield from first_of(source, ILLEGAL, private.illegal)
        yield from first_of(source, BAD_CREATOR, bad)
        yield from _unknown(source, good)
        yield from first_of(source, COLLISION, _repeated(creators))
        yield from first_of(source, HUGE, private.huge)
        yield from _opaque(source, [e for e in private.odd if _is_opaque(source, e)])
        yield from _unlike(source, private.known)


class _Private(NamedTuple):
    """The private elements of a layout, by what is to be asked of each.

    Attributes:
        creators: Those that reserve a block.
        illegal: Those where none may be.
        orphans: Others whose block has no creator.
        huge: Very large ones, unless their vendor is known for them.
        odd: Large ones of creators of which nothing is known.
        known: Those whose vendor is known to write something that has a form.
    """

    creators: list[Element]
    illegal: list[Element]
    orphans: list[Element]
    huge: list[Element]
    odd: list[Element]
    known: list[tuple[Element, str, vendors.Held]]


def _sorted(layout: Layout) -> _Private:
    private = layout.of(_is_private)
    held = [each for each in private if each.element > 0xFF]
    return _Private(
        creators=[each for each in private if each.is_private_creator],
        illegal=[each for each in private if _is_illegal(each.sort)],
        orphans=[each for each in held if each.creator is None and not _is_illegal(each.sort)],
        huge=[each for each in held if _is_huge(each)],
        odd=[each for each in held if _may_be_opaque(each)],
        known=list(_with_a_form(held)),
    )


@by_sort
def _is_private(sort: Sort) -> bool:
    return sort.is_private


@by_sort
def _is_illegal(sort: Sort) -> bool:
    number = sort.element
    in_block = number == 0 or 0x10 <= number <= 0xFF or number >= 0x1000
    return not in_block or sort.group in _ILLEGAL_GROUPS


def _text(source: Source, element: Element) -> str:
    raw = source.data[element.value : min(element.end, element.value + 65)]
    return raw.decode("latin-1").strip(" \0")


def _is_bad(element: Element, text: str) -> bool:
    return (
        not 0 < len(text) <= 64
        or not (text.isascii() and text.isprintable())
        or "\\" in text
        or element.vr not in ("LO", "UN")
    )


def _unknown(source: Source, by_name: Mapping[str, Element]) -> Iterator[Finding]:
    unknown = {
        name: element
        for name, element in by_name.items()
        if not (dictionary.is_known_creator(name) or vendors.creator(name))
    }
    if unknown:
        first = min(unknown.values(), key=lambda element: element.start)
        names = sorted(unknown)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield source.finding(
            UNKNOWN_CREATOR,
            first.start,
            first.end,
            detail=", ".join(names[:_NAMED]) + more,
            region=first.region,
            owner=first,
        )


def _opaque(source: Source, elements: list[Element]) -> Iterator[Finding]:
    """A finding for each creator, and one for the rest where there are very many."""
    by_creator: dict[str, list[Element]] = {}
    for element in elements:
        key = element.creator or ""
        by_creator.setdefault(key if len(by_creator) < _CREATORS_LISTED else "", []).append(element)
    for alike in by_creator.values():
        yield from first_of(source, OPAQUE, alike)


def _repeated(creators: Iterable[tuple[Element, str]]) -> Iterator[Element]:
    """Creators with the text of another in the same group of the same level."""
    seen: set[tuple[int, Item | None, str]] = set()
    for element, text in creators:
        key = element.group, element.parent, text
        if key[2] and key in seen:
            yield element
        seen.add(key)


def _is_huge(element: Element) -> bool:
    vendor = vendors.creator(element.creator or "")
    is_large = element.end - element.value > _HUGE_BYTES and not element.is_container
    return is_large and not (vendor and vendor.large)


def _with_a_form(held: list[Element]) -> Iterator[tuple[Element, str, vendors.Held]]:
    for element in held:
        if element.is_container or element.end - element.value < _FORM_BYTES:
            continue
        vendor = vendors.creator(element.creator or "")
        known = vendor.held(element.tag) if vendor else None
        if vendor is not None and known is not None and known.begins:
            yield element, vendor.vendor, known


def _unlike(source: Source, held: list[tuple[Element, str, vendors.Held]]) -> Iterator[Finding]:
    """Values of elements whose vendor is known to write something else there."""
    scrambled: dict[str, list[Element]] = defaultdict(list)
    others: dict[str, list[Element]] = defaultdict(list)
    for element, vendor, known in held:
        value = source.data[element.value : min(element.end, element.value + SAMPLE_BYTES)]
        if not value.strip(b"\0 ") or known.is_of(value):
            continue
        alike = scrambled if _is_scrambled(value) else others
        alike[f"{vendor} keeps there: {known.holds}"].append(element)
    for kind, by_detail in ((SPOOF, scrambled), (_UNLIKE, others)):
        for detail, elements in by_detail.items():
            yield from first_of(source, kind, elements, detail)


def _is_scrambled(value: bytes) -> bool:
    return len(value) >= _OPAQUE_BYTES and entropy(value) > _OPAQUE_BITS


def _may_be_opaque(element: Element) -> bool:
    creator = element.creator
    if creator is None or element.is_container or element.end - element.value < _OPAQUE_BYTES:
        return False
    vendor = vendors.creator(creator)
    return not (dictionary.is_known_creator(creator) or (vendor and vendor.packed))


def _is_opaque(source: Source, element: Element) -> bool:
    return _is_scrambled(
        source.data[element.value : min(element.end, element.value + SAMPLE_BYTES)]
    )
