"""Runs dicomguard, and dies by SIGKILL at a step that changes something on a disk.

``python tests/crash/at_step.py 17 watch …``: the seventeenth such step is not done, nor anything
after it. Steps are the calls that give, take or sync names and content, and the commits of the
journal, each before and after.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from threading import Lock
from typing import Any

from dicomguard.cli import main
from dicomguard.watch.journal import Journal

CALLS = (
    "copy_file_range",
    "fchmod",
    "fsync",
    "link",
    "mkdir",
    "rename",
    "rmdir",
    "unlink",
    "utime",
)


def die_at(step: int) -> None:
    """Has this process die at a step; threads count together."""
    steps, lock = count(1), Lock()

    def reached() -> None:
        with lock:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            reached()
            return call(*arguments, **options)

        return instead

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    commit = Journal.commit

    def commit_or_die(journal: Journal) -> None:
        reached()
        commit(journal)
        reached()

    Journal.commit = commit_or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    die_at(int(sys.argv.pop(1)))
    main()
