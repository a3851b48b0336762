"""How a file gets into the vault, and what becomes of work that a crash interrupted.

`VaultWriter.store` goes through these steps. What a crash (power loss included) after each leaves,
and what the next opening of the vault makes of it:

=================================================  ==============================================
after the step                                     the next `VaultWriter`
=================================================  ==============================================
1. object written to ``pending/<id>.cart`` and     forgets it; the original is untouched
   read back (or, where an equal object is there,
   that one read back and linked to
   ``pending/<id>.held``)
2. record written to ``pending/<id>.json``         forgets both; the original is untouched
3. object linked into ``objects``                  removes the object too, unless a record needs it
4. record linked into ``records``                  **committed**: finishes the steps below
5. line written to the audit trail                 (writes the line if it is not there)
6. original renamed to ``pending/<id>.original``   deletes it if its bytes are the object's, else
   (unlinked at once on another file system)       puts it back where it came from
7. original deleted, its folder synced             (the same again)
8. marker ``pending/<id>.json`` removed            has nothing to do
=================================================  ==============================================

Up to step 6 everything can be undone, and is where anything fails: the original is removed only
while it is the very file that was scanned (same inode, size and times); else the record is
withdrawn and the file is left to be scanned again. From then on the vault answers for the file,
and what fails is done later. What cannot be put back, because its place was taken in the meantime,
is taken into the vault with a record of its own. So the bytes are at every moment in the ingest
folder or in the vault, and a file has one record however often the daemon dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import stat
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from msgspec.structs import replace

from dicomguard.files import (
    ChangedError,
    ScannedFile,
    identity_of,
    opened_folder,
    rename_without_overwriting,
    same_but_ctime,
    sync_folder,
)
from dicomguard.model import Report, Verdict
from dicomguard.quarantine import objects
from dicomguard.quarantine.errors import DamagedError, VaultError
from dicomguard.quarantine.folder import Folder, lock
from dicomguard.quarantine.purge import finish_purge
from dicomguard.quarantine.record import Record
from dicomguard.quarantine.trail import Action, Entry
from dicomguard.quarantine.vault import LARGEST_RECORD, OBJECT_SUFFIX, RECORD_SUFFIX, Vault
from dicomguard.reports.escape import printable

HELD_SUFFIX = ".held"
ORIGINAL_SUFFIX = ".original"

_log = logging.getLogger(__name__)


class VaultWriter(Vault):
    """The vault as the one daemon opens it that may store into it.

    Opening creates the vault where there is none, takes its lock, and resolves what an
    interrupted predecessor left (see the module).

    Args:
        path: The vault; its parent must exist. A folder that exists must be empty or a vault.
        rules_version: What the records say of the rules.

    Raises:
        VaultError: Another daemon has the vault, or it cannot be made.
    """

    def __init__(self, path: str, *, rules_version: str) -> None:
        self.rules_version = rules_version
        self._unfinished: set[str] = set()
        lock_descriptor = _create_and_lock(path)
        try:
            super().__init__(path)
            self._resources.callback(os.close, lock_descriptor)
        except BaseException:
            os.close(lock_descriptor)
            raise
        try:
            self._recover()
        except OSError as error:
            self.close()
            raise VaultError(f"{printable(path)} cannot be used: {error.strerror}") from error

    def store(self, file: ScannedFile, report: Report) -> Record:
        """Takes a file into the vault: object and record are durable before the original goes.

        Args:
            file: What was scanned.
            report: What was found in it.

        Raises:
            ChangedError: It is not what was scanned any more. The file is where it was, and the
                vault as it was.
            OSError: The disk is full, a permission is missing, … The same holds; where even that
                cannot be, it will before the next file is stored, or when the vault is next opened.
        """
        for record_id in tuple(self._unfinished):
            self._resolve(record_id)
        record_id = _new_id()
        with file.opened() as descriptor:
            try:
                record = self._prepare(record_id, file, descriptor, report)
                with self.changing() as trail:
                    self._commit(record)
                    trail.append(_stored(record, record.to_bytes()))
                self._take(record_id, file)
            except BaseException:
                with suppress(OSError):  # said by then, and tried again before the next file
                    self._undo(record_id, others=False)
                raise
        self._let_go(record_id, file.folder)
        return record

    # The steps

    def _prepare(
        self, record_id: str, file: ScannedFile, descriptor: int, report: Report
    ) -> Record:
        """Steps 1 and 2: the object and the record, complete and durable, not yet in force."""
        sha256 = self._prepare_object(record_id, file, descriptor, report.sha256)
        # The copy is the file that was scanned if that still is unchanged after copying.
        file.require_unchanged(descriptor)
        if report.sha256 not in (None, sha256):
            raise ChangedError(file.path)
        record = Record.of(
            record_id,
            file,
            os.fstat(descriptor),
            replace(report, sha256=sha256),
            rules_version=self.rules_version,
        )
        with self.pending.created(record_id + RECORD_SUFFIX) as target:
            target.write(record.to_bytes())
        self.pending.sync()
        return record

    def _prepare_object(
        self, record_id: str, file: ScannedFile, descriptor: int, expected: str | None
    ) -> str:
        """Step 1; answers the SHA-256 of the original bytes."""
        size = file.identity.size
        with os.fdopen(os.dup(descriptor), "rb") as source:
            source.seek(0)
            if expected is not None and self._hold_equal(record_id, expected, size):
                return _sha256(source)
            name = record_id + OBJECT_SUFFIX
            with self.pending.created(name) as target:
                sha256 = objects.encode(source, target)
        with self.pending.open_to_read(name) as written:
            try:
                objects.decode(written, sha256, size=size)
            except DamagedError as error:
                file.require_unchanged(descriptor)
                raise OSError(errno.EIO, "the object does not read back as written") from error
        return sha256

    def _hold_equal(self, record_id: str, sha256: str, size: int) -> bool:
        """Whether the vault has a sound object of such bytes; it is kept from being purged then."""
        held = record_id + HELD_SUFFIX
        try:
            self.objects.link(sha256 + OBJECT_SUFFIX, self.pending, held)
            with self.pending.open_to_read(held) as source:
                objects.decode(source, sha256, size=size)
        except (FileNotFoundError, DamagedError):
            self.pending.unlink(held)
            return False
        return True

    def _commit(self, record: Record) -> None:
        """Steps 3 and 4: from here on the vault answers for the file."""
        written, final = record.id + OBJECT_SUFFIX, record.sha256 + OBJECT_SUFFIX
        held = record.id + HELD_SUFFIX
        if self.pending.exists(held) and not self.objects.exists(final):
            self.pending.rename(held, self.pending, written)  # it was purged a moment ago
        if self.pending.exists(written):
            try:
                self.pending.link(written, self.objects, final)
            except FileExistsError:  # nobody knows how sound that is; the one just written is
                self.pending.rename(written, self.objects, final)
        self.objects.sync()
        name = record.id + RECORD_SUFFIX
        self.pending.link(name, self.records, name)
        self.records.sync()

    def _take(self, record_id: str, file: ScannedFile) -> None:
        """Step 6: the original leaves its place, if it still is what was scanned.

        Within a file system the name is first moved out of everyone's reach and looked at there,
        so that a file which took the name a moment ago is never deleted in the other's place.
        """
        parked = record_id + ORIGINAL_SUFFIX
        try:
            Folder(file.folder).rename(file.name, self.pending, parked)
        except FileNotFoundError as error:
            raise ChangedError(file.path) from error
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            file.remove()
        else:
            # The renaming itself changes the ctime.
            if not same_but_ctime(self.pending.stat(parked), file.identity):
                raise ChangedError(file.path)

    def _let_go(self, record_id: str, ingest: int) -> None:
        """Steps 7 and 8: what fails here is done before the next file, or at the next opening."""
        try:
            self.pending.unlink(record_id + ORIGINAL_SUFFIX)
            os.fsync(ingest)
            self._clear(record_id)
        except OSError as error:
            self._postpone(record_id, error)

    def _clear(self, record_id: str) -> None:
        """Ends the work on a file: the marker goes last."""
        for suffix in (OBJECT_SUFFIX, HELD_SUFFIX, RECORD_SUFFIX):
            self.pending.unlink(record_id + suffix)

    def _postpone(self, record_id: str, error: Exception) -> None:
        self._unfinished.add(record_id)
        _log.warning("what is left of storing %s stays in the vault for now: %r", record_id, error)

    # The way back

    def _undo(self, record_id: str, *, others: bool = True) -> None:
        """Makes it as if the file had never been touched; the opposite of `store`.

        Args:
            record_id: The work to undo, whichever step it came to.
            others: Whether files may have been stored since, and share the object.

        Raises:
            OSError: The record could not be withdrawn. It is tried again before anything else is
                stored, lest the file have two.
        """
        try:
            draft = self._draft(record_id)
            if draft is not None:
                self._withdraw(draft, others=others)
        except OSError as error:
            self._postpone(record_id, error)
            raise
        try:
            if draft is None or self._put_back(draft):
                self._clear(record_id)
        except (OSError, ChangedError) as error:
            self._postpone(record_id, error)

    def _withdraw(self, draft: Record, *, others: bool) -> None:
        """Takes the record out of force, and its object out of the vault."""
        name = draft.id + RECORD_SUFFIX
        brought = self._brought_object(draft)
        if not brought and not self.records.exists(name):
            return
        with self.changing() as trail:
            if trail.last_action(draft.id) is Action.STORE:
                trail.append(
                    Entry.now(Action.STORE_UNDONE, draft.id, draft.sha256, "it could not be taken")
                )
            if self.records.unlink(name):
                self.records.sync()
            if brought and not (others and self._needed(draft.sha256)):
                self.objects.unlink(draft.sha256 + OBJECT_SUFFIX)
                self.objects.sync()

    def _brought_object(self, draft: Record) -> bool:
        """Whether the object came into the vault with this very file: it is the file written."""
        try:
            written = self.pending.stat(draft.id + OBJECT_SUFFIX)
            kept = self.objects.stat(draft.sha256 + OBJECT_SUFFIX)
        except FileNotFoundError:
            return False
        return os.path.samestat(written, kept)

    def _put_back(self, record: Record) -> bool:
        """Returns what is parked to its place, or into the vault where that is taken.

        Returns:
            Whether nothing is parked any more. What has no content that could be taken in (a
            link, a folder) stays, until the next opening of the vault finds its place free.
        """
        parked = record.id + ORIGINAL_SUFFIX
        parent, name = os.path.split(record.original_path)
        with suppress(FileNotFoundError, NotADirectoryError), opened_folder(parent) as folder:
            _original(record, folder).give_back()
        try:
            info = self.pending.stat(parked)
        except FileNotFoundError:
            return True
        try:
            with opened_folder(parent) as folder:
                rename_without_overwriting(self.pending.descriptor, parked, folder, name)
                os.fsync(folder)
        except OSError as error:
            if not stat.S_ISREG(info.st_mode):
                _log.warning("what took the name of %s stays in the vault: %r", record.id, error)
                return False
            stray = ScannedFile(
                folder=self.pending.descriptor,
                name=parked,
                path=record.original_path,
                identity=identity_of(info),
            )
            reason = "took the name of a quarantined file and could not be put back"
            self.store(
                stray,
                Report(
                    path=record.original_path,
                    size=info.st_size,
                    verdict=Verdict.INCOMPLETE,
                    unexamined=(reason,),
                ),
            )
        return True

    # After an interruption

    def _recover(self) -> None:
        """Resolves what interrupted work left in ``pending``, one file after the other."""
        with self.changing():
            finish_purge(self)
        for record_id in sorted({name.partition(".")[0] for name in self.pending.names()}):
            with suppress(OSError):
                self._resolve(record_id)

    def _resolve(self, record_id: str) -> None:
        """Finishes the work on a file if it was committed, else undoes it.

        Raises:
            OSError: A record that must not stay could not be withdrawn.
        """
        self._unfinished.discard(record_id)
        try:
            draft = self._draft(record_id)
            stands = (
                draft is not None
                and self.records.exists(record_id + RECORD_SUFFIX)
                and self._finish(draft)
            )
            if stands:
                self._clear(record_id)
                return
        except OSError as error:
            self._postpone(record_id, error)
            return
        self._undo(record_id)

    def _finish(self, record: Record) -> bool:
        """Goes through what is left of the steps of a committed record; whether it stands.

        Raises:
            OSError: That cannot be known now.
        """
        self.records.sync()
        with self.changing() as trail:
            if trail.last_action(record.id) is not Action.STORE:
                trail.append(_stored(record, self.record_text(record.id)))
        parent, name = os.path.split(record.original_path)
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(opened_folder(parent))
                _original(record, folder).give_back()
            except (FileNotFoundError, NotADirectoryError):
                folder = None  # it went, and what was in it
            if self.pending.exists(record.id + ORIGINAL_SUFFIX):
                stands = self._finish_parked(record)
            else:
                stands = folder is None or self._finish_in_place(record, folder, name)
            if stands and folder is not None:
                os.fsync(folder)
            return stands

    def _finish_parked(self, record: Record) -> bool:
        parked = record.id + ORIGINAL_SUFFIX
        if not stat.S_ISREG(self.pending.stat(parked).st_mode) or not self._is_sound(record):
            return False
        with self.pending.open_to_read(parked) as source:
            if _sha256(source) != record.sha256:
                return False
        return self.pending.unlink(parked)

    def _finish_in_place(self, record: Record, folder: int, name: str) -> bool:
        """Takes what is at the original's place, if it is the original.

        Device and inode are no help here: a network share may have others after a restart.
        """
        try:
            identity = identity_of(Folder(folder).stat(name))
        except FileNotFoundError:
            return True
        original = record.identity
        if (identity.size, identity.mtime_ns) != (original.size, original.mtime_ns):
            return True
        file = ScannedFile(folder=folder, name=name, path=record.original_path, identity=identity)
        try:
            with file.opened() as descriptor, os.fdopen(os.dup(descriptor), "rb") as source:
                if _sha256(source) != record.sha256:
                    return True
                if not self._is_sound(record):
                    return False
                self._take(record.id, file)
        except ChangedError:
            # Another file by now, which must be put back if it was taken.
            return not self.pending.exists(record.id + ORIGINAL_SUFFIX)
        self.pending.unlink(record.id + ORIGINAL_SUFFIX)
        return True

    def _is_sound(self, record: Record) -> bool:
        try:
            self.verify(record)
        except DamagedError:
            return False
        return True

    def _draft(self, record_id: str) -> Record | None:
        """The record in hand; None where its writing was interrupted."""
        try:
            return Record.from_json(self.pending.read(record_id + RECORD_SUFFIX, LARGEST_RECORD))
        except (FileNotFoundError, ValueError):
            return None

    def _needed(self, sha256: str) -> bool:
        """Whether any record refers to an object; one that cannot be read may."""
        for record_id in self.ids():
            try:
                if self.read_record(record_id).sha256 == sha256:
                    return True
            except DamagedError:
                return True
        return False


def _sha256(source: BufferedReader) -> str:
    return hashlib.file_digest(source, "sha256").hexdigest()


def _original(record: Record, folder: int) -> ScannedFile:
    """The file that a record is of, in its folder."""
    name = os.path.basename(record.original_path)
    path = record.original_path
    return ScannedFile(folder=folder, name=name, path=path, identity=record.identity)


def _stored(record: Record, text: bytes) -> Entry:
    ids = dict.fromkeys(str(finding.get("id")) for finding in record.findings)
    return Entry.now(
        Action.STORE,
        record.id,
        record.sha256,
        f"{record.verdict}: {', '.join(ids)}",
        record_sha256=hashlib.sha256(text).hexdigest(),
    )


def _create_and_lock(path: str) -> int:
    """Makes sure of a vault's folders and answers the descriptor that holds its lock."""
    vault = Path(path)
    try:
        try:
            vault.mkdir(mode=0o700)
        except FileExistsError:
            if not (vault / "lock").exists() and any(vault.iterdir()):
                raise VaultError(
                    f"{printable(path)} is neither a quarantine vault nor empty"
                ) from None
            vault.chmod(0o700)
        with suppress(PermissionError):
            sync_folder(vault.parent)  # also what a predecessor made that died a moment later
        descriptor = os.open(
            vault / "lock", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            lock(descriptor, fcntl.LOCK_EX, 0)
            for name in ("objects", "records", "pending"):
                (vault / name).mkdir(mode=0o700, exist_ok=True)
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError as error:
        raise VaultError(f"another daemon is writing to the vault {printable(path)}") from error
    except OSError as error:
        raise VaultError(
            f"{printable(path)} cannot be made a quarantine vault: {error.strerror}"
        ) from error
    return descriptor


def _new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"
