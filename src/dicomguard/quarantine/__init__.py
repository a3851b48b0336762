"""The quarantine: where files go that must not stay, and come back from."""

from dicomguard.quarantine.errors import DamagedError, VaultError
from dicomguard.quarantine.purge import kept_objects, purge
from dicomguard.quarantine.record import Record
from dicomguard.quarantine.release import export, released_in_part, restore
from dicomguard.quarantine.trail import LONGEST_REASON, Action, Entry
from dicomguard.quarantine.vault import Vault
from dicomguard.quarantine.verify import Problem, Verification
from dicomguard.quarantine.writer import VaultWriter

__all__ = [
    "LONGEST_REASON",
    "Action",
    "DamagedError",
    "Entry",
    "Problem",
    "Record",
    "Vault",
    "VaultError",
    "VaultWriter",
    "Verification",
    "export",
    "kept_objects",
    "purge",
    "released_in_part",
    "restore",
]
