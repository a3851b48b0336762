"""The layout: total on any bytes, exact on well-formed ones, as documented on malformed ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from struct import pack, pack_into
from time import monotonic

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, private_dictionary_VR

from dicomguard.dicom import walker
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
from dicomguard.dicom.vr import SHORT_VRS, VRS
from dicomguard.dicom.walker import walk
from dicomguard.model import Region
from fixtures import dicomfile
from fixtures.build import all_fixtures
from fixtures.described import described
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
SHORT = {raw.decode() for raw in SHORT_VRS}
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
    held = [(each.value, each.end, each.sort.region) for each in layout.values_of(lambda _: True)]
    assert held == [(span.start, span.end, span.region) for span in layout.spans() if span.is_value]
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


class Asking(walker._Walker):
    """A walk that asks about every element, as if it met the first of its sort."""

    def _ordinary(self, _frame: object, position: int) -> int:
        return position


def assert_as_if_asked(data: bytes, layout: Layout, budgets: Budgets) -> None:
    """What is not asked about ordinary elements would have been answered as it was taken."""
    assert list(described(layout)) == list(described(Asking(data, budgets).file()))


def walk_soundly(data: bytes, budgets: Budgets | None = None) -> Layout:
    """The layout of ``data``, sound, and sound within smaller budgets as well."""
    layout = walk(data)
    assert_sound(data, layout)
    assert_as_if_asked(data, layout, Budgets())
    if budgets is not None:
        bounded = walk(data, budgets)
        assert_sound(data, bounded)
        assert_as_if_asked(data, bounded, budgets)
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


# ---------------------------------------------------------------------- exactly what was written


@dataclass(frozen=True)
class Node:
    """A data element to be encoded; ``content`` is a value, the items or the fragments."""

    tag: int
    vr: str
    content: bytes | tuple[Branch, ...] | tuple[bytes, ...]
    is_undefined: bool = False


@dataclass(frozen=True)
class Branch:
    """A sequence item."""

    nodes: tuple[Node, ...]
    is_undefined: bool


@dataclass
class Written:
    """Encodes a tree and notes what a reader must find again."""

    data: bytearray
    elements: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Tag path, VR, offset of the value, declared length."""
    items: list[tuple[str, int]] = field(default_factory=list)
    """Tag path and offset of every item and fragment."""

    def write(
        self, nodes: tuple[Node, ...], *, implicit: bool, big_endian: bool, prefix: str = ""
    ) -> None:
        creator = ""
        order = ">" if big_endian else "<"
        for node in nodes:
            path = f"{prefix}({node.tag >> 16:04X},{node.tag & 0xFFFF:04X})"
            if node.tag >> 16 & 1 and node.tag & 0xFFFF == 0x10:
                assert isinstance(node.content, bytes)
                creator = node.content.decode()
            vr = vr_without(node.tag, creator) if implicit else node.vr
            self.data += pack(order + "HH", node.tag >> 16, node.tag & 0xFFFF)
            short = not implicit and node.vr in SHORT
            if not implicit:
                self.data += node.vr.encode() + (b"" if short else b"\0\0")
            length_at = len(self.data)
            self.data += bytes(2 if short else 4)
            value, index = len(self.data), len(self.elements)
            self.elements.append((path, vr, value, 0))
            if isinstance(node.content, bytes):
                self.data += node.content
            else:
                from_un = node.vr == "UN" and not implicit  # implicit VR little endian in there
                self._items(node, path, implicit or from_un, big_endian and not from_un)
            length = UNDEFINED_LENGTH if node.is_undefined else len(self.data) - value
            pack_into(order + ("H" if short else "I"), self.data, length_at, length)
            self.elements[index] = (path, vr, value, length)
            if node.is_undefined:
                big_delimiter = big_endian and node.vr != "UN"
                self.data += pack((">" if big_delimiter else "<") + "HHI", 0xFFFE, 0xE0DD, 0)

    def _items(self, node: Node, path: str, implicit: bool, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        for index, content in enumerate(node.content):
            self.items.append((f"{path}[{index}]", len(self.data)))
            self.data += pack(order + "HHI", 0xFFFE, 0xE000, 0)
            start = len(self.data)
            if isinstance(content, Branch):
                self.write(
                    content.nodes, implicit=implicit, big_endian=big_endian,
                    prefix=f"{path}[{index}] > ",
                )  # fmt: skip
            else:
                assert isinstance(content, bytes)
                self.data += content
            is_undefined = isinstance(content, Branch) and content.is_undefined
            length = UNDEFINED_LENGTH if is_undefined else len(self.data) - start
            pack_into(order + "I", self.data, start - 4, length)
            if is_undefined:
                self.data += pack(order + "HHI", 0xFFFE, 0xE00D, 0)


KNOWN_CREATOR = "GEMS_IDEN_01"
PUBLIC = (
    0x00080005, 0x00080060, 0x00100010, 0x00104000, 0x00200013, 0x00280010, 0x00280106,
    0x0040A160, 0x00420011, 0x60003000, 0xFFFCFFFC,
)  # fmt: skip
SEQUENCES = (0x00081140, 0x0040A730, 0x00540016, 0x52009229)


def vr_without(tag: int, creator: str) -> str:
    """VR of an element that has none written, by pydicom's dictionaries."""
    if not tag >> 16 & 1:
        return str(dictionary_VR(tag))
    if tag & 0xFFFF == 0x10:
        return "LO"
    try:
        return str(private_dictionary_VR(tag, KNOWN_CREATOR)) if creator == KNOWN_CREATOR else "UN"
    except KeyError:
        return "UN"


@cache
def items(*, implicit: bool, depth: int) -> st.SearchStrategy[tuple[Branch, ...]]:
    branch = st.builds(Branch, trees(implicit=implicit, depth=depth), st.booleans())
    return st.lists(branch, max_size=3).map(tuple)


@cache
def trees(*, implicit: bool, depth: int) -> st.SearchStrategy[tuple[Node, ...]]:
    """Well-formed data sets, ascending and without repeated tags."""
    value = st.binary(max_size=20)
    vr = st.sampled_from(sorted(set(VRS.values()) - {"SQ"}))
    block = st.sampled_from((0x00091001, 0x00091002, 0x000910FE))
    pixels = st.just(PIXEL_DATA)
    fragments = st.lists(value, max_size=4).map(tuple)
    nodes = [
        st.builds(Node, st.sampled_from(PUBLIC), vr, value),
        st.builds(Node, block, vr, value),
        st.builds(Node, pixels, st.just("OW"), value),
        st.builds(Node, pixels, st.just("OB"), fragments, st.just(True)),
    ]
    if not implicit:
        nodes.append(st.builds(Node, block, st.just("OB"), fragments, st.just(True)))
    if depth:
        same = items(implicit=implicit, depth=depth - 1)
        of_un = items(implicit=True, depth=depth - 1)
        tag = st.sampled_from(SEQUENCES)
        nodes += [
            st.builds(Node, tag, st.just("SQ"), same, st.booleans()),
            st.builds(Node, tag, st.just("UN"), of_un, st.booleans()),
            st.builds(Node, st.just(0x000910FF), st.just("UN"), of_un, st.just(True)),
        ]
        if not implicit:
            nodes.append(st.builds(Node, block, st.just("SQ"), same, st.booleans()))
    creators = st.sampled_from([KNOWN_CREATOR, "DICOMGUARD FIXTURE"])
    return st.tuples(st.lists(st.one_of(nodes), max_size=5), creators).map(arranged)


def arranged(drawn: tuple[list[Node], str]) -> tuple[Node, ...]:
    """Nodes in the order of their tags, with the private creator that they need."""
    nodes, creator = drawn
    by_tag = {node.tag: node for node in nodes}
    if any(tag >> 16 & 1 for tag in by_tag):
        by_tag[0x00090010] = Node(0x00090010, "LO", creator.encode())
    return tuple(by_tag[tag] for tag in sorted(by_tag))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED], ids=lambda s: s.uid)
@many
@given(data=st.data())
def test_exactly_the_tree_that_was_written(syntax: Syntax, data: st.DataObject) -> None:
    nodes = data.draw(trees(implicit=syntax.implicit, depth=2))
    start = head(syntax)
    written = Written(bytearray() if syntax.deflated else bytearray(start))
    written.write(nodes, implicit=syntax.implicit, big_endian=syntax.big_endian)
    content = bytes(written.data)
    if syntax.deflated:
        content = start + zlib.compress(content, wbits=-zlib.MAX_WBITS)
    layout = walk_soundly(content)
    if layout.inflated:
        assert layout.inflated.error is None
        layout = layout.inflated.layout
    found = [each for each in layout.elements if each.region is not Region.META]
    assert [
        (tag_path(each), each.vr, each.value, each.declared) for each in found
    ] == written.elements
    items = [
        (tag_path(span.owner), span.start)
        for span in layout.spans()
        if isinstance(span.owner, Item) and span.start == span.owner.start
    ]
    assert items == written.items
    # Fragments belong to pixel data; in a private element they are odd, though well formed.
    assert {odd.kind for odd in layout.oddities} <= {OddityKind.UNDEFINED_LENGTH}
    assert not {span.region for span in layout.spans()} & {Region.GAP, Region.TAIL}
    assert not layout.limits
    for each in found:
        if each.is_private or (each.parent and each.parent.container.region is Region.PRIVATE):
            assert each.region is Region.PRIVATE
        elif each.declared != UNDEFINED_LENGTH and not each.is_container:
            assert each.end == each.value + each.declared


# ---------------------------------------------------------------------- ordinary elements


def encoded(nodes: tuple[Node, ...], syntax: Syntax) -> bytes:
    written = Written(bytearray(head(syntax)))
    written.write(nodes, implicit=syntax.implicit, big_endian=syntax.big_endian)
    return bytes(written.data)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT], ids=lambda syntax: syntax.uid)
@many
@given(data=st.data())
def test_any_level_out_of_order(syntax: Syntax, data: st.DataObject) -> None:
    """Levels joined from several, so that elements are repeated, out of order and cut."""
    levels = data.draw(st.lists(trees(implicit=syntax.implicit, depth=2), min_size=2, max_size=4))
    content = encoded(tuple(node for level in levels for node in level), syntax)
    for _ in range(data.draw(st.integers(0, 2))):
        content = mutate(content, data.draw)
    walk_soundly(content, data.draw(budgets_of_any_size))


def ordinary_levels(syntax: Syntax, *, is_undefined: bool) -> bytes:
    """Items of elements, which hold items of elements."""
    codes = tuple(Node(tag, vr, b"CODE") for tag, vr in ((0x00080100, "SH"), (0x00080104, "LO")))
    own = (
        Node(0x00090010, "LO", KNOWN_CREATOR.encode()),
        Node(0x00091001, "LO", b"own "),
        Node(0x00091002, "SH", b"own "),
    )
    notes = (*codes, Node(0x0040A160, "UT", b"text"), Node(0x00420011, "OB", b"bytes!"))
    inner = Node(
        0x0040A043, "SQ", tuple(Branch(codes, is_undefined=is_undefined) for _ in range(2))
    )
    outer = tuple(
        Branch((*codes, *own, inner, *notes[2:]), is_undefined=is_undefined) for _ in range(2)
    )
    return encoded(
        (*codes, *own, Node(0x0040A730, "SQ", outer), Node(0x00420011, "OB", b"1 ")), syntax
    )


@pytest.mark.parametrize("is_undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT], ids=lambda syntax: syntax.uid)
def test_every_budget_ends_at_the_same_element(syntax: Syntax, is_undefined: bool) -> None:
    data = ordinary_levels(syntax, is_undefined=is_undefined)
    for elements in range(72):
        budgets = Budgets(elements=elements)
        assert_as_if_asked(data, walk(data, budgets), budgets)
    assert not walk(data, Budgets(elements=72)).limits


@pytest.mark.parametrize("every", [1, 2, 5, 7])
@pytest.mark.parametrize("is_undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT], ids=lambda syntax: syntax.uid)
def test_the_clock_is_read_at_the_same_elements(
    syntax: Syntax, is_undefined: bool, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ordinary_levels(syntax, is_undefined=is_undefined)
    monkeypatch.setattr(walker, "_CLOCK_EVERY", every)
    limited = 0
    for late in range(72):
        layouts = []
        for kind in (walker._Walker, Asking):
            clock = iter([0.0] * (late + 1))  # the first is the deadline's
            monkeypatch.setattr(walker.time, "monotonic", lambda: next(clock, 99.0))  # noqa: B023
            layouts.append(kind(data, Budgets()).file())
        one, other = layouts
        assert list(described(one)) == list(described(other))
        limited += bool(one.limits)
    assert 0 < limited < 72


@pytest.mark.parametrize("is_undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT], ids=lambda syntax: syntax.uid)
def test_any_byte_of_ordinary_levels(syntax: Syntax, is_undefined: bool) -> None:
    data = ordinary_levels(syntax, is_undefined=is_undefined)
    for at in range(len(head(syntax)), len(data)):
        for byte in (0, 0x53, 0xFF, data[at] ^ 1):
            changed = data[:at] + bytes((byte,)) + data[at + 1 :]
            assert_as_if_asked(changed, walk(changed), Budgets())


def test_an_item_of_unknown_vr_may_begin_with_a_length_like_a_vr() -> None:
    value = element(0x00080104, "LO", b"x" * 0x4F4C, IMPLICIT).encoded  # 0x4F4C is LO
    nested = element(CODE_SEQUENCE, "UN", item(value), length=UNDEFINED_LENGTH).encoded
    data = head(EXPLICIT) + nested + SEQUENCE_END
    walk_soundly(data)
    walk_soundly(data)


# ---------------------------------------------------------------------- where the data set ends

EXPLICIT_FILE, IMPLICIT_FILE = "CT_small.dcm", "MR_small_implicit.dcm"
BIG_ENDIAN_FILE = "MR_small_bigendian.dcm"


def carrier(name: str = EXPLICIT_FILE, *, has_pixels: bool = True) -> DicomFile:
    """A file of pydicom's without trailing padding; also without pixel data if so asked."""
    file = bundled(name).without(TRAILING_PADDING)
    return file if has_pixels else file.without(PIXEL_DATA)


def regions(layout: Layout, *wanted: Region) -> list[tuple[Region, int, int]]:
    """Runs of neighbouring spans of one region."""
    runs: list[tuple[Region, int, int]] = []
    for span in layout.spans():
        if runs and runs[-1][0] is span.region:
            runs[-1] = (span.region, runs[-1][1], span.end)
        else:
            runs.append((span.region, span.start, span.end))
    return [run for run in runs if run[0] in wanted]


def unexplained(layout: Layout) -> list[tuple[Region, int, int]]:
    return regions(layout, Region.GAP, Region.TAIL)


def paths(layout: Layout, *, meta: bool = False) -> list[str]:
    return [tag_path(each) for each in layout.elements if meta or each.region is not Region.META]


def kinds(layout: Layout) -> set[OddityKind]:
    return {odd.kind for odd in layout.oddities}


def only(layout: Layout, path: str) -> Element:
    """The one element at a tag path."""
    (found,) = (each for each in layout.elements if tag_path(each) == path)
    return found


def dataset_of(layout: Layout) -> list[tuple[str, int, int]]:
    return [(tag_path(each), each.value, each.end) for each in layout.elements]


@pytest.mark.parametrize("has_pixels", [True, False], ids=["pixels", "no-pixels"])
@pytest.mark.parametrize("name", [EXPLICIT_FILE, IMPLICIT_FILE, BIG_ENDIAN_FILE])
@pytest.mark.parametrize(
    "tail",
    [
        tiny_pe(),
        elf(),
        zip_archive(PLAIN_MEMBERS),
        zip_archive(PLAIN_MEMBERS)[-22:],
        INERT_TEXT,
        b"text",
        bytes(1),
        bytes(64),
        bytes(61),
        b"\xff" * 100,
    ],
    ids=["pe", "elf", "zip", "eocd", "text", "word", "nul", "nuls", "odd-nuls", "ones"],
)
def test_a_tail_starts_at_the_byte_that_was_appended(
    name: str, tail: bytes, *, has_pixels: bool
) -> None:
    data = carrier(name, has_pixels=has_pixels).data
    honest = walk_soundly(data)
    assert not unexplained(honest)
    layout = walk_soundly(data + tail)
    assert unexplained(layout) == [(Region.TAIL, len(data), len(data + tail))]
    assert dataset_of(layout) == dataset_of(honest)
    assert layout.root.keys() == honest.root.keys()
    assert not kinds(layout)


def test_a_tail_that_reads_as_elements_to_its_end_is_still_a_tail() -> None:
    file = carrier(IMPLICIT_FILE)
    strangers = b"".join(element(0x40080001, "UN", bytes(4), IMPLICIT).encoded for _ in range(3))
    layout = walk_soundly(file.data + strangers)
    assert unexplained(layout) == [(Region.TAIL, len(file.data), len(file.data + strangers))]


def test_an_unknown_element_amid_known_ones_is_no_tail() -> None:
    strange = element(0x00100001, "UN", b"????", IMPLICIT)
    orphan = element(0x00110099, "UN", b"????", IMPLICIT)
    layout = walk_soundly(carrier(IMPLICIT_FILE).with_(strange, orphan).data)
    assert not unexplained(layout)
    assert {"(0010,0001)", "(0011,0099)"} <= set(paths(layout))


@pytest.mark.parametrize("name", [EXPLICIT_FILE, IMPLICIT_FILE, BIG_ENDIAN_FILE])
def test_elements_after_the_pixel_data_are_elements(name: str) -> None:
    file = carrier(name)
    padding = element(TRAILING_PADDING, "OB", bytes(10), file.syntax)
    signature = dicomfile.sequence(0xFFFAFFFA, syntax=file.syntax)
    layout = walk_soundly(file.with_(padding, signature).data)
    assert paths(layout)[-3:] == ["(7FE0,0010)", "(FFFA,FFFA)", "(FFFC,FFFC)"]
    assert only(layout, "(FFFC,FFFC)").region is Region.PADDING
    assert not unexplained(layout)


def test_explicit_elements_out_of_order_after_the_pixel_data_are_elements() -> None:
    file = carrier()
    late = element(PATIENT_NAME, "PN", b"Late^")
    layout = walk_soundly(file.data + late.encoded)
    assert layout.elements[-1].tag == PATIENT_NAME
    assert layout.root[PATIENT_NAME] is not layout.elements[-1], "the first of a tag is the root's"
    assert kinds(layout) == {OddityKind.DUPLICATE}
    assert not unexplained(layout)


def test_a_length_of_4_gib_costs_nothing() -> None:
    file = DicomFile(preamble=bytes(128), meta=carrier().meta[3:4], dataset=(), syntax=EXPLICIT)
    huge = element(0x00420011, "OB", b"x" * 100, length=0xFFFFFFFE)
    data = file.data + huge.encoded
    assert len(data) < 300
    layout = walk_soundly(data)
    (odd,) = layout.oddities
    assert (odd.kind, odd.amount) == (OddityKind.TRUNCATED, 0xFFFFFFFE - 100)
    document = only(layout, "(0042,0011)")
    assert (document.end, document.declared) == (len(data), 0xFFFFFFFE)
    assert document.region is Region.DOCUMENT


def test_an_overrun_stays_within_its_item() -> None:
    lying = element(PATIENT_NAME, "PN", b"Doe^", length=0x7000)
    file = carrier().with_(sequence(CODE_SEQUENCE, lying.encoded))
    layout = walk_soundly(file.data)
    nested = only(layout, "(0008,1140)[0] > (0010,0010)")
    assert nested.end - nested.value == 4
    assert [(odd.kind, odd.amount) for odd in layout.oddities] == [
        (OddityKind.LENGTH_OVERRUN, 0x7000 - 4)
    ]
    assert paths(layout)[-1] == "(7FE0,0010)", "what follows the sequence is read"


# ---------------------------------------------------------------------- how a file begins


def test_no_preamble() -> None:
    file = carrier().but(preamble=b"")
    layout = walk_soundly(file.data)
    assert (layout.is_dicom, layout.has_preamble) == (True, False)
    assert next(iter(layout.spans())).region is Region.META
    assert len(paths(layout, meta=True)) == len(paths(walk(carrier().data), meta=True))


@pytest.mark.parametrize("name", [EXPLICIT_FILE, IMPLICIT_FILE, BIG_ENDIAN_FILE])
def test_a_bare_data_set(name: str) -> None:
    file = carrier(name).but(preamble=b"", meta=())
    layout = walk_soundly(file.data)
    assert layout.is_dicom
    assert layout.transfer_syntax == ""
    assert (layout.implicit, layout.big_endian) == (
        file.syntax.implicit,
        file.syntax.big_endian,
    )
    assert paths(layout) == paths(walk(carrier(name).data))


def test_the_prefix_at_the_very_start() -> None:
    file = carrier().but(preamble=b"")
    layout = walk_soundly(b"DICM" + file.data)
    assert (layout.is_dicom, layout.has_preamble) == (True, False)
    first, *_ = layout.spans()
    assert first == Span(0, 4, Region.PREFIX, None, is_value=False)
    assert paths(layout) == paths(walk(carrier().data))


def around_the_prefix(value: bytes) -> bytes:
    """A bare data set whose pixel data has ``DICM`` at offset 128 and ``value`` after it."""
    before = element(0x00080005, "CS", b"ISO_IR 100").encoded
    before += element(0x00080060, "CS", b"MR").encoded
    return before + element(PIXEL_DATA, "OW", bytes(116 - len(before)) + b"DICM" + value).encoded


def test_the_prefix_in_a_value_is_no_prefix() -> None:
    data = around_the_prefix(b"\x99" * 100)
    layout = walk_soundly(data)
    assert data[128:132] == b"DICM"
    assert paths(layout) == ["(0008,0005)", "(0008,0060)", "(7FE0,0010)"]


def test_a_data_set_behind_the_prefix_is_not_hidden_by_one_in_the_preamble() -> None:
    """Readers go on at offset 132 whatever the preamble holds."""
    data = around_the_prefix(carrier().body)
    layout = walk_soundly(data)
    assert layout.has_preamble
    assert paths(layout) == paths(walk(carrier().data))
    read = pydicom.dcmread(BytesIO(data), force=True)
    assert read.PatientName == pydicom.dcmread(BytesIO(carrier().data)).PatientName


@pytest.mark.parametrize("data", [b"", b"MZ", bytes(200), INERT_TEXT * 10, tiny_pe(), elf()])
def test_what_is_not_dicom_is_one_gap(data: bytes) -> None:
    layout = walk_soundly(data)
    assert not layout.is_dicom
    assert unexplained(layout) == ([(Region.GAP, 0, len(data))] if data else [])


def test_a_command_set_before_the_data_set() -> None:
    """It is implicit VR whatever follows, and readers skip it."""
    file = carrier()
    command = element(0x00000100, "US", b"\1\0", IMPLICIT).encoded
    data = file.head + command + file.body
    layout = walk_soundly(data)
    assert not layout.implicit
    assert paths(layout) == ["(0000,0100)", *paths(walk(file.data))]
    assert pydicom.dcmread(BytesIO(data)).PatientName == "CompressedSamples^CT1"


def test_the_first_element_is_believed_before_the_transfer_syntax() -> None:
    for name, lie in ((EXPLICIT_FILE, IMPLICIT), (IMPLICIT_FILE, EXPLICIT)):
        file = carrier(name)
        syntax = element(TRANSFER_SYNTAX, "UI", lie.uid.encode())
        layout = walk_soundly(file.with_(syntax).data)
        assert layout.transfer_syntax == lie.uid
        assert layout.implicit is file.syntax.implicit
        assert paths(layout) == paths(walk(file.data))


def test_implicit_file_meta_is_read() -> None:
    file = carrier()
    meta = tuple(element(part.tag, "UI", part.value, IMPLICIT) for part in file.meta)
    layout = walk_soundly(file.but(meta=meta, group_length_error=None).data)
    assert layout.transfer_syntax == EXPLICIT.uid
    assert paths(layout) == paths(walk(file.data))
    assert kinds(layout) == {OddityKind.MIXED_VR}


def test_file_meta_is_followed_to_its_last_element_not_to_its_group_length() -> None:
    for error in (-20, 40, 1 << 20, None):
        file = carrier().but(group_length_error=error)
        layout = walk_soundly(file.data)
        ((_, start, end),) = regions(layout, Region.META)
        assert (start, end) == (132, len(file.head))


def test_group_2_in_the_data_set_is_not_file_meta() -> None:
    stray = element(TRANSFER_SYNTAX, "UI", EXPLICIT.uid.encode())
    file = carrier()
    file = file.but(dataset=(file.dataset[0], stray, *file.dataset[1:]))
    layout = walk_soundly(file.data)
    in_meta, in_dataset = (each for each in layout.elements if each.tag == TRANSFER_SYNTAX)
    assert (in_meta.region, in_dataset.region) == (Region.META, Region.DATASET)
    assert layout.root[TRANSFER_SYNTAX] is in_meta
    assert kinds(layout) == {OddityKind.OUT_OF_ORDER}


def test_an_element_of_the_meta_group_without_an_end_ends_the_file_meta() -> None:
    bad = element(0x00020102, "OB", b"", length=UNDEFINED_LENGTH)
    file = carrier()
    data = file.head + bad.encoded + file.body
    layout = walk_soundly(data)
    assert OddityKind.UNREADABLE in kinds(layout)
    assert regions(layout, Region.META)[-1][2] == len(file.head)


def test_pixelmed_layout_of_a_private_group_length() -> None:
    """PEDICOM hides a program in (0009,0000) OB right after the file meta."""
    program = tiny_pe()
    file = carrier().after_meta(element(0x00090000, "OB", program))
    layout = walk_soundly(file.data)
    hidden = only(layout, "(0009,0000)")
    assert file.data[hidden.value : hidden.end] == program
    assert hidden.region is Region.PRIVATE
    assert paths(layout)[1:] == paths(walk(carrier().data))


# ---------------------------------------------------------------------- deflated


def deflated_file(stream: bytes) -> bytes:
    return bundled(DEFLATED_FILE).head + stream


def deflate(content: bytes) -> bytes:
    return zlib.compress(content, wbits=-zlib.MAX_WBITS)


def test_gzip_check_values_behind_the_stream_belong_to_it() -> None:
    path = next(BUNDLED.rglob(DEFLATED_FILE))
    data = path.read_bytes()
    layout = walk_soundly(data)
    assert layout.inflated is not None
    assert layout.inflated.error is None
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(data[layout.inflated.offset :])
    check = pack("<II", zlib.crc32(inflated), len(inflated))
    assert stream.unused_data.startswith(check), "else the file proves nothing"
    assert layout.inflated.data == inflated
    assert not unexplained(layout)
    wrong = bytearray(data)
    wrong[len(data) - len(stream.unused_data)] ^= 1
    assert unexplained(walk_soundly(bytes(wrong))) == [
        (Region.GAP, len(data) - len(stream.unused_data), len(data))
    ]


def test_a_stream_in_the_wrapping_of_zlib_is_inflated() -> None:
    layout = walk_soundly(deflated_file(zlib.compress(carrier().body)))
    assert layout.inflated is not None
    assert layout.inflated.data == carrier().body
    assert not unexplained(layout)


@pytest.mark.parametrize("pad", [b"", b"\0"])
def test_a_second_deflate_member_is_a_gap(pad: bytes) -> None:
    stream = deflate(carrier().body)
    start = deflated_file(stream)
    pad = pad if len(stream) % 2 else b""  # PS3.5 section A.5
    second = deflate(tiny_pe())
    layout = walk_soundly(start + pad + second)
    assert unexplained(layout) == [(Region.GAP, len(start + pad), len(start + pad + second))]
    assert layout.inflated is not None
    assert paths(layout.inflated.layout) == paths(walk(carrier().data))


def test_a_stream_longer_than_the_budget() -> None:
    data = deflated_file(deflate(carrier().body))
    layout = walk(data, Budgets(inflated_bytes=1000))
    assert_sound(data, layout)
    assert layout.inflated is not None
    assert layout.inflated.error is StreamError.TOO_LARGE
    assert len(layout.inflated.data) == 1000
    assert layout.limits == [str(StreamError.TOO_LARGE)]
    exact = walk(data, Budgets(inflated_bytes=len(carrier().body)))
    assert exact.limits == []


@pytest.mark.parametrize("cut", [1, 2, 500])
def test_a_stream_cut_short(cut: int) -> None:
    data = deflated_file(deflate(carrier().body))[:-cut]
    layout = walk_soundly(data)
    assert layout.inflated is not None
    assert layout.inflated.error is StreamError.BROKEN
    assert layout.limits == [str(StreamError.BROKEN)]


def test_a_stream_whose_output_ends_just_beyond_a_step_is_whole() -> None:
    """zlib can hold back output when it has taken its last input."""
    for extra in range(0, 600, 3):
        name = element(PATIENT_NAME, "PN", b"Doe^").encoded
        content = name + element(0x00204000, "UT", bytes((1 << 20) - 300 + extra)).encoded
        layout = walk(deflated_file(deflate(content)))
        assert layout.inflated is not None
        assert layout.inflated.error is None
        assert layout.inflated.data == content


def test_a_deflated_syntax_over_a_plain_data_set() -> None:
    for name in (EXPLICIT_FILE, IMPLICIT_FILE):
        file = carrier(name)
        syntax = element(TRANSFER_SYNTAX, "UI", DEFLATED.uid.encode())
        layout = walk_soundly(file.with_(syntax).data)
        assert layout.inflated is None
        assert paths(layout) == paths(walk(file.data))


def _large(size: int) -> tuple[bytes, bytes]:
    """A deflated file whose data set ends with ``size`` bytes, and that data set."""
    content = carrier(has_pixels=False).body + element(PIXEL_DATA, "OB", bytes(size)).encoded
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = carrier("image_dfl.dcm").head
    return head + packer.compress(content) + packer.flush(), content


def test_a_data_set_that_is_inflated_twice_is_whole() -> None:
    data, content = _large(20 << 20)
    layout = walk(data + b"tail")
    assert layout.inflated is not None
    assert layout.inflated.error is None
    assert layout.inflated.size == len(content)
    assert layout.inflated.data[:] == content
    assert layout.inflated.offset + layout.inflated.length == len(data)
    assert paths(layout.inflated.layout)[-1] == "(7FE0,0010)"


def test_of_a_data_set_that_is_too_large_little_is_held() -> None:
    data, content = _large(40 << 20)
    layout = walk(data, Budgets(inflated_bytes=30 << 20))
    assert layout.inflated is not None
    assert layout.inflated.error is StreamError.TOO_LARGE
    assert abs(layout.inflated.size - len(content)) < 4 << 20
    assert layout.inflated.data == content[: 16 << 20]


def test_a_large_stream_that_is_cut_holds_what_there_is() -> None:
    data, content = _large(20 << 20)
    layout = walk(data[:-100])
    assert layout.inflated is not None
    assert layout.inflated.error is StreamError.BROKEN
    held = layout.inflated.data
    assert len(held) == layout.inflated.size > 16 << 20
    assert held[:] == content[: len(held)]


def test_a_stream_made_to_look_like_an_element_is_inflated() -> None:
    """Its first block is stored, and the block's header reads as (1010,EFxx), Zonal Map."""
    content = element(0x00080000, "UL", b"\0\0\0\0").encoded + carrier().body
    first, rest = content[:0x10], content[0x10:]
    stored = b"\x10" + pack("<HH", len(first), ~len(first) & 0xFFFF) + first
    data = deflated_file(stored + deflate(rest))
    layout = walk_soundly(data)
    start = len(deflated_file(b""))
    assert data[start : start + 4] == b"\x10\x10\0\xef"
    assert layout.inflated is not None
    assert layout.inflated.data == content
    assert paths(layout.inflated.layout) == ["(0008,0000)", *paths(walk(carrier().data))]


def test_a_deflated_data_set_is_little_endian_whatever_its_first_group() -> None:
    layout = walk_soundly(deflated_file(deflate(sequence(0x52009229).encoded)))
    assert layout.inflated is not None
    assert paths(layout.inflated.layout) == ["(5200,9229)"]


def test_a_command_set_before_a_deflate_stream() -> None:
    command = element(0x00000100, "US", b"\1\0", IMPLICIT).encoded
    data = deflated_file(command + deflate(carrier().body))
    layout = walk_soundly(data)
    assert layout.inflated is not None
    assert paths(layout.inflated.layout) == paths(walk(carrier().data))
    assert pydicom.dcmread(BytesIO(data)).PatientName == "CompressedSamples^CT1"


# ---------------------------------------------------------------------- nested junk and delimiters


def with_sequence(content: bytes, *, length: int | None = None) -> DicomFile:
    """A file whose (0008,1140) has this very value."""
    return carrier().with_(element(CODE_SEQUENCE, "SQ", content, length=length))


NAME = element(PATIENT_NAME, "PN", b"Doe^Jane").encoded
NESTED = "(0008,1140)[0] > (0010,0010)"
AFTER = "(7FE0,0010)"
"""The last element of the carrier: it is read in spite of what comes before."""


def test_junk_in_an_item_is_a_gap_of_that_item() -> None:
    junk = b"\xff\xff junk \xff\xff"
    file = with_sequence(item(NAME + junk) + item(NAME))
    layout = walk_soundly(file.data)
    start = file.data.index(junk)
    assert unexplained(layout) == [(Region.GAP, start, start + len(junk))]
    assert tag_path(layout.span_at(start).owner) == "(0008,1140)[0]"
    assert [path for path in paths(layout) if path.startswith("(0008,1140)[")] == [
        NESTED,
        "(0008,1140)[1] > (0010,0010)",
    ]
    assert paths(layout)[-1] == AFTER
    assert kinds(layout) == {OddityKind.UNREADABLE}


@pytest.mark.parametrize("junk", [b"\xff", b"\xff" * 7])
def test_slack_too_short_for_a_header_is_a_gap(junk: bytes) -> None:
    file = with_sequence(item(NAME + junk) + b"\xff" * (len(junk) % 2))
    layout = walk_soundly(file.data)
    assert unexplained(layout)[0][:2] == (Region.GAP, file.data.index(NAME + junk) + len(NAME))
    assert paths(layout)[-1] == AFTER


def test_junk_between_items_is_a_gap() -> None:
    file = with_sequence(item(NAME) + tiny_pe())
    layout = walk_soundly(file.data)
    start = file.data.index(tiny_pe())
    assert unexplained(layout) == [(Region.GAP, start, start + len(tiny_pe()))]
    assert tag_path(layout.span_at(start).owner) == "(0008,1140)"
    assert paths(layout)[-1] == AFTER


def test_junk_in_an_item_without_a_length_hides_nothing_behind_it() -> None:
    """There is no telling where such an item ends: the rest of the file is unexplained."""
    junk = b"\x99" * 16
    file = with_sequence(OPEN_ITEM + NAME + junk + ITEM_END + SEQUENCE_END, length=UNDEFINED_LENGTH)
    layout = walk_soundly(file.data)
    assert unexplained(layout) == [(Region.GAP, file.data.index(junk), len(file.data))]


def test_a_sequence_that_holds_no_item_stays_a_value() -> None:
    file = with_sequence(tiny_pe())
    layout = walk_soundly(file.data)
    held = only(layout, "(0008,1140)")
    assert not held.is_container
    assert file.data[held.value : held.end] == tiny_pe()
    assert kinds(layout) == {OddityKind.UNREADABLE}
    assert paths(layout)[-1] == AFTER


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (OPEN_ITEM + NAME + SEQUENCE_END + SEQUENCE_END, [NESTED]),
        (OPEN_ITEM + NAME + SEQUENCE_END, [NESTED]),
        (
            OPEN_ITEM + NAME + SEQUENCE_END + OPEN_ITEM + NAME + ITEM_END + SEQUENCE_END,
            [NESTED, "(0008,1140)[1] > (0010,0010)"],
        ),
        (
            OPEN_ITEM + NAME + OPEN_ITEM + NAME + ITEM_END + SEQUENCE_END,
            [NESTED, "(0008,1140)[1] > (0010,0010)"],
        ),
        (item(NAME) + ITEM_END + SEQUENCE_END, [NESTED]),
    ],
    ids=["item-ended-by-E0DD", "E00D-missing", "E0DD-then-item", "item-never-ended", "extra-E00D"],
)
def test_wrong_delimiters_are_read_as_meant(value: bytes, expected: list[str]) -> None:
    layout = walk_soundly(with_sequence(value, length=UNDEFINED_LENGTH).data)
    assert [path for path in paths(layout) if path.startswith("(0008,1140)[")] == expected
    assert paths(layout)[-1] == AFTER
    assert kinds(layout) == {OddityKind.DELIMITER}
    assert not unexplained(layout)


def test_a_delimiter_in_an_item_of_defined_length_does_not_end_it() -> None:
    layout = walk_soundly(with_sequence(item(ITEM_END + NAME)).data)
    assert NESTED in paths(layout)
    assert kinds(layout) == {OddityKind.DELIMITER}


@pytest.mark.parametrize("delimiter", [ITEM_END, SEQUENCE_END], ids=["E00D", "E0DD"])
def test_an_extra_delimiter_at_the_root_is_structure(delimiter: bytes) -> None:
    file = carrier()
    first, *rest = file.dataset
    data = file.head + first.encoded + delimiter + b"".join(part.encoded for part in rest)
    layout = walk_soundly(data)
    at = len(file.head + first.encoded)
    assert layout.span_at(at) == Span(at, at + 8, Region.DATASET, None, is_value=False)
    assert paths(layout) == paths(walk(file.data))
    assert [(odd.kind, odd.offset) for odd in layout.oddities] == [(OddityKind.DELIMITER, at)]


def test_an_item_at_the_root_begins_the_tail() -> None:
    file = carrier()
    layout = walk_soundly(file.data + item(NAME))
    assert unexplained(layout) == [(Region.TAIL, len(file.data), len(file.data) + 8 + len(NAME))]


def test_an_item_at_the_root_is_stepped_over() -> None:
    file = carrier()
    first, *rest = file.dataset
    data = file.head + first.encoded + item(NAME) + b"".join(part.encoded for part in rest)
    layout = walk_soundly(data)
    at = len(file.head + first.encoded)
    assert unexplained(layout) == [(Region.GAP, at, at + 8 + len(NAME))]
    assert paths(layout) == paths(walk(file.data))


def test_a_delimiter_with_a_length() -> None:
    odd = SEQUENCE_END[:4] + b"\1\2\3\4"
    layout = walk_soundly(with_sequence(item(NAME) + odd, length=UNDEFINED_LENGTH).data)
    assert [(each.kind, each.amount) for each in layout.oddities] == [
        (OddityKind.DELIMITER_LENGTH, 0x04030201)
    ]
    assert paths(layout)[-1] == AFTER


def test_a_sequence_that_never_ends() -> None:
    file = carrier()
    opened = element(CODE_SEQUENCE, "SQ", OPEN_ITEM + NAME, length=UNDEFINED_LENGTH)
    layout = walk_soundly(file.head + opened.encoded)
    assert paths(layout) == ["(0008,1140)", NESTED]
    assert kinds(layout) == {OddityKind.DELIMITER}
    assert only(layout, "(0008,1140)").end == layout.size


# ---------------------------------------------------------------------- VRs and undefined lengths


def test_un_of_undefined_length_holds_implicit_items() -> None:
    nested = element(PATIENT_NAME, "PN", b"Doe^", IMPLICIT).encoded
    for file, tag in ((carrier(), CODE_SEQUENCE), (carrier(BIG_ENDIAN_FILE), CODE_SEQUENCE)):
        head_of = element(tag, "UN", b"", file.syntax, length=UNDEFINED_LENGTH)
        made = head_of._replace(value=item(nested) + SEQUENCE_END)
        layout = walk_soundly(file.with_(made).data)
        found = only(layout, NESTED)
        assert (found.implicit, found.big_endian, found.vr) == (True, False, "PN")
        assert not layout.oddities
        assert paths(layout)[-1] == AFTER


def test_un_of_undefined_length_with_explicit_items_is_read_as_well() -> None:
    made = undefined(CODE_SEQUENCE, "UN", NAME)
    found = only(walk_soundly(carrier().with_(made).data), NESTED)
    assert not found.implicit


def test_un_of_defined_length_is_a_sequence_if_the_dictionary_says_so() -> None:
    nested = item(element(PATIENT_NAME, "PN", b"Doe^", IMPLICIT).encoded)
    layout = walk_soundly(carrier().with_(element(CODE_SEQUENCE, "UN", nested)).data)
    assert NESTED in paths(layout)
    layout = walk_soundly(carrier().with_(*private(nested, "UN")).data)
    assert not only(layout, "(0009,1001)").is_container


def test_an_implicit_item_in_explicit_data() -> None:
    nested = element(PATIENT_NAME, "PN", b"Doe^", IMPLICIT).encoded
    layout = walk_soundly(with_sequence(item(nested)).data)
    found = only(layout, NESTED)
    assert (found.implicit, found.vr) == (True, "PN")
    assert kinds(layout) == {OddityKind.MIXED_VR}


def test_an_explicit_element_in_implicit_data_that_cannot_be_implicit() -> None:
    file = carrier(IMPLICIT_FILE, has_pixels=False)
    assert len(file.data) < int.from_bytes(b"OB\0\0", "little"), "else it would be implicit"
    explicit = element(0x00420011, "OB", b"%PDF")
    layout = walk_soundly(file.with_(explicit).data)
    assert only(layout, "(0042,0011)").vr == "OB"
    assert kinds(layout) == {OddityKind.MIXED_VR}


def test_a_vr_that_is_none_has_a_16_bit_length() -> None:
    layout = walk_soundly(carrier().with_(element(0x00100001, "ZZ", b"ZZZZ")).data)
    odd = only(layout, "(0010,0001)")
    assert (odd.vr, odd.declared) == ("ZZ", 4)
    assert kinds(layout) == {OddityKind.UNKNOWN_VR}
    assert paths(layout)[-1] == AFTER


@pytest.mark.parametrize(
    ("vr", "at"), [(b"ZZ", 0), (b"ZZ", 5), (b"P\x10", 1), (b"P\x10", 5), (b"L\0", 1), (b"B\xff", 5)]
)
def test_a_vr_that_is_none_hides_nothing_behind_it(vr: bytes, at: int) -> None:
    """Read as implicit, its length would swallow what pydicom reads."""
    file = carrier()
    before = file.dataset[at - 1].tag if at else 0x00080000
    odd = dicomfile.Element(before + 1, pack("<HH", 8, (before & 0xFFFF) + 1) + vr + b"\0\0", b"")
    data = file.but(dataset=(*file.dataset[:at], odd, *file.dataset[at:])).data
    layout = walk_soundly(data)
    expected = paths(walk(file.data))
    expected.insert(at, dicomfile.tag_text(odd.tag))
    assert paths(layout) == expected
    assert only(layout, dicomfile.tag_text(odd.tag)).vr == ("ZZ" if vr == b"ZZ" else "??")
    assert kinds(layout) == {OddityKind.UNKNOWN_VR}
    assert len(pydicom.dcmread(BytesIO(data))) == len(file.dataset) + 1


@pytest.mark.parametrize("length", [0x42, 0x4142, 0x5A41])
def test_an_implicit_item_whose_lengths_look_like_vrs(length: int) -> None:
    """The first element of an item decides for all of them."""
    content = element(0x00080005, "CS", b"ISO_IR 100", IMPLICIT).encoded
    content += element(0x00104000, "LT", bytes(length), IMPLICIT).encoded
    for each in (undefined(CODE_SEQUENCE, "SQ", content), sequence(CODE_SEQUENCE, content)):
        layout = walk_soundly(carrier().with_(each).data)
        long = only(layout, "(0008,1140)[0] > (0010,4000)")
        assert long.end - long.value == length + length % 2
        assert not unexplained(layout)


def test_reserved_bytes() -> None:
    odd = element(0x00420011, "OB", b"%PDF", reserved=b"\x2a\x2b")
    layout = walk_soundly(carrier().with_(odd).data)
    assert [(each.kind, each.amount) for each in layout.oddities] == [
        (OddityKind.RESERVED_BYTES, 0x2B2A)
    ]


def test_fragments_in_a_private_element() -> None:
    creator, _ = private(b"")
    made = undefined(PRIVATE_TAG, "OB", b"", tiny_pe(), INERT_TEXT)
    file = carrier().with_(creator, made)
    layout = walk_soundly(file.data)
    hidden = layout.span_at(file.data.index(tiny_pe()))
    assert (hidden.region, tag_path(hidden.owner)) == (Region.PRIVATE, "(0009,1001)[1]")
    assert file.data[hidden.start : hidden.end] == tiny_pe()
    assert kinds(layout) == {OddityKind.UNDEFINED_LENGTH}
    assert paths(layout)[-1] == AFTER


def test_a_value_without_items_reaches_to_the_next_sequence_delimiter() -> None:
    creator, _ = private(b"")
    value = tiny_pe() + SEQUENCE_END
    made = element(PRIVATE_TAG, "OB", value, length=UNDEFINED_LENGTH)
    file = carrier().with_(creator, made)
    layout = walk_soundly(file.data)
    hidden = only(layout, "(0009,1001)")
    assert file.data[hidden.value : hidden.end] == tiny_pe()
    assert paths(layout)[-1] == AFTER


def encapsulated(*, end: bytes, after: bytes = b"") -> bytes:
    file = bundled(ENCAPSULATED_FILE).without(PIXEL_DATA, TRAILING_PADDING)
    value = item(b"") + item(b"frame 1!") + item(b"frame no 2") + end
    return file.data + element(PIXEL_DATA, "OB", value, length=UNDEFINED_LENGTH).encoded + after


def test_fragments_and_their_offset_table_are_pixels() -> None:
    data = encapsulated(end=SEQUENCE_END)
    layout = walk_soundly(data)
    values = [span for span in layout.spans() if span.region is Region.PIXELS and span.is_value]
    assert [(tag_path(span.owner), data[span.start : span.end]) for span in values] == [
        ("(7FE0,0010)[1]", b"frame 1!"),
        ("(7FE0,0010)[2]", b"frame no 2"),
    ]
    assert not layout.oddities


def test_fragments_without_an_end() -> None:
    layout = walk_soundly(encapsulated(end=b""))
    assert kinds(layout) == {OddityKind.DELIMITER}
    assert not unexplained(layout)
    assert only(layout, "(7FE0,0010)").end == layout.size


def test_junk_among_fragments_is_a_gap_up_to_their_end() -> None:
    """pydicom looks for the sequence delimiter then, and reads what follows as elements."""
    padding = element(TRAILING_PADDING, "OB", bytes(8)).encoded
    data = encapsulated(end=tiny_pe() + SEQUENCE_END, after=padding)
    layout = walk_soundly(data)
    start = data.index(tiny_pe())
    assert unexplained(layout) == [(Region.GAP, start, start + len(tiny_pe()))]
    assert kinds(layout) == {OddityKind.UNREADABLE}
    assert paths(layout)[-1] == "(FFFC,FFFC)"
    assert TRAILING_PADDING in pydicom.dcmread(BytesIO(data))


def test_junk_after_the_last_fragment_without_an_end_is_a_gap() -> None:
    data = encapsulated(end=tiny_pe())
    start = data.index(tiny_pe())
    assert unexplained(walk_soundly(data)) == [(Region.GAP, start, len(data))]


def test_a_fragment_cut_short() -> None:
    data = encapsulated(end=b"\xfe\xff\x00\xe0\0\1\0\0half")
    layout = walk_soundly(data)
    assert OddityKind.TRUNCATED in kinds(layout)
    assert layout.span_at(len(data) - 1).region is Region.PIXELS


def test_elements_after_encapsulated_pixel_data() -> None:
    data = encapsulated(end=SEQUENCE_END, after=element(TRAILING_PADDING, "OB", bytes(8)).encoded)
    layout = walk_soundly(data)
    assert paths(layout)[-1] == "(FFFC,FFFC)"
    assert not layout.oddities


def test_what_is_nested_in_a_private_sequence_is_private() -> None:
    creator, _ = private(b"")
    made = sequence(PRIVATE_TAG, NAME + element(PIXEL_DATA, "OW", bytes(8)).encoded)
    layout = walk_soundly(carrier().with_(creator, made).data)
    for path in ("(0009,1001)[0] > (0010,0010)", "(0009,1001)[0] > (7FE0,0010)"):
        assert only(layout, path).region is Region.PRIVATE


def test_text_is_never_pixels() -> None:
    made = element(PIXEL_DATA, "UT", INERT_TEXT)
    layout = walk_soundly(carrier(has_pixels=False).with_(made).data)
    assert only(layout, "(7FE0,0010)").region is Region.DATASET


def test_elements_within_pixel_data_are_not_pixels() -> None:
    made = undefined(PIXEL_DATA, "UN", element(PATIENT_NAME, "PN", b"Doe^", IMPLICIT).encoded)
    layout = walk_soundly(carrier(has_pixels=False).with_(made).data)
    assert only(layout, "(7FE0,0010)[0] > (0010,0010)").region is Region.DATASET


def test_private_creators_hold_for_their_own_item_only() -> None:
    creator, block = private(b"data")
    file = carrier().with_(creator, block, sequence(CODE_SEQUENCE, block.encoded))
    layout = walk_soundly(file.data)
    assert only(layout, "(0009,1001)").creator == dicomfile.CREATOR.decode()
    assert only(layout, "(0008,1140)[0] > (0009,1001)").creator is None


def test_a_tag_twice_and_a_tag_out_of_order() -> None:
    name = element(PATIENT_NAME, "PN", b"Doe^Jane")
    file = carrier()
    layout = walk_soundly(file.but(dataset=(file.dataset[0], name, *file.dataset[1:])).data)
    assert [odd.kind for odd in layout.oddities] == [OddityKind.OUT_OF_ORDER, OddityKind.DUPLICATE]
    assert [each.tag for each in layout.elements].count(PATIENT_NAME) == 2
    assert layout.text(file.data, TRANSFER_SYNTAX) == EXPLICIT.uid


# ---------------------------------------------------------------------- floods


def quick(data: bytes, budgets: Budgets | None = None) -> Layout:
    """The layout, in less time than any honest file may take."""
    began = monotonic()
    layout = walk(data, budgets)
    assert monotonic() - began < 20
    return layout


@pytest.mark.parametrize("is_defined", [True, False], ids=["defined", "undefined"])
def test_a_depth_of_15000(*, is_defined: bool) -> None:
    opened = element(CODE_SEQUENCE, "SQ", OPEN_ITEM, length=UNDEFINED_LENGTH).encoded
    content = opened * 15_000
    if is_defined:
        size, parts = 0, []
        for _ in range(15_000):
            parts.append(item(b"")[:4] + pack("<I", size))
            parts.append(element(CODE_SEQUENCE, "SQ", b"", length=size + 8).header)
            size += 20
        content = b"".join(reversed(parts))
    data = carrier().head + content
    layout = quick(data)
    assert layout.depth == Budgets().depth
    assert layout.limits == ["sequences are nested deeper than 128 levels"]
    assert OddityKind.DEPTH in kinds(layout)
    assert_sound(data, layout)
    deep = quick(data, Budgets(depth=20_000))
    assert deep.depth == 15_000
    assert len(tag_path(deep.elements[-1])) < 300
    assert deep.limits == []


def test_half_a_million_empty_items() -> None:
    data = with_sequence(item(b"") * 500_000).data
    layout = quick(data)
    assert layout.limits == []
    assert paths(layout)[-1] == AFTER
    bounded = quick(data, Budgets(elements=1000))
    assert bounded.limits == ["more than 1000 elements and items"]
    last = list(bounded.spans())[-1]
    assert (last.region, last.end) == (Region.GAP, len(data))


@pytest.mark.parametrize("flood", [ITEM_END, SEQUENCE_END, NAME, item(b"")])
def test_a_flood_of_anything_uses_up_the_budget(flood: bytes) -> None:
    data = carrier(has_pixels=False).data
    if flood == item(b""):
        data += element(CODE_SEQUENCE, "SQ", b"", length=UNDEFINED_LENGTH).header
    data += flood * 20_000
    layout = quick(data, Budgets(elements=1000))
    assert layout.limits == ["more than 1000 elements and items"]
    assert len(list(layout.spans())) < 4000
    assert_sound(data, layout)
    late = quick(data, Budgets(seconds=0))
    assert late.limits == ["reading the structure took longer than 0 s"]
    assert_sound(data, late)


def test_oddities_are_bounded() -> None:
    layout = quick(carrier().data + NAME * 5000)
    assert len(layout.oddities) == 1000
