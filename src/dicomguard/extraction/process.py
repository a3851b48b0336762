"""The scan for payloads, in a process that has nothing to lose.

Hostile bytes are parsed there; here only their lengths and a typed message are read.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import msgspec

from dicomguard.errors import DicomguardError
from dicomguard.extraction.manifest import Manifest
from dicomguard.extraction.payloads import MOST_BYTES, Collector
from dicomguard.files import READ_FLAGS, identity_of
from dicomguard.model import FileIdentity
from dicomguard.sandbox import confine
from dicomguard.scan import ScanSettings, scan_file
from dicomguard.workers import MEMORY_PER_WORKER, SECONDS_PER_FILE


def extracted(path: str, settings: ScanSettings) -> tuple[Manifest, Iterator[bytes]]:
    """Scan a file in a process of its own, and have what was found sent over.

    Args:
        path: A regular file.
        settings: Rules and limits.

    Returns:
        What was found, and the contents of the payloads, in order.

    Raises:
        DicomguardError: The file could not be read, or the process died, took too long or needed
            too much memory; the iterator raises it as well.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, path, settings), daemon=True)
    process.start()
    theirs.close()
    messages = _messages(ours, path)
    try:
        manifest = msgspec.json.decode(next(messages), type=Manifest)
    except msgspec.DecodeError as error:
        raise DicomguardError(f"the extraction of {path} failed: {error}") from error
    if not manifest.sha256:
        raise DicomguardError(f"cannot extract from {path}: {'; '.join(manifest.unexamined)}")

    def contents() -> Iterator[bytes]:
        for payload in manifest.payloads:
            content = next(messages)
            if hashlib.sha256(content).hexdigest() != payload.sha256:
                raise DicomguardError(f"the extraction of {path} failed: a payload was altered")
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


def _serve(connection: Connection, path: str, settings: ScanSettings) -> None:
    """Scan, and send a manifest and the payloads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # how it failed is told by the other process
    _ = settings.pack
    confine(MEMORY_PER_WORKER)
    collector = Collector()
    report = scan_file(path, settings, collector)
    taken = collector.payloads(report.findings)
    manifest = Manifest(
        path=path.encode("utf-8", "backslashreplace").decode(),
        size=report.size,
        sha256=report.sha256 or _sha256(path, report.identity),
        verdict=str(report.verdict),
        unexamined=(*report.unexamined, *collector.limits),
        payloads=tuple(payload for payload, _ in taken),
    )
    connection.send_bytes(msgspec.json.encode(manifest))
    for _, content in taken:
        connection.send_bytes(content)


def _sha256(path: str, identity: FileIdentity | None) -> str:
    """The hash of a file that was scanned; empty if it was not, or is another by now."""
    if identity is None:
        return ""
    with open(os.open(path, READ_FLAGS), "rb") as stream:
        if identity_of(os.fstat(stream.fileno())) != identity:
            return ""
        return hashlib.file_digest(stream, "sha256").hexdigest()
