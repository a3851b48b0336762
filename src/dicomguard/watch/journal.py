"""What the daemon remembers: which files it has in hand, and what became of each."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from msgspec.structs import astuple

from dicomguard.errors import DicomguardError
from dicomguard.files import same_but_ctime, sync_folder
from dicomguard.model import FileIdentity
from dicomguard.reports.escape import printable

MOST_HISTORY = 1_000_000
"""Rows of history that are kept at most, whatever their age."""

_VERSION = 2
_SCHEMA = f"""
BEGIN;
PRAGMA user_version = {_VERSION};
CREATE TABLE scope (text TEXT NOT NULL);
CREATE TABLE outcome (
    folder BLOB NOT NULL,
    name BLOB NOT NULL,
    identity TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE claim (
    folder BLOB NOT NULL,
    name BLOB NOT NULL,
    identity TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE history (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    folder BLOB NOT NULL,
    name BLOB NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX history_at ON history (at);
COMMIT;
"""

_log = logging.getLogger(__name__)


class JournalError(Exception):
    """The journal cannot be written now; what was to be written is kept, and is next time."""


class Outcome(StrEnum):
    """What became of a file that is still in the ingest folder."""

    CLEAN = "clean"
    """Scanned and clean, or allowed by whoever restored it."""
    KEPT = "kept"
    """Could not be examined completely, and stays because the daemon was told so."""
    SKIPPED = "skipped"
    """Not a regular file: never opened."""
    TOO_LARGE = "too large"
    """Larger than the daemon is told to open."""


@dataclass(frozen=True, slots=True)
class Known:
    """An outcome, and the file it is true of: as long as that is unchanged."""

    fingerprint: str
    outcome: Outcome

    def is_of(self, identity: FileIdentity) -> bool:
        """Whether the outcome is that of a file with this identity."""
        return self.fingerprint == _fingerprint(identity)


class Claim(NamedTuple):
    """A file that was in hand when the daemon died.

    Attributes:
        path: Relative to the ingest folder.
        identity: What it was.
        attempts: How often it was handed to a worker since it last came through a scan; 0 if it
            was scanned, and the daemon died before it was acted upon or that was journalled.
        at: When it was claimed, in seconds since the epoch.
    """

    path: str
    identity: FileIdentity
    attempts: int
    at: float

    def is_at(self, info: os.stat_result | None) -> bool:
        """Whether it is where it was."""
        return info is not None and same_but_ctime(info, self.identity)

    def is_moved_to(self, info: os.stat_result | None) -> bool:
        """Whether a file elsewhere can be what became of it: size and modification time agree."""
        return info is not None and (info.st_size, info.st_mtime_ns) == (
            self.identity.size,
            self.identity.mtime_ns,
        )


class Journal:
    """A small SQLite database, durable (WAL, synced) with every `commit`.

    ``outcome`` has a row for each file that stays in the ingest folder, so that none is scanned
    twice for nothing; it holds for one folder and one set of rules, its scope. ``claim`` has a row
    for each file in hand. ``history`` has one for each file that was acted upon, and is pruned.
    Paths are bytes relative to the ingest folder, which itself has the empty path.

    What is written counts at once for this journal, and survives a crash after `commit`. A journal
    that is damaged or of another version starts anew, which costs a second scan of what stays.
    One daemon at a time can have it open; others may read it with ``sqlite3 -readonly``.

    Args:
        folder: Where it lies; made where there is none, its parent must exist.

    Raises:
        DicomguardError: Another daemon has it open, or it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "watch.sqlite"
        self._waiting: list[tuple[str, tuple[object, ...]]] = []
        self._failed = False
        with ExitStack() as stack:
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                lock = os.open(folder / "watch.lock", flags, 0o600)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._database = _opened(self.path)
                stack.callback(self._database.close)
                # Names that are new, or were when a predecessor died a moment later.
                sync_folder(folder)
                with suppress(PermissionError):
                    sync_folder(folder.parent)
            except BlockingIOError as error:
                msg = f"another daemon uses the journal {printable(str(self.path))}"
                raise DicomguardError(msg) from error
            except (sqlite3.Error, OSError) as error:
                msg = f"the journal {printable(str(self.path))} cannot be used: {error}"
                raise DicomguardError(msg) from error
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    # What stays

    def known(self, path: str) -> Known | None:
        """What is remembered of one file."""
        row = self._database.execute(
            "SELECT identity, outcome FROM outcome WHERE folder = ? AND name = ?",
            _key(path),
        ).fetchone()
        return None if row is None else Known(row[0], Outcome(row[1]))

    def known_among(self, folder: str, names: Sequence[str]) -> dict[str, Known]:
        """What is remembered of some files of one folder, by name; at most 1,000 names."""
        marks = ",".join("?" * len(names))
        rows = self._database.execute(
            f"SELECT name, identity, outcome FROM outcome WHERE folder = ? AND name IN ({marks})",  # noqa: S608 - nothing but marks
            (os.fsencode(folder), *map(os.fsencode, names)),
        )
        return {os.fsdecode(name): Known(text, Outcome(outcome)) for name, text, outcome in rows}

    def count_in(self, folder: str) -> int:
        """How many files of one folder are remembered."""
        query = "SELECT count(*) FROM outcome WHERE folder = ?"
        return int(self._database.execute(query, (os.fsencode(folder),)).fetchone()[0])

    def names_in(self, folder: str) -> Iterator[list[str]]:
        """The names of the files of one folder that are remembered, 1,000 at a time."""
        last = b""
        while rows := self._database.execute(
            "SELECT name FROM outcome WHERE folder = ? AND name > ? ORDER BY name LIMIT 1000",
            (os.fsencode(folder), last),
        ).fetchall():
            yield [os.fsdecode(name) for (name,) in rows]
            last = rows[-1][0]

    def folders(self) -> list[str]:
        """The folders of which any file is remembered."""
        rows = self._database.execute("SELECT DISTINCT folder FROM outcome")
        return [os.fsdecode(folder) for (folder,) in rows]

    def remember(self, path: str, identity: FileIdentity, outcome: Outcome) -> None:
        """Notes what became of a file that stays; it is no longer in hand."""
        row = (*_key(path), _fingerprint(identity), outcome)
        self._write("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)", row)
        self.release(path)

    def forget(self, folder: str, names: Iterable[str]) -> None:
        """Drops files that are no longer there."""
        for name in names:
            row = (os.fsencode(folder), os.fsencode(name))
            self._write("DELETE FROM outcome WHERE folder = ? AND name = ?", row)

    def forget_folder(self, folder: str) -> None:
        """Drops all files of a folder that is no longer there."""
        self._write("DELETE FROM outcome WHERE folder = ?", (os.fsencode(folder),))

    def limit_to(self, scope: str) -> None:
        """Drops every outcome unless they were found in this scope.

        Args:
            scope: The ingest folder and the rules that the outcomes hold for.
        """
        if [(scope,)] != self._database.execute("SELECT text FROM scope").fetchall():
            self._write("DELETE FROM outcome")
            self._write("DELETE FROM scope")
            self._write("INSERT INTO scope VALUES (?)", (scope,))

    # What is in hand, and what was done

    def claim(self, path: str, identity: FileIdentity, attempts: int) -> None:
        """Notes that a file is handed to a worker, for which time (see `Claim.attempts`)."""
        row = (*_key(path), _fingerprint(identity), attempts, time.time())
        self._write("INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?)", row)

    def scanned(self, path: str) -> None:
        """Notes that the claimed file has come through its scan."""
        self._write("UPDATE claim SET attempts = 0 WHERE folder = ? AND name = ?", _key(path))

    def release(self, path: str) -> None:
        """Gives a file back: it is no longer in hand."""
        self._write("DELETE FROM claim WHERE folder = ? AND name = ?", _key(path))

    def acted(self, path: str, outcome: str, detail: str) -> None:
        """Notes what was done with a file that is gone from the ingest folder by now."""
        folder, name = _key(path)
        row = (time.time(), folder, name, outcome, detail)
        self._write("INSERT INTO history VALUES (NULL, ?, ?, ?, ?, ?)", row)
        self._write("DELETE FROM outcome WHERE folder = ? AND name = ?", (folder, name))
        self.release(path)

    def claims(self) -> list[Claim]:
        """The files in hand, oldest first."""
        rows = self._database.execute("SELECT * FROM claim ORDER BY at")
        return [
            Claim(
                os.path.join(os.fsdecode(folder), os.fsdecode(name)),
                _identity(fingerprint),
                attempts,
                at,
            )
            for folder, name, fingerprint, attempts, at in rows
        ]

    def prune(self, before: float) -> None:
        """Drops history older than a time (seconds since the epoch) or beyond `MOST_HISTORY`."""
        (last,) = self._database.execute("SELECT max(number) FROM history").fetchone()
        self._write("DELETE FROM history WHERE at < ?", (before,))
        self._write("DELETE FROM history WHERE number <= ?", ((last or 0) - MOST_HISTORY,))

    def oldest(self) -> float | None:
        """When the oldest row of history was written, seconds since the epoch; None if none is."""
        found: float | None = self._database.execute("SELECT min(at) FROM history").fetchone()[0]
        return found

    def size(self) -> int:
        """Bytes on the disk, with what is not yet in the database proper."""
        paths = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(path.stat().st_size for path in paths if path.exists())

    # Writing

    def commit(self) -> None:
        """Makes durable what was written since the last time.

        Raises:
            JournalError: The disk is full, …: none of it is written, and the next commit tries
                all of it again.
        """
        if not self._waiting:
            return
        try:
            if self._failed:
                for statement, row in self._waiting:
                    self._database.execute(statement, row)
            self._database.commit()
        except sqlite3.Error as error:
            self._fail()
            raise JournalError(str(error)) from error
        self._waiting.clear()
        self._failed = False

    def _write(self, statement: str, row: tuple[object, ...] = ()) -> None:
        self._waiting.append((statement, row))
        if not self._failed:
            try:
                self._database.execute(statement, row)
            except sqlite3.Error:
                self._fail()  # and `commit` says so

    def _fail(self) -> None:
        self._failed = True
        self._database.rollback()


def _opened(path: Path) -> sqlite3.Connection:
    """The database, empty if there was none or if it is of no use.

    Raises:
        sqlite3.OperationalError: It cannot be opened: that is no reason to throw it away.
    """
    try:
        return _connected(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        _log.warning("the journal starts anew, files that stay are scanned again: %s", error)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    # SQLite gives its other files the permissions of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path)
    try:
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(_SCHEMA)
        _require_sound(database)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except BaseException:
        database.close()
        raise
    return database


def _require_sound(database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        raise sqlite3.DatabaseError(f"it is of version {version}, not {_VERSION}")
    (health,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        raise sqlite3.DatabaseError(health)


def _fingerprint(identity: FileIdentity) -> str:
    """An identity as text, because a device or inode number can exceed SQLite's integers."""
    return ":".join(map(str, astuple(identity)))


def _identity(fingerprint: str) -> FileIdentity:
    device, inode, size, mtime_ns, ctime_ns = map(int, fingerprint.split(":"))
    return FileIdentity(device=device, inode=inode, size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns)


def _key(path: str) -> tuple[bytes, bytes]:
    folder, name = os.path.split(path)
    return os.fsencode(folder), os.fsencode(name)
