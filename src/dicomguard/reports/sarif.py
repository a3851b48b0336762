"""Reports as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format).

A finding is a result with a byte region of its file. What could not be examined is no result but a
notification of the invocation, which then was not successful: nobody can read its absence as clean.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import datetime, timedelta
from typing import Any, TextIO
from urllib.parse import quote

from dicomguard.incomplete import INCOMPLETE
from dicomguard.model import Category, Confidence, Severity
from dicomguard.reports import escape
from dicomguard.reports.model import FileRecord, FindingRecord, FindingTotal, SummaryRecord
from dicomguard.reports.renderer import NORMAL, Detail, Renderer
from dicomguard.reports.spool import Spool
from dicomguard.reports.text import where

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

_LEVEL = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
_SCORE = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "3.0",
    Severity.INFO: "0.0",
}
"""What code-scanning services call ``security-severity``: the middle of each CVSS band."""
_PRECISION = {
    Confidence.CONFIRMED: "very-high",
    Confidence.STRONG: "high",
    Confidence.WEAK: "low",
}
_NEXT = ",\n"
_LINK = re.compile(r"[\\\[\]]")


class SarifLog(Renderer):
    """One run. Results are written as they come, artifacts and notifications wait on the disk."""

    def __init__(self, out: TextIO, detail: Detail = NORMAL) -> None:
        super().__init__(out, detail)
        self._artifacts = Spool()
        self._notifications = Spool()
        self._rules: dict[str, int] = {}
        self._results = 0
        out.write(
            f'{{"$schema": "{_SCHEMA}", "version": "2.1.0", "runs": [{{"columnKind": '
            '"unicodeCodePoints", "results": ['
        )

    def file(self, record: FileRecord, *, named: bool) -> None:  # noqa: ARG002 (every file is in it)
        """Write one file's results."""
        location = {"uri": _uri(record.path), "index": self._artifacts.parts}
        artifact: dict[str, Any] = {
            "location": {"uri": location["uri"]},
            "length": record.size,
            "roles": ["analysisTarget"],
            "properties": {"verdict": str(record.verdict), "complete": record.complete},
        }
        if record.sha256:
            artifact["hashes"] = {"sha-256": record.sha256}
        self._artifacts.add(json.dumps(artifact), _NEXT)
        for finding in record.findings:
            if finding.id == INCOMPLETE.id:
                continue
            index = {"ruleIndex": self._rules.setdefault(finding.id, len(self._rules))}
            self._write(self._result(record, finding, location) | index)
        for suppressed in record.suppressed:
            accepted = {
                "kind": "external",
                "status": "accepted",
                "justification": escape.printable(suppressed.reason),
            }
            self._write(self._result(record, suppressed, location) | {"suppressions": [accepted]})
        for reason in record.unexamined:
            self._notify(f"not examined: {reason}", level="error", location=location)

    def _write(self, result: dict[str, Any]) -> None:
        self._out.write(_NEXT if self._results else "\n")
        self._out.write(json.dumps(result))
        self._results += 1

    def _result(
        self, record: FileRecord, finding: FindingRecord, location: dict[str, Any]
    ) -> dict[str, Any]:
        counts = finding.is_threat and finding.confidence is not Confidence.WEAK
        kind = "fail" if counts or finding.category is Category.CONFORMANCE else "review"
        if finding.category is Category.INVENTORY:
            kind = "informational"
        region: dict[str, Any] = {"byteOffset": finding.offset}
        if finding.inner_offset is None:  # else the length is not that of bytes in the file
            region["byteLength"] = finding.length
        physical = {"artifactLocation": location, "region": region}
        if finding.evidence:
            region["snippet"] = {"text": finding.evidence}
        place: dict[str, Any] = {"physicalLocation": physical}
        if finding.tag_path:
            place["logicalLocations"] = [
                {"fullyQualifiedName": escape.printable(finding.tag_path), "kind": "element"}
            ]
        about = f"{finding.title}: {finding.detail}" if finding.detail else finding.title
        return {
            "ruleId": escape.printable(finding.id),
            "kind": kind,
            "level": _LEVEL[finding.severity] if kind == "fail" else "none",
            "message": _message(f"{about} ({where(finding)})"),
            "locations": [place],
            "partialFingerprints": {"dicomguard/v1": _fingerprint(record, finding)},
            "properties": {
                "category": str(finding.category),
                "severity": str(finding.severity),
                "confidence": str(finding.confidence),
                "region": str(finding.region),
                "rule": escape.printable(finding.rule),
                "chain": list(finding.chain),
                "innerOffset": finding.inner_offset,
                "length": finding.length,
            },
        }

    def _notify(self, text: str, *, level: str, location: dict[str, Any] | None = None) -> None:
        """Add a notification: of a file that was not examined if it has a location."""
        made: dict[str, Any] = {"level": level, "message": _message(text)}
        if location:
            made["descriptor"] = {"id": INCOMPLETE.id, "index": 0}
            made["locations"] = [{"physicalLocation": {"artifactLocation": location}}]
        self._notifications.add(json.dumps(made), _NEXT)

    def end(self, summary: SummaryRecord) -> None:
        """Write everything else: a reader takes the members of an object in any order."""
        for what, count in summary.skipped.items():
            self._notify(f"not opened: {count} × {what}", level="note")  # noqa: RUF001
        if summary.interrupted:
            self._notify("interrupted before every file was examined", level="error")
        totals = {total.id: total for total in summary.findings}
        started = datetime.fromisoformat(summary.started)
        invocation = {
            "executionSuccessful": not (summary.not_fully_examined or summary.interrupted),
            "exitCode": summary.exit_code,
            "startTimeUtc": _utc(started),
            "endTimeUtc": _utc(started + timedelta(seconds=summary.seconds)),
        }
        driver = {
            "name": "dicomguard",
            "version": summary.dicomguard,
            "semanticVersion": summary.dicomguard,
            "rules": [_rule(totals[id_]) for id_ in self._rules],
            "notifications": [
                {
                    "id": INCOMPLETE.id,
                    "shortDescription": {"text": INCOMPLETE.title},
                    "fullDescription": {"text": INCOMPLETE.why},
                }
            ],
            "properties": {"rules": escape.printable(summary.rules), "engine": summary.engine},
        }
        self._out.write('],\n"artifacts": [')
        self._artifacts.write_to(self._out)
        self._out.write('],\n"invocations": [' + json.dumps(invocation)[:-1])
        self._out.write(', "toolExecutionNotifications": [')
        self._notifications.write_to(self._out)
        self._out.write(']}],\n"tool": ' + json.dumps({"driver": driver}))
        self._out.write(',\n"properties": ' + json.dumps(_totals(summary)) + "}]}\n")

    def close(self) -> None:
        """Give the disk space back."""
        self._artifacts.close()
        self._notifications.close()


def _rule(total: FindingTotal) -> dict[str, Any]:
    text = total.why + (f"\n\nSee {total.reference}." if total.reference else "")
    tags = ["security", str(total.category)]
    tags += [f"external/attack/{total.attack}"] if total.attack else []
    return {
        "id": escape.printable(total.id),
        "shortDescription": _message(total.title),
        "fullDescription": _message(total.why or total.title),
        "help": _message(text or total.title),
        "defaultConfiguration": {"level": _LEVEL[total.severity]},
        "properties": {
            "tags": [escape.printable(tag) for tag in tags],
            "precision": _PRECISION[total.confidence],
            "security-severity": _SCORE[total.severity],
        },
    }


def _totals(summary: SummaryRecord) -> dict[str, Any]:
    return {"files": summary.files, "bytes": summary.bytes, "verdicts": summary.verdicts}


def _message(text: str) -> dict[str, str]:
    """Text in which a viewer finds no link and no placeholder (SARIF 3.11.5, 3.11.6)."""
    paragraphs = [escape.printable(part) for part in text.split("\n\n")]
    safe = _LINK.sub(r"\\\g<0>", "\n\n".join(paragraphs))
    return {"text": safe.replace("{", "{{").replace("}", "}}")}


def _uri(path: str) -> str:
    """The path as a URI, its bytes percent-encoded: relative as it was given, else ``file:``."""
    encoded = quote(os.fsencode(path), safe="/")
    return f"file://{encoded}" if path.startswith("/") else encoded


def _fingerprint(record: FileRecord, finding: FindingRecord) -> str:
    """The same for the same finding in the same content, wherever the file lies."""
    content = record.sha256 or f"{record.path}\0{record.size}"
    parts = (content, finding.id, finding.rule, finding.offset, finding.inner_offset)
    text = "\0".join(map(str, parts))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
