"""The directory of a medium (DICOMDIR, PS3.10 section 8): the files it names, and its records.

Software that imports, copies or erases a medium follows the names; software that shows it follows
the offsets from record to record (PS3.3 section F.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from dicomguard.detectors.grouping import first_of
from dicomguard.dicom.layout import Element, Item, Sort, by_sort, number_of
from dicomguard.dicom.source import Source
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity
from dicomguard.regex import regex

FILE_ID = FindingKind(
    id="DIR-FILEID",
    title="Directory entry that names a file outside its medium",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.STRONG,
    why="Software that copies, moves or erases what the directory lists does so with that file.",
    reference="CVE-2026-32711",
    attack="T1190",
)
ODD_FILE_ID = replace(FILE_ID, category=Category.CONFORMANCE, severity=Severity.LOW)
"""A path written with slashes, which stays on its medium."""
LOOP = FindingKind(
    id="DIR-OFFSETS",
    title="Directory records that do not lead from one to the next",
    category=Category.EXPLOIT,
    severity=Severity.HIGH,
    confidence=Confidence.CONFIRMED,
    why="A reader that follows records in a circle never comes to an end.",
    reference="PS3.3 section F.3.2.2",
    attack="T1499.004",
)
ASTRAY = replace(LOOP, category=Category.CONFORMANCE, severity=Severity.LOW)
"""Offsets of no record, as directories have that were changed without being written anew."""
STRAY = FindingKind(
    id="DIR-IN-DATASET",
    title="Elements of a directory in a file that is none",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Directory software may take the file for a directory.",
    reference="PS3.3 section F.3",
)

_FIRST, _LAST, _RECORDS = 0x00041200, 0x00041202, 0x00041220
_NEXT, _LOWER = 0x00041400, 0x00041420
_FILE_IDS = (0x00041500, 0x00041141)
_OUTSIDE = regex(
    rb"(?:^|[\\/])\s*\.\.\s*(?:[\\/]|$)|^\s*[\\/]|^\s*[A-Za-z]:|(?:^|[\\/])~[\w-]*(?:[\\/]|$)"
    rb"|\\\\|[\x00-\x1f\x7f]|(?i:%2e%2e|%2f|%5c)|^\s*[A-Za-z]{2,12}://"
)
"""A name upwards, absolute, on a drive or server, of a home, or with control characters."""


@by_sort
def _is_of_directory(sort: Sort) -> bool:
    return sort.group == 0x0004


class DicomdirDetector:
    """References out of the medium, and records that form a circle."""

    kinds = (FILE_ID, ODD_FILE_ID, LOOP, ASTRAY, STRAY)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at the elements of group 0004."""
        elements = source.layout.of(_is_of_directory)
        if not elements:
            return
        yield from self._file_ids(source, elements)
        if _RECORDS in source.layout.root or _FIRST in source.layout.root:
            yield from self._records(source, elements)
        else:
            yield from first_of(source, STRAY, elements)

    def _file_ids(self, source: Source, elements: Sequence[Element]) -> Iterator[Finding]:
        outside, odd = [], []
        for element in elements:
            if element.tag in _FILE_IDS and not element.is_container:
                name = source.data[element.value : element.end].rstrip(b" \0")
                if _OUTSIDE.search(name):
                    outside.append(element)
                elif b"/" in name:
                    odd.append(element)
        yield from first_of(source, FILE_ID, outside)
        yield from first_of(source, ODD_FILE_ID, odd)

    def _records(self, source: Source, elements: Sequence[Element]) -> Iterator[Finding]:
        """Follow every record to the next one; each is visited once, whatever leads to it.

        Records that point on to records form chains; a chain that comes back to itself is a circle.
        """
        offsets: dict[int, dict[int, Element]] = {}
        for element in elements:
            if isinstance(element.parent, Item) and element.tag in (_NEXT, _LOWER):
                offsets.setdefault(element.parent.start, {})[element.tag] = element
        starts = {element.parent.start for element in elements if isinstance(element.parent, Item)}
        astray = []
        edges: dict[int, list[tuple[int, Element]]] = {}
        roots = [source.layout.root[tag] for tag in (_FIRST, _LAST) if tag in source.layout.root]
        for at, owned in [*offsets.items(), (-1, dict(enumerate(roots)))]:
            for element in owned.values():
                target = number_of(source.data, element)
                if target and target not in starts:
                    astray.append(element)
                elif target:
                    edges.setdefault(at, []).append((target, element))
        circle = _circle(edges)
        if circle is not None:
            yield from first_of(source, LOOP, [circle], "a record leads back to itself")
        yield from first_of(source, ASTRAY, astray, "not the offset of a record")


def _circle(edges: dict[int, list[tuple[int, Element]]]) -> Element | None:
    """An element that closes a circle, by a depth-first walk without recursion."""
    done: set[int] = set()
    for root, first in edges.items():
        path: list[int] = [root]
        on_path = {root}
        pending = [iter(first if root not in done else ())]
        while pending:
            for target, element in pending[-1]:
                if target in on_path:
                    return element
                if target not in done:
                    path.append(target)
                    on_path.add(target)
                    pending.append(iter(edges.get(target, ())))
                    break
            else:
                pending.pop()
                left = path.pop()
                on_path.discard(left)
                done.add(left)
    return None
