"""How files leave the vault for good: only when somebody says which, and why.

A purge goes through these steps, some records at a time; after a crash the next purge, or the next
opening by the daemon, finishes them:

1. lines written to the audit trail;
2. records renamed to ``pending/<id>.purged``, both folders synced: from here on they are gone;
3. objects removed that no other record needs, and their folder synced;
4. ``pending/<id>.purged`` removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from dicomguard.quarantine.errors import VaultError
from dicomguard.quarantine.record import Record
from dicomguard.quarantine.trail import Action, Entry
from dicomguard.quarantine.vault import LARGEST_RECORD, OBJECT_SUFFIX, RECORD_SUFFIX, Vault
from dicomguard.reports.escape import printable

PURGED_SUFFIX = ".purged"

_BATCH = 200
"""Records that are purged between two chances for the daemon to store something."""


class References:
    """Which records need which object; knows what was stored since when it is asked again."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._sha256: dict[str, str | None] = {}
        self._count: Counter[str | None] = Counter()

    def refresh(self) -> None:
        """Takes notice of records that came or went."""
        ids = set(self._vault.ids())
        for record_id in self._sha256.keys() - ids:
            self._count[self._sha256.pop(record_id)] -= 1
        for record_id in ids - self._sha256.keys():
            try:
                sha256 = self._vault.read_record(record_id).sha256
            except VaultError:
                sha256 = None  # it may need any object
            self._sha256[record_id] = sha256
            self._count[sha256] += 1

    def readable(self, sha256: str) -> int:
        """How many records need an object."""
        return self._count[sha256]

    @property
    def unreadable(self) -> int:
        """How many records need nobody knows what."""
        return self._count[None]


def kept_objects(vault: Vault, records: Sequence[Record]) -> dict[str, int]:
    """Which objects a purge of these records would leave, and how many others may need each."""
    references = References(vault)
    references.refresh()
    going = Counter(record.sha256 for record in records)
    others = {
        sha256: references.readable(sha256) - count + references.unreadable
        for sha256, count in going.items()
    }
    return {sha256: count for sha256, count in others.items() if count}


def purge(vault: Vault, records: Sequence[Record], reason: str) -> Iterator[Record]:
    """Removes records, and the objects that no other record needs.

    Args:
        vault: Where they are.
        records: Which; what is gone already is passed over.
        reason: Why, for the audit trail.

    Yields:
        Each record after it is gone for good.

    Raises:
        VaultError: The vault cannot be changed; what was not yielded may be there or not.
    """
    references = References(vault)
    remaining = iter(records)
    try:
        references.refresh()  # which takes long, so not while others wait
        with vault.changing():
            finish_purge(vault)
        while batch := list(islice(remaining, _BATCH)):
            yield from _purge_some(vault, batch, reason, references)
    except OSError as error:
        raise VaultError(
            f"cannot purge from {printable(vault.folder)}: {error.strerror}"
        ) from error


def _purge_some(
    vault: Vault, batch: Sequence[Record], reason: str, references: References
) -> list[Record]:
    with vault.changing() as trail:
        there = [each for each in batch if vault.records.exists(each.id + RECORD_SUFFIX)]
        trail.append(*(Entry.now(Action.PURGE, each.id, each.sha256, reason) for each in there))
        for each in there:
            vault.records.rename(each.id + RECORD_SUFFIX, vault.pending, each.id + PURGED_SUFFIX)
        _drop_objects(vault, {each.id + PURGED_SUFFIX: each.sha256 for each in there}, references)
    return there


def finish_purge(vault: Vault) -> None:
    """Finishes what an interrupted purge left; the vault must be held for changing.

    Raises:
        OSError: It cannot be finished now.
    """
    interrupted = {}
    for name in vault.pending.names():
        if name.endswith(PURGED_SUFFIX):
            with suppress(ValueError):  # not known by then which object it is about
                record = Record.from_json(vault.pending.read(name, LARGEST_RECORD))
                interrupted[name] = record.sha256
    if interrupted:
        _drop_objects(vault, interrupted, References(vault))


def _drop_objects(vault: Vault, markers: dict[str, str], references: References) -> None:
    """Steps 2 (its syncs) to 4, for markers by name and the object that each is about."""
    vault.records.sync()
    vault.pending.sync()
    references.refresh()
    settled = []
    for name, sha256 in markers.items():
        if not references.readable(sha256):
            if references.unreadable:
                continue  # any of those may need it: this is for the next time
            vault.objects.unlink(sha256 + OBJECT_SUFFIX)
        settled.append(name)
    vault.objects.sync()
    for name in settled:
        vault.pending.unlink(name)
