"""``dicomguard quarantine``: look into a vault, and give files back."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from dicomguard.quarantine import DamagedError, Record, Vault
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode

_vault_option = click.option(
    "--quarantine",
    "vault",
    type=click.Path(),
    required=True,
    metavar="VAULT",
    help="The folder that `dicomguard watch` was given.",
)
_format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="Text for people; one JSON object a record for programs.",
)


@click.group("quarantine")
def quarantine_group() -> None:
    """List, show and restore quarantined files."""


@quarantine_group.command("list")
@_vault_option
@_format_option
def list_command(vault: str, format_: str) -> None:
    """List what is in the quarantine, oldest first."""
    damaged = False
    with Vault(vault) as opened:
        for record_id in opened.ids():
            try:
                record = opened.record(record_id)
            except DamagedError as error:
                damaged = True
                click.echo(printable(f"error: {error}"), err=True)
                continue
            click.echo(_json(record) if format_ == "jsonl" else _line(record))
    if damaged:
        sys.exit(ExitCode.USAGE)


@quarantine_group.command("show")
@click.argument("record_id", metavar="ID")
@_vault_option
@_format_option
def show_command(record_id: str, vault: str, format_: str) -> None:
    """Show all that is known of one quarantined file, by its id or the beginning of it."""
    with Vault(vault) as opened:
        record = opened.record(record_id)
    click.echo(_json(record) if format_ == "jsonl" else "\n".join(_lines(record)))


@quarantine_group.command("restore")
@click.argument("record_id", metavar="ID")
@_vault_option
@click.option(
    "--to",
    "target",
    type=click.Path(),
    metavar="PATH",
    help="Path of the file to write; where it came from if not given.",
)
def restore_command(record_id: str, vault: str, target: str | None) -> None:
    """Write a quarantined file back, unchanged; it stays in the quarantine as well.

    Nothing is overwritten, and a damaged file is not restored. A file that is restored into a
    watched folder is found again.
    """
    with Vault(vault) as opened:
        path = opened.restore(opened.record(record_id), target)
    click.echo(f"restored {printable(path)}")


def _json(record: Record) -> str:
    return json.dumps(record.to_json())


def _line(record: Record) -> str:
    return f"{record.id}  {record.verdict!s:<10}  {printable(record.original_path)}"


def _lines(record: Record) -> list[str]:
    """A record for people: its fields, then a line for each finding."""
    fields = record.to_json()
    findings: list[dict[str, Any]] = fields.pop("findings")
    unexamined: list[str] = fields.pop("unexamined")
    width = max(map(len, fields))
    lines = [f"{name:<{width}}  {printable(str(value))}" for name, value in fields.items()]
    lines += [f"{'unexamined':<{width}}  {printable(reason)}" for reason in unexamined]
    for finding in findings:
        place = finding.get("tag_path") or finding.get("region")
        told = (
            f"{finding.get('id')} {finding.get('severity')} {finding.get('confidence')}: "
            f"{finding.get('title')}; {place} at {finding.get('offset')}, "
            f"{finding.get('length')} bytes"
        )
        lines.append(f"{'finding':<{width}}  {printable(told)}")
    return lines
