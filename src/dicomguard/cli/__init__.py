"""The command line: options → calls. Nothing is decided here."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
import traceback
from typing import NoReturn

import click

from dicomguard.cli.check import check_command
from dicomguard.cli.completions import completions_command, man_command
from dicomguard.cli.config import config_group, config_option
from dicomguard.cli.doctor import doctor_command
from dicomguard.cli.explain import explain_command, findings_command
from dicomguard.cli.extract import extract_command
from dicomguard.cli.quarantine import quarantine_group
from dicomguard.cli.rules import rules_group
from dicomguard.cli.watch import watch_command
from dicomguard.errors import DicomguardError
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode
from dicomguard.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.version_option(VERSION, prog_name="dicomguard")
def cli() -> None:
    """Find malicious payloads in DICOM files, say where they sit, and keep them out.

    \b
    Examples
      dicomguard check /data/incoming
      dicomguard watch /data/incoming --quarantine /data/vault --deliver /data/archive
      dicomguard doctor
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself


cli.add_command(check_command)
cli.add_command(watch_command)
cli.add_command(quarantine_group)
cli.add_command(config_group)
cli.add_command(rules_group)
cli.add_command(doctor_command)
cli.add_command(completions_command)
cli.add_command(man_command)
cli.add_command(explain_command)
cli.add_command(extract_command)
cli.add_command(findings_command)


def main() -> None:
    """Run the command line.

    What the user can put right is said in one line, with exit code 2. No failure of any kind has
    the exit code of a finding.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that cannot be shown stops no run
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(cli.main(prog_name="dicomguard", standalone_mode=False))
    except DicomguardError as error:
        _fail(str(error), ExitCode.USAGE)
    except click.ClickException as error:
        error.show()
        _hint(error)
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.PIPE_CLOSED)
    except OSError as error:
        _fail(f"{error.strerror or error}", ExitCode.USAGE)
    except Exception:  # noqa: BLE001 - whatever it is, it must not look like a finding
        traceback.print_exc()
        sys.exit(ExitCode.DEFECT)


def _hint(error: click.ClickException) -> None:
    """Say which choice may have been meant by a wrong one; click does so for all else."""
    if isinstance(error, click.BadParameter) and error.param:
        wrong = re.match(r"'(.*?)' is not one of", error.message)
        known = list(error.param.type.choices) if isinstance(error.param.type, click.Choice) else []
        if wrong and (close := difflib.get_close_matches(wrong[1], map(str, known), n=1)):
            click.echo(f"Did you mean '{close[0]}'?", err=True)


def _fail(message: str, code: ExitCode) -> NoReturn:
    for line in f"error: {message}".splitlines():
        click.echo(printable(line), err=True)
    sys.exit(code)
