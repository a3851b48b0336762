"""The layout agrees with pydicom on every element of every file that pydicom reads cleanly.

pydicom keeps an element as it read it (`RawDataElement`: the VR as written, the declared length,
the offset of the value) until someone asks for its value; those are what is compared. Cleanly means
without an exception and without a warning.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest
from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import parse_fragments
from pydicom.errors import InvalidDicomError
from pydicom.filereader import data_element_generator
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicomguard.dicom.layout import UNDEFINED_LENGTH, Item, Layout, tag_path
from dicomguard.dicom.walker import walk
from dicomguard.model import Region
from fixtures.fixture import Fixture

BUNDLED = Path(pydicom.__file__).parent / "data"
BUNDLED_FILES = sorted(
    path for path in BUNDLED.rglob("*") if path.is_file() and "__pycache__" not in path.parts
)


class Seen(NamedTuple):
    """One element as a reader sees it; ``fragments`` is None where it is not encapsulated."""

    path: str
    vr: str
    value: int
    length: int
    fragments: int | None


UN_SEQUENCE = "VR of a UN sequence"
TAIL = "elements in the tail"
DIFFERENCES = {
    UN_SEQUENCE: (
        "pydicom gives SQ to a value of undefined length that is written UN, or that has no VR and "
        "no dictionary entry; the layout keeps UN, and walks the items all the same "
        "(PS3.5 section 6.2.2)"
    ),
    TAIL: (
        "pydicom reads whatever is appended to a file as more elements; the data set ends at the "
        "first that nothing vouches for"
    ),
}
"""Every deliberate difference, with its reason. One that no longer occurs must go."""


# ---------------------------------------------------------------------- what pydicom sees


def read_cleanly(data: bytes) -> Dataset | None:
    """The file as pydicom reads it; None if it would not, or not without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            try:
                return pydicom.dcmread(BytesIO(data))
            except InvalidDicomError:
                return pydicom.dcmread(BytesIO(data), force=True) if walk(data).is_dicom else None
        except Exception:  # noqa: BLE001 - what pydicom raises for a bad file is its own affair
            return None


def seen_by_pydicom(data: bytes, dataset: Dataset) -> tuple[list[Seen], list[Seen]]:
    """All elements of the file meta and of the data set, repeated ones included.

    Raises:
        Exception: pydicom found fault with a nested element.
    """
    file = BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = list(data_element_generator(file, False, True, lambda tag, *_: tag.group != 2))
    body = file
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        body = BytesIO(zlib.decompress(data[file.tell() :], -zlib.MAX_WBITS))
    implicit, little_endian = dataset.original_encoding
    elements = list(data_element_generator(body, implicit, little_endian))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return (
            list(_elements(meta, dataset.file_meta, 0, "")),
            list(_elements(elements, dataset, 0, "")),
        )


def _elements(
    elements: list[RawDataElement | DataElement], dataset: Dataset, base: int, prefix: str
) -> Iterator[Seen]:
    """``base`` is what the offsets are relative to: pydicom copies out a defined-length sequence
    before it reads the items, and reads one of undefined length in place."""
    for element in elements:
        tag = element.tag
        path = f"{prefix}({tag.group:04X},{tag.element:04X})"
        if isinstance(element, RawDataElement):
            vr = element.VR or _dictionary_vr(dataset, tag)
            value, length = base + element.value_tell, element.length
            items_from = value
        else:
            assert element.is_undefined_length
            vr, value, length = element.VR, base + element.file_tell, UNDEFINED_LENGTH
            items_from = base
        is_sequence = vr == "SQ" or (vr == "UN" and _dictionary_vr(dataset, tag) == "SQ")
        fragments = None
        if length == UNDEFINED_LENGTH and not is_sequence:
            order = "<" if element.is_little_endian else ">"
            fragments, _ = parse_fragments(element.value, endianness=order)
        yield Seen(path, vr, value, length, fragments)
        if is_sequence:
            for index, item in enumerate(dataset[tag].value):
                nested = [item.get_item(key, keep_deferred=True) for key in list(item.keys())]
                yield from _elements(nested, item, items_from, f"{path}[{index}] > ")


def _dictionary_vr(dataset: Dataset, tag: pydicom.tag.BaseTag) -> str:
    """VR that the dictionaries give, as pydicom resolves it (PS3.5 sections 7.1.3 and 7.8.1)."""
    if tag.is_private_creator:
        return "LO"
    if tag.is_private:
        creator = dataset.private_creators(tag.group) and dataset.get(
            pydicom.tag.Tag(tag.group, tag.element >> 8)
        )
        try:
            return str(private_dictionary_VR(tag, creator.value)) if creator else "UN"
        except KeyError:
            return "UN"
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UL" if tag.element == 0 else "UN"


# ---------------------------------------------------------------------- what the layout says


def seen_by_layout(layout: Layout) -> tuple[list[Seen], list[Seen]]:
    """All elements of the file meta and of the data set."""
    meta = list(_seen(layout, meta=True))
    return meta, list(_seen(layout.inflated.layout if layout.inflated else layout, meta=False))


def _seen(layout: Layout, *, meta: bool) -> Iterator[Seen]:
    fragments = Counter(
        id(span.owner.container)
        for span in layout.spans()
        if isinstance(span.owner, Item) and span.start == span.owner.start
    )
    for element in layout.elements:
        if (element.region is Region.META) is meta:
            is_raw = element.declared == UNDEFINED_LENGTH and element.vr not in ("SQ", "UN")
            count = fragments[id(element)] if is_raw else None
            yield Seen(tag_path(element), element.vr, element.value, element.declared, count)


# ---------------------------------------------------------------------- the comparison


@dataclass
class Comparison:
    """What came of comparing files: how much, and which of `DIFFERENCES` were met."""

    files: int = 0
    elements: int = 0
    met: set[str] = field(default_factory=set)

    def add(self, name: str, data: bytes) -> None:
        """Compare one file, if pydicom reads it cleanly."""
        dataset = read_cleanly(data)
        if dataset is None:
            return
        layout = walk(data)
        for theirs, ours in zip(
            seen_by_pydicom(data, dataset), seen_by_layout(layout), strict=True
        ):
            assert ours == self._without_differences(theirs, ours, layout), name
            self.elements += len(ours)
        self.files += 1

    def _without_differences(
        self, theirs: list[Seen], ours: list[Seen], layout: Layout
    ) -> list[Seen]:
        """``theirs`` as the layout means to have it."""
        tail = [span.start for span in layout.spans() if span.region is Region.TAIL]
        in_tail = [seen for seen in theirs if tail and seen.value > tail[0]]
        if in_tail:
            self.met.add(TAIL)
        unwritten = {seen[:1] + seen[2:] for seen in ours if seen.vr == "UN"}
        kept = []
        for seen in theirs:
            if seen.vr == "SQ" and seen[:1] + seen[2:] in unwritten:
                self.met.add(UN_SEQUENCE)
                kept.append(seen._replace(vr="UN"))
            elif seen not in in_tail:
                kept.append(seen)
        return kept


@pytest.fixture(scope="module")
def bundled() -> Comparison:
    """pydicom's own test files, character sets, palettes and DICOMDIRs, all compared."""
    comparison = Comparison()
    for path in BUNDLED_FILES:
        comparison.add(path.name, path.read_bytes())
    return comparison


@pytest.fixture(scope="module")
def attacks(built_fixtures: dict[str, Fixture]) -> Comparison:
    """The fixtures, all compared: what is hidden in a file is where pydicom would see it."""
    comparison = Comparison()
    for name, fixture in built_fixtures.items():
        comparison.add(name, fixture.data)
    return comparison


def test_bundled_files(bundled: Comparison) -> None:
    assert bundled.files >= 190
    assert bundled.elements >= 16_000


def test_fixtures(attacks: Comparison) -> None:
    assert attacks.files >= 100


def test_every_difference_still_occurs(bundled: Comparison, attacks: Comparison) -> None:
    assert bundled.met == {UN_SEQUENCE}
    assert bundled.met | attacks.met == set(DIFFERENCES)


def test_honest_corpus(honest_corpus: Path) -> None:
    comparison = Comparison()
    paths = [path for path in sorted(honest_corpus.rglob("*")) if path.is_file()]
    for path in paths:
        comparison.add(str(path), path.read_bytes())
    assert comparison.files > 0
    assert comparison.met <= {UN_SEQUENCE}
