"""Whether a vault is sound: every record, every object, the audit trail, and what else is there."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from dicomguard.quarantine import objects
from dicomguard.quarantine.errors import DamagedError
from dicomguard.quarantine.folder import Folder
from dicomguard.quarantine.purge import PURGED_SUFFIX
from dicomguard.quarantine.record import Record
from dicomguard.quarantine.trail import (
    LONGEST_LINE,
    TRAIL_NAME,
    Action,
    Entry,
    lines_of,
    shared,
)
from dicomguard.quarantine.vault import OBJECT_SUFFIX, RECORD_SUFFIX, Vault
from dicomguard.quarantine.writer import HELD_SUFFIX, ORIGINAL_SUFFIX

_OBJECT_NAME = re.compile(rf"([0-9a-f]{{64}}){re.escape(OBJECT_SUFFIX)}")
_IN_HAND = (OBJECT_SUFFIX, HELD_SUFFIX, RECORD_SUFFIX, ORIGINAL_SUFFIX, PURGED_SUFFIX)
_COMING_AND_GOING = (Action.STORE, Action.STORE_UNDONE, Action.PURGE)
_UNFINISHED = "in hand, or left by an interruption: the daemon resolves it when it next starts"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a vault that is not as it should be.

    Attributes:
        path: In the vault; as hostile as any file name.
        what: What is wrong with it.
        is_damage: Whether something is lost or was tampered with, and not only left over.
    """

    path: str
    what: str
    is_damage: bool = True


class Verification:
    """One look at everything in a vault, beside which others may go on using it.

    Args:
        vault: Which.

    Attributes:
        records: Records looked at.
        objects: Objects looked at.
        bytes: Bytes that those decode to.
    """

    def __init__(self, vault: Vault) -> None:
        self.records = 0
        self.objects = 0
        self.bytes = 0
        self._vault = vault
        self._owner = os.fstat(vault.root.descriptor).st_uid
        self._told: dict[str, Entry] = {}
        self._trail_read = 0
        self._left_since: set[str] = set()
        self._needed_by: defaultdict[str, list[Record]] = defaultdict(list)

    def problems(self) -> Iterator[Problem]:
        """What is wrong, as it is found.

        Raises:
            OSError: The vault's folders cannot be listed.
        """
        vault = self._vault
        # What is listed under the lock belongs together, whatever happens to it afterwards.
        with shared(vault.root) as trail_size:
            records = vault.records.names()
            kept = vault.objects.names()
            pending = vault.pending.names()
        yield from self._check_root()
        yield from self._check_trail(trail_size)
        in_hand = {name.partition(".")[0] for name in pending if name.endswith(_IN_HAND)}
        yield from self._check_records(sorted(records), in_hand)
        yield from self._check_objects(sorted(kept), pending)
        for name in sorted(pending):
            is_known = name.endswith(_IN_HAND)
            what = _UNFINISHED if is_known else "is no file of a vault"
            yield Problem(f"pending/{name}", what, is_damage=not is_known)

    def _check_root(self) -> Iterator[Problem]:
        info = os.fstat(self._vault.root.descriptor)
        yield from self._check_kind(info, ".", stat.S_IFDIR)
        for name in ("objects", "records", "pending"):
            yield from self._check_kind(self._vault.root.stat(name), name, stat.S_IFDIR)
        for name in ("lock", TRAIL_NAME):
            if self._vault.root.exists(name):
                yield from self._check_kind(self._vault.root.stat(name), name, stat.S_IFREG)

    def _check_kind(self, info: os.stat_result, path: str, kind: int) -> Iterator[Problem]:
        """Whether something is of its kind, its owner's, and nobody else's to read."""
        if stat.S_IFMT(info.st_mode) != kind:
            yield Problem(path, f"is not a {'file' if kind == stat.S_IFREG else 'folder'}")
            return
        mode, expected = stat.S_IMODE(info.st_mode), 0o600 if kind == stat.S_IFREG else 0o700
        if mode != expected:
            yield Problem(path, f"has mode {mode:04o}, not {expected:04o}")
        if info.st_uid != self._owner:
            yield Problem(path, f"belongs to uid {info.st_uid}, the vault to {self._owner}")

    def _check_trail(self, size: int) -> Iterator[Problem]:
        """Reads the trail as far as it went, and keeps what it says of each record."""
        try:
            source = self._vault.root.open_to_read(TRAIL_NAME)
        except OSError as error:
            yield Problem(TRAIL_NAME, f"cannot be read: {error.strerror}")
            return
        with source:
            for number, line in enumerate(lines_of(source), 1):
                if self._trail_read >= size:
                    return
                self._trail_read += len(line)
                try:
                    entry = Entry.from_line(line)
                except ValueError as error:
                    yield Problem(TRAIL_NAME, f"line {number} cannot be read: {error}")
                    continue
                if entry.action in _COMING_AND_GOING:
                    self._told[entry.record] = entry
        left = size - self._trail_read
        if left >= LONGEST_LINE:
            yield Problem(TRAIL_NAME, "has a line of no end")
        elif left:
            yield Problem(TRAIL_NAME, "ends with a line that was cut short", is_damage=False)

    def _check_records(self, names: list[str], in_hand: set[str]) -> Iterator[Problem]:
        for name in names:
            path, record_id = f"records/{name}", name.removesuffix(RECORD_SUFFIX)
            if record_id == name:
                yield Problem(path, "is no record")
                continue
            self.records += 1
            told = self._told.pop(record_id, None)
            try:
                yield from self._check_kind(self._vault.records.stat(name), path, stat.S_IFREG)
                text = self._vault.record_text(record_id)
                self._take_note_of(Record.from_json(text), record_id)
            except FileNotFoundError:
                yield from self._missing(path, record_id)
                if told is not None:
                    self._left_since.add(told.sha256)
            except (OSError, ValueError) as error:
                yield Problem(path, f"cannot be read: {error}")
            else:
                yield from self._compare(path, text, told, is_in_hand=record_id in in_hand)
        for record_id, entry in self._told.items():
            if entry.action is Action.STORE:
                yield from self._missing(f"records/{record_id}{RECORD_SUFFIX}", record_id)

    def _take_note_of(self, record: Record, record_id: str) -> None:
        if record.id != record_id:
            raise ValueError("it is the record of another file")
        self._needed_by[record.sha256].append(record)

    def _compare(
        self, path: str, text: bytes, told: Entry | None, *, is_in_hand: bool
    ) -> Iterator[Problem]:
        """Whether a record is what the trail says that it is."""
        if told is not None and told.action is Action.STORE:
            if told.record_sha256 != hashlib.sha256(text).hexdigest():
                yield Problem(path, "is not what was written")
        elif is_in_hand:
            yield Problem(path, _UNFINISHED, is_damage=False)
        elif told is not None and told.action is Action.PURGE:
            yield Problem(path, "is there: its purge was interrupted", is_damage=False)
        else:
            yield Problem(path, "is not in the audit trail")

    def _check_objects(self, names: list[str], pending: list[str]) -> Iterator[Problem]:
        in_hand = set(_inodes(self._vault.pending, pending))
        for name in names:
            path, match = f"objects/{name}", _OBJECT_NAME.fullmatch(name)
            if match is None:
                yield Problem(path, "is no object")
                continue
            self.objects += 1
            yield from self._check_object(path, name, match[1], in_hand)
        for sha256, needed_by in self._needed_by.items():
            for record in needed_by:
                yield from self._missing(f"objects/{sha256}{OBJECT_SUFFIX}", record.id)

    def _check_object(
        self, path: str, name: str, sha256: str, in_hand: set[tuple[int, int]]
    ) -> Iterator[Problem]:
        needed_by = self._needed_by.pop(sha256, [])
        try:
            info = self._vault.objects.stat(name)
            yield from self._check_kind(info, path, stat.S_IFREG)
            with self._vault.objects.open_to_read(name) as source:
                size = objects.decode(source, sha256)
        except FileNotFoundError:
            for record in needed_by:
                yield from self._missing(path, record.id)
        except (OSError, DamagedError) as error:
            yield Problem(path, f"cannot be decoded: {error}")
        else:
            self.bytes += size
            for record in needed_by:
                if record.identity.size != size:
                    yield Problem(path, f"has {size} bytes, not as record {record.id} says")
            if not needed_by and (info.st_dev, info.st_ino) in in_hand:
                yield Problem(path, _UNFINISHED, is_damage=False)
            elif not needed_by and sha256 not in self._left_since:
                yield Problem(path, "is needed by no record that can be read")

    def _missing(self, path: str, record_id: str) -> Iterator[Problem]:
        """A problem, unless the record was purged or withdrawn since the vault was listed."""
        with suppress(OSError), self._vault.root.open_to_read(TRAIL_NAME) as source:
            source.seek(self._trail_read)
            for line in lines_of(source):
                with suppress(ValueError):
                    entry = Entry.from_line(line)
                    if entry.record == record_id and entry.action is not Action.STORE:
                        return
        yield Problem(path, f"of record {record_id} is missing")


def _inodes(folder: Folder, names: list[str]) -> Iterator[tuple[int, int]]:
    for name in names:
        with suppress(FileNotFoundError):
            info = folder.stat(name)
            yield info.st_dev, info.st_ino
