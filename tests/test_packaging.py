"""The rules are found however dicomguard is installed: wheel, sdist, editable, checkout."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from dicomguard.rules import shipped_rules

CHECKOUT = Path(__file__).parents[1]
RULES = sorted(path.name for path in (CHECKOUT / "rules").iterdir())
DATA = ("findings/POLY.toml", "detectors/vendors.toml", "py.typed")
"""What the package reads, or others read of it, besides its code."""

needs_hatchling = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None,
    reason="hatchling is not installed, and a test downloads nothing",
)

IMPORT = """
import site, sys
_, installed, *packages = sys.argv
site.addsitedir(installed)
sys.path += packages
import dicomguard, dicomguard.rules
print(dicomguard.rules.shipped_rules())
dicomguard.rules.RulePack()
pe = open({sample!r}, "rb").read()
print(dicomguard.scan_bytes(pe).verdict)
"""


def build(hook: str, source: Path, target: Path) -> Path:
    """What hatchling builds from a source tree (PEP 517, PEP 660)."""
    target.mkdir()
    code = f"import hatchling.build; print(hatchling.build.{hook}({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


def install(wheel: Path, target: Path) -> Path:
    """A pure wheel is installed by unpacking it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def rules_seen_from(installed: Path) -> tuple[Path, str]:
    """Folder of rules of an installation and its verdict on a Windows program in a DICOM file.

    No other dicomguard is in sight: isolated, without the environment's own site-packages before.
    """
    sample = CHECKOUT / "tests" / "fixtures" / "malicious" / "poly-pe.dcm"
    code = IMPORT.format(sample=str(sample))
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(installed), *sorted(packages)],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder, verdict = done.stdout.splitlines()
    return Path(folder), verdict


def test_the_checkout_has_its_rules() -> None:
    assert RULES
    assert "pack.toml" in RULES
    assert sorted(path.name for path in shipped_rules().iterdir()) == RULES


@pytest.mark.slow
@needs_hatchling
def test_a_wheel_has_the_rules(tmp_path: Path) -> None:
    wheel = build("build_wheel", CHECKOUT, tmp_path / "dist")
    installed = install(wheel, tmp_path / "installed")
    assert sorted(path.name for path in (installed / "dicomguard" / "_rules").iterdir()) == RULES
    assert rules_seen_from(installed) == (installed / "dicomguard" / "_rules", "malicious")
    for name in DATA:
        assert (installed / "dicomguard" / name).exists(), name


@pytest.mark.slow
@needs_hatchling
def test_an_sdist_has_the_rules_and_the_tests(tmp_path: Path) -> None:
    sdist = build("build_sdist", CHECKOUT, tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert sorted(path.name for path in (source / "rules").iterdir()) == RULES
    assert (source / "tests" / "fixtures" / "malicious" / "poly-pe.dcm").exists()
    wheel = build("build_wheel", source, tmp_path / "wheel")
    installed = install(wheel, tmp_path / "installed")
    assert rules_seen_from(installed) == (installed / "dicomguard" / "_rules", "malicious")


@pytest.mark.slow
@needs_hatchling
@pytest.mark.skipif(
    importlib.util.find_spec("editables") is None,
    reason="editables, which hatchling needs for this, is not installed",
)
def test_an_editable_installation_has_the_rules(tmp_path: Path) -> None:
    wheel = build("build_editable", CHECKOUT, tmp_path / "dist")
    installed = install(wheel, tmp_path / "installed")
    folder, verdict = rules_seen_from(installed)
    assert sorted(path.name for path in folder.iterdir()) == RULES
    assert verdict == "malicious"
