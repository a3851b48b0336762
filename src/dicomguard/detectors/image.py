"""How long native pixel data must be (PS3.3 section C.7.6.3, PS3.5 section 8.1)."""

from __future__ import annotations

from collections.abc import Mapping

from dicomguard.dicom.layout import Data, Element, number_of

_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = (
    *(0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100),
)


def frame_bits(data: Data, level: Mapping[int, Element]) -> int | None:
    """Bits of one frame, from the elements of one level; None if they do not tell."""

    def number(tag: int) -> int | None:
        element = level.get(tag)
        return number_of(data, element) if element else None

    rows, columns, bits = number(_ROWS), number(_COLUMNS), number(_BITS)
    if not (rows and columns and bits):
        return None
    return rows * columns * bits * (number(_SAMPLES) or 1)


def frames(data: Data, level: Mapping[int, Element]) -> int | None:
    """Number of Frames; None if it is absent or no number."""
    element = level.get(_FRAMES)
    return number_of(data, element) if element else None


def image_bytes(data: Data, level: Mapping[int, Element]) -> int | None:
    """Bytes of all frames, without padding; None if the elements do not tell."""
    bits = frame_bits(data, level)
    return None if bits is None else (bits * (frames(data, level) or 1) + 7) // 8
