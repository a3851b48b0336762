"""The audit trail of a vault: who took, released or purged what, when and why.

``audit.jsonl`` holds one JSON object a line, and only ever grows. A line is on the disk before
what it tells of is done, so a crash between leaves a line about something that did not happen, and
never an act without a line; where an act fails, a second line says that it was undone. A last line
that a crash cut short told of nothing that was done: readers pass over it, and the next writer
removes it.

The lines name files by record and SHA-256 only. Neither paths nor DICOM values are in them, so
they hold no patient data unless somebody writes it into a reason.

Whoever changes anything that several processes share (records, objects, this trail) holds the lock
of the trail while doing so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import BinaryIO, Self

from dicomguard.quarantine.folder import Folder, lock

TRAIL_NAME = "audit.jsonl"
TRAIL_VERSION = 1
"""Version of a line's JSON; raised by every change that can break a reader."""

LONGEST_REASON = 1000
"""Characters that a reason may have."""

LONGEST_LINE = 64 << 10
"""Bytes that no line has, whatever is in it."""

_BLOCK = 64 << 10
_LOCK_SECONDS = 10.0
"""Nobody holds the lock for longer than some syncs take, unless the process was stopped."""
_NO_LOGIN = 2**32 - 1
"""What ``/proc/self/loginuid`` says of a process that no login led to (``credentials(7)``)."""


class Action(StrEnum):
    """What was done."""

    STORE = "store"
    STORE_UNDONE = "store-undone"
    RESTORE = "restore"
    RESTORE_UNDONE = "restore-undone"
    EXPORT = "export"
    EXPORT_UNDONE = "export-undone"
    PURGE = "purge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the trail.

    Attributes:
        at: ISO 8601, UTC.
        action: What was done.
        record: Id of the record it was done with.
        sha256: Of the original bytes, lower-case hex.
        reason: Why; for a store, the verdict and the ids of the findings.
        uid: Of the process.
        user: Name of that user, empty where it has none.
        login_uid: Of the login that led to the process, whatever ``sudo`` made of it (the kernel's
            audit id); None for a service.
        login_user: Name of that user.
        record_sha256: Of the record's file, for a store: what was written is what must be there.
        allowed_until: Until when the daemon lets these bytes pass, for a restore: ISO 8601, UTC,
            empty where it does not.
    """

    at: str
    action: Action
    record: str
    sha256: str
    reason: str
    uid: int
    user: str
    login_uid: int | None
    login_user: str
    record_sha256: str = ""
    allowed_until: str = ""

    @classmethod
    def now(
        cls,
        action: Action,
        record: str,
        sha256: str,
        reason: str,
        *,
        record_sha256: str = "",
        allowed_until: datetime | None = None,
    ) -> Self:
        """An entry of this moment and this process."""
        uid, login_uid = os.getuid(), _login_uid()
        return cls(
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            action=action,
            record=record,
            sha256=sha256,
            reason=reason[:LONGEST_REASON],
            uid=uid,
            user=_name_of(uid),
            login_uid=login_uid,
            login_user="" if login_uid is None else _name_of(login_uid),
            record_sha256=record_sha256,
            allowed_until="" if allowed_until is None else allowed_until.isoformat(),
        )

    def to_line(self) -> bytes:
        """The entry as it stands in the trail: ASCII, with its line end."""
        values = {"schema_version": TRAIL_VERSION, **asdict(self)}
        for name in ("record_sha256", "allowed_until"):
            if not values[name]:
                del values[name]
        return json.dumps(values).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The inverse of `to_line`.

        Raises:
            ValueError: It is no line of a version known here.
        """
        try:
            values = json.loads(line)
            if values["schema_version"] != TRAIL_VERSION:
                raise ValueError(f"line of version {values['schema_version']!r}")
            login_uid = values["login_uid"]
            allowed_until = str(values.get("allowed_until", ""))
            if allowed_until and datetime.fromisoformat(allowed_until).tzinfo is None:
                raise ValueError("a time without its zone")
            return cls(
                at=str(values["at"]),
                action=Action(values["action"]),
                record=str(values["record"]),
                sha256=str(values["sha256"]),
                reason=str(values["reason"]),
                uid=int(values["uid"]),
                user=str(values["user"]),
                login_uid=None if login_uid is None else int(login_uid),
                login_user=str(values["login_user"]),
                record_sha256=str(values.get("record_sha256", "")),
                allowed_until=allowed_until,
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("not a line of an audit trail") from error


class Trail:
    """The trail while its lock is held; made by `held`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever written."""
        return os.fstat(self._descriptor).st_size == 0

    def append(self, *entries: Entry) -> None:
        """Writes entries, all or none, and has them on the disk.

        Raises:
            OSError: They could not be written: what they tell of must not be done.
        """
        end = os.fstat(self._descriptor).st_size
        rest = memoryview(b"".join(entry.to_line() for entry in entries))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except BaseException:
            with suppress(OSError):  # then it is a last line cut short, or one about nothing done
                os.ftruncate(self._descriptor, end)
            raise

    def last_action(self, record_id: str) -> Action | None:
        """What was last done with a record; None where the trail does not know it."""
        mark = json.dumps(record_id).encode("ascii")
        for line in _lines_backwards(self._descriptor):
            if mark in line:
                with suppress(ValueError):  # a damaged line is for `verify` to tell of
                    entry = Entry.from_line(line)
                    if entry.record == record_id:
                        return entry.action
        return None

    def repair(self) -> None:
        """Removes a last line that was cut short."""
        end = os.fstat(self._descriptor).st_size
        last = next(_lines_backwards(self._descriptor), b"\n")
        if not last.endswith(b"\n"):
            os.ftruncate(self._descriptor, end - len(last))
            os.fsync(self._descriptor)


@contextmanager
def held(root: Folder) -> Iterator[Trail]:
    """The trail of a vault, to write to, while nobody else changes the vault.

    Args:
        root: The vault. The trail is made where there is none.

    Raises:
        OSError: The trail cannot be opened, or another process holds it for too long.
    """
    descriptor = os.open(
        TRAIL_NAME,
        os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        0o600,
        dir_fd=root.descriptor,
    )
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, f"{TRAIL_NAME} is not a regular file")
        _lock(descriptor, fcntl.LOCK_EX)
        trail = Trail(descriptor)
        if trail.is_empty:
            root.adopt(descriptor)
            root.sync()
        trail.repair()
        yield trail
    finally:
        os.close(descriptor)


@contextmanager
def shared(root: Folder) -> Iterator[int]:
    """Keeps others from changing the vault while it is listed; yields the size of the trail.

    Args:
        root: The vault. Without a trail nothing can be held, and the size is 0.

    Raises:
        OSError: Another process holds it for too long.
    """
    try:
        source = root.open_to_read(TRAIL_NAME)
    except OSError:
        yield 0
        return
    with source:
        _lock(source.fileno(), fcntl.LOCK_SH)
        yield os.fstat(source.fileno()).st_size


def _lock(descriptor: int, operation: int) -> None:
    try:
        lock(descriptor, operation, _LOCK_SECONDS)
    except BlockingIOError as error:
        raise TimeoutError(errno.ETIMEDOUT, f"another process keeps {TRAIL_NAME} locked") from error


def lines_of(source: BinaryIO) -> Iterator[bytes]:
    """The complete lines from a position on; a line too long to be one of ours ends it."""
    while (line := source.readline(LONGEST_LINE)).endswith(b"\n"):
        yield line


def _lines_backwards(descriptor: int) -> Iterator[bytes]:
    """The lines of a file with their ends, the last one first, which may have none."""
    position, rest = os.fstat(descriptor).st_size, b""
    while position:
        start = max(0, position - _BLOCK)
        block = os.pread(descriptor, position - start, start) + rest
        position = start
        rest, *lines = block.splitlines(keepends=True)
        yield from reversed(lines)
        if len(rest) > LONGEST_LINE:
            raise OSError(errno.EIO, f"{TRAIL_NAME} is damaged: it has a line of no end")
    if rest:
        yield rest


@cache
def _login_uid() -> int | None:
    try:
        number = int(Path("/proc/self/loginuid").read_bytes())
    except (OSError, ValueError):  # a kernel without auditing
        return None
    return None if number == _NO_LOGIN else number


@cache
def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
