"""Files that are DICOM and something else: heads in the preamble, programs woven through a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from dicomguard.model import Verdict
from fixtures import polyglots
from fixtures.carriers import aligned, carrier
from fixtures.dicomfile import (
    PIXEL_DATA,
    PRIVATE_INFORMATION,
    PRIVATE_INFORMATION_CREATOR,
    PRIVATE_TAG,
    TRAILING_PADDING,
    DicomFile,
    Element,
    element,
    private,
)
from fixtures.executables import split_pe
from fixtures.fixture import Fixture

from .case import Bar, Case, Target
from .payloads import payloads
from .places import SYNTAXES

_RUNS = {Verdict.MALICIOUS: Bar.MALICIOUS, Verdict.SUSPICIOUS: Bar.ALARM, None: Bar.REPORT}

_BOUND_TO_THE_REST = (
    "poly-pe", "poly-macho-universal", "poly-pdf", "poly-jscript", "poly-powershell", "poly-wasm",
    "poly-dex", "poly-swf", "poly-tar", "poly-ole",
)  # fmt: skip
"""Beginnings of the names of fixtures whose head says how large the rest is, or points into it."""


def cases() -> Iterator[Case]:
    """Every polyglot."""
    fixtures = list(polyglots.fixtures())
    yield from map(_as_it_is, fixtures)
    yield from _heads(fixtures)
    yield from _woven()


def _as_it_is(fixture: Fixture) -> Case:
    expected = fixture.expected[0]
    width = expected.length if expected.loose and expected.length else 1
    return Case(
        name=f"fixture-{fixture.name}",
        family="polyglot",
        kind=fixture.name,
        place="as in the fixtures",
        data=fixture.data,
        bar=_RUNS[fixture.verdict],
        ids=frozenset([expected.id]),
        target=Target(frozenset([expected.tag_path]), expected.offset, expected.offset + width),
    )


def _heads(fixtures: list[Fixture]) -> Iterator[Case]:
    """Each head that fits in a preamble, before the file of every transfer syntax."""
    for fixture, (syntax, source) in product(fixtures, SYNTAXES.items()):
        head = fixture.data[:128]
        whole = fixture.expected[0].offset == 0 and fixture.data[128:132] == b"DICM"
        same_rest = fixture.data[132:400] == carrier().data[132:400]
        bound = fixture.name.startswith(_BOUND_TO_THE_REST)
        if syntax == "explicit" or bound or not (whole and same_rest):
            continue
        yield Case(
            name=f"{fixture.name}-{syntax}",
            family="polyglot",
            kind=fixture.name,
            place="preamble",
            data=carrier(source).but(preamble=head).data,
            bar=_RUNS[fixture.verdict],
            ids=frozenset([fixture.expected[0].id]),
            target=Target(frozenset([""]), 0, 1),
        )


# ---------------------------------------------------------------------- programs in pieces

_HEADERS = 0x400
_ALIGNMENT = 0x200
_PEDICOM = 0x00090000
_LATE_PRIVATE = 0x7FE11001


def _woven() -> Iterator[Case]:
    """Windows programs whose parts lie in different elements; a loader runs each of them."""
    programs = [
        (name, payload.data) for name, payload in payloads().items() if name.startswith("pe-")
    ]
    heads = {
        "private": PRIVATE_TAG, "group length": _PEDICOM, "file meta": PRIVATE_INFORMATION,
    }  # fmt: skip
    bodies = {
        "the same": None, "padding": TRAILING_PADDING, "pixels": PIXEL_DATA,
        "late private": _LATE_PRIVATE, "tail": 0,
    }  # fmt: skip
    syntaxes = ("explicit", "implicit", "JPEG", "RLE")
    grid = product(heads.items(), bodies.items(), syntaxes)
    for number, ((head, head_tag), (body, body_tag), syntax) in enumerate(grid):
        if body == "pixels" and syntax not in ("explicit", "implicit"):
            continue
        for name, program in (programs[number % len(programs)], programs[(number + 3) % 9]):
            file = _ready(carrier(SYNTAXES[syntax]), head_tag, body_tag)
            woven = weave(file, program, head_tag, head_tag if body_tag is None else body_tag)
            yield Case(
                name=f"woven-{name}-{head}-{body}-{syntax}",
                family="polyglot",
                kind="pe-woven",
                place=f"headers in {head}, sections in {body}",
                data=woven.data,
                bar=Bar.MALICIOUS,
                ids=frozenset(["POLY-PE"]),
                target=Target(frozenset([""]), 0, 1),
            )


def _ready(file: DicomFile, head_tag: int, body_tag: int | None) -> DicomFile:
    """A carrier that has the elements a program goes to, empty; a group length comes first."""
    syntax = file.syntax
    if body_tag == _LATE_PRIVATE:
        file = file.with_(*private(b"", syntax=syntax, group=0x7FE1))
    elif body_tag == TRAILING_PADDING:
        file = file.with_(element(TRAILING_PADDING, "OB", b"", syntax))
    if head_tag == _PEDICOM:
        file = file.after_meta(element(_PEDICOM, "OB", b"", syntax))
    elif head_tag == PRIVATE_INFORMATION:
        file = file.with_(
            element(PRIVATE_INFORMATION_CREATOR, "UI", b"2.25.42"),
            element(PRIVATE_INFORMATION, "OB", b""),
        )
    else:
        file = file.with_(*private(b"", syntax=syntax))
    return file


def weave(file: DicomFile, program: bytes, head_tag: int, body_tag: int) -> DicomFile:
    """Headers in one element, sections in another; ``body_tag`` 0 is the tail of the file."""
    head_at = file.extent(head_tag)[1]
    if body_tag == head_tag:
        body_at = aligned(head_at + _HEADERS, _ALIGNMENT)
        parts = split_pe(program, head_at, body_at)
        value = parts.headers.ljust(body_at - head_at, b"\0") + parts.sections
        return _fill(file, head_tag, value).but(preamble=parts.preamble)
    file = _fill(file, head_tag, bytes(_HEADERS))
    if body_tag == 0:
        start = len(file.data)
        body_at = aligned(start, _ALIGNMENT)
        parts = split_pe(program, head_at, body_at)
        file = file.but(tail=bytes(body_at - start) + parts.sections)
    else:
        start = file.extent(body_tag)[1]
        lead = file.value(PIXEL_DATA) if body_tag == PIXEL_DATA else b""
        body_at = aligned(start + len(lead), _ALIGNMENT)
        parts = split_pe(program, head_at, body_at)
        value = lead.ljust(body_at - start, b"\0") + parts.sections
        file = _fill(file, body_tag, value)
    return _fill(file, head_tag, parts.headers.ljust(_HEADERS, b"\0")).but(preamble=parts.preamble)


def _fill(file: DicomFile, tag: int, value: bytes) -> DicomFile:
    def new(old: Element) -> Element:
        if old.tag != tag:
            return old
        vr = "OW" if tag == PIXEL_DATA else "OB"
        return (
            element(tag, vr, value) if tag >> 16 == 0x0002 else element(tag, vr, value, file.syntax)
        )

    return file.but(meta=tuple(map(new, file.meta)), dataset=tuple(map(new, file.dataset)))
