"""What can be wrong with a vault."""

from __future__ import annotations

from dicomguard.errors import DicomguardError


class VaultError(DicomguardError):
    """The vault cannot do what was asked of it."""


class DamagedError(VaultError):
    """A record or an object is not what was written."""
