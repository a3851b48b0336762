"""What a lone ``check`` loads: each module costs time before the first byte is looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.build import all_fixtures

MODULES = 260
"""How many may be loaded at the end by the process that asks, Python's own included."""

SCANNING = 290
"""How many by what scans."""

SLOW = (
    "asyncio", "cart", "concurrent.futures", "email", "http", "importlib.metadata",
    "inotify_simple", "logging", "multiprocessing", "numpy", "prometheus_client", "pydicom",
    "rich.progress", "sqlite3",
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
