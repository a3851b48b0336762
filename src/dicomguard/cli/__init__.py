"""The command line: options → calls. Nothing is decided here."""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack, suppress

from dicomguard.nursery import Nursery

_OBJECTS = 50_000
"""New objects before garbage is looked for: loading makes many, and none of them is garbage."""


def main() -> None:
    """Run the command line.

    What the user can put right is said in one line, with exit code 2. No failure of any kind has
    the exit code of a finding.
    """
    gc.set_threshold(_OBJECTS)
    with ExitStack() as started:
        nursery = None
        if sys.argv[1:2] == ["check"]:  # it loads the scanner while this process reads the options
            with suppress(OSError):  # the command tries again, and says why it cannot be
                nursery = Nursery()
                started.callback(nursery.close)
        from dicomguard.cli.commands import run  # noqa: PLC0415 - not before the nursery is started

        run(nursery)
