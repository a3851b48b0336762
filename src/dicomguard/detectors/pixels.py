"""Pixel data and the numbers that describe it: what makes a viewer read or write out of bounds.

All sums are Python's, so that nothing overflows here. What honest files were seen to do, or have a
reason to, is conformance; only what no working encoder writes counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from dicomguard.detectors.grouping import Hit, first_hits
from dicomguard.detectors.image import (
    ALLOCATED,
    COLUMNS,
    FRAMES,
    HIGH_BIT,
    PHOTOMETRIC,
    PIXELS,
    ROWS,
    SAMPLES,
    STORED,
    Level,
    levels,
)
from dicomguard.detectors.syntaxes import (
    JPIP,
    NATIVE,
    STARTS,
    codec_of,
    fragments,
    starts_codestream,
)
from dicomguard.dicom.layout import UNDEFINED_LENGTH, Element, text_of
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import PIXEL_DATA
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity
from dicomguard.regex import regex

OVERFLOW = FindingKind(
    id="PIX-OVERFLOW",
    title="Image dimensions whose product overflows",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "The product of rows, columns, samples, bytes and frames passes 2 GiB and next to nothing"
        " is stored: a reader that multiplies in 32 bits allocates too little and writes beyond it."
    ),
    reference="CVE-2015-8396, CVE-2026-5442, CVE-2026-5443, CWE-190",
    attack="T1203",
)
SHORTER = FindingKind(
    id="PIX-SHORTER",
    title="Pixel data shorter than the image",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.STRONG,
    why="Readers that copy rows times columns read beyond the end of the value.",
    reference="CVE-2024-25569, CVE-2024-47796, CVE-2025-9732, CWE-125",
    attack="T1203",
)
BITS = FindingKind(
    id="PIX-BITS",
    title="Bits of a pixel contradict each other",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="A high bit outside the pixel shifts and masks out of range when values are scaled.",
    reference="CVE-2024-52333, CVE-2025-25474",
    attack="T1203",
)
INTERPRETATION = FindingKind(
    id="PIX-PI",
    title="Photometric interpretation contradicts the samples",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers choose their conversion by one and their buffer by the other.",
    reference="CVE-2025-53618, CVE-2025-53619",
)
FRAME_COUNT = FindingKind(
    id="PIX-FRAMES",
    title="Number of Frames that cannot be",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="Readers multiply or divide by it.",
    reference="PS3.3 section C.7.6.6",
)
ENCAPSULATION = FindingKind(
    id="PIX-ENC-NATIVE",
    title="Pixel data is not stored as the transfer syntax says",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "Native data where fragments belong, or fragments where native data does: a decoder is"
        " given bytes that are neither a codestream nor an image."
    ),
    reference="PS3.5 section A.4, CWE-843",
    attack="T1203",
)
TWO_IMAGES = FindingKind(
    id="PIX-DUP",
    title="More than one pixel data element in one image",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Viewers differ in which of them they show: one file with two images.",
    reference="PS3.3 section C.7.6.24, CWE-436",
    attack="T1565.001",
)
EXPANSION = FindingKind(
    id="PIX-BOMB",
    title="Compressed image that expands a thousandfold",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="Whoever decodes it needs the memory of the image, however small the file is.",
    reference="CWE-409",
    attack="T1499.004",
)
VIDEO = FindingKind(
    id="PIX-VIDEO",
    title="Playlist in place of a video",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Players fetch what a playlist names: files of the machine, or addresses in the network.",
    reference="CWE-918, CWE-73",
    attack="T1204.002",
)
NETPBM = FindingKind(
    id="PIX-PAM",
    title="Netpbm header in pixel data with dimensions that overflow",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Servers that recognise the header in a value believe its width and height.",
    reference="CVE-2026-5444",
    attack="T1190",
)
ELSCINT = FindingKind(
    id="PIX-PMSCT",
    title="PMSCT_RLE1 data that ends within a run",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="The decoder reads the count and the value of the run behind the end of the data.",
    reference="CVE-2026-5441",
    attack="T1190",
)
REMOTE = FindingKind(
    id="PIX-JPIP",
    title="Pixel data is fetched from an address in the file",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="Whoever opens the file asks that address, from inside the network. See where it points.",
    reference="PS3.5 section A.6, CWE-918",
    attack="T1204.002",
)

Check = Callable[[Level], Iterator[Hit]]

_SHORTER_NOTED = replace(SHORTER, category=Category.CONFORMANCE, severity=Severity.MEDIUM)
_BITS_NOTED = replace(BITS, category=Category.CONFORMANCE, severity=Severity.MEDIUM)
_ENCAPSULATION_NOTED = replace(
    ENCAPSULATION, category=Category.CONFORMANCE, severity=Severity.MEDIUM
)

_OVERFLOWS = 1 << 31
_NO_ENCODERS = 4096
"""No encoder makes an image of more than 2 GiB this many times smaller."""
_LARGE, _THOUSANDFOLD = 256 << 20, 1000
_PLACEHOLDER = 256
"""Test data and anonymisers leave so few bytes, or none, in place of an image."""
_MULTIPLES = range(2, 9)
_ALLOCATED_BITS = frozenset((1, 8, 12, 16, 24, 32, 64))
_SAMPLE_COUNTS = frozenset((1, 3, 4))
_SAMPLES_OF = {
    "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "HSV": 3, "ARGB": 4,
    "CMYK": 4, "YBR_FULL": 3, "YBR_FULL_422": 3, "YBR_PARTIAL_422": 3, "YBR_PARTIAL_420": 3,
    "YBR_ICT": 3, "YBR_RCT": 3, "XYB": 3,
}  # fmt: skip
_COMPRESSION_CODE: Final = 0x00280060
_PROVIDER_URL: Final = 0x00287FE0
_PMSCT_NAME, _PMSCT_DATA = 0x07A11011, 0x07A1100A
_PMSCT_RUNS = regex(rb"(?:[^\xa5]++|\xa5..)*+", re.DOTALL)
"""Literals, and runs of an escape, a count and a value."""
_PLAYLIST = regex(rb"\s{0,16}(?:#EXTM3U|ffconcat version|concat:|#EXT-X-)")
_NETPBM_HEADER = regex(
    rb"P7\n(?:[A-Z#][^\n]*\n){0,4}?WIDTH (\d{1,12})\n(?:[A-Z#][^\n]*\n){0,4}?HEIGHT (\d{1,12})\n"
    rb"|P[456]\s(?:#[^\n]*\n)?\s*(\d{1,12})\s+(\d{1,12})\s"
)


def _overflow(level: Level) -> Iterator[Hit]:
    """Rows x Columns x Samples x Bytes x Frames in arbitrary precision."""
    pixels = level.pixels
    if pixels is None or not level.frame_bits:
        return
    frame = (level.frame_bits + 7) // 8
    image = frame * max(1, level.frames)
    stored = _stored(pixels)
    is_emptied = stored <= _PLACEHOLDER or level.is_cut
    overflows = frame >= _OVERFLOWS or (image >= _OVERFLOWS and not is_emptied)
    if overflows and stored * _NO_ENCODERS < image:
        yield Hit.at(OVERFLOW, pixels, f"an image of {image} bytes, {stored} are stored")


def _expansion(level: Level) -> Iterator[Hit]:
    """How much larger the image is than what is stored of it."""
    pixels = level.pixels
    if pixels is not None and pixels.is_container and not level.is_cut:
        image = level.frame_bits * max(1, level.frames) // 8
        if image >= _LARGE and 0 < _stored(pixels) * _THOUSANDFOLD < image:
            yield Hit.at(EXPANSION, pixels, f"an image of {image} bytes in {_stored(pixels)}")


def _shorter(level: Level) -> Iterator[Hit]:
    """Native pixel data against the image (PS3.5 section 8.1.1)."""
    pixels = level.get(PIXEL_DATA)
    if pixels is None or pixels.is_container or not _is_native(level):
        return
    stored, expected = _stored(pixels), (level.frame_bits * max(1, level.frames) + 7) // 8
    photometric = level.text(PHOTOMETRIC)
    if "_422" in photometric:
        expected = expected * 2 // 3
    elif "_420" in photometric:
        expected //= 2
    if stored >= expected - 1:
        return
    is_multiple = any(expected - 1 <= stored * times <= expected + times for times in _MULTIPLES)
    frame = (level.frame_bits + 7) // 8
    has_reason = (
        stored <= _PLACEHOLDER
        or stored * 2 >= expected
        or is_multiple  # as long as an image of other bits or samples
        or (stored >= frame and stored % frame < 2)  # frames were taken out
        or level.source.data[pixels.value : pixels.value + 16].startswith(STARTS)
        or level.text(_COMPRESSION_CODE) not in ("", "NONE")  # ACR-NEMA 2.0
    )
    kind = _SHORTER_NOTED if has_reason else SHORTER
    yield Hit.at(kind, pixels, f"the image takes {expected} bytes, {stored} are there")


def _bits(level: Level) -> Iterator[Hit]:
    """Bits Allocated, Bits Stored, High Bit and Samples per Pixel (PS3.5 section 8.1.1)."""
    if level.pixels is None:
        return
    allocated, stored, high = map(level.number, (ALLOCATED, STORED, HIGH_BIT))
    if allocated is None:
        return
    for tag, kind, is_wrong, detail in (
        (HIGH_BIT, BITS, high is not None and high >= allocated > 0, f"high bit {high}"),
        (STORED, _BITS_NOTED, (stored or 0) > allocated, f"{stored} bits stored"),
        (ALLOCATED, _BITS_NOTED, allocated not in _ALLOCATED_BITS, "no size of a pixel"),
    ):
        element = level.get(tag)
        if is_wrong and element is not None:
            yield Hit.at(kind, element, f"{allocated} bits allocated, {detail}")


def _samples(level: Level) -> Iterator[Hit]:
    """Samples per Pixel, and whether the photometric interpretation has as many."""
    element = level.get(SAMPLES)
    samples = level.number(SAMPLES)
    if level.pixels is None or element is None or samples is None:
        return
    interpretation = level.text(PHOTOMETRIC)
    expected = _SAMPLES_OF.get(interpretation)
    if samples not in _SAMPLE_COUNTS:
        yield Hit.at(_BITS_NOTED, element, f"{samples} samples")
    elif expected is not None and samples != expected:
        yield Hit.at(INTERPRETATION, element, f"{samples} samples, {expected} of {interpretation}")


def _frame_count(level: Level) -> Iterator[Hit]:
    """Number of Frames is a number above zero (PS3.3 section C.7.6.6.1.1)."""
    element = level.get(FRAMES)
    if element is not None and level.pixels is not None and level.frames < 1:
        yield Hit.at(FRAME_COUNT, element, f"{level.frames} frames")


def _dimensions(level: Level) -> Iterator[Hit]:
    """Rows and Columns are above zero where there are pixels."""
    pixels = level.pixels
    if pixels is None or not _stored(pixels):
        return
    for tag in (ROWS, COLUMNS):
        element = level.get(tag)
        if element is not None and level.number(tag) == 0:
            yield Hit.at(_BITS_NOTED, element, "an image without pixels")


def _encapsulation(level: Level) -> Iterator[Hit]:
    """Fragments where the transfer syntax has them, and nowhere else (PS3.5 section A.4).

    Icons may be native in any file. Converters that forget the transfer syntax are honest: they
    leave what the other one would hold.
    """
    pixels, data = level.get(PIXEL_DATA), level.source.data
    if pixels is None or level.parent is not None or pixels.end == pixels.value:
        return
    syntax = level.source.file.transfer_syntax
    if pixels.declared == UNDEFINED_LENGTH and syntax and syntax in NATIVE:
        frames = fragments(data, pixels)[1:]
        is_forgotten = bool(frames) and starts_codestream(data, frames[0])
        kind = _ENCAPSULATION_NOTED if is_forgotten else ENCAPSULATION
        yield Hit.at(kind, pixels, "fragments under a transfer syntax without compression")
    elif pixels.declared != UNDEFINED_LENGTH and (codec := codec_of(syntax)):
        stored, expected = _stored(pixels), (level.frame_bits * max(1, level.frames) + 7) // 8
        is_forgotten = (
            stored in (expected, expected + 1)
            or stored <= _PLACEHOLDER
            or not codec.frames_apart  # a film in one piece
            or data[pixels.value : pixels.value + 16].startswith(STARTS)
        )
        kind = _ENCAPSULATION_NOTED if is_forgotten else ENCAPSULATION
        yield Hit.at(kind, pixels, "no fragments under a transfer syntax with compression")


def _two_images(level: Level) -> Iterator[Hit]:
    """One of Pixel Data, Float Pixel Data and Double Float Pixel Data (PS3.3 C.7.6.24)."""
    present = [level.elements[tag] for tag in PIXELS if tag in level.elements]
    filled = [element for element in present if element.end > element.value]
    if len(filled) > 1:
        yield Hit.at(TWO_IMAGES, filled[1], "beside another")


def _netpbm(level: Level) -> Iterator[Hit]:
    """A Netpbm header at the start of the pixels whose dimensions overflow."""
    pixels = level.get(PIXEL_DATA)
    if pixels is None:
        return
    found = _NETPBM_HEADER.match(
        level.source.data[pixels.value : min(pixels.end, pixels.value + 256)]
    )
    if found:
        width, height = (int(number) for number in found.groups() if number)
        if width * height >= _OVERFLOWS:
            yield Hit.at(NETPBM, pixels, f"{width} x {height}")


def _video(level: Level) -> Iterator[Hit]:
    """A film begins with a playlist, which names other films (CVE-2016-1897 is one of many)."""
    pixels, codec = level.get(PIXEL_DATA), codec_of(level.source.file.transfer_syntax)
    if pixels is None or codec is None or codec.starts or codec.frames_apart:
        return
    parts = fragments(level.source.data, pixels)
    starts = [part.start for part in parts[:2]] or [pixels.value]
    if any(_PLAYLIST.match(level.source.data[start : start + 64]) for start in starts):
        yield Hit.at(VIDEO, pixels, "")


def _elscint(level: Level) -> Iterator[Hit]:
    """PMSCT_RLE1 in private elements: no run may reach beyond the end."""
    packed = level.get(_PMSCT_DATA)
    if packed is not None and level.text(_PMSCT_NAME) == "PMSCT_RLE1":
        raw = level.source.data[packed.value : packed.end]
        found = _PMSCT_RUNS.match(raw)
        if found and found.end() < len(raw):
            yield Hit.at(ELSCINT, packed, f"a run begins {len(raw) - found.end()} bytes before it")


def _remote(level: Level) -> Iterator[Hit]:
    """Pixel Data Provider URL under a JPIP transfer syntax (PS3.5 section A.6)."""
    url = level.get(_PROVIDER_URL)
    is_fetched = level.source.file.transfer_syntax in JPIP
    if url is not None and is_fetched and text_of(level.source.data, url):
        yield Hit.at(REMOTE, url, "Pixel Data Provider URL")


CHECKS: tuple[Check, ...] = (
    _overflow,
    _expansion,
    _shorter,
    _bits,
    _samples,
    _frame_count,
    _dimensions,
    _encapsulation,
    _two_images,
    _netpbm,
    _video,
    _elscint,
    _remote,
)


class PixelDetector:
    """Pixel data of the data set and of every item, against the elements beside it."""

    kinds = (
        *(OVERFLOW, SHORTER, BITS, INTERPRETATION, FRAME_COUNT, ENCAPSULATION, TWO_IMAGES),
        *(EXPANSION, VIDEO, NETPBM, ELSCINT, REMOTE),
    )

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Hold every level's pixels to its numbers."""
        hits = (hit for level in levels(source) for check in CHECKS for hit in check(level))
        yield from first_hits(source, hits)


def _stored(pixels: Element) -> int:
    """Bytes of the value; of one that the file cuts short as many as it declares."""
    if pixels.declared == UNDEFINED_LENGTH:
        return pixels.end - pixels.value
    return max(pixels.declared, pixels.end - pixels.value)


def _is_native(level: Level) -> bool:
    return level.source.file.transfer_syntax in NATIVE
