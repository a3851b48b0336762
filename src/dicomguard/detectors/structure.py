"""Data-set structure: what was odd on the walk, and what it is the precondition of."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter

from msgspec.structs import replace

from dicomguard.detectors.grouping import first_of
from dicomguard.detectors.image import image_bytes
from dicomguard.dicom.layout import Element, Item, Layout, Oddity, OddityKind, Sort, by_sort
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity

LENGTH_OVERRUN = FindingKind(
    id="DS-LEN-OVERRUN",
    title="Length reaches beyond the end of what contains it",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why=(
        "Readers that believe such a length read or allocate too much. A truncated transfer looks"
        " the same: compare the file with its source."
    ),
    reference="CVE-2026-3650",
    attack="T1499.004",
)
UNKNOWN_VR = FindingKind(
    id="DS-BADVR",
    title="Value representation that DICOM does not know",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers disagree on where such an element ends, so that each sees another file.",
    reference="PS3.5 section 6.2",
)
ORDER = FindingKind(
    id="DS-ORDER",
    title="Elements out of order",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Honest files are hardly ever out of order; published polyglots are.",
    reference="PS3.5 section 7.1",
)
DUPLICATE = FindingKind(
    id="DS-DUP",
    title="Element twice at one level",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why=(
        "Some readers keep the first, others the last: one file can show two patients or two"
        " images. Compare what your viewer and your archive show."
    ),
    reference="CWE-436",
    attack="T1565.001",
)
UNDEFINED = FindingKind(
    id="DS-UNDEF-ILLEGAL",
    title="Undefined length where it is not allowed",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Readers search for the end each in their own way, and fragments hide data from viewers.",
    reference="PS3.5 section 7.1",
)
DELIMITER = FindingKind(
    id="DS-DELIM",
    title="Missing, extra or wrong delimiter",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Some modalities write such files; readers differ in what they make of them.",
    reference="PS3.5 section 7.5",
)
DELIMITER_LENGTH = FindingKind(
    id="GAP-DELIMITER",
    title="Delimiter with a length",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="The field must be zero and readers ignore it: four bytes a delimiter to hide data in.",
    reference="PS3.5 section 7.5",
)
RESERVED = FindingKind(
    id="GAP-RESERVED",
    title="Reserved bytes that are not zero",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Readers ignore them: two bytes an element to hide data in.",
    reference="PS3.5 section 7.1.2",
)
MIXED_VR = FindingKind(
    id="DS-MIXED-VR",
    title="Implicit and explicit VR in one data set",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.STRONG,
    why="Old converters write this; strict readers stop here.",
    reference="PS3.5 section 7.1",
)
NESTING = FindingKind(
    id="DS-NEST",
    title="Sequences nested very deep",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Honest files reach 6 levels. Readers that recurse crash at a few hundred to thousand.",
    reference="CVE-2026-10528, CWE-674",
    attack="T1499.004",
)
GROUP_LENGTH = FindingKind(
    id="DS-GL-ABUSE",
    title="Group length that is no length",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "A group length is four bytes. Readers skip it unseen, and the published PE/DICOM file"
        " keeps its program in one."
    ),
    reference="CVE-2019-11687",
    attack="T1027.009",
)
WIDE = FindingKind(
    id="DS-WIDE",
    title="Sequence of very many items",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Half a million empty items in 4 MB cost readers seconds and hundreds of megabytes.",
    reference="CWE-400",
    attack="T1499.004",
)
BOMB = FindingKind(
    id="DS-DEFLATE-BOMB",
    title="Deflated data set that inflates hundredfold",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers inflate the whole of it at once, whatever it takes. Do not open it elsewhere.",
    reference="CWE-409",
    attack="T1499.004",
)

_KIND_OF = {
    OddityKind.LENGTH_OVERRUN: LENGTH_OVERRUN,
    OddityKind.TRUNCATED: LENGTH_OVERRUN,
    OddityKind.UNKNOWN_VR: UNKNOWN_VR,
    OddityKind.OUT_OF_ORDER: ORDER,
    OddityKind.DUPLICATE: DUPLICATE,
    OddityKind.UNDEFINED_LENGTH: UNDEFINED,
    OddityKind.DELIMITER: DELIMITER,
    OddityKind.DELIMITER_LENGTH: DELIMITER_LENGTH,
    OddityKind.RESERVED_BYTES: RESERVED,
    OddityKind.MIXED_VR: MIXED_VR,
    OddityKind.WIDE: WIDE,
}

_DECISIVE_TAGS = frozenset(
    (
        0x00080005,  # Specific Character Set
        0x00080016,  # SOP Class UID
        0x00080018,  # SOP Instance UID
        0x00100010,  # Patient's Name
        0x00100020,  # Patient ID
        0x0020000D,  # Study Instance UID
        0x00280002,  # Samples per Pixel
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280100,  # Bits Allocated
        0x00280101,  # Bits Stored
        0x00280102,  # High Bit
        0x7FE00010,  # Pixel Data
    )
)
"""Identity, geometry and pixels: a second one of these makes a second patient or image."""

_HUGE_OVERRUN = 64 << 20
_SMALL_FILE = 1 << 20
_DEEP, _DANGEROUS = 16, 64
_BOMB_RATIO, _BOMB_BYTES, _BOMB_DANGEROUS = 200, 64 << 20, 1 << 30


class StructureDetector:
    """Oddities of the walk, nesting and group lengths; one finding a kind, with a count."""

    kinds = (*_KIND_OF.values(), NESTING, GROUP_LENGTH, BOMB)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at how the data set is built."""
        layout = source.layout
        groups: dict[FindingKind, list[Oddity]] = defaultdict(list)
        for odd in layout.oddities:
            if odd.kind in _KIND_OF:
                groups[_graded(source, odd)].append(odd)
        for kind, odds in groups.items():
            first = odds[0]
            owner = _element_at(source, first.offset) or first.owner
            yield _at(source, kind, first.offset, owner, len(odds))
        if layout.depth > _DEEP:
            severity = Severity.HIGH if layout.depth > _DANGEROUS else Severity.MEDIUM
            start = layout.elements[0].start
            kind = replace(NESTING, severity=severity)
            yield source.finding(kind, start, layout.size, detail=f"{layout.depth} levels")
        inflated = layout.inflated
        if inflated and inflated.size > max(_BOMB_BYTES, _BOMB_RATIO * inflated.length):
            is_huge = inflated.size > _BOMB_DANGEROUS
            kind = replace(BOMB, severity=Severity.HIGH) if is_huge else BOMB
            detail = f"{inflated.length} bytes make about {inflated.size}"
            start = inflated.offset
            yield source.finding(kind, start, start + inflated.length, detail=detail)
        yield from first_of(source, GROUP_LENGTH, layout.derived(_abused))


def _abused(layout: Layout) -> list[Element]:
    return [each for each in layout.of(_is_group_length) if _is_abused(each)]


@by_sort
def _is_group_length(sort: Sort) -> bool:
    return not sort.element


def _graded(source: Source, odd: Oddity) -> FindingKind:
    """The kind of finding an oddity makes, as severe as its circumstances."""
    kind = _KIND_OF[odd.kind]
    if kind is DUPLICATE and isinstance(odd.owner, Element):
        if _repeats_the_first(source, odd.owner):
            return replace(kind, category=Category.CONFORMANCE, severity=Severity.LOW)
        if odd.owner.tag in _DECISIVE_TAGS:
            return replace(kind, severity=Severity.HIGH)
    if odd.kind in (OddityKind.LENGTH_OVERRUN, OddityKind.TRUNCATED):
        size = source.layout.size
        if odd.amount > _HUGE_OVERRUN and size < _SMALL_FILE and not _is_cut_image(source, odd):
            return replace(kind, severity=Severity.HIGH)
        if odd.kind is OddityKind.TRUNCATED:
            return replace(kind, category=Category.CONFORMANCE, severity=Severity.LOW)
    return kind


def _repeats_the_first(source: Source, second: Element) -> bool:
    """Whether a root element is a copy of the first of its tag, byte for byte."""
    first = source.layout.root.get(second.tag)
    return (
        first is not None
        and second.parent is None
        and first.end - first.value == second.end - second.value
        and source.data[first.value : first.end] == source.data[second.value : second.end]
    )


def _is_cut_image(source: Source, odd: Oddity) -> bool:
    """Whether what is missing is pixel data, and no more than the image has."""
    last = source.layout.elements[-1] if source.layout.elements else None
    if last is None or last.start != odd.offset or last.tag != PIXEL_DATA:
        return False
    expected = image_bytes(source.data, source.layout.root)
    return expected is not None and last.declared <= expected + 1


def _at(
    source: Source, kind: FindingKind, offset: int, owner: Element | Item | None, count: int
) -> Finding:
    size = source.layout.size
    offset = min(offset, size - 1)
    end = min(offset + 8, size)
    region = source.layout.span_at(offset).region
    return source.finding(
        kind, offset, end, detail=_times(count), region=region, owner=owner, count=count
    )


def _element_at(source: Source, offset: int) -> Element | None:
    """The element that starts at an offset."""
    elements = source.layout.elements
    index = bisect_left(elements, offset, key=attrgetter("start"))
    found = elements[index] if index < len(elements) else None
    return found if found and found.start == offset else None


def _is_abused(element: Element) -> bool:
    return element.declared != 4 or element.vr not in ("UL", "UN")


def _times(count: int) -> str:
    return f"{count} times, first here" if count > 1 else ""
