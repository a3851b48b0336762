"""Rules that are run only over bytes that hold something of them.

A rule that needs one of its strings cannot match without the first bytes of that string, its atom.
All atoms of all rules are sought in one pass; where there is none, no rule is run. Whatever else is
to be sought in the same bytes rides along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby, product
from math import prod
from typing import NamedTuple

from dicomguard.bytestrings import NO_STRINGS, TOO_MANY, ByteStrings
from dicomguard.dicom.layout import Data
from dicomguard.engine import (
    NO_EXTERNALS,
    CompiledRules,
    Declared,
    RuleName,
    ScanResult,
    by_place,
)
from dicomguard.patterns import MATCH_LIMIT, Occurrence, Patterns, literal, windows
from dicomguard.regex import regex

_ATOM = 5
"""Positions of an atom: chance seldom makes so many, and Hyperscan compiles longer ones slowly."""
_SHORTEST, _FIXED = 4, 3
"""Positions of a literal atom at least, and those of them that hold one byte and no other."""
_FORMS = 32
"""Literals that stand for one string, at most."""
_LONGEST = 1 << 10
"""Bytes that a string may match."""
_WORTH_IT = 8 << 20
"""Bytes whose scan takes longer than to compile the atoms."""


class Prefiltered:
    """Compiled rules behind their atoms; without them where `atoms_of` knows none.

    Args:
        rules: What is run.
        sources: From which they were compiled.
        strings: Byte strings that are told as matches of rules by their names.
        marks: Short literals whose places are told where atoms are sought; frequent ones, which are
            no concern of the rules.
    """

    def __init__(
        self,
        rules: CompiledRules,
        sources: Iterable[str],
        strings: Mapping[RuleName, Sequence[bytes]] = NO_STRINGS,
        marks: Sequence[bytes] = (),
    ) -> None:
        self._rules = rules
        self._sources = tuple(sources)
        self._strings = ByteStrings(strings)
        self._marks = marks

    def prepare(self) -> None:
        """Compile the atoms; until then small data are scanned without them."""
        self._rules.prepare()
        for each in self._atoms or ():
            each.patterns.compile()

    def declared(self) -> Iterable[Declared]:
        """As `CompiledRules` has it."""
        return self._rules.declared()

    def scan(
        self, data: Data, seconds: int, externals: Mapping[str, str] = NO_EXTERNALS
    ) -> ScanResult:
        """As `CompiledRules` has it.

        What rules with atoms match does not depend on what is around it, nor on where it is.
        """
        is_prepared = "_atoms" in self.__dict__
        if (not is_prepared and len(data) < _WORTH_IT) or not self._atoms:
            matches, limits, _ = self._rules.scan(data, seconds, externals)
            beside = self._strings.scan(data, seconds)
            if beside.matches:
                matches = sorted([*matches, *beside.matches], key=by_place)
            return ScanResult(matches, limits + beside.limits)
        found = ScanResult([], [])
        marks: list[int] = []
        literals, others = (_Search(each) for each in self._atoms)
        for start, end, window in windows(data, _LONGEST):
            strings, marked = literals.beside(window), others.beside(window)
            marks += [start + at for at in self._places(marked) if start + at < end]
            matches = list(self._strings.confirmed(window, strings))
            if literals.are_atoms_there or others.are_atoms_there:
                result = self._rules.scan(bytes(window), seconds, externals)
                found.limits.extend(result.limits)
                matches += result.matches
            found.matches.extend(
                match._replace(offset=start + match.offset)
                for match in sorted(matches, key=by_place)
                if start + match.offset < end
            )
        if literals.is_over:
            found.limits.append(TOO_MANY)
        return found._replace(marks=None if others.is_over or not self._marks else marks)

    def _places(self, occurrences: Iterable[Occurrence]) -> Iterator[int]:
        return (end - len(self._marks[number]) for end, number in occurrences)

    @cached_property
    def _atoms(self) -> tuple[_Pass, _Pass] | None:
        """Literals and other expressions; compiled together they take twenty times as long."""
        atoms: dict[bytes, None] = {}
        for source in self._sources:
            needed = atoms_of(source)
            if needed is None:
                return None
            atoms |= dict.fromkeys(needed)
        return (
            _pass([each for each in atoms if _GROUP not in each], self._strings.atoms),
            _pass([each for each in atoms if _GROUP in each], self._marks),
        )


class _Pass(NamedTuple):
    """Atoms of rules, and literals that are sought in the same pass.

    Attributes:
        patterns: The atoms, then the literals.
        atoms: How many atoms there are.
    """

    patterns: Patterns
    atoms: int


def _pass(atoms: Sequence[bytes], beside: Iterable[bytes]) -> _Pass:
    return _Pass(Patterns([*atoms, *map(literal, beside)], once=len(atoms)), len(atoms))


class _Search:
    """A pass over windows; it is over where too many literals have been found.

    Attributes:
        are_atoms_there: Whether the last window holds an atom, as far as that is known.
        is_over: Whether no more is sought.
    """

    def __init__(self, sought: _Pass) -> None:
        self._patterns, self._atoms = sought
        self._left = MATCH_LIMIT
        self.are_atoms_there = False
        self.is_over = False

    def beside(self, window: memoryview) -> list[Occurrence]:
        """Where the literals are, by their numbers."""
        if self.is_over:
            return []
        found = self._patterns.occurrences(window)
        beside = [
            Occurrence(end, number - self._atoms) for end, number in found if number >= self._atoms
        ]
        self._left -= len(beside)
        self.is_over = self._left <= 0 or len(found) >= MATCH_LIMIT
        self.are_atoms_there = self.is_over or len(beside) < len(found)
        return beside


# ---------------------------------------------------------------------- atoms

_TEXT = r'"(?:\\.|[^"\\\n])*"'
_STRING = rf"\$\w+\s*=\s*(?P<string>{_TEXT}|\{{[^{{}}]*\}})\s*"
_STRINGS = regex(_STRING)
_RULE = regex(
    rf"""\s*rule\s+\w+\s*\{{\s*
    (?:meta:\s*(?:\w+\s*=\s*{_TEXT}\s*)+)?
    strings:\s*(?P<strings>(?:{_STRING.replace("?P<string>", "?:")})+)
    condition:\s*(?:any\s+of\s+them|\$\w+(?:\s+or\s+\$\w+)*)\s*\}}\s*""",
    re.VERBOSE,
)
"""A rule that needs one of its strings, which have no modifiers; no comments."""
_COMMENT = regex(rf"({_TEXT})|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TOKEN = regex(r"\s*(?:([0-9A-Fa-f?]{2})|\(([^()]*)\))\s*")
_ESCAPE = regex(rb'\\(?:x([0-9A-Fa-f]{2})|([tnr"\\]))')
_ESCAPED = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def without_comments(source: str) -> str:
    """A source of rules of which only what counts is left."""
    return _COMMENT.sub(lambda match: match[1] or " ", source)


def atoms_of(source: str) -> list[bytes] | None:
    """What must be in data for any rule of a source to match, as expressions for `Patterns`.

    None where a rule may match without, or where that cannot be told: it is more than text and
    bytes, any of which suffices.
    """
    code = without_comments(source)
    atoms: list[bytes] = []
    at = 0
    while at < len(code):
        rule = _RULE.match(code, at)
        if rule is None:
            return None
        at = rule.end()
        for string in _STRINGS.finditer(rule["strings"]):
            inner = string["string"][1:-1]
            is_text = string["string"][0] == '"'
            positions = _of_text(inner) if is_text else _of_bytes(inner)
            if not positions or len(positions) * 2 > _LONGEST:
                return None
            atoms += _atoms(positions)
    return atoms


_GROUP = b"(?:"
_Position = tuple[bytes, ...]
"""What may stand there: bytes, or runs of them."""
_ANY: _Position = tuple(bytes([byte]) for byte in range(256))


def _atoms(positions: list[_Position]) -> list[bytes]:
    """Literals, as these compile fast; an expression where too little is known."""
    runs = (list(run) for known, run in groupby(positions, lambda each: each is not _ANY) if known)
    for run in runs:
        start = run[:_ATOM]
        fixed = b"".join(each[0] for each in start if len(each) == 1)
        is_rare = len(start) >= _SHORTEST and len(fixed) >= _FIXED and len(set(fixed)) > 1
        if is_rare and prod(map(len, start)) <= _FORMS:
            return [literal(b"".join(each)) for each in product(*start)]
    return [b"".join(map(_expression, positions))]


def _expression(position: _Position) -> bytes:
    return b"." if position is _ANY else _GROUP + b"|".join(map(literal, position)) + b")"


def _of_text(text: str) -> list[_Position]:
    raw = _ESCAPE.sub(
        lambda each: bytes.fromhex(each[1].decode()) if each[1] else _ESCAPED.get(each[2], each[2]),
        text.encode(),
    )
    return [(raw[index : index + 1],) for index in range(len(raw))]


def _of_bytes(text: str) -> list[_Position] | None:
    positions: list[_Position] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        at = token.end()
        options = [_of_bytes(each) for each in token[2].split("|")] if token[2] else None
        if options is None:
            positions.append(_byte(token[1]))
            continue
        runs: list[bytes] = []
        for each in options:
            if not each or _ANY in each:
                return None
            runs += map(b"".join, product(*each))
        positions.append(tuple(runs))
    return positions


@cache
def _byte(pattern: str) -> _Position:
    """A byte, of which either half may be any."""
    if pattern == "??":
        return _ANY
    digits = "0123456789ABCDEF" if "?" in pattern else "0"
    return tuple(bytes.fromhex(pattern.replace("?", digit)) for digit in digits)
