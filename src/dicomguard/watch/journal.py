"""What the daemon remembers of the files that stay, so that none is scanned twice for nothing."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from dicomguard.errors import DicomguardError
from dicomguard.model import FileIdentity
from dicomguard.reports.escape import printable

_VERSION = 1
_SCHEMA = """
DROP TABLE IF EXISTS scope;
DROP TABLE IF EXISTS outcome;
CREATE TABLE scope (text TEXT NOT NULL);
CREATE TABLE outcome (
    folder BLOB NOT NULL,
    name BLOB NOT NULL,
    identity TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
"""

_log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a file that is still in the ingest folder."""

    CLEAN = "clean"
    """Scanned and clean."""
    KEPT = "kept"
    """Could not be examined completely, and stays because the daemon was told so."""
    SKIPPED = "skipped"
    """Not a regular file: never opened."""


@dataclass(frozen=True, slots=True)
class Known:
    """An outcome, and the file it is true of: as long as that is unchanged."""

    fingerprint: str
    outcome: Outcome

    def is_of(self, identity: FileIdentity) -> bool:
        """Whether the outcome is that of a file with this identity."""
        return self.fingerprint == _fingerprint(identity)


class Journal:
    """A small SQLite database, one row for each file that stays.

    It is a memory, not a ledger: what is lost from it costs a second scan. So a journal that is
    damaged, of another version, or about another folder or other rules, starts anew, and a write
    that fails (a full disk) is logged and does not stop the daemon. Paths are kept as bytes,
    relative to the ingest folder, which has the empty path. One daemon at a time can have it open.

    Args:
        path: The database; its folder exists.
        scope: The ingest folder and the rules that the outcomes hold for.

    Raises:
        DicomguardError: Another daemon has it open, or it cannot be opened.
    """

    def __init__(self, path: Path, scope: str) -> None:
        try:
            try:
                self._database = _opened(path)
            except sqlite3.OperationalError:
                raise  # locked, or not to be opened: no reason to throw it away
            except sqlite3.DatabaseError as error:
                _log.warning("the journal is damaged (%s): every file is scanned again", error)
                path.unlink()
                self._database = _opened(path)
            self._limit_to(scope)
        except (sqlite3.Error, OSError) as error:
            raise DicomguardError(
                f"the journal {printable(str(path))} cannot be used: {error}; "
                "does another daemon use it?"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def known(self, folder: str, name: str) -> Known | None:
        """What is remembered of one file."""
        row = self._database.execute(
            "SELECT identity, outcome FROM outcome WHERE folder = ? AND name = ?",
            (os.fsencode(folder), os.fsencode(name)),
        ).fetchone()
        return None if row is None else Known(row[0], Outcome(row[1]))

    def known_in(self, folder: str) -> dict[str, Known]:
        """What is remembered of the files of one folder, by name."""
        rows = self._database.execute(
            "SELECT name, identity, outcome FROM outcome WHERE folder = ?", (os.fsencode(folder),)
        )
        return {os.fsdecode(name): Known(text, Outcome(outcome)) for name, text, outcome in rows}

    def remember(self, folder: str, name: str, identity: FileIdentity, outcome: Outcome) -> None:
        """Notes what became of a file, in place of what was noted of its name before."""
        self._write(
            "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)",
            [(os.fsencode(folder), os.fsencode(name), _fingerprint(identity), outcome)],
        )

    def forget(self, folder: str, names: Iterable[str]) -> None:
        """Drops files that are no longer there."""
        self._write(
            "DELETE FROM outcome WHERE folder = ? AND name = ?",
            [(os.fsencode(folder), os.fsencode(name)) for name in names],
        )

    def forget_other_folders(self, folders: Collection[str]) -> None:
        """Drops the files of all folders but these."""
        known = [row[0] for row in self._database.execute("SELECT DISTINCT folder FROM outcome")]
        self._write(
            "DELETE FROM outcome WHERE folder = ?",
            [(folder,) for folder in known if os.fsdecode(folder) not in folders],
        )

    def _limit_to(self, scope: str) -> None:
        if [(scope,)] != self._database.execute("SELECT text FROM scope").fetchall():
            with self._database:
                self._database.execute("DELETE FROM outcome")
                self._database.execute("DELETE FROM scope")
                self._database.execute("INSERT INTO scope VALUES (?)", (scope,))

    def _write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        try:
            with self._database:
                self._database.executemany(statement, rows)
        except sqlite3.OperationalError as error:
            _log.warning("the journal cannot be written, files may be scanned twice: %s", error)


def _opened(path: Path) -> sqlite3.Connection:
    # SQLite gives its other files the permissions of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, timeout=0)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            database.executescript(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("DELETE FROM outcome WHERE 0")  # takes the lock now
        database.commit()
    except BaseException:
        database.close()
        raise
    return database


def _fingerprint(identity: FileIdentity) -> str:
    # Text, because a device or inode number can be larger than SQLite's integers.
    return (
        f"{identity.device}:{identity.inode}:{identity.size}"
        f":{identity.mtime_ns}:{identity.ctime_ns}"
    )
