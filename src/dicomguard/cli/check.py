"""``dicomguard check``: examine files once."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from dicomguard.batch import Batch
from dicomguard.cli.options import scan_options, scan_settings
from dicomguard.cli.progress import ProgressBar
from dicomguard.discover import Candidate, discover
from dicomguard.reports.jsonl import JsonLines
from dicomguard.reports.summary import ExitCode, Summary
from dicomguard.reports.text import TextReport
from dicomguard.suppress import Baseline

_FORMATS: dict[str, type[TextReport | JsonLines]] = {"text": TextReport, "jsonl": JsonLines}
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
@click.option("--sort", is_flag=True, help="Report in order of name, not as files are done.")
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
    sort: bool,
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
    batch = Batch(settings, workers, ordered=sort)
    with ExitStack() as spools:
        spooled: set[str] = set()
        candidates: Iterable[Candidate] = _candidates(paths, spools, spooled)
        total = 0
        if ProgressBar.is_wanted():
            candidates = list(candidates)
            total = sum(not candidate.skipped for candidate in candidates)
        with ProgressBar(total) as progress:
            for candidate, made in batch.reports(candidates):
                is_input = candidate.path in spooled
                report = replace(made, path=_STANDARD_INPUT) if is_input else made
                summary.add(report)
                if write_baseline:
                    known.add(report)
                with progress.aside():
                    report_to.file(report, named=candidate.named)
                progress.show(summary)
    summary.skipped = batch.skipped
    report_to.end(summary)
    if write_baseline:
        known.write(write_baseline)
        click.echo(f"note: the baseline knows {len(known)} files that are not clean", err=True)
    if summary.exit_code is ExitCode.USAGE:
        click.echo("error: there was nothing to scan", err=True)
    sys.exit(summary.exit_code)


def _candidates(
    paths: tuple[str, ...], spools: ExitStack, spooled: set[str]
) -> Iterator[Candidate]:
    for path in paths:
        if path == _STANDARD_INPUT:
            yield _standard_input(spools, spooled)
        else:
            yield from discover([path])


def _standard_input(spools: ExitStack, spooled: set[str]) -> Candidate:
    """What comes in, as a file that only this user can read and that goes with ``spools``."""
    try:
        spool = tempfile.NamedTemporaryFile(prefix="dicomguard-")  # noqa: SIM115 - it is scanned later
        spools.enter_context(spool)
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
    except (OSError, AttributeError) as error:  # sys.stdin is None where it is closed
        reason = getattr(error, "strerror", None) or str(error)
        return Candidate(_STANDARD_INPUT, named=True, problem=reason)
    spooled.add(spool.name)
    return Candidate(spool.name, named=True, size=spool.tell())
