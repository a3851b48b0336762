"""Headers of compressed frames, walked and never decoded, against the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

from msgspec import Struct
from msgspec.structs import replace

from dicomguard.codecs import rle
from dicomguard.codecs.header import FlawKind, Header
from dicomguard.detectors.grouping import Hit, first_hits
from dicomguard.detectors.image import ALLOCATED, COLUMNS, ROWS, SAMPLES, Level, levels
from dicomguard.detectors.syntaxes import (
    JPEG,
    JPEG_2000,
    JPEG_LS,
    JPEG_XL,
    RLE,
    Codec,
    Fragment,
    codec_of,
    starts_codestream,
    table_and_frames,
)
from dicomguard.dicom.layout import Data, Element, Item
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity

JPEG_FRAME = FindingKind(
    id="PIX-JPEG",
    title="JPEG header that contradicts the data set or itself",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "Viewers allocate by the data set and decode by the codestream: what is decoded does not"
        " fit. No encoder writes such a header."
    ),
    reference="CVE-2025-53618, CVE-2025-53619, DCMTK issue 1190, CWE-787",
    attack="T1203",
)
JPEG_LS_FRAME = replace(
    JPEG_FRAME,
    id="PIX-JPEGLS",
    title="JPEG-LS header that contradicts the data set or itself",
    reference="CVE-2025-2357, CWE-787",
)
JPEG_2000_FRAME = replace(
    JPEG_FRAME,
    id="PIX-J2K",
    title="JPEG 2000 header that contradicts the data set or itself",
    reference="CVE-2024-22373, CWE-787",
)
JPEG_XL_FRAME = replace(
    JPEG_FRAME,
    id="PIX-JXL",
    title="JPEG XL header that contradicts the data set or itself",
    reference="CWE-787",
)
RLE_FRAME = FindingKind(
    id="PIX-RLE",
    title="RLE segments that cannot be those of the image",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "Decoders divide by the number of segments, index a table of 15 by it, or write as far as"
        " a segment expands."
    ),
    reference="CVE-2025-48429, CVE-2025-25475, CWE-787",
    attack="T1203",
)

_KINDS: dict[Codec, FindingKind] = {
    JPEG: JPEG_FRAME,
    JPEG_LS: JPEG_LS_FRAME,
    JPEG_2000: JPEG_2000_FRAME,
    JPEG_XL: JPEG_XL_FRAME,
    RLE: RLE_FRAME,
}
_DECISIVE = frozenset(
    (
        FlawKind.NO_START,
        FlawKind.SECOND_FRAME_HEADER,
        FlawKind.FRAME_HEADER_LENGTH,
        FlawKind.NO_PIXELS,
        FlawKind.COMPONENTS,
        FlawKind.SAMPLING,
        FlawKind.ORIGIN,
        FlawKind.TILES,
        FlawKind.LEVELS,
        FlawKind.SEGMENTS,
        FlawKind.SEGMENT_OFFSET,
    )
)
"""Flaws that crash or mislead decoders; the others honest files have, or decoders refuse."""

_HEAD_BYTES = 256 << 10
"""Of a frame so many bytes are walked; embedded colour profiles reach that size."""
_LEAD_BYTES = 64
"""A codestream may begin so far into its fragment: some writers leave bytes before it."""
_DELIMITER = b"\xfe\xff\xdd\xe0"
_MARKED = (JPEG, JPEG_LS, JPEG_2000)
_END_MARKER = b"\xff\xd9"
_PADDING = 16
"""Bytes behind an end marker that writers leave there, besides zeros."""
_HITS = 1000
"""With more in one file no further frame is walked."""
_ORDERS = 4
"""An image of this many times the pixels is no crop, no padding and no mistake of one bit."""
_RLE_RUNS = 16_384
"""Runs followed in one file to see how far segments expand: a few milliseconds."""
_RLE_SLACK = 128
"""One run: encoders may end with one that is too long."""


class _Frame(Struct, frozen=True):
    """One frame's header and where it lies.

    A header is damaged if a tool that split or joined fragments left a delimiter in it.
    """

    level: Level
    pixels: Element
    codec: Codec
    fragment: Fragment
    header: Header
    is_damaged: bool = False

    def hit(self, detail: str, *, decisive: bool, offset: int = 0) -> Hit:
        """A hit at an offset within the frame."""
        kind = _KINDS[self.codec]
        if not decisive or self.is_damaged:
            kind = replace(kind, category=Category.CONFORMANCE, severity=Severity.MEDIUM)
        start = min(self.fragment.start + offset, max(self.fragment.start, self.fragment.end - 1))
        item = Item(self.pixels, self.fragment.number, self.fragment.start - 8)
        return Hit(kind, item, start, self.fragment.end, detail)


def _flaws(frame: _Frame) -> Iterator[Hit]:
    """What is wrong in the header by itself."""
    for flaw in frame.header.flaws:
        detail = f"{frame.codec.name} {flaw.kind}" + (f": {flaw.detail}" if flaw.detail else "")
        yield frame.hit(detail, decisive=flaw.kind in _DECISIVE, offset=flaw.offset)


def _dimensions(frame: _Frame) -> Iterator[Hit]:
    """Height and width against Rows and Columns; crops and paddings differ by little."""
    high, wide = frame.header.rows, frame.header.columns
    rows, columns = frame.level.number(ROWS), frame.level.number(COLUMNS)
    if not (high and wide and rows and columns) or (high, wide) == (rows, columns):
        return
    one, other = high * wide, rows * columns
    is_far = max(one, other) >= _ORDERS * min(one, other)
    yield frame.hit(f"{high} x {wide}, the data set says {rows} x {columns}", decisive=is_far)


def _components(frame: _Frame) -> Iterator[Hit]:
    """Components, or RLE segments, against Samples per Pixel."""
    count, samples = frame.header.samples, frame.level.number(SAMPLES)
    if not count or not samples:
        return
    if frame.codec is RLE:
        expected = samples * -(-(frame.level.number(ALLOCATED) or 0) // 8)
        if expected and count != expected:
            yield frame.hit(f"{count} segments, the image takes {expected}", decisive=True)
    elif count != samples:
        is_far = count > _ORDERS
        yield frame.hit(f"{count} components, {samples} samples per pixel", decisive=is_far)


def _precision(frame: _Frame) -> Iterator[Hit]:
    """Precision against Bits Allocated; converters round those up to whole bytes."""
    precision, allocated = frame.header.precision, frame.level.number(ALLOCATED)
    if precision and allocated and precision > allocated:
        is_far = frame.codec is JPEG_2000 and precision > -(-allocated // 8) * 8
        yield frame.hit(f"{precision} bits, {allocated} are allocated", decisive=is_far)


CHECKS: tuple[Callable[[_Frame], Iterator[Hit]], ...] = (
    _flaws,
    _dimensions,
    _components,
    _precision,
)


class CodecDetector:
    """Every compressed frame's header, icons included."""

    kinds = tuple(_KINDS.values())

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Walk the headers and hold them to the data set."""
        codec = codec_of(source.file.transfer_syntax)
        if codec is None or codec.read is None:
            return
        hits = (hit for frame in _frames(source, codec) for check in CHECKS for hit in check(frame))
        yield from first_hits(source, islice(hits, _HITS))
        more = _expansion(source) if codec is RLE else _ends(source, codec)
        yield from first_hits(source, islice(more, _HITS))


def _frames(source: Source, codec: Codec) -> Iterator[_Frame]:
    for level in levels(source):
        pixels = level.get(PIXEL_DATA)
        if pixels is not None and pixels.is_container:
            yield from _of_level(level, pixels, codec)


def _of_level(level: Level, pixels: Element, codec: Codec) -> Iterator[_Frame]:
    """The frames of one pixel data; those with the header of the one before are skipped."""
    assert codec.read is not None
    data = level.source.data
    _, parts = table_and_frames(data, pixels, codec)
    is_apart = len(parts) == max(1, level.frames) or (codec is RLE and level.frames > 1)
    last = b""
    for number, part in enumerate(parts):
        if last and data[part.start : part.start + len(last)] == last:
            continue
        start = _start(data, part, codec)
        if number and not is_apart and (start is None or codec is RLE):
            continue  # it goes on with the frame of the fragment before
        start = part.start if start is None else start
        head = data[start : min(part.end, start + _HEAD_BYTES)]
        size = (part.end if is_apart else parts[-1].end) - start
        header = codec.read(head, size)
        if header.flaws and _is_other(data, part, codec):
            continue
        last = head[: header.size]
        is_damaged = _DELIMITER in head[:_LEAD_BYTES]
        yield _Frame(level, pixels, codec, part._replace(start=start), header, is_damaged)


def _start(data: Data, part: Fragment, codec: Codec) -> int | None:
    """Where a codestream begins in a fragment, None if none does."""
    head = data[part.start : min(part.end, part.start + _LEAD_BYTES)]
    if not codec.starts or head.startswith(codec.starts):
        return part.start
    found = min((at for at in map(head.find, codec.starts) if at >= 0), default=None)
    return None if found is None else part.start + found


def _is_other(data: Data, part: Fragment, codec: Codec) -> bool:
    """Whether a frame is of another codec than the transfer syntax says: a wrong label, no more."""
    own = data[part.start : part.start + _LEAD_BYTES].startswith(codec.starts)
    return not own and starts_codestream(data, part)


def _ends(source: Source, codec: Codec) -> Iterator[Hit]:
    """Frames in a fragment each end with an end marker (T.81 B.1.1.3, T.800 A.4.4) and padding."""
    if codec not in _MARKED:
        return
    data = source.data
    for level in levels(source):
        pixels = level.get(PIXEL_DATA)
        if pixels is None or not pixels.is_container:
            continue
        _, parts = table_and_frames(data, pixels, codec)
        for part in parts if len(parts) == max(1, level.frames) else ():
            tail = data[max(part.start, part.end - _LEAD_BYTES) : part.end].rstrip(b"\0")
            if tail and _END_MARKER not in tail[-_PADDING:]:
                frame = _Frame(level, pixels, codec, part, Header())
                detail = f"{codec.name} does not end with its end marker"
                yield frame.hit(detail, decisive=False, offset=part.end - part.start - len(tail))


def _expansion(source: Source) -> Iterator[Hit]:
    """How far the segments of the first and the last frame expand, if they are short enough."""
    data = source.data
    for level in levels(source):
        pixels = level.get(PIXEL_DATA)
        expected = (level.number(ROWS) or 0) * (level.number(COLUMNS) or 0)
        if pixels is None or not pixels.is_container or not expected:
            continue
        _, parts = table_and_frames(data, pixels, RLE)
        if len(parts) != max(1, level.frames):
            continue  # a frame in pieces
        for part in dict.fromkeys((*parts[:1], *parts[-1:])):
            raw = data[part.start : min(part.end, part.start + _HEAD_BYTES)]
            header = rle.read(raw, part.end - part.start)
            if header.flaws or header.samples is None:
                continue
            frame = _Frame(level, pixels, RLE, part, header)
            starts = [*rle.segments(raw), len(raw)]
            for start, end in pairwise(starts):
                surplus = rle.surplus(raw[start:end], expected, _RLE_RUNS // header.samples)
                if surplus > _RLE_SLACK:
                    detail = f"a segment expands {surplus} bytes beyond {expected}"
                    yield frame.hit(detail, decisive=True, offset=start)
