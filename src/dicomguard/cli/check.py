"""``dicomguard check``: examine files once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from msgspec.structs import replace

from dicomguard.batch import Batch
from dicomguard.cli.interrupt import CtrlC
from dicomguard.cli.options import scan_options, scan_settings
from dicomguard.cli.outputs import Reports, opened, output_options, outputs, summary_of
from dicomguard.cli.progress import ProgressBar
from dicomguard.discover import Candidate, discover
from dicomguard.errors import DicomguardError
from dicomguard.ledger import Ledgers
from dicomguard.model import Verdict
from dicomguard.nursery import Nursery
from dicomguard.packs import Trust
from dicomguard.reports.renderer import Detail
from dicomguard.reports.summary import ExitCode, Summary
from dicomguard.suppress import Baseline

_STANDARD_INPUT = "-"


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[PATH]...")
@click.option(
    "--files-from",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Examine what is listed in this file too, one path a line; - for standard input.",
)
@click.option(
    "--null",
    "-0",
    is_flag=True,
    help="Paths in that list end with a NUL byte, as `find -print0` writes them.",
)
@output_options
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
@click.option(
    "--cache",
    "cache_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Remember clean content by its hash, and do not examine it again under the same rules.",
)
@click.option(
    "--resume",
    "state",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="STATE",
    help="Remember in this file what was examined, and go on there if the run was stopped.",
)
@click.option("--sort", is_flag=True, help="Report in order of name, not as files are done.")
@scan_options
@click.pass_context
def check_command(
    context: click.Context,
    paths: tuple[str, ...],
    *,
    files_from: str | None,
    null: bool,
    format_: str,
    paths_out: tuple[str, ...],
    rule_folders: tuple[Path, ...],
    engine: str | None,
    workers: int,
    strict: bool,
    show_values: bool,
    show_suppressed: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
    sort: bool,
    cache_file: Path | None,
    state: Path | None,
    signed_rules: bool,
    rule_keys: tuple[str, ...],
    suppression_file: Path | None,
    baseline: Path | None,
    write_baseline: Path | None,
) -> None:
    """Examine files, folders with all that is below them, or standard input (-).

    The report goes to standard output or to --output, progress to standard error.

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
      dicomguard check --output scan.sarif --output scan.csv /data/incoming
      find /data/incoming -newer stamp -print0 | dicomguard check -0 --files-from -
      dicomguard check --write-baseline known.json /data/archive
      dicomguard check --baseline known.json /data/archive
      dicomguard check --resume archive.state --cache clean.list /data/archive
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    if baseline and write_baseline:
        raise click.UsageError("--baseline hides what --write-baseline would have to write")
    paths = _named(paths, files_from, b"\0" if null else b"\n")
    detail = Detail(quiet=quiet, verbose=verbose, suppressed=show_suppressed)
    to = outputs(context, format_, paths_out, paths, force=force)
    settings = scan_settings(
        rule_folders,
        engine,
        strict=strict,
        quiet=quiet,
        trust=Trust(keys=rule_keys, required=signed_rules),
        suppression_file=suppression_file,
        baseline=baseline,
    )
    if any(each.format.draws for each in to):
        settings = replace(settings, draw=frozenset(Verdict) - {Verdict.CLEAN})
    known = Baseline() if write_baseline else None
    ledgers = Ledgers(cache_file, state, settings)
    nursery = context.find_object(Nursery)
    with Batch(
        ledgers.settings,
        workers,
        ordered=sort,
        before=ledgers,
        nursery=nursery,
        lone=len(paths) == 1 and not os.path.isdir(paths[0]),
    ) as batch:
        for each in to:
            each.format.load()
        summary = summary_of(batch, quiet=quiet)
        summary.verdicts.update(ledgers.verdicts)
        summary.incomplete += summary.verdicts[Verdict.INCOMPLETE]
        with opened(to, detail, show_values=show_values) as reports, ledgers:
            _run(batch, paths, reports, summary, known=known, ledgers=ledgers, quiet=quiet)
            reports.end(summary)
    if not summary.interrupted:
        ledgers.finish()
    if write_baseline and known is not None and not summary.interrupted:
        known.write(write_baseline)
        click.echo(f"note: the baseline knows {len(known)} files that are not clean", err=True)
    if summary.exit_code is ExitCode.USAGE:
        click.echo("error: there was nothing to scan", err=True)
    sys.exit(summary.exit_code)


def _run(
    batch: Batch,
    paths: tuple[str, ...],
    reports: Reports,
    summary: Summary,
    *,
    known: Baseline | None,
    ledgers: Ledgers,
    quiet: bool,
) -> None:
    """Examine everything, or what there is time for until Ctrl-C."""
    spooled: set[str] = set()
    ctrl_c = CtrlC()
    with ExitStack() as spools, ctrl_c.caught():
        try:
            candidates: Iterable[Candidate] = _candidates(paths, spools, spooled)
            files = size = 0
            if not quiet and ProgressBar.is_wanted():
                candidates = list(candidates)
                files = sum(not each.skipped for each in candidates)
                size = sum(each.size for each in candidates)
            with ProgressBar(files, size) as progress:
                for candidate, report in batch.reports(candidates):
                    with ctrl_c.held(), progress.aside():
                        if candidate.path in spooled:
                            report = replace(report, path=_STANDARD_INPUT)  # noqa: PLW2901
                        summary.add(report)
                        if known is not None:
                            known.add(report)
                        reports.file(report, named=candidate.named)
                        ledgers.add(candidate, report)
                    progress.show(summary)
        except KeyboardInterrupt:
            summary.interrupted = True
        summary.skipped = batch.skipped


def _named(paths: tuple[str, ...], files_from: str | None, end: bytes) -> tuple[str, ...]:
    """The paths that were given and those in a list.

    Raises:
        UsageError: There are none, or standard input would be both.
        DicomguardError: The list cannot be read.
    """
    if files_from == _STANDARD_INPUT and _STANDARD_INPUT in paths:
        raise click.UsageError("standard input cannot be both the list and a file")
    if files_from is not None:
        return paths + _listed(files_from, end)
    if not paths:
        raise click.UsageError("what is to be examined? Name files or folders, or --files-from")
    return paths


def _listed(path: str, end: bytes) -> tuple[str, ...]:
    """The paths in a list, whatever bytes they are made of.

    Raises:
        DicomguardError: The list cannot be read.
    """
    try:
        is_input = path == _STANDARD_INPUT
        content = sys.stdin.buffer.read() if is_input else Path(path).read_bytes()
    except (OSError, AttributeError) as error:  # sys.stdin is None where it is closed
        reason = getattr(error, "strerror", None) or str(error)
        raise DicomguardError(f"cannot read the list {path}: {reason}") from error
    # A file called "-" is not meant to be standard input here.
    return tuple(
        os.path.join(".", "-") if each == b"-" else os.fsdecode(each)
        for each in content.split(end)
        if each
    )


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
    import shutil  # noqa: PLC0415 - seldom needed
    import tempfile  # noqa: PLC0415

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
