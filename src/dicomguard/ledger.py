"""Files that need not be examined again: of a run that was stopped, and content known as clean.

A ledger is a file of lines, only ever appended to, that holds for one version of rules and
settings: under another it begins anew. A line that was cut by a crash is not believed. What is in
it are digests, never paths or anything of a patient. Who could write to it could hide malware, so
it is read only if nobody else can.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from dicomguard.discover import Candidate
from dicomguard.errors import DicomguardError
from dicomguard.model import Report, Verdict
from dicomguard.settings import ScanSettings
from dicomguard.version import VERSION

_SECONDS = 2.0
"""How long what is new may wait for the disk."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class _Ledger:
    """Lines after a first one that says what they hold for.

    Args:
        path: The file; it is made if there is none.
        kind: What the lines are about.
        settings: What they hold for.

    Raises:
        DicomguardError: It cannot be read or written, or others could write to it.
    """

    def __init__(self, path: Path, kind: str, settings: ScanSettings) -> None:
        self.path = path
        holds_for = f"{settings.rules_version} {settings.pack.engine} {settings.strict}"
        first = f"dicomguard {VERSION} {kind} {holds_for} {settings.budgets}\n".encode()
        try:
            descriptor = os.open(path, _FLAGS, 0o600)
            self._stream = os.fdopen(descriptor, "r+b")
            info = os.fstat(descriptor)
            if (
                not stat.S_ISREG(info.st_mode)
                or info.st_uid != os.geteuid()
                or info.st_mode & 0o022
            ):
                msg = (
                    f"{path} is not a file that only you can write to: chmod go-w, or name another"
                )
                raise DicomguardError(msg)
            lines = self._stream.readlines()
            if lines[:1] != [first]:
                if lines and not lines[0].startswith(b"dicomguard "):
                    raise DicomguardError(f"{path} was not written by this option: name another")
                self._stream.truncate(0)
                lines = [first]
                self._stream.write(first)
            elif not lines[-1].endswith(b"\n"):
                self._stream.write(b"\n")
        except OSError as error:
            raise DicomguardError(f"cannot use {path}: {error.strerror}") from error
        self._lines = [line.strip().decode("ascii", "replace") for line in lines[1:]]
        self._synced = time.monotonic()

    def close(self) -> None:
        """Have all of it on the disk."""
        self._sync()
        self._stream.close()

    def _known(self) -> Iterator[str]:
        """The lines that were there, once."""
        lines, self._lines = self._lines, []
        yield from lines

    def _append(self, line: str) -> None:
        self._stream.write(f"{line}\n".encode("ascii"))
        if time.monotonic() - self._synced > _SECONDS:
            self._sync()

    def _sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


class Cache(_Ledger):
    """Content that was clean under these rules, by its SHA-256.

    Attributes:
        clean: The digests, in hexadecimal.
    """

    def __init__(self, path: Path, settings: ScanSettings) -> None:
        super().__init__(path, "clean content", settings)
        self.clean = frozenset(line for line in self._known() if len(line) == 64)

    def add(self, report: Report) -> None:
        """Remember the content of a file if it is clean with nothing suppressed."""
        is_clean = report.verdict is Verdict.CLEAN and not report.suppressed
        if is_clean and report.sha256 and report.sha256 not in self.clean:
            self._append(report.sha256)


class Progress(_Ledger):
    """Files that a run has reported, for one that goes on where it was stopped.

    A file that has changed since is examined again.

    Attributes:
        verdicts: Of those files, in order.
    """

    def __init__(self, path: Path, settings: ScanSettings) -> None:
        super().__init__(path, "progress", settings)
        self._done: set[str] = set()
        self.verdicts: list[Verdict] = []
        verdicts = {str(verdict): verdict for verdict in Verdict}
        for line in self._known():
            digest, _, verdict = line.partition(" ")
            if verdict in verdicts and digest not in self._done:
                self._done.add(digest)
                self.verdicts.append(verdicts[verdict])

    def has(self, candidate: Candidate) -> bool:
        """Whether the file was reported, as it is now."""
        return bool(self._done) and _identity(candidate) in self._done

    def add(self, candidate: Candidate, report: Report) -> None:
        """Remember a file that has been reported."""
        self._append(f"{_identity(candidate)} {report.verdict}")

    def finish(self) -> None:
        """Forget all: the run has come to its end, and the next one starts anew."""
        os.unlink(self.path)


class Ledgers:
    """The cache and the progress of a run, either of which there may be.

    Args:
        cache: File of the cache.
        state: File of the progress.
        settings: Of the run.

    Attributes:
        settings: The same, knowing what is clean.
        verdicts: Of the files that were reported before.

    Raises:
        DicomguardError: A file cannot be used.
    """

    def __init__(self, cache: Path | None, state: Path | None, settings: ScanSettings) -> None:
        self._cache = Cache(cache, settings) if cache else None
        self._progress = Progress(state, settings) if state else None
        self.verdicts = self._progress.verdicts if self._progress else []
        self.settings = settings
        if self._cache:
            self.settings = replace(settings, known_clean=self._cache.clean, hash_clean=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for each in (self._cache, self._progress):
            if each:
                each.close()

    def has(self, candidate: Candidate) -> bool:
        """Whether the file was reported before, as it is now."""
        return self._progress is not None and self._progress.has(candidate)

    def add(self, candidate: Candidate, report: Report) -> None:
        """Remember a file that has been reported."""
        if self._cache:
            self._cache.add(report)
        if self._progress:
            self._progress.add(candidate, report)

    def finish(self) -> None:
        """The run has come to its end: the next one starts anew."""
        if self._progress:
            self._progress.finish()


def _identity(candidate: Candidate) -> str:
    import hashlib  # noqa: PLC0415 - slow to load, and most runs keep no ledger

    text = f"{os.path.abspath(candidate.path)}\0{candidate.size}\0{candidate.changed}"
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()
