"""The commands by name, and what is told of their failures."""

from __future__ import annotations

import gc
import importlib
import io
import os
import re
import sys
from collections import UserDict
from typing import NoReturn

import click

from dicomguard.cli.config import config_option
from dicomguard.errors import DicomguardError
from dicomguard.nursery import Nursery
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode
from dicomguard.version import VERSION

_COMMANDS = {
    "check": ("dicomguard.cli.check", "check_command"),
    "map": ("dicomguard.cli.draw", "map_command"),
    "watch": ("dicomguard.cli.watch", "watch_command"),
    "quarantine": ("dicomguard.cli.quarantine", "quarantine_group"),
    "config": ("dicomguard.cli.config", "config_group"),
    "rules": ("dicomguard.cli.rules", "rules_group"),
    "doctor": ("dicomguard.cli.doctor", "doctor_command"),
    "completions": ("dicomguard.cli.completions", "completions_command"),
    "man": ("dicomguard.cli.completions", "man_command"),
    "explain": ("dicomguard.cli.explain", "explain_command"),
    "extract": ("dicomguard.cli.extract", "extract_command"),
    "findings": ("dicomguard.cli.explain", "findings_command"),
}
"""Where each command is: loaded when it is called, as all together cost more than a small file."""


_NAMES = {name: click.Command(name) for name in _COMMANDS}


class _Loaded(UserDict[str, click.Command]):
    def __getitem__(self, key: str) -> click.Command:
        module, attribute = _COMMANDS[key]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(commands=_Loaded(_NAMES), context_settings={"help_option_names": ["-h", "--help"]})
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


def run(nursery: Nursery | None) -> NoReturn:
    """Run the command that the command line names.

    Args:
        nursery: What starts workers, if there is one already.

    Raises:
        SystemExit: It has ended, well or not.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that cannot be shown stops no run
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(cli.main(prog_name="dicomguard", standalone_mode=False, obj=nursery))
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
        import traceback  # noqa: PLC0415 - seldom needed

        traceback.print_exc()
        sys.exit(ExitCode.DEFECT)
    finally:
        gc.freeze()  # what is left goes with the process


def _hint(error: click.ClickException) -> None:
    """Say which choice may have been meant by a wrong one; click does so for all else."""
    import difflib  # noqa: PLC0415 - seldom needed

    if isinstance(error, click.BadParameter) and error.param:
        wrong = re.match(r"'(.*?)' is not one of", error.message)
        known = list(error.param.type.choices) if isinstance(error.param.type, click.Choice) else []
        if wrong and (close := difflib.get_close_matches(wrong[1], map(str, known), n=1)):
            click.echo(f"Did you mean '{close[0]}'?", err=True)


def _fail(message: str, code: ExitCode) -> NoReturn:
    for line in f"error: {message}".splitlines():
        click.echo(printable(line), err=True)
    sys.exit(code)
