"""Private elements (PS3.5 section 7.8): who put them there, and do they keep to the rules.

Payloads in private elements are the rules' business (``EMB-*`` with region ``private``). Unknown
creators and elements are the normal case in honest files and are inventory only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicomguard.detectors.entropy import entropy
from dicomguard.detectors.grouping import first_of
from dicomguard.dicom import dictionary
from dicomguard.dicom.layout import Element
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

_ILLEGAL_GROUPS = (0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF)
_KNOWN_AS_HONEST = frozenset(
    ("Image Private Header", "Common Private Header", "DB Dicom Private Creator")
)
_OPAQUE_BYTES = 4096
_OPAQUE_BITS = 7.2
_NAMED = 10
_CREATORS_LISTED = 20


class PrivateDetector:
    """Private blocks at any depth."""

    kinds = (ORPHAN, ILLEGAL, BAD_CREATOR, UNKNOWN_CREATOR, OPAQUE)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at every private element, wherever it is nested."""
        private = [element for element in source.layout.elements if element.is_private]
        creators = [element for element in private if element.is_private_creator]
        held = [element for element in private if element.element > 0xFF]
        yield from first_of(
            source, ORPHAN, (e for e in held if e.creator is None and not _illegal(e))
        )
        yield from first_of(source, ILLEGAL, (e for e in private if _illegal(e)))
        yield from first_of(source, BAD_CREATOR, (e for e in creators if _is_bad(source, e)))
        yield from _unknown(source, creators)
        yield from _opaque(source, [e for e in held if _is_opaque(source, e)])


def _illegal(element: Element) -> bool:
    number = element.element
    in_block = number == 0 or 0x10 <= number <= 0xFF or number >= 0x1000
    return not in_block or element.group in _ILLEGAL_GROUPS


def _text(source: Source, element: Element) -> str:
    raw = source.data[element.value : min(element.end, element.value + 65)]
    return raw.decode("latin-1").strip(" \0")


def _is_bad(source: Source, element: Element) -> bool:
    text = _text(source, element)
    return (
        not 0 < len(text) <= 64
        or not (text.isascii() and text.isprintable())
        or "\\" in text
        or element.vr not in ("LO", "UN")
    )


def _unknown(source: Source, creators: list[Element]) -> Iterator[Finding]:
    by_name = {
        _text(source, element): element for element in creators if not _is_bad(source, element)
    }
    unknown = {
        name: element for name, element in by_name.items() if not dictionary.is_known_creator(name)
    }
    if unknown:
        first = min(unknown.values(), key=lambda element: element.start)
        names = sorted(unknown)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield source.finding(
            UNKNOWN_CREATOR, first.start, first.end, detail=", ".join(names[:_NAMED]) + more
        )


def _opaque(source: Source, elements: list[Element]) -> Iterator[Finding]:
    """A finding for each creator, and one for the rest where there are very many."""
    by_creator: dict[str, list[Element]] = {}
    for element in elements:
        key = element.creator or ""
        by_creator.setdefault(key if len(by_creator) < _CREATORS_LISTED else "", []).append(element)
    for alike in by_creator.values():
        yield from first_of(source, OPAQUE, alike)


def _is_opaque(source: Source, element: Element) -> bool:
    creator = element.creator
    if (
        creator is None
        or element.is_container
        or element.end - element.value < _OPAQUE_BYTES
        or creator in _KNOWN_AS_HONEST
        or dictionary.is_known_creator(creator)
    ):
        return False
    return entropy(source.data[element.value : element.value + (1 << 16)]) > _OPAQUE_BITS
