"""Two readings of one file: what pydicom sees and the layout does not, and the other way round."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from struct import pack

import pydicom
import pytest

from dicomguard import Category, Finding, ScanSettings, Severity, Verdict, scan_bytes
from dicomguard.workers import ScanPool
from fixtures.build import all_fixtures
from fixtures.carriers import carrier
from fixtures.dicomfile import DEFLATED, TRANSFER_SYNTAX, DicomFile, Element, element
from test_check import environment

FIXTURES = all_fixtures()
ROWS, FRAMES, PIXELS = 0x00280010, 0x00280008, 0x7FE00010


def insert(file: DicomFile, after: int, *new: Element) -> DicomFile:
    parts = [(part, *new) if part.tag == after else (part,) for part in file.dataset]
    return file.but(dataset=tuple(part for some in parts for part in some))


def differences(data: bytes) -> list[Finding]:
    return [each for each in scan_bytes(data).findings if each.kind.id == "PARSE-DIFF"]


def test_what_each_reader_sees_is_told() -> None:
    data = FIXTURES["second-rows"].data
    (found,) = differences(data)
    assert found.detail == "Rows: 64 at 1370, to pydicom 8 at 1380"
    assert data[1370:1372] == pack("<H", 64)
    assert pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)).Rows == 8


def test_of_a_patient_only_the_place_is_told() -> None:
    (found,) = differences(FIXTURES["second-patient"].data)
    assert found.masked
    assert "SOMEBODY" not in found.detail
    assert found.detail.startswith("Patient ID: at ")


@pytest.mark.parametrize(
    "data",
    [
        insert(carrier(), PIXELS, element(PIXELS, "OW", b"abcd" * 100)).data,
        insert(carrier("image_dfl.dcm"), ROWS, element(ROWS, "US", pack("<H", 8))).data,
        carrier().data + element(ROWS, "US", pack("<H", 8)).encoded + b"\1\2\3and then junk",
    ],
    ids=["pixels", "deflated", "tail"],
)
def test_two_readings_are_found(data: bytes) -> None:
    (found,) = differences(data)
    assert (found.kind.severity, found.kind.category) == (Severity.HIGH, Category.EXPLOIT)
    assert scan_bytes(data).verdict is Verdict.SUSPICIOUS


def test_two_transfer_syntaxes_are_two_readings() -> None:
    file = carrier()
    second = element(TRANSFER_SYNTAX, "UI", b"1.2.840.10008.1.2")
    parts = [(part, second) if part.tag == TRANSFER_SYNTAX else (part,) for part in file.meta]
    (found,) = differences(file.but(meta=tuple(part for some in parts for part in some)).data)
    assert found.detail.startswith("Transfer Syntax UID: at ")


def test_an_element_out_of_order_is_no_difference_in_itself() -> None:
    data = insert(carrier(), PIXELS, element(FRAMES, "IS", b"1 ")).data
    assert {each.kind.id for each in scan_bytes(data).findings} == {"DS-ORDER"}


def test_a_file_that_pydicom_gives_up_on_is_no_threat() -> None:
    data = carrier().data.replace(element(ROWS, "US", b"").encoded[:6], b"\x28\0\x10\0\xff\xfe", 1)
    (found,) = differences(data)
    assert (found.kind.category, found.kind.severity) == (Category.CONFORMANCE, Severity.LOW)


def test_pydicom_gets_no_more_than_its_budget() -> None:
    """Many elements before a duplicate: of what pydicom does not come to nothing is said."""
    many = element(0x00100021, "LO", b"").encoded * 250_000
    file = insert(carrier(), ROWS, element(ROWS, "US", pack("<H", 8)))
    report = scan_bytes(file.head + many + file.body)
    assert all(each.kind.id != "PARSE-DIFF" for each in report.findings)
    assert any(each.kind.id == "DS-DUP" for each in report.findings)


def test_pydicom_inflates_nothing() -> None:
    """A bomb that is a data set by the first transfer syntax, and deflated by the second."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(64 << 20)) + packer.flush()
    stored = b"\x00" + pack("<HH", 0x0008, 0xFFFF ^ 0x0008)  # a block that reads as a tag
    file = carrier()
    second = element(TRANSFER_SYNTAX, "UI", DEFLATED.uid.encode())
    parts = [(part, second) if part.tag == TRANSFER_SYNTAX else (part,) for part in file.meta]
    head = file.but(meta=tuple(part for some in parts for part in some)).head
    tracemalloc.start()
    try:
        report = scan_bytes(head + stored + b"OB\0\0ab" + bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert any(each.kind.id == "META-DUP" for each in report.findings)
    assert peak < 48 << 20


def test_it_works_in_a_confined_worker(tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(FIXTURES["second-rows"].data)
    with ScanPool(ScanSettings(), 1) as pool:
        report = pool.submit(str(path)).result()
    assert any(each.kind.id == "PARSE-DIFF" for each in report.findings)
    assert report.complete


def test_an_honest_file_does_not_load_pydicom(tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    code = "import sys, dicomguard; dicomguard.scan_file(sys.argv[1]); print(*sys.modules)"
    loaded = {}
    for name in ("ct", "second-rows"):
        path.write_bytes(FIXTURES[name].data)
        command = [sys.executable, "-c", code, path]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), check=True, timeout=60
        )
        loaded[name] = "pydicom.filereader" in done.stdout.split()
    assert loaded == {"ct": False, "second-rows": True}
