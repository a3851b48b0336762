"""Reports for people."""

from __future__ import annotations

import re
import sys
import textwrap

from rich.console import Console
from rich.text import Text

from dicomguard.incomplete import INCOMPLETE
from dicomguard.model import Category, Finding, Report, Severity, Verdict
from dicomguard.reports import escape
from dicomguard.reports.summary import Summary

_VERDICT_STYLE = {
    Verdict.MALICIOUS: "bold red",
    Verdict.SUSPICIOUS: "bold yellow",
    Verdict.INCOMPLETE: "bold magenta",
    Verdict.CLEAN: "green",
}
_SEVERITY_STYLE = {
    Severity.CRITICAL: "red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
    Severity.INFO: "dim",
}
_ADVICE = {
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
"""Findings of one file that are written out; JSON Lines has them all."""


class TextReport:
    """Writes what people need: the files that are not clean in full, the rest as totals.

    A clean file is written only if it was named on the command line.
    """

    def __init__(self, *, show_values: bool, show_suppressed: bool = False) -> None:
        self._show_values = show_values
        self._show_suppressed = show_suppressed
        self._console = Console(
            file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def file(self, report: Report, *, named: bool) -> None:
        """Write one file."""
        suppressed = report.suppressed if self._show_suppressed else ()
        if report.verdict is Verdict.CLEAN and not named and not suppressed:
            return
        self._console.print(
            Text.assemble(
                (f"{report.verdict!s:<10}", _VERDICT_STYLE[report.verdict]),
                "  ",
                (escape.printable(report.path), "bold"),
            )
        )
        shown = [each for each in report.findings if _is_shown(each, report.verdict)]
        for finding in shown[:_LISTED]:
            self._finding(finding)
        if len(shown) > _LISTED:
            self._console.print(f"    … and {len(shown) - _LISTED} more findings")
        for each in suppressed:
            until = f" (until {each.expires})" if each.expires else ""
            self._finding(each.finding)
            self._line("suppressed", f"{each.reason}{until}")
        if report.verdict in _ADVICE:
            self._console.print(Text(f"    → {_ADVICE[report.verdict]}", "italic"))
            self._console.print()

    def _finding(self, finding: Finding) -> None:
        kind, place = finding.kind, finding.place
        if kind.id == INCOMPLETE.id:
            self._console.print(f"    not examined: {escape.printable(finding.detail)}")
            return
        self._console.print(
            Text.assemble(
                "    ",
                (f"{kind.severity!s:<8}", _SEVERITY_STYLE[kind.severity]),
                "  ",
                (kind.id, "bold"),
                f"  {escape.printable(kind.title)} ({kind.confidence})",
            )
        )
        where = place.region.value
        if place.tag_path:
            where += f" {place.tag_path}"
        where += "".join(f" › {wrapping}" for wrapping in place.chain)  # noqa: RUF001
        where += f", offset {place.offset}"
        if place.inner_offset is not None:
            where += f" ({'unwrapped' if place.chain else 'inflated'}: {place.inner_offset})"
        self._line("where", f"{where}, {place.length} bytes")
        if finding.detail:
            self._line("what", finding.detail)
        if finding.masked and not self._show_values:
            self._line("seen", "a value's text, hidden: --show-values shows it")
        elif finding.evidence:
            self._line("seen", _REPEATED.sub(_shortened, escape.evidence(finding.evidence)))
        if kind.category in (Category.MALWARE, Category.EXPLOIT):
            self._line("why", kind.why)
        references = [kind.reference] if kind.reference else []
        references += [f"ATT&CK {kind.attack}"] if kind.attack else []
        if references:
            self._line("see", ", ".join(references))

    def _line(self, label: str, text: str) -> None:
        """A labelled line, wrapped under itself on a terminal, whole for other programs."""
        lines = [escape.printable(text)]
        if self._console.is_terminal:
            lines = textwrap.wrap(lines[0], max(40, self._console.width - _INDENT)) or lines
        self._console.print(Text.assemble((f"{label:>{_INDENT - 2}}  ", "dim"), lines[0]))
        for line in lines[1:]:
            self._console.print(" " * _INDENT + line)

    def end(self, summary: Summary) -> None:
        """Write the totals."""
        out = self._console
        files = "1 file" if summary.files == 1 else f"{summary.files} files"
        counts = Text(f"{files}, {_size(summary.bytes)}: ")
        for index, verdict in enumerate(sorted(Verdict, key=lambda each: -each.rank)):
            count = summary.verdicts[verdict]
            style = _VERDICT_STYLE[verdict] if count else "dim"
            counts.append(f"{', ' if index else ''}{count} {verdict}", style)
        out.print(counts)
        if summary.incomplete:
            out.print(f"{summary.incomplete} not fully examined (included above)")
        if summary.skipped:
            skipped = ", ".join(
                f"{n} {what}{'s' if n > 1 else ''}" for what, n in sorted(summary.skipped.items())
            )
            out.print(f"not opened: {skipped}")
        if summary.suppressed:
            ids = ", ".join(f"{id_} {n}" for id_, n in sorted(summary.suppressed.items()))
            out.print(Text(f"suppressed: {escape.printable(ids)}"))
        lesser = [
            f"{id_} {summary.findings[id_]}"
            for id_, kind in sorted(summary.kinds.items())
            if kind.severity < Severity.HIGH and id_ != INCOMPLETE.id
        ]
        if lesser:
            out.print(Text(f"lesser findings: {', '.join(lesser)}", "dim"))
        out.print(Text(f"{summary.rules}, engine {summary.engine}", "dim"))


def _shortened(run: re.Match[str]) -> str:
    r"""A run of one byte as ``\x00(12 times)``."""
    return f"{run[1]}({len(run[0]) // 4} times)"


def _is_shown(finding: Finding, verdict: Verdict) -> bool:
    """Whether a finding helps to understand the verdict; inventory does not."""
    if verdict is Verdict.CLEAN:
        return finding.kind.severity >= Severity.LOW
    return finding.kind.severity >= Severity.MEDIUM or finding.kind.id == INCOMPLETE.id


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
