"""Honest files that look bad: the hard negatives, over every carrier that makes sense."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterator
from random import Random
from struct import pack

from dicomguard.model import Verdict
from fixtures import honest
from fixtures.carriers import carrier, document, with_pixels
from fixtures.dicomfile import (
    PATIENT_NAME,
    PIXEL_DATA,
    TRAILING_PADDING,
    DicomFile,
    element,
    padded_preamble,
    private,
    sequence,
    undefined,
)
from fixtures.directory import directory
from fixtures.documents import pdf_with
from fixtures.formats import pdf

from .case import Bar, Case
from .places import SYNTAXES, fragments

MANUFACTURER, CHARACTER_SET, COMMENTS, SERIES = 0x00080070, 0x00080005, 0x00104000, 0x0008103E


def cases(seed: int) -> Iterator[Case]:
    """Every hard negative; ``seed`` changes the noise."""
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    for fixture in honest.fixtures():
        if fixture.verdict is Verdict.CLEAN:
            yield _case(f"fixture-{fixture.name}", fixture.name, fixture.data)
    for syntax, source in SYNTAXES.items():
        yield _case(f"carrier-{syntax}", "carrier", carrier(source).data)
    yield from _noise(random)
    yield from _preambles(random)
    yield from _vendors(random)
    yield from _texts()
    yield from _documents()
    yield from _pixels(random)


def _case(name: str, kind: str, data: bytes) -> Case:
    return Case(
        name=f"honest-{name}", family="honest", kind=kind, place="honest", data=data, bar=Bar.CLEAN
    )


_SHORT_MAGICS = (
    b"MZ", b"#!", b"\x1f\x8b\x08", b"\xff\xd8\xff", b"PK", b"BZh", b"\x78\x9c", b"<?", b"{{", b"${",
    b"<%", b"../", b"%P", b"\x90" * 32, b"PE\0\0",
)  # fmt: skip


def _noise(random: Random) -> Iterator[Case]:
    """Pixels like noise, strewn with what rules of two or three bytes would take for a payload."""
    for number in range(12):
        pixels = bytearray(random.randbytes(8192))
        for _ in range(200):
            magic = random.choice(_SHORT_MAGICS)
            at = random.randrange(8192 - 40)
            pixels[at : at + len(magic)] = magic
        source = ("explicit", "implicit", "big endian")[number % 3]
        file = with_pixels(carrier(SYNTAXES[source]), bytes(pixels))
        yield _case(f"noise-{number}", "pixels like noise", file.data)
    for number in range(4):
        values = [random.randrange(-900, 900) for _ in range(4096)]
        file = with_pixels(carrier(), pack("<4096h", *values))
        yield _case(f"signed-{number}", "signed pixels", file.data)
    mz = bytearray(random.randbytes(8192))
    for at in range(0, 8000, 128):
        mz[at : at + 2] = b"MZ"
        mz[at + 0x3C : at + 0x40] = pack("<I", random.randrange(64, 4000))
    file = with_pixels(carrier(), bytes(mz))
    yield _case("mz-with-pointers", "pixels like noise", file.data)


def _preambles(random: Random) -> Iterator[Case]:
    for number in range(6):
        head = pack("<IIIIIQ", 0x30, 0x8C, 6, 0x92000001, random.randrange(1 << 16), 0)
        tail = pack("<II", number, random.randrange(1 << 32))
        file = carrier().but(preamble=padded_preamble(head, tail))
        yield _case(f"ge-preamble-{number}", "preamble", file.data)
    for name, offset in (("past-end", 1 << 24), ("into-text", 700), ("into-pixels", 4000)):
        file = carrier().but(preamble=padded_preamble(b"II*\0" + pack("<I", offset)))
        yield _case(f"tiff-{name}", "preamble", file.data)
    for name, preamble in (
        ("siemens", b"\x5c\x01\0\0"), ("stray", bytes(17) + b"\x01"),
        ("ids", b"R_1F00\0WFM02\0EPICCP-REMOTE\0"),
    ):  # fmt: skip
        yield _case(
            f"preamble-{name}", "preamble", carrier().but(preamble=padded_preamble(preamble)).data
        )


def _vendors(random: Random) -> Iterator[Case]:
    def blob(
        name: str, vendor: tuple[bytes, bytes], tag: int, value: bytes, vr: str = "OB"
    ) -> Case:
        maker, creator = vendor
        parts = private(value, vr, creator=creator, group=tag >> 16, number=tag & 0xFF)
        file = carrier().with_(element(MANUFACTURER, "LO", maker), *parts)
        return _case(f"vendor-{name}", "vendor blob", file.data)

    ge, siemens = b"GE MEDICAL SYSTEMS", b"SIEMENS"
    for number in range(6):
        text = b"".join(b"set Field%d {%d}\n" % (at, random.randrange(1 << 20)) for at in range(90))
        packed = gzip.compress(text, mtime=0)
        yield blob(
            f"ge-{number}", (ge, b"GEMS_SERS_01"), 0x0025101B, pack("<I", len(packed)) + packed
        )
    xprotocol = (
        b'<XProtocol>\n{\n <Name> "PhoenixMetaProtocol"\n <ParamMap.""> { <ParamLong."Count"> { 1 }'
        b' }\n <EventSubscriber> <Method."OnStart"> { eval }\n'
        b" <Script> function f() { return; }\n}\n"
    )  # fmt: skip
    for number in range(4):
        header = honest.csa_header() + xprotocol * (number + 1) + random.randbytes(64)
        yield blob(f"csa-{number}", (siemens, b"SIEMENS CSA HEADER"), 0x00291020, header)
    xaml = (
        b'<ResourceDictionary xmlns="http://schemas.microsoft.com/winfx/2006/xaml/presentation" '
        b'xmlns:x="http://schemas.microsoft.com/winfx/2006/xaml"><x:String>OK</x:String>'
        b"</ResourceDictionary>"
    )
    yield blob(
        "siemens-xaml", (siemens, b"SIEMENS CSA HEADER"), 0x00291020, honest.csa_header() + xaml
    )
    yield blob(
        "siemens-xml",
        (siemens, b"SIEMENS MR SDS 01"),
        0x00211019,
        b"<DataRole><Role/></DataRole>",
        "UT",
    )
    yield blob(
        "oog", (siemens, b"SIEMENS MEDCOM OOG"), 0x00291010, b"STEP;FILE_DESCRIPTION(('x'));\n" * 40
    )
    philips = b'<?xml version="1.0" encoding="UTF-8"?><SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"><SOAP-ENV:Body><ExamCard/></SOAP-ENV:Body></SOAP-ENV:Envelope>'
    yield blob("philips-soap", (b"Philips", b"Philips MR Imaging DD 002"), 0x20051032, philips)
    packed = zlib.compress(random.randbytes(6000))
    yield blob("philips-us-zlib", (b"Philips", b"Philips US Private 3"), 0x200D103C, packed)
    yield blob(
        "uih",
        (b"UIH", b"Image Private Header"),
        0x00651007,
        b"\xff\0\x79\xfc" + random.randbytes(15_000),
    )
    yield blob("elscint", (b"ELSCINT", b"ELSCINT1"), 0x01F71026, random.randbytes(20_000), "OW")
    sonosite = b'<?xml version="1.0"?><!-- *** Settings *** --><x:set xmlns:x="urn:sonosite"><x:v>1</x:v></x:set>'  # noqa: E501
    yield blob("sonosite", (b"SonoSite", b"SonoSite"), 0x00191050, sonosite, "UT")
    for number, page in enumerate((
        b'<html><head><script type="text/javascript" src="report.js"></script></head></html>',
        (b"<!DOCTYPE html><html><body><script>function show(a){document.getElementById(a)"
        b".style.display='block';print();}</script><a onclick=\"show('x')\">+</a></body></html>"),
        b'<html><script src="https://code.jquery.com/jquery-3.6.0.min.js"></script></html>',
    )):  # fmt: skip
        yield blob(f"report-{number}", (b"ACME", b"ACME REPORT 1.0"), 0x00091001, page, "UT")
    json = b'{"ver":1,"grx":[{"x":1.5},{"y":-2}],"note":"eval"}'
    yield blob("ge-json", (ge, b"GEMS_PARM_01"), 0x004310C3, json, "LO")
    jpeg = fragments(carrier(SYNTAXES["JPEG"]).value(PIXEL_DATA))[1]
    yield blob("thumbnail", (b"Hologic", b"HOLOGIC, Inc."), 0x7E011012, jpeg)
    yield blob(
        "base64-noise",
        (b"ACME", b"ACME 1"),
        0x00091001,
        base64.b64encode(random.randbytes(600)),
        "UT",
    )
    yield blob(
        "hex-hash", (b"ACME", b"ACME 1"), 0x00091001, random.randbytes(32).hex().encode(), "LO"
    )
    yield blob(
        "toshiba-path",
        (b"TOSHIBA", b"TOSHIBA_MEC_MR3^10"),
        0x700D1019,
        b'<?xml version="1.0"?><a>C:\\MRMPlus\\tmp\\current_file</a>',
    )
    yield blob(
        "decimal-list",
        (b"ACME", b"ACME 1"),
        0x00091001,
        b"\\".join(b"%d" % random.randrange(256) for _ in range(400)),
        "IS",
    )


_HONEST_TEXTS = (
    (PATIENT_NAME, "PN", b"O'Brien^Mary"), (PATIENT_NAME, "PN", b"D'Angelo^Or'1"),
    (PATIENT_NAME, "PN", b"----"), (PATIENT_NAME, "PN", b"Null^Test"), (PATIENT_NAME, "PN", b"^^^"),
    (SERIES, "LO", b"A->P"), (SERIES, "LO", b"SAG > TRA-1.5 > COR-0.3"),
    (SERIES, "LO", b"CSA MPR\\\\CSAPARALLEL"), (SERIES, "LO", b"=== localizer ==="),
    (SERIES, "LO", b"T1 & T2 (select best)"), (SERIES, "LO", b"-- repeat --"),
    (SERIES, "LO", b"marked lesion<MPR Collection>"), (SERIES, "LO", b"HL1,2;HU1,2"),
    (SERIES, "LO", b"1;HFS;100;;O;0;0"), (SERIES, "LO", b"+C post <5 min"),
    (COMMENTS, "LT", b"Drop in pressure; select union of both sides or delete series 3"),
    (COMMENTS, "LT", b"Patient > 18 yrs & < 40; see St. John's.\r\nNext line\tTab"),
    (COMMENTS, "LT", b"See https://github.com/fedorov/dcmqi.git or http://www.iec.ch"),
    (COMMENTS, "LT", b"Please ignore previous report; the system was prompt. Instructions given."),
    (COMMENTS, "LT", b"#!important: 50 % of cases, {see table}, $5 each"),
    (COMMENTS, "LT", b"Finding: <b>none</b> <p>body of the script</p> (SR with words of HTML)"),
    (COMMENTS, "LT", b"echo time 12 ms, set start if goto rem sleep"),
    (COMMENTS, "LT", b"Ticket: user ran powershell -File import.ps1 and import failed"),
    (COMMENTS, "LT", b"C:\\temp %TEMP%\\scan.log path; run cmd /c dir to list"),
    (COMMENTS, "LT", b"Patient uses curl -up exercises; base64 -data; chmod 755 n/a"),
    (COMMENTS, "LT", b"wget -q http://server/protocol | see also sh shell"),
    (COMMENTS, "LT", b"Discussion of <script> tags in a viewer; see document.write( ) example"),
    (COMMENTS, "LT", b"geb. ../../2020, cough ../fever; delete from PACS; non-union select screws"),
    (COMMENTS, "LT", b"\\\\pacs.hospital.local\\reports\\1.pdf"), (SERIES, "LO", b"Brain & Echo"),
    (0x00080018, "UI", b"N/A"), (0x00080018, "UI", b"urn:oid:1.2.3"),
    (0x00081190, "UR", b"http://10.1.2.3:8080/wado?requestType=WADO"),
    (0x00081190, "UR", b"file:///D:/images/1.dcm"), (0x00081010, "SH", b"chest;nc"),
    (0x00180050, "DS", b"0.12566370614359174"), (0x00180050, "DS", b"1.0e-3"),
    (0x00201209, "IS", b"4.000000\\3.000000"), (0x00080018, "UI", b"2.25.329800735698586629295641978511506172918"),  # noqa: E501
    (0x00100020, "LO", b"a3f1" * 16), (0x00100020, "LO", b"ID/2019/17"), (0x00100020, "LO", b"A;B"),
    (0x00080080, "LO", b"Hospital & Clinic / Radiology"), (0x00081010, "SH", b"MR-1_(3T)"),
    (0x00181030, "LO", b"t2_tse_tra_p2 (1/2)"), (0x00321030, "LO", b"knee\r\nleft"),
    (0x00081190, "UR", b"https://pacs.example.org/wado?requestType=WADO&studyUID=1.2.3"),
)  # fmt: skip


def _texts() -> Iterator[Case]:
    for number, (tag, vr, value) in enumerate(_HONEST_TEXTS):
        for syntax in ("explicit", "implicit"):
            file = carrier(SYNTAXES[syntax])
            new = file.with_(element(tag, vr, value, file.syntax))
            yield _case(f"text-{number}-{syntax}", "honest text", new.data)
    for name, terms, value in (
        ("japanese", b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ("half-width", b"ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"),  # noqa: E501
        ("korean", b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
        ("chinese", b"GB18030", "Wang^Xiaodong=\u738b^\u5c0f\u4e1c".encode("gb18030")),
        ("gb-backslash", b"GB18030", "Zhang=\u8a73^\u5e70".encode("gb18030")),
        ("utf-8", b"ISO_IR 192", "M\u00fcller^J\u00f6rg=\u738b^\u5c0f\u6771".encode()),
        ("latin", b"ISO_IR 100", "Buc^J\u00e9r\u00f4me".encode("latin-1")),
        ("greek", b"ISO_IR 126", "\u0394\u03b9\u03bf\u03bd".encode("iso8859-7")),
        ("cyrillic", b"ISO_IR 144", "\u041b\u044e\u043a".encode("iso8859-5")),
        ("misspelled", b"ISO-IR 100", b"Doe^Jane"),
    ):  # fmt: skip
        file = carrier().with_(
            element(CHARACTER_SET, "CS", terms), element(PATIENT_NAME, "PN", value)
        )
        yield _case(f"name-{name}", "character set", file.data)
    text = element(0x0040A160, "UT", b"No <acute> finding; script follows. A > B && C < D 'quoted'")
    report = sequence(0x0040A730, element(0x0040A040, "CS", b"TEXT").encoded + text.encoded)
    yield _case("report", "honest text", carrier().with_(report).data)
    yield _case("dicomdir", "DICOMDIR", directory(b"DIR1\\IM0001").data)


def _documents() -> Iterator[Case]:
    for name, content in (
        ("plain", pdf()), ("padded", pdf() + bytes(2)),
        ("goto", pdf_with(b"/S /GoTo /D [3 0 R /Fit]")),
        ("form", pdf_with(b"", extra=b" /AcroForm << /Fields [] /NeedAppearances true >>")),
        ("object-stream", pdf_with(b"", hidden=True)),
        (
            "link",
            pdf_with(
                b"", extra=b" /X << /Subtype /Link /A << /S /URI /URI (https://example.org) >> >>"
            ),
        ),
        ("updated", pdf() + pdf_with(b"")[9:]),
    ):  # fmt: skip
        yield _case(f"pdf-{name}", "legitimate PDF", document(content).data)
    cda = b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><text>fine</text></ClinicalDocument>'  # noqa: E501
    stl = b"fixture".ljust(80) + pack("<I", 1) + bytes(50)
    for name, content, mime, sop in (
        ("cda", cda, b"text/xml", b"2"), ("stl", stl, b"model/stl", b"3"),
        ("obj", b"mtllib part.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", b"model/obj", b"4"),
        ("mtl", b"newmtl bone\nKd 1 1 1\nmap_Kd bone.png\n", b"model/mtl", b"5"),
    ):  # fmt: skip
        uid = b"1.2.840.10008.5.1.4.1.1.104." + sop
        file = document(content).with_(
            element(0x00420012, "LO", mime), element(0x00080016, "UI", uid),
            element(0x00020002, "UI", uid),
        )  # fmt: skip
        yield _case(f"document-{name}", "legitimate document", file.data)


def _pixels(random: Random) -> Iterator[Case]:
    for size in (2, 512, 1 << 20):
        yield _case(f"tail-zero-{size}", "zero tail", carrier().but(tail=bytes(size)).data)
        file = carrier().with_(element(TRAILING_PADDING, "OB", bytes(size)))
        yield _case(f"padding-zero-{size}", "zero padding", file.data)

    def split(file: DicomFile, parts: list[bytes]) -> bytes:
        return file.with_(undefined(PIXEL_DATA, "OB", *parts)).data

    for syntax in ("JPEG", "JPEG 2000", "JPEG-LS", "JPEG lossless"):
        file = carrier(SYNTAXES[syntax])
        frame = fragments(file.value(PIXEL_DATA))[1]
        half = len(frame) // 2 & ~1
        yield _case(
            f"two-fragments-{syntax}", "fragments", split(file, [b"", frame[:half], frame[half:]])
        )
        yield _case(f"padded-{syntax}", "fragments", split(file, [b"", frame + b"\0\0"]))
    icon = (
        element(0x00280002, "US", pack("<H", 1)), element(0x00280004, "CS", b"MONOCHROME2"),
        element(0x00280010, "US", pack("<H", 64)), element(0x00280011, "US", pack("<H", 64)),
        element(0x00280100, "US", pack("<H", 8)), element(0x00280101, "US", pack("<H", 8)),
        element(0x00280102, "US", pack("<H", 7)), element(0x00280103, "US", pack("<H", 0)),
        element(PIXEL_DATA, "OB", random.randbytes(4096)),
    )  # fmt: skip
    file = carrier().with_(sequence(0x00880200, b"".join(part.encoded for part in icon)))
    yield _case("icon", "icon image", file.data)
