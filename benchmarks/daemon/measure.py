"""What the benchmarks of the daemon share: files to give it, and a look at its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures"
BAD = (FIXTURES / "malicious" / "pe-nested.dcm").read_bytes()
CLEAN = (FIXTURES / "clean" / "tiff.dcm").read_bytes()
DATE = b"20040826185059"
"""Part of the UIDs of both; another number makes another object."""

PAGE = os.sysconf("SC_PAGE_SIZE")


def numbered(number: int, *, bad: bool, size: int = 0) -> bytes:
    """A DICOM file.

    Args:
        number: Makes it another one.
        bad: Whether it hides a program.
        size: Bytes that it has at least, made up by Data Set Trailing Padding (PS3.10 section 7.2).
    """
    content = (BAD if bad else CLEAN).replace(DATE, b"2%013d" % number)
    missing = size - len(content) - 12
    if missing > 0:
        missing += missing % 2
        content += b"\xfc\xff\xfc\xffOB\0\0" + missing.to_bytes(4, "little") + bytes(missing)
    return content


class Daemon:
    """``dicomguard watch`` with its log in JSON, and the memory of all its processes.

    Args:
        root: A folder of its own.
        options: For the command line.
    """

    def __init__(self, root: Path, *options: str) -> None:
        self.ingest, self.vault = root / "ingest", root / "vault"
        self.delivered = root / "delivered"
        self.ingest.mkdir()
        self._log = root / "log"
        command = [sys.executable, "-m", "dicomguard", "watch", str(self.ingest)]
        command += ["--quarantine", str(self.vault), "--log", "json", "--log-paths", *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)  # noqa: S603
        self.peak: Counter[str] = Counter()
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()
        self._entries: list[dict[str, Any]] = []
        self._read_to = 0
        while not any("watching" in entry["message"] for entry in self.entries()):
            time.sleep(0.02)

    def entries(self) -> list[dict[str, Any]]:
        """The log so far."""
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            for line in log:
                if line.endswith(b"\n"):
                    self._read_to += len(line)
                    self._entries.append(json.loads(line))
        return self._entries

    def outcomes(self) -> dict[str, tuple[str, float]]:
        """What became of each file, and when (seconds since the epoch)."""
        return {
            entry["file.path"]: (
                entry["event.action"],
                datetime.fromisoformat(entry["@timestamp"]).timestamp(),
            )
            for entry in self.entries()
            if "file.path" in entry
        }

    def stop(self) -> None:
        """Ends the daemon."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self._ended.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.1):
            now: Counter[str] = Counter()
            for process in filter(str.isdecimal, os.listdir("/proc")):
                try:
                    if os.getpgid(int(process)) == self.process.pid:
                        now += _memory(process)
                except OSError:
                    continue
            for kind, size in now.items():
                self.peak[kind] = max(self.peak[kind], size)


def _memory(process: str) -> Counter[str]:
    """Bytes that a process has, in all and as its share of what it shares."""
    sizes: Counter[str] = Counter()
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("Rss", "Pss"):
            sizes[name] = int(value.split()[0]) << 10
    return sizes


def percentile(values: list[float], share: float) -> float:
    """The value that a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
