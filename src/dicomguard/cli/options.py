"""Options that several commands share, and what they make."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dicomguard import naming
from dicomguard.engine import ENGINES
from dicomguard.packs import Trust
from dicomguard.reports.escape import printable
from dicomguard.settings import ScanSettings
from dicomguard.suppress import Suppressions, load_baseline, load_suppressions

_Command = TypeVar("_Command", bound=Callable[..., Any])


rules_option = click.option(
    "--rules",
    "rule_folders",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="A folder of YARA rules to use beside the shipped ones; repeatable.",
)
"""Whose rules are used."""


engine_option = click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help="YARA engine; the first that is installed if not given.",
)
"""What runs the rules."""

rule_key_option = click.option(
    "--rule-keys",
    multiple=True,
    metavar="KEY",
    help="Ed25519 public key in Base64, one of which signed packs must be signed with; repeatable.",
)
"""Whose signatures count."""


def scan_options(command: _Command) -> _Command:
    """Options that decide the outcome of a scan."""
    for option in (
        click.option(
            "--suppressions",
            "suppression_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="TOML file of findings that were looked at and do not count; never read unless"
            " it is named.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=min(8, os.cpu_count() or 1),
            show_default="one a core",
            metavar="N",
            help="Worker processes.",
        ),
        click.option(
            "--strict", is_flag=True, help="One medium finding is enough to be suspicious."
        ),
        engine_option,
        click.option(
            "--signed-rules", is_flag=True, help="Refuse packs of rules that are not signed."
        ),
        rule_key_option,
        rules_option,
    ):
        command = option(command)
    return command


def scan_settings(
    rule_folders: tuple[Path, ...],
    engine: str | None,
    *,
    strict: bool,
    trust: Trust | None = None,
    quiet: bool = False,
    suppression_file: Path | None = None,
    baseline: Path | None = None,
) -> ScanSettings:
    """The settings that options name.

    Raises:
        DicomguardError: The suppressions or the baseline cannot be loaded, or the rules whose
            findings are suppressed.
    """
    settings = ScanSettings(
        rule_folders=rule_folders,
        engine=engine,
        strict=strict,
        trust=trust or Trust(),
        suppressions=Suppressions(
            entries=load_suppressions(suppression_file) if suppression_file else (),
            baseline=load_baseline(baseline) if baseline else {},
        ),
    )
    for entry in () if quiet else settings.suppressions.expired():
        click.echo(f"note: no longer suppressed: {printable(str(entry))}", err=True)
    ids = {entry.id for entry in settings.suppressions.entries if entry.id}
    if ids:
        from dicomguard.findings.catalogue import declared  # noqa: PLC0415 - it brings the scan

        for id_ in sorted(ids - {kind.id for kind in declared(settings)}):
            click.echo(f"note: nothing to suppress: there is no finding {printable(id_)}", err=True)
    return settings


def load_rules(settings: ScanSettings) -> None:
    """Load the rules, so that a bad pack stops the run before it starts.

    Raises:
        DicomguardError: They cannot be loaded.
    """
    _ = settings.pack
    if not naming.is_available():
        note_libmagic()


def note_libmagic() -> None:
    """Say that libmagic is missing, and what that means."""
    click.echo(
        "note: libmagic is not installed, so formats that no rule knows go unnamed;"
        " verdicts are the same (Debian, Ubuntu: apt install libmagic1)",
        err=True,
    )
