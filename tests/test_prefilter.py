"""Rules behind their atoms match what they match without them, whatever the data."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomguard.engine import ENGINES, CompiledRules, compile_rules
from dicomguard.gather import Where
from dicomguard.patterns import MATCH_LIMIT, Literals, Patterns, windows
from dicomguard.prefilter import Prefiltered, atoms_of
from dicomguard.rules import RulePack

RULES = r"""
// Each kind of string there may be; "rule x { strings: $a = { 00 } condition: not $a }" is none.
rule texts {
    meta:
        title = "with } and // and \"condition:\""
    strings:
        $a = "needle\x00\\\"\t" /* a comment */
        $b = "abc"
    condition:
        any of them
}
rule bytes_ {
    strings:
        $all    = { 01 02 03 04 05 06 07 }
        $gap    = { 80 04 95 ?? ?? ?? 00 00 00 00 00 }
        $half   = { 1F 8B 08 ( 0? | 1? ) }
        $either = { 50 45 00 00 (4C 01 | 64) } // of different lengths
        $many   = { 5D 00 ?? FF FF FF FF FF FF 00 }
    condition:
        $all or $gap
        or $half or $either or $many
}
"""
FRAGMENTS = (
    b'needle\0\\"\t', b"needle", b"abc", bytes(range(1, 8)), b"\x80\4\x95xyz\0\0\0\0\0",
    b"\x1f\x8b\x08\x17", b"\x1f\x8b\x08\x27", b"PE\0\0\x4c\1", b"PE\0\0\x64", b"PE\0\0\x65",
    b"\x5d\0\x80\xff\xff\xff\xff\xff\xff\0", b"\xff\xff\xff", bytes(5), b"\x80\4\x95",
)  # fmt: skip


def both(engine: str, source: str = RULES) -> tuple[CompiledRules, Prefiltered]:
    """Rules as they are, and behind their atoms."""
    rules = compile_rules(engine, {"test": source})
    prefiltered = Prefiltered(rules, [source])
    prefiltered.prepare()
    return rules, prefiltered


PAIRS = {engine: both(engine) for engine in ENGINES}


@pytest.mark.parametrize("engine", ENGINES)
@given(st.lists(st.one_of(st.binary(max_size=9), st.sampled_from(FRAGMENTS)), max_size=9))
def test_atoms_lose_nothing(engine: str, parts: list[bytes]) -> None:
    rules, prefiltered = PAIRS[engine]
    data = b"".join(parts)
    assert prefiltered.scan(data, 9) == rules.scan(data, 9)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fragment", [each for each in FRAGMENTS if len(each) > 6])
def test_nothing_is_lost_or_told_twice_where_two_windows_meet(engine: str, fragment: bytes) -> None:
    rules, prefiltered = PAIRS[engine]
    (_, edge, _), *_ = windows(bytes(20 << 20), 0)
    for shift in (-len(fragment), -5, -1, 0, 1):
        at = edge + shift
        data = bytes(at) + fragment + bytes(edge // 2)
        found = prefiltered.scan(data, 60)
        assert found.matches == rules.scan(data, 60).matches
        assert [each.offset for each in found.matches] == [at] * bool(found.matches)


@pytest.mark.parametrize(
    "rule",
    [
        "rule x { condition: true }",
        "rule x { condition: filesize < 9 }",
        'rule x { strings: $a = "abcd" condition: not $a }',
        'rule x { strings: $a = "abcd" condition: $a or filesize < 9 }',
        'rule x { strings: $a = "abcd" condition: 0 of them }',
        'rule x { strings: $a = "abcd" $b = "efgh" condition: all of them }',
        'rule x { strings: $a = "abcd" nocase condition: $a }',
        'rule x { strings: $a = "abcd" wide condition: $a }',
        "rule x { strings: $a = /ab+c/ condition: $a }",
        "rule x { strings: $a = { 01 02 03 [4-9] 04 } condition: $a }",
        "rule x { strings: $a = { 01 02 03 ~04 } condition: $a }",
        'private rule x { strings: $a = "abcd" condition: $a }',
        'import "math" rule x { strings: $a = "abcd" condition: $a }',
        'rule x { strings: $a = "abcd" condition: $a at 0 }',
        f'rule x {{ strings: $a = "{"a" * 5000}" condition: $a }}',
    ],
)
def test_a_rule_that_may_match_otherwise_has_no_atoms(rule: str) -> None:
    assert atoms_of(rule) is None
    for data in (b"", b"abcd", b"\1\2\3" + bytes(6) + b"\4", b"ABCD", b"a\0b\0c\0d\0"):
        rules, prefiltered = both("yara", rule)
        assert prefiltered.scan(data, 9) == rules.scan(data, 9)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_rules_over_all_bytes_have_atoms(engine: str) -> None:
    pack = RulePack(engine=engine)
    (rules,) = [rules for where, rules in pack.sets if where is Where.FILE]
    assert isinstance(rules, Prefiltered)
    pack.prepare()
    noise = random.Random(0).randbytes(1 << 20)
    assert not rules.scan(noise, 9).matches
    assert [each.offset for each in rules.scan(noise + b"\x7fELF", 9).matches] == [len(noise)]


# ---------------------------------------------------------------------- patterns


def test_threads_seek_at_the_same_time() -> None:
    patterns = Patterns([b"a.c", rb"\x00"])
    data = b"x" * (4 << 20) + b"abc\0"
    found = []

    def seek() -> None:
        found.extend(patterns.occurrences(data) for _ in range(20))

    threads = [threading.Thread(target=seek) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [[(len(data) - 1, 0), (len(data), 1)]] * 80


def test_too_many_occurrences_are_not_all_listed() -> None:
    assert len(Patterns([b"a"]).occurrences(b"a" * (MATCH_LIMIT + 9))) == MATCH_LIMIT


@given(
    st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=9, unique=True),
    st.lists(st.binary(max_size=9), max_size=9),
    st.booleans(),
)
def test_literals_are_found_alike_before_they_are_compiled(
    literals: list[bytes], parts: list[bytes], once: bool
) -> None:
    data = b"".join([*literals, *parts, *literals])
    patterns = Literals(literals, once=once)
    found = patterns.occurrences(data)
    assert not patterns.is_compiled
    patterns.compile()
    assert sorted(patterns.occurrences(memoryview(data))) == found


def test_literals_are_compiled_when_there_is_much_to_look_through() -> None:
    patterns = Literals([b"abc"])
    for _ in range(5):
        assert patterns.occurrences(bytes(99_997) + b"abc") == [(100_000, 0)]
    assert patterns.is_compiled
