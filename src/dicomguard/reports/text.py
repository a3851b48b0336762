"""Reports for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TextIO

from dicomguard.incomplete import INCOMPLETE
from dicomguard.model import Category, Severity, Verdict
from dicomguard.reports import escape
from dicomguard.reports.lines import Lines, Part
from dicomguard.reports.model import FileRecord, FindingRecord, PackRecord, SummaryRecord
from dicomguard.reports.renderer import NORMAL, Detail, Renderer

VERDICT_STYLE = {
    Verdict.MALICIOUS: "bold red",
    Verdict.SUSPICIOUS: "bold yellow",
    Verdict.INCOMPLETE: "bold magenta",
    Verdict.CLEAN: "green",
}
SEVERITY_STYLE = {
    Severity.CRITICAL: "red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
    Severity.INFO: "dim",
}
ADVICE = {
    Verdict.MALICIOUS: (
        "Do not open, import or forward this file. It may hold patient data: quarantine it, do not"
        " delete it."
    ),
    Verdict.SUSPICIOUS: "Hold this file until someone has looked at where it came from.",
    Verdict.INCOMPLETE: "Hold this file: it was not fully examined, so nobody can call it clean.",
}
_INDENT = 20
_REPEATED = re.compile(r"(\\x[0-9a-f]{2})\1{3,}")
_LISTED = 20
"""Findings of one file that are written out; the formats for programs have them all."""
_REASONS = 5
"""Reasons why something was not examined that the totals name."""


class TextReport(Renderer):
    """Writes what people need: the files that are not clean in full, the rest as totals.

    A clean file is written only if it was named on the command line. Conformance and inventory are
    one dimmed line a file. Verbose, every file and every finding is written out; quiet, the totals
    are not.
    """

    def __init__(self, out: TextIO, detail: Detail = NORMAL) -> None:
        super().__init__(out, detail)
        self._lines = Lines(out)

    def file(self, record: FileRecord, *, named: bool) -> None:
        """Write one file."""
        verbose = self._detail.verbose
        suppressed = record.suppressed if self._detail.suppressed else ()
        if record.verdict is Verdict.CLEAN and not (named or verbose or suppressed):
            return
        self._lines.write(
            (f"{record.verdict!s:<10}", VERDICT_STYLE[record.verdict]),
            "  ",
            (escape.printable(record.path), "bold"),
        )
        shown: list[FindingRecord] = []
        rest: list[FindingRecord] = []
        for each in record.findings:
            (shown if verbose or _is_shown(each, record.verdict) else rest).append(each)
        for finding in shown[:_LISTED]:
            self._finding(finding)
        if len(shown) > _LISTED:
            self._lines.write(f"    … and {len(shown) - _LISTED} more findings")
        for each in suppressed:
            until = f" (until {each.expires})" if each.expires else ""
            self._finding(each)
            self._line("suppressed", f"{each.reason}{until}")
        for line in _in_passing(rest):
            self._lines.write((f"    {line}", "dim"))
        if record.verdict in ADVICE:
            self._lines.write((f"    → {ADVICE[record.verdict]}", "italic"))
            self._lines.write()

    def _finding(self, finding: FindingRecord) -> None:
        if finding.id == INCOMPLETE.id:
            self._lines.write(f"    not examined: {escape.printable(finding.detail)}")
            return
        self._lines.write(
            "    ",
            (f"{finding.severity!s:<8}", SEVERITY_STYLE[finding.severity]),
            "  ",
            (escape.printable(finding.id), "bold"),
            f"  {escape.printable(finding.title)} ({finding.category}, {finding.confidence})",
        )
        self._line("where", where(finding))
        if finding.detail:
            self._line("what", finding.detail)
        if finding.evidence is None:
            self._line("seen", "a value's text, hidden: --show-values shows it")
        elif finding.evidence:
            self._line("seen", _REPEATED.sub(_shortened, finding.evidence))
        references = [finding.reference] if finding.reference else []
        references += [f"ATT&CK {finding.attack}"] if finding.attack else []
        if finding.why:
            self._line("why", finding.why)
        if references:
            self._line("see", ", ".join(references))

    def _line(self, label: str, text: str) -> None:
        """A labelled line, wrapped under itself on a terminal, whole for other programs."""
        lines = [escape.printable(text)]
        if self._lines.is_terminal:
            import textwrap  # noqa: PLC0415 - for programs nothing is wrapped

            lines = textwrap.wrap(lines[0], max(40, self._lines.width - _INDENT)) or lines
        self._lines.write((f"{label:>{_INDENT - 2}}  ", "dim"), lines[0])
        for line in lines[1:]:
            self._lines.write(" " * _INDENT + line)

    def end(self, summary: SummaryRecord) -> None:
        """Write the totals."""
        if self._detail.quiet:
            return
        self._counts(summary)
        self._not_examined(summary)
        self._by_id(summary)
        self._made_by(summary)

    def _counts(self, summary: SummaryRecord) -> None:
        if summary.interrupted:
            told = "interrupted: these are the totals of what was examined by then"
            self._lines.write((told, "red"))
        files = "1 file" if summary.files == 1 else f"{summary.files} files"
        counts: list[Part] = [f"{files}, {size(summary.bytes)}: "]
        for index, verdict in enumerate(reversed(Verdict)):
            count = summary.verdicts[str(verdict)]
            style = VERDICT_STYLE[verdict] if count else "dim"
            counts.append((f"{', ' if index else ''}{count} {verdict}", style))
        self._lines.write(*counts)

    def _not_examined(self, summary: SummaryRecord) -> None:
        out = self._lines
        if summary.not_fully_examined:
            out.write(f"{summary.not_fully_examined} not fully examined (included above)")
        reasons = sorted(summary.unexamined.items(), key=lambda item: -item[1])
        for reason, count in reasons[:_REASONS]:
            out.write(f"    {count} × {escape.printable(reason)}")  # noqa: RUF001
        if len(reasons) > _REASONS:
            out.write(f"    … and {len(reasons) - _REASONS} more reasons")
        if summary.skipped:
            skipped = ", ".join(
                f"{n} {escape.printable(what)}{'s' if n > 1 else ''}"
                for what, n in summary.skipped.items()
            )
            out.write(f"not opened: {skipped}")

    def _by_id(self, summary: SummaryRecord) -> None:
        if summary.suppressed:
            ids = ", ".join(f"{id_} {n}" for id_, n in summary.suppressed.items())
            self._lines.write(f"suppressed: {escape.printable(ids)}")
        for category in Category:
            found = [
                f"{escape.printable(each.id)} {each.count}"
                for each in summary.findings
                if each.category is category and each.id != INCOMPLETE.id
            ]
            if found:
                style = "" if category in (Category.MALWARE, Category.EXPLOIT) else "dim"
                self._lines.write((f"{category}: {', '.join(found)}", style))

    def _made_by(self, summary: SummaryRecord) -> None:
        rate = "at once"
        if summary.seconds:
            rate = f"{summary.files / summary.seconds:.0f} files/s"
            rate += f", {size(int(summary.bytes / summary.seconds))}/s"
        rules = escape.printable(f"{summary.rules}, engine {summary.engine}")
        lines = [
            f"{duration(summary.seconds)}: {rate}",
            f"dicomguard {summary.dicomguard}, {rules}",
            *(
                f"rule pack {escape.printable(str(pack))}{_age(pack, summary)}"
                for pack in summary.packs
            ),
        ]
        for line in lines:
            self._lines.write((line, "dim"))


def where(finding: FindingRecord) -> str:
    """The place of a finding in one line, not escaped."""
    text = finding.region.value
    if finding.tag_path:
        text += f" {finding.tag_path}"
    text += "".join(f" › {wrapping}" for wrapping in finding.chain)  # noqa: RUF001
    text += f", offset {finding.offset}"
    if finding.inner_offset is not None:
        text += f" ({'unwrapped' if finding.chain else 'inflated'}: {finding.inner_offset})"
    return f"{text}, {finding.length} bytes"


def size(count: int) -> str:
    """Bytes for people.

    >>> size(1023), size(3 << 19)
    ('1023 bytes', '1.5 MiB')
    """
    number = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(0.42), duration(75), duration(7384)
    ('0.4 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _age(pack: PackRecord, summary: SummaryRecord) -> str:
    """How old a pack was when the run began."""
    if not pack.released:
        return ", of unknown age"
    days = date.fromisoformat(summary.started[:10]) - date.fromisoformat(pack.released)
    return f", {days.days} {'day' if days.days == 1 else 'days'} old"


def _shortened(run: re.Match[str]) -> str:
    r"""A run of one byte as ``\x00(12 times)``."""
    return f"{run[1]}({len(run[0]) // 4} times)"


def _is_shown(finding: FindingRecord, verdict: Verdict) -> bool:
    """Whether a finding helps to understand the verdict: conformance and inventory do not."""
    if finding.id == INCOMPLETE.id:
        return True
    least = Severity.LOW if verdict is Verdict.CLEAN else Severity.MEDIUM
    return finding.is_threat and finding.severity >= least


def _in_passing(findings: Iterable[FindingRecord]) -> Sequence[str]:
    """Findings that are not written out, a line for each category."""
    of: dict[Category, Counter[str]] = {}
    for finding in findings:
        of.setdefault(finding.category, Counter())[finding.id] += 1
    return [
        f"{category}: "
        + ", ".join(
            escape.printable(id_) + (f" {count}" if count > 1 else "")
            for id_, count in sorted(of[category].items())
        )
        + " (-v says more)"
        for category in Category
        if category in of
    ]
