"""``dicomguard extract``: take payloads out of a file, to hand them on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dicomguard.cli.options import load_rules, rules_option, scan_settings
from dicomguard.extraction import Manifest, extracted, write
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode

_Command = TypeVar("_Command", bound=Callable[..., Any])


def extract_options(command: _Command) -> _Command:
    """Options of commands that take payloads out."""
    for option in (
        rules_option,
        click.option(
            "--raw",
            is_flag=True,
            help="Write the payloads as they are: live malware, which anti-virus may delete.",
        ),
        click.option(
            "--to",
            "folder",
            type=click.Path(path_type=Path),
            required=True,
            metavar="DIR",
            help="A folder that does not exist yet.",
        ),
    ):
        command = option(command)
    return command


@click.command("extract")
@click.argument("path", type=click.Path(), metavar="FILE")
@extract_options
def extract_command(path: str, folder: Path, rule_folders: tuple[Path, ...], *, raw: bool) -> None:
    """Take every payload out of a file, to its true extent and unwrapped.

    Payloads are written as CaRT, which nothing runs or opens by accident (`cart` of PyPI decodes
    it), beside a manifest.json with hashes, findings and places. The file itself is not changed.

    \b
    Exit codes
      0  done, whether there was anything to take out or not
      2  usage or rules are wrong, or the folder exists
      3  something could not be examined, so payloads may be missing

    \b
    Examples
      dicomguard extract IM0001 --to payloads-of-IM0001
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    settings = scan_settings(rule_folders, engine=None, strict=False)
    load_rules(settings)
    manifest, contents = extracted(path, settings)
    tell(write(folder, manifest, contents, raw=raw), folder)


def tell(manifest: Manifest, folder: Path) -> None:
    """Say what was taken out; exits if it may not be all."""
    for payload in manifest.payloads:
        worst = payload.findings[0]
        chain = "".join(f" › {wrapping}" for wrapping in worst.chain)  # noqa: RUF001
        place = f"{worst.tag_path or worst.region}{chain}, offset {worst.offset}"
        click.echo(
            printable(
                f"{payload.name}  {payload.size} bytes  {worst.detail or worst.title}  ({place})"
            )
        )
    count = len(manifest.payloads)
    payloads = "1 payload" if count == 1 else f"{count or 'no'} payloads"
    click.echo(printable(f"{payloads} of {manifest.path} in {folder}"))
    for reason in manifest.unexamined:
        click.echo(printable(f"not examined: {reason}"), err=True)
    if manifest.unexamined:
        sys.exit(ExitCode.NOT_EXAMINED)
