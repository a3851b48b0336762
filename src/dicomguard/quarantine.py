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
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Self

import cart

from dicomguard.errors import DicomguardError
from dicomguard.model import FileIdentity, Instance, Report, Verdict
from dicomguard.reports.escape import printable
from dicomguard.reports.jsonl import finding_to_json
from dicomguard.version import VERSION

RECORD_VERSION = 1
"""Version of a record's JSON; raised by every change that can break a reader."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHA256 = re.compile(r"[0-9a-f]{64}")
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


class ChangedError(Exception):
    """A file is no longer the one that was scanned; nothing was done with it: scan it again."""


class VaultError(DicomguardError):
    """The vault cannot do what was asked of it."""


class DamagedError(VaultError):
    """A record or an object is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedFile:
    """A file by its name in an open folder, and the content that was scanned under that name.

    Attributes:
        folder: Descriptor of the folder; it stays the caller's.
        name: Name in that folder.
        path: Absolute path without symbolic links, for the record.
        identity: What was scanned.
    """

    folder: int
    name: str
    path: str
    identity: FileIdentity

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of exactly what was scanned, open for reading.

        Raises:
            ChangedError: The file is gone, was changed, or is no longer a regular file.
            OSError: It cannot be opened.
        """
        try:
            descriptor = os.open(self.name, _READ, dir_fd=self.folder)
        except OSError as error:
            # ELOOP: a symbolic link by now; ENXIO: a socket; ENOTDIR cannot be, names hold no "/".
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise ChangedError(self.path) from error
            raise
        try:
            self.require_unchanged(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def require_unchanged(self, descriptor: int) -> None:
        """Raises `ChangedError` unless the descriptor still is what was scanned."""
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or identity_of(info) != self.identity:
            raise ChangedError(self.path)

    def unlink(self) -> None:
        """Removes the name, if it still is the file that was scanned.

        Its inode, size and modification time are compared immediately before: a hard link of the
        file to another place has changed its ctime since. A file that replaces it in the few
        microseconds between goes unseen; `VaultWriter` uses this only across file systems.

        Raises:
            ChangedError: Another file has the name by now, or none.
        """
        try:
            info = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise ChangedError(self.path) from error
        if not _same_but_ctime(info, self.identity):
            raise ChangedError(self.path)
        os.unlink(self.name, dir_fd=self.folder)


def identity_of(info: os.stat_result) -> FileIdentity:
    """The identity that a file has by its ``stat``."""
    return FileIdentity(
        device=info.st_dev,
        inode=info.st_ino,
        size=info.st_size,
        mtime_ns=info.st_mtime_ns,
        ctime_ns=info.st_ctime_ns,
    )


@contextmanager
def opened_folder(path: str, *, root: int | None = None) -> Iterator[int]:
    """A descriptor of a folder, come to through real folders only: no component may be a link.

    Args:
        path: Absolute, or relative to ``root``; the empty path is ``root`` itself.
        root: Descriptor of the folder that a relative path starts from; not used for an absolute.

    Raises:
        OSError: A component is missing, no folder or a symbolic link (``ENOTDIR``).
    """
    start = "/" if path.startswith("/") else "."
    current = os.open(start, os.O_PATH | _FOLDER, dir_fd=root)
    try:
        for part in filter(None, path.split("/")):
            following = os.open(part, os.O_PATH | _FOLDER, dir_fd=current)
            os.close(current)
            current = following
        # A path descriptor can be walked through but neither listed nor synced.
        folder = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=current)
    finally:
        os.close(current)
    try:
        yield folder
    finally:
        os.close(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What happened to one quarantined file.

    Attributes:
        id: Generated, unique and sortable by time.
        original_path: Absolute; bytes that are not UTF-8 are surrogate escapes.
        sha256: Of the original bytes, lower-case hex.
        identity: Of the original: device, inode, size in bytes, times in nanoseconds.
        mode: Permission bits of the original.
        uid: Owner of the original.
        gid: Group of the original.
        quarantined_at: ISO 8601, UTC.
        findings: As ``dicomguard check --format jsonl`` gives them, values masked.
    """

    id: str
    original_path: str
    sha256: str
    identity: FileIdentity
    mode: int
    uid: int
    gid: int
    quarantined_at: str
    verdict: Verdict
    instance: Instance
    findings: tuple[dict[str, Any], ...]
    unexamined: tuple[str, ...]
    rules_version: str
    dicomguard_version: str

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, times as ISO 8601 beside their nanoseconds."""
        return {
            "schema_version": RECORD_VERSION,
            "id": self.id,
            "original_path": self.original_path,
            "sha256": self.sha256,
            "size": self.identity.size,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "device": self.identity.device,
            "inode": self.identity.inode,
            "mtime": _iso_time(self.identity.mtime_ns),
            "mtime_ns": self.identity.mtime_ns,
            "ctime": _iso_time(self.identity.ctime_ns),
            "ctime_ns": self.identity.ctime_ns,
            "quarantined_at": self.quarantined_at,
            "verdict": str(self.verdict),
            "study_instance_uid": self.instance.study_instance_uid,
            "series_instance_uid": self.instance.series_instance_uid,
            "sop_instance_uid": self.instance.sop_instance_uid,
            "modality": self.instance.modality,
            "findings": list(self.findings),
            "unexamined": list(self.unexamined),
            "rules_version": self.rules_version,
            "dicomguard_version": self.dicomguard_version,
        }

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: The text is no record of a version known here.
        """
        try:
            values = json.loads(text)
            if values["schema_version"] != RECORD_VERSION:
                raise ValueError(f"record of version {values['schema_version']!r}")
            if not _SHA256.fullmatch(values["sha256"]):
                raise ValueError("no SHA-256")
            return cls(
                id=str(values["id"]),
                original_path=str(values["original_path"]),
                sha256=values["sha256"],
                identity=FileIdentity(
                    device=int(values["device"]),
                    inode=int(values["inode"]),
                    size=int(values["size"]),
                    mtime_ns=int(values["mtime_ns"]),
                    ctime_ns=int(values["ctime_ns"]),
                ),
                mode=int(values["mode"], 8),
                uid=int(values["uid"]),
                gid=int(values["gid"]),
                quarantined_at=str(values["quarantined_at"]),
                verdict=Verdict(values["verdict"]),
                instance=Instance(
                    study_instance_uid=str(values["study_instance_uid"]),
                    series_instance_uid=str(values["series_instance_uid"]),
                    sop_instance_uid=str(values["sop_instance_uid"]),
                    modality=str(values["modality"]),
                ),
                findings=tuple(dict(finding) for finding in values["findings"]),
                unexamined=tuple(str(reason) for reason in values["unexamined"]),
                rules_version=str(values["rules_version"]),
                dicomguard_version=str(values["dicomguard_version"]),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("not a record") from error


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
                self._objects = _kept_open(stack, os.open("objects", _FOLDER, dir_fd=root))
                self._records = _kept_open(stack, os.open("records", _FOLDER, dir_fd=root))
                self._pending = _kept_open(stack, os.open("pending", _FOLDER, dir_fd=root))
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
            descriptor = os.open(f"{sha256}.cart", _READ, dir_fd=self._objects)
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
            if not _same_but_ctime(info, file.identity):  # the renaming itself changes the ctime
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
            descriptor = os.open(parked, _READ, dir_fd=self._pending)
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
    with os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as source:
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


def _same_but_ctime(info: os.stat_result, identity: FileIdentity) -> bool:
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_dev == identity.device
        and info.st_ino == identity.inode
        and info.st_size == identity.size
        and info.st_mtime_ns == identity.mtime_ns
    )


def _new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def _iso_time(nanoseconds: int) -> str:
    """UTC, cut to the microsecond; empty for a time that no calendar holds."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return ""
    return moment.isoformat(timespec="microseconds")
