"""``dicomguard map``: one file, drawn."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import click
from msgspec.structs import replace

from dicomguard.batch import Batch
from dicomguard.cli.options import rules_option, scan_settings
from dicomguard.cli.outputs import summary_of
from dicomguard.discover import Candidate
from dicomguard.model import Verdict
from dicomguard.reports.formats import FORMATS
from dicomguard.reports.model import FileRecord
from dicomguard.reports.renderer import Detail, Renderer


@click.command("map")
@click.argument("file", type=click.Path())
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "html", "json"]),
    default="text",
    show_default=True,
    help="Text and HTML for people, JSON for programs.",
)
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    metavar="N",
    help="List elements within so many sequences.",
)
@click.option(
    "--elements",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="List so many elements; those that hold a finding always are.",
)
@click.option("--verbose", "-v", is_flag=True, help="Mark conformance and inventory too.")
@click.option("--show-values", is_flag=True, help="Show text values: maybe patient data.")
@rules_option
def map_command(
    file: str,
    *,
    format_: str,
    depth: int,
    elements: int,
    verbose: bool,
    show_values: bool,
    rule_folders: tuple[Path, ...],
) -> None:
    """Draw a file: a strip of the whole to scale, its entropy, its elements, what was found where.

    Values of elements are not shown. The exit codes are those of check.

    \b
    Examples
      dicomguard map IM0001
      dicomguard map --format html IM0001 > IM0001.html
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    settings = scan_settings(rule_folders, None, strict=False)
    settings = replace(settings, draw=frozenset(Verdict))
    with (
        closing(_renderer(format_, Detail(verbose=verbose), depth, elements)) as renderer,
        Batch(settings, 1, lone=True) as batch,
    ):
        summary = summary_of(batch)
        for _, report in batch.reports([Candidate(file, named=True)]):
            summary.add(report)
            renderer.file(FileRecord.of(report, show_values=show_values), named=True)
        renderer.end(summary.record())
    sys.exit(summary.exit_code)


def _renderer(format_: str, detail: Detail, depth: int, elements: int) -> Renderer:
    if format_ == "text":
        from dicomguard.reports.map import TextMap  # noqa: PLC0415 - rich is slow to load

        return TextMap(sys.stdout, detail, depth=depth, most=elements)
    return FORMATS[format_].open(sys.stdout, detail)
