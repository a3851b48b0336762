"""What the benchmarks of speed scan: made up, the same at every run, and honest.

Compression and search are only as fast as data let them be, so that zeros would flatter: a slice
has the noise of a scanner, about 5 bits of entropy a byte as real CT in 16 bits has.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from struct import pack

from fixtures.dicomfile import EXPLICIT, Element, element, private, sequence

ROWS = COLUMNS = 512
_UID = "1.2.826.0.1.3680043.10.1338"
_CT, _SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"
_FOLDER = 500
"""Files of a folder."""

_AIR, _LUNG, _TISSUE, _BONE = 0, 140, 1040, 1900
"""Stored values of a slice, less the noise."""
_BELL = (1, 2, 3, 5, 8, 11, 14, 17, 19, 20, 20, 19, 17, 14, 11, 8, 5, 3, 2, 1)
"""How often noise takes each of its levels."""
_LEVEL = 4


@lru_cache
def _tables(base: int) -> tuple[bytes, bytes]:
    """Low and high byte of a noisy value around ``base``, by a random byte."""
    steps = list(accumulate(_BELL))
    noise = []
    for number in range(256):
        level = next(i for i, step in enumerate(steps) if number * steps[-1] < step * 256)
        noise.append(base + level * _LEVEL + number % _LEVEL)
    return bytes(value & 0xFF for value in noise), bytes(value >> 8 for value in noise)


def slice_pixels(seed: int) -> bytes:
    """A slice through a chest, 16 bits a pixel, little endian."""
    chance = random.Random(seed)  # noqa: S311 - the same at every run
    noise = chance.randbytes(ROWS * COLUMNS)
    low, high = bytearray(), bytearray()
    at = 0
    for row in range(ROWS):
        across = (row - ROWS / 2) / (ROWS / 2.2)
        half = int(230 * max(0.0, 1 - across * across) ** 0.5)
        lung = half // 3 if abs(across) < 0.6 else 0
        bone = 12 if half else 0
        runs = (
            (_AIR, 256 - half),
            (_TISSUE, half - lung - bone),
            (_LUNG, lung),
            (_BONE, 2 * bone),
            (_LUNG, lung),
            (_TISSUE, half - lung - bone),
            (_AIR, 256 - half),
        )
        for base, length in runs:
            piece = noise[at : at + length]
            lows, highs = _tables(base)
            low += piece.translate(lows)
            high += piece.translate(highs)
            at += length
    pixels = bytearray(2 * ROWS * COLUMNS)
    pixels[::2], pixels[1::2] = low, high
    return bytes(pixels)


def _noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(512)  # noqa: S311 - the same at every run


def _head(number: int, sop_class: str, modality: bytes) -> bytes:
    meta = b"".join(
        each.encoded
        for each in (
            element(0x00020001, "OB", b"\0\1"),
            element(0x00020002, "UI", sop_class.encode()),
            element(0x00020003, "UI", f"{_UID}.{number}".encode()),
            element(0x00020010, "UI", EXPLICIT.uid.encode()),
            element(0x00020012, "UI", f"{_UID}.1".encode()),
        )
    )
    length = element(0x00020000, "UL", pack("<I", len(meta)))
    first = (
        element(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        element(0x00080016, "UI", sop_class.encode()),
        element(0x00080018, "UI", f"{_UID}.{number}".encode()),
        element(0x00080020, "DA", b"20260304"),
        element(0x00080030, "TM", b"101112.131415"),
        element(0x00080050, "SH", b"A%08d" % number),
        element(0x00080060, "CS", modality),
        element(0x00080070, "LO", b"SPEED WORKS"),
        element(0x00081030, "LO", b"CHEST ROUTINE"),
        element(0x00081140, "SQ", b"") if number % 2 else _codes(0x00081140, number, 4),
        *private(_noise(number), group=0x0009),
        element(0x00100010, "PN", b"SPEED^PATIENT %05d" % (number % 1000)),
        element(0x00100020, "LO", b"%08d" % number),
        element(0x00180050, "DS", b"1.25"),
        element(0x00180060, "DS", b"120"),
        element(0x0020000D, "UI", f"{_UID}.2.{number // _FOLDER}".encode()),
        element(0x0020000E, "UI", f"{_UID}.3.{number // _FOLDER}".encode()),
        element(0x00200013, "IS", b"%d" % (number % _FOLDER)),
        element(0x00200032, "DS", b"-250\\-250\\%d" % (number % _FOLDER)),
    )
    parts = (length.encoded, meta, *(each.encoded for each in first))
    return bytes(128) + b"DICM" + b"".join(parts)


def _codes(tag: int, number: int, count: int) -> Element:
    """A sequence of items of six elements, about 230 bytes each."""
    items = (
        b"".join(
            each.encoded
            for each in (
                element(0x00080100, "SH", b"T-%05d" % ((number * 31 + index) % 99999)),
                element(0x00080102, "SH", b"SRT"),
                element(0x00080104, "LO", b"Structure %d of the thorax, as it was seen" % index),
                element(0x00081150, "UI", _SR.encode()),
                element(0x00081155, "UI", f"{_UID}.4.{number}.{index}".encode()),
                element(0x0040A30A, "DS", b"%d.%d" % (index, number)),
            )
        )
        for index in range(count)
    )
    return sequence(tag, *items)


def ct(number: int, frames: int = 1) -> bytes:
    """The head of a CT object up to its pixel data, without these."""
    geometry = (
        element(0x00280002, "US", pack("<H", 1)),
        element(0x00280004, "CS", b"MONOCHROME2"),
        element(0x00280008, "IS", b"%d" % frames),
        element(0x00280010, "US", pack("<H", ROWS)),
        element(0x00280011, "US", pack("<H", COLUMNS)),
        element(0x00280100, "US", pack("<H", 16)),
        element(0x00280101, "US", pack("<H", 12)),
        element(0x00280102, "US", pack("<H", 11)),
        element(0x00280103, "US", pack("<H", 0)),
        _codes(0x00400275, number, 12),
        element(0x7FE00010, "OW", b"", length=2 * ROWS * COLUMNS * frames),
    )
    return _head(number, _CT, b"CT") + b"".join(each.encoded for each in geometry)


def header_only(number: int, size: int) -> bytes:
    """An object without pixels, of about ``size`` bytes."""
    items = max(1, (size - 1800) // 230)
    return _head(number, _SR, b"SR") + _codes(0x0040A730, number, items).encoded


def ct_files(folder: Path, count: int) -> None:
    """CT objects of 0.5 MB."""
    for number, path in enumerate(_paths(folder, count)):
        path.write_bytes(ct(number) + slice_pixels(number))


def header_files(folder: Path, count: int) -> None:
    """Objects without pixels of 5 to 30 KB."""
    chance = random.Random(1)  # noqa: S311 - the same at every run
    for number, path in enumerate(_paths(folder, count)):
        path.write_bytes(header_only(number, chance.randrange(5 << 10, 30 << 10)))


def small_files(folder: Path, count: int) -> None:
    """Objects without pixels of 2 KB."""
    for number, path in enumerate(_paths(folder, count)):
        path.write_bytes(header_only(number, 2 << 10))


def multi_frame(path: Path, size: int) -> None:
    """One CT object with as many frames as ``size`` bytes hold."""
    frames = max(1, size // (2 * ROWS * COLUMNS))
    different = [slice_pixels(seed) for seed in range(min(frames, 64))]
    with path.open("wb") as stream:
        stream.write(ct(0, frames))
        for frame in range(frames):
            stream.write(different[frame % len(different)])


def _paths(folder: Path, count: int) -> Iterator[Path]:
    for number in range(count):
        below = folder / f"{number // _FOLDER:04d}"
        if number % _FOLDER == 0:
            below.mkdir(parents=True)
        yield below / f"{number:06d}.dcm"
