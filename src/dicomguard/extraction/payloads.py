"""Which findings are of a payload that can be taken out, and how far it reaches."""

from __future__ import annotations

import hashlib

from dicomguard.dicom.layout import Element
from dicomguard.dicom.source import Source
from dicomguard.extraction.manifest import Found, Payload
from dicomguard.model import Category, Finding, FindingKind
from dicomguard.rules import THIRD_PARTY

MOST_BYTES = 1 << 30
"""Bytes of payloads that are taken out of one file."""

_UNEXPLAINED = ("GAP", "TAIL")
"""Families of findings of bytes that nobody has named: they may be a payload for all we know."""
_SURPLUS = "PIX-LONGER"

_POLYGLOT = "POLY"
_DOCUMENT = "DOC"
"""Family of findings of what a document does, which takes all of it to see."""

_PREAMBLE_BYTES = 128


class Collector:
    """A witness of a scan that keeps the payloads, each content once.

    Attributes:
        limits: Why payloads may be missing, in words.
    """

    def __init__(self) -> None:
        self.limits: list[str] = []
        self._contents: dict[str, bytes] = {}
        self._findings: dict[str, list[Finding]] = {}
        self._room = MOST_BYTES

    def __call__(self, finding: Finding, source: Source) -> None:
        """Keep the payload of a finding, if it has one."""
        extent = _extent(finding, source)
        if extent is None:
            return
        content = source.data[slice(*extent)]
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._contents:
            if len(content) > self._room:
                reason = f"there are more than {MOST_BYTES >> 20} MiB of payloads"
                self.limits = [reason]
                return
            self._room -= len(content)
            self._contents[digest] = content
        self._findings.setdefault(digest, []).append(finding)

    def payloads(self, reported: tuple[Finding, ...]) -> list[tuple[Payload, bytes]]:
        """Payloads of findings that got into the report, in the order in which they lie there."""
        order = {id(finding): index for index, finding in enumerate(reported)}
        taken = []
        for digest, findings in self._findings.items():
            of_it = sorted(
                (each for each in findings if id(each) in order), key=lambda each: order[id(each)]
            )
            if of_it:
                content = self._contents[digest]
                payload = Payload(
                    size=len(content), sha256=digest, findings=tuple(map(Found.of, of_it))
                )
                taken.append((payload, content))
        return sorted(taken, key=_by_place)


def _by_place(taken: tuple[Payload, bytes]) -> tuple[int, int]:
    first = taken[0].findings[0]
    return first.offset, first.inner_offset or 0


def _extent(finding: Finding, source: Source) -> tuple[int, int] | None:
    """Where the payload of a finding begins and ends in the source; None if it has none."""
    kind = finding.kind
    start, end = source.extent(finding.place)
    if start >= end or not _has_payload(kind):
        return None
    span = source.layout.span_at(start)
    if kind.family == _DOCUMENT:
        return span.start, span.end
    if kind.family == _POLYGLOT and (not finding.rule or end == span.end == _PREAMBLE_BYTES):
        return 0, len(source.data)  # only its head was recognised
    if not span.is_value and isinstance(span.owner, Element) and span.owner.value < end:
        return span.owner.value, end  # the finding is of an element, header and all
    return start, end


def _has_payload(kind: FindingKind) -> bool:
    """Whether findings of a kind are of something that can be taken out."""
    if kind.category is Category.EXPLOIT:
        return kind.family in (*_UNEXPLAINED, _DOCUMENT) or kind.id == _SURPLUS
    # Where a rule of a third party matches is a word of its payload, not all of it.
    return kind.category is Category.MALWARE and kind.id != THIRD_PARTY.id
