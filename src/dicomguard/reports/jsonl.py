r"""Reports as JSON Lines: one object a file, then one summary object.

The output is ASCII: every other character is an escape, bytes of a path that are not UTF-8 are
``\udcXX``, so that no file name reaches a terminal as it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from dicomguard.model import SCHEMA_VERSION, Finding, Report, Verdict
from dicomguard.reports import escape
from dicomguard.reports.summary import Summary
from dicomguard.version import VERSION


def finding_to_json(finding: Finding, *, show_values: bool = False) -> dict[str, Any]:
    """A finding as JSON values; evidence that is a value's text is null unless asked for."""
    kind, place = finding.kind, finding.place
    hidden = finding.masked and not show_values
    return {
        "id": kind.id,
        "title": kind.title,
        "category": str(kind.category),
        "severity": str(kind.severity),
        "confidence": str(kind.confidence),
        "region": str(place.region),
        "tag_path": place.tag_path,
        "offset": place.offset,
        "length": place.length,
        "inner_offset": place.inner_offset,
        "chain": list(place.chain),
        "detail": finding.detail,
        "evidence": None if hidden else escape.evidence(finding.evidence),
        "private_creator": place.private_creator,
        "count": finding.count,
        "rule": finding.rule,
        "reference": kind.reference,
        "attack": kind.attack,
    }


def report_to_json(report: Report, *, show_values: bool = False) -> dict[str, Any]:
    """A report as JSON values."""
    return {
        "type": "file",
        "schema": SCHEMA_VERSION,
        "path": report.path,
        "verdict": str(report.verdict),
        "complete": report.complete,
        "size": report.size,
        "sha256": report.sha256,
        "is_dicom": report.is_dicom,
        "transfer_syntax": report.transfer_syntax,
        "instance": asdict(report.instance),
        "unexamined": list(report.unexamined),
        "findings": [finding_to_json(each, show_values=show_values) for each in report.findings],
        "suppressed": [
            finding_to_json(each.finding, show_values=show_values)
            | {"reason": each.reason, "expires": each.expires or None}
            for each in report.suppressed
        ],
    }


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """The totals of a run as JSON values."""
    return {
        "type": "summary",
        "schema": SCHEMA_VERSION,
        "dicomguard": VERSION,
        "rules": summary.rules,
        "engine": summary.engine,
        "files": summary.files,
        "bytes": summary.bytes,
        "verdicts": {str(verdict): summary.verdicts[verdict] for verdict in Verdict},
        "not_fully_examined": summary.incomplete,
        "skipped": dict(summary.skipped),
        "suppressed": dict(summary.suppressed),
        "exit_code": int(summary.exit_code),
    }


class JsonLines:
    """Writes reports as they come."""

    def __init__(self, *, show_values: bool, show_suppressed: bool = False) -> None:  # noqa: ARG002 (they always are)
        self._show_values = show_values

    def file(self, report: Report, *, named: bool) -> None:  # noqa: ARG002 (every file is a line)
        """Write one file's line."""
        print(json.dumps(report_to_json(report, show_values=self._show_values)))  # noqa: T201

    def end(self, summary: Summary) -> None:
        """Write the summary's line."""
        print(json.dumps(summary_to_json(summary)))  # noqa: T201
