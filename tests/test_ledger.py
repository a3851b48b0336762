"""Runs that go on where they were stopped, and content that is not examined twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fixtures.build import all_fixtures

CLEAN, BAD = all_fixtures()["ct"].data, all_fixtures()["poly-pe"].data


def check(*words: str | Path) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Exit code, the lines of files, and the summary."""
    command = [sys.executable, "-m", "dicomguard", "check", "--format", "jsonl", *map(str, words)]
    done = subprocess.run(command, capture_output=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if not lines:
        return done.returncode, [], {"error": done.stderr.decode()}
    return done.returncode, lines[:-1], lines[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    (made / "bad").write_bytes(BAD)
    for number in range(5):
        (made / f"clean-{number}").write_bytes(CLEAN + bytes(2 * number))
    return made


def test_clean_content_is_known_by_its_hash_under_any_name(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check("--cache", cache, folder)
    assert len(cache.read_text().splitlines()) == 1 + 5
    (folder / "clean-0").rename(folder / "renamed")
    code, files, _ = check("--cache", cache, folder)
    assert code == 1
    assert {line["verdict"] for line in files if Path(line["path"]).name != "bad"} == {"clean"}
    assert len(cache.read_text().splitlines()) == 1 + 5


def test_a_cached_name_with_other_content_is_examined(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check("--cache", cache, folder / "clean-0")
    info = (folder / "clean-0").stat()
    (folder / "clean-0").write_bytes(BAD[: len(CLEAN)].ljust(len(CLEAN), b"\0"))
    os.utime(folder / "clean-0", ns=(info.st_atime_ns, info.st_mtime_ns))
    code, files, _ = check("--cache", cache, folder / "clean-0")
    assert (code, files[0]["verdict"]) == (1, "malicious")


def test_a_cache_of_other_settings_is_not_believed(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check("--cache", cache, folder)
    check("--cache", cache, "--strict", folder / "clean-1")
    assert len(cache.read_text().splitlines()) == 1 + 1


@pytest.mark.parametrize("option", ["--cache", "--resume"])
def test_a_ledger_that_others_can_write_to_is_refused(
    folder: Path, tmp_path: Path, option: str
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    ledger.chmod(0o666)
    code, files, told = check(option, ledger, folder)
    assert (code, files) == (2, [])
    assert "only you can write" in told["error"]


@pytest.mark.parametrize("option", ["--cache", "--resume"])
def test_a_file_of_something_else_is_not_overwritten(
    folder: Path, tmp_path: Path, option: str
) -> None:
    other = tmp_path / "thesis"
    other.write_text("do not touch\n")
    code, _, told = check(option, other, folder)
    assert code == 2
    assert "name another" in told["error"]
    assert other.read_text() == "do not touch\n"


def test_a_run_that_was_stopped_goes_on(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for number in range(1500):
        os.link(folder / "clean-1", folder / f"more-{number}")
    command = [sys.executable, "-m", "dicomguard", "check", "--format", "jsonl", "--sort"]
    command += ["--resume", str(state), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stopped:
        assert stopped.stdout
        seen = [json.loads(stopped.stdout.readline())["path"] for _ in range(50)]
        stopped.send_signal(signal.SIGINT)
        first = seen + [
            line["path"] for line in map(json.loads, stopped.stdout) if line["type"] == "file"
        ]
    assert len(first) < 1506
    code, files, summary = check("--resume", state, folder)
    assert sorted([*first, *(line["path"] for line in files)]) == sorted(
        str(path) for path in folder.iterdir()
    )
    assert code == 1, "what the run before has found counts"
    assert sum(summary["verdicts"].values()) == 1506
    assert not state.exists(), "the next run starts anew"


def test_a_crash_loses_no_more_than_the_last_lines(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for number in range(1500):
        os.link(folder / "clean-1", folder / f"more-{number}")
    command = [sys.executable, "-m", "dicomguard", "check", "--quiet", "--resume", str(state)]
    with subprocess.Popen([*command, str(folder)]) as killed:
        deadline = time.monotonic() + 60
        while not state.exists() or state.stat().st_size < 4096:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.kill()
    content = state.read_bytes()
    state.write_bytes(content[:-5])  # a line that was cut
    done = content.count(b"\n") - 1
    code, files, summary = check("--resume", state, folder)
    assert 1506 - done <= len(files) <= 1506 - done + 2
    assert code == 1
    assert sum(summary["verdicts"].values()) == 1506


def test_a_file_that_has_changed_since_is_examined_again(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (folder / "bad").unlink()
    command = "from dicomguard.ledger import Progress as P; P.finish = lambda self: None;"
    command += "from dicomguard.cli import main; main()"
    arguments = ["check", "--quiet", "--resume", str(state), str(folder)]
    subprocess.run([sys.executable, "-c", command, *arguments], check=True)
    (folder / "clean-0").write_bytes(BAD)
    code, files, _ = check("--resume", state, folder)
    assert [Path(line["path"]).name for line in files] == ["clean-0"]
    assert code == 1
