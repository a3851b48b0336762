"""yara-python and YARA-X: one answer, whichever is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from pydicom import data as pydicom_data

from dicomguard import Report, ScanSettings, scan_bytes, scan_file
from dicomguard.engine import (
    ENGINES,
    Declared,
    Match,
    Part,
    RuleName,
    RuleSyntaxError,
    compile_rules,
    default_engine,
)
from dicomguard.errors import DicomguardError
from fixtures.build import all_fixtures

BUNDLED = sorted(
    path
    for path in Path(pydicom_data.__file__).parent.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
)

engines = pytest.mark.parametrize("engine", list(ENGINES))


def reports(data: bytes) -> list[Report]:
    """One report for each engine; findings of equal rank have no order of their own."""
    both = []
    for engine in ENGINES:
        report = scan_bytes(data, settings=ScanSettings(engine=engine))
        both.append(replace(report, findings=tuple(sorted(report.findings, key=repr))))
    return both


@pytest.mark.parametrize("name", sorted(all_fixtures()))
def test_engines_agree_on_fixture(name: str) -> None:
    one, other = reports(all_fixtures()[name].data)
    assert one == other


def test_engines_agree_on_the_files_of_pydicom() -> None:
    assert len(BUNDLED) > 150
    for path in BUNDLED:
        one, other = reports(path.read_bytes())
        assert one == other, path


SOURCES = {
    "a": "private rule helper { condition: true }\n"
    'rule one { meta: k = "v" n = 3 strings: $a = "abab" $b = "bc" condition: any of them }\n'
    "rule bare { condition: helper }\n",
    "b": 'rule one { strings: $a = "abab" private condition: $a }',
}


@engines
def test_what_an_engine_answers(engine: str) -> None:
    rules = compile_rules(engine, SOURCES)
    one, bare, helper, other = (
        RuleName(*name) for name in (("a", "one"), ("a", "bare"), ("a", "helper"), ("b", "one"))
    )
    assert sorted(rules.declared(), key=lambda each: each.rule) == [
        Declared(bare, {}, is_private=False),
        Declared(helper, {}, is_private=True),
        Declared(one, {"k": "v", "n": 3}, is_private=False),
        Declared(other, {}, is_private=False),
    ]
    found = rules.scan(b"xababc", 10)
    assert found.limits == []
    assert found.matches == [
        Match(bare, 0, 0),
        Match(other, 0, 0),
        Match(one, 1, 4),
        Match(one, 4, 2),
    ]


@engines
def test_what_was_scanned_before_does_not_matter(engine: str) -> None:
    named = 'rule named { strings: $a = "word" condition: $a or filename == "x" }'
    rules = compile_rules(engine, {"a": named})
    rules.prepare()
    for _ in range(2):
        assert len(rules.scan(b"a word", 9).matches) == 1
        assert rules.scan(b"nothing", 9).matches == []
        assert len(rules.scan(b"nothing", 9, {"filename": "x"}).matches) == 1
        assert rules.scan(b"nothing", 9, {}).matches == []


@engines
def test_a_part_of_what_was_compiled_together(engine: str) -> None:
    """Neither the matches of the others nor that one of them is not told whole are its concern."""
    flood = 'rule flood { strings: $a = "aa" condition: $a }'
    rules = compile_rules(engine, SOURCES | {"c": flood})
    data = b"abab" + b"a" * 1_000_100
    assert len(rules.scan(data, 60).limits) == 1
    part = Part(rules, {"a"})
    assert {each.rule.namespace for each in part.declared()} == {"a"}
    found = part.scan(data, 60)
    assert found == compile_rules(engine, {"a": SOURCES["a"]}).scan(data, 60)
    assert found.matches
    assert not found.limits
    assert len(Part(rules, {"c"}).scan(data, 60).limits) == 1


@engines
def test_a_syntax_error_names_its_place(engine: str) -> None:
    with pytest.raises(RuleSyntaxError, match=r"the file(:| --> |.*\n --> the file:)"):
        compile_rules(engine, {"the file": "rule broken { condition: }"})


@engines
def test_a_scan_that_takes_too_long_says_so(engine: str) -> None:
    """Nested loops over the matches: far beyond a second of work, in a few bytes of rule."""
    slow = 'strings: $a = "aaaa" condition: for all i in (1..#a) : (for all j in (1..#a) : '
    slow += "(for all k in (1..#a) : (@a[i] + @a[j] + @a[k] >= 0)))"
    rules = compile_rules(engine, {"slow": f"rule slow {{ {slow} }}"})
    result = rules.scan(b"a" * 20_000, 1)
    assert result.matches == []
    assert result.limits == ["the rules took longer than 1 s"]


def test_the_default_is_an_engine() -> None:
    assert default_engine() in ENGINES


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "yara-x", "no_such_module")
    with pytest.raises(DicomguardError, match=r"dicomguard\[yara-x\]"):
        compile_rules("yara-x", {"a": "rule a { condition: true }"})


@pytest.mark.parametrize("engine", ["yara", "yara-x"])
def test_large_files_are_scanned_as_small_ones_are(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped instead of read, by two threads, and looked through in windows."""
    settings = ScanSettings(engine=engine)
    paths = []
    for fixture in all_fixtures().values():
        paths.append(tmp_path / fixture.filename)
        paths[-1].write_bytes(fixture.data)
    small = [scan_file(path, settings) for path in paths]
    monkeypatch.setattr("dicomguard.scan._MAPPED_FROM", 1)
    monkeypatch.setattr("dicomguard.rules._LARGE", 1)
    monkeypatch.setattr("dicomguard.patterns._WINDOW", 4096)
    for path, report in zip(paths, small, strict=True):
        assert scan_file(path, settings) == report
