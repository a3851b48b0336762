"""The catalogue of findings is complete, and what it says of test files is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import test_rules
import test_watch_operations
from dicomguard import Report, Verdict, naming, scan_bytes
from dicomguard.cli.commands import cli
from dicomguard.findings.catalogue import Entry, explanations, families, suggestions
from dicomguard.findings.pages import pages
from fixtures.build import all_fixtures
from fixtures.carriers import carrier
from fixtures.dicomfile import PATIENT_NAME, element
from fixtures.near_misses import NEAR_MISSES
from test_check import environment
from test_detectors import FIRING

DOCS = Path(__file__).parents[1] / "docs" / "findings"

ENTRIES: dict[str, Entry] = {
    id_: entry for family in families().values() for id_, entry in family.findings.items()
}

FIRED_ELSEWHERE = {
    "STUDY-HELD": test_watch_operations,
    "YARA": test_rules,
}
"""Ids that no scan with the shipped rules can have, with the tests that have them."""

CASES = {
    "DS-DUP": lambda: carrier().with_(*(element(PATIENT_NAME, "PN", n) for n in (b"A", b"B"))).data,
    "SCAN-INCOMPLETE": lambda: carrier("image_dfl.dcm").data[:-4000],
}
"""Files for what `FIRING` leaves out."""


@cache
def report(name: str) -> Report:
    """The report of a fixture, of a near miss, or of the case that `FIRING` has for an id."""
    fixtures = all_fixtures()
    if name in fixtures:
        return scan_bytes(fixtures[name].data)
    return scan_bytes({**NEAR_MISSES, **CASES, **FIRING}[name]())


def ids(name: str) -> set[str]:
    return {each.kind.id for each in report(name).findings}


# ---------------------------------------------------------------------- complete


def test_every_id_that_is_declared_has_an_entry_and_no_other_has() -> None:
    assert set(explanations()) == set(ENTRIES)


@pytest.mark.parametrize("word", list(families()))
def test_a_family_holds_its_own(word: str) -> None:
    assert {id_.partition("-")[0] for id_ in families()[word].findings} == {word}


@pytest.mark.parametrize("id_", list(ENTRIES))
def test_an_entry_tells_everything(id_: str) -> None:
    entry = ENTRIES[id_]
    texts = (entry.meaning, entry.example, entry.limits, *entry.look_alikes, *entry.next)
    assert entry.look_alikes
    assert entry.next
    assert all(text.endswith((".", "?")) for text in texts), texts
    assert entry.near_miss or id_ in FIRED_ELSEWHERE
    assert entry.fires or id_ in FIRED_ELSEWHERE


@pytest.mark.parametrize("word", list(families()))
def test_a_command_that_is_named_exists(word: str) -> None:
    text = str(families()[word])
    assert set(re.findall(r"`dicomguard (\w+)", text)) <= set(cli.commands)


# ---------------------------------------------------------------------- proven


@pytest.mark.parametrize(
    ("id_", "name"), [(id_, name) for id_, entry in ENTRIES.items() for name in entry.fires]
)
def test_it_fires(id_: str, name: str) -> None:
    if id_ == "PRE-MAGIC" and not naming.is_available():
        pytest.skip("libmagic is not installed")
    assert id_ in ids(name)


@pytest.mark.parametrize(
    ("id_", "name"), [(id_, name) for id_, entry in ENTRIES.items() for name in entry.near_miss]
)
def test_it_does_not_fire_on_what_is_near(id_: str, name: str) -> None:
    assert id_ not in ids(name)
    assert report(name).verdict is Verdict.CLEAN, ids(name)


def test_no_near_miss_is_forgotten() -> None:
    assert {name for entry in ENTRIES.values() for name in entry.near_miss} >= set(NEAR_MISSES)


@pytest.mark.parametrize("id_", list(FIRED_ELSEWHERE))
def test_it_is_fired_elsewhere(id_: str) -> None:
    assert f'"{id_}"' in Path(str(FIRED_ELSEWHERE[id_].__file__)).read_text(encoding="utf-8")


# ---------------------------------------------------------------------- shown


def test_the_pages_are_those_of_the_catalogue() -> None:
    made = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
    assert made == pages(), "run: dicomguard findings --to docs/findings"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicomguard", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=60, check=False
    )


def test_every_id_is_explained() -> None:
    told = json.loads(run("explain", "--format", "json", *map(str.lower, ENTRIES)).stdout)
    assert [each["id"] for each in told] == list(ENTRIES)
    assert [each["meaning"] for each in told] == [each.meaning for each in ENTRIES.values()]


def test_an_explanation_is_text_for_people() -> None:
    done = run("explain", "POLY-PE")
    assert done.returncode == 0
    for heading in ("What it is", "Why it matters", "Honest look-alikes", "What to do next"):
        assert f"\n{heading}\n" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("word", "meant"), [("POLY-EP", "POLY-PE"), ("TAIL", "TAIL-DATA"), ("emb-scipt", "EMB-SCRIPT")]
)
def test_a_wrong_word_gets_a_suggestion(word: str, meant: str) -> None:
    assert meant in suggestions(word, explanations())
    done = run("explain", word)
    assert done.returncode == 2
    assert "did you mean" in done.stderr
    assert meant in done.stderr


def test_a_word_like_nothing_is_told_where_to_look() -> None:
    done = run("explain", "\x1b[31mqqqqqqqq")
    assert done.returncode == 2
    assert "dicomguard findings" in done.stderr
    assert "\x1b" not in done.stderr


def test_all_ids_are_listed() -> None:
    lines = run("findings").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(ENTRIES)
    assert all(len(line.split()) > 4 for line in lines)


def test_rules_of_ones_own_are_explained(tmp_path: Path) -> None:
    rule = """rule own { meta: id = "OWN-RULE" title = "Mine" category = "malware" severity = "high"
        confidence = "strong" where = "file" why = "It is mine." strings: $a = "abcdef"
        condition: $a }"""
    (tmp_path / "own.yar").write_text(rule)
    done = run("explain", "OWN-RULE", "--rules", str(tmp_path))
    assert "It is mine." in done.stdout
