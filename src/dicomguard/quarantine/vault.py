"""The vault: where files go that must not stay.

A vault is a folder of mode 0700 that one daemon at a time writes::

    lock                    held (flock) by the daemon that writes
    objects/<sha256>.cart   the bytes, neutralised as CaRT; one object for equal content
    records/<id>.json       what happened to one file; never changed once written
    pending/<id>.*          work in hand, empty while nothing is being stored

A record exists for every file that the vault took, its object exists, and both are on the disk
before the original goes. `VaultWriter.store` goes through these steps; what a crash (power loss
included) after each leaves, and what the next opening makes of it:

=================================================  ==============================================
after the step                                     the next `VaultWriter`
=================================================  ==============================================
1. object written to ``pending/<id>.cart``         forgets it; the original is untouched
2. record written to ``pending/<id>.json``         forgets both; the original is untouched
3. object linked into ``objects``                  removes the object too, unless a record needs it
4. record linked into ``records``                  **committed**: finishes the steps below
5. original renamed to ``pending/<id>.original``   deletes it if its bytes are the object's, else
   (unlinked at once on another file system)       puts it back where it came from
6. original deleted                                removes the marker ``pending/<id>.json``
=================================================  ==============================================

Between 4 and 6 the original is removed only while it is the very file that was scanned (same
inode, size and times) and the object decodes to its hash; else the record is withdrawn and the
file is left to be scanned again. What cannot be put back, because its place was taken in the
meantime, is taken into the vault with a record of its own. So the bytes are at every moment in
the ingest folder or in the vault, and a file has one record however often the daemon dies.

Nothing here follows a symbolic link, and no file is opened by anything but its name in a folder
that is already open.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

import cart

from dicomguard.errors import DicomguardError
from dicomguard.files import (
    FOLDER_FLAGS,
    READ_FLAGS,
    ChangedError,
    ScannedFile,
    identity_of,
    opened_folder,
    same_but_ctime,
)
from dicomguard.model import Report, Verdict
from dicomguard.quarantine.record import Record
from dicomguard.reports.escape import printable
from dicomguard.reports.jsonl import finding_to_json
from dicomguard.version import VERSION

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNDECODABLE = (
    cart.InvalidCARTException,
    cart.InvalidARC4KeyException,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
)
"""What `cart` raises for an object that was tampered with; an `OSError` is the disk's."""

_log = logging.getLogger(__name__)


class VaultError(DicomguardError):
    """The vault cannot do what was asked of it."""


class DamagedError(VaultError):
    """A record or an object is not what was written."""


class Vault:
    """A vault to read from; any number of readers may work beside the one writer.

    Args:
        folder: The vault, made by a `VaultWriter`.

    Raises:
        VaultError: There is no vault there, or it may not be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with ExitStack() as stack:
            try:
                root = _kept_open(stack, os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
                self._objects = _kept_open(stack, os.open("objects", FOLDER_FLAGS, dir_fd=root))
                self._records = _kept_open(stack, os.open("records", FOLDER_FLAGS, dir_fd=root))
                self._pending = _kept_open(stack, os.open("pending", FOLDER_FLAGS, dir_fd=root))
            except OSError as error:
                raise VaultError(
                    f"{printable(folder)} cannot be opened as a quarantine vault: {error.strerror}"
                ) from error
            self._resources = stack.pop_all()

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
            name.removesuffix(".json") for name in _names(self._records) if name.endswith(".json")
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
        try:
            return Record.from_json(_read_all(self._records, f"{matches[0]}.json"))
        except (OSError, ValueError) as error:
            raise DamagedError(f"record {matches[0]} cannot be read: {error}") from error

    def verify(self, record: Record) -> None:
        """Raises `DamagedError` unless the record's object decodes to the original bytes."""
        self._decode(record.sha256, record.identity.size, None)

    def restore(self, record: Record, target: str | None = None) -> str:
        """Writes the original bytes back, never over anything; the vault keeps its copy.

        The file gets its modification time back, and its permissions without those to execute.

        Args:
            record: What to restore.
            target: Path of the file to create; the original path where None.

        Returns:
            The path of the restored file.

        Raises:
            DamagedError: The object is not the original bytes; nothing is left at the target.
            VaultError: The target exists, or its folder does not, or cannot be written.
        """
        path = record.original_path if target is None else target
        parent, name = os.path.split(path)
        self.verify(record)
        try:
            # The original's folder is as hostile as it was, so no link may lead elsewhere by now;
            # of a target that the user names, the links are the user's own.
            with opened_folder(parent if target is None else os.path.realpath(parent)) as folder:
                self._create(record, folder, name)
        except FileExistsError as error:
            raise VaultError(f"{printable(path)} exists; a restore overwrites nothing") from error
        except OSError as error:
            raise VaultError(f"cannot restore to {printable(path)}: {error.strerror}") from error
        return path

    def _create(self, record: Record, folder: int, name: str) -> None:
        """Decodes into a new file, which is gone again if anything fails."""
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as target:
                self._decode(record.sha256, record.identity.size, target)
                target.flush()
                os.fchmod(descriptor, record.mode & 0o666)
                os.utime(descriptor, ns=(record.identity.mtime_ns, record.identity.mtime_ns))
                os.fsync(descriptor)
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
        os.fsync(folder)

    def _decode(self, sha256: str, size: int, target: BinaryIO | None) -> None:
        """Decodes an object, into nothing where there is no target.

        Raises:
            DamagedError: The object is missing, no CaRT, or decodes to other bytes.
        """
        checked = _CheckedOutput(target, size)
        try:
            descriptor = os.open(f"{sha256}.cart", READ_FLAGS, dir_fd=self._objects)
            with os.fdopen(descriptor, "rb") as source:
                cart.unpack_stream(source, checked)
        except FileNotFoundError as error:
            raise DamagedError(f"object {sha256} is missing") from error
        except _UNDECODABLE as error:
            raise DamagedError(f"object {sha256} is damaged: {error}") from error
        if checked.sha256.hexdigest() != sha256:
            raise DamagedError(f"object {sha256} is damaged: its bytes have another SHA-256")


class VaultWriter(Vault):
    """The vault as the one daemon opens it that may write to it.

    Opening creates the vault where there is none, takes its lock, and resolves what an
    interrupted predecessor left (see the module).

    Args:
        folder: The vault; its parent must exist. A folder that exists must be empty or a vault.
        rules_version: What the records say of the rules.

    Raises:
        VaultError: Another daemon has the vault, or it cannot be made.
    """

    def __init__(self, folder: str, *, rules_version: str) -> None:
        self.rules_version = rules_version
        lock = _create_and_lock(folder)
        try:
            super().__init__(folder)
            self._resources.callback(os.close, lock)
        except BaseException:
            os.close(lock)
            raise
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def store(self, file: ScannedFile, report: Report) -> Record:
        """Takes a file into the vault: object and record are durable before the original goes.

        Args:
            file: What was scanned.
            report: What was found in it.

        Raises:
            ChangedError: It is not what was scanned any more. The file is where it was, and the
                vault as it was.
            OSError: The disk is full, a permission is missing, … The same holds.
        """
        record_id = _new_id()
        with file.opened() as descriptor:
            try:
                record = self._write_pending(record_id, file, descriptor, report)
                self._commit(record)
                self._take(record_id, file)
            except BaseException:
                self._withdraw(record_id)
                raise
        self._clear(record_id)
        return record

    def _write_pending(
        self, record_id: str, file: ScannedFile, descriptor: int, report: Report
    ) -> Record:
        """Steps 1 and 2: the object and the record, complete and durable, not yet in force."""
        sha256 = self._encode(descriptor, f"{record_id}.cart")
        # The copy is the file that was scanned if that still is unchanged after copying.
        file.require_unchanged(descriptor)
        if report.sha256 not in (None, sha256):
            raise ChangedError(file.path)
        info = os.fstat(descriptor)
        record = Record(
            id=record_id,
            original_path=file.path,
            sha256=sha256,
            identity=file.identity,
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            quarantined_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            verdict=report.verdict,
            instance=report.instance,
            findings=tuple(finding_to_json(finding) for finding in report.findings),
            unexamined=report.unexamined,
            rules_version=self.rules_version,
            dicomguard_version=VERSION,
        )
        text = json.dumps(record.to_json(), indent=2).encode("ascii") + b"\n"
        with _created(f"{record_id}.json", self._pending) as target:
            target.write(text)
        os.fsync(self._pending)
        return record

    def _encode(self, descriptor: int, name: str) -> str:
        """Writes the neutralised bytes of a file; answers the SHA-256 of the original bytes."""
        digest = hashlib.sha256()
        with (
            os.fdopen(os.dup(descriptor), "rb") as source,
            _created(name, self._pending) as target,
        ):
            source.seek(0)
            cart.pack_stream(source, target, auto_digests=(lambda: digest,))
        return digest.hexdigest()

    def _commit(self, record: Record) -> None:
        """Steps 3 and 4: from here on the vault answers for the file."""
        written, final = f"{record.id}.cart", f"{record.sha256}.cart"
        try:
            os.link(written, final, src_dir_fd=self._pending, dst_dir_fd=self._objects)
        except FileExistsError:
            try:
                self.verify(record)
            except DamagedError:
                # An object that is not its name's content is no loss; the one just written is.
                os.rename(written, final, src_dir_fd=self._pending, dst_dir_fd=self._objects)
        os.fsync(self._objects)
        name = f"{record.id}.json"
        os.link(name, name, src_dir_fd=self._pending, dst_dir_fd=self._records)
        os.fsync(self._records)

    def _take(self, record_id: str, file: ScannedFile) -> None:
        """Steps 5 and 6: the original goes, if it still is what was scanned.

        Within a file system the name is first moved out of everyone's reach and looked at there,
        so that a file which took the name a moment ago is never deleted in the other's place.
        """
        parked = f"{record_id}.original"
        try:
            os.rename(file.name, parked, src_dir_fd=file.folder, dst_dir_fd=self._pending)
        except FileNotFoundError as error:
            raise ChangedError(file.path) from error
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            file.unlink()
        else:
            info = os.stat(parked, dir_fd=self._pending, follow_symlinks=False)
            if not same_but_ctime(info, file.identity):  # the renaming itself changes the ctime
                raise ChangedError(file.path)
            os.unlink(parked, dir_fd=self._pending)
        os.fsync(file.folder)

    def _withdraw(self, record_id: str, *, check_others: bool = False) -> None:
        """Makes it as if the file had never been touched; the opposite of `store`.

        What fails here stays in ``pending`` and is tried again when the vault is next opened.

        Args:
            record_id: The work to undo, whichever step it came to.
            check_others: Whether files may have been stored since, and share the object.
        """
        try:
            draft = self._draft(record_id)
            if draft is not None:
                self._put_back(draft)
                if _unlink(f"{record_id}.json", self._records):
                    os.fsync(self._records)
                if self._brought_object(draft) and not (check_others and self._needed(draft)):
                    _unlink(f"{draft.sha256}.cart", self._objects)
                    os.fsync(self._objects)
            self._clear(record_id)
        except (OSError, ChangedError) as error:
            _log.warning("what is left of storing %s stays in the vault: %r", record_id, error)

    def _clear(self, record_id: str) -> None:
        """Ends the work on a file: the marker goes last."""
        _unlink(f"{record_id}.cart", self._pending)
        _unlink(f"{record_id}.json", self._pending)

    def _recover(self) -> None:
        """Resolves what interrupted work left in ``pending``, one file after the other."""
        for record_id in sorted({name.partition(".")[0] for name in _names(self._pending)}):
            draft = self._draft(record_id)
            committed = _exists(f"{record_id}.json", self._records)
            if committed and draft is not None and self._finish(draft):
                self._clear(record_id)
            else:
                self._withdraw(record_id, check_others=True)

    def _finish(self, record: Record) -> bool:
        """Whether a committed record stands: its original is gone, or could be removed now."""
        try:
            self.verify(record)
        except DamagedError:
            return False
        parked = f"{record.id}.original"
        if not _exists(parked, self._pending):
            return self._finish_taking(record)
        if not self._is_content_of(parked, record):
            return False
        os.unlink(parked, dir_fd=self._pending)
        return True

    def _finish_taking(self, record: Record) -> bool:
        parent, name = os.path.split(record.original_path)
        try:
            with opened_folder(parent) as folder:
                file = ScannedFile(
                    folder=folder, name=name, path=record.original_path, identity=record.identity
                )
                with file.opened():
                    self._take(record.id, file)
        except (ChangedError, FileNotFoundError, NotADirectoryError):
            # Gone, as it should be; or another file by now, which will be scanned in its turn and
            # must be put back if it was taken.
            return not _exists(f"{record.id}.original", self._pending)
        except OSError:
            return False  # it cannot be removed; it will be scanned and stored again
        return True

    def _put_back(self, record: Record) -> None:
        """Returns what is parked to its place, or into the vault where that is taken."""
        parked = f"{record.id}.original"
        try:
            info = os.stat(parked, dir_fd=self._pending, follow_symlinks=False)
        except FileNotFoundError:
            return
        parent, name = os.path.split(record.original_path)
        try:
            with opened_folder(parent) as folder:
                _move_without_overwriting(parked, self._pending, name, folder, info)
                os.fsync(folder)
        except OSError:
            if not stat.S_ISREG(info.st_mode):
                raise  # it stays parked: there is no content to take in
            stray = ScannedFile(
                folder=self._pending,
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

    def _draft(self, record_id: str) -> Record | None:
        """The record in hand; None where its writing was interrupted."""
        try:
            return Record.from_json(_read_all(self._pending, f"{record_id}.json"))
        except (FileNotFoundError, ValueError):
            return None

    def _brought_object(self, draft: Record) -> bool:
        """Whether the object came into the vault with this very file: it is the file written."""
        try:
            written = os.stat(f"{draft.id}.cart", dir_fd=self._pending)
            kept = os.stat(f"{draft.sha256}.cart", dir_fd=self._objects)
        except FileNotFoundError:
            return False
        return os.path.samestat(written, kept)

    def _needed(self, draft: Record) -> bool:
        """Whether any record refers to the draft's object; one that cannot be read may."""
        for record_id in self.ids():
            try:
                if self.record(record_id).sha256 == draft.sha256:
                    return True
            except DamagedError:
                return True
        return False

    def _is_content_of(self, parked: str, record: Record) -> bool:
        try:
            descriptor = os.open(parked, READ_FLAGS, dir_fd=self._pending)
        except OSError:
            return False  # a symbolic link or a socket
        with os.fdopen(descriptor, "rb") as source:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            return hashlib.file_digest(source, "sha256").hexdigest() == record.sha256


class _CheckedOutput:
    """Where `cart` writes what it decodes: hashed, and bounded by the size that was recorded."""

    def __init__(self, target: BinaryIO | None, size: int) -> None:
        self.sha256 = hashlib.sha256()
        self._target = target
        self._left = size

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it decodes to more bytes than were recorded")
        self.sha256.update(data)
        if self._target is not None:
            self._target.write(data)
        return len(data)


def _create_and_lock(folder: str) -> int:
    """Makes sure of a vault's folders and answers the descriptor that holds its lock."""
    path = Path(folder)
    try:
        try:
            path.mkdir(mode=0o700)
            _sync_folder(path.parent)
        except FileExistsError:
            if not (path / "lock").exists() and any(path.iterdir()):
                raise VaultError(
                    f"{printable(folder)} is neither a quarantine vault nor empty"
                ) from None
            path.chmod(0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in ("objects", "records", "pending"):
                (path / name).mkdir(mode=0o700, exist_ok=True)
            _sync_folder(path)
        except BaseException:
            os.close(lock)
            raise
    except BlockingIOError as error:
        raise VaultError(f"another daemon is writing to the vault {printable(folder)}") from error
    except OSError as error:
        raise VaultError(
            f"{printable(folder)} cannot be made a quarantine vault: {error.strerror}"
        ) from error
    return lock


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _kept_open(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


@contextmanager
def _created(name: str, folder: int) -> Iterator[BinaryIO]:
    """A new file of mode 0600 whose bytes are on the disk afterwards."""
    with os.fdopen(os.open(name, _CREATE, 0o600, dir_fd=folder), "wb") as target:
        yield target
        target.flush()
        os.fsync(target.fileno())


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _read_all(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, READ_FLAGS, dir_fd=folder), "rb") as source:
        return source.read()


def _unlink(name: str, folder: int) -> bool:
    """Removes a file that need not be there; whether it was."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _move_without_overwriting(
    name: str, folder: int, target: str, target_folder: int, info: os.stat_result
) -> None:
    if stat.S_ISDIR(info.st_mode):
        # A folder has no hard links; renaming one replaces nothing but an empty folder.
        os.rename(name, target, src_dir_fd=folder, dst_dir_fd=target_folder)
        return
    os.link(name, target, src_dir_fd=folder, dst_dir_fd=target_folder, follow_symlinks=False)
    os.unlink(name, dir_fd=folder)


def _new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"
