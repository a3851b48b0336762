"""File Meta Information (group 0002, PS3.10 section 7.1): the part scanners skip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from struct import pack

from msgspec.structs import replace

from dicomguard.detectors.grouping import first_of
from dicomguard.dicom import dictionary
from dicomguard.dicom.layout import Element, Layout, Sort, by_sort
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import VRS
from dicomguard.dicom.walker import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, TRANSFER_SYNTAX
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity
from dicomguard.regex import regex

NOT_DICOM = FindingKind(
    id="NOT-DICOM",
    title="Not a DICOM file",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="No DICOM structure was recognised; the rules looked at every byte all the same.",
    reference="PS3.10 section 7",
)
NO_DICM = FindingKind(
    id="META-NO-DICM",
    title="Data set without preamble and prefix",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Old archives keep bare data sets; it is not the DICOM file format.",
    reference="PS3.10 section 7.1",
)
COINCIDENCE = FindingKind(
    id="META-DICM-COINCIDENCE",
    title="DICM stands inside a value",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="Readers that look only for the prefix start at the wrong place.",
    reference="PS3.10 section 7.1",
)
GROUP_LENGTH = FindingKind(
    id="META-GL-MISMATCH",
    title="File meta group length is wrong",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="A reader that jumps by this length sees another data set than one that walks.",
    reference="CWE-436",
)
_MISCOUNTED = replace(GROUP_LENGTH, category=Category.CONFORMANCE, severity=Severity.LOW)
"""By this length a reader that jumps comes to no element: such a file fails, and cannot deceive."""
DUPLICATE = FindingKind(
    id="META-DUP",
    title="File meta element twice",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="A second file meta element frees memory twice in unpatched readers.",
    reference="CVE-2024-24793",
    attack="T1203",
)
BAD_VR = FindingKind(
    id="META-BADVR",
    title="File meta element with a wrong value representation",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Unpatched readers allocate or read by a length they take from the wrong field.",
    reference="CVE-2026-3650, CVE-2026-5437",
    attack="T1203",
)
NO_SYNTAX = FindingKind(
    id="META-TS-MISSING",
    title="No transfer syntax",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers guess, each in its own way, or crash.",
    reference="CVE-2024-23912",
)
UNKNOWN_SYNTAX = FindingKind(
    id="META-TS-UNKNOWN",
    title="Transfer syntax that DICOM does not know",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers guess how the data set is encoded.",
    reference="PS3.6 annex A",
)
FALSE_SYNTAX = FindingKind(
    id="META-TS-LIE",
    title="Data set is not encoded as its transfer syntax says",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Some readers believe the file meta, others the data: they see different files.",
    reference="CWE-436",
)
PRIVATE = FindingKind(
    id="META-PRIVATE",
    title="Private or unknown information in file meta",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why=(
        "Every reader accepts it and hardly any file has it; scanners that begin at the data set"
        " never see it. Ask the source what it is for."
    ),
    reference="PS3.10 section 7.1",
    attack="T1027.009",
)
CLASS_MISMATCH = FindingKind(
    id="META-UID-MISMATCH",
    title="File meta names another object than the data set",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="An archive that files by one and a viewer that reads by the other disagree.",
    reference="PS3.10 section 7.1",
)
INJECTION = FindingKind(
    id="META-AE-INJECT",
    title="Command or address text in file meta",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="AE titles and presentation addresses are copied into logs, file names and requests.",
    reference="CWE-78, CWE-918",
)
MISPLACED = FindingKind(
    id="META-IN-DATASET",
    title="File meta or command element in the data set",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers that look again take the transfer syntax from here.",
    reference="PS3.10 section 7.1, PS3.7 section 6.3",
)

_INSTANCE_MISMATCH = replace(CLASS_MISMATCH, category=Category.INVENTORY, severity=Severity.INFO)
_OTHER_VR = replace(BAD_VR, category=Category.CONFORMANCE, severity=Severity.LOW)
"""A VR of the standard, but not this element's: untidy, and no reader's undoing."""

_SMALL_PRIVATE = replace(PRIVATE, category=Category.INVENTORY, severity=Severity.INFO)

_KNOWN = frozenset(
    (
        *(0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0012, 0x0013, 0x0016, 0x0017, 0x0018),
        *(0x0026, 0x0027, 0x0028),
        *range(0x0031, 0x0039),
        *(0x0100, 0x0102),
    )
)
_NOT_HERE = (0x0000, 0x0002)
"""Groups that belong before the data set, or in no file."""
_PRIVATE_INFORMATION = 0x00020102
_LARGE = 1024
_TITLES_AND_ADDRESSES = (
    *(0x00020016, 0x00020017, 0x00020018),
    *(0x00020026, 0x00020027, 0x00020028),
)
_INJECTED = regex(
    rb"[;&|`<>]|\$\(|\.\./|\.\.\\|(?i:javascript:|vbscript:|data:|file:|ldap:|jndi:|cmd\.exe)"
)


class FileMetaDetector:
    """Whether the file meta is what it must be, and whether the data set keeps to it."""

    kinds = (
        *(NOT_DICOM, NO_DICM, COINCIDENCE, GROUP_LENGTH, DUPLICATE, BAD_VR, NO_SYNTAX),
        *(UNKNOWN_SYNTAX, FALSE_SYNTAX, PRIVATE, CLASS_MISMATCH, INJECTION, MISPLACED),
    )

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at the file meta, and at the data set for what belongs there."""
        yield from _misplaced(source)
        if not source.is_file:
            return
        layout = source.layout
        if not layout.is_dicom:
            size = layout.size
            yield source.finding(NOT_DICOM, 0, size, region=Region.GAP)
            return
        if not layout.has_preamble:
            kind = COINCIDENCE if source.data[128:132] == b"DICM" else NO_DICM
            region = layout.span_at(0).region
            yield source.finding(kind, 0, min(132, layout.size), region=region)
        meta = layout.of(_is_meta)
        if meta:
            yield from _elements(source, meta)
            yield from _group_length(source, meta)
            yield from _identity(source)
        if meta or layout.has_preamble:
            yield from _transfer_syntax(source, meta)


@by_sort
def _is_meta(sort: Sort) -> bool:
    return sort.region is Region.META


@by_sort
def _is_stranger(sort: Sort) -> bool:
    return sort.group in _NOT_HERE and sort.region is not Region.META


def _misplaced(source: Source) -> Iterator[Finding]:
    strangers = source.layout.of(_is_stranger)
    meta_end = max((each.end for each in source.layout.of(_is_meta)), default=0)
    if strangers and strangers[0].group == 0x0002 and strangers[0].start == meta_end:
        broken, *strangers = strangers
        yield from first_of(source, BAD_VR, (broken,), "file meta cannot be read beyond it")
    yield from first_of(source, MISPLACED, strangers)


def _elements(source: Source, meta: list[Element]) -> Iterator[Finding]:
    injected = [
        each
        for each in source.layout.of(_may_be_shown)
        if _INJECTED.search(source.data[each.value : min(each.end, each.value + _LARGE)])
    ]
    hits = [*source.layout.derived(_flaws), (INJECTION, injected)]
    for kind, elements in hits:
        if elements:
            first = elements[0]
            detail = f"VR {first.vr}, {first.end - first.value} bytes"
            yield from first_of(source, kind, elements, detail)
    if all(element.implicit for element in meta):
        yield from first_of(source, _OTHER_VR, meta[:1], "implicit VR throughout")


def _flaws(layout: Layout) -> list[tuple[FindingKind, list[Element]]]:
    """What is wrong with elements, whatever their values are."""
    meta = layout.of(_is_meta)
    is_implicit = all(element.implicit for element in meta)
    seen: set[int] = set()
    flaws: dict[FindingKind, list[Element]] = defaultdict(list)
    for element in meta:
        if element.tag in seen:
            flaws[DUPLICATE].append(element)
        seen.add(element.tag)
        flaw = BAD_VR if element.implicit and not is_implicit else _of_vr(element.sort)
        if flaw is not None:
            flaws[flaw].append(element)
        if _may_be_private(element.sort):
            is_small = element.element in _KNOWN and element.end - element.value <= _LARGE
            flaws[_SMALL_PRIVATE if is_small else PRIVATE].append(element)
    return list(flaws.items())


@by_sort
def _may_be_shown(sort: Sort) -> bool:
    return sort.tag in _TITLES_AND_ADDRESSES and sort.region is Region.META


@by_sort
def _of_vr(sort: Sort) -> FindingKind | None:
    """What is wrong with the VR of an element; None if nothing is."""
    if sort.vr in (dictionary.public_vr(sort.tag) or sort.vr, "UN"):
        return None
    return BAD_VR if sort.vr.encode() not in VRS else _OTHER_VR


@by_sort
def _may_be_private(sort: Sort) -> bool:
    return sort.element not in _KNOWN or sort.tag == _PRIVATE_INFORMATION


def _group_length(source: Source, meta: list[Element]) -> Iterator[Finding]:
    declared = source.layout.number(source.data, 0x00020000)
    if declared is None or meta[0].tag != 0x00020000:
        return
    actual = meta[-1].end - meta[0].end
    is_cut = meta[-1].end == source.layout.size or source.layout.limits
    if declared != actual and not is_cut:
        kind = GROUP_LENGTH if _is_element(source, meta[0].end + declared) else _MISCOUNTED
        detail = f"says {declared} bytes, holds {actual}"
        yield source.finding(kind, meta[0].start, meta[0].end, detail=detail)


def _is_element(source: Source, offset: int) -> bool:
    """Whether a reader that jumps to an offset finds an element there."""
    if source.data[offset + 4 : offset + 6] in VRS:
        return True
    return any(element.start == offset for element in source.layout.elements)


def _identity(source: Source) -> Iterator[Finding]:
    inflated = source.layout.inflated
    data = inflated.data if inflated else source.data
    dataset = inflated.layout if inflated else source.layout
    pairs = (
        (0x00020002, 0x00080016, "SOP Class UID", CLASS_MISMATCH),
        (0x00020003, 0x00080018, "SOP Instance UID", _INSTANCE_MISMATCH),
    )
    for in_meta, in_dataset, name, kind in pairs:
        one, other = source.layout.text(source.data, in_meta), dataset.text(data, in_dataset)
        if one and other and one != other:
            element = source.layout.root[in_meta]
            yield source.finding(kind, element.value, element.end, detail=f"{name} differs")


def _transfer_syntax(source: Source, meta: list[Element]) -> Iterator[Finding]:
    layout, syntax = source.layout, source.layout.transfer_syntax
    if not syntax:
        if meta:
            yield source.finding(NO_SYNTAX, meta[0].start, meta[-1].end, region=Region.META)
        else:
            yield source.finding(NO_SYNTAX, 128, 132)
        return
    element = layout.root[TRANSFER_SYNTAX]
    if not dictionary.is_transfer_syntax(syntax):
        yield source.finding(UNKNOWN_SYNTAX, element.value, element.end)
        return
    if not (layout.inflated or any(each.region is not Region.META for each in layout.elements)):
        return  # there is no data set to compare with
    says = _encoding(syntax == IMPLICIT_LITTLE, syntax == EXPLICIT_BIG, syntax in DEFLATED)
    big_endian = layout.big_endian is not _is_swapped(layout)
    shows = _encoding(layout.implicit, big_endian, layout.inflated is not None)
    if says != shows:
        detail = f"says {says}, is {shows}"
        yield source.finding(FALSE_SYNTAX, element.value, element.end, detail=detail)


def _is_swapped(layout: Layout) -> bool:
    """Whether only the other byte order makes the first element one of the standard."""
    first = next((each for each in layout.elements if each.region is not Region.META), None)
    if first is None or dictionary.public_vr(first.tag) or first.is_private or layout.inflated:
        return False
    halves = pack("<HH", first.group, first.element)
    return dictionary.public_vr(int.from_bytes(halves)) is not None


def _encoding(implicit: bool, big_endian: bool, deflated: bool) -> str:
    if deflated:
        return "deflated"
    return f"{'implicit' if implicit else 'explicit'} VR {'big' if big_endian else 'little'} endian"
