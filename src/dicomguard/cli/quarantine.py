"""``dicomguard quarantine``: look into a vault, give files back, hand them on, let them go."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from dicomguard.cli.extract import extract_options, tell
from dicomguard.cli.options import load_rules, scan_settings
from dicomguard.extraction import extracted_from, write
from dicomguard.quarantine import (
    LONGEST_REASON,
    DamagedError,
    Problem,
    Record,
    Vault,
    VaultError,
    Verification,
    export,
    kept_objects,
    purge,
    released_in_part,
    restore,
)
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode

_DAMAGED = 1
"""Exit code of `verify` where something is lost or was tampered with."""


def _reason(context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    if value is None:
        raise click.UsageError(
            f"{context.info_name} needs a reason, which the audit trail keeps: say why with "
            "--reason TEXT"
        )
    reason = value.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise click.BadParameter(f"say why, in 1 to {LONGEST_REASON} characters")
    return reason


_reason_option = click.option(
    "--reason",
    callback=_reason,
    allow_from_autoenv=False,
    metavar="TEXT",
    help="Why, for the audit trail; no patient data, please.  [required]",
)
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
    help="Text for people; one JSON object a line for programs.",
)


@click.group("quarantine")
def quarantine_group() -> None:
    """List, show, restore, export, purge and verify quarantined files.

    \b
    Examples
      dicomguard quarantine list --quarantine /data/vault
      dicomguard quarantine show 2026 --quarantine /data/vault
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself


@quarantine_group.command("list")
@_vault_option
@_format_option
def list_command(vault: str, format_: str) -> None:
    """List what is in the quarantine, oldest first.

    \b
    Examples
      dicomguard quarantine list --quarantine /data/vault
      dicomguard quarantine list --quarantine /data/vault --format jsonl
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    damaged: list[str] = []
    with _opened(vault) as opened:
        for record in _readable(opened, damaged):
            click.echo(_json(record) if format_ == "jsonl" else _line(record))
    if damaged:
        sys.exit(ExitCode.USAGE)


@quarantine_group.command("show")
@click.argument("record_id", metavar="ID")
@_vault_option
@_format_option
def show_command(record_id: str, vault: str, format_: str) -> None:
    """Show all that is known of one quarantined file, by its id or the beginning of it.

    \b
    Examples
      dicomguard quarantine show 2026 --quarantine /data/vault
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    with _opened(vault) as opened:
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
@_reason_option
@click.option(
    "--allow-days",
    type=click.IntRange(0, 3650),
    default=7,
    show_default=True,
    metavar="DAYS",
    help="How long the daemon lets this content pass; 0 for not at all.",
)
def restore_command(
    record_id: str, vault: str, target: str | None, reason: str, allow_days: int
) -> None:
    """Write a quarantined file back, unchanged; it stays in the quarantine as well.

    Nothing is overwritten, and a damaged file is not restored. A file that is restored into a
    watched folder is treated as clean for some days, wherever its content comes from.

    \b
    Examples
      dicomguard quarantine restore 2026 --quarantine /data/vault --reason "second opinion"
      dicomguard quarantine restore 2026 --quarantine /data/vault --to /data/review/IM1 --reason x
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    allow_for = timedelta(days=allow_days) if allow_days else None
    with _opened(vault) as opened:
        record = opened.record(record_id)
        path = restore(opened, record, target, reason=reason, allow_for=allow_for)
    allowed = f", allowed for {allow_days} days" if allow_days else ""
    click.echo(f"restored {printable(path)}{allowed}")


@quarantine_group.command("export")
@click.argument("record_id", metavar="ID")
@_vault_option
@click.option(
    "--to",
    "target",
    type=click.Path(),
    required=True,
    metavar="FILE",
    help="The file to write, customarily with the ending .cart.",
)
@_reason_option
def export_command(record_id: str, vault: str, target: str, reason: str) -> None:
    """Write a quarantined file in its neutralised form, to hand on to an analyst.

    The file is CaRT, as malware laboratories exchange it; `cart` decodes it. Its metadata has the
    verdict, the findings and hashes, but its content is the patient's file.

    \b
    Examples
      dicomguard quarantine export 2026 --quarantine /data/vault --to sample.cart --reason x
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    with _opened(vault) as opened:
        export(opened, opened.record(record_id), target, reason=reason)
    click.echo(f"exported {printable(target)}")


@quarantine_group.command("extract")
@click.argument("record_id", metavar="ID")
@_vault_option
@extract_options
@_reason_option
def extract_command(
    record_id: str,
    vault: str,
    folder: Path,
    rule_folders: tuple[Path, ...],
    reason: str,
    *,
    raw: bool,
) -> None:
    """Take the payloads out of a quarantined file, to hand them on without the patient's image.

    As `dicomguard extract` does; the file itself does not leave the quarantine.

    \b
    Examples
      dicomguard quarantine extract 2026 --quarantine /data/vault --to payloads --reason x
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    settings = scan_settings(rule_folders, engine=None, strict=False)
    load_rules(settings)
    with _opened(vault) as opened:
        record = opened.record(record_id)
        with released_in_part(opened, record, reason=reason) as original:
            manifest, contents = extracted_from(original.fileno(), record.id, settings)
            manifest = write(folder, manifest, contents, raw=raw)
    tell(manifest, folder)


@quarantine_group.command("purge")
@click.argument("record_ids", metavar="[ID]...", nargs=-1)
@_vault_option
@click.option(
    "--older-than",
    type=click.IntRange(min=1),
    allow_from_autoenv=False,
    metavar="DAYS",
    help="All that have been in quarantine for longer than this, instead of named ones.",
)
@_reason_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def purge_command(
    record_ids: tuple[str, ...], vault: str, older_than: int | None, reason: str, *, dry_run: bool
) -> None:
    """Delete quarantined files for good, by their full ids or by age.

    They may be the only copy of patient data, and nobody is asked again: try --dry-run first.

    \b
    Examples
      dicomguard quarantine purge --older-than 365 --quarantine /data/vault --reason old --dry-run
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    if bool(record_ids) == (older_than is not None):
        raise click.UsageError("name the files by their ids, or by --older-than")
    damaged: list[str] = []
    with _opened(vault) as opened:
        if older_than is None:
            records = [_exactly(opened, record_id) for record_id in dict.fromkeys(record_ids)]
        else:
            oldest = timedelta(days=older_than)
            records = [each for each in _readable(opened, damaged) if each.age > oldest]
        kept = kept_objects(opened, records)
        for record in records if dry_run else purge(opened, records, reason):
            others = kept.get(record.sha256)
            stays = f"; the content stays, {others} more may need it" if others else ""
            click.echo(f"{'would purge' if dry_run else 'purged'} {_line(record)}{stays}")
    click.echo(f"{len(records)} {'would be purged' if dry_run else 'purged'}")
    if damaged:
        sys.exit(_DAMAGED)


@quarantine_group.command("verify")
@_vault_option
@_format_option
def verify_command(vault: str, format_: str) -> None:
    """Check the whole quarantine: every record, every object, the audit trail, permissions.

    Nothing is changed, and the daemon may go on meanwhile. The exit code is 0 if the quarantine
    is sound, 1 if something is damaged, missing, or not from dicomguard.

    \b
    Examples
      dicomguard quarantine verify --quarantine /data/vault
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    damage = 0
    with _opened(vault) as opened:
        verification = Verification(opened)
        for problem in verification.problems():
            damage += problem.is_damage
            click.echo(_problem(problem, format_))
    totals = {
        "records": verification.records,
        "objects": verification.objects,
        "bytes": verification.bytes,
        "damage": damage,
    }
    if format_ == "jsonl":
        click.echo(json.dumps({"type": "summary", **totals}))
    else:
        click.echo(
            f"{_count(totals['records'], 'record')}, {_count(totals['objects'], 'object')} of "
            f"{_count(totals['bytes'], 'byte')}: " + (f"{damage} damaged" if damage else "sound")
        )
    if damage:
        sys.exit(_DAMAGED)


@contextmanager
def _opened(path: str) -> Iterator[Vault]:
    """A vault; what its disk says is an error for the user, not a defect."""
    try:
        with Vault(path) as vault:
            yield vault
    except BrokenPipeError:
        raise
    except OSError as error:
        raise VaultError(f"cannot use {printable(path)}: {error.strerror}") from error


def _readable(vault: Vault, damaged: list[str]) -> Iterator[Record]:
    """The records, oldest first; what is wrong with the others is said, and noted."""
    for record_id in vault.ids():
        try:
            yield vault.read_record(record_id)
        except DamagedError as error:
            damaged.append(record_id)
            click.echo(printable(f"error: {error}"), err=True)
        except VaultError:
            continue  # purged a moment ago


def _exactly(vault: Vault, record_id: str) -> Record:
    """The record of a full id; what cannot be undone is not done by guess."""
    record = vault.record(record_id)
    if record.id != record_id:
        raise VaultError(f"{printable(record_id)} is only the beginning of an id: {record.id}")
    return record


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _problem(problem: Problem, format_: str) -> str:
    if format_ == "jsonl":
        return json.dumps({"type": "problem", **asdict(problem)})
    kind = "damage" if problem.is_damage else "note"
    return printable(f"{kind:<6}  {problem.path}: {problem.what}")


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
