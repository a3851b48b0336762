"""What a lone ``check`` loads: each module costs time before the first byte is looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.build import all_fixtures

MODULES = 180
"""How many may be loaded at the end by the process that asks, Python's own included."""

SCANNING = 216
"""How many by what scans."""

SLOW = (
    "Crypto", "asyncio", "backports.zstd", "bz2", "cart", "concurrent.futures", "email", "html",
    "http", "hyperscan", "importlib.metadata", "inotify_simple", "logging", "lzma", "magic",
    "multiprocessing", "numpy", "prometheus_client", "pydicom", "rich", "sqlite3", "unicodedata",
)  # fmt: skip
"""What a lone file has no use for."""

CODE = """
import sys
from dicomguard.cli import main
try:
    main()
except SystemExit:
    print(*sys.modules, sep="\\n")
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    path = tmp_path_factory.mktemp("start") / "ct.dcm"
    path.write_bytes(all_fixtures()["ct"].data)
    command = [sys.executable, "-c", CODE, "check", "--quiet", str(path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=Path.cwd())
    return set(done.stdout.split("\n"))


def test_few_modules_are_loaded(loaded: set[str]) -> None:
    assert "dicomguard.workers" in loaded
    assert "dicomguard.rules" not in loaded  # its workers' business
    assert len(loaded) <= MODULES, sorted(loaded)


def test_few_modules_scan(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(all_fixtures()["ct"].data)
    code = (
        "import sys; from dicomguard import scan_file;"
        " scan_file(sys.argv[1]); print(*sys.modules, sep='\\n')"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=Path.cwd())
    loaded = set(done.stdout.split())
    assert "dicomguard.scan" in loaded
    assert not loaded & set(SLOW)
    assert len(loaded) <= SCANNING, sorted(loaded)


@pytest.mark.parametrize("module", SLOW)
def test_what_is_not_needed_is_not_loaded(loaded: set[str], module: str) -> None:
    assert module not in loaded


@pytest.mark.parametrize("wrong", [[], ["--no-such-option"], ["--help"], ["--null"]])
def test_nothing_is_left_of_a_check_that_is_none(wrong: list[str]) -> None:
    """Its nursery is there before anybody knows."""
    command = [sys.executable, "-m", "dicomguard", "check", *wrong]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    output, errors = process.communicate(timeout=60)
    assert process.returncode == (0 if output else 2)
    assert bool(errors) is not bool(output)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_nursery_ends_with_the_process_that_was_to_use_it() -> None:
    code = "from dicomguard.nursery import Nursery; kept = Nursery(); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, 0)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while _has_processes(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
