"""Encapsulated pixel data: its fragments and the tables of where frames begin (PS3.5 A.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from struct import unpack_from

from msgspec import Struct
from msgspec.structs import replace

from dicomguard.detectors.grouping import Hit, first_hits
from dicomguard.detectors.image import Level, levels
from dicomguard.detectors.syntaxes import RLE, Codec, Fragment, codec_of, table_and_frames
from dicomguard.dicom.layout import Data, Element, Item
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity

FRAGMENTS = FindingKind(
    id="PIX-FRAG",
    title="Fragments that hold no frame",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "Decoders subtract from a fragment's length or fetch a frame by its number: too short a"
        " fragment, or too few of them, makes them read out of bounds."
    ),
    reference="CVE-2025-11266, CWE-191",
    attack="T1203",
)
BASIC_TABLE = FindingKind(
    id="PIX-BOT",
    title="Basic Offset Table does not fit the fragments",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers that seek by the table read another place than those that walk.",
    reference="PS3.5 section A.4",
)
EXTENDED_TABLE = FindingKind(
    id="PIX-EOT",
    title="Extended Offset Table points outside the pixel data",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Readers trust its 64-bit offsets and lengths to seek and to allocate.",
    reference="PS3.3 section C.7.6.3.1.8, CWE-125",
    attack="T1203",
)

_OFFSETS, _LENGTHS, _TOTAL = 0x7FE00001, 0x7FE00002, 0x7FE00003
_TINY = 4
_END_MARKER = b"\xff\xd9"
_ENTRIES = 1 << 18
"""The most entries of a table that are looked at."""
_FRAGMENTS_NOTED = replace(FRAGMENTS, category=Category.CONFORMANCE, severity=Severity.LOW)


class _Encapsulated(Struct, frozen=True):
    """Pixel data in fragments: ``table`` is the Basic Offset Table, if there is one."""

    level: Level
    pixels: Element
    codec: Codec
    table: Fragment | None
    frames: Sequence[Fragment]

    def hit(self, kind: FindingKind, fragment: Fragment, detail: str) -> Hit:
        """A hit that is all of a fragment, its header included."""
        item = Item(self.pixels, fragment.number, fragment.start - 8)
        return Hit(kind, item, fragment.start - 8, fragment.end, detail)


def _tiny(each: _Encapsulated) -> Iterator[Hit]:
    """A fragment below four bytes, unless it goes on with a frame that the one before left open.

    Encoders that cut frames into pieces of one size may leave so small a rest.
    """
    data = each.level.source.data
    before: Fragment | None = None
    for fragment in each.frames:
        if fragment.declared < _TINY:
            if each.codec is RLE:
                is_rest = before is not None and len(each.frames) > max(1, each.level.frames)
            else:
                is_rest = before is not None and not _is_closed(data, before)
            kind = _FRAGMENTS_NOTED if is_rest else FRAGMENTS
            yield each.hit(kind, fragment, f"a fragment of {fragment.declared} bytes")
        before = fragment


def _is_closed(data: Data, fragment: Fragment) -> bool:
    """Whether a fragment ends with the end marker of a codestream, and its padding."""
    return _END_MARKER in data[max(fragment.start, fragment.end - 4) : fragment.end]


def _odd(each: _Encapsulated) -> Iterator[Hit]:
    """Fragments are of even length (PS3.5 section A.4)."""
    for fragment in each.frames:
        if fragment.declared & 1:
            yield each.hit(_FRAGMENTS_NOTED, fragment, f"{fragment.declared} bytes, an odd number")


def _too_few(each: _Encapsulated) -> Iterator[Hit]:
    """Every frame takes a fragment, where each is a codestream of its own.

    Old writers put all the codestreams into one fragment.
    """
    frames, data = max(1, each.level.frames), each.level.source.data
    if len(each.frames) >= frames or not each.codec.frames_apart or each.level.is_cut:
        return
    starts = each.codec.starts[:1]
    streams = sum(data[one.start : one.end].count(start) for one in each.frames for start in starts)
    kind = FRAGMENTS if streams < frames else _FRAGMENTS_NOTED
    yield Hit.at(kind, each.pixels, f"{len(each.frames)} fragments for {frames} frames")


def _basic_table(each: _Encapsulated) -> Iterator[Hit]:
    """Offsets count from the first fragment, ascend, and name the starts of fragments."""
    table, frames = each.table, each.frames
    if table is None or not table.declared or not frames:
        return
    size = min(table.end - table.start, 4 * _ENTRIES) // 4
    order = ">" if each.pixels.big_endian else "<"
    offsets = unpack_from(f"{order}{size}I", each.level.source.data, table.start)
    first = frames[0].start
    detail = ""
    if table.declared % 4:
        detail = f"{table.declared} bytes are no whole number of offsets"
    elif not {fragment.start - first for fragment in frames}.issuperset(offsets):
        detail = "offsets that are no fragment's"
    elif any(one >= other for one, other in pairwise(offsets)):
        detail = "offsets that do not ascend"
    if detail:
        yield each.hit(BASIC_TABLE, table, detail)


def _extended_table(each: _Encapsulated) -> Iterator[Hit]:
    """As many lengths as offsets, and none beyond the pixel data (PS3.3 C.7.6.3.1.8)."""
    level = each.level
    starts, sizes = level.get(_OFFSETS), level.get(_LENGTHS)
    if starts is None or sizes is None or not each.frames:
        return
    offsets, lengths = (_quads(level, element) for element in (starts, sizes))
    room = each.pixels.end - each.frames[0].start + 8
    if starts.declared != sizes.declared:
        detail = f"{starts.declared} bytes of offsets, {sizes.declared} of lengths"
        yield Hit.at(EXTENDED_TABLE, starts, detail)
    elif any(at >= room for at in offsets) and not level.is_cut:
        yield Hit.at(EXTENDED_TABLE, starts, f"offset {max(offsets)} in {room} bytes")
    elif any(length > room for length in lengths) and not level.is_cut:
        yield Hit.at(EXTENDED_TABLE, sizes, f"length {max(lengths)} in {room} bytes")


def _total(each: _Encapsulated) -> Iterator[Hit]:
    """Encapsulated Pixel Data Value Total Length fits in the file (PS3.3 C.7.6.3.1.8)."""
    element = each.level.get(_TOTAL)
    said = _quads(each.level, element) if element is not None else ()
    is_beyond = any(total > each.level.source.layout.size for total in said)
    if element is not None and is_beyond and not each.level.is_cut:
        yield Hit.at(EXTENDED_TABLE, element, f"{said[0]} bytes of pixel data")


def _quads(level: Level, element: Element) -> tuple[int, ...]:
    count = min((element.end - element.value) // 8, _ENTRIES)
    order = ">" if element.big_endian else "<"
    return unpack_from(f"{order}{count}Q", level.source.data, element.value)


Check = Callable[[_Encapsulated], Iterator[Hit]]
CHECKS: tuple[Check, ...] = (_tiny, _odd, _too_few, _basic_table, _extended_table, _total)


class FragmentDetector:
    """Fragments and offset tables of every encapsulated pixel data, icons included."""

    kinds = (FRAGMENTS, BASIC_TABLE, EXTENDED_TABLE)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Hold fragments to the frames and tables to the fragments."""
        codec = codec_of(source.file.transfer_syntax)
        if codec is None:
            return
        hits = (hit for each in _all(source, codec) for check in CHECKS for hit in check(each))
        yield from first_hits(source, hits)


def _all(source: Source, codec: Codec) -> Iterator[_Encapsulated]:
    for level in levels(source):
        pixels = level.get(PIXEL_DATA)
        if pixels is not None and pixels.is_container:
            table, frames = table_and_frames(source.data, pixels, codec)
            yield _Encapsulated(level, pixels, codec, table, frames)
