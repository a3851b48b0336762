"""The layout: total on any bytes, exact on well-formed ones, and as documented on malformed ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from struct import pack, pack_into
from time import monotonic

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, private_dictionary_VR

from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.layout import (
    UNDEFINED_LENGTH,
    Element,
    Item,
    Layout,
    OddityKind,
    Span,
    StreamError,
    tag_path,
)
from dicomguard.dicom.vr import VRS
from dicomguard.dicom.walker import walk
from dicomguard.model import Region
from fixtures import dicomfile
from fixtures.build import all_fixtures
from fixtures.dicomfile import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PATIENT_NAME,
    PIXEL_DATA,
    PRIVATE_TAG,
    TRAILING_PADDING,
    TRANSFER_SYNTAX,
    DicomFile,
    Syntax,
    bundled,
    element,
    item,
    private,
    sequence,
    undefined,
)
from fixtures.executables import elf, tiny_pe
from fixtures.formats import INERT_TEXT, PLAIN_MEMBERS, zip_archive

CODE_SEQUENCE = 0x00081140
ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
OPEN_ITEM = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
DEFLATED_FILE = "image_dfl.dcm"
ENCAPSULATED_FILE = "MR_small_RLE.dcm"

many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ---------------------------------------------------------------------- what always holds


def assert_sound(data: bytes, layout: Layout) -> None:
    """Everything that holds for the layout of any bytes at all."""
    assert layout.size == len(data)
    position = 0
    for span in layout.spans():
        assert span.start == position < span.end
        assert layout.span_at(span.start) == layout.span_at(span.end - 1) == span
        assert isinstance(tag_path(span.owner), str)
        position = span.end
    assert position == layout.size
    for outside in (-1, layout.size):
        with pytest.raises(IndexError):
            layout.span_at(outside)
    last = 0
    for each in layout.elements:
        assert last <= each.start < each.value <= each.end <= layout.size
        last = each.start
        if each.parent is not None:
            container = each.parent.container
            assert container.is_container
            assert container.value <= each.parent.start < each.start
            assert each.end <= container.end
    assert {id(each) for each in layout.root.values()} <= {id(each) for each in layout.elements}
    assert all(each.parent is None for each in layout.root.values())
    assert all(0 <= odd.offset <= layout.size for odd in layout.oddities)
    inflated = layout.inflated
    if inflated is not None:
        assert 0 <= inflated.offset <= inflated.offset + inflated.length <= layout.size
        assert layout.limits or inflated.error is None
        assert_sound(inflated.data, inflated.layout)


def walks_of(layout: Layout) -> list[Layout]:
    return [layout, layout.inflated.layout] if layout.inflated else [layout]


def assert_within(layout: Layout, budgets: Budgets, whole: Layout) -> None:
    """The budgets were kept, and a layout that is less than the ``whole`` says so."""
    for each in walks_of(layout):
        assert each.depth <= budgets.depth
        assert len(each.elements) <= budgets.elements
    assert layout.inflated is None or len(layout.inflated.data) <= budgets.inflated_bytes
    counts = [len(each.elements) for each in walks_of(layout)]
    if counts != [len(each.elements) for each in walks_of(whole)]:
        assert layout.limits


budgets_of_any_size = st.builds(
    Budgets,
    depth=st.integers(0, 4),
    elements=st.integers(0, 40),
    inflated_bytes=st.integers(0, 400),
    seconds=st.sampled_from([0.0, 30.0]),
)


def walk_soundly(data: bytes, budgets: Budgets | None = None) -> Layout:
    """The layout of ``data``, sound, and sound within smaller budgets as well."""
    layout = walk(data)
    assert_sound(data, layout)
    if budgets is not None:
        bounded = walk(data, budgets)
        assert_sound(data, bounded)
        assert_within(bounded, budgets, layout)
    return layout


SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, Syntax("1.2.840.10008.1.2.4.50"), Syntax("x"))


def head(syntax: Syntax) -> bytes:
    """Preamble, prefix and file meta for a data set in ``syntax``."""
    meta = (element(TRANSFER_SYNTAX, "UI", syntax.uid.encode()),)
    return DicomFile(preamble=bytes(128), meta=meta, dataset=(), syntax=syntax).head


@dataclass(frozen=True)
class Soup:
    """Bytes made of the pieces that a walker takes for structure."""

    syntax: Syntax

    @property
    def strategy(self) -> st.SearchStrategy[bytes]:
        order = ">" if self.syntax.big_endian else "<"
        tags = (0, 0x00020010, 0x00080005, 0x00081140, 0x00091001, 0x00090010, 0x00100010,
                0x00420011, 0x5A4D0090, 0x7FE00010, 0xFFFCFFFC, 0xFFFEE000, 0xFFFEE00D,
                0xFFFEE0DD)  # fmt: skip
        lengths = st.sampled_from((0, 1, 2, 8, 20, 0xFFFE, 0x7FFFFFFF, 0xFFFFFFFF))
        tag = st.sampled_from(tags).map(lambda tag: pack(order + "HH", tag >> 16, tag & 0xFFFF))
        vr = st.sampled_from([*VRS, b"ZZ", b"\0\0"])
        length = lengths.map(lambda length: pack(order + "I", length))
        short = lengths.map(lambda length: pack(order + "H", length & 0xFFFF))
        piece = st.one_of(
            st.tuples(tag, length),
            st.tuples(tag, vr, short),
            st.tuples(tag, vr, st.sampled_from([b"\0\0", b"xx"]), length),
            st.tuples(st.binary(max_size=16)),
        ).map(b"".join)
        return st.lists(piece, max_size=30).map(b"".join)


@many
@given(st.binary(max_size=2000), budgets_of_any_size)
def test_any_bytes(data: bytes, budgets: Budgets) -> None:
    walk_soundly(data, budgets)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.uid)
@many
@given(data=st.data(), budgets=budgets_of_any_size)
def test_any_bytes_behind_a_file_meta(
    syntax: Syntax, data: st.DataObject, budgets: Budgets
) -> None:
    content = data.draw(st.one_of(st.binary(max_size=300), Soup(syntax).strategy))
    if syntax.deflated and data.draw(st.booleans()):
        content = zlib.compress(content, wbits=-zlib.MAX_WBITS) + data.draw(st.binary(max_size=9))
    walk_soundly(head(syntax) + content, budgets)


@many
@given(data=st.data())
def test_any_structure_without_a_preamble(data: st.DataObject) -> None:
    content = data.draw(Soup(data.draw(st.sampled_from(SYNTAXES))).strategy)
    walk_soundly(data.draw(st.sampled_from([b"", b"DICM", bytes(128)])) + content)


# ---------------------------------------------------------------------- mutations of real files

BUNDLED = Path(pydicom.__file__).parent / "data"
LENGTHS = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def real_files() -> list[bytes]:
    """Small files of every kind: pydicom's own and the fixtures."""
    files = [path.read_bytes() for path in sorted(BUNDLED.rglob("*.dcm"))]
    files += [fixture.data for fixture in all_fixtures().values()]
    return [data for data in files if len(data) < 16_000]


REAL_FILES = real_files()


def mutate(data: bytes, draw: Callable[[st.SearchStrategy[int]], int]) -> bytes:
    """One change, of the kinds that break parsers."""
    made = bytearray(data)
    at = draw(st.integers(0, len(data)))
    size = draw(st.integers(1, 64))
    kind = draw(st.integers(0, 6))
    if kind == 0:  # flip
        if at < len(made):
            made[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == 1:  # truncate
        del made[at:]
    elif kind == 2:  # delete
        del made[at : at + size]
    elif kind == 3:  # insert
        made[at:at] = bytes(size)
    elif kind == 4:  # repeat
        made[at:at] = made[max(0, at - size) : at]
    elif kind == 5:  # splice
        other = REAL_FILES[draw(st.integers(0, len(REAL_FILES) - 1))]
        made[at:] = other[draw(st.integers(0, len(other))) :]
    else:  # a length field says something else
        elements = walk(data).elements
        if elements:
            changed = elements[draw(st.integers(0, len(elements) - 1))]
            length = LENGTHS[draw(st.integers(0, len(LENGTHS) - 1))]
            order = ">" if changed.big_endian else "<"
            if changed.value - changed.start == 8 and not changed.implicit:
                pack_into(order + "H", made, changed.value - 2, length & 0xFFFF)
            else:
                pack_into(order + "I", made, changed.value - 4, length)
    return bytes(made)


def assert_survives_mutation(data: st.DataObject) -> None:
    mutant = data.draw(st.sampled_from(REAL_FILES))
    for _ in range(data.draw(st.integers(1, 4))):
        mutant = mutate(mutant, data.draw)
    walk_soundly(mutant)


@many
@given(data=st.data())
def test_mutations_of_real_files(data: st.DataObject) -> None:
    assert_survives_mutation(data)


@pytest.mark.slow
@settings(many, max_examples=5000)
@given(data=st.data())
def test_many_mutations_of_real_files(data: st.DataObject) -> None:
    assert_survives_mutation(data)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", DEFLATED_FILE])
def test_every_truncation(name: str) -> None:
    data = bundled(name).data
    for size in [*range(0, min(len(data), 3000), 7), *range(len(data) - 20, len(data))]:
        walk_soundly(data[:size])


@pytest.mark.parametrize("name", sorted(all_fixtures()))
def test_fixtures_are_sound(name: str) -> None:
    walk_soundly(all_fixtures()[name].data)
