"""Text values that attack whoever shows, stores, logs or files them.

Values are looked at as they are stored, and once more as they are read: by their character set,
with compatibility forms, and the escapes of HTML, URLs and JavaScript undone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import NamedTuple

from msgspec import structs
from stringzilla import find

from dicomguard.detectors.text import (
    addresses,
    disguise,
    form,
    identifiers,
    injection,
    paths,
)
from dicomguard.detectors.text.signs import Scope, Sign
from dicomguard.dicom import charset
from dicomguard.dicom.layout import (
    Element,
    Held,
    Layout,
    Sort,
    by_sort,
    is_text,
    text_of,
)
from dicomguard.dicom.source import Source
from dicomguard.gather import SEPARATOR
from dicomguard.model import Finding, FindingKind
from dicomguard.patterns import Literals
from dicomguard.regex import regex

_MODULES = (injection, identifiers, paths, addresses, form)
_SIGNS: Sequence[Sign] = [
    sign for scope in Scope for module in _MODULES for sign in module.SIGNS if sign.scope is scope
]
_CLUES = {
    clue: frozenset(number for number, sign in enumerate(_SIGNS) if clue in sign.clues)
    for sign in _SIGNS
    for clue in sign.clues
}
"""The numbers of the signs that have a clue."""
_CHARACTERS = tuple(clue for clue in _CLUES if len(clue) == 1)
_LONG_CLUES = tuple(clue for clue in _CLUES if len(clue) > 1)
_LONG_PATTERNS = Literals(_LONG_CLUES, once=True)
_CHARACTER_SET = 0x00080005
_SPELLED = regex(rb"%[0-9a-fA-F]{2}|&(?:#|[a-z]{2,6};)|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}")
"""What the escapes of URLs, HTML and JavaScript look like."""
_ESCAPES = (b"\x1b", b"%", b"&", b"\\u", b"\\x")
"""How escapes begin."""
_JAVASCRIPT = regex(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
_READ_MAX = 1 << 24
"""Bytes of a source that are looked at as they are read, too."""


class TextDetector:
    """Injection into whatever reads text values; one finding a kind, with a count."""

    kinds = tuple(kind for module in (*_MODULES, disguise) for kind in module.KINDS)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at every value of a character-string VR."""
        if not source.layout.is_dicom:
            return
        data, layout = source.data, source.layout
        stored = [
            _values(scopes, held, [data[each.value : each.end] for each in held])
            for scopes, held in layout.derived(_by_scopes)
        ]
        everything = _joined(stored)
        hits = _search(stored, everything, exact=True)
        for each in layout.derived(_long):
            kind = form.look(each, data[each.value : each.end])
            if kind:
                hits[kind].append(each.value)
        if not (everything.isascii() and _is_read_as_stored(everything)):
            read = _read(source, hits)
            for kind, places in _search(read, _joined(read), exact=False).items():
                hits.setdefault(kind, places)
        yield from _findings(source, hits)


def _as_element(held: Held) -> Element:
    """What is in the place of a value, and can be read as it, as that of its element."""
    if isinstance(held, Element):
        return held
    assert isinstance(held.owner, Element)
    return structs.replace(held.owner, value=held.value, end=held.end)


def _long(layout: Layout) -> list[Element]:
    texts = layout.values_of(is_text)
    longest = {sort: form.longest(sort) for sort in set(map(attrgetter("sort"), texts))}
    return [_as_element(each) for each in texts if each.end - each.value > longest[each.sort]]


class _Values(NamedTuple):
    """Values of the same scopes.

    Attributes:
        scopes: These.
        held: Whose they are.
        raw: The bytes of each.
        joined: The bytes of all.
    """

    scopes: frozenset[Scope]
    held: Sequence[Held]
    raw: Sequence[bytes]
    joined: bytes


def _values(scopes: frozenset[Scope], held: Sequence[Held], raw: Sequence[bytes]) -> _Values:
    return _Values(scopes, held, raw, SEPARATOR.join(raw))


def _joined(values: Iterable[_Values]) -> bytes:
    return SEPARATOR.join([each.joined for each in values])


@by_sort
def _scopes_of(sort: Sort) -> frozenset[Scope]:
    return frozenset(scope for scope in Scope if scope.holds(sort))


def _by_scopes(layout: Layout) -> list[tuple[frozenset[Scope], list[Held]]]:
    groups: dict[frozenset[Scope], list[Held]] = defaultdict(list)
    for each in layout.values_of(is_text):
        groups[_scopes_of(each.sort)].append(each)
    return list(groups.items())


def _search(
    values: Sequence[_Values], everything: bytes, *, exact: bool
) -> dict[FindingKind, list[int]]:
    """Where every sign matches in the values of its scope.

    Args:
        values: Of all scopes.
        everything: Their bytes.
        exact: Whether bytes of the values are bytes of the source; if not, the value is the place.
    """
    hits: dict[FindingKind, list[int]] = defaultdict(list)
    lowered = everything.lower()
    clues = {clue for clue in _CHARACTERS if clue in lowered}
    clues.update(_LONG_CLUES[number] for _, number in _LONG_PATTERNS.occurrences(lowered))
    likely = sorted(frozenset[int]().union(*(_CLUES[clue] for clue in clues)))
    for scope, signs in groupby((_SIGNS[number] for number in likely), attrgetter("scope")):
        inside = [each for each in values if scope in each.scopes]
        lower = [each.joined.lower() for each in inside]
        wanted = [sign for sign in signs if _are_there(clues.intersection(sign.clues), lower)]
        if not wanted:
            continue
        joined = _joined(inside)
        held = [each for group in inside for each in group.held]
        ends = list(accumulate(len(raw) + len(SEPARATOR) for each in inside for raw in each.raw))
        for sign in wanted:
            for match in sign.pattern.finditer(joined):
                index = bisect_right(ends, match.start())
                within = match.start() - (ends[index - 1] if index else 0)
                hits[sign.kind].append(held[index].value + (within if exact else 0))
    return hits


def _are_there(clues: Iterable[bytes], texts: Sequence[bytes]) -> bool:
    return any(clue in text for clue in clues for text in texts)


def _read(source: Source, hits: dict[FindingKind, list[int]]) -> list[_Values]:
    """Values that are read otherwise than they are stored, as they are read.

    What is hidden in how they are stored goes into the hits.
    """
    terms = _Terms(source)
    read: list[_Values] = []
    room = _READ_MAX
    for each in map(_as_element, source.layout.values_of(is_text)):
        raw = source.data[each.value : each.end]
        is_plain = raw.isascii() and b"\x1b" not in raw
        if (is_plain and _is_read_as_stored(raw)) or room < len(raw):
            continue
        room -= len(raw)
        declared = terms.of(each)
        if not is_plain:
            for kind in disguise.look(raw, declared):
                hits[kind].append(each.value)
        read.append(_values(_scopes_of(each.sort), [each], [_as_read(raw, declared)]))
    return read


def _is_read_as_stored(raw: bytes) -> bool:
    """Whether ASCII is that to its readers: no escapes, of ISO 2022 or of any other kind."""
    if all(find(raw, each) < 0 for each in _ESCAPES):
        return True
    return b"\x1b" not in raw and not _SPELLED.search(raw)


@by_sort
def _is_character_set(sort: Sort) -> bool:
    return sort.tag == _CHARACTER_SET


class _Terms:
    """The Specific Character Set that applies to each element (PS3.5 section 7.5.3)."""

    def __init__(self, source: Source) -> None:
        self._declared = {
            element.parent: text_of(source.data, element).split("\\")
            for element in source.layout.of(_is_character_set)
        }

    def of(self, element: Element) -> Sequence[str]:
        """Its values for an element: those of the item it is in, or of one around that."""
        item = element.parent
        while item is not None and item not in self._declared:
            item = item.container.parent
        return self._declared.get(item, [])


def _as_read(raw: bytes, terms: Sequence[str]) -> bytes:
    """A value as its readers come to see it, in UTF-8."""
    import html  # noqa: PLC0415 - few files have such values
    import unicodedata  # noqa: PLC0415
    import urllib.parse  # noqa: PLC0415

    text = unicodedata.normalize("NFKC", charset.decode(raw, terms))
    text = _JAVASCRIPT.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
    text = urllib.parse.unquote(urllib.parse.unquote(html.unescape(text)))
    return text.encode("utf-8", "replace")


def _findings(source: Source, hits: Mapping[FindingKind, Sequence[int]]) -> Iterator[Finding]:
    """One finding for each id: the gravest of its kinds."""
    worst: dict[str, FindingKind] = {}
    for kind in sorted(hits, key=lambda kind: (kind.severity.rank, kind.confidence.rank)):
        worst[kind.id] = kind
    for kind in worst.values():
        start = min(hits[kind])
        count = len(hits[kind])
        detail = f"{count} times, first here" if count > 1 else ""
        end = source.layout.span_at(start).end
        yield source.finding(kind, start, end, detail=detail, count=count)
