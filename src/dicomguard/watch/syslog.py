"""Events for a SIEM: syslog messages in the Common Event Format (CEF) of what is not routine."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import SysLogHandler
from typing import Any

from dicomguard.reports.escape import printable
from dicomguard.version import VERSION
from dicomguard.watch.metrics import host_and_port

_MOST_WAITING = 10_000
"""Messages that may wait for a syslog that is slow; what comes on top is lost, and that is said."""

_PATIENCE = 5.0
"""Seconds that one message may take."""

_SEVERITIES = {"malicious": 10, "suspicious": 8, "incomplete": 5, "clean": 3}
"""By verdict, of CEF's 0 to 10; what has none is the daemon's own."""
_OWN_SEVERITY = 6

_EXTENSIONS = {
    "file.path": "filePath",
    "file.size": "fsize",
    "file.hash.sha256": "fileHash",
    "dicomguard.record": "cs1",
    "rule.id": "cs2",
}
"""ECS names of what an event tells, and the keys of CEF's dictionary for them."""

_LABELS = {"cs1": "record", "cs2": "findings"}


class CefLines(logging.Formatter):
    """``CEF:0|dicomguard|dicomguard|version|event|name|severity|key=value …``."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line; nothing in it can end a field early."""
        ecs: dict[str, Any] = getattr(record, "ecs", {})
        event = ecs.get("event.action", "daemon")
        severity = _SEVERITIES.get(ecs.get("dicomguard.verdict", ""), _OWN_SEVERITY)
        told: dict[str, str] = {"rt": f"{record.created * 1000:.0f}"}
        for name, key in _EXTENSIONS.items():
            if value := ecs.get(name):
                told[key] = ",".join(value) if isinstance(value, list) else str(value)
                if key in _LABELS:
                    told[f"{key}Label"] = _LABELS[key]
        told["msg"] = record.getMessage()
        head = "|".join(
            _escaped(each, "|")
            for each in ("CEF:0", "dicomguard", "dicomguard", VERSION, event, event)
        )
        tail = " ".join(f"{key}={_escaped(value, '=')}" for key, value in told.items())
        return f"{head}|{severity}|{tail}"


class SyslogEvents(SysLogHandler):
    """Sends what is logged as a warning or worse, from a thread of its own.

    Args:
        address: Path of a socket (``/dev/log``), or ``PORT`` of the loopback address, or
            ``HOST:PORT`` for UDP.
        told: Called from that thread with the reason when messages begin to be lost, and with an
            empty text when they no longer are.

    Raises:
        DicomguardError: The address is wrong.
    """

    append_nul = False

    def __init__(self, address: str, told: Callable[[str], None]) -> None:
        self._told = told
        self._failed = self._failing = False
        self._waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="syslog")
        target = address if address.startswith("/") else host_and_port(address)
        super().__init__(target, SysLogHandler.LOG_DAEMON)
        self.ident = f"dicomguard[{os.getpid()}]: "
        self.setLevel(logging.WARNING)
        self.setFormatter(CefLines())

    def createSocket(self) -> None:  # noqa: N802 - the standard library's name
        """Connects; whoever does not read what he is sent holds up nobody for long."""
        super().createSocket()
        connection: socket.socket | None = getattr(self, "socket", None)
        if connection is not None:
            connection.settimeout(_PATIENCE)

    def emit(self, record: logging.LogRecord) -> None:
        """Has a record sent soon."""
        if self._waiting >= _MOST_WAITING:
            self._tell(f"{_MOST_WAITING} messages wait, others are lost")
            return
        self._waiting += 1
        self._executor.submit(self._send, record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - its name
        """Notes why a message could not be sent."""
        self._failed = True
        self._tell(f"messages are lost: {sys.exc_info()[1]}")

    def close(self) -> None:
        """Sends what waits, if it can be sent."""
        self._executor.shutdown(cancel_futures=self._failing)
        super().close()

    def _send(self, record: logging.LogRecord) -> None:
        self._waiting -= 1
        self._failed = False
        super().emit(record)
        if self._failing and not self._failed:
            self._tell("")

    def _tell(self, reason: str) -> None:
        self._failing = bool(reason)
        self._told(printable(reason))


def _escaped(text: str, separator: str) -> str:
    text = text.replace("\\", "\\\\").replace(separator, f"\\{separator}")
    return text.replace("\r", "\\r").replace("\n", "\\n")
