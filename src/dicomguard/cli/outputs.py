"""``--format`` and ``--output``: which reports a run writes, and where to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, NamedTuple, TypeVar

import click
import msgspec
from click.core import ParameterSource
from msgspec import UNSET

from dicomguard.batch import Batch
from dicomguard.cli.options import note_libmagic
from dicomguard.errors import DicomguardError
from dicomguard.model import Report
from dicomguard.reports import destination
from dicomguard.reports.destination import STANDARD_OUTPUT
from dicomguard.reports.formats import FORMATS, Format, of_name
from dicomguard.reports.model import FileRecord, PackRecord
from dicomguard.reports.renderer import Detail, Renderer
from dicomguard.reports.summary import Summary

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Output(NamedTuple):
    """A report to write: where to, and in which format."""

    path: str
    format: Format


def output_options(command: _Command) -> _Command:
    """Options that say what is reported, where and how much of it."""
    for option in (
        click.option("--show-values", is_flag=True, help="Show text values: maybe patient data."),
        click.option("--show-suppressed", is_flag=True, help="Show suppressed findings, and why."),
        click.option(
            "--quiet", "-q", is_flag=True, help="No progress, no notes, no totals in text."
        ),
        click.option(
            "--verbose",
            "-v",
            is_flag=True,
            help="Every file and every finding in text, those that mean nothing bad included.",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Let --output write into a folder that is examined, or over what is no report.",
        ),
        click.option(
            "--output",
            "-o",
            "paths_out",
            type=click.Path(),
            multiple=True,
            metavar="FILE",
            help="Write a report here instead of standard output (-); its format is --format if"
            " that is given, else what its suffix says. Repeatable: then suffixes go first.",
        ),
        click.option(
            "--format",
            "format_",
            type=click.Choice(list(FORMATS)),
            default="text",
            show_default=True,
            help="Text and HTML for people, the others for programs.",
        ),
    ):
        command = option(command)
    return command


def outputs(
    context: click.Context,
    format_: str,
    paths_out: Sequence[str],
    examined: Sequence[str],
    *,
    force: bool,
) -> list[Output]:
    """The reports that a command is to write, standard output's if there is no other.

    Raises:
        DicomguardError: One of them must not be written where it should.
    """
    said = context.get_parameter_source("format_") is ParameterSource.COMMANDLINE
    first = said and len(paths_out) == 1
    made = []
    for path in paths_out or (STANDARD_OUTPUT,):
        suffix = None if path == STANDARD_OUTPUT or first else of_name(path)
        if path != STANDARD_OUTPUT:
            destination.check(path, examined, force=force)
        made.append(Output(path, FORMATS[suffix or format_]))
    if len({output.path for output in made}) < len(made):
        msg = "--output names the same file twice"
        raise DicomguardError(msg)
    return made


def summary_of(batch: Batch, *, quiet: bool = False) -> Summary:
    """Empty totals of a run, once its workers have the rules.

    Raises:
        DicomguardError: The rules cannot be loaded.
    """
    ready = batch.ready()
    rules = ready.rules
    assert rules is not None
    if not quiet and not ready.names_formats:
        note_libmagic()
    packs = [
        PackRecord(
            name=pack.name,
            version=pack.version,
            released=pack.released.isoformat() if pack.released else None,
        )
        for pack in rules.packs
    ]
    return Summary(rules=rules.version, engine=rules.engine, packs=tuple(packs))


class Reports:
    """The open reports of a run.

    Args:
        renderers: One each, and whether it draws files.
        show_values: Whether the text of values may be in them.
    """

    def __init__(self, renderers: Sequence[tuple[Renderer, bool]], *, show_values: bool) -> None:
        self._renderers = renderers
        self._show_values = show_values

    def file(self, report: Report, *, named: bool) -> None:
        """Write one file to all of them."""
        drawn = FileRecord.of(report, show_values=self._show_values)
        plain = msgspec.structs.replace(drawn, drawing=UNSET) if drawn.drawing else drawn
        for renderer, draws in self._renderers:
            renderer.file(drawn if draws else plain, named=named)

    def end(self, summary: Summary) -> None:
        """Write the totals to all of them."""
        record = summary.record()
        for renderer, _ in self._renderers:
            renderer.end(record)


@contextmanager
def opened(to: Sequence[Output], detail: Detail, *, show_values: bool) -> Iterator[Reports]:
    """Open the reports; files get their names when the block has ended well.

    Totals go to standard error as text if standard output has no report that holds them.

    Raises:
        DicomguardError: One cannot be written.
    """
    with ExitStack() as stack:
        renderers: list[tuple[Renderer, bool]] = []
        for each in to:
            out = stack.enter_context(destination.opened(each.path))
            renderer = stack.enter_context(closing(each.format.open(out, detail)))
            renderers.append((renderer, each.format.draws))
        shown = any(each.path == STANDARD_OUTPUT and each.format.has_totals for each in to)
        if not shown and not detail.quiet:
            renderers.append((_Totals(sys.stderr, detail), False))
        yield Reports(renderers, show_values=show_values)


class _Totals(Renderer):
    """The totals alone."""

    def file(self, record: FileRecord, *, named: bool) -> None:
        pass

    def end(self, summary: Any) -> None:
        FORMATS["text"].open(self._out, self._detail).end(summary)
