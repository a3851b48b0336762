"""The vault as the daemon uses it: from one thread at a time, and opened anew after a failure."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from dicomguard.files import ScannedFile
from dicomguard.model import Report
from dicomguard.quarantine import DamagedError, Record, VaultError, VaultWriter
from dicomguard.reports.escape import printable


class Quarantine:
    """The vault, and what to do with it when it fails.

    Args:
        folder: The vault; made where there is none.

    Attributes:
        rules_version: What the records say of the rules.

    Raises:
        VaultError: Another daemon has the vault, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rules_version = ""
        self._vault: VaultWriter | None = self._open()

    def close(self) -> None:
        """Lets go of the vault."""
        if self._vault is not None:
            self._vault.close()
            self._vault = None

    def store(self, file: ScannedFile, report: Report) -> Record | None:
        """Takes a file, unless it is one that somebody restored and may pass for now: then None.

        Raises:
            ChangedError: It is not what was scanned any more.
            OSError: It could not be taken, and is where it was.
            VaultError: There is no vault at the moment.
        """
        vault = self._vault or self.reopen()
        if vault.is_allowed(report.sha256 or _sha256(file)):
            return None
        vault.rules_version = self.rules_version
        return vault.store(file, report)

    def reopen(self) -> VaultWriter:
        """Opens the vault again, which finishes what was interrupted; never makes a new one.

        Raises:
            VaultError: It is not there: a share is gone, or another daemon has it.
        """
        self.close()
        if not (self.folder / "lock").exists():
            raise VaultError(f"{printable(str(self.folder))} is gone")
        return self._open()

    def records_since(self, moment: float) -> dict[str, list[Record]]:
        """The records of files that were stored since, by the absolute path that each had.

        Args:
            moment: Seconds since the epoch.
        """
        records: dict[str, list[Record]] = {}
        if self._vault is None:
            return records
        for record_id in reversed(self._vault.ids()):
            with suppress(DamagedError):
                record = self._vault.read_record(record_id)
                if datetime.fromisoformat(record.quarantined_at).timestamp() < moment:
                    break
                records.setdefault(record.original_path, []).append(record)
        return records

    def _open(self) -> VaultWriter:
        self._vault = VaultWriter(str(self.folder), rules_version=self.rules_version)
        return self._vault


def _sha256(file: ScannedFile) -> str:
    """The hash of a file whose report has none: a clean one, or one that killed its worker."""
    with file.opened() as descriptor, os.fdopen(os.dup(descriptor), "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
