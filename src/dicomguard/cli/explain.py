"""``dicomguard explain`` and ``dicomguard findings``: the catalogue of findings."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from dicomguard.cli.options import rules_option
from dicomguard.errors import DicomguardError
from dicomguard.findings.catalogue import Explanation, explanations, suggestions
from dicomguard.findings.pages import grade, sections, titles, write_pages
from dicomguard.model import Severity
from dicomguard.reports.escape import printable
from dicomguard.settings import ScanSettings

_STYLES: dict[Severity, dict[str, Any]] = {
    Severity.CRITICAL: {"fg": "red"},
    Severity.HIGH: {"fg": "red"},
    Severity.MEDIUM: {"fg": "yellow"},
    Severity.LOW: {"fg": "cyan"},
    Severity.INFO: {"dim": True},
}
_WIDEST = 100

_format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text for people, JSON for programs.",
)


@click.command("explain")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_format_option
@rules_option
def explain_command(ids: tuple[str, ...], format_: str, rule_folders: tuple[Path, ...]) -> None:
    """Say what a finding is, why it matters, what it is mistaken for and what to do next.

    \b
    Examples
      dicomguard explain POLY-PE
      dicomguard explain --format json GAP-DATA TAIL-DATA
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    known = explanations(ScanSettings(rule_folders=rule_folders))
    wanted = [_known(word, known) for word in ids]
    if format_ == "json":
        _print_json(wanted)
        return
    for index, explanation in enumerate(wanted):
        if index:
            click.echo()
        _print_text(explanation)


@click.command("findings")
@_format_option
@rules_option
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the catalogue of the shipped findings to this folder as Markdown pages instead.",
)
def findings_command(format_: str, rule_folders: tuple[Path, ...], folder: Path | None) -> None:
    """List every id that can be reported.

    \b
    Examples
      dicomguard findings
      dicomguard findings --format json > findings.json
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    if folder is not None:
        for path in write_pages(folder):
            click.echo(f"written: {printable(str(path))}")
        return
    known = explanations(ScanSettings(rule_folders=rule_folders))
    if format_ == "json":
        _print_json(known.values())
        return
    width = max(map(len, known))
    for each in known.values():
        kind = each.kind
        severity = click.style(f"{kind.severity!s:<8}", **_STYLES[kind.severity])
        click.echo(
            f"{each.id:<{width}}  {severity}  {kind.category:<11}  {kind.confidence!s:<9}  "
            f"{printable(titles(each))}"
        )


def _known(word: str, known: dict[str, Explanation]) -> Explanation:
    """The explanation that a word means.

    Raises:
        DicomguardError: There is no such id.
    """
    explanation = known.get(word) or known.get(word.upper())
    if explanation is None:
        near = suggestions(word, known)
        hint = f"did you mean {', '.join(near)}?" if near else "`dicomguard findings` lists all"
        raise DicomguardError(f"there is no finding {word}; {hint}")
    return explanation


def _print_text(explanation: Explanation) -> None:
    kind = explanation.kind
    click.echo(
        f"{click.style(explanation.id, bold=True)}  {printable(titles(explanation))}\n"
        + click.style(grade(kind), **_STYLES[kind.severity])
    )
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    for heading, paragraphs in sections(explanation):
        click.echo(f"\n{click.style(heading, bold=True)}")
        for paragraph in paragraphs:
            bullet = "- " if len(paragraphs) > 1 else ""
            wrapped = textwrap.wrap(
                printable(paragraph),
                width,
                initial_indent=f"  {bullet}",
                subsequent_indent=" " * (2 + len(bullet)),
                break_long_words=False,
            )
            click.echo("\n".join(wrapped))


def _print_json(wanted: Iterable[Explanation]) -> None:
    click.echo(json.dumps([_to_json(each) for each in wanted], indent=2))


def _to_json(explanation: Explanation) -> dict[str, Any]:
    kind, entry = explanation.kind, explanation.entry
    told: dict[str, Any] = {
        "id": explanation.id,
        "title": titles(explanation),
        "category": str(kind.category),
        "severity": str(kind.severity),
        "confidence": str(kind.confidence),
        "why": list(dict.fromkeys(each.why for each in explanation.kinds)),
        "reference": kind.reference,
        "attack": kind.attack,
    }
    if entry:
        told |= {
            "meaning": entry.meaning,
            "grades": entry.grades,
            "example": entry.example,
            "look_alikes": list(entry.look_alikes),
            "next": list(entry.next),
            "limits": entry.limits,
            "references": list(entry.references),
        }
    return told
