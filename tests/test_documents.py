"""What is active in documents, markup and serialised objects is found; what is honest is not."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomguard import Verdict, scan_bytes
from dicomguard.payloads.validators import VALIDATORS
from fixtures.carriers import carrier, document
from fixtures.dicomfile import element, private
from fixtures.documents import (
    ACTIVE,
    HONEST,
    MACRO,
    calling_pickle,
    inside,
    macro_document,
    npy_of,
    pdf_with,
    stl,
    vba_project,
)
from fixtures.formats import PDF_HEAD
from test_check import environment
from test_payloads import assert_sound, findings, metas, triggers

JS = b"/S /JavaScript /JS (app.alert\\(42\\))"


def ids(data: bytes) -> set[str]:
    return {finding.kind.id for finding in scan_bytes(data).findings}


# ---------------------------------------------------------------------- fires, and does not


@pytest.mark.parametrize("name", ACTIVE)
def test_what_is_active_is_found_by_its_rule(name: str) -> None:
    sample = ACTIVE[name]
    front = bytes(2000)
    data = front + sample.data + bytes(16)
    hits = [hit for hit in findings(data, len(front), len(data) - 16) if hit.rule == sample.rule]
    assert {hit.id for hit in hits} == {sample.id}
    assert all(len(front) <= hit.payload.start < hit.payload.end for hit in hits)


@pytest.mark.parametrize("name", HONEST)
def test_what_is_honest_asks_the_question_and_is_refused(name: str) -> None:
    sample = HONEST[name]
    assert sample.rule in {rule for rule, _, _ in triggers(sample.data)}
    assert [hit for hit in findings(sample.data) if hit.rule == sample.rule] == []
    assert scan_bytes(inside(sample)).verdict is Verdict.CLEAN


def test_every_rule_has_both() -> None:
    here = {sample.rule for sample in ACTIVE.values()}
    files = ("documents", "models", "markup", "serialised", "pickles")
    rules = Path(__file__).parents[1] / "rules"
    text = "".join((rules / f"{file}.yar").read_text() for file in files)
    declared = {name for name in metas() if f"rule {name}\n" in text}
    assert declared - here == {"pdf", "ole"}  # tested as formats, with the others
    assert {sample.rule for sample in HONEST.values()} == here - {"macros"}


# ---------------------------------------------------------------------- PDF


@pytest.mark.parametrize(
    "spelled",
    [
        b"/S/JavaScript/JS(app.alert\\(42\\))",
        b"/S%comment\r\n/JavaScript%\n/JS%)\n(app.alert\\(42\\))",
        b"/#53 /#4A#61#76#61#53#63#72#69#70#74 /J#53 (app.alert\\(42\\))",
        b"/S /JavaScript /JS <FEFF006100700070002E0061006C0065007200740028003400320029>",
        b"/S /JavaScript /JS (\\141pp.\\141lert\\(42\\))",
        b"/S /GoTo /D [3 0 R /Fit] /Next [<< /S /JavaScript /JS (app.alert\\(42\\)) >>]",
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_pdf_is_active_however_it_is_spelled(spelled: bytes, *, hidden: bool) -> None:
    assert "DOC-PDF-ACTIVE" in ids(document(pdf_with(spelled, hidden=hidden)).data)


@pytest.mark.parametrize(
    ("filters", "packed"),
    [
        (b"/FlateDecode", zlib.compress),
        (b"/Fl", zlib.compress),
        (b"[/ASCIIHexDecode /FlateDecode]", lambda raw: zlib.compress(raw).hex().encode() + b">"),
        (b"/ASCIIHexDecode", lambda raw: raw.hex().encode() + b">"),
    ],
)
def test_object_streams_are_read_through_their_filters(
    filters: bytes, packed: Callable[[bytes], bytes]
) -> None:
    inner = packed(b"1 0 << /Type /Catalog /OpenAction << " + JS + b" >> >>")
    stream = (
        b"4 0 obj\n<< /Type /ObjStm /N 1 /First 4 /Filter %s >>\nstream\n%s\nendstream\nendobj\n"
    )
    data = PDF_HEAD + stream % (filters, inner) + b"startxref\n0\n%%EOF\n"
    assert "DOC-PDF-ACTIVE" in ids(document(data).data)


@pytest.mark.parametrize("harm", ["checksum", "end", "name", "number"])
def test_a_harmed_or_disguised_object_stream_is_read(harm: str) -> None:
    inner = b"1 0 << /Type /Catalog /OpenAction << " + JS + b" >> >>"
    packed = zlib.compress(inner)
    packed = {"checksum": packed[:-1] + b"\0", "end": packed[:-6]}.get(harm, packed)
    head = {
        "name": b"/Type 9 0 R /F#69rst 4 /Filter 10 0 R /X (obj)",
        "number": b"/First 11 0 R /Filter [/LZWDecode /FlateDecode]",
    }.get(harm, b"/First 4 /Filter /FlateDecode")
    data = PDF_HEAD + b"4 0 obj\n<< %s >>\nstream\n%s\nendstream\n%%%%EOF\n" % (head, packed)
    assert "DOC-PDF-ACTIVE" in ids(document(data).data)


@pytest.mark.parametrize(
    "flood",
    [b"/AA << /O << /O << " * 20_000, b"/JS (a) " * 20_000, b"<< /First 4 >> stream\n" * 5000],
)
def test_nothing_hides_behind_a_flood(flood: bytes) -> None:
    data = PDF_HEAD + flood + b"\n" + pdf_with(JS)[9:]
    assert "DOC-PDF-ACTIVE" in ids(document(data).data)


def test_the_newest_of_two_objects_counts_as_well() -> None:
    data = pdf_with(b"", extra=b" /OpenAction 7 0 R")
    data += b"7 0 obj\n<< /S /GoTo /D [3 0 R /Fit] >>\nendobj\n" * 6
    data += b"7 0 obj\n<< /S /URI /URI (http://192.0.2.1/) >>\nendobj\n%%EOF\n"
    assert "DOC-PDF-ACTIVE" in ids(document(data).data)


def test_an_object_stream_in_another_filter_is_said_to_be_opaque() -> None:
    stream = b"4 0 obj\n<< /N 1 /First 4 /Filter /LZWDecode >>\nstream\nabc\nendstream\nendobj\n"
    report = scan_bytes(document(PDF_HEAD + stream + b"%%EOF\n").data)
    assert {"DOC-PDF-OPAQUE"} <= {each.kind.id for each in report.findings}
    assert report.verdict is Verdict.CLEAN


def test_an_action_in_an_object_of_its_own_is_followed() -> None:
    action = b"/OpenAction 7 0 R"
    data = pdf_with(b"", extra=b" " + action)
    data += b"7 0 obj\n<< /S /GoTo /D [3 0 R /Fit] /Next 8 0 R >>\nendobj\n"
    data += b"8 0 obj\n<< /S /URI /URI (http://192.0.2.1/) >>\nendobj\n%%EOF\n"
    assert "DOC-PDF-ACTIVE" in ids(document(data).data)


def test_actions_that_refer_to_one_another_come_to_an_end() -> None:
    data = pdf_with(b"", extra=b" /OpenAction 7 0 R")
    data += b"7 0 obj\n<< /S /GoTo /D [3 0 R /Fit] /Next 7 0 R >>\nendobj\n%%EOF\n"
    assert "DOC-PDF-ACTIVE" not in ids(document(data).data)


# ---------------------------------------------------------------------- office


def test_macros_are_told_by_their_source() -> None:
    (finding,) = (
        each
        for each in scan_bytes(carrier().with_(*private(vba_project())).data).findings
        if each.kind.id == "DOC-MACRO"
    )
    assert "start themselves and run commands" in finding.detail
    assert b"AutoOpen" in MACRO


def test_macros_are_found_in_a_compressed_package() -> None:
    package = zipfile.ZipFile(
        io.BytesIO(macro_document("word/document.xml", "word/vbaProject.bin"))
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in package.namelist():
            packed.writestr(name, package.read(name))
    found = scan_bytes(carrier().with_(*private(buffer.getvalue())).data).findings
    (macro,) = (each for each in found if each.kind.id == "DOC-MACRO")
    assert macro.place.chain == ("zip",)


def test_a_broken_compound_file_is_read_as_one_stream() -> None:
    project = bytearray(vba_project())
    project[48:52] = b"\xff\xff\xff\x7f"  # the directory is nowhere
    payload = VALIDATORS["macros"](bytes(project), 0, 0, len(project))
    assert payload is not None
    assert "run commands" in payload.description


def test_macros_are_found_by_a_worker_too(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(carrier().with_(*private(vba_project())).data)
    done = subprocess.run(
        [sys.executable, "-m", "dicomguard", "check", str(tmp_path)],
        capture_output=True, text=True, env=environment(), timeout=60, check=False,
    )  # fmt: skip
    assert "DOC-MACRO" in done.stdout


# ---------------------------------------------------------------------- serialised


class _Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, subprocess.call])
def test_a_pickle_that_calls_is_found_in_every_protocol(protocol: int, function: object) -> None:
    content = pickle.dumps({"data": [1, 2], "x": _Calls(function, "42")}, protocol)
    assert "EMB-PICKLE" in ids(carrier().with_(*private(content)).data)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_data_is_honest_in_every_protocol(protocol: int) -> None:
    data = [b"1", {1, 2}, frozenset(), 1j, range(4), bytearray(b"a"), None, 2**70, {"os": "nt"}]
    objects = [Path("a"), ValueError("posix"), *([io.BytesIO(b"a")] if protocol > 1 else ())]
    content = pickle.dumps([data, objects], protocol)
    assert "EMB-PICKLE" not in ids(carrier().with_(*private(content)).data)


def test_no_pickle_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pickle.loads", None)
    monkeypatch.setattr("pickle.load", None)
    assert "EMB-PICKLE" in ids(carrier().with_(*private(calling_pickle(4))).data)


# ---------------------------------------------------------------------- what documents say they are


@pytest.mark.parametrize(
    ("content", "mime", "expected"),
    [
        (b"<html><body>x</body></html>", b"application/pdf", "DOC-MIME-MISMATCH"),
        (b"<html><body>x</body></html>", b"text/xml", ""),
        (b"PK\3\4" + bytes(60), b"application/PDF; version=1.4", "DOC-MIME-MISMATCH"),
        (b"#!/bin/sh\n".ljust(80) + bytes(4), b"model/stl", "DOC-MIME-MISMATCH"),
        (bytes(200) + pdf_with(b""), b"application/pdf", ""),
        (stl(2, 2), b"model/stl", ""),
        (stl(2, 3), b"model/stl", ""),
        (stl(3, 2), b"model/stl", "DOC-STL"),
    ],
)
def test_a_document_is_held_to_its_type(content: bytes, mime: bytes, expected: str) -> None:
    report = scan_bytes(document(content).with_(element(0x00420012, "LO", mime)).data)
    found = {each.kind.id for each in report.findings if each.kind.id.startswith("DOC-")}
    assert found == ({expected} if expected else set())


# ---------------------------------------------------------------------- nothing breaks it


def objects_of_all() -> bytes:
    """A PDF whose catalog lies in an object stream, and a stream of JavaScript."""
    code = b"9 0 obj\n<< /Length 9 >>\nstream\nif(1){}\nendstream\nendobj\n"
    return pdf_with(JS, hidden=True) + code + pdf_with(b"/S /JavaScript /JS 9 0 R")[9:]


_SAMPLES = [
    objects_of_all(),
    *(each.data for each in (*ACTIVE.values(), *HONEST.values()) if len(each.data) < 9999),
]


@given(st.sampled_from(_SAMPLES), st.data())
@settings(max_examples=300, deadline=None)
def test_altered_samples_never_break_a_validator(content: bytes, draw: st.DataObject) -> None:
    data = bytearray(content)
    for offset in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=6)):
        data[offset] = draw.draw(st.sampled_from([0, 1, 0x28, 0x2F, 0x7F, 0x80, 0xFF]))
    altered = bytes(data[: draw.draw(st.integers(1, len(data)))])
    for hit in {0, *(offset for _, offset, _ in triggers(altered))}:
        assert_sound(altered, hit, draw.draw(st.integers(0, hit)), len(altered))


_MANY = 10_000


def object_streams() -> bytes:
    packed = zlib.compress(b"1 0 " * 9999)
    return PDF_HEAD + (b"obj << /First 4 /FlateDecode >> stream\n%s\nendstream " % packed) * _MANY


_FLOODS: dict[str, tuple[str, bytes, Callable[[], bytes]]] = {
    "PDF headers": ("active_pdf", b"%PDF-", lambda: (pdf_with(JS) + b" ") * (_MANY // 4)),
    "JavaScript that refers to nothing": (
        "active_pdf", b"%PDF-",
        lambda: PDF_HEAD + b"/JavaScript /JS 9 0 R /OpenAction 8 0 R " * _MANY + b"%%EOF",
    ),
    "object streams": (
        "active_pdf", b"%PDF-",
        object_streams,
    ),
    "entities": (
        "external_entity", b"<!ENTITY", lambda: b"<!DOCTYPE a [" + b"<!ENTITY a 'b'>" * _MANY,
    ),
    "entities of entities": (
        "entity_bomb", b"<!ENTITY",
        lambda: b"<!DOCTYPE a [" + b"".join(
            b"<!ENTITY e%d '%s'>" % (n, b"&e%d;" % (n + 1) * 50) for n in range(_MANY)),
    ),
    "rich text": ("rtf", b"{\\rt", lambda: b"{\\rt" * _MANY + b"a" * (1 << 22)),
    "PostScript": ("postscript", b"%!PS", lambda: b"%!PS (a) (r) file " * _MANY),
    "namespaces": (
        "page", b"http://www.w3.org/2000/svg", lambda: b"<http://www.w3.org/2000/svg " * _MANY,
    ),
    "clinical documents": (
        "clinical_document", b"urn:hl7-org:v3",
        lambda: b"<ClinicalDocument urn:hl7-org:v3 " * _MANY,
    ),
    "pickles": ("pickle", b"cos\n", lambda: b"cos\nsystem\n" * _MANY),
    "tar headers": ("tar", b"ustar", lambda: (b"a" * 257 + b"ustar  \0").ljust(512, b"0") * _MANY),
    "Java objects": ("java_object", b"\xac\xed", lambda: b"\xac\xed\0\5sr\2\0" * _MANY),
    "compound files": (
        "macros", b"\xd0\xcf", lambda: (vba_project()[:1536] + b"\1\0\xb0\0Attribut\0e VB_") * 500,
    ),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "trigger", "make"), _FLOODS.values(), ids=_FLOODS)
def test_a_flood_of_triggers_costs_seconds(
    name: str, trigger: bytes, make: Callable[[], bytes]
) -> None:
    """What rules.py allows all the triggers of a rule; an answer anew for each would take hours."""
    data = make()
    started, hit = time.process_time(), -1
    for _ in range(_MANY):
        hit = data.find(trigger, hit + 1)
        if hit < 0:
            break
        VALIDATORS[name](data, hit, 0, len(data))
    assert time.process_time() - started < 30


def test_an_array_of_objects_is_told_from_one_of_numbers() -> None:
    assert "EMB-NPY" in ids(carrier().with_(*private(npy_of(b"|O", b"."))).data)
    assert "EMB-NPY" not in ids(carrier().with_(*private(npy_of(b"<i4", bytes(4)))).data)
