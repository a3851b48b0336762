"""How content leaves the vault: restored as it was, or exported neutralised; the vault keeps it.

Who does it says why, and the audit trail has it before anything appears outside. What appears is
complete and verified, and never takes the place of anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryFile
from typing import BinaryIO

from dicomguard.files import NewFile, opened_folder
from dicomguard.quarantine import objects
from dicomguard.quarantine.errors import VaultError
from dicomguard.quarantine.record import Record
from dicomguard.quarantine.trail import Action, Entry
from dicomguard.quarantine.vault import Vault
from dicomguard.reports.escape import printable


def restore(
    vault: Vault,
    record: Record,
    target: str | None = None,
    *,
    reason: str,
    allow_for: timedelta | None = None,
) -> str:
    """Writes the original bytes back.

    The file gets its modification time back, and its permissions without those to execute; in its
    own place also its owner, where that is permitted.

    Args:
        vault: Where the record is.
        record: What to restore.
        target: Path of the file to create; the original path where None.
        reason: Why, for the audit trail.
        allow_for: How long the daemon lets these bytes pass; not at all if None.

    Returns:
        The path of the restored file.

    Raises:
        DamagedError: The object is not the original bytes; nothing is left at the target.
        VaultError: The target exists, or its folder does not, or cannot be written.
    """
    if target is None:
        _require_own_rights(vault)
    path = record.original_path if target is None else target
    entry = Entry.now(
        Action.RESTORE,
        record.id,
        record.sha256,
        reason,
        allowed_until=None if allow_for is None else datetime.now(UTC) + allow_for,
    )
    with _appearing(vault, path, entry, Action.RESTORE_UNDONE, own_place=target is None) as file:
        vault.decode(record, file.stream)
        file.stream.flush()
        descriptor = file.stream.fileno()
        if target is None:
            with suppress(PermissionError):
                os.fchown(descriptor, record.uid, record.gid)
        os.fchmod(descriptor, record.mode & 0o666)
        os.utime(descriptor, ns=(record.identity.mtime_ns, record.identity.mtime_ns))
    return path


def export(vault: Vault, record: Record, target: str, *, reason: str) -> None:
    """Writes the neutralised bytes, with the metadata that CaRT tools show.

    The header has the verdict and the ids of the findings, the footer hashes and length. Neither
    has the original path or DICOM values; but the content is the patient's file.

    Args:
        vault: Where the record is.
        record: What to export.
        target: Path of the file to create.
        reason: Why, for the audit trail.

    Raises:
        DamagedError: The object is not the original bytes; nothing is left at the target.
        VaultError: The target exists, or its folder does not, or cannot be written.
    """
    digests = {
        # Laboratories look samples up by these, too; nothing here trusts them.
        "md5": hashlib.md5(usedforsecurity=False),
        "sha1": hashlib.sha1(usedforsecurity=False),
        "sha256": hashlib.sha256(),
    }
    header = {
        "name": record.sha256,
        "verdict": str(record.verdict),
        "findings": sorted({str(finding.get("id")) for finding in record.findings}),
        "quarantined_at": record.quarantined_at,
        "dicomguard": record.dicomguard_version,
    }
    entry = Entry.now(Action.EXPORT, record.id, record.sha256, reason)
    with (
        _appearing(vault, target, entry, Action.EXPORT_UNDONE) as file,
        vault.opened_object(record) as source,
    ):
        size = objects.decode(
            source, record.sha256, size=record.identity.size, digests=tuple(digests.values())
        )
        footer = {name: digest.hexdigest() for name, digest in digests.items()}
        objects.with_metadata(source, file.stream, header, footer | {"length": str(size)})


@contextmanager
def released_in_part(vault: Vault, record: Record, *, reason: str) -> Iterator[BinaryIO]:
    """The original bytes in a file without a name, to take payloads out of them.

    Args:
        vault: Where the record is.
        record: Of what.
        reason: Why, for the audit trail, which has it before the body runs.

    Raises:
        DamagedError: The object is not the original bytes.
        VaultError: The audit trail cannot be written.
    """
    with TemporaryFile() as original:
        vault.decode(record, original)
        original.flush()
        entry = Entry.now(Action.EXPORT, record.id, record.sha256, f"payloads only: {reason}")
        _announce(vault, entry)
        try:
            yield original
        except BaseException as error:
            undone = f"{type(error).__name__}: no payloads were written"
            with suppress(VaultError):
                _announce(vault, Entry.now(Action.EXPORT_UNDONE, record.id, record.sha256, undone))
            raise


def _require_own_rights(vault: Vault) -> None:
    """Refuses to let root write where a record says that others could have written.

    Restoring to a path from an unprivileged place is how quarantines became a way to more rights
    (CVE-2020-8099, CVE-2020-27172).
    """
    owner = os.fstat(vault.root.descriptor).st_uid
    if os.geteuid() == 0 and owner != 0:
        raise VaultError(
            f"{printable(vault.folder)} belongs to uid {owner}: restore as that user, or say "
            "with --to where the file shall go"
        )


@contextmanager
def _appearing(
    vault: Vault, path: str, entry: Entry, undone: Action, *, own_place: bool = False
) -> Iterator[NewFile]:
    """A file that appears when the body is through, after its line in the audit trail.

    Args:
        vault: Whose trail.
        path: Of the file.
        entry: The line.
        undone: What a second line says, should the file not appear after all.
        own_place: Whether the path is the original's. Its folder is as hostile as it was, so no
            link may lead elsewhere by now; of a path that the user names, the links are the user's.
    """
    parent, name = os.path.split(path)
    try:
        with (
            opened_folder(parent if own_place else os.path.realpath(parent)) as folder,
            NewFile(folder, name) as file,
        ):
            yield file
            file.sync()
            _announce(vault, entry)
            try:
                file.appear()
            except BaseException as error:
                reason = f"{type(error).__name__}: it did not appear"
                with suppress(VaultError):
                    _announce(vault, Entry.now(undone, entry.record, entry.sha256, reason))
                raise
    except FileExistsError as error:
        raise VaultError(f"{printable(path)} exists, and nothing is overwritten") from error
    except OSError as error:
        raise VaultError(f"nothing is written to {printable(path)}: {error.strerror}") from error


def _announce(vault: Vault, entry: Entry) -> None:
    try:
        with vault.changing() as trail:
            trail.append(entry)
    except OSError as error:
        raise VaultError(
            f"the audit trail of {printable(vault.folder)} cannot be written, so nothing is "
            f"released: {error.strerror}"
        ) from error
