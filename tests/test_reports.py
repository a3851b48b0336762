"""Reports → text and JSON: everything that is said, and nothing that a file could make it say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomguard import (
    Category,
    Confidence,
    Finding,
    FindingKind,
    Place,
    Report,
    Severity,
    Verdict,
    rules,
    scan_bytes,
)
from dicomguard.model import Region
from dicomguard.reports import escape
from dicomguard.reports.jsonl import JsonLines, report_to_json
from dicomguard.reports.summary import Summary
from dicomguard.reports.text import TextReport
from fixtures.build import all_fixtures

KIND = FindingKind(
    id="EMB-TEST",
    title="A test",
    category=Category.MALWARE,
    severity=Severity.CRITICAL,
    confidence=Confidence.CONFIRMED,
    why="It is a test.",
    reference="PS3.10",
    attack="T1036",
)
PLACE = Place(
    region=Region.PRIVATE, offset=1574, length=1024, tag_path="(0009,1001)", inner_offset=None
)
FINDING = Finding(kind=KIND, place=PLACE, detail="what it is", evidence=b"MZ\x90\0")
REPORT = Report(path="a.dcm", size=2048, verdict=Verdict.MALICIOUS, findings=(FINDING,))


def text(
    capsys: pytest.CaptureFixture[str],
    report: Report = REPORT,
    *,
    named: bool = False,
    show_values: bool = False,
) -> str:
    TextReport(show_values=show_values).file(report, named=named)
    return capsys.readouterr().out


def totals(capsys: pytest.CaptureFixture[str], *reports: Report) -> str:
    summary = Summary(rules="2 rules", engine="yara")
    for report in reports:
        summary.add(report)
    TextReport(show_values=False).end(summary)
    return capsys.readouterr().out


# ---------------------------------------------------------------------- escaping


@given(st.text())
def test_printable_text_is_printable(given_text: str) -> None:
    shown = escape.printable(given_text)
    assert shown.isprintable()
    assert (shown == given_text) == given_text.isprintable()


@given(st.binary(max_size=64))
def test_evidence_is_ascii_and_can_be_read_back(raw: bytes) -> None:
    shown = escape.evidence(raw)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == raw


# ---------------------------------------------------------------------- JSON


def test_a_finding_as_json() -> None:
    (found,) = report_to_json(REPORT)["findings"]
    assert found == {
        "id": "EMB-TEST",
        "title": "A test",
        "category": "malware",
        "severity": "critical",
        "confidence": "confirmed",
        "region": "private",
        "tag_path": "(0009,1001)",
        "offset": 1574,
        "length": 1024,
        "inner_offset": None,
        "chain": [],
        "detail": "what it is",
        "evidence": "MZ\\x90\\x00",
        "private_creator": "",
        "count": 1,
        "rule": "",
        "reference": "PS3.10",
        "attack": "T1036",
    }


def test_masked_evidence_is_null_unless_asked_for() -> None:
    masked = replace(REPORT, findings=(replace(FINDING, masked=True, evidence=b"Doe^Jane"),))
    assert report_to_json(masked)["findings"][0]["evidence"] is None
    assert report_to_json(masked, show_values=True)["findings"][0]["evidence"] == "Doe^Jane"


@given(st.text(), st.text())
def test_any_path_and_detail_is_one_line_of_ascii(path: str, detail: str) -> None:
    report = replace(REPORT, path=path, findings=(replace(FINDING, detail=detail),))
    line = json.dumps(report_to_json(report))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    back = json.loads(line)
    assert (back["path"], back["findings"][0]["detail"]) == (path, detail)


def test_json_lines_has_every_file_and_the_summary_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    writer = JsonLines(show_values=False)
    summary = Summary(rules="2 rules", engine="yara")
    for fixture in all_fixtures().values():
        report = scan_bytes(fixture.data, fixture.name)
        summary.add(report)
        writer.file(report, named=False)
    summary.skipped["FIFO"] = 2
    writer.end(summary)
    *files, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [each["path"] for each in files] == list(all_fixtures())
    assert last["files"] == len(files)
    assert last["skipped"] == {"FIFO": 2}
    assert (last["rules"], last["engine"]) == ("2 rules", "yara")


# ---------------------------------------------------------------------- text


def test_a_finding_says_what_where_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    shown = [" ".join(line.split()) for line in text(capsys).splitlines()]
    assert shown[:7] == [
        "malicious a.dcm",
        "critical EMB-TEST A test (confirmed)",
        "where private (0009,1001), offset 1574, 1024 bytes",
        "what what it is",
        "seen MZ\\x90\\x00",
        "why It is a test.",
        "see PS3.10, ATT&CK T1036",
    ]


def test_a_place_in_an_inflated_data_set_has_both_offsets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner = replace(FINDING, place=replace(PLACE, offset=300, inner_offset=9000))
    shown = text(capsys, replace(REPORT, findings=(inner,)))
    assert "offset 300" in shown
    assert "9000" in shown


def test_masked_evidence_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    masked = replace(REPORT, findings=(replace(FINDING, masked=True, evidence=b"Doe^Jane"),))
    assert "Doe" not in text(capsys, masked)
    assert "--show-values" in text(capsys, masked)
    assert "Doe^Jane" in text(capsys, masked, show_values=True)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_to_do_is_said_unless_the_file_is_clean(
    capsys: pytest.CaptureFixture[str], verdict: Verdict
) -> None:
    shown = text(capsys, replace(REPORT, verdict=verdict), named=True)
    assert ("→" in shown) == (verdict is not Verdict.CLEAN)


def test_a_clean_file_is_shown_only_if_named(capsys: pytest.CaptureFixture[str]) -> None:
    clean = Report(path="a.dcm", size=1, verdict=Verdict.CLEAN)
    assert text(capsys, clean) == ""
    assert text(capsys, clean, named=True).split() == ["clean", "a.dcm"]


def test_a_file_with_very_many_findings_stays_readable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = text(capsys, replace(REPORT, findings=(FINDING,) * 1000))
    assert shown.count("EMB-TEST") == 20
    assert "980 more" in shown


def test_the_reason_why_something_was_not_examined_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SECONDS_PER_RULE", -1.0)
    flood = scan_bytes(b"PK\5\6" * 100, "flood")
    assert flood.verdict is Verdict.INCOMPLETE
    shown = text(capsys, flood)
    assert shown.startswith("incomplete")
    for reason in flood.unexamined:
        assert reason in shown


@given(st.text())
def test_no_path_and_no_detail_breaks_a_line(path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout", _Collector(written))
        report = replace(REPORT, path=path, findings=(replace(FINDING, detail=path),))
        TextReport(show_values=True).file(report, named=True)
    lines = "".join(written).split("\n")
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("malicious") for line in lines) == 1


class _Collector:
    """A stream that is no terminal and takes every character."""

    encoding = "utf-8"

    def __init__(self, written: list[str]) -> None:
        self._written = written

    def write(self, part: str) -> int:
        self._written.append(part)
        return len(part)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def test_totals_count_every_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    clean = Report(path="b", size=1024, verdict=Verdict.CLEAN)
    half = Report(path="c", size=1024, verdict=Verdict.SUSPICIOUS, unexamined=("why",))
    shown = totals(capsys, REPORT, clean, half)
    assert "3 files, 4.0 KiB: 1 malicious, 1 suspicious, 0 incomplete, 1 clean" in shown
    assert "1 not fully examined" in shown
    assert "2 rules, engine yara" in shown


def test_one_file_is_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert totals(capsys, REPORT).startswith("1 file, ")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (3 << 19, "1.5 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes_are_readable(capsys: pytest.CaptureFixture[str], size: int, shown: str) -> None:
    assert f"1 file, {shown}: " in totals(capsys, replace(REPORT, size=size))
