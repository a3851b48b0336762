"""Tables beside the pixels: palettes, lookup tables, overlays and waveforms, and their lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from struct import pack, unpack

from msgspec.structs import replace

from dicomguard.codecs import segmented
from dicomguard.detectors.grouping import Hit, first_hits
from dicomguard.detectors.image import PHOTOMETRIC, Level, levels
from dicomguard.detectors.syntaxes import NATIVE
from dicomguard.dicom.layout import Element, Sort, by_sort
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import TEXT_VRS
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity

PALETTE = FindingKind(
    id="PIX-PALETTE",
    title="Palette that is not as long as its descriptor says",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Readers copy as many entries as the descriptor says, or look up a pixel beyond them.",
    reference="CVE-2024-22391, CVE-2026-5443, CVE-2026-5445, CWE-125",
    attack="T1203",
)
SEGMENTED = FindingKind(
    id="PIX-SEGLUT",
    title="Segmented palette that cannot be expanded",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Unpatched readers follow segments beyond the data and write beyond the table.",
    reference="PS3.3 section C.7.9.2, CWE-125",
    attack="T1203",
)
MODALITY_TABLE = FindingKind(
    id="PIX-MODLUT",
    title="Modality LUT shorter than its descriptor says",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Readers look up entries that are not there.",
    reference="PS3.3 section C.11.1.1, CWE-125",
    attack="T1203",
)
VALUE_TABLE = replace(
    MODALITY_TABLE,
    id="PIX-VOILUT",
    title="VOI or presentation LUT shorter than its descriptor says",
    reference="CVE-2024-28130, PS3.3 section C.11.2.1.1, CWE-125",
)
OVERLAY = FindingKind(
    id="PIX-OVERLAY",
    title="Overlay shorter than its rows and columns",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Readers that copy rows times columns read beyond the end of the value.",
    reference="CVE-2025-52582, CWE-125",
    attack="T1203",
)
WAVEFORM = FindingKind(
    id="PIX-WAVE",
    title="Waveform data shorter than its channels and samples",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers that copy channels times samples read beyond the end of the value.",
    reference="PS3.3 section C.10.9, CWE-125",
)

_CHANNELS = tuple((0x00281101 + n, 0x00281201 + n, 0x00281221 + n) for n in range(3))
"""Descriptor, data and segmented data of red, green and blue."""
_DESCRIPTORS = tuple(channel[0] for channel in _CHANNELS)
_PALETTE_UID = 0x00281199
_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006
_MODALITY_SEQUENCE = 0x00283000
_OVERLAYS = range(0x6000, 0x6020, 2)
_OVERLAY_DATA = frozenset(group << 16 | 0x3000 for group in _OVERLAYS)
_WAVE_CHANNELS, _WAVE_SAMPLES, _WAVE_BITS = 0x003A0005, 0x003A0010, 0x54001004
_WAVE_DATA = 0x54001010
_TABLES = frozenset(
    (*chain.from_iterable(_CHANNELS), _LUT_DESCRIPTOR, _LUT_DATA, *_OVERLAY_DATA, _WAVE_DATA)
)
"""Without one of them nothing but a palette can be wrong, which is not there."""
_DESCRIPTOR_BYTES = 6
_ENTRY_BITS = 16
_OFF_BY = 2
"""Entries by which honest descriptors are wrong."""
_SEGMENT_BYTES = 1 << 18
_SAMPLED_BYTES = 1 << 22
_BYTE_VALUES = 256

Check = Callable[[Level], Iterator[Hit]]


def _noted(kind: FindingKind) -> FindingKind:
    return replace(kind, category=Category.CONFORMANCE, severity=Severity.MEDIUM)


def _descriptor(level: Level, element: Element | None) -> tuple[int, int, int] | None:
    """Entries, first mapped value and bits (PS3.3 C.7.6.3.1.5); 0 entries stand for 65,536."""
    words = level.words(element) if element else ()
    if element is None or element.end - element.value < _DESCRIPTOR_BYTES or len(words) < 3:
        return None
    return words[0] or segmented.ENTRIES, words[1], words[2]


def _is_short(element: Element, entries: int, bits: int) -> bool:
    """Whether a table has neither a byte nor a word for each entry, by more than a slip."""
    stored = element.end - element.value
    if _is_cut(element):
        return False
    if bits <= 8 or stored <= entries + 1:
        return stored < entries - _OFF_BY
    return stored < 2 * (entries - _OFF_BY)


def _no_palette(level: Level) -> Iterator[Hit]:
    """PALETTE COLOR has one (PS3.3 C.7.6.3.1.2)."""
    photometric = level.get(PHOTOMETRIC)
    if (
        photometric is not None
        and level.pixels is not None
        and not any(tag in level.elements for tag in (*_DESCRIPTORS, _PALETTE_UID))
        and level.text(PHOTOMETRIC) == "PALETTE COLOR"
    ):
        yield Hit.at(_noted(PALETTE), photometric, "no palette")


def _palettes(level: Level) -> Iterator[Hit]:
    """Palette descriptors against the three palettes (PS3.3 C.7.6.3.1.5 and 6)."""
    present = [any(tag in level.elements for tag in channel[1:]) for channel in _CHANNELS]
    for (tag, plain, packed), is_present in zip(_CHANNELS, present, strict=True):
        descriptor, table = level.get(tag), level.get(plain)
        if descriptor is None or descriptor.vr in TEXT_VRS or descriptor.end == descriptor.value:
            continue
        said = _descriptor(level, descriptor)
        if said is None:
            detail = f"{(descriptor.end - descriptor.value) // 2} values instead of three"
            yield Hit.at(PALETTE, descriptor, detail)
            continue
        entries, _, bits = said
        if bits > _ENTRY_BITS:
            yield Hit.at(PALETTE, descriptor, f"entries of {bits} bits")
        if not is_present:
            kind = PALETTE if any(present) else _noted(PALETTE)
            yield Hit.at(kind, descriptor, "no table, but for other colours")
        elif table is not None and packed not in level.elements and _is_short(table, entries, bits):
            stored = table.end - table.value
            yield Hit.at(PALETTE, table, f"{entries} entries of {bits} bits in {stored} bytes")


def _unlike_palettes(level: Level) -> Iterator[Hit]:
    """All palettes have as many entries (PS3.3 C.7.6.3.1.5): readers allocate by the first."""
    said = [_descriptor(level, level.get(tag)) for tag in _DESCRIPTORS]
    counts = [each[0] for each in said if each is not None]
    element = level.get(_DESCRIPTORS[0])
    if element is not None and max(counts, default=0) - min(counts, default=0) > _OFF_BY:
        yield Hit.at(PALETTE, element, f"palettes of {' and '.join(map(str, counts))} entries")


def _segments(level: Level) -> Iterator[Hit]:
    """Segmented palettes: each segment in the data, all of them as many as the descriptor says."""
    for tag, _, packed in _CHANNELS:
        element, said = level.get(packed), _descriptor(level, level.get(tag))
        if element is None or said is None or element.end == element.value or _is_cut(element):
            continue
        raw = level.source.data[element.value : min(element.end, element.value + _SEGMENT_BYTES)]
        order = ">" if element.big_endian else "<"
        words = unpack(f"{order}{len(raw) // 2}H", raw[: len(raw) & ~1])
        problems = [_problem(words, 2, said[0])]
        if said[2] <= 8:
            problems.append(_problem(pack(f"<{len(words)}H", *words), 1, said[0]))
        if all(problems):
            yield Hit.at(SEGMENTED, element, problems[-1])


def _problem(values: Sequence[int], width: int, expected: int) -> str:
    """What is wrong with segmented data, empty if nothing is."""
    try:
        entries = segmented.entries(values, width)
    except segmented.SegmentError as error:
        return str(error)
    return "" if entries == expected else f"{entries} entries, the descriptor says {expected}"


def _beyond_palette(level: Level) -> Iterator[Hit]:
    """Pixels that no palette entry is for, by far: readers index the table by them."""
    pixels, said = level.get(PIXEL_DATA), _descriptor(level, level.get(_CHANNELS[0][0]))
    is_native = level.source.file.transfer_syntax in NATIVE
    if pixels is None or said is None or not is_native or level.number(0x00280100) != 8:
        return
    limit = 2 * (said[0] + said[1])
    if limit < _BYTE_VALUES and level.text(PHOTOMETRIC) == "PALETTE COLOR":
        raw = level.source.data[pixels.value : min(pixels.end, pixels.value + _SAMPLED_BYTES)]
        if raw.translate(None, bytes(range(limit))):
            yield Hit.at(PALETTE, pixels, f"pixels beyond twice the {said[0]} entries")


def _lookup(level: Level) -> Iterator[Hit]:
    """Modality, VOI and presentation LUT descriptors against their data (PS3.3 C.11)."""
    descriptor, table = level.get(_LUT_DESCRIPTOR), level.get(_LUT_DATA)
    if descriptor is None or table is None or level.parent is None or table.vr in TEXT_VRS:
        return
    is_modality = level.parent.container.tag == _MODALITY_SEQUENCE
    kind = MODALITY_TABLE if is_modality else VALUE_TABLE
    said = _descriptor(level, descriptor)
    if said is None or table.end == table.value:
        yield Hit.at(_noted(kind), descriptor, "no three values, or no data")
    elif _is_short(table, said[0], said[2]):
        detail = f"{said[0]} entries of {said[2]} bits in {table.end - table.value} bytes"
        yield Hit.at(kind, table, detail)


def _overlays(level: Level) -> Iterator[Hit]:
    """Overlay Data has a bit for each pixel (PS3.5 section 8.1.2); one row less is a slip."""
    if _OVERLAY_DATA.isdisjoint(level.elements):
        return
    for group in _OVERLAYS:
        overlay = level.get(group << 16 | 0x3000)
        rows, columns = level.number(group << 16 | 0x0010), level.number(group << 16 | 0x0011)
        if overlay is None or not rows or not columns or _is_cut(overlay):
            continue
        stored = overlay.end - overlay.value
        one = (rows * columns + 7) // 8
        frames = level.number(group << 16 | 0x0015) or 1
        if stored >= (rows * columns * frames + 7) // 8:
            continue
        has_reason = not stored or stored + (columns + 7) // 8 + 1 >= one
        kind = _noted(OVERLAY) if has_reason else OVERLAY
        yield Hit.at(kind, overlay, f"{frames} x {rows} x {columns} bits in {stored} bytes")


def _waveforms(level: Level) -> Iterator[Hit]:
    """Waveform Data has a sample for each channel and time (PS3.3 C.10.9.1)."""
    element = level.get(_WAVE_DATA)
    channels, samples = level.number(_WAVE_CHANNELS), level.number(_WAVE_SAMPLES)
    bits = level.number(_WAVE_BITS)
    if element is None or not channels or not samples or not bits or _is_cut(element):
        return
    expected = channels * samples * bits // 8
    if element.end - element.value < expected:
        detail = f"{channels} x {samples} x {bits} bits in {element.end - element.value} bytes"
        yield Hit.at(WAVEFORM, element, detail)


CHECKS: tuple[Check, ...] = (
    _no_palette,
    _palettes,
    _unlike_palettes,
    _segments,
    _beyond_palette,
    _lookup,
    _overlays,
    _waveforms,
)


class TableDetector:
    """Tables, overlays and waveforms of the data set and of every item."""

    kinds = (PALETTE, SEGMENTED, MODALITY_TABLE, VALUE_TABLE, OVERLAY, WAVEFORM)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Hold every table to its descriptor."""
        checks = CHECKS if source.layout.of(_is_table) else (_no_palette,)
        hits = (hit for level in levels(source) for check in checks for hit in check(level))
        yield from first_hits(source, hits)


@by_sort
def _is_table(sort: Sort) -> bool:
    return sort.tag in _TABLES


def _is_cut(element: Element) -> bool:
    """Whether what contains the element ends before it does."""
    return element.declared > element.end - element.value
