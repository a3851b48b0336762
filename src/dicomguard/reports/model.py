"""What a report says, whatever its format: the one contract of everything that writes or reads one.

Every renderer sees only these records, and ``report.schema.json`` is made from them. What must not
be shown is taken out here, once: a renderer cannot show the text of a value that it never gets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dicomguard.model import (
    SCHEMA_VERSION,
    Category,
    Confidence,
    Drawing,
    Finding,
    FindingKind,
    Instance,
    Region,
    Report,
    Severity,
    Suppressed,
    Verdict,
)
from dicomguard.reports import escape
from dicomguard.version import VERSION

_THREATS = (Category.MALWARE, Category.EXPLOIT)

Count = Annotated[int, Meta(ge=0)]


class FindingRecord(Struct, frozen=True, kw_only=True):
    """One thing found at one place."""

    id: Annotated[str, Meta(description="Stable name of what was found.")]
    title: str
    category: Annotated[
        Category,
        Meta(description="Conformance and inventory never change a verdict."),
    ]
    severity: Severity
    confidence: Annotated[Confidence, Meta(description="Weak findings never change a verdict.")]
    region: Region
    tag_path: Annotated[
        str, Meta(description="(0040,A730)[2] > (0029,1010); empty outside elements.")
    ]
    offset: Annotated[Count, Meta(description="Bytes from the start of the file on disk.")]
    length: Annotated[
        Count, Meta(description="Bytes; unwrapped ones where inner_offset is a number.")
    ]
    inner_offset: Annotated[
        Count | None,
        Meta(description="Bytes from the start of the unwrapped or inflated data, if it is that."),
    ]
    chain: Annotated[
        tuple[str, ...], Meta(description="The wrappings around the payload, outermost first.")
    ]
    detail: str
    evidence: Annotated[
        str | None,
        Meta(description="At most 64 bytes, escaped; null where it is the text of a value."),
    ]
    why: Annotated[
        str,
        Meta(description="Why it matters; of threats only, the summary has that of the others."),
    ]
    private_creator: Annotated[
        str, Meta(description="Creator of the innermost private element that holds it.")
    ]
    count: Annotated[Count, Meta(description="Places alike, of which this is the first.")]
    rule: Annotated[str, Meta(description="YARA rule; empty for a detector's finding.")]
    reference: str
    attack: Annotated[str, Meta(description="MITRE ATT&CK technique.")]

    @classmethod
    def of(cls, finding: Finding, *, show_values: bool = False) -> Self:
        """The record of a finding, without the text of a value unless asked for."""
        kind, place = finding.kind, finding.place
        hidden = finding.masked and not show_values
        return cls(
            id=kind.id,
            title=kind.title,
            category=kind.category,
            severity=kind.severity,
            confidence=kind.confidence,
            region=place.region,
            tag_path=place.tag_path,
            offset=place.offset,
            length=place.length,
            inner_offset=place.inner_offset,
            chain=place.chain,
            detail=finding.detail,
            evidence=None if hidden else escape.evidence(finding.evidence),
            why=kind.why if kind.category in _THREATS else "",
            private_creator=place.private_creator,
            count=finding.count,
            rule=finding.rule,
            reference=kind.reference,
            attack=kind.attack,
        )

    @property
    def is_threat(self) -> bool:
        """Whether it is of a category that can change a verdict."""
        return self.category in _THREATS


class SuppressedRecord(FindingRecord, frozen=True, kw_only=True):
    """A finding that somebody has looked at and that does not count."""

    reason: Annotated[str, Meta(description="Why, in the words of whoever decided that.")]
    expires: Annotated[
        str | None, Meta(description="The last day on which it does not; null for a baseline.")
    ]

    @classmethod
    def of_suppressed(cls, suppressed: Suppressed, *, show_values: bool = False) -> Self:
        """The record of a suppressed finding, without the text of a value unless asked for."""
        finding = FindingRecord.of(suppressed.finding, show_values=show_values)
        return cls(
            **msgspec.structs.asdict(finding),
            reason=suppressed.reason,
            expires=suppressed.expires or None,
        )


class FileRecord(Struct, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """One file."""

    schema: int = SCHEMA_VERSION
    path: Annotated[str, Meta(description="Bytes that are not UTF-8 are \\udcXX.")]
    verdict: Verdict
    complete: Annotated[bool, Meta(description="Whether every byte was examined.")]
    size: Count
    modified: Annotated[
        str | None, Meta(description="When the file was last written, UTC, ISO 8601.")
    ]
    sha256: Annotated[str | None, Meta(description="Null for a clean file.")]
    is_dicom: bool
    transfer_syntax: str
    instance: Instance
    unexamined: Annotated[tuple[str, ...], Meta(description="Why something was not examined.")]
    findings: Annotated[tuple[FindingRecord, ...], Meta(description="Worst first.")]
    suppressed: tuple[SuppressedRecord, ...]
    drawing: Annotated[
        Drawing | UnsetType,
        Meta(description="Its layout; of `dicomguard map` only."),
    ] = UNSET

    @classmethod
    def of(cls, report: Report, *, show_values: bool = False) -> Self:
        """The record of a report, without the text of values unless asked for."""
        return cls(
            path=report.path,
            verdict=report.verdict,
            complete=report.complete,
            size=report.size,
            modified=_iso_time(report.identity.mtime_ns) if report.identity else None,
            sha256=report.sha256,
            is_dicom=report.is_dicom,
            transfer_syntax=report.transfer_syntax,
            instance=report.instance,
            unexamined=report.unexamined,
            findings=tuple(
                FindingRecord.of(each, show_values=show_values) for each in report.findings
            ),
            suppressed=tuple(
                SuppressedRecord.of_suppressed(each, show_values=show_values)
                for each in report.suppressed
            ),
            drawing=report.drawing or UNSET,
        )


class FindingTotal(Struct, frozen=True, kw_only=True):
    """A kind of finding, and how many of it there are."""

    id: str
    count: Count
    title: str
    category: Category
    severity: Severity
    confidence: Confidence
    why: str
    reference: str
    attack: str

    @classmethod
    def of(cls, kind: FindingKind, count: int) -> Self:
        """The total of a kind."""
        return cls(
            id=kind.id,
            count=count,
            title=kind.title,
            category=kind.category,
            severity=kind.severity,
            confidence=kind.confidence,
            why=kind.why,
            reference=kind.reference,
            attack=kind.attack,
        )


class PackRecord(Struct, frozen=True, kw_only=True):
    """A pack of rules that says what it is."""

    name: str
    version: str
    released: Annotated[str | None, Meta(description="When it was made, 2027-01-31.")]

    def __str__(self) -> str:
        made = f" of {self.released}" if self.released else ""
        return f"{self.name} {self.version}{made}"


class SummaryRecord(Struct, frozen=True, kw_only=True, tag_field="type", tag="summary"):
    """What a run amounts to."""

    schema: int = SCHEMA_VERSION
    dicomguard: Annotated[str, Meta(description="Version of dicomguard.")] = VERSION
    rules: Annotated[str, Meta(description="Number and hash of the rules.")]
    engine: str
    packs: tuple[PackRecord, ...]
    started: Annotated[str, Meta(description="UTC, ISO 8601.")]
    seconds: Annotated[float, Meta(ge=0)]
    interrupted: Annotated[
        bool, Meta(description="Whether the run was stopped before every file was examined.")
    ]
    files: Count
    bytes: Count
    verdicts: Annotated[dict[str, Count], Meta(description="Files by verdict.")]
    not_fully_examined: Count
    unexamined: Annotated[
        dict[str, Count], Meta(description="Files by the reason why they were not examined.")
    ]
    skipped: Annotated[dict[str, Count], Meta(description="What was not opened, by what it is.")]
    suppressed: Annotated[dict[str, Count], Meta(description="Suppressed findings by id.")]
    findings: Annotated[tuple[FindingTotal, ...], Meta(description="Worst first.")]
    exit_code: int


class Document(Struct, frozen=True, kw_only=True, tag_field="type", tag="report"):
    """A whole run, as ``--format json`` writes it."""

    schema: int = SCHEMA_VERSION
    files: tuple[FileRecord, ...]
    summary: SummaryRecord


def to_line(record: Struct) -> str:
    """A record as JSON, all of it ASCII and in one line."""
    try:
        return msgspec.json.encode(record).decode("ascii")
    except UnicodeError:  # it holds other characters, or bytes that are none
        import json  # noqa: PLC0415 - few paths need escapes

        return json.dumps(msgspec.to_builtins(record), separators=(",", ":"))


def to_json(record: Struct) -> dict[str, Any]:
    """A record as JSON values."""
    import json  # noqa: PLC0415 - people read text

    values: dict[str, Any] = json.loads(to_line(record))
    return values


def schema() -> str:
    """JSON Schema of a document; a JSON line is a ``FileRecord`` or a ``SummaryRecord`` of it."""
    import json  # noqa: PLC0415 - people read text

    made = msgspec.json.schema(Document)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"dicomguard report, version {SCHEMA_VERSION}",
    }
    return json.dumps(head | made, indent=2) + "\n"


def _iso_time(nanoseconds: int) -> str | None:
    """UTC to the second; None for a time that no calendar holds."""
    try:
        moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="seconds")


if __name__ == "__main__":
    print(schema(), end="")  # noqa: T201 - the shipped schema is made by this
