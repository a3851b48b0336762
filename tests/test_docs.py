"""The documents that are not pages: their links lead somewhere, and what they show is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicomguard import Verdict, scan_bytes
from fixtures.build import all_fixtures

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.md")])
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The names by which the headings of a document can be linked to."""
    headings = _HEADING.findall(path.read_text())
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(_CODE.sub("", document.read_text())):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}#{anchor}"


def test_the_readme_does_not_boast() -> None:
    text = (ROOT / "README.md").read_text()
    told = re.search(r"More than (\d+) attack files", text)
    assert told
    attacks = [
        each
        for each in all_fixtures().values()
        if each.verdict and each.verdict > Verdict.INCOMPLETE
    ]
    assert len(attacks) > int(told[1])
    assert all(scan_bytes(each.data).verdict > Verdict.INCOMPLETE for each in attacks)


def test_what_the_readme_shows_of_a_report_is_what_is_found() -> None:
    text = (ROOT / "README.md").read_text()
    report = scan_bytes((ROOT / "tests/fixtures/malicious/pe-nested.dcm").read_bytes())
    worst = report.findings[0]
    place = worst.place
    assert f"{worst.kind.severity}  {worst.kind.id}  {worst.kind.title}" in text
    assert f"{place.region} {place.tag_path}, offset {place.offset}, {place.length} bytes" in text
    assert worst.detail in text
    assert worst.kind.why.split(". ")[0] in text
