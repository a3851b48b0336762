"""``--format`` and ``--output``: what is written where, and what is never overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from dicomguard.reports import destination
from dicomguard.reports.formats import FORMATS, is_report, of_name
from test_check import check, command, environment, put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "incoming"
    path.mkdir()
    put(path, "a.dcm", "poly-pe")
    put(path, "b.dcm", "ct")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def begins(path: Path) -> str:
    """The format that the content of a report has."""
    head = path.read_bytes()
    (name,) = [name for name, each in FORMATS.items() if each.begins.match(head)]
    return name


def test_several_reports_in_one_run(folder: Path, out: Path) -> None:
    names = [f"r{format_.suffixes[0]}" for format_ in FORMATS.values()]
    run = check(*(f"--output={out / name}" for name in names), folder)
    assert run.code == 1
    assert run.out == ""
    assert "2 files, " in run.err, "the totals are said where they disturb no report"
    assert {path.name: begins(path) for path in out.iterdir()} == dict(
        zip(names, FORMATS, strict=True)
    )
    assert {of_name(name) for name in names} == set(FORMATS)


def test_standard_output_can_be_one_of_them(folder: Path, out: Path) -> None:
    run = check("-o", "-", "-o", out / "r.json", folder)
    assert "2 files, " in run.out
    assert run.err == ""
    assert begins(out / "r.json") == "json"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--format", "sarif", "-o", "r.json"), {"r.json": "sarif"}),
        (("-o", "r.JSON"), {"r.JSON": "json"}),
        (("-o", "r"), {"r": "text"}),
        (("--format", "csv", "-o", "r"), {"r": "csv"}),
        (
            ("--format", "csv", "-o", "r.json", "-o", "r.sarif.json", "-o", "r"),
            {"r.json": "json", "r.sarif.json": "sarif", "r": "csv"},
        ),
    ],
)
def test_the_format_of_a_file(
    folder: Path, out: Path, arguments: tuple[str, ...], expected: dict[str, str]
) -> None:
    placed = [str(out / each) if each.startswith("r") else each for each in arguments]
    assert check(*placed, folder).code == 1
    assert {path.name: begins(path) for path in out.iterdir()} == expected


def test_quiet_is_quiet(folder: Path, out: Path) -> None:
    run = check("-q", "-o", out / "r.csv", folder)
    assert (run.out, run.err) == ("", "")


def test_a_table_on_standard_output_leaves_the_totals_to_standard_error(folder: Path) -> None:
    run = check("--format", "csv", folder)
    assert "2 files, " in run.err
    assert "2 files, " not in run.out


def test_no_report_among_what_is_examined(folder: Path, out: Path) -> None:
    (folder / "deep").mkdir()
    (out / "link").symlink_to(folder / "deep")
    for target in (folder / "r.csv", folder / "deep" / "r.csv", out / "link" / "r.csv"):
        run = check("-o", target, folder)
        assert run.code == 2
        assert "which is examined" in run.err
        assert "--force" in run.err
        assert not target.exists()
    assert check("--force", "-o", folder / "r.csv", folder).code == 1
    assert begins(folder / "r.csv") == "csv"


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_examined_is_never_overwritten(folder: Path, force: tuple[str, ...]) -> None:
    path = folder / "a.dcm"
    before = path.read_bytes()
    run = check(*force, "--format", "text", "-o", path, path)
    assert run.code == 2
    assert "what is examined" in run.err
    assert path.read_bytes() == before


def test_only_a_report_is_overwritten(folder: Path, out: Path) -> None:
    precious = out / "thesis.txt"
    precious.write_text("Two years of work")
    run = check("-o", precious, folder)
    assert run.code == 2
    assert "is no report" in run.err
    assert precious.read_text() == "Two years of work"
    assert check("--force", "-o", precious, folder).code == 1
    assert begins(precious) == "text"
    assert check("-o", precious, folder).code == 1, "a report may be"
    (out / "empty.json").touch()
    assert check("-o", out / "empty.json", folder).code == 1


def test_a_report_keeps_the_mode_of_the_one_before_it(folder: Path, out: Path) -> None:
    path = out / "r.json"
    check("-o", path, folder)
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    path.chmod(0o600)
    check("-o", path, folder)
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed_or_replaced(folder: Path, out: Path) -> None:
    (out / "target").write_text("")
    (out / "r.json").symlink_to(out / "target")
    assert check("-o", out / "r.json", folder).code == 2
    assert (out / "target").read_text() == ""


def test_a_file_that_cannot_be_written_stops_the_run_before_it_starts(
    folder: Path, out: Path
) -> None:
    run = check("-o", out / "missing" / "r.json", folder)
    assert (run.code, run.out) == (2, "")
    assert "cannot write" in run.err
    assert "files, " not in run.err
    assert check("-o", out / "r.json", "-o", out / "r.json", folder).code == 2


def test_a_failed_run_leaves_the_old_report(out: Path) -> None:
    path = out / "r.json"
    path.write_text('{"type": "report"} the old one')

    def fail() -> None:
        with destination.opened(str(path)) as stream:
            stream.write("half of the new one")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == '{"type": "report"} the old one'
    assert list(out.iterdir()) == [path]


def test_a_full_disk_is_an_error(folder: Path) -> None:
    run = check("-o", "/dev/full", folder)
    assert run.code == 2
    assert "cannot write /dev/full: No space left on device" in run.err


def test_a_report_into_a_pipe(folder: Path, out: Path) -> None:
    fifo = out / "r.json"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        assert check("-o", fifo, folder).code == 1
        assert json.loads(reader.communicate(timeout=20)[0])["summary"]["files"] == 2


def test_an_interrupted_run_writes_its_reports(folder: Path, out: Path) -> None:
    os.truncate(put(folder, "c.dcm", "ct"), 600 << 20)
    with subprocess.Popen(
        command("-o", "-", "-o", out / "r.json", "-o", out / "r.sarif", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1"),
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert os.read(process.stdout.fileno(), 10)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads((out / "r.json").read_text())["summary"]["interrupted"]
    (run,) = json.loads((out / "r.sarif").read_text())["runs"]
    assert not run["invocations"][0]["executionSuccessful"]
    assert sorted(path.name for path in out.iterdir()) == ["r.json", "r.sarif"]


def test_what_is_a_report() -> None:
    assert not is_report(b"")
    assert not is_report(b"\0" * 128 + b"DICM")
    assert not is_report(b'{"type": "something"}')
