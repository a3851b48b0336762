"""The vault: where files go that must not stay.

A vault is a folder of mode 0700 that one daemon at a time stores into::

    lock                    held (flock) by the daemon
    objects/<sha256>.cart   the bytes, neutralised as CaRT; one object for equal content
    records/<id>.json       what happened to one file; never changed once written
    pending/<id>.*          work in hand, empty while nothing is being done
    audit.jsonl             who took, released or purged what, when and why; only ever grows

A record exists for every file that the vault took, its object exists, and both are on the disk
before the original goes: `dicomguard.quarantine.writer` says how. Any number of processes may read,
release and purge beside the daemon.

Nothing here follows a symbolic link, and no file is opened by anything but its name in a folder
that is already open.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Self

from dicomguard.quarantine import objects
from dicomguard.quarantine.allowed import AllowList
from dicomguard.quarantine.errors import DamagedError, VaultError
from dicomguard.quarantine.folder import Folder
from dicomguard.quarantine.record import Record
from dicomguard.quarantine.trail import Action, Entry, Trail, held
from dicomguard.reports.escape import printable

OBJECT_SUFFIX = ".cart"
RECORD_SUFFIX = ".json"

LARGEST_RECORD = 64 << 20
"""Bytes; records are far smaller."""


class Vault:
    """A vault as those use it who list, release or purge what is in it.

    Args:
        path: The vault, made by a `VaultWriter`.

    Attributes:
        folder: Its path.
        root: The vault as a folder.
        objects: ``objects`` in it.
        records: ``records`` in it.
        pending: ``pending`` in it.

    Raises:
        VaultError: There is no vault there, or it may not be read.
    """

    def __init__(self, path: str) -> None:
        self.folder = path
        with ExitStack() as stack:
            try:
                self.root = Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                stack.callback(self.root.close)
                self.objects, self.records, self.pending = (
                    self._opened(stack, name) for name in ("objects", "records", "pending")
                )
            except OSError as error:
                raise VaultError(
                    f"{printable(path)} cannot be opened as a quarantine vault: {error.strerror}"
                ) from error
            self._resources = stack.pop_all()
        self._allow_list = AllowList(self.root)

    def _opened(self, stack: ExitStack, name: str) -> Folder:
        folder = self.root.subfolder(name)
        stack.callback(folder.close)
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the vault's folders."""
        self._resources.close()

    def ids(self) -> list[str]:
        """The ids of all records, oldest first."""
        return sorted(
            name.removesuffix(RECORD_SUFFIX)
            for name in self.records.names()
            if name.endswith(RECORD_SUFFIX)
        )

    def record(self, record_id: str) -> Record:
        """The record of a full id, or of the beginning of one where no other id begins so.

        Raises:
            VaultError: No record, or more than one, has an id that begins so.
            DamagedError: The record cannot be read.
        """
        ids = self.ids()
        matches = [record_id] if record_id in ids else [i for i in ids if i.startswith(record_id)]
        if not record_id or not matches:
            raise VaultError(f"no record {printable(record_id)!r} in {printable(self.folder)}")
        if len(matches) > 1:
            raise VaultError(
                f"{len(matches)} records begin with {printable(record_id)!r}: "
                f"{matches[0]}, {matches[1]}{', …' if len(matches) > 2 else ''}"
            )
        return self.read_record(matches[0])

    def read_record(self, record_id: str) -> Record:
        """The record of a full id.

        Raises:
            VaultError: There is none.
            DamagedError: It cannot be read, or is another one's.
        """
        try:
            record = Record.from_json(self.record_text(record_id))
        except FileNotFoundError as error:
            raise VaultError(f"no record {record_id} in {printable(self.folder)}") from error
        except (OSError, ValueError) as error:
            raise DamagedError(f"record {record_id} cannot be read: {error}") from error
        if record.id != record_id:
            raise DamagedError(f"record {record_id} is that of another file")
        return record

    def record_text(self, record_id: str) -> bytes:
        """A record as it was written.

        Raises:
            OSError: There is none, it is too large to be one, or it cannot be read.
        """
        return self.records.read(record_id + RECORD_SUFFIX, LARGEST_RECORD)

    def verify(self, record: Record) -> None:
        """Raises `DamagedError` unless the record's object decodes to the original bytes."""
        self.decode(record)

    def decode(self, record: Record, target: BinaryIO | None = None) -> None:
        """Writes a record's original bytes.

        Args:
            record: Of this vault.
            target: Where the bytes go; nowhere if None.

        Raises:
            DamagedError: The object is missing, no CaRT, or decodes to other bytes.
            OSError: It cannot be read, or the target not be written.
        """
        with self.opened_object(record) as source:
            size = objects.decode(source, record.sha256, size=record.identity.size, target=target)
        if size != record.identity.size:
            raise DamagedError(f"record {record.id} is damaged: its file had {size} bytes")

    def opened_object(self, record: Record) -> BinaryIO:
        """Opens a record's object.

        Raises:
            DamagedError: It is missing.
            OSError: It cannot be opened.
        """
        try:
            return self.objects.open_to_read(record.sha256 + OBJECT_SUFFIX)
        except FileNotFoundError as error:
            raise DamagedError(f"object {record.sha256} is missing") from error

    def is_allowed(self, sha256: str | None) -> bool:
        """Whether bytes may pass though something was found in them: they were restored lately.

        Args:
            sha256: Of the bytes, lower-case hex; None, where it is not known, is not allowed.
        """
        return sha256 is not None and self._allow_list.allows(sha256)

    @contextmanager
    def changing(self) -> Iterator[Trail]:
        """The audit trail, and the right to change records and objects meanwhile.

        Raises:
            OSError: The trail cannot be written, or another process holds it for too long.
        """
        with held(self.root) as trail:
            if trail.is_empty:
                trail.append(*map(self._known_before, self.ids()))
            yield trail

    def _known_before(self, record_id: str) -> Entry:
        """The line of a record that is older than the trail."""
        sha256 = record_sha256 = ""
        with suppress(OSError, ValueError):  # a damaged record is for `verify` to tell of
            text = self.record_text(record_id)
            record_sha256 = hashlib.sha256(text).hexdigest()
            sha256 = Record.from_json(text).sha256
        return Entry.now(
            Action.STORE,
            record_id,
            sha256,
            "was in the vault when its trail began",
            record_sha256=record_sha256,
        )
