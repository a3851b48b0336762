"""What is wrapped in a source: found, undone within the budgets, and made a source of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import NamedTuple

from stringzilla import translate

from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.layout import Layout
from dicomguard.dicom.source import Origin, Source
from dicomguard.engine import Match
from dicomguard.gather import Gathered, Where
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity
from dicomguard.passages import Passages
from dicomguard.payloads.wrappings import (
    ADD,
    BY_MAGIC,
    BY_PLAINTEXT,
    BY_SEARCH,
    BY_VALUE,
    XOR,
    XORED_WORDS,
    Allowance,
    Unwrapped,
    is_structured,
    is_telling,
)
from dicomguard.runs import PRINTABLE

ENCIPHERED = FindingKind(
    id="EMB-ENC-XOR",
    title="Windows executable under a simple cipher",
    category=Category.MALWARE,
    severity=Severity.HIGH,
    confidence=Confidence.STRONG,
    why="Only someone who hides a program from scanners enciphers it like this. Isolate the file"
    " and look for what deciphers it.",
    reference="Microsoft PE Format",
    attack="T1027.013",
)
"""For a program that shows through a cipher, where the deciphered bytes hold no sound one."""

KINDS = (ENCIPHERED,)
"""Every finding that is declared here."""

_ALWAYS_GRANTED = 256 << 20
_LARGEST = 64 << 20
_GRANTED_PER_BYTE = 32
_SMALLEST_VALUE = 32
_NULS = bytes(_SMALLEST_VALUE)
_NOT_TEXT = bytes(byte not in PRINTABLE for byte in range(256))
_SMALLEST_PROGRAM = 64
_START = 5
"""Bytes that may precede what begins a value: a length, one byte of UTF-16."""


class Piece(NamedTuple):
    """Something that was wrapped.

    Attributes:
        wrapped: How it was wrapped, and where in the source that it came from.
        source: What it is: a source of its own.
    """

    wrapped: Unwrapped
    source: Source


def allowance_for(size: int, budgets: Budgets) -> Allowance:
    """What unwrapping may cost for a file of ``size`` bytes.

    A small file is granted less than the whole budget, and of that less for each piece: only a bomb
    needs it.
    """
    granted = max(_ALWAYS_GRANTED, _GRANTED_PER_BYTE * size)
    return Allowance(
        room=min(budgets.unwrapped_bytes, granted),
        largest=min(budgets.unwrapped_bytes, max(_LARGEST, _GRANTED_PER_BYTE * size)),
        payloads=budgets.unwrapped_payloads,
        deadline=time.monotonic() + budgets.unwrap_seconds,
    )


def pieces(
    gathered: Gathered,
    triggers: Sequence[Match],
    allowance: Allowance,
    budgets: Budgets,
) -> Iterator[Piece]:
    """Unwrap everything that is wrapped in a source, one level deep.

    Args:
        gathered: The source.
        triggers: Where what marks `BY_MAGIC` and `BY_PLAINTEXT` was found, by their names.
        allowance: What may still be spent for the file; used up on the way.
        budgets: The deepest nesting; what is wrapped deeper still goes into the limits.
    """
    source = gathered.source
    marked = chain(_by_trigger(source, triggers, allowance), _by_search(gathered, allowance))
    if len(source.chain) == budgets.unwrap_depth:
        if any(each.is_sure or is_telling(each.content) for each in marked):
            allowance.limits.append(f"wrapped more than {budgets.unwrap_depth} times over")
        return
    recognised: set[int] = set()
    seen: set[tuple[int, int, str, int]] = set()
    for wrapped in chain(marked, _by_key(gathered, allowance)):
        recognised.add(wrapped.start)
        run = (wrapped.start, wrapped.end, wrapped.name, hash(wrapped.content))
        if run in seen:  # a word and a phrase of one program
            continue
        seen.add(run)
        yield _piece(source, wrapped, allowance)
    for wrapped in _by_value(gathered, recognised, allowance):
        yield _piece(source, wrapped, allowance)


def _piece(source: Source, wrapped: Unwrapped, allowance: Allowance) -> Piece:
    allowance.take(wrapped.content)
    origin = Origin(
        place=source.origin.place if source.origin else source.place(wrapped.start, wrapped.end),
        chain=(*source.chain, wrapped.name),
    )
    layout = Layout(size=len(wrapped.content))
    layout.cut(0, Region.GAP, None, is_value=True)
    return Piece(
        wrapped, Source(data=wrapped.content, layout=layout, file=source.file, origin=origin)
    )


def explained(finding: Finding, wrapped: Unwrapped, inner: Sequence[Finding]) -> bool:
    """Whether a finding of the outer source says of a run what was found in it says better."""
    place = finding.place
    start = place.offset if place.inner_offset is None else place.inner_offset
    if not wrapped.start <= start < wrapped.end:
        return False
    ids = {each.kind.id for each in inner}
    return finding.kind.id in ids or (bool(ids) and finding.kind.id.startswith("EMB-ENC-"))


# ---------------------------------------------------------------------- where to look


_MARKED = {**BY_MAGIC, **BY_PLAINTEXT}


def _by_trigger(
    source: Source, triggers: Sequence[Match], allowance: Allowance
) -> Iterator[Unwrapped]:
    stored_until = 0  # what is in a stored member is found there
    done: dict[str, int] = {}  # where what was deciphered ends, by cipher
    for trigger in triggers:
        name, hit = trigger.rule.name, trigger.offset
        if hit < stored_until or hit < done.get(name, 0):
            continue
        if allowance.is_spent:
            return
        span = source.layout.span_at(hit)
        for wrapped in _MARKED[name].unwrap(source.data, hit, span.start, span.end, allowance):
            yield wrapped
            if wrapped.is_verbatim:
                stored_until = wrapped.end
            elif name in BY_PLAINTEXT:
                done[name] = wrapped.end


def _by_search(gathered: Gathered, allowance: Allowance) -> Iterator[Unwrapped]:
    source = gathered.source
    passages = Passages(gathered[Where.PRINTABLE])
    for wrapping in BY_SEARCH:
        buffer = (
            passages
            if wrapping.is_printable
            else gathered[Where.PRINTABLE if wrapping.is_text else Where.FILE]
        )
        done = 0
        span = None
        hits = gathered.sought.pop(wrapping, None)
        for hit in wrapping.search(buffer.data) if hits is None else hits:
            origin = buffer.origin(hit, 1)
            if origin is None or origin < done:
                continue
            if allowance.is_spent:
                return
            if span is None or origin >= span.end:
                span = source.layout.span_at(origin)
            is_doubtful = wrapping.is_text and span.region is Region.PIXELS
            for wrapped in wrapping.unwrap(source.data, origin, span.start, span.end, allowance):
                if wrapping.is_text:
                    done = wrapped.end
                # Pixels of middling grey are letters as well.
                if not is_doubtful or is_telling(wrapped.content) or is_structured(wrapped.content):
                    yield wrapped


_KEYED = ((XOR, Where.FILE), (ADD, Where.NONPIXEL), (XORED_WORDS, Where.NONPIXEL))
"""What is looked for by its key, and where."""


def _by_key(gathered: Gathered, allowance: Allowance) -> Iterator[Unwrapped]:
    source = gathered.source
    if len(source.data) < _SMALLEST_PROGRAM:
        return
    for keyed, where in _KEYED:
        buffer = gathered[where]
        done: dict[str, int] = {}
        hits = gathered.sought.pop(keyed, None)
        for at, number in keyed.search(buffer.data, allowance) if hits is None else hits:
            if allowance.is_spent:
                return
            hit = buffer.origin(at, 1)
            if hit is None:
                continue
            span = source.layout.span_at(hit)
            for wrapped in keyed.unwrap(
                source.data, hit, span.start, span.end, allowance, number=number
            ):
                if hit >= done.get(wrapped.name, 0):
                    done[wrapped.name] = wrapped.end
                    yield wrapped


def look_ahead(gathered: Gathered, allowance: Allowance) -> None:
    """Look for keyed ciphers in all bytes before it is asked for, beside something else."""
    gathered.sought[XOR] = list(XOR.search(gathered.source.data, allowance))


def _by_value(
    gathered: Gathered, recognised: AbstractSet[int], allowance: Allowance
) -> Iterator[Unwrapped]:
    """Guesses, for values at whose start nothing was recognised."""
    data, layout = gathered.source.data, gathered.source.layout
    extents = gathered[Where.NONPIXEL].extents(_SMALLEST_VALUE)
    heads = [data[start : start + _SMALLEST_VALUE] for start, _ in extents]
    for number in _binary(heads):
        head, (start, end) = heads[number], extents[number]
        if head == _NULS and not data[start:end].strip(b"\0"):
            continue
        if layout.inflated is not None and start == layout.inflated.offset:
            continue  # the deflated data set, which is a source of its own
        if recognised and not recognised.isdisjoint(range(start, start + _START)):
            continue
        for wrapping in BY_VALUE:
            if allowance.is_spent:
                return
            yield from wrapping.unwrap(data, start, start, end, allowance)


def _binary(heads: Sequence[bytes]) -> Iterator[int]:
    """Which beginnings of values are not text, nor text with a NUL for padding."""
    marked = translate(b"".join(heads), _NOT_TEXT)
    at = marked.find(b"\1")
    while at >= 0:
        number, within = divmod(at, _SMALLEST_VALUE)
        if within < _SMALLEST_VALUE - 1 or heads[number][-1]:
            yield number
        at = marked.find(b"\1", (number + 1) * _SMALLEST_VALUE)


def prepare() -> None:
    """Compile what is looked for, once for several processes."""
    for keyed, _ in _KEYED:
        keyed.prepare()
