"""Lines of log: for people, or JSON with the field names of the Elastic Common Schema (ECS)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dicomguard.config import WatchConfig
from dicomguard.reports.escape import printable
from dicomguard.version import VERSION

_ECS_VERSION = "8.11.0"


class TextLines(logging.Formatter):
    """Time in UTC and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


class EcsLines(logging.Formatter):
    """One JSON object a line.

    A record's attribute ``ecs`` is a mapping of further fields.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, all in ASCII."""
        fields: dict[str, Any] = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": _ECS_VERSION,
            "log.logger": record.name,
            "process.pid": record.process,
            "service.name": "dicomguard",
            "service.version": VERSION,
            **getattr(record, "ecs", {}),
        }
        if record.exc_info:
            fields["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_to_standard_error(kind: str) -> None:
    """Sends what the daemon logs to standard error.

    Args:
        kind: ``text``, ``json``, or ``auto``: text on a terminal, else JSON.
    """
    lines = logging.StreamHandler()
    lines.setFormatter(TextLines() if _is_for_people(kind) else EcsLines())
    for name, level in (("dicomguard", logging.INFO), ("watchdog", logging.WARNING)):
        log = logging.getLogger(name)
        for before in log.handlers[:]:
            if type(before) is logging.StreamHandler:
                log.removeHandler(before)
        log.addHandler(lines)
        log.setLevel(level)


def path_shower(config: WatchConfig) -> Callable[[str], str]:
    """How paths are shown: escaped, or as a hash that is the same for the same path."""
    whole = config.log_paths if config.log_paths is not None else _is_for_people(config.log)
    return printable if whole else _hashed


def _is_for_people(kind: str) -> bool:
    return kind == "text" or (kind == "auto" and sys.stderr.isatty())


def _hashed(path: str) -> str:
    return f"path:{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"
