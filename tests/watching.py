"""What the tests of the daemon share: the daemon as its users run it, and files to give it."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from dicomguard.model import FileIdentity
from dicomguard.quarantine import Vault

CLEAN = Path(get_testdata_file("CT_small.dcm")).read_bytes()
EXECUTABLE = resources.files("distlib").joinpath("t64.exe").read_bytes()
SECONDS = 30
"""Far longer than anything here takes; what waits for this has failed."""


def carrier(number, folder):
    """A DICOM file that hides a program in a private element; each number is another file."""
    path = folder / f"carrier{number}"
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    block = dataset.private_block(0x0099, "DICOMGUARD TEST", create=True)
    block.add_new(0x01, "IS", str(number))
    block.add_new(0x10, "OB", EXECUTABLE)
    dataset.save_as(path)
    return path.read_bytes()


def until(condition, what, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(0.02)


class Daemon:
    """``dicomguard watch`` as its users run it."""

    def __init__(self, ingest, vault, *options, prefix=(), config=None, log="text", env=None):
        self.log_path = ingest.parent / f"log{time.monotonic_ns()}"
        command = [*prefix, sys.executable, "-m", "dicomguard"]
        if config is not None:
            command += ["--config", config]
        command += ["watch", ingest, "--quarantine", vault, "--log", log, *options]
        if "--settle" not in options and config is None:
            command += ["--settle", "0.1"]
        with self.log_path.open("wb") as log_file:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=log_file,
                start_new_session=True,
                env=os.environ | (env or {}),
            )

    def __enter__(self):
        self.await_line("watching")
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)

    @property
    def log(self):
        return self.log_path.read_text(encoding="utf-8")

    @property
    def entries(self):
        """The lines of a log in JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def lines(self, *words):
        return [line for line in self.log.splitlines() if all(word in line for word in words)]

    def await_line(self, *words, count=1, seconds=SECONDS):
        def there():
            assert self.process.poll() is None, self.log
            return len(self.lines(*words)) >= count

        until(there, lambda: f"{count} lines with {words} in:\n{self.log[-2000:]}", seconds)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def run(*arguments, **settings):
    command = [sys.executable, "-m", "dicomguard", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, **settings)


def records_of(vault):
    with Vault(str(vault)) as opened:
        return [opened.record(record_id) for record_id in opened.ids()]


def facts(path):
    """Whatever a touch of a file would change, but its access time."""
    info = path.lstat()
    return path.read_bytes(), info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_mode


def identity(number):
    return FileIdentity(device=1, inode=2**64 - 1, size=3, mtime_ns=4, ctime_ns=number)
