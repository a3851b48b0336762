"""``dicomguard doctor``: whether this machine is fit, and what to do where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dicomguard import doctor
from dicomguard.cli.options import engine_option, rules_option
from dicomguard.doctor import State
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode
from dicomguard.settings import ScanSettings

_COLOURS = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


@click.command("doctor")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text for people, JSON for programs.",
)
@rules_option
@engine_option
def doctor_command(
    folder: Path | None, format_: str, rule_folders: tuple[Path, ...], engine: str | None
) -> None:
    """Say whether this machine is fit to run dicomguard, and what to do where it is not.

    With FOLDER, whether that one can be watched. Exits with 0 if nothing failed, else with 2;
    warnings are no failure.

    \b
    Examples
      dicomguard doctor
      dicomguard doctor --format json /data/incoming
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    settings = ScanSettings(rule_folders=rule_folders, engine=engine)
    lines = list(doctor.examine(settings, folder))
    usable = doctor.is_usable(lines)
    if format_ == "json":
        shown = {"usable": usable, "lines": [line._asdict() for line in lines]}
        click.echo(json.dumps(shown, indent=2))
    else:
        for line in lines:
            state = click.style(f"{line.state:<4}", fg=_COLOURS[line.state])
            click.echo(f"{state}  {line.name:<10}  {printable(line.found)}")
            if line.remedy:
                click.echo(f"{'':<18}→ {printable(line.remedy)}")
    sys.exit(ExitCode.CLEAN if usable else ExitCode.USAGE)
