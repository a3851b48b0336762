"""The command that is run when something was quarantined."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

_MOST_WAITING = 1000
"""Runs that may wait for the one before; beyond, the command is not run and that is logged."""

_log = logging.getLogger(__name__)


class QuarantineHook:
    """Runs a command for each quarantined file, one at a time and after the file is safe.

    Whatever the command does changes nothing for the file. It gets the record as JSON on standard
    input; what it prints is discarded.

    Args:
        command: Program and arguments; nothing is run if it is empty.
        timeout: Seconds after which it is killed, with all that it started.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.configure(command, timeout)
        self._waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="on_quarantine")

    def configure(self, command: Sequence[str], timeout: float) -> None:
        """Goes on with another command."""
        self._command = list(command)
        self._timeout = timeout

    def run(self, record_id: str, record: bytes) -> None:
        """Has the command run soon.

        Args:
            record_id: For the log.
            record: What it reads.
        """
        if not self._command:
            return
        if self._waiting >= _MOST_WAITING:
            _log.error("on_quarantine does not keep up: not run for %s", record_id)
            return
        self._waiting += 1
        self._executor.submit(self._run, record_id, record)

    def close(self) -> None:
        """Waits for the command that runs; those that wait are run as well."""
        self._executor.shutdown()

    def _run(self, record_id: str, record: bytes) -> None:
        self._waiting -= 1
        try:
            process = subprocess.Popen(  # noqa: S603 - the administrator's own command, no shell
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            _log.error("on_quarantine cannot be run for %s: %s", record_id, error.strerror)
            return
        try:
            process.communicate(record, self._timeout)
        except subprocess.TimeoutExpired:
            _log.error("on_quarantine took longer than %g s for %s", self._timeout, record_id)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode > 0:
            _log.error("on_quarantine ended with %d for %s", process.returncode, record_id)
