"""Which transfer syntax stores pixels how (PS3.5 annex A)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec import Struct

from dicomguard.codecs import jpeg, jpeg2000, jpegxl, rle
from dicomguard.codecs.header import Header
from dicomguard.dicom.layout import UNDEFINED_LENGTH, Data, Element
from dicomguard.dicom.walker import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

NATIVE: Final = frozenset(("", IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, *DEFLATED))
"""Transfer syntaxes whose pixel data is as long as the image."""
JPIP: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205))
"""Transfer syntaxes whose pixels lie elsewhere."""


class Codec(Struct, frozen=True):
    """How the frames of a family of transfer syntaxes are stored.

    Attributes:
        name: As people call it.
        starts: First bytes of a frame; empty where a frame is one fragment.
        read: Reads a frame's header; None where none is read.
        frames_apart: Whether every frame is a codestream of its own.
    """

    name: str
    starts: tuple[bytes, ...] = ()
    read: Callable[[bytes, int], Header] | None = None
    frames_apart: bool = True


JPEG: Final = Codec("JPEG", (jpeg.START,), jpeg.read)
JPEG_LS: Final = Codec("JPEG-LS", (jpeg.START,), jpeg.read)
JPEG_2000: Final = Codec("JPEG 2000", (jpeg2000.START, jpeg2000.BOX), jpeg2000.read)
JPEG_XL: Final = Codec("JPEG XL", (jpegxl.START, jpegxl.BOX), jpegxl.read)
RLE: Final = Codec("RLE", (), rle.read)
_MULTI_COMPONENT = Codec("JPEG 2000 Part 2", (), None, frames_apart=False)
_VIDEO = Codec("MPEG", (), None, frames_apart=False)
_APART = Codec("frames in fragments", (), None)

_BY_NUMBER: dict[int, Codec] = {
    **dict.fromkeys((*range(50, 67), 70), JPEG),
    **dict.fromkeys((80, 81), JPEG_LS),
    **dict.fromkeys((90, 91, 201, 202, 203), JPEG_2000),
    **dict.fromkeys((92, 93), _MULTI_COMPONENT),
    **dict.fromkeys(range(100, 109), _VIDEO),
    **dict.fromkeys((110, 111, 112), JPEG_XL),
}
_CODECS: dict[str, Codec] = {
    **{f"1.2.840.10008.1.2.4.{number}": codec for number, codec in _BY_NUMBER.items()},
    **{f"1.2.840.10008.1.2.4.{number}.1": _VIDEO for number in range(100, 107)},
    "1.2.840.10008.1.2.5": RLE,
    "1.2.840.10008.1.2.8.1": _APART,  # Deflated Image Frame
    "1.2.840.10008.1.2.1.98": _APART,  # Encapsulated Uncompressed
}
STARTS: Final = tuple(start for codec in (JPEG, JPEG_2000, JPEG_XL) for start in codec.starts)
"""First bytes of the codestreams that are told by them."""


def codec_of(syntax: str) -> Codec | None:
    """How a transfer syntax stores its frames; None if natively, or if that is not known."""
    return _CODECS.get(syntax)


class Fragment(NamedTuple):
    """A fragment's number, the offsets of its value, and the length its header declares."""

    number: int
    start: int
    end: int
    declared: int


def fragments(data: Data, pixels: Element) -> list[Fragment]:
    """The items of encapsulated pixel data, the Basic Offset Table included."""
    header = struct.Struct(">HHI" if pixels.big_endian else "<HHI")
    found: list[Fragment] = []
    at, end = pixels.value, pixels.end
    while at + 8 <= end:
        group, element, length = header.unpack_from(data, at)
        if group != 0xFFFE or element != 0xE000 or length == UNDEFINED_LENGTH:
            break
        start = at + 8
        at = start + length
        found.append(Fragment(len(found), start, min(at, end), length))
    return found


def table_and_frames(
    data: Data, pixels: Element, codec: Codec
) -> tuple[Fragment | None, list[Fragment]]:
    """The Basic Offset Table and the fragments of frames; some writers leave out the table."""
    found = fragments(data, pixels)
    if not found or _is_frame(data, found[0], codec):
        return None, found
    return found[0], found[1:]


def _is_frame(data: Data, part: Fragment, codec: Codec) -> bool:
    """Whether the first item holds a frame: a table begins with the offset 0."""
    head = data[part.start : min(part.end, part.start + 64)]
    if codec is RLE:
        return not rle.read(head, part.end - part.start).flaws
    return bool(codec.starts) and head.startswith(codec.starts)


def starts_codestream(data: Data, part: Fragment) -> bool:
    """Whether a fragment begins as a codestream of any kind; of RLE, with its segment table."""
    head = data[part.start : min(part.end, part.start + 64)]
    return head.startswith(STARTS) or not rle.read(head, part.end - part.start).flaws
