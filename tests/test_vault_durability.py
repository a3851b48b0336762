"""Power loss at any moment: shown by the system calls, after each of which all must hold."""

from pathlib import Path

import pytest

from power_loss import ANNOUNCEMENT, Disks, traced
from vaults import other_file_system, put, store, writer

PRELUDE = """
import os
from pathlib import Path
from dicomguard.quarantine import Vault, export, purge, restore
from vaults import put, store, writer
vault_path, bad = map(Path, sys.argv[1:])
def announce():
    os.write(1, b"announced\\n")
"""
STORE = """
with writer(vault_path) as vault:
    store(vault, bad)
    announce()
"""


@pytest.fixture
def ingest(tmp_path):
    folder = tmp_path / "ingest"
    folder.mkdir()
    return folder


@pytest.fixture
def vault_path(tmp_path):
    return tmp_path / "vault"


def announces(call):
    return call.name == "write" and ANNOUNCEMENT in call.text


def assert_never_lost(calls, disks, vault_path, bad):
    """After each call the original would survive a power loss, or else all that stands for it."""
    before = disks.surviving(vault_path / "records")
    removed = announced = False
    for call in calls:
        disks.apply(call)
        if not disks.survives(bad):
            removed = True
            assert len(disks.surviving(vault_path / "objects")) == 1, call
            assert len(disks.surviving(vault_path / "records") - before) == 1, call
            assert disks.survives(vault_path / "audit.jsonl"), call
        else:
            for name in disks.surviving(vault_path / "records") - before:
                # Else a restart would find the original, and store it a second time.
                assert disks.survives(vault_path / "pending" / name), call
        if announces(call):
            announced = True
            assert str(bad) not in disks.now
            # The model forgets a name at once; a disk may not, before its folder is synced.
            synced = [each.path for each in calls[: calls.index(call)] if each.name == "fsync"]
            assert str(bad.parent) in synced[-2:]
    assert removed
    assert announced


@pytest.mark.parametrize("already", [0, 1])
def test_a_file_is_safe_in_the_vault_before_it_goes(tmp_path, ingest, vault_path, already):
    with writer(vault_path) as vault:
        for number in range(already):  # an object of the same bytes
            store(vault, put(ingest / f"earlier{number}"))
    bad = put(ingest / "bad")
    disks = Disks(tmp_path)
    calls = traced(PRELUDE + STORE, vault_path, bad)
    assert_never_lost(calls, disks, vault_path, bad)


def test_a_first_file_is_safe_in_a_new_vault(tmp_path, ingest, vault_path):
    bad = put(ingest / "bad")
    disks = Disks(tmp_path)
    assert_never_lost(traced(PRELUDE + STORE, vault_path, bad), disks, vault_path, bad)


def test_a_vault_whose_first_opening_was_interrupted(tmp_path, ingest, vault_path):
    bad = put(ingest / "bad")
    disks = Disks(tmp_path)
    dying = """
from dicomguard.quarantine import writer as module
module._sync_folder = lambda path: os._exit(0)
writer(vault_path)
"""
    calls = traced(PRELUDE + dying, vault_path, bad) + traced(PRELUDE + STORE, vault_path, bad)
    assert_never_lost(calls, disks, vault_path, bad)


def test_a_file_of_another_file_system(tmp_path, vault_path):
    with other_file_system() as other:
        bad = put(other / "bad")
        disks = Disks(tmp_path, other)
        calls = traced(PRELUDE + STORE, vault_path, bad)
        assert_never_lost(calls, disks, vault_path, bad)
    renamed = [call.names for call in calls if call.name.startswith("rename")]
    assert all(Path(name).parent == bad.parent for names in renamed for name in names)


@pytest.mark.parametrize("step", ["records.sync", "_take", "_let_go"])
def test_a_file_that_a_restart_takes(tmp_path, ingest, vault_path, step):
    """The daemon was killed just before a step, so that the restart finds it in the page cache."""
    bad = put(ingest / "bad")
    disks = Disks(tmp_path)
    dying = f"""
vault = writer(vault_path)
vault.{step} = lambda *arguments: os._exit(0)
store(vault, bad)
"""
    calls = traced(PRELUDE + dying, vault_path, bad)
    calls += traced(PRELUDE + "writer(vault_path).close(); announce()", vault_path, bad)
    assert_never_lost(calls, disks, vault_path, bad)


def test_a_restored_file_is_whole_and_told_of_when_it_appears(tmp_path, ingest, vault_path):
    bad = put(ingest / "bad")
    with writer(vault_path) as vault:
        store(vault, bad)
    disks = Disks(tmp_path)
    restore = """
with Vault(str(vault_path)) as vault:
    restore(vault, vault.record(vault.ids()[0]), reason="a test")
    announce()
"""
    seen = False
    for call in traced(PRELUDE + restore, vault_path, bad):
        disks.apply(call)
        if str(bad) in disks.now:
            seen = True
            assert disks.now[str(bad)].synced
            assert disks.survives(vault_path / "audit.jsonl")
        if announces(call):
            assert disks.survives(bad)
    assert seen
    lines = (vault_path / "audit.jsonl").read_bytes().splitlines()
    assert len(lines) == 2


def test_a_purged_record_is_told_of_and_gone_before_its_object_is(tmp_path, ingest, vault_path):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
    object_path = vault_path / "objects" / f"{record.sha256}.cart"
    record_path = vault_path / "records" / f"{record.id}.json"
    disks = Disks(tmp_path)
    purge = """
with Vault(str(vault_path)) as vault:
    list(purge(vault, [vault.record(vault.ids()[0])], "a test"))
    announce()
"""
    gone, synced = [], []
    for call in traced(PRELUDE + purge, vault_path, ingest):
        disks.apply(call)
        if call.name == "fsync":
            synced.append(call.path)
        if str(record_path) not in disks.now and "record" not in gone:
            assert synced[-1] == str(vault_path / "audit.jsonl")
            gone.append("record")
        if str(object_path) not in disks.now and "object" not in gone:
            # Its name is off the disk, and a marker is on it by which a restart goes on.
            assert str(vault_path / "records") in synced[-2:]
            assert disks.survives(vault_path / "pending" / f"{record.id}.purged")
            gone.append("object")
        if announces(call):
            assert synced[-1] == str(vault_path / "objects")
    assert gone == ["record", "object"]


def test_the_journal_is_on_the_disk_before_an_outcome_is_announced(tmp_path, ingest):
    state, bad = tmp_path / "state", put(ingest / "bad")
    state.mkdir()
    disks = Disks(tmp_path)
    journalling = """
from dicomguard.files import identity_of
from dicomguard.watch.journal import Journal
identity = identity_of(bad.stat())
with Journal(vault_path) as journal:
    for number in range(3):
        journal.claim(str(number), identity, 1)
        journal.commit()
        announce()
        journal.acted(str(number), "malicious quarantined", "a record")
        journal.commit()
        announce()
"""
    announcements = written = 0
    for call in traced(PRELUDE + journalling, state, bad):
        disks.apply(call)
        written += call.path == str(state / "watch.sqlite-wal") and call.name.startswith("pwrite")
        if announces(call):
            announcements += 1
            assert written > announcements
            assert disks.survives(state / "watch.sqlite")
            assert disks.survives(state / "watch.sqlite-wal")
    assert announcements == 6
