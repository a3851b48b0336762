"""The command line: options → calls. Nothing is decided here."""

from __future__ import annotations

import io
import sys

import click

from dicomguard.cli.check import check_command
from dicomguard.cli.quarantine import quarantine_group
from dicomguard.cli.watch import watch_command
from dicomguard.errors import DicomguardError
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode
from dicomguard.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="dicomguard")
def cli() -> None:
    """Find malicious payloads in DICOM files, say where they sit, and keep them out."""


cli.add_command(check_command)
cli.add_command(watch_command)
cli.add_command(quarantine_group)


def main() -> None:
    """Run the command line; what the user can put right is said in one line, with exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that cannot be shown stops no run
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(prog_name="dicomguard")
    except DicomguardError as error:
        for line in f"error: {error}".splitlines():
            click.echo(printable(line), err=True)
        sys.exit(ExitCode.USAGE)
