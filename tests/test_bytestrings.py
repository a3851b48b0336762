"""Byte strings are told like the strings of rules, however they are sought."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomguard import bytestrings, patterns, prefilter
from dicomguard.bytestrings import TOO_MANY, ByteStrings
from dicomguard.engine import ENGINES, Match, RuleName, compile_rules
from dicomguard.gather import Where
from dicomguard.patterns import windows
from dicomguard.payloads.wrappings import BY_PLAINTEXT, ZLIB
from dicomguard.prefilter import Prefiltered
from dicomguard.rules import RulePack

RULE = 'rule r { strings: $a = "needle" condition: $a }'
STRINGS = {
    RuleName("test", "one"): (b"abcabcabc", b"\0\0\0\0\0\1", b"cabca", b"abcabcab"),
    RuleName("test", "other"): (b"abcabcabc", b"\1\0\0\0\0\0\0\0\2", b"aaaaaa"),
}
FRAGMENTS = (*(each for several in STRINGS.values() for each in several), b"needle", b"\0", b"a")
MARKS = (b"a\0", b"\0a")


def as_rules(engine: str) -> Prefiltered:
    """The same strings as strings of rules."""
    source = "\n".join(
        f"rule {name.name} {{ strings: "
        + " ".join(f"$_{index} = {{ {each.hex(' ')} }}" for index, each in enumerate(strings))
        + " condition: any of them }"
        for name, strings in STRINGS.items()
    )
    return Prefiltered(compile_rules(engine, {"test": f"{RULE}\n{source}"}), [])


def beside() -> Prefiltered:
    rules = compile_rules("yara", {"test": RULE})
    return Prefiltered(rules, [RULE], STRINGS, MARKS)


AS_RULES = {engine: as_rules(engine) for engine in ENGINES}
UNPREPARED, PREPARED, COMPILED = beside(), beside(), ByteStrings(STRINGS)
PREPARED.prepare()
COMPILED.prepare()


def without_rule(matches: list[Match]) -> list[Match]:
    return [each for each in matches if each.rule.name != "r"]


@pytest.mark.parametrize("engine", ENGINES)
@given(st.lists(st.one_of(st.binary(max_size=5), st.sampled_from(FRAGMENTS)), max_size=9))
def test_they_are_told_as_an_engine_tells_them(engine: str, parts: list[bytes]) -> None:
    data = b"".join(parts)
    expected = AS_RULES[engine].scan(data, 9).matches
    assert ByteStrings(STRINGS).scan(data, 9).matches == without_rule(expected)
    assert COMPILED.scan(data, 9).matches == without_rule(expected)
    assert UNPREPARED.scan(data, 9).matches == expected
    found = PREPARED.scan(data, 9)
    assert found.matches == expected
    assert found.marks == [at for at in range(len(data)) if data[at : at + 2] in MARKS]
    assert UNPREPARED.scan(data, 9).marks is None


@pytest.mark.parametrize("string", sorted({len(each): each for each in FRAGMENTS[:-3]}.values()))
def test_none_is_lost_or_told_twice_where_two_windows_meet(string: bytes) -> None:
    (_, edge, _), *_ = windows(bytes(20 << 20), 0)
    for shift in (-len(string), -5, -1, 0, 1):
        at = edge + shift
        data = b"\xff" * at + string + b"\xffa\0" + b"\xff" * (edge // 2)
        expected = [each._replace(offset=at + each.offset) for each in COMPILED.scan(string, 9)[0]]
        assert expected
        assert COMPILED.scan(data, 9).matches == expected
        found = PREPARED.scan(data, 9)
        assert found.matches == expected
        assert found.marks is not None
        assert at + len(string) + 1 in found.marks
        assert len(set(found.marks)) == len(found.marks)


def test_much_is_looked_through_by_hyperscan() -> None:
    strings = ByteStrings(STRINGS)
    for _ in range(20):
        assert [each.offset for each in strings.scan(bytes(50_000) + b"abcabcab", 9).matches] == [
            50_000,
            50_002,
        ]
    assert "_patterns" in strings.__dict__


LIMIT = 1000


@pytest.fixture
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (patterns, prefilter, bytestrings):
        monkeypatch.setattr(module, "MATCH_LIMIT", LIMIT)


@pytest.mark.usefixtures("_low_limit")
@pytest.mark.parametrize("strings", [COMPILED, PREPARED])
def test_too_many_are_a_limit(strings: ByteStrings | Prefiltered) -> None:
    flood = b"\1\0\0\0\0\0\0\0\2" * LIMIT
    assert strings.scan(flood, 60).limits == [TOO_MANY]
    assert not strings.scan(flood[: len(flood) // 2], 60).limits


@pytest.mark.usefixtures("_low_limit")
def test_rules_run_behind_too_many_marks_and_strings() -> None:
    for flood in (b"a\0" * LIMIT, b"a" * 2 * LIMIT, b"a\0" * (LIMIT - 9)):
        for between in (b"", bytes(9 << 20)):
            data = flood + between + b"needle" + b"\0a" * 10
            found = PREPARED.scan(data, 60)
            assert [each.offset for each in found.matches if each.rule.name == "r"] == [
                len(flood + between)
            ]
            assert (found.marks is None) is (flood[1] == 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_forms_of_known_plaintext_are_told(engine: str) -> None:
    pack = RulePack(engine=engine)
    for is_prepared in (False, True):
        if is_prepared:
            pack.prepare()
        for where, several in (
            (Where.FILE, {name: each.rare for name, each in BY_PLAINTEXT.items()}),
            (Where.NONPIXEL, {name: each.forms for name, each in BY_PLAINTEXT.items()}),
        ):
            for name, forms in several.items():
                data = b"\xff" * 7 + (b"\xff" * 7).join(forms)
                told = {
                    (match.rule.name, match.offset)
                    for place, rules in pack.sets
                    if place is where
                    for match in rules.scan(data, 9).matches
                }
                assert {(name, data.find(each)) for each in forms} <= told
        marks = [rules.scan(ZLIB.headers[0], 9).marks for _, rules in pack.sets]
        assert ([0] in marks) is is_prepared
