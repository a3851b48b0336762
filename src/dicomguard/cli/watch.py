"""``dicomguard watch``: keep a folder free of files that carry what does not belong in them."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path

import click

from dicomguard.cli.options import scan_options, scan_settings
from dicomguard.errors import DicomguardError
from dicomguard.quarantine import VaultWriter
from dicomguard.reports.escape import printable
from dicomguard.version import VERSION
from dicomguard.watch.deliver import Delivery
from dicomguard.watch.folders import Folders
from dicomguard.watch.journal import Journal
from dicomguard.watch.service import WatchOptions, WatchService
from dicomguard.workers import ScanPool


@click.command("watch")
@click.argument("ingest", type=click.Path())
@click.option(
    "--quarantine",
    "vault",
    type=click.Path(),
    required=True,
    metavar="VAULT",
    help="Folder for what must not stay; made if it does not exist.",
)
@click.option(
    "--deliver",
    type=click.Path(),
    metavar="DIR",
    help="Move clean files here, relative paths kept; they stay where they are if not given.",
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="A file is taken when it was unchanged for so long and nobody has it open for writing.",
)
@click.option(
    "--reconcile",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between scans of the folder, which find what no event told of.",
)
@click.option(
    "--state",
    type=click.Path(),
    metavar="DIR",
    help="Folder for what the daemon remembers of files that stay; in the vault if not given.",
)
@click.option(
    "--on-incomplete",
    type=click.Choice(["quarantine", "keep"]),
    default="quarantine",
    show_default=True,
    help="What becomes of a file that could not be examined.",
)
@scan_options
def watch_command(
    *,
    ingest: str,
    vault: str,
    deliver: str | None,
    settle: float,
    reconcile: float,
    state: str | None,
    on_incomplete: str,
    rule_folders: tuple[Path, ...],
    engine: str | None,
    workers: int,
    strict: bool,
) -> None:
    """Watch INGEST and everything below it until SIGTERM or Ctrl-C.

    Files that are there already, and all that come, are examined. Suspicious and malicious ones
    go to the quarantine, where `dicomguard quarantine` lists and restores them. One line for each
    file goes to standard error.

    \b
    Examples
      dicomguard watch /data/incoming --quarantine /data/vault
      dicomguard watch /data/incoming --quarantine /data/vault --deliver /data/archive
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    _log_to_standard_error()
    folders = Folders.resolve(ingest, vault, deliver, state)
    settings = scan_settings(rule_folders, engine, strict=strict)
    options = WatchOptions(
        settle=settle,
        reconcile=reconcile,
        keep_incomplete=on_incomplete == "keep",
        workers=workers,
    )
    # What is remembered of a file holds for this folder, and as long as its scan would be the same.
    scope = ascii((str(folders.ingest), VERSION, settings.rules_version, settings.strict))
    with ExitStack() as stack:
        writer = stack.enter_context(
            VaultWriter(str(folders.vault), rules_version=settings.rules_version)
        )
        journal = stack.enter_context(_journal(folders.state, scope))
        delivery = None
        if folders.deliver is not None:
            delivery = stack.enter_context(Delivery(str(folders.deliver), str(folders.ingest)))
        pool = stack.enter_context(ScanPool(settings, workers))
        WatchService(
            str(folders.ingest),
            options,
            pool=pool,
            vault=writer,
            journal=journal,
            delivery=delivery,
        ).run()


def _journal(folder: Path, scope: str) -> Journal:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise DicomguardError(
            f"cannot keep the state in {printable(os.fspath(folder))}: {error.strerror}"
        ) from error
    return Journal(folder / "watch.sqlite", scope)


def _log_to_standard_error() -> None:
    lines = logging.StreamHandler()
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    lines.setFormatter(form)
    log = logging.getLogger("dicomguard")
    log.addHandler(lines)
    log.setLevel(logging.INFO)
