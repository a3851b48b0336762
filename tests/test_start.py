"""What a lone ``check`` loads: each module costs time before the first byte is looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.build import all_fixtures

MODULES = 360
"""How many may be loaded at the end, Python's own included."""

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
    assert "dicomguard.rules" in loaded
    assert len(loaded) <= MODULES, sorted(loaded)


@pytest.mark.parametrize("module", SLOW)
def test_what_is_not_needed_is_not_loaded(loaded: set[str], module: str) -> None:
    assert module not in loaded
