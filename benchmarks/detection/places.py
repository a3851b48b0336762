"""The places: every spot of a DICOM file that can carry bytes, over real carriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from struct import pack

from fixtures.carriers import DOCUMENT, DOCUMENT_LENGTH, carrier, document, with_pixels
from fixtures.dicomfile import (
    EXPLICIT,
    IMPLICIT,
    PATIENT_NAME,
    PIXEL_DATA,
    PRIVATE_INFORMATION,
    PRIVATE_INFORMATION_CREATOR,
    PRIVATE_TAG,
    TRAILING_PADDING,
    DicomFile,
    Element,
    Syntax,
    element,
    item,
    private,
    sequence,
    tag_text,
    undefined,
)
from fixtures.formats import noise

from .case import Target

MR = "MR_small.dcm"
LARGE = "examples_overlay.dcm"
SYNTAXES = {
    "implicit": "MR_small_implicit.dcm",
    "explicit": MR,
    "big endian": "MR_small_bigendian.dcm",
    "deflated": "image_dfl.dcm",
    "RLE": "SC_rgb_rle_2frame.dcm",
    "JPEG": "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG lossless": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG 2000": "MR_small_jp2klossless.dcm",
}
"""A bundled file for each transfer syntax of the table."""

LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SV", "UC", "UN", "UR", "UT", "UV")
SHORT_VRS = (
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS",
    "ST", "TM", "UI", "UL", "US",
)  # fmt: skip
SHORT_ROOM = 0xFFFE

MIME_TYPES = (
    "application/pdf", "text/xml", "model/stl", "model/obj", "model/mtl",
    "application/octet-stream",
    "image/jpeg", "text/html", "",
)  # fmt: skip

CREATORS = (
    (b"SIEMENS CSA HEADER", 0x0029, 0x10),
    (b"SIEMENS MEDCOM HEADER", 0x0029, 0x20),
    (b"SIEMENS MR SDS 01", 0x0021, 0x19),
    (b"GEMS_SERS_01", 0x0025, 0x1B),
    (b"GEMS_PARM_01", 0x0043, 0x2A),
    (b"TOSHIBA_MEC_MR3^10", 0x700D, 0x19),
    (b"Image Private Header", 0x0065, 0x07),
    (b"ELSCINT1", 0x01F7, 0x26),
    (b"Philips MR Imaging DD 005", 0x2005, 0x99),
    (b"Philips US Private 3", 0x200D, 0x3C),
    (b"HOLOGIC, Inc.", 0x7E01, 0x12),
    (b"KRETZ_US", 0x7FE1, 0x01),
)
"""Vendor creators, group and element number of a blob that each is known to write."""

Put = Callable[[DicomFile, bytes], DicomFile]


@dataclass(frozen=True, slots=True)
class Place:
    """One place.

    Attributes:
        name: As the table has it.
        group: Its row in the table of places.
        syntax: Key of `SYNTAXES`, whose file carries it.
        put: Puts bytes there.
        path: Tag path under which a report must name it; None where any will do.
        room: The most bytes that fit.
        text: Whether only text makes sense there.
        also: Ids that are right for anything found there, beside the payload's own.
        inner: Whether the place lies in the inflated data set.
    """

    name: str
    group: str
    put: Put
    path: str | None
    syntax: str = "explicit"
    room: int = 1 << 24
    text: bool = False
    also: tuple[str, ...] = ()
    inner: bool = False

    def fill(self, content: bytes) -> tuple[bytes, Target]:
        """The carrier with ``content`` in this place, and where it then lies.

        Raises:
            ValueError: The content is not in the file, so the place is broken.
        """
        file = self.put(_carrier_for(self.syntax, self.group, len(content)), content)
        data = file.data
        start = (file.body if self.inner else data).index(content)
        paths = frozenset() if self.path is None else frozenset([self.path])
        return data, Target(paths, start, start + len(content), self.inner)


@cache
def _large() -> DicomFile:
    return carrier(LARGE)


def _carrier_for(syntax: str, group: str, size: int) -> DicomFile:
    """The carrier of a syntax; a larger image where pixels must hold more than the usual one."""
    if group == "native pixels" and syntax == "explicit" and size > 6000:
        return _large()
    return carrier(SYNTAXES[syntax])


@cache
def places() -> tuple[Place, ...]:
    """Every place."""
    return (
        *_meta(),
        *_private(),
        *_public(),
        *_text(),
        *_documents(),
        *_native(),
        *_encapsulated(),
        *_odd_carriers(),
        *_after(),
        *_deflated(),
        *_gaps(),
    )


def _with(tag: int, vr: str, *others: Element, before: bytes = b"", after: bytes = b"") -> Put:
    def put(file: DicomFile, content: bytes) -> DicomFile:
        return file.with_(*others, element(tag, vr, before + content + after, file.syntax))

    return put


def _simple(
    group: str, name: str, tag: int, vr: str, *others: Element, before: bytes = b"",
    after: bytes = b"", text: bool = False,
) -> Place:  # fmt: skip
    room = SHORT_ROOM if vr in SHORT_VRS else 1 << 24
    return Place(
        name, group, _with(tag, vr, *others, before=before, after=after), tag_text(tag),
        room=room, text=text,
    )  # fmt: skip


# ---------------------------------------------------------------------- file meta


def _meta() -> Iterator[Place]:
    creator = element(PRIVATE_INFORMATION_CREATOR, "UI", b"2.25.42")
    yield _simple("file meta", "meta (0002,0102)", PRIVATE_INFORMATION, "OB", creator)
    yield _simple(
        "file meta", "meta (0002,0102) at 100", PRIVATE_INFORMATION, "OB", creator,
        before=noise(100),
    )  # fmt: skip
    yield _simple("file meta", "meta version (0002,0001)", 0x00020001, "OB", before=b"\0\1")
    yield _simple("file meta", "meta unknown (0002,0F00) OB", 0x00020F00, "OB")
    yield _simple("file meta", "meta unknown (0002,0F02) UN", 0x00020F02, "UN")
    yield _simple("file meta", "meta (0002,0013) SH", 0x00020013, "SH")
    yield _simple("file meta", "meta (0002,0026) UR", 0x00020026, "UR", text=True)


# ---------------------------------------------------------------------- private elements


def _block(syntax: Syntax, value: bytes, vr: str = "OB", number: int = 1) -> bytes:
    return b"".join(part.encoded for part in private(value, vr, syntax, number=number))


def _private() -> Iterator[Place]:
    group, path = "private", tag_text(PRIVATE_TAG)
    creator = private(b"")[0]
    for vr in (*LONG_VRS, *SHORT_VRS):
        yield _simple("private VR", f"private {vr}", PRIVATE_TAG, vr, creator)
    for syntax in SYNTAXES:
        if syntax != "explicit":
            yield Place(
                f"private OB, {syntax}", group,
                lambda file, content: file.with_(*private(content, syntax=file.syntax)),
                path, syntax, inner=syntax == "deflated",
            )  # fmt: skip
    for offset in (1, 4, 512, 4095, 70_000):
        yield _simple(
            "private offset", f"private OB at {offset}", PRIVATE_TAG, "OB", creator,
            before=noise(offset, f"before {offset}"), after=noise(256, "after"),
        )  # fmt: skip
    for name, tag_group, number in CREATORS:
        tag = tag_group << 16 | 0x1000 | number
        own = element(tag_group << 16 | 0x10, "LO", name)
        yield _simple("private creator", f"private of {name.decode()}", tag, "OB", own)
    ge = element(0x00250010, "LO", b"GEMS_SERS_01")
    yield _simple(
        "private creator", "private of GE behind a length", 0x0025101B, "OB", ge,
        before=pack("<I", 1024),
    )  # fmt: skip
    siemens = element(0x00290010, "LO", b"SIEMENS CSA HEADER")
    yield _simple(
        "private creator", "private of Siemens behind SV10", 0x00291010, "OB", siemens,
        before=b"SV10\4\3\2\1" + bytes(120),
    )  # fmt: skip
    yield _simple(group, "private without creator", 0x00111010, "OB")
    yield _simple(group, "private last block", 0x0009FF42, "OB", element(0x000900FF, "LO", b"LAST"))
    yield _simple(
        group, "private before group 0008", 0x00071001, "OB", element(0x00070010, "LO", b"LOW")
    )
    high = element(0x7FE10010, "LO", b"HIGH")
    yield _simple(group, "private after the pixels", 0x7FE11001, "OB", high)
    yield _simple(group, "private creator itself", 0x00090010, "LO")
    yield _simple(group, "private illegal number", 0x00090002, "OB")
    yield from _nested()


def _nested() -> Iterator[Place]:
    group, leaf = "private nested", tag_text(PRIVATE_TAG)

    def deep(depth: int, *, open_ended: bool = False) -> Put:
        def put(file: DicomFile, content: bytes) -> DicomFile:
            inner = _block(file.syntax, content)
            for level in range(depth):
                tag = 0x00400275 if level == depth - 1 else 0x00400008
                nest = (
                    undefined(tag, "SQ", inner)
                    if open_ended
                    else sequence(tag, inner, syntax=file.syntax)
                )
                inner = nest.encoded
            return file.with_(nest)

        return put

    def path(depth: int) -> str:
        return "(0040,0275)[0] > " + "(0040,0008)[0] > " * (depth - 1) + leaf

    for depth in (1, 2, 6, 9):
        yield Place(f"private {depth} sequences deep", group, deep(depth), path(depth))
    yield Place("private 3 open sequences deep", group, deep(3, open_ended=True), path(3))
    for syntax in ("implicit", "big endian"):
        yield Place(f"private 2 sequences deep, {syntax}", group, deep(2), path(2), syntax)

    def in_private_sequence(file: DicomFile, content: bytes) -> DicomFile:
        creator, _ = private(b"")
        inner = element(0x00080008, "CS", b"X").encoded + _block(EXPLICIT, content, number=2)
        return file.with_(creator, sequence(PRIVATE_TAG, b"", inner))

    yield Place("private SQ, second item", group, in_private_sequence, f"{leaf}[1] > (0009,1002)")

    def public_in_private(file: DicomFile, content: bytes) -> DicomFile:
        creator, _ = private(b"")
        return file.with_(creator, sequence(PRIVATE_TAG, element(DOCUMENT, "OB", content).encoded))

    yield Place(
        "public element in a private SQ",
        group,
        public_in_private,
        f"{leaf}[0] > {tag_text(DOCUMENT)}",
    )

    def in_un(file: DicomFile, content: bytes) -> DicomFile:
        creator, _ = private(b"")
        return file.with_(
            creator, undefined(PRIVATE_TAG, "UN", _block(IMPLICIT, content, number=2))
        )

    yield Place("UN of undefined length", group, in_un, f"{leaf}[0] > (0009,1002)")

    def sequence_as_un(file: DicomFile, content: bytes) -> DicomFile:
        creator, _ = private(b"")
        inner = item(_block(IMPLICIT, content, number=2), IMPLICIT)
        return file.with_(creator, element(PRIVATE_TAG, "UN", inner))

    yield Place("sequence in a UN of defined length", group, sequence_as_un, None)


# ---------------------------------------------------------------------- public values

_DESCRIPTOR = pack("<HHH", 256, 0, 16)


def _public() -> Iterator[Place]:
    group = "public binary"
    for name, tag, vr in (
        ("ICC profile", 0x00282000, "OB"),
        ("palette LUT", 0x00281201, "OW"),
        ("segmented palette LUT", 0x00281221, "OW"),
        ("curve", 0x50003000, "OW"),
        ("audio", 0x5000200C, "OW"),
        ("point coordinates OF", 0x00660016, "OF"),
        ("double values OD", 0x0070150D, "OD"),
        ("long index OL", 0x00660040, "OL"),
        ("offset table OV", 0x7FE00001, "OV"),
        ("float pixels OF", 0x7FE00008, "OF"),
        ("double pixels OD", 0x7FE00009, "OD"),
        ("certificate OB", 0x04000115, "OB"),
        ("signature OB", 0x04000120, "OB"),
        ("encrypted content OB", 0x04000520, "OB"),
        ("spectroscopy OF", 0x56000020, "OF"),
        ("unknown standard tag", 0x0042FFF0, "OB"),
        ("patient comments as UN", 0x00104000, "UN"),
        ("curve label as OB", 0x00082111, "OB"),
    ):
        yield _simple(group, name, tag, vr)
    overlay = (
        element(0x60000010, "US", pack("<H", 64)), element(0x60000011, "US", pack("<H", 64)),
        element(0x60000040, "CS", b"G"), element(0x60000050, "SS", pack("<hh", 1, 1)),
        element(0x60000100, "US", pack("<H", 1)), element(0x60000102, "US", pack("<H", 0)),
    )  # fmt: skip
    yield _simple(group, "overlay", 0x60003000, "OW", *overlay)
    yield _simple("slack", "overlay beyond its rows", 0x60003000, "OW", *overlay, before=bytes(512))

    def wave(file: DicomFile, content: bytes) -> DicomFile:
        parts = (
            element(0x003A0005, "US", pack("<H", 1)), element(0x003A0010, "UL", pack("<I", 64)),
            element(0x003A001A, "DS", b"500"), element(0x54001004, "US", pack("<H", 16)),
            element(0x54001006, "CS", b"SS"), element(0x54001010, "OW", bytes(128) + content),
        )  # fmt: skip
        return file.with_(sequence(0x54000100, b"".join(part.encoded for part in parts)))

    yield Place("waveform", group, wave, "(5400,0100)[0] > (5400,1010)")

    def icon(file: DicomFile, content: bytes) -> DicomFile:
        parts = (
            element(0x00280002, "US", pack("<H", 1)), element(0x00280004, "CS", b"MONOCHROME2"),
            element(0x00280010, "US", pack("<H", 64)), element(0x00280011, "US", pack("<H", 64)),
            element(0x00280100, "US", pack("<H", 8)), element(0x00280101, "US", pack("<H", 8)),
            element(0x00280102, "US", pack("<H", 7)), element(0x00280103, "US", pack("<H", 0)),
            element(PIXEL_DATA, "OB", content.rjust(4096, b"\0")),
        )  # fmt: skip
        return file.with_(sequence(0x00880200, b"".join(part.encoded for part in parts)))

    yield Place("icon image", group, icon, f"(0088,0200)[0] > {tag_text(PIXEL_DATA)}")

    def modality_lut(file: DicomFile, content: bytes) -> DicomFile:
        parts = (
            element(0x00283002, "US", _DESCRIPTOR), element(0x00283004, "LO", b"US"),
            element(0x00283006, "OW", bytes(512) + content),
        )  # fmt: skip
        return file.with_(sequence(0x00283000, b"".join(part.encoded for part in parts)))

    yield Place(
        "LUT data beyond its descriptor", "slack", modality_lut, "(0028,3000)[0] > (0028,3006)"
    )


def _text() -> Iterator[Place]:
    group = "public text"
    for name, tag, vr in (
        ("image comments LT", 0x00204000, "LT"),
        ("patient comments LT", 0x00104000, "LT"),
        ("derivation ST", 0x00082111, "ST"),
        ("study description LO", 0x00081030, "LO"),
        ("institution LO", 0x00080080, "LO"),
        ("accession SH", 0x00080050, "SH"),
        ("contrast agent LO", 0x00180010, "LO"),
        ("text value UT", 0x0040A160, "UT"),
        ("retrieve URL UR", 0x00081190, "UR"),
        ("long code UC", 0x00080119, "UC"),
        ("patient name PN", PATIENT_NAME, "PN"),
    ):
        yield _simple(group, name, tag, vr, text=True)
    yield _simple(
        group, "patient comments behind text", 0x00104000, "LT",
        before=b"Known allergies: none.\r\n",
        text=True,
    )  # fmt: skip
    yield _simple("slack", "name behind a NUL", PATIENT_NAME, "PN", before=b"Doe^Jane\0")
    yield _simple("slack", "description behind a NUL", 0x0008103E, "LO", before=b"T2 axial\0")

    def report(file: DicomFile, content: bytes) -> DicomFile:
        inner = (
            element(0x0040A040, "CS", b"TEXT").encoded + element(0x0040A160, "UT", content).encoded
        )
        return file.with_(sequence(0x0040A730, b"", inner))

    yield Place("SR text value", group, report, "(0040,A730)[1] > (0040,A160)", text=True)


# ---------------------------------------------------------------------- documents


def _documents() -> Iterator[Place]:
    path = tag_text(DOCUMENT)

    def declared(mime: str, before: bytes = b"") -> Put:
        def put(_file: DicomFile, content: bytes) -> DicomFile:
            return document(before + content).with_(element(0x00420012, "LO", mime.encode()))

        return put

    for mime in MIME_TYPES:
        yield Place(
            f"document as {mime or 'nothing'}", "document", declared(mime), path,
            also=("DOC-MIME-MISMATCH",),
        )  # fmt: skip
    yield Place(
        "document amid a PDF", "document", declared("application/pdf", b"%PDF-1.4\n" + bytes(500)),
        path,
    )  # fmt: skip

    def beyond(_file: DicomFile, content: bytes) -> DicomFile:
        return document(b"%PDF-1.4\n%%EOF\n" + content, length=15).with_(
            element(DOCUMENT_LENGTH, "UL", pack("<I", 15))
        )

    yield Place("document beyond its length", "slack", beyond, path)


# ---------------------------------------------------------------------- pixel data


def _native() -> Iterator[Place]:
    group, path = "native pixels", tag_text(PIXEL_DATA)

    def over(where: Callable[[int, int], int]) -> Put:
        def put(file: DicomFile, content: bytes) -> DicomFile:
            pixels = file.value(PIXEL_DATA)
            at = where(len(pixels), len(content))
            return with_pixels(file, pixels[:at] + content + pixels[at + len(content) :])

        return put

    def beyond(file: DicomFile, content: bytes) -> DicomFile:
        return with_pixels(file, file.value(PIXEL_DATA) + content)

    middle = over(lambda size, need: (size - need) // 2 & ~1)
    for syntax in ("explicit", "implicit", "big endian", "deflated"):
        room = 250_000 if syntax == "explicit" else 6000
        yield Place(
            f"pixels in the middle, {syntax}", group, middle, path, syntax, room,
            inner=syntax == "deflated",
        )  # fmt: skip
        yield Place(
            f"pixels beyond the last row, {syntax}", group, beyond, path, syntax,
            inner=syntax == "deflated",
        )  # fmt: skip
    yield Place("pixels at the start", group, over(lambda *_: 0), path, room=250_000)
    yield Place("pixels at an odd offset", group, over(lambda *_: 777), path, room=250_000)
    last = over(lambda size, need: size - need)
    yield Place("pixels at the end", group, last, path, room=250_000)


def fragments(value: bytes) -> list[bytes]:
    """The items of encapsulated pixel data (PS3.5 section A.4), the offset table first."""
    found, at = [], 0
    while value[at : at + 4] == b"\xfe\xff\x00\xe0":
        size = int.from_bytes(value[at + 4 : at + 8], "little")
        found.append(value[at + 8 : at + 8 + size])
        at += 8 + size
    return found


def _encapsulated() -> Iterator[Place]:
    tag = tag_text(PIXEL_DATA)

    def change(edit: Callable[[list[bytes], bytes], list[bytes]]) -> Put:
        def put(file: DicomFile, content: bytes) -> DicomFile:
            parts = edit(fragments(file.value(PIXEL_DATA)), content)
            even = [part + bytes(len(part) % 2) for part in parts]
            return file.with_(undefined(PIXEL_DATA, "OB", *even))

        return put

    def after_end(parts: list[bytes], content: bytes) -> list[bytes]:
        return [*parts[:-1], parts[-1] + content]

    def after_first(parts: list[bytes], content: bytes) -> list[bytes]:
        return [parts[0], parts[1] + content, *parts[2:]]

    def comment(parts: list[bytes], content: bytes) -> list[bytes]:
        segment = b"\xff\xfe" + pack(">H", len(content) + 2) + content
        return [parts[0], parts[1][:2] + segment + parts[1][2:], *parts[2:]]

    for syntax in ("RLE", "JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000"):
        count = len(fragments(carrier(SYNTAXES[syntax]).value(PIXEL_DATA)))
        last = f"{tag}[{count - 1}]"
        group = f"fragments, {syntax}"
        yield Place(f"{syntax} after the end marker", group, change(after_end), last, syntax)
        yield Place(
            f"{syntax} extra fragment", group, change(lambda parts, more: [*parts, more]),
            f"{tag}[{count}]", syntax,
        )  # fmt: skip
        yield Place(
            f"{syntax} fragment first", group,
            change(lambda parts, more: [parts[0], more, *parts[1:]]), f"{tag}[1]", syntax,
        )  # fmt: skip
        yield Place(
            f"{syntax} offset table", group, change(lambda parts, more: [more, *parts[1:]]),
            f"{tag}[0]", syntax,
        )  # fmt: skip
        yield Place(
            f"{syntax} after the pixels", group,
            lambda file, content: file.with_(*private(content, group=0x7FE1)),
            tag_text(0x7FE11001), syntax,
        )  # fmt: skip
        if syntax.startswith("JPEG") and syntax != "JPEG 2000":
            yield Place(
                f"{syntax} comment segment", group, change(comment), f"{tag}[1]", syntax, 65_000
            )
    yield Place(
        "RLE after the first frame", "fragments, RLE", change(after_first), f"{tag}[1]", "RLE"
    )

    def icon(file: DicomFile, content: bytes) -> DicomFile:
        return file.with_(sequence(0x00880200, undefined(PIXEL_DATA, "OB", b"", content).encoded))

    yield Place("encapsulated icon", "fragments, JPEG", icon, f"(0088,0200)[0] > {tag}[1]", "JPEG")

    def private_fragments(file: DicomFile, content: bytes) -> DicomFile:
        creator, _ = private(b"")
        return file.with_(creator, undefined(PRIVATE_TAG, "OB", b"", content))

    yield Place(
        "private OB of fragments", "odd carriers", private_fragments, f"{tag_text(PRIVATE_TAG)}[1]"
    )


# ---------------------------------------------------------------------- odd carriers


def _odd_carriers() -> Iterator[Place]:
    group = "odd carriers"

    def first(tag: int, vr: str) -> Put:
        return lambda file, content: file.after_meta(element(tag, vr, content, file.syntax))

    yield Place("group length (0009,0000) OB first", group, first(0x00090000, "OB"), "(0009,0000)")
    yield _simple(group, "group length (0008,0000) OB", 0x00080000, "OB")
    yield _simple(group, "group length (0010,0000) UN", 0x00100000, "UN")
    for name, tag, vr in (
        ("rows as OB", 0x00280010, "OB"),
        ("patient ID as OB", 0x00100020, "OB"),
        ("SOP instance UID as UN", 0x00080018, "UN"),
        ("series number as UT", 0x00200011, "UT"),
        ("referenced image as OB", 0x00081140, "OB"),
        ("command group (0000,0110) OB", 0x00000110, "OB"),
        ("illegal group 0003", 0x00031001, "OB"),
        ("group FFFF", 0xFFFF1001, "OB"),
    ):
        yield _simple(group, name, tag, vr)
    yield Place("first element out of order", group, first(0x00091001, "OB"), tag_text(PRIVATE_TAG))
    yield Place(
        "unknown VR", group,
        lambda file, content: file.with_(
            private(b"")[0],
            Element(
                PRIVATE_TAG, pack("<HH2sHI", 9, 0x1001, b"ZZ", 0, len(content)), content
            ),
        ),
        None,
    )  # fmt: skip
    yield Place(
        "duplicate of an element", group,
        lambda file, content: file.but(
            dataset=(
                *(part for part in file.dataset if part.tag < PRIVATE_TAG),
                *private(b"honest"), element(PRIVATE_TAG, "OB", content),
                *(part for part in file.dataset if part.tag > PRIVATE_TAG),
            )
        ),
        tag_text(PRIVATE_TAG),
    )  # fmt: skip


# ---------------------------------------------------------------------- after the data set


def _after() -> Iterator[Place]:
    tag = tag_text(TRAILING_PADDING)
    yield _simple("trailing padding", "trailing padding", TRAILING_PADDING, "OB")
    yield _simple(
        "trailing padding", "trailing padding behind zeros", TRAILING_PADDING, "OB",
        before=bytes(1000),
    )  # fmt: skip
    yield Place(
        "trailing padding in an item", "trailing padding",
        lambda file, content: file.with_(
            sequence(0x00400275, element(TRAILING_PADDING, "OB", content).encoded)
        ),
        f"(0040,0275)[0] > {tag}",
    )  # fmt: skip
    for syntax in SYNTAXES:
        yield Place(
            f"tail, {syntax}", "tail", lambda file, content: file.but(tail=content), None, syntax
        )
    yield Place(
        "tail behind zeros",
        "tail",
        lambda file, content: file.but(tail=bytes(4096) + content),
        None,
    )
    yield Place(
        "tail behind noise", "tail",
        lambda file, content: file.but(tail=noise(3000, "tail") + content), None,
    )  # fmt: skip


def _deflated() -> Iterator[Place]:
    group, syntax = "deflated", "deflated"
    yield Place(
        "inflated image comments", group, _with(0x00204000, "LT"), "(0020,4000)", syntax,
        SHORT_ROOM,
        text=True, inner=True,
    )  # fmt: skip
    yield Place(
        "inflated (0009,0000) OB", group,
        lambda file, content: file.after_meta(element(0x00090000, "OB", content)),
        "(0009,0000)", syntax, inner=True,
    )  # fmt: skip
    yield Place(
        "inflated trailing padding", group, _with(TRAILING_PADDING, "OB"),
        tag_text(TRAILING_PADDING), syntax, inner=True,
    )  # fmt: skip
    yield Place(
        "inflated tail", group,
        lambda file, content: file.but(
            dataset=(*file.dataset, Element(0xFFFFFFFF, b"", content))
        ),
        None, syntax, inner=True,
    )  # fmt: skip


def _gaps() -> Iterator[Place]:
    def surplus_item(file: DicomFile, content: bytes) -> DicomFile:
        inside = element(0x00080050, "SH", b"A1").encoded + b"\xff\xff\xff\xff" + content
        return file.with_(sequence(0x00400275, inside))

    yield Place("item with bytes no element explains", "gap", surplus_item, None)

    def surplus_sequence(file: DicomFile, content: bytes) -> DicomFile:
        honest = item(element(0x00080050, "SH", b"A1").encoded)
        return file.with_(element(0x00400275, "SQ", honest + content))

    yield Place("sequence with bytes after its items", "gap", surplus_sequence, None)

    def between(file: DicomFile, content: bytes) -> DicomFile:
        kept = fragments_element(file)
        return file.with_(kept._replace(value=kept.value[:-8] + content + kept.value[-8:]))

    yield Place("bytes between fragments and their end", "gap", between, None, "JPEG")
    yield Place(
        "no DICOM at all", "bare",
        lambda file, content: file.but(
            preamble=b"", meta=(), tail=b"",
            dataset=(Element(0, b"", content),), syntax=EXPLICIT,
        ),
        None,
    )  # fmt: skip
    yield Place(
        "data set without preamble", "bare",
        lambda file, content: file.but(preamble=b"", meta=()).with_(*private(content)),
        tag_text(PRIVATE_TAG),
    )  # fmt: skip


def fragments_element(file: DicomFile) -> Element:
    """The Pixel Data element of a file."""
    return next(part for part in file.dataset if part.tag == PIXEL_DATA)
