"""Tells systemd how the daemon is (``sd_notify(3)``); does nothing where no systemd listens."""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import suppress


def notify(state: str) -> None:
    """Sends lines of ``NAME=value`` to the socket that systemd named.

    A message that cannot be sent is no reason to fail: systemd then acts as if it had not come.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(state.encode(), socket.MSG_DONTWAIT, address)


class Watchdog:
    """Tells systemd in time that the loop still turns, if it wants to know.

    Attributes:
        interval: Seconds between two messages; infinite where none are wanted.
    """

    def __init__(self) -> None:
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        text = os.environ.get("WATCHDOG_USEC", "")
        wanted = mine and text.isdecimal() and int(text) > 0
        # Half of what systemd allows, as sd_watchdog_enabled(3) advises.
        self.interval = int(text) / 2e6 if wanted else math.inf
        self._next = 0.0

    def tick(self) -> None:
        """Sends a message, if one is due."""
        now = time.monotonic()
        if now >= self._next and self.interval < math.inf:
            self._next = now + self.interval / 2
            notify("WATCHDOG=1")
