"""Headers of codestreams: facts as pydicom's files have them, flaws as they were put in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from struct import pack

import pydicom
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from dicomguard import Category, Verdict, scan_bytes
from dicomguard.codecs import FlawKind, Header, jpeg, jpeg2000, jpegxl, rle, segmented
from fixtures import images
from fixtures.carriers import carrier, with_pixels
from fixtures.dicomfile import PIXEL_DATA, TRANSFER_SYNTAX, DicomFile, element, undefined

READERS = {"jpeg": jpeg.read, "jpeg2000": jpeg2000.read, "jpegxl": jpegxl.read, "rle": rle.read}

HONEST = {
    "SC_rgb_jpeg_dcmtk.dcm": jpeg.read,
    "SC_rgb_jpeg_gdcm.dcm": jpeg.read,
    "JPGExtended.dcm": jpeg.read,
    "MR_small_jpeg_ls_lossless.dcm": jpeg.read,
    "JPEGLSNearLossless_16.dcm": jpeg.read,
    "MR_small_jp2klossless.dcm": jpeg2000.read,
    "GDCMJ2K_TextGBR.dcm": jpeg2000.read,
    "J2K_pixelrep_mismatch.dcm": jpeg2000.read,
}


def frame_of(name: str) -> tuple[pydicom.Dataset, bytes]:
    path = get_testdata_file(name, download=False)
    assert path is not None
    dataset = pydicom.dcmread(Path(path))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return dataset, frame


@pytest.mark.parametrize("name", list(HONEST))
def test_a_header_says_what_the_data_set_says(name: str) -> None:
    dataset, frame = frame_of(name)
    header = HONEST[name](frame, len(frame))
    assert header.flaws == []
    assert (header.rows, header.columns) == (dataset.Rows, dataset.Columns)
    assert header.samples == dataset.SamplesPerPixel
    assert header.precision is not None
    assert header.precision <= dataset.BitsAllocated
    assert 0 < header.size < len(frame)
    assert HONEST[name](frame[: header.size], len(frame)) == header


def test_the_segments_of_a_frame_expand_to_the_image() -> None:
    dataset, frame = frame_of("MR_small_RLE.dcm")
    assert rle.read(frame, len(frame)) == Header(samples=2)
    starts = [*rle.segments(frame), len(frame)]
    pixels = dataset.Rows * dataset.Columns
    for start, end in pairwise(starts):
        segment = frame[start:end]
        assert rle.surplus(segment, pixels, 1 << 20) <= 1
        assert rle.surplus(segment, pixels - 100, 1 << 20) >= 100
        assert rle.surplus(segment, pixels - 100, 5) == 0


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (64, 512), (512, 64)])
def test_a_size_of_jpeg_xl_is_read(rows: int, columns: int) -> None:
    frame = images.parts(images.jpeg_xl(rows, columns))[1]
    for data in (frame, jpegxl.BOX + pack(">I", len(frame) + 8) + b"jxlc" + frame):
        header = jpegxl.read(data, len(data))
        assert (header.rows, header.columns, header.flaws) == (rows, columns, [])


@pytest.mark.parametrize(
    ("ratio", "columns"), [(1, 64), (2, 76), (3, 85), (4, 96), (5, 113), (6, 80), (7, 128)]
)
def test_a_small_size_of_jpeg_xl_has_a_ratio(ratio: int, columns: int) -> None:
    bits = 1 | (64 // 8 - 1) << 1 | ratio << 6
    header = jpegxl.read(b"\xff\x0a" + bits.to_bytes(4, "little"), 6)
    assert (header.rows, header.columns) == (64, columns)


def _start_of_frame(height: int = 8, count: int = 1, factor: int = 0x11) -> bytes:
    components = b"".join(bytes((number, factor, 0)) for number in range(count))
    return b"\xff\xc0" + pack(">HBHHB", 8 + 3 * count, 8, height, 8, count) + components


_SCAN = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(16) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("middle", "flaw"),
    [
        (_start_of_frame(), None),
        (b"\xff\xff\xff" + _start_of_frame(), None),
        (b"\xff\xfe\0\x04hi" + _start_of_frame(), None),
        (b"", FlawKind.NO_FRAME_HEADER),
        (_start_of_frame() * 2, FlawKind.SECOND_FRAME_HEADER),
        (_start_of_frame(0), FlawKind.NO_PIXELS),
        (_start_of_frame(0) + b"\xff\xdc\0\4\0\x08", None),
        (_start_of_frame(count=0), FlawKind.COMPONENTS),
        (_start_of_frame(factor=0x10), FlawKind.SAMPLING),
        (_start_of_frame().replace(b"\0\x0b", b"\0\x0e", 1), FlawKind.FRAME_HEADER_LENGTH),
        (b"\xff\xc0\0\4\0\0", FlawKind.SEGMENT_LENGTH),
        (b"\xff\xe1\0\1" + _start_of_frame(), FlawKind.SEGMENT_LENGTH),
        (b"\xff\xe1\xff\xff" + _start_of_frame(), FlawKind.SEGMENT_LENGTH),
        (b"\xff\x01" + _start_of_frame(), FlawKind.STRAY_MARKER),
        (b"\xff\xdb\0\x43\x0f" + bytes(64) + _start_of_frame(), FlawKind.TABLE),
    ],
)
def test_what_is_wrong_with_a_jpeg_is_told(middle: bytes, flaw: FlawKind | None) -> None:
    data = b"\xff\xd8" + middle + _SCAN
    flaws = [each.kind for each in jpeg.read(data, len(data)).flaws]
    assert flaws[:1] == ([flaw] if flaw else [])


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
@effort(max_examples=200, deadline=None)
@given(
    st.sampled_from(["", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"]),
    st.binary(max_size=80),
    st.integers(0, 60),
    st.integers(0, 1 << 40),
)
def test_any_bytes_have_a_header(
    reader: Callable[[bytes, int], Header], name: str, noise: bytes, at: int, more: int
) -> None:
    data = bytearray(frame_of(name)[1][:200] if name else b"")
    data[at : at + len(noise)] = noise
    header = reader(bytes(data), len(data) + more)
    assert all(0 <= flaw.offset <= len(data) for flaw in header.flaws)
    assert 0 <= header.size <= len(data) + more


# ---------------------------------------------------------------------- segmented palettes


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((0, 3, 1, 2, 3), 3),
        ((0, 1, 7, 1, 255, 900), 256),
        ((0, 2, 1, 2, 2, 1, 0, 0), 4),  # the first segment again
        ((0, 2, 1, 2, 1, 3, 9, 2, 2, 0, 0), 10),  # the first two again
        ((0, 3, 1, 2, 3, 0, 0, 0, 0), 3),
    ],
)
def test_segments_expand(values: tuple[int, ...], count: int) -> None:
    assert segmented.entries(values, 2) == count


@pytest.mark.parametrize(
    "values",
    [
        (0, 4, 1, 2, 3), (7, 1, 1), (1, 3, 9), (2, 1, 0, 0), (0, 1, 5, 2, 1, 0xFFFF, 0xFFFF),
        (0, 1, 5, 2, 1), (0, 1, 0, 1, 65535, 9, 1, 65535, 9), (0,), (0, 1, 5, 0, 0, 1, 1),
        (0, 0, 0, 0, 0, 0),
    ],
)  # fmt: skip
def test_segments_that_cannot_be_are_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(segmented.SegmentError):
        segmented.entries(values, 2)


@effort(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([1, 2]))
def test_any_bytes_are_segments_or_refused(values: bytes, width: int) -> None:
    with suppress(segmented.SegmentError):
        assert 0 <= segmented.entries(values, width) <= segmented.ENTRIES


# ---------------------------------------------------------------------- behind the end marker


@pytest.mark.parametrize(("behind", "named"), [(b"", 0), (b"\xff" * 9, 0), (b"x" * 40, 1)])
def test_what_stands_behind_the_end_marker_is_named(behind: bytes, named: int) -> None:
    file = carrier(images.JPEG)
    frame = images.parts(file)[1].rstrip(b"\0") + behind
    found = scan_bytes(images.in_fragments(file, b"", frame + bytes(len(frame) % 2)).data).findings
    assert [each.kind.category for each in found if each.kind.id == "PIX-JPEG"] == (
        [Category.CONFORMANCE] * named
    )


# ---------------------------------------------------------------------- sloppy, and honest


def _syntax(file: DicomFile, uid: bytes) -> bytes:
    return file.with_(element(TRANSFER_SYNTAX, "UI", uid)).data


def _without_table(name: str) -> bytes:
    file = carrier(name).without(images.FRAMES)
    return file.with_(undefined(PIXEL_DATA, "OB", images.parts(file)[1])).data


def _in_pieces(name: str, size: int) -> bytes:
    file = carrier(name).without(images.FRAMES)
    frame = images.parts(file)[1]
    pieces = (frame[at : at + size] for at in range(0, len(frame), size))
    return images.in_fragments(file, b"", *pieces).data


JPEG, JPEG_2000, RLE = images.JPEG, images.JPEG_2000, images.RLE

SLOPPY: dict[str, Callable[[], bytes]] = {
    "bits-stored-16": lambda: carrier(JPEG).with_(images.words(images.STORED, 16)).data,
    "cropped": lambda: carrier(JPEG).with_(images.words(images.ROWS, 75)).data,
    "empty-pixels": lambda: with_pixels(carrier(), b"").data,
    "frames-in-one-fragment": lambda: (
        images.in_fragments(
            carrier(JPEG).with_(element(images.FRAMES, "IS", b"3")),
            b"",
            images.parts(carrier(JPEG))[1] * 3,
        ).data
    ),
    "frames-uncounted": lambda: with_pixels(carrier(), carrier().value(PIXEL_DATA) * 2).data,
    "jpeg-2000-under-jpeg": lambda: _syntax(carrier(JPEG_2000), b"1.2.840.10008.1.2.4.50"),
    "jpeg-after-bytes": lambda: (
        images.in_fragments(carrier(JPEG), b"", bytes(16) + images.parts(carrier(JPEG))[1]).data
    ),
    "jpeg-under-explicit": lambda: _syntax(carrier(JPEG), b"1.2.840.10008.1.2.1"),
    "jpeg-under-jpeg-ls": lambda: _syntax(carrier(JPEG), b"1.2.840.10008.1.2.4.80"),
    "jpeg-under-lossless": lambda: _syntax(carrier(JPEG), b"1.2.840.10008.1.2.4.70"),
    "native-under-jpeg": lambda: _syntax(carrier(), b"1.2.840.10008.1.2.4.50"),
    "no-table": lambda: _without_table(JPEG),
    "no-table-rle": lambda: _without_table("MR_small_RLE.dcm"),
    "odd-table": lambda: (
        images.in_fragments(carrier(JPEG), b"\0\0", *images.parts(carrier(JPEG))[1:]).data
    ),
    "pieces": lambda: _in_pieces(JPEG, 500),
    "pieces-rle": lambda: _in_pieces("MR_small_RLE.dcm", 500),
    "placeholder": lambda: with_pixels(carrier(), bytes(2)).data,
    "private-syntax": lambda: _syntax(carrier(RLE), b"1.2.840.113619.5.2"),
    "samples-of-monochrome": lambda: (
        carrier(JPEG).with_(element(images.PHOTOMETRIC, "CS", b"MONOCHROME2")).data
    ),
    "rows-missing": lambda: with_pixels(carrier(), bytes(8192 - 128)).data,
    "signed-rows": lambda: carrier().with_(element(images.ROWS, "SS", pack("<h", 64))).data,
    "truncated": lambda: carrier(JPEG_2000).data[:-2000],
}
"""What honest vendors were seen to write, or have reason to."""


@pytest.mark.parametrize("name", list(SLOPPY))
def test_sloppiness_does_not_raise_the_verdict(name: str) -> None:
    report = scan_bytes(SLOPPY[name]())
    threats = [
        each
        for each in report.findings
        if each.kind.category is Category.EXPLOIT and each.kind.id.startswith("PIX-")
    ]
    assert threats == []
    assert report.verdict is Verdict.CLEAN, report.findings
