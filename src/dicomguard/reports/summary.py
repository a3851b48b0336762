"""What a run over many files amounts to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

from dicomguard.model import FindingKind, Report, Verdict


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


@dataclass(slots=True)
class Summary:
    """Running totals.

    Attributes:
        rules: Number and hash of the rules.
        engine: What they ran in.
        verdicts: Files by verdict.
        bytes: Total size of the files.
        kinds: Every kind of finding seen, by id.
        findings: Number of findings by id.
        incomplete: Files that could not be fully examined, whatever their verdict.
        skipped: What was not opened, by what it is (``symbolic link``, ``FIFO``).
        suppressed: Number of suppressed findings by id.
    """

    rules: str
    engine: str
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    bytes: int = 0
    kinds: dict[str, FindingKind] = field(default_factory=dict)
    findings: Counter[str] = field(default_factory=Counter)
    incomplete: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        """Count one file."""
        self.verdicts[report.verdict] += 1
        self.bytes += report.size
        self.incomplete += not report.complete
        for finding in report.findings:
            self.kinds.setdefault(finding.kind.id, finding.kind)
            self.findings[finding.kind.id] += 1
        self.suppressed.update(each.finding.kind.id for each in report.suppressed)

    @property
    def files(self) -> int:
        """Number of files reported."""
        return self.verdicts.total()

    @property
    def exit_code(self) -> ExitCode:
        """Found beats not examined; both are counted."""
        if not self.files:
            return ExitCode.USAGE
        if self.verdicts[Verdict.MALICIOUS] or self.verdicts[Verdict.SUSPICIOUS]:
            return ExitCode.FOUND
        return ExitCode.NOT_EXAMINED if self.incomplete else ExitCode.CLEAN
