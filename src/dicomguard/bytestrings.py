"""Byte strings that are told like the strings of rules, without an engine of rules.

Such an engine compiles each string at every start. A small file is looked through sooner: of the
first five bytes of each string four begin at an even place, so that it is enough to look up such
words. Much is looked through by Hyperscan.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from dicomguard.dicom.layout import Data
from dicomguard.engine import NO_EXTERNALS, Declared, Match, RuleName, ScanResult, by_place
from dicomguard.patterns import MATCH_LIMIT, Occurrence, Patterns, literal, windows

_ATOM = 5
"""Bytes of a string that are sought first: Hyperscan compiles longer ones slowly."""
_WORD, _STEP = 4, 2
_FEW = 1 << 19
"""Bytes that are looked through before it is worth the while to load Hyperscan and to compile."""

TOO_MANY = f"what is looked for begins at more than {MATCH_LIMIT} places"
"""Why some may be missing."""

NO_STRINGS: Mapping[RuleName, Sequence[bytes]] = {}
"""None at all."""

_Named = tuple[RuleName, bytes]


class ByteStrings:
    """Byte strings, each of so many bytes as an atom has or more; as `CompiledRules`.

    Args:
        strings: By the rule as whose matches they are told.
    """

    def __init__(self, strings: Mapping[RuleName, Sequence[bytes]]) -> None:
        named = ((rule, each) for rule, several in strings.items() for each in several)
        self._strings = list(dict.fromkeys(named))
        self._longest = max((len(each) for _, each in self._strings), default=0)
        self._left = _FEW

    def prepare(self) -> None:
        """Compile what is sought; until then small data are looked through without."""
        self._patterns.compile()

    def declared(self) -> Iterable[Declared]:
        """None is a rule."""
        return ()

    def scan(
        self,
        data: Data,
        seconds: int,  # noqa: ARG002 - it takes none
        externals: Mapping[str, str] = NO_EXTERNALS,  # noqa: ARG002 - nobody asks for any
    ) -> ScanResult:
        """As `CompiledRules` has it."""
        if not self._strings:
            return ScanResult([], [])
        self._left -= len(data)
        if self._left >= 0 and "_patterns" not in self.__dict__:
            return ScanResult(sorted(self._by_words(bytes(data)), key=by_place), [])
        found = ScanResult([], [])
        for start, end, window in windows(data, self._longest):
            occurrences = self._patterns.occurrences(window)
            found.matches.extend(
                match._replace(offset=start + match.offset)
                for match in self.confirmed(window, occurrences)
                if start + match.offset < end
            )
            if max(len(occurrences), len(found.matches)) >= MATCH_LIMIT:
                found.limits.append(TOO_MANY)
                break
        found.matches.sort(key=by_place)
        return found

    # ------------------------------------------------------------------ by their atoms

    @property
    def atoms(self) -> Sequence[bytes]:
        """What each of them holds one of, to be sought for `confirmed`."""
        return tuple(self._by_atom)

    def confirmed(self, data: memoryview, occurrences: Iterable[Occurrence]) -> Iterator[Match]:
        """The strings that are where their atoms are.

        Args:
            data: What the atoms were sought in.
            occurrences: Of the atoms.
        """
        by_number = self._by_number
        for end, number in occurrences:
            for before, rule, string in by_number[number]:
                start = end - before
                if start >= 0 and data[start : start + len(string)] == string:
                    yield Match(rule, start, len(string))

    @cached_property
    def _by_atom(self) -> dict[bytes, list[tuple[int, RuleName, bytes]]]:
        """Strings, and how far behind their start the atom ends."""
        strings: dict[bytes, list[tuple[int, RuleName, bytes]]] = defaultdict(list)
        for rule, string in self._strings:
            at = _telling(string)
            strings[string[at : at + _ATOM]].append((at + _ATOM, rule, string))
        return strings

    @cached_property
    def _by_number(self) -> Sequence[Sequence[tuple[int, RuleName, bytes]]]:
        return tuple(self._by_atom.values())

    @cached_property
    def _patterns(self) -> Patterns:
        return Patterns([literal(each) for each in self.atoms])

    # ------------------------------------------------------------------ by words

    def _by_words(self, data: bytes) -> Iterator[Match]:
        words, strings = self._words
        there: set[int] = set()
        with memoryview(data) as raw:
            for start in range(0, min(_WORD, len(data)), _STEP):
                end = len(data) - (len(data) - start) % _WORD
                with raw[start:end] as part, part.cast("I") as view:
                    there |= words.intersection(view)
        for rule, string in dict.fromkeys(each for word in there for each in strings[word]):
            at = data.find(string)
            while at >= 0:
                yield Match(rule, at, len(string))
                at = data.find(string, at + 1)

    @cached_property
    def _words(self) -> tuple[frozenset[int], Mapping[int, list[_Named]]]:
        """The words that strings begin with at each step, and the strings."""
        unpack = struct.Struct("=I").unpack_from
        words: dict[int, list[_Named]] = defaultdict(list)
        for each in self._strings:
            for at in range(_STEP):
                words[unpack(each[1], at)[0]].append(each)
        return frozenset(words), words


def _telling(string: bytes) -> int:
    """Where the first atom begins of which nearly all bytes differ, else one of which most do."""

    def different(at: int) -> int:
        return len(set(string[at : at + _ATOM]))

    starts = range(len(string) - _ATOM + 1)
    nearly_all = next((at for at in starts if different(at) >= _ATOM - 1), None)
    return max(starts, key=different) if nearly_all is None else nearly_all
