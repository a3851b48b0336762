"""``dicomguard extract``: every payload, byte for byte, and nothing that could run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import cart
import pytest

from dicomguard import Verdict, scan_bytes
from dicomguard.extraction.manifest import Found, Manifest, Payload
from dicomguard.extraction.payloads import Collector
from fixtures.build import all_fixtures
from fixtures.carriers import carrier, document
from fixtures.dicomfile import private
from fixtures.executables import launcher, tiny_pe
from fixtures.fixture import Fixture
from fixtures.formats import noise
from test_check import environment
from vaults import actions_of, problems_of, store, trail_of, writer

FIXTURES = all_fixtures()
SIZED = [
    name
    for name, fixture in FIXTURES.items()
    if len(fixture.expected) == 1
    and fixture.expected[0].length
    and not fixture.expected[0].loose
    and fixture.expected[0].id.startswith(("EMB-", "TAIL-", "GAP-VALUE", "GAP-DEFLATE"))
]
"""Fixtures with one payload whose extent is settled."""


def extract(path: Path, to: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicomguard", "extract", str(path), "--to", str(to), *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=120, check=False
    )


def put(folder: Path, data: bytes) -> Path:
    path = folder / "image.dcm"
    path.write_bytes(data)
    return path


def manifest(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return told


def raw(folder: Path) -> list[bytes]:
    return [(folder / each["name"]).read_bytes() for each in manifest(folder)["payloads"]]


def content_of(fixture: Fixture) -> bytes:
    """The bytes at the place where the fixture expects its payload, outside of any wrapping."""
    (expected,) = fixture.expected
    assert expected.length
    return fixture.data[expected.offset : expected.offset + expected.length]


@pytest.mark.parametrize("name", [n for n in SIZED if FIXTURES[n].expected[0].inner_offset is None])
def test_a_payload_is_taken_byte_for_byte(name: str) -> None:
    assert content_of(FIXTURES[name]) in taken(name)


@pytest.mark.parametrize("name", ["pe-deflated", "base64", "xor-01", "xor-ff"])
def test_it_comes_out_unwrapped(tmp_path: Path, name: str) -> None:
    to = tmp_path / "out"
    assert extract(put(tmp_path, FIXTURES[name].data), to, "--raw").returncode == 0
    (payload,) = manifest(to)["payloads"]
    assert raw(to) == [tiny_pe()]
    assert payload["findings"][0]["chain"] == list(FIXTURES[name].expected[0].chain)


def test_a_chain_is_told(tmp_path: Path) -> None:
    wrapped = base64.b64encode(gzip.compress(launcher(), mtime=0))
    to = tmp_path / "out"
    done = extract(put(tmp_path, carrier().with_(*private(wrapped, "UT")).data), to, "--raw")
    assert "base64 › gzip" in done.stdout  # noqa: RUF001
    (payload,) = manifest(to)["payloads"]
    assert raw(to) == [launcher()]
    assert payload["findings"][0]["chain"] == ["base64", "gzip"]
    assert payload["findings"][0]["tag_path"] == "(0009,1001)"


def test_what_is_written_is_neutralised(tmp_path: Path) -> None:
    to = tmp_path / "out"
    done = extract(put(tmp_path, FIXTURES["pe-launcher"].data), to)
    (payload,) = manifest(to)["payloads"]
    written = (to / payload["name"]).read_bytes()
    assert payload["name"] in done.stdout
    assert written.startswith(b"CART")
    assert b"This program" not in written
    plain = io.BytesIO()
    header, footer = cart.unpack_stream(io.BytesIO(written), plain)
    assert plain.getvalue() == launcher()
    assert header["findings"] == ["EMB-PE"]
    assert footer["sha256"] == payload["sha256"] == hashlib.sha256(launcher()).hexdigest()
    assert footer["length"] == str(payload["size"]) == str(len(launcher()))


@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_nobody_else_reads_and_nobody_runs_it(tmp_path: Path, options: list[str]) -> None:
    to = tmp_path / "out"
    path = put(tmp_path, FIXTURES["pe-nested"].data)
    before = os.umask(0)
    try:
        extract(path, to, *options)
    finally:
        os.umask(before)
    assert stat.S_IMODE(to.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in to.iterdir()} == {0o600}
    assert len(list(to.iterdir())) == 2


def test_the_manifest_tells_of_the_file(tmp_path: Path) -> None:
    data = FIXTURES["pe-nested"].data
    path, to = put(tmp_path, data), tmp_path / "out"
    extract(path, to)
    told = manifest(to)
    assert (told["path"], told["size"]) == (str(path), len(data))
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert (told["verdict"], told["neutralised"], told["unexamined"]) == ("malicious", True, [])
    assert path.read_bytes() == data


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path, to = put(tmp_path, FIXTURES["pe-nested"].data), tmp_path / "out"
    to.mkdir()
    done = extract(path, to)
    assert (done.returncode, list(to.iterdir())) == (2, [])
    assert "nothing is overwritten" in done.stderr


def test_equal_payloads_are_written_once(tmp_path: Path) -> None:
    two = carrier().with_(*private(tiny_pe()), *private(tiny_pe(), group=0x0011))
    to = tmp_path / "out"
    extract(put(tmp_path, two.data), to, "--raw")
    (payload,) = manifest(to)["payloads"]
    assert raw(to) == [tiny_pe()]
    assert {each["tag_path"] for each in payload["findings"]} == {"(0009,1001)", "(0011,1001)"}


def test_a_file_that_is_known_by_its_head_is_its_own_payload(tmp_path: Path) -> None:
    data, to = FIXTURES["poly-rtf"].data, tmp_path / "out"
    extract(put(tmp_path, data), to, "--raw")
    assert data in raw(to)


def taken(name: str) -> list[bytes]:
    collector = Collector()
    report = scan_bytes(FIXTURES[name].data, witness=collector)
    return [content for _, content in collector.payloads(report.findings)]


def test_a_compound_file_that_begins_in_the_preamble_is_all_of_it() -> None:
    assert FIXTURES["poly-ole"].data in taken("poly-ole")


@pytest.mark.parametrize("name", ["private-opaque", "private-spoof"])
def test_of_an_element_its_value_is_taken(name: str) -> None:
    assert taken(name) == [noise(8192)]


def test_of_a_document_all_is_taken() -> None:
    (content,) = taken("active-pdf-javascript")
    assert content.startswith(b"%PDF-")
    assert content.rstrip(b"\0\n").endswith(b"%%EOF")


@pytest.mark.parametrize(
    "name", [name for name, each in FIXTURES.items() if each.verdict is Verdict.MALICIOUS]
)
def test_malware_never_comes_without_a_payload(name: str) -> None:
    assert taken(name)


def test_names_are_safe_whatever_rules_call_their_findings(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "own.yar").write_text(
        'rule own { meta: id = "../../x;$(id)" title = "t" category = "malware" severity = "high"'
        ' confidence = "strong" where = "document" why = "w." strings: $a = "abcdef"'
        " condition: $a }"
    )
    to = tmp_path / "out"
    path = put(tmp_path, document(b"abcdef").data)
    done = extract(path, to, "--raw", "--rules", str(rules))
    assert done.returncode == 0, done.stderr
    (name,) = (each["name"] for each in manifest(to)["payloads"])
    assert name == f"001-_x_id_-{hashlib.sha256(b'abcdef').hexdigest()[:12]}.bin"
    assert (to / name).read_bytes() == b"abcdef"


def test_words_that_rules_of_others_match_are_no_payload(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "own.yar").write_text('rule own { strings: $a = "abcdef" condition: $a }')
    to = tmp_path / "out"
    done = extract(put(tmp_path, document(b"abcdef").data), to, "--rules", str(rules))
    assert "no payloads" in done.stdout
    assert manifest(to)["payloads"] == []
    assert manifest(to)["verdict"] == "malicious"


def test_a_clean_file_has_no_payloads(tmp_path: Path) -> None:
    to = tmp_path / "out"
    data = FIXTURES["ct"].data
    done = extract(put(tmp_path, data), to)
    assert done.returncode == 0
    assert manifest(to)["payloads"] == []
    assert manifest(to)["sha256"] == hashlib.sha256(data).hexdigest()


def test_what_could_not_be_examined_is_said(tmp_path: Path) -> None:
    to = tmp_path / "out"
    done = extract(put(tmp_path, carrier("image_dfl.dcm").data[:-4000]), to)
    assert done.returncode == 3
    assert "not examined" in done.stderr
    assert manifest(to)["unexamined"]


@pytest.mark.parametrize("name", ["missing", "folder", "link"])
def test_what_is_no_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(put(tmp_path, b""))
    to = tmp_path / "out"
    done = extract(tmp_path / name, to)
    assert done.returncode == 2
    assert "cannot extract from" in done.stderr
    assert not to.exists()


def test_the_documentation_names_every_field() -> None:
    text = (Path(__file__).parents[1] / "docs" / "extracting.md").read_text(encoding="utf-8")
    for struct in (Manifest, Payload, Found):
        for field in struct.__struct_fields__:
            assert f"`{field}`" in text


def test_the_documentation_shows_what_is_printed(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "extracting.md").read_text(encoding="utf-8")
    done = extract(put(tmp_path, FIXTURES["pe-nested"].data), tmp_path / "out")
    assert done.stdout.splitlines()[0] in text.splitlines()


# ---------------------------------------------------------------------- out of the quarantine


@pytest.fixture
def quarantined(tmp_path: Path) -> tuple[Path, str]:
    """A vault, and the id of the one file in it."""
    data = FIXTURES["pe-nested"].data
    path = put(tmp_path, data)
    vault = tmp_path / "vault"
    with writer(vault) as opened:
        record = store(opened, path, data)
    return vault, record.id


def extract_quarantined(
    vault: Path, record: str, to: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicomguard", "quarantine", "extract", record]
    command += ["--quarantine", str(vault), "--to", str(to), "--reason", "ticket 7", *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=120, check=False
    )


def test_payloads_come_out_of_the_quarantine(tmp_path: Path, quarantined: tuple[Path, str]) -> None:
    vault, record = quarantined
    to = tmp_path / "out"
    done = extract_quarantined(vault, record, to, "--raw")
    assert done.returncode == 0, done.stderr
    assert raw(to) == [tiny_pe()]
    assert manifest(to)["path"] == record, "the name of a file may tell of a patient"
    last = trail_of(vault)[-1]
    assert (str(last.action), last.record) == ("export", record)
    assert last.reason == "payloads only: ticket 7"
    assert problems_of(vault) == []


def test_what_is_not_extracted_is_not_on_record_as_such(
    tmp_path: Path, quarantined: tuple[Path, str]
) -> None:
    vault, record = quarantined
    (tmp_path / "out").mkdir()
    done = extract_quarantined(vault, record, tmp_path / "out")
    assert done.returncode == 2
    assert "nothing is overwritten" in done.stderr
    assert actions_of(vault)[-2:] == ["export", "export-undone"]


def test_nothing_comes_out_of_the_quarantine_without_a_reason(
    tmp_path: Path, quarantined: tuple[Path, str]
) -> None:
    vault, record = quarantined
    done = extract_quarantined(vault, record, tmp_path / "out", "--reason", " ")
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()
    assert actions_of(vault) == ["store"]
