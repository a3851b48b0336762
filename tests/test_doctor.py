"""What the doctor says of this machine, and of ones that lack something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from dicomguard import doctor
from dicomguard.doctor import State, is_usable
from dicomguard.settings import ScanSettings

TMPFS = Path("/dev/shm")


def run(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicomguard", "doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | env,
    )


def lines(folder: Path | None = None, **settings: object) -> dict[str, list[doctor.Line]]:
    by_name: dict[str, list[doctor.Line]] = {}
    for line in doctor.examine(ScanSettings(**settings), folder):  # type: ignore[arg-type]
        by_name.setdefault(line.name, []).append(line)
    return by_name


def test_this_machine_is_fit_and_every_line_has_what_was_seen():
    done = run("--format", "json")
    assert done.returncode == 0, done.stdout
    said = json.loads(done.stdout)
    assert said["usable"] is True
    names = {line["name"] for line in said["lines"]}
    assert {"Python", "dicomguard", "libyara", "libmagic", "pydicom", "rules", "pack"} <= names
    assert {"self-test", "sandbox", "inotify"} <= names
    assert all(line["found"] for line in said["lines"])
    assert all(line["remedy"] for line in said["lines"] if line["state"] != "ok")


def test_text_says_the_same():
    done = run()
    assert done.returncode == 0
    assert f"pydicom     {metadata.version('pydicom')}" in done.stdout
    assert "EICAR" in done.stdout


def test_versions_known_to_be_vulnerable_are_warned_of():
    old = doctor._versioned("pydicom", "2.4.4")
    assert (old.state, "CVE-2026-32711" in old.found) == (State.WARN, True)
    assert doctor._versioned("pydicom", "3.0.2").state is State.OK
    both = doctor._versioned("libmagic", "5.37")
    assert both.found.count("CVE-") == 2
    assert doctor._versioned("libmagic", "5.44").state is State.OK


def test_rules_that_do_not_load_fail(tmp_path):
    (tmp_path / "a.yar").write_text("rule broken {")
    done = run("--rules", tmp_path)
    assert done.returncode == 2
    assert "fail  rules" in done.stdout
    assert "a.yar" in done.stdout


def test_an_old_pack_is_warned_of(tmp_path):
    (tmp_path / "a.yar").write_text("rule a { condition: false }")
    (tmp_path / "pack.toml").write_text(
        'name = "acme"\nversion = "1"\nlicence = "MIT"\nreleased = 2019-01-01\n'
    )
    *_, pack = lines(rule_folders=(tmp_path,))["pack"]
    assert pack.state is State.WARN
    assert "days old" in pack.found


def test_a_folder_is_named_with_its_kind(tmp_path):
    if not TMPFS.is_dir():
        pytest.skip("needs /dev/shm")
    (line,) = lines(TMPFS)["folder"]
    assert line.found.endswith("tmpfs")
    assert line.state is State.OK
    (missing,) = lines(tmp_path / "none")["folder"]
    assert missing.state is State.FAIL
    assert not is_usable([missing])


def test_without_libmagic_it_is_usable():
    code = (
        "import ctypes, runpy, sys\n"
        "real = ctypes.CDLL\n"
        "class CDLL(real):\n"
        "    def __init__(self, name, *a, **k):\n"
        "        if name and 'magic' in str(name): raise OSError('not there')\n"
        "        super().__init__(name, *a, **k)\n"
        "ctypes.CDLL = CDLL\n"
        "sys.argv = ['dicomguard', 'doctor']\n"
        "runpy.run_module('dicomguard', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn  libmagic    not installed" in done.stdout
    assert "apt install libmagic1" in done.stdout
