"""What somebody has looked at no longer counts, and nothing else is hidden by that."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from dicomguard import ScanSettings, Verdict, scan_bytes
from dicomguard.dicom.budgets import Budgets
from dicomguard.errors import DicomguardError
from dicomguard.model import Report
from dicomguard.rules import FINDINGS_PER_RULE
from dicomguard.suppress import Baseline, Entry, Suppressions, load_baseline, load_suppressions
from fixtures.build import all_fixtures
from fixtures.carriers import carrier
from fixtures.dicomfile import private
from fixtures.executables import tiny_pe
from test_check import check
from watching import Daemon, run

TOMORROW = datetime.now(UTC).date() + timedelta(days=1)
YESTERDAY = datetime.now(UTC).date() - timedelta(days=2)
PE = tiny_pe()


def holding(acme: bytes, other: bytes = b"") -> bytes:
    """A file with a value of the creator ACME, and another of the creator OTHER."""
    elements = private(acme, creator=b"ACME", group=0x0099)
    if other:
        elements += private(other, creator=b"OTHER", group=0x00A1)
    return carrier().with_(*elements).data


FILE = holding(PE)
SHA256 = hashlib.sha256(FILE).hexdigest()


def scan(
    data: bytes, *entries: Entry, path: str = "/data/a/IM1", **known: frozenset[str]
) -> Report:
    suppressions = Suppressions(entries=entries, baseline=known)
    return scan_bytes(data, path, ScanSettings(suppressions=suppressions))


def entry(**values: object) -> Entry:
    return msgspec.convert({"reason": "looked at", "expires": TOMORROW} | values, Entry)


def test_the_file_is_malicious_for_one_reason_under_its_creator():
    report = scan(FILE)
    assert report.verdict is Verdict.MALICIOUS
    (pe,) = [each for each in report.findings if each.kind.id == "EMB-PE"]
    assert pe.place.private_creator == "ACME"
    assert pe.place.tag_path == "(0099,1001)"


@pytest.mark.parametrize(
    "means",
    [
        {"id": "EMB-PE"},
        {"sha256": SHA256},
        {"id": "EMB-PE", "private_creator": "ACME"},
        {"id": "EMB-PE", "tag": "(0099,1001)"},
        {"id": "EMB-PE", "folder": "/data"},
        {"id": "EMB-PE", "sha256": SHA256, "private_creator": "ACME", "folder": "/data/a"},
    ],
)
def test_what_an_entry_means_no_longer_counts(means):
    report = scan(FILE, entry(**means))
    assert report.verdict is Verdict.CLEAN
    (found,) = [each for each in report.suppressed if each.finding.kind.id == "EMB-PE"]
    assert (found.reason, found.expires) == ("looked at", TOMORROW.isoformat())
    assert "EMB-PE" not in {each.kind.id for each in report.findings}


@pytest.mark.parametrize(
    "means",
    [
        {"id": "EMB-ELF"},
        {"sha256": "0" * 64},
        {"id": "EMB-PE", "private_creator": "OTHER"},
        {"id": "EMB-PE", "tag": "(0099,1002)"},
        {"id": "EMB-PE", "folder": "/dat"},
        {"id": "EMB-PE", "folder": "/data/b"},
        {"id": "EMB-PE", "expires": YESTERDAY},
    ],
)
def test_what_an_entry_does_not_mean_counts(means):
    report = scan(FILE, entry(**means))
    assert report.verdict is Verdict.MALICIOUS
    assert not report.suppressed


def test_the_last_day_is_one_on_which_it_applies():
    report = scan(FILE)
    known = Suppressions(entries=(entry(id="EMB-PE", expires=date(2026, 2, 3)),))
    assert known.applied(report, today=date(2026, 2, 3)).verdict is Verdict.CLEAN
    assert known.applied(report, today=date(2026, 2, 4)).verdict is Verdict.MALICIOUS
    assert not known.expired(date(2026, 2, 3))
    assert known.expired(date(2026, 2, 4))


def test_the_same_payload_elsewhere_in_the_file_still_counts():
    report = scan(holding(PE, PE), entry(id="EMB-PE", private_creator="ACME"))
    assert report.verdict is Verdict.MALICIOUS
    assert [each.finding.place.private_creator for each in report.suppressed] == ["ACME"]


def test_a_flood_under_a_suppressed_creator_hides_nothing_behind_it():
    flood = b"".join(tiny_pe() for _ in range(FINDINGS_PER_RULE + 5))
    data = holding(flood, PE)
    assert scan(data, entry(id="EMB-PE", private_creator="ACME")).verdict is Verdict.MALICIOUS
    assert scan(data, entry(id="EMB-PE")).verdict is Verdict.CLEAN


def test_what_was_not_examined_stays_incomplete():
    few = Budgets(elements=20)
    report = scan_bytes(FILE, settings=ScanSettings(budgets=few))
    assert not report.complete
    known = Baseline()
    known.add(report)
    entries = [entry(id=each.kind.id) for each in report.findings]
    entries.append(entry(sha256=SHA256))
    after = Suppressions(entries=tuple(entries)).applied(report)
    assert after.verdict is Verdict.INCOMPLETE
    assert after.unexamined == report.unexamined
    assert [each.kind.id for each in after.findings] == ["SCAN-INCOMPLETE"]


def test_a_finding_that_stands_for_many_says_so():
    for fixture in all_fixtures().values():
        for found in scan_bytes(fixture.data).findings:
            told = re.search(r"(\d+) (?:times, first|such)", found.detail)
            if told:
                assert found.count == int(told[1]), (fixture.name, found.kind.id, found.detail)


# ---------------------------------------------------------------------- the file


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / ".dicomguardignore.toml"
    path.write_text(text)
    return path


def test_a_file_of_suppressions(tmp_path):
    path = written(
        tmp_path,
        f"""
        [[suppress]]
        id = "EMB-PE"
        private_creator = "ACME"
        reason = "updater of the ACME workstation, ticket 17"
        expires = {TOMORROW}
        """,
    )
    (read,) = load_suppressions(path)
    assert read.id == "EMB-PE"
    assert read.expires == TOMORROW


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('id = "A-B"\nexpires = 2030-01-01', "missing required field `reason`"),
        ('id = "A-B"\nreason = "x"', "missing required field `expires`"),
        ('id = "A-B"\nreason = " "\nexpires = 2030-01-01', "the reason is empty"),
        ('id = "A-B"\nreason = "x"\nexpires = "soon"', "expires"),
        ('private_creator = "ACME"\nreason = "x"\nexpires = 2030-01-01', "name an id or a sha256"),
        ('folder = "/data"\nreason = "x"\nexpires = 2030-01-01', "name an id or a sha256"),
        ('id = "A-B"\nfolder = "data"\nreason = "x"\nexpires = 2030-01-01', "absolute"),
        ('id = "SCAN-INCOMPLETE"\nreason = "x"\nexpires = 2030-01-01', "cannot be suppressed"),
        ('id = "A-B"\nreson = "x"\nexpires = 2030-01-01', "reson"),
        ('sha256 = "abc"\nreason = "x"\nexpires = 2030-01-01', "sha256"),
        ('id = "A-B"\ntag = "0009,1001"\nreason = "x"\nexpires = 2030-01-01', "tag"),
        ("id = ", "Invalid value"),
    ],
)
def test_a_wrong_entry_is_an_error_that_says_what(tmp_path, text, said):
    path = written(tmp_path, f"[[suppress]]\n{text}\n")
    with pytest.raises(DicomguardError, match=re.escape(said)) as error:
        load_suppressions(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DicomguardError, match="No such file"):
        load_suppressions(tmp_path / "none.toml")
    with pytest.raises(DicomguardError, match="No such file"):
        load_baseline(tmp_path / "none.json")


# ---------------------------------------------------------------------- baselines


def test_a_baseline_knows_findings_of_content_wherever_it_lies(tmp_path):
    baseline = Baseline()
    baseline.add(scan_bytes(FILE, "a"))
    baseline.write(tmp_path / "known.json")
    known = load_baseline(tmp_path / "known.json")
    assert scan(FILE, path="elsewhere", **known).verdict is Verdict.CLEAN
    assert scan(FILE + b"\0", **known).verdict is Verdict.MALICIOUS
    assert [path.name for path in tmp_path.iterdir()] == ["known.json"]


def test_what_a_baseline_does_not_list_of_known_content_counts():
    assert scan(FILE, **{SHA256: frozenset({"EMB-ELF"})}).verdict is Verdict.MALICIOUS


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"type": "x"}', '{"findings": {"../x": []}}'])
def test_what_is_no_baseline_is_refused(tmp_path, text):
    (tmp_path / "known.json").write_text(text)
    with pytest.raises(DicomguardError, match="cannot read the baseline"):
        load_baseline(tmp_path / "known.json")


# ---------------------------------------------------------------------- the command


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(FILE)
    (folder / "b.dcm").write_bytes(carrier().data)
    return folder


def test_a_known_archive_is_clean_until_something_new_comes(archive, tmp_path):
    known = tmp_path / "known.json"
    first = check("--write-baseline", known, archive)
    assert (first.code, "1 file" in first.err) == (1, True)
    assert json.loads(known.read_text())["findings"][SHA256] == ["EMB-PE"]
    again = check("--baseline", known, "--format", "jsonl", archive)
    assert again.code == 0
    assert again.summary["suppressed"] == {"EMB-PE": 1}
    assert [each["id"] for each in again.files[0]["suppressed"]] == ["EMB-PE"]
    (archive / "c.dcm").write_bytes(holding(PE + b"\1\1"))
    more = check("--baseline", known, "--format", "jsonl", archive)
    assert more.code == 1
    assert more.verdicts == {"a.dcm": "clean", "b.dcm": "clean", "c.dcm": "malicious"}


def test_suppressed_findings_are_counted_and_shown_when_asked_for(archive, tmp_path):
    path = written(
        tmp_path, f'[[suppress]]\nid = "EMB-PE"\nreason = "looked at"\nexpires = {TOMORROW}\n'
    )
    quiet = check("--suppressions", path, archive)
    assert quiet.code == 0
    assert "suppressed: EMB-PE 1" in quiet.out
    assert "looked at" not in quiet.out
    shown = check("--suppressions", path, "--show-suppressed", archive)
    assert "EMB-PE" in shown.out
    assert f"looked at (until {TOMORROW})" in shown.out


def test_an_expired_entry_no_longer_applies_and_that_is_said(archive, tmp_path):
    path = written(
        tmp_path, f'[[suppress]]\nid = "EMB-PE"\nreason = "once"\nexpires = {YESTERDAY}\n'
    )
    late = check("--suppressions", path, archive)
    assert late.code == 1
    assert f"no longer suppressed: EMB-PE: once (expired {YESTERDAY})" in late.err


def test_an_id_that_no_finding_has_is_pointed_out(archive, tmp_path):
    path = written(tmp_path, f'[[suppress]]\nid = "EMB-PEE"\nreason = "x"\nexpires = {TOMORROW}\n')
    assert "there is no finding EMB-PEE" in check("--suppressions", path, archive).err


def test_no_file_of_the_scanned_folder_suppresses_anything(archive, monkeypatch):
    written(archive, f'[[suppress]]\nid = "EMB-PE"\nreason = "x"\nexpires = {TOMORROW}\n')
    monkeypatch.chdir(archive)
    assert check(".").code == 1


def test_checking_the_configuration_checks_its_suppressions(tmp_path):
    config = tmp_path / "dicomguard.toml"
    config.write_text(f'[scan]\nsuppressions = "{written(tmp_path, "[[suppress]]")}"\n')
    done = run("config", "check", config)
    assert done.returncode == 2
    assert b"missing required field" in done.stderr


# ---------------------------------------------------------------------- the daemon


def test_the_daemon_honours_suppressions_and_logs_them(tmp_path, ingest, vault):
    path = written(
        tmp_path,
        f'[[suppress]]\nid = "EMB-PE"\nprivate_creator = "ACME"\n'
        f'reason = "x"\nexpires = {TOMORROW}\n'
        f'[[suppress]]\nid = "EMB-ELF"\nreason = "old"\nexpires = {YESTERDAY}\n',
    )
    (ingest / "known.dcm").write_bytes(FILE)
    (ingest / "new.dcm").write_bytes(holding(b"", PE))
    deliver = tmp_path / "deliver"
    deliver.mkdir()
    with Daemon(ingest, vault, "--suppressions", path, "--deliver", deliver) as daemon:
        daemon.await_line("clean delivered", "suppressed EMB-PE", "known.dcm")
        daemon.await_line("malicious quarantined", "new.dcm")
        assert daemon.lines("no longer suppressed: EMB-ELF: old")
    assert (deliver / "known.dcm").read_bytes() == FILE


def test_a_daemon_whose_suppressions_changed_looks_again(tmp_path, ingest, vault):
    def says(id_: str) -> Path:
        return written(
            tmp_path, f'[[suppress]]\nid = "{id_}"\nreason = "x"\nexpires = {TOMORROW}\n'
        )

    (ingest / "known.dcm").write_bytes(FILE)
    with Daemon(ingest, vault, "--suppressions", says("EMB-PE")) as daemon:
        daemon.await_line("suppressed EMB-PE", "known.dcm")
        daemon.stop()
    with Daemon(ingest, vault, "--suppressions", says("EMB-ELF")) as daemon:
        daemon.await_line("malicious quarantined", "known.dcm")
