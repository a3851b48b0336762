"""What the daemon says of each file: one line of log, the figures, and the hook.

Nothing of it is a patient's: no value of a data element is in it, and paths can be left out.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from typing import Any, NamedTuple

from dicomguard.model import FileIdentity, Report
from dicomguard.quarantine import Record
from dicomguard.reports.escape import printable
from dicomguard.watch.hook import QuarantineHook
from dicomguard.watch.metrics import Metrics
from dicomguard.watch.troubles import Troubles

_log = logging.getLogger(__name__)

_ROUTINE = {"clean", "clean delivered", "skipped"}
"""Outcomes that nobody has to look at."""


class Announcement(NamedTuple):
    """An outcome.

    Attributes:
        outcome: ``malicious quarantined``, ``clean delivered``, …
        path: Relative to the ingest folder.
        identity: What had the path.
        detail: Why, for people.
        report: What was found; None where nothing was scanned.
        record: Of a file that went to the quarantine.
    """

    outcome: str
    path: str
    identity: FileIdentity
    detail: str = ""
    report: Report | None = None
    record: Record | None = None


class Announcer:
    """Says what became of files, once the journal knows.

    Args:
        troubles: Know how paths are shown.
        metrics: Counts.
        hook: Run for what was quarantined.
    """

    def __init__(self, troubles: Troubles, metrics: Metrics, hook: QuarantineHook) -> None:
        self._troubles = troubles
        self._metrics = metrics
        self._hook = hook
        self._started = time.time()
        self._waiting: list[Announcement] = []
        self.outcomes: Counter[str] = Counter()

    def add(self, announcement: Announcement) -> None:
        """Keeps what is to be said."""
        self._waiting.append(announcement)

    def flush(self) -> None:
        """Says it: the journal has it."""
        for each in self._waiting:
            self._say(each)
        self._waiting.clear()

    def summary(self) -> str:
        """How many files came to which outcome."""
        return ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))

    def _say(self, said: Announcement) -> None:
        self.outcomes[said.outcome] += 1
        self._metrics.outcomes.labels(said.outcome).inc()
        changed = max(said.identity.ctime_ns, said.identity.mtime_ns) / 1e9
        if changed > self._started:
            self._metrics.seconds.observe(max(0.0, time.time() - changed))
        suppressed = _suppressed(said.report)
        told = f"suppressed {','.join(suppressed)}" if suppressed else ""
        head = " ".join(filter(None, (said.outcome, said.detail, told)))
        # The path is last, for it may be long.
        _log.log(
            logging.INFO if said.outcome in _ROUTINE else logging.WARNING,
            "%s: %s",
            printable(head),
            self._troubles.show_path(said.path),
            extra={"ecs": self._fields(said)},
        )
        if said.record is not None:
            self._hook.run(said.record.id, json.dumps(said.record.to_json()).encode("ascii"))

    def _fields(self, said: Announcement) -> dict[str, Any]:
        """The outcome in the Elastic Common Schema; its own fields begin with ``dicomguard``."""
        fields: dict[str, Any] = {
            "event.kind": "event" if said.record is None else "alert",
            "event.category": ["file" if said.record is None else "malware"],
            "event.type": ["info"],
            "event.action": said.outcome.replace(" ", "-"),
            "file.path": self._troubles.show_path(said.path),
            "file.size": said.identity.size,
        }
        if said.report is not None:
            fields["dicomguard.verdict"] = str(said.report.verdict)
            fields["rule.id"] = _ids(said.report)
            fields["dicomguard.unexamined"] = list(said.report.unexamined)
            fields["dicomguard.suppressed"] = _suppressed(said.report)
        if said.record is not None:
            fields["file.hash.sha256"] = said.record.sha256
            fields["dicomguard.record"] = said.record.id
        return fields


def _ids(report: Report) -> list[str]:
    return list(dict.fromkeys(finding.kind.id for finding in report.findings))


def _suppressed(report: Report | None) -> list[str]:
    found = report.suppressed if report is not None else ()
    return list(dict.fromkeys(each.finding.kind.id for each in found))
