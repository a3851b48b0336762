"""Encapsulated documents (PS3.3 section C.24.2): are they what they say, and as long."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from dicomguard.dicom.layout import Element, Sort, by_sort, number_of, text_of
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import ENCAPSULATED_DOCUMENT
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity
from dicomguard.regex import regex

MISMATCH = FindingKind(
    id="DOC-MIME-MISMATCH",
    title="Document that is not of the type it says",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.STRONG,
    why="Whoever exports the document and opens it gets something that runs instead of a report. Do"
    " not export it before somebody has looked at it.",
    reference="PS3.3 section C.24.2",
    attack="T1036.008",
)
MODEL = FindingKind(
    id="DOC-STL",
    title="3D model with a false number of triangles",
    category=Category.EXPLOIT,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="A reader that trusts the number reads or writes beyond its memory.",
    reference="PS3.3 section A.85.1",
    attack="T1203",
)
LENGTH = FindingKind(
    id="DOC-LEN",
    title="Document shorter than it says",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.CONFIRMED,
    why="It was cut, or its length is false: a reader that trusts it reads beyond the value.",
    reference="PS3.3 section C.24.2",
)

_MIME_TYPE = 0x00420012
_LENGTH = 0x00420015
_HEAD = 1024


class _Type(Struct, frozen=True):
    """A declared type: what its documents begin with, and what else may be in one."""

    head: re.Pattern[bytes]
    may_be_page: bool = False


_XML = _Type(regex(rb"[\s\0\xef\xbb\xbf\xfe\xff]*<"), may_be_page=True)
_MODEL_TEXT = _Type(regex(rb"[^\0]*"))
_TYPES: Mapping[str, _Type] = {
    "application/pdf": _Type(regex(rb".{0,1019}?%PDF-", re.DOTALL)),
    "text/xml": _XML,
    "application/xml": _XML,
    "application/hl7-cda+xml": _XML,
    "model/stl": _Type(regex(rb"")),
    "model/obj": _MODEL_TEXT,
    "model/mtl": _MODEL_TEXT,
}
_STL = ("model/stl", "model/x.stl-binary", "application/sla")
_STL_HEADER = 84
_STL_TRIANGLE = 50

_PAGE = "web page"
_RUNS: Mapping[str, re.Pattern[bytes]] = {
    "program": regex(
        rb"MZ.{58}|\x7fELF|\xca\xfe\xba\xbe|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe",
        re.DOTALL,
    ),
    "script": regex(rb"#![ \t]*/|(?i:@echo off|<\?php|<job\b|<package\b)"),
    _PAGE: regex(
        rb"[\s\xef\xbb\xbf]*<(?:!doctype\s+html|html|head|body|script|svg|iframe)\b", re.IGNORECASE
    ),
    "archive or office document": regex(
        rb"PK\x03\x04|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|MSCF\0{4}"
    ),
    "rich text": regex(rb"\{\\rt"),
    "PostScript program": regex(rb"%!PS"),
}  # fmt: skip


class DocumentDetector:
    """Encapsulated documents at any depth."""

    kinds = (MISMATCH, MODEL, LENGTH)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at every (0042,0011)."""
        for element in source.layout.of(_is_document):
            if not element.is_container:
                yield from _document(source, element, _level(source, element))


@by_sort
def _is_document(sort: Sort) -> bool:
    return sort.tag == ENCAPSULATED_DOCUMENT


def _level(source: Source, element: Element) -> Mapping[int, Element]:
    """The elements beside one."""
    if element.parent is None:
        return source.layout.root
    return {each.tag: each for each in source.layout.elements if each.parent is element.parent}


def _document(source: Source, element: Element, level: Mapping[int, Element]) -> Iterator[Finding]:
    declared = level.get(_MIME_TYPE)
    mime = text_of(source.data, declared).lower().partition(";")[0].strip() if declared else ""
    length = number_of(source.data, level[_LENGTH]) if _LENGTH in level else None
    size = element.end - element.value
    if length is not None and length > size + 1:
        detail = f"{length} bytes are declared, {size} are there"
        yield source.finding(LENGTH, element.value, element.end, detail=detail, owner=element)
    yield from _mismatch(source, element, mime)
    if mime in _STL:
        yield from _triangles(source, element)


def _mismatch(source: Source, element: Element, mime: str) -> Iterator[Finding]:
    head = source.data[element.value : min(element.value + _HEAD, element.end)]
    type_ = _TYPES.get(mime)
    if type_ is None or not head.strip(b"\0"):
        return
    runs = next((name for name, pattern in _RUNS.items() if pattern.match(head)), "")
    if runs and not (runs == _PAGE and type_.may_be_page):
        kind, detail = MISMATCH, f"{mime} is declared, a {runs} is there"
    elif not type_.head.match(head):
        kind = replace(MISMATCH, category=Category.CONFORMANCE, severity=Severity.LOW)
        detail = f"{mime} is declared, something else is there"
    else:
        return
    yield source.finding(kind, element.value, element.end, detail=detail, owner=element)


def _triangles(source: Source, element: Element) -> Iterator[Finding]:
    """Binary STL: an 80-byte header, the number of triangles, 50 bytes for each."""
    size = element.end - element.value
    head: bytes = source.data[element.value : element.value + min(size, 512)]
    if size < _STL_HEADER or (head.lstrip()[:5] == b"solid" and b"\0" not in head):
        return
    count = int.from_bytes(head[80:_STL_HEADER], "little")
    needed = _STL_HEADER + count * _STL_TRIANGLE
    if needed > size:
        detail = f"{count} triangles take {needed} bytes, {size} are there"
        yield source.finding(MODEL, element.value, element.end, detail=detail, owner=element)
