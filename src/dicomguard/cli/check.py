"""``dicomguard check``: examine files once."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import click

from dicomguard.cli.options import scan_options, scan_settings
from dicomguard.cli.progress import ProgressBar
from dicomguard.discover import Candidate, discover
from dicomguard.incomplete import unexamined_report
from dicomguard.model import Report
from dicomguard.reports.jsonl import JsonLines
from dicomguard.reports.summary import ExitCode, Summary
from dicomguard.reports.text import TextReport
from dicomguard.suppress import Baseline
from dicomguard.workers import ScanPool

_FORMATS: dict[str, type[TextReport | JsonLines]] = {"text": TextReport, "jsonl": JsonLines}
_IN_FLIGHT_PER_WORKER = 32
"""Files that are handed out ahead of the report."""

_STANDARD_INPUT = "-"


@click.command("check")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(_FORMATS)),
    default="text",
    show_default=True,
    help="Text for people; one JSON object a file, then a summary object, for programs.",
)
@click.option("--show-values", is_flag=True, help="Show text values, which may be patient data.")
@click.option("--show-suppressed", is_flag=True, help="Show suppressed findings, and why.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Findings that are known: written by --write-baseline for an archive that was looked at.",
)
@click.option(
    "--write-baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all that is found now to a baseline.",
)
@scan_options
def check_command(
    paths: tuple[str, ...],
    format_: str,
    rule_folders: tuple[Path, ...],
    engine: str | None,
    workers: int,
    *,
    strict: bool,
    show_values: bool,
    show_suppressed: bool,
    suppression_file: Path | None,
    baseline: Path | None,
    write_baseline: Path | None,
) -> None:
    """Examine files, folders with all that is below them, or standard input (-).

    The report goes to standard output, progress to standard error.

    \b
    Exit codes
      0  everything was examined and is clean
      1  something is suspicious or malicious
      2  usage or rules are wrong, or there was nothing to scan
      3  nothing was found, but something could not be examined

    \b
    Examples
      dicomguard check /data/incoming
      dicomguard check --format jsonl IM0001 IM0002 > report.jsonl
      dicomguard check --write-baseline known.json /data/archive
      dicomguard check --baseline known.json /data/archive
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    if baseline and write_baseline:
        raise click.UsageError("--baseline hides what --write-baseline would have to write")
    settings = scan_settings(
        rule_folders,
        engine,
        strict=strict,
        suppression_file=suppression_file,
        baseline=baseline,
    )
    known = Baseline()
    report_to = _FORMATS[format_](show_values=show_values, show_suppressed=show_suppressed)
    summary = Summary(rules=settings.rules_version, engine=settings.pack.engine)
    candidates: Iterable[Candidate] = _candidates(paths)
    total = 0
    if ProgressBar.is_wanted():
        candidates = list(candidates)
        total = sum(not candidate.skipped for candidate in candidates)
    with ScanPool(settings, workers) as pool, ProgressBar(total) as progress:
        for report, named in _reports(candidates, pool, workers, summary):
            summary.add(report)
            if write_baseline:
                known.add(report)
            with progress.aside():
                report_to.file(report, named=named)
            progress.show(summary)
    report_to.end(summary)
    if write_baseline:
        known.write(write_baseline)
        click.echo(f"note: the baseline knows {len(known)} files that are not clean", err=True)
    if summary.exit_code is ExitCode.USAGE:
        click.echo("error: there was nothing to scan", err=True)
    sys.exit(summary.exit_code)


def _reports(
    candidates: Iterable[Candidate], pool: ScanPool, workers: int, summary: Summary
) -> Iterator[tuple[Report, bool]]:
    """Reports in the order in which their files were found, and whether the file was named."""
    handed_out: deque[tuple[Future[Report], bool]] = deque()
    for candidate in candidates:
        if candidate.skipped:
            summary.skipped[candidate.skipped] += 1
            continue
        handed_out.append((_scan(candidate, pool), candidate.named))
        while handed_out and (
            handed_out[0][0].done() or len(handed_out) > workers * _IN_FLIGHT_PER_WORKER
        ):
            report, named = handed_out.popleft()
            yield report.result(), named
    for report, named in handed_out:
        yield report.result(), named


def _candidates(paths: tuple[str, ...]) -> Iterator[Candidate]:
    for path in paths:
        if path == _STANDARD_INPUT:
            yield Candidate(path, named=True)
        else:
            yield from discover([path])


def _scan(candidate: Candidate, pool: ScanPool) -> Future[Report]:
    if candidate.problem:
        answer: Future[Report] = Future()
        answer.set_result(unexamined_report(candidate.path, candidate.problem))
        return answer
    if candidate.path == _STANDARD_INPUT:
        return _scan_standard_input(pool)
    return pool.submit(candidate.path)


def _scan_standard_input(pool: ScanPool) -> Future[Report]:
    """Scan what comes in, by way of a file that only this user can read."""
    answer: Future[Report] = Future()
    try:
        with tempfile.NamedTemporaryFile(prefix="dicomguard-") as spool:
            shutil.copyfileobj(sys.stdin.buffer, spool)
            spool.flush()
            report = replace(pool.submit(spool.name).result(), path=_STANDARD_INPUT)
    except (OSError, AttributeError) as error:  # sys.stdin is None where it is closed
        report = unexamined_report(_STANDARD_INPUT, getattr(error, "strerror", None) or str(error))
    answer.set_result(report)
    return answer
