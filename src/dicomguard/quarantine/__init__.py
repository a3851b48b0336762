"""The quarantine: where files go that must not stay, and come back from."""

from dicomguard.quarantine.record import Record
from dicomguard.quarantine.vault import DamagedError, Vault, VaultError, VaultWriter

__all__ = ["DamagedError", "Record", "Vault", "VaultError", "VaultWriter"]
