"""The corpus: payload kinds by places by encodings by syntaxes, and what needs no payload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from random import Random

from . import exploits, honest, polyglots, texts
from .case import Bar, Case
from .encodings import ENCODINGS, Encoding
from .payloads import Payload, payloads
from .places import Place, places

_EVERY_KIND_IN = (
    "private OB", "private UN", "private OB at 512", "private of SIEMENS CSA HEADER",
    "private 2 sequences deep", "private OB, implicit", "private OB, deflated",
    "meta (0002,0102)", "pixels in the middle, explicit", "JPEG after the end marker",
    "document as application/pdf", "document as application/octet-stream", "trailing padding",
    "tail, explicit", "group length (0009,0000) OB first",
)  # fmt: skip
_EVERY_TEXT_IN = ("image comments LT", "text value UT", "SR text value", "private UT", "private LT")

_IN_EVERY_PLACE = ("pe-tiny", "elf-x86_64", "jar", "script-shebang")
_IN_EVERY_TEXT_PLACE = ("script-powershell", "html", "xml-xxe")

_REPORTS = ("pdf-plain", "pdf-head")
"""What Encapsulated Document is made for: honest there, and nothing to be reported."""

_WRAPPED = ("pe-tiny", "elf-x86_64", "jar", "script-powershell", "html")
_WRAPPED_LARGE = "pe-distlib-t32"
_WRAPPED_IN = (
    "private OB", "private OB at 512", "pixels in the middle, explicit", "tail, explicit",
    "document as application/octet-stream", "private OB, deflated",
)  # fmt: skip
_WRAPPED_TEXT_IN = ("image comments LT", "private UT")
_WRAPPED_VALUES_IN = ("private LO", "private UC", "long code UC")


def cases(seed: int = 0) -> Iterator[Case]:
    """Every file of the benchmark, attacks first; the same for the same seed and packages."""
    yield from _attacks(seed)
    yield from honest.cases(seed)


def _attacks(seed: int) -> Iterator[Case]:
    yield from _unique(
        (
            *_plain_grid(),
            *_wrapped_grid(seed),
        )
    )
    yield from polyglots.cases()
    yield from exploits.cases()
    yield from texts.cases()


_Choice = tuple[Payload, Place, Encoding | None]


def _unique(choices: Iterable[_Choice]) -> Iterator[Case]:
    """A case for each choice, once."""
    for payload, place, encoding in dict.fromkeys(choices):
        content = encoding.wrap(payload.data) if encoding else payload.data
        if len(content) <= place.room:
            yield _case(payload, place, encoding, content)


def _case(payload: Payload, place: Place, encoding: Encoding | None, content: bytes) -> Case:
    data, target = place.fill(content)
    ids, family, bar = payload.ids.union(place.also), payload.family, payload.bar
    name = f"{payload.name}@{place.name}"
    if encoding:
        ids |= {"EMB-ENC-*"}
        name += f"@{encoding.name}"
        is_asked = encoding.asked and place.group not in encoding.not_in
        family = "encoded" if is_asked else "not-undone"
        bar = bar if is_asked else Bar.REPORT
    return Case(
        name=name,
        family=family,
        kind=payload.name,
        place=place.group,
        encoding=encoding.name if encoding else "plain",
        data=data,
        bar=bar,
        ids=ids,
        target=target,
    )


def _plain_grid() -> Iterator[_Choice]:
    by_name = {place.name: place for place in places()}
    for payload in payloads().values():
        names = _EVERY_KIND_IN + (_EVERY_TEXT_IN if payload.text else ())
        for name in names:
            if payload.name in _REPORTS and by_name[name].group == "document":
                continue
            yield payload, by_name[name], None
    for place in places():
        for kind in _IN_EVERY_TEXT_PLACE if place.text else _IN_EVERY_PLACE:
            yield payloads()[kind], place, None


def _wrapped_grid(seed: int) -> Iterator[_Choice]:
    """Every encoding of a few kinds in a few places, and of one more kind drawn by the seed."""
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    by_name = {place.name: place for place in places()}
    drawn = [name for name, payload in payloads().items() if len(payload.data) < 2000]
    for encoding in ENCODINGS:
        kinds = [payloads()[name] for name in (*_WRAPPED, random.choice(drawn))]
        if encoding.name.endswith("-values"):
            names: tuple[str, ...] = _WRAPPED_VALUES_IN
        else:
            names = _WRAPPED_IN + (_WRAPPED_TEXT_IN if encoding.text else ())
        for payload, name in product(kinds, names):
            if payload.text or not encoding.of_text:
                yield payload, by_name[name], encoding
        if not encoding.of_text:
            yield payloads()[_WRAPPED_LARGE], by_name["private OB"], encoding
