"""Reports → text and JSON: everything that is said, and nothing that a file could make it say."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError
from jsonschema.validators import validator_for
from msgspec.structs import fields, replace

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
    scan_file,
)
from dicomguard.incomplete import incomplete_finding
from dicomguard.model import Instance, Region, Suppressed
from dicomguard.reports import escape
from dicomguard.reports.csv import cell
from dicomguard.reports.formats import FORMATS
from dicomguard.reports.model import FileRecord, PackRecord, schema, to_json
from dicomguard.reports.renderer import NORMAL, Detail
from dicomguard.reports.summary import Summary
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


def rendered(
    format_: str,
    *reports: Report,
    named: bool = False,
    show_values: bool = False,
    detail: Detail = NORMAL,
    summary: Summary | None = None,
) -> str:
    """A whole report of that format, on something that is no terminal."""
    out = io.StringIO()
    summary = summary or Summary(rules="2 rules", engine="yara")
    with closing(FORMATS[format_].open(out, detail)) as renderer:
        for report in reports:
            summary.add(report)
            renderer.file(FileRecord.of(report, show_values=show_values), named=named)
        renderer.end(summary.record())
    return out.getvalue()


def text(
    report: Report = REPORT,
    *,
    named: bool = False,
    show_values: bool = False,
    detail: Detail = NORMAL,
) -> str:
    """What is said of one file, without the totals."""
    whole = rendered("text", report, named=named, show_values=show_values, detail=detail)
    return whole[: whole.index("1 file, ")] if "1 file, " in whole else whole


def totals(*reports: Report) -> str:
    whole = rendered("text", *reports)
    return whole[re.search(r"^\d+ files?, ", whole, re.MULTILINE).start() :]  # type: ignore[union-attr]


def report_to_json(report: Report, *, show_values: bool = False) -> Any:
    return json.loads(json.dumps(to_json(FileRecord.of(report, show_values=show_values))))


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
        "why": "It is a test.",
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


def test_json_lines_has_every_file_and_the_summary_last() -> None:
    summary = Summary(rules="2 rules", engine="yara")
    summary.skipped["FIFO"] = 2
    lines = rendered("jsonl", *scanned(), summary=summary).splitlines()
    *files, last = map(json.loads, lines)
    assert [each["path"] for each in files] == list(all_fixtures())
    assert last["files"] == len(files)
    assert last["skipped"] == {"FIFO": 2}
    assert (last["rules"], last["engine"]) == ("2 rules", "yara")


def scanned() -> Iterator[Report]:
    for fixture in all_fixtures().values():
        yield scan_bytes(fixture.data, fixture.name)


# ---------------------------------------------------------------------- text


def test_a_finding_says_what_where_and_why() -> None:
    shown = [" ".join(line.split()) for line in text().splitlines()]
    assert shown[:7] == [
        "malicious a.dcm",
        "critical EMB-TEST A test (malware, confirmed)",
        "where private (0009,1001), offset 1574, 1024 bytes",
        "what what it is",
        "seen MZ\\x90\\x00",
        "why It is a test.",
        "see PS3.10, ATT&CK T1036",
    ]


def test_a_place_in_an_inflated_data_set_has_both_offsets() -> None:
    inner = replace(FINDING, place=replace(PLACE, offset=300, inner_offset=9000))
    shown = text(replace(REPORT, findings=(inner,)))
    assert "offset 300" in shown
    assert "9000" in shown


def test_masked_evidence_is_hidden() -> None:
    masked = replace(REPORT, findings=(replace(FINDING, masked=True, evidence=b"Doe^Jane"),))
    assert "Doe" not in text(masked)
    assert "--show-values" in text(masked)
    assert "Doe^Jane" in text(masked, show_values=True)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_to_do_is_said_unless_the_file_is_clean(verdict: Verdict) -> None:
    shown = text(replace(REPORT, verdict=verdict), named=True)
    assert ("→" in shown) == (verdict is not Verdict.CLEAN)


def test_a_clean_file_is_shown_only_if_named() -> None:
    clean = Report(path="a.dcm", size=1, verdict=Verdict.CLEAN)
    assert text(clean) == ""
    assert text(clean, named=True).split() == ["clean", "a.dcm"]


def test_a_file_with_very_many_findings_stays_readable() -> None:
    shown = text(replace(REPORT, findings=(FINDING,) * 1000))
    assert shown.count("EMB-TEST") == 20
    assert "980 more" in shown


def test_the_reason_why_something_was_not_examined_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "SECONDS_PER_RULE", -1.0)
    flood = scan_bytes(b"PK\5\6" * 100, "flood")
    assert flood.verdict is Verdict.INCOMPLETE
    shown = text(flood)
    assert shown.startswith("incomplete")
    for reason in flood.unexamined:
        assert reason in shown


@given(st.text())
def test_no_path_and_no_detail_breaks_a_line(path: str) -> None:
    report = replace(REPORT, path=path, findings=(replace(FINDING, detail=path),))
    lines = rendered("text", report, named=True, show_values=True).split("\n")
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("malicious") for line in lines) == 1


def test_totals_count_every_verdict() -> None:
    clean = Report(path="b", size=1024, verdict=Verdict.CLEAN)
    half = Report(path="c", size=1024, verdict=Verdict.SUSPICIOUS, unexamined=("why",))
    shown = totals(REPORT, clean, half)
    assert "3 files, 4.0 KiB: 1 malicious, 1 suspicious, 0 incomplete, 1 clean" in shown
    assert "1 not fully examined" in shown
    assert "2 rules, engine yara" in shown


def test_one_file_is_no_files() -> None:
    assert totals(REPORT).startswith("1 file, ")


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
def test_sizes_are_readable(size: int, shown: str) -> None:
    assert f"1 file, {shown}: " in totals(replace(REPORT, size=size))


# ---------------------------------------------------------------------- detail


INVENTORY = replace(
    FINDING,
    kind=replace(KIND, id="PRIV-TEST", category=Category.INVENTORY, severity=Severity.INFO),
)


def test_what_means_nothing_bad_is_one_line_unless_asked_for() -> None:
    report = replace(REPORT, findings=(FINDING, INVENTORY, INVENTORY))
    assert "inventory: PRIV-TEST 2 (-v says more)" in text(report)
    assert text(report).count("where") == 1
    verbose = text(report, detail=Detail(verbose=True))
    assert verbose.count("PRIV-TEST  A test (inventory, confirmed)") == 2
    assert "(-v says more)" not in verbose


def test_a_clean_file_is_shown_if_all_is_asked_for() -> None:
    clean = replace(REPORT, verdict=Verdict.CLEAN, findings=(INVENTORY,))
    assert text(clean) == ""
    assert text(clean, detail=Detail(verbose=True)).startswith("clean       a.dcm\n")


def test_the_quiet_report_has_no_totals() -> None:
    assert rendered("text", REPORT, detail=Detail(quiet=True)) == text()
    assert rendered("text", replace(REPORT, verdict=Verdict.CLEAN), detail=Detail(quiet=True)) == ""


def test_totals_tell_threats_from_the_rest() -> None:
    shown = totals(replace(REPORT, findings=(FINDING, INVENTORY, INVENTORY)))
    assert "malware: EMB-TEST 1\n" in shown
    assert "inventory: PRIV-TEST 2\n" in shown


def test_totals_say_how_old_the_rules_are() -> None:
    packs = (
        PackRecord(name="core", version="1.2", released="2026-01-31"),
        PackRecord(name="new", version="1", released="2026-03-01"),
        PackRecord(name="own", version="3", released=None),
    )
    summary = Summary(rules="r", engine="e", packs=packs, started=datetime(2026, 3, 2, tzinfo=UTC))
    shown = rendered("text", summary=summary)
    assert "rule pack core 1.2 of 2026-01-31, 30 days old\n" in shown
    assert "rule pack new 1 of 2026-03-01, 1 day old\n" in shown
    assert "rule pack own 3, of unknown age\n" in shown
    assert "rule pack core 1.2 of 2026-01-31" in rendered("html", summary=summary)


def test_totals_say_why_something_was_not_examined() -> None:
    one = replace(REPORT, unexamined=("Permission denied",))
    many = [replace(REPORT, unexamined=(f"reason {n}",)) for n in range(200)]
    shown = totals(one, one, *many)
    assert "    2 \N{MULTIPLICATION SIGN} Permission denied\n" in shown
    assert "more reasons" in shown
    summary = json.loads(rendered("json", one, one, *many))["summary"]
    assert len(summary["unexamined"]) == 101
    assert sum(summary["unexamined"].values()) == 202


# ---------------------------------------------------------------------- the contract

SARIF_SCHEMA = Path(__file__).parent / "data" / "sarif-2.1.0.json"


def test_the_schema_is_that_of_the_records() -> None:
    shipped = files("dicomguard.reports") / "report.schema.json"
    remedy = "run `python -m dicomguard.reports.model > src/dicomguard/reports/report.schema.json`"
    assert shipped.read_text() == schema(), remedy


def validate(document: Any, schema_: Any) -> None:
    kind = validator_for(schema_)
    kind.check_schema(schema_)
    kind(schema_).validate(document)


def test_what_is_written_is_what_the_schema_says() -> None:
    whole = json.loads(rendered("json", *scanned()))
    validate(whole, json.loads(schema()))
    for line in rendered("jsonl", *scanned()).splitlines():
        record = json.loads(line)
        name = {"file": "FileRecord", "summary": "SummaryRecord"}[record["type"]]
        validate(record, json.loads(schema()) | {"$ref": f"#/$defs/{name}"})
    broken = whole | {"files": [whole["files"][0] | {"verdict": "harmless"}]}
    with pytest.raises(ValidationError):
        validate(broken, json.loads(schema()))


def test_an_empty_run_is_a_document_too() -> None:
    validate(json.loads(rendered("json")), json.loads(schema()))
    validate(json.loads(rendered("sarif")), json.loads(SARIF_SCHEMA.read_text()))


# ---------------------------------------------------------------------- SARIF


def sarif(*reports: Report, summary: Summary | None = None) -> Any:
    log = json.loads(rendered("sarif", *reports, summary=summary))
    validate(log, json.loads(SARIF_SCHEMA.read_text()))
    return log["runs"][0]


def test_sarif_of_every_fixture_is_valid_and_whole() -> None:
    reports = list(scanned())
    run = sarif(*reports)
    assert len(run["artifacts"]) == len(reports)
    expected = [
        (report.path, finding.kind.id, finding.place.offset)
        for report in reports
        for finding in report.findings
        if finding.kind.id != "SCAN-INCOMPLETE"
    ]
    found = []
    for result in run["results"]:
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert (
            run["artifacts"][physical["artifactLocation"]["index"]]["location"]["uri"]
            == (physical["artifactLocation"]["uri"])
        )
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["help"]["text"]
        path = unquote(physical["artifactLocation"]["uri"])
        found.append((path, result["ruleId"], physical["region"]["byteOffset"]))
    assert found == expected
    fingerprints = {each["partialFingerprints"]["dicomguard/v1"] for each in run["results"]}
    assert len(fingerprints) > len(found) * 0.9


def test_sarif_counts_only_threats_as_failures() -> None:
    weak = replace(FINDING, kind=replace(KIND, confidence=Confidence.WEAK))
    run = sarif(replace(REPORT, findings=(FINDING, weak, INVENTORY)))
    assert [(each["kind"], each["level"]) for each in run["results"]] == [
        ("fail", "error"),
        ("review", "none"),
        ("informational", "none"),
    ]


def test_sarif_shows_suppressed_findings_as_such() -> None:
    known = Suppressed(finding=FINDING, reason="looked at\x1b[2J", expires="2027-01-31")
    clean = replace(REPORT, verdict=Verdict.CLEAN, findings=(), suppressed=(known,))
    (result,) = sarif(clean)["results"]
    assert result["ruleId"] == KIND.id
    assert result["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "looked at\\x1b[2J"}
    ]
    assert not any("suppressions" in each for each in sarif(REPORT)["results"])


def test_sarif_says_what_was_not_examined() -> None:
    (missing,) = [scan_file("/nonexistent/file")]
    run = sarif(missing)
    assert run["results"] == []
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 3
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["level"] == "error"
    assert "No such file" in notification["message"]["text"]
    (location,) = notification["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "file:///nonexistent/file"


def test_sarif_bytes_of_unwrapped_data_are_none_of_the_file() -> None:
    inner = replace(FINDING, place=replace(PLACE, inner_offset=9000, chain=("gzip",)))
    (result,) = sarif(replace(REPORT, findings=(inner,)))["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {
        "byteOffset": 1574,
        "snippet": {"text": "MZ\\x90\\x00"},
    }
    assert result["properties"]["innerOffset"] == 9000


# ---------------------------------------------------------------------- hostile strings everywhere

ATTACKS = (
    "\x1b]0;owned\x07\x1b[31m",
    "a\r\nclean  b.dcm\n",
    "\u202egnp.exe\u2028\u2029\u0085\u009b31m",
    "</script></style></title><script>alert(1)</script><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x=\"",
    "{{7*7}}{% raw %}${7*7}<!--",
    "[click](https://example.invalid) ![x](https://example.invalid/y) {0} {1}",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    '-1+1;=1+1,"=1+1"',
    "\t=1+1",
    "\udcff\udcfe",
    "javascript:alert(1)",
    "../../etc/passwd%00%0d%0a",
)


def hostile(attack: str) -> Report:
    """A report with the attack in every field that a file or a rule of others can fill."""
    kind = FindingKind(
        **{each.name: attack for each in fields(FindingKind)}
        | {
            "category": Category.MALWARE,
            "severity": Severity.CRITICAL,
            "confidence": Confidence.CONFIRMED,
        }
    )
    raw = attack.encode("utf-8", "surrogatepass")[:64]
    place = replace(PLACE, tag_path=attack, chain=(attack, attack), private_creator=attack)
    finding = Finding(kind=kind, place=place, detail=attack, evidence=raw, rule=attack)
    return Report(
        path=attack,
        size=2048,
        verdict=Verdict.MALICIOUS,
        findings=(finding, incomplete_finding(attack, 5)),
        unexamined=(attack,),
        is_dicom=True,
        transfer_syntax=attack,
        instance=Instance(**{each.name: attack for each in fields(Instance)}),
        sha256="0" * 64,
        suppressed=(Suppressed(finding=finding, reason=attack, expires=attack),),
    )


def hostile_summary(attack: str) -> Summary:
    pack = PackRecord(name=attack, version=attack, released="2026-11-22")
    summary = Summary(rules=attack, engine=attack, packs=(pack,))
    summary.skipped[attack] = 1
    return summary


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
@pytest.mark.parametrize("detail", [NORMAL, Detail(verbose=True, suppressed=True)])
@pytest.mark.parametrize("format_", FORMATS)
def test_no_report_has_a_control_character(format_: str, attack: str, detail: Detail) -> None:
    shown = rendered(
        format_, hostile(attack), detail=detail, summary=hostile_summary(attack), named=True
    )
    for line in shown.split("\n"):
        assert line.isprintable(), ascii(line)
    shown.encode()


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_json_brings_hostile_strings_back_as_they_are(attack: str) -> None:
    back = json.loads(rendered("json", hostile(attack), summary=hostile_summary(attack)))
    assert back["files"][0]["path"] == back["files"][0]["findings"][0]["tag_path"] == attack
    assert back["summary"]["rules"] == attack


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_a_spreadsheet_finds_no_formula(attack: str) -> None:
    """Whatever it takes for the separator, and wherever a cell then begins."""
    shown = rendered("csv", hostile(attack))
    for separator in ",;|":
        for row in csv.reader(io.StringIO(shown), delimiter=separator):
            for each in row:
                assert not re.match('[ "]*[=+\\-@]', each), each


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_a_sarif_viewer_finds_no_link_and_no_placeholder(attack: str) -> None:
    run = sarif(hostile(attack), summary=hostile_summary(attack))
    (invocation,) = run["invocations"]
    (rule,) = run["tool"]["driver"]["rules"]
    messages = [result["message"]["text"] for result in run["results"]]
    messages += [each["message"]["text"] for each in invocation["toolExecutionNotifications"]]
    messages += [rule[key]["text"] for key in ("shortDescription", "fullDescription", "help")]
    for message in messages:
        plain = re.sub(r"\\[\\\[\]]|\{\{|\}\}", "", message)
        assert not set(plain) & set("[]{}"), message
    for artifact in run["artifacts"]:
        uri = artifact["location"]["uri"]
        assert not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", uri) or uri.startswith("file:///")


@given(st.text())
def test_a_cell_is_never_a_formula(value: str) -> None:
    shown = str(cell(value))
    assert shown.isprintable()
    assert not re.match(r"\s*[=+\-@]", shown)


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_a_path_can_be_read_back_from_its_uri(raw: bytes) -> None:
    (artifact,) = json.loads(rendered("sarif", replace(REPORT, path=os.fsdecode(raw))))["runs"][0][
        "artifacts"
    ]
    uri = artifact["location"]["uri"].removeprefix("file://")
    assert unquote_to_bytes(uri) == raw


# ---------------------------------------------------------------------- memory


@pytest.mark.slow
@pytest.mark.parametrize("format_", FORMATS)
def test_memory_does_not_grow_with_the_number_of_files(format_: str, tmp_path: Path) -> None:
    report = hostile("x" * 40)
    record, summary = FileRecord.of(report), Summary(rules="", engine="")
    summary.add(report)
    with (tmp_path / "out").open("w", encoding="utf-8") as out, ExitStack() as stack:
        renderer = stack.enter_context(closing(FORMATS[format_].open(out)))
        for _ in range(1_500):
            renderer.file(record, named=False)
        tracemalloc.start()
        for _ in range(4_000):
            renderer.file(record, named=False)
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        renderer.end(summary.record())
    assert grown < 1 << 20
