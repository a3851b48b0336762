"""A second opinion: what pydicom makes of a file that is odd.

Where two readers disagree on who the patient is, how large the image is or where its pixels begin,
an archive and a viewer show two different things. pydicom is asked only when something in the
structure gives reason to, and for no more work than a budget allows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from msgspec.structs import replace

from dicomguard.dicom.layout import Data, Element, number_of, sort_of
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import TRANSFER_SYNTAX
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DIFFERENCE = FindingKind(
    id="PARSE-DIFF",
    title="Readers see different things in this file",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why=(
        "An archive that files the object by one reading and a viewer that shows the other disagree"
        " on patient, image or pixels. Compare what your own systems show."
    ),
    reference="CWE-436",
    attack="T1565.001",
)

_ASKED_FOR_BY = frozenset(
    (
        *("DS-BADVR", "DS-DELIM", "DS-DUP", "DS-GL-ABUSE", "DS-LEN-OVERRUN", "DS-MIXED-VR"),
        *("DS-ORDER", "DS-UNDEF-ILLEGAL", "GAP-DATA", "TAIL-DATA", "META-BADVR", "META-DUP"),
        *("META-GL-MISMATCH", "META-IN-DATASET", "META-TS-LIE", "META-TS-MISSING"),
    )
)
"""Findings of oddities that readers are known to take differently."""

_IDENTITY = {
    0x00080016: "SOP Class UID",
    0x00080018: "SOP Instance UID",
    0x00100010: "Patient's Name",
    0x00100020: "Patient ID",
    0x0020000D: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}
_GEOMETRY = {
    0x00280002: "Samples per Pixel",
    0x00280008: "Number of Frames",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280100: "Bits Allocated",
    0x00280101: "Bits Stored",
    0x00280102: "High Bit",
    0x00280103: "Pixel Representation",
}
_PIXELS = {
    0x7FE00008: "Float Pixel Data",
    0x7FE00009: "Double Float Pixel Data",
    0x7FE00010: "Pixel Data",
}
_COMPARED = {TRANSFER_SYNTAX: "Transfer Syntax UID"} | _IDENTITY | _GEOMETRY | _PIXELS

_LARGEST = 256 << 20
_READS = 200_000
"""Reads that pydicom may do; it does two or three for an element."""
_DEFERRED = 4096
"""Values of more bytes than these are skipped."""
_TOLD = 6


class _Exhausted(Exception):  # noqa: N818 - no error, but the end of a budget
    """pydicom has had its reads."""


class _Reader:
    """Data as a file that can be read only so often; the methods are those of `io.RawIOBase`."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._at = 0
        self._reads = _READS

    def read(self, size: int = -1) -> bytes:
        self._reads -= 1
        if self._reads < 0 or size < 0:  # all at once is what pydicom inflates without bound
            raise _Exhausted
        content = self._data[self._at : self._at + size]
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def tell(self) -> int:
        return self._at


class _Difference(NamedTuple):
    """One element that both readers do not see alike.

    Attributes:
        name: Of the element.
        ours: As the layout has it; None if it has none.
        theirs: As pydicom has it; None if it has none.
    """

    name: str
    ours: Element | None
    theirs: Element | None


class ParserDetector:
    """Whether pydicom sees the same patient, image and pixels."""

    kinds = (DIFFERENCE,)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:
        """Ask pydicom about a data set with an oddity."""
        layout = source.layout
        asked_for = _ASKED_FOR_BY & {each.kind.id for each in found}
        if not (asked_for and layout.is_dicom) or layout.limits or len(source.data) > _LARGEST:
            return
        if source.is_file and layout.inflated:
            return  # the data set that was inflated is a source of its own
        try:
            dataset = _read(source)
        except _Exhausted:
            return
        except Exception as error:  # noqa: BLE001 - pydicom raises whatever there is
            kind = replace(DIFFERENCE, category=Category.CONFORMANCE, severity=Severity.LOW)
            detail = f"pydicom does not read it: {type(error).__name__}"
            yield source.finding(kind, 0, layout.size, detail=detail)
            return
        differences = list(_differences(source, dataset))
        if differences:
            yield _finding(source, differences)


def _read(source: Source) -> Dataset:
    """What pydicom makes of a file, or of an inflated data set.

    Raises:
        Exception: Of any kind.
    """
    from pydicom import filereader  # noqa: PLC0415 - it takes longer than most scans

    reader = cast("BinaryIO", _Reader(source.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source.is_file:
            return filereader.dcmread(reader, force=True, defer_size=_DEFERRED)
        return filereader.read_dataset(
            reader, is_implicit_VR=False, is_little_endian=True, defer_size=_DEFERRED
        )


def _differences(source: Source, dataset: Dataset) -> Iterator[_Difference]:
    """Elements that both readers have in different places with different values, or only one."""
    raw: dict[int, Any] = dict(dataset.items())
    if source.is_file:
        raw |= dict(dataset.file_meta.items())
    for tag, name in _COMPARED.items():
        ours = source.layout.root.get(tag)
        theirs = _as_element(tag, raw.get(tag), ours)
        if ours is None or theirs is None:
            if ours is not theirs:
                yield _Difference(name, ours, theirs)
        elif ours.value != theirs.value:
            length = ours.end - ours.value
            one, other = (
                source.data[each.value : each.value + length].rstrip(b"\0 ")
                for each in (ours, theirs)
            )
            if one != other:
                yield _Difference(name, ours, theirs)


def _as_element(tag: int, read: Any, like: Element | None) -> Element | None:
    """An element of pydicom's as one of a layout; None if it is none that stands in the data."""
    if read is None or (like is None and not hasattr(read, "value_tell")):
        return None
    # Of file meta pydicom has decoded the values, and keeps only where they begin.
    is_raw = hasattr(read, "value_tell")
    value = read.value_tell if is_raw else read.file_tell
    length = read.length if is_raw else len(str(read.value))
    if value is None:
        return None
    sort = sort_of(
        tag,
        like.vr if like else str(read.VR),
        None,
        like.implicit if like else bool(read.is_implicit_VR),
        like.big_endian if like else not read.is_little_endian,
        Region.DATASET,
    )
    return Element(sort, value, value, value + length, length, None)


def _finding(source: Source, differences: list[_Difference]) -> Finding:
    """All differences in one finding.

    What only one of both sees is mostly the fault of damage, behind which one of them gave up.
    """
    kind, told_of = DIFFERENCE, [each for each in differences if each.ours and each.theirs]
    if not told_of:
        kind = replace(kind, category=Category.CONFORMANCE, severity=Severity.LOW)
        told_of = differences
    told = [_told(source, each) for each in told_of[:_TOLD]]
    if len(told_of) > _TOLD:
        told.append(f"and {len(told_of) - _TOLD} more")
    place = told_of[0].theirs or told_of[0].ours
    assert place is not None
    start = min(place.value, source.layout.size - 1)
    end = max(start, min(place.end, source.layout.size))
    return source.finding(kind, start, end, detail="; ".join(told), count=len(told_of))


def _told(source: Source, difference: _Difference) -> str:
    """A difference in words; of identifiers, which may tell of a patient, only the places."""
    ours, theirs = (
        _one_view(source, difference.name, each) for each in (difference.ours, difference.theirs)
    )
    return f"{difference.name}: {ours}, to pydicom {theirs}"


def _one_view(source: Source, name: str, element: Element | None) -> str:
    if element is None:
        return "none"
    number = number_of(source.data, element) if name in _GEOMETRY.values() else None
    return f"at {element.value}" if number is None else f"{number} at {element.value}"
