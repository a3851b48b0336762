"""``python -m benchmarks.daemon burst`` and ``latency``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from benchmarks.daemon.burst import burst
from benchmarks.daemon.latency import latency

_folder_option = click.option(
    "--folder", type=click.Path(), help="Where to work; a temporary folder if not given."
)


@click.group()
def main() -> None:
    """Run a benchmark of the daemon."""


@main.command("burst")
@click.option("--files", default=100_000, show_default=True)
@click.option("--deliver", is_flag=True, help="Move clean files on.")
@_folder_option
def burst_command(files: int, *, deliver: bool, folder: str | None) -> None:
    """Many files at once, more than the kernel's queue of events holds."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        sys.exit(burst(Path(root), files, deliver=deliver))


@main.command("latency")
@click.option("--rate", default=50.0, show_default=True, help="Files a second.")
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--stay", is_flag=True, help="Clean files stay where they are.")
@_folder_option
def latency_command(rate: float, seconds: float, *, stay: bool, folder: str | None) -> None:
    """How long after its close a file is where it belongs."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        sys.exit(latency(Path(root), rate, seconds, deliver=not stay))


main()
