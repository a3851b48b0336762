"""The scan for payloads, in a process that has nothing to lose.

Hostile bytes are parsed there; here only their lengths and a typed message are read.
"""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
import os
import stat
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any

import msgspec

from dicomguard.dicom.layout import Data
from dicomguard.errors import DicomguardError
from dicomguard.extraction.manifest import Manifest
from dicomguard.extraction.payloads import MOST_BYTES, Collector
from dicomguard.files import READ_FLAGS
from dicomguard.sandbox import confine
from dicomguard.scan import scan_bytes
from dicomguard.settings import ScanSettings
from dicomguard.workers import MEMORY_PER_WORKER, SECONDS_PER_FILE

Extracted = tuple[Manifest, Iterator[bytes]]
"""What was found, and the contents of the payloads, in order.

The iterator raises what `extracted` does.
"""


def extracted(path: str, settings: ScanSettings) -> Extracted:
    """Scan a file in a process of its own, and have what was found sent over.

    Args:
        path: A regular file; a symbolic link is none.
        settings: Rules and limits.

    Raises:
        DicomguardError: The file could not be read, or the process died, took too long or needed
            too much memory.
    """
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError as error:
        raise DicomguardError(f"cannot extract from {path}: {error.strerror}") from error
    try:
        return extracted_from(descriptor, path, settings)
    finally:
        os.close(descriptor)


def extracted_from(descriptor: int, name: str, settings: ScanSettings) -> Extracted:
    """The same of an open file, which may have no name.

    Args:
        descriptor: The file; it stays the caller's.
        name: What the manifest calls it.
        settings: Rules and limits.

    Raises:
        DicomguardError: As `extracted`.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise DicomguardError(f"cannot extract from {name}: not a regular file")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with theirs:
        process = context.Process(target=_Search(descriptor, name, settings, theirs), daemon=True)
        process.start()
    messages = _messages(ours, name)
    try:
        manifest = msgspec.json.decode(next(messages), type=Manifest)
    except msgspec.DecodeError as error:
        raise DicomguardError(f"the extraction of {name} failed: {error}") from error

    def contents() -> Iterator[bytes]:
        for payload in manifest.payloads:
            content = next(messages)
            if hashlib.sha256(content).hexdigest() != payload.sha256:
                raise DicomguardError(f"the extraction of {name} failed: a payload was altered")
            yield content
        process.join()

    return manifest, contents()


def _messages(connection: Connection, path: str) -> Iterator[bytes]:
    """What the process sends, as long as it lives and its time is not up."""
    deadline = time.monotonic() + SECONDS_PER_FILE
    while connection.poll(max(0.0, deadline - time.monotonic())):
        try:
            yield connection.recv_bytes(MOST_BYTES)
        except (EOFError, OSError) as error:
            raise DicomguardError(
                f"the extraction of {path} failed: its process died, or needed more than"
                f" {MEMORY_PER_WORKER >> 20} MiB"
            ) from error
    raise DicomguardError(f"the extraction of {path} took longer than {SECONDS_PER_FILE} s")


class _Search:
    """What the process does: scan, and send a manifest and the payloads."""

    def __init__(
        self, descriptor: int, name: str, settings: ScanSettings, connection: Connection
    ) -> None:
        self._descriptor = descriptor
        self._name = name
        self._settings = settings
        self._connection = connection

    def __getstate__(self) -> tuple[Any, ...]:
        """Sent to a new process, with a descriptor that is the same file there."""
        return DupFd(self._descriptor), self._name, self._settings, self._connection

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        descriptor, self._name, self._settings, self._connection = state
        self._descriptor = descriptor.detach()

    def __call__(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # how it failed is told by the other process
        _ = self._settings.pack
        confine(MEMORY_PER_WORKER)
        size = os.fstat(self._descriptor).st_size
        if not size:
            self._send(b"")
            return
        with mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ) as data:
            self._send(data)

    def _send(self, data: Data) -> None:
        collector = Collector()
        report = scan_bytes(data, self._name, self._settings, collector)
        taken = collector.payloads(report.findings)
        manifest = Manifest(
            path=self._name.encode("utf-8", "backslashreplace").decode(),
            size=report.size,
            sha256=report.sha256 or hashlib.sha256(data).hexdigest(),
            verdict=str(report.verdict),
            unexamined=(*report.unexamined, *collector.limits),
            payloads=tuple(payload for payload, _ in taken),
        )
        self._connection.send_bytes(msgspec.json.encode(manifest))
        for _, content in taken:
            self._connection.send_bytes(content)
