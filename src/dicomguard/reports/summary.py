"""What a run over many files amounts to."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from enum import IntEnum

from msgspec import Struct, field

from dicomguard.model import FindingKind, Report, Verdict
from dicomguard.reports.model import FindingTotal, PackRecord, SummaryRecord

_MOST_REASONS = 100
"""Different reasons that are counted by themselves."""
_OTHER_REASONS = "other reasons"


class ExitCode(IntEnum):
    """What the command tells the shell."""

    CLEAN = 0
    """Everything was examined and is clean."""
    FOUND = 1
    """Something is suspicious or malicious."""
    USAGE = 2
    """Usage, configuration or rules are wrong, or there was nothing to scan."""
    NOT_EXAMINED = 3
    """Nothing was found, but something could not be examined."""
    DEFECT = 70
    """dicomguard itself failed (``EX_SOFTWARE`` of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C, as shells say it."""
    PIPE_CLOSED = 141
    """Nobody reads the output any more, as shells say it."""


class Summary(Struct):
    """Running totals.

    Attributes:
        rules: Number and hash of the rules.
        engine: What they ran in.
        packs: Where they come from, and how old they are.
        verdicts: Files by verdict.
        bytes: Total size of the files.
        kinds: Every kind of finding seen, by id.
        findings: Number of findings by id.
        incomplete: Files that could not be fully examined, whatever their verdict.
        reasons: Files by the reason why.
        skipped: What was not opened, by what it is (``symbolic link``, ``FIFO``).
        suppressed: Number of suppressed findings by id.
        interrupted: Whether the run was stopped before its end.
        started: When it began.
    """

    rules: str
    engine: str
    packs: tuple[PackRecord, ...] = ()
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    bytes: int = 0
    kinds: dict[str, FindingKind] = field(default_factory=dict)
    findings: Counter[str] = field(default_factory=Counter)
    incomplete: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic)

    def add(self, report: Report) -> None:
        """Count one file."""
        self.verdicts[report.verdict] += 1
        self.bytes += report.size
        self.incomplete += not report.complete
        for reason in report.unexamined:
            known = reason in self.reasons or len(self.reasons) < _MOST_REASONS
            self.reasons[reason if known else _OTHER_REASONS] += 1
        for finding in report.findings:
            self.kinds.setdefault(finding.kind.id, finding.kind)
            self.findings[finding.kind.id] += 1
        self.suppressed.update(each.finding.kind.id for each in report.suppressed)

    @property
    def files(self) -> int:
        """Number of files reported."""
        return self.verdicts.total()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._clock

    @property
    def exit_code(self) -> ExitCode:
        """Found beats not examined; both are counted."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if not self.files:
            return ExitCode.USAGE
        if self.verdicts[Verdict.MALICIOUS] or self.verdicts[Verdict.SUSPICIOUS]:
            return ExitCode.FOUND
        return ExitCode.NOT_EXAMINED if self.incomplete else ExitCode.CLEAN

    def record(self) -> SummaryRecord:
        """The totals so far, as reports have them."""
        worst_first = sorted(self.kinds.values(), key=lambda kind: (-kind.severity.rank, kind.id))
        return SummaryRecord(
            rules=self.rules,
            engine=self.engine,
            packs=self.packs,
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(self.seconds, 3),
            interrupted=self.interrupted,
            files=self.files,
            bytes=self.bytes,
            verdicts={str(verdict): self.verdicts[verdict] for verdict in Verdict},
            not_fully_examined=self.incomplete,
            unexamined=dict(self.reasons.most_common()),
            skipped=dict(sorted(self.skipped.items())),
            suppressed=dict(sorted(self.suppressed.items())),
            findings=tuple(FindingTotal.of(kind, self.findings[kind.id]) for kind in worst_first),
            exit_code=int(self.exit_code),
        )
