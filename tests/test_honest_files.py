"""Honest files stay clean, but for those that really are malformed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import data as pydicom_data

from dicomguard import ScanSettings, Verdict, scan_file

BUNDLED = Path(pydicom_data.__file__).parent

MALFORMED = {
    "test_files/SC_rgb_jpeg.dcm": "its data set is implicit VR, which JPEG never is",
}
"""Bundled files that are not clean, with the reason, which another reader confirmed."""


def bundled() -> list[str]:
    return sorted(
        str(path.relative_to(BUNDLED))
        for path in BUNDLED.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )


def seen(path: Path, settings: ScanSettings | None = None) -> tuple[Verdict, str]:
    report = scan_file(path, settings)
    findings = (f"{each.kind.id} {each.kind.severity} {each.detail}" for each in report.findings)
    return report.verdict, "\n".join((*findings, *report.unexamined))


def test_there_are_files_to_judge() -> None:
    assert set(MALFORMED) < set(bundled())
    assert len(bundled()) > 150


@pytest.mark.parametrize("name", [name for name in bundled() if name not in MALFORMED])
def test_a_file_of_pydicom_is_clean(name: str) -> None:
    verdict, findings = seen(BUNDLED / name)
    assert verdict is Verdict.CLEAN, findings


@pytest.mark.parametrize("name", list(MALFORMED))
def test_a_malformed_file_of_pydicom_is_not_clean(name: str) -> None:
    verdict, findings = seen(BUNDLED / name)
    assert verdict is Verdict.SUSPICIOUS, f"take it off the list: {findings}"


def test_the_honest_corpus_is_clean(honest_corpus: Path) -> None:
    files = [path for path in sorted(honest_corpus.rglob("*")) if path.is_file()]
    assert files
    judged = {str(path.relative_to(honest_corpus)): seen(path) for path in files}
    assert {
        name: findings for name, (verdict, findings) in judged.items() if verdict > Verdict.CLEAN
    } == {}
