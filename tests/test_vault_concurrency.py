"""A daemon that stores, and everybody else at the same time, in processes of their own."""

import os
import random
import time
from datetime import timedelta

import pytest

from children import wait_status_of
from dicomguard.quarantine import DamagedError, Vault, VaultError, export, purge, restore
from vaults import leftovers, problems_of, put, sha256_of, store, trail_of, writer

FILES = 400
CONTENTS = 60
"""Few, so that objects are shared, purged and stored again all the time."""


@pytest.fixture
def ingest(tmp_path):
    folder = tmp_path / "ingest"
    folder.mkdir()
    return folder


@pytest.fixture
def vault_path(tmp_path):
    path = tmp_path / "vault"
    writer(path).close()
    return path


def content_of(number):
    return b"content %d " % (number % CONTENTS) * 100


def in_background(action):
    child = os.fork()
    if not child:
        os._exit(os.waitstatus_to_exitcode(wait_status_of(action)))
    return child


def daemon(vault_path, ingest):
    with writer(vault_path) as vault:
        for number in range(FILES):
            content = content_of(number)
            store(vault, put(ingest / str(number), content), content)


def until(stop, action):
    """Does something again and again until a file appears; answers 1 if it never could."""
    done = 0
    while not stop.exists():
        done += action() or 0
        time.sleep(0.001)
    return int(not done)


def look(vault_path):
    """Everything that is listed can be read, and is whole, unless it was purged since."""
    with Vault(str(vault_path)) as vault:
        for record_id in vault.ids()[-20:]:
            try:
                record = vault.record(record_id)
                vault.verify(record)
            except DamagedError:
                if record_id in vault.ids():
                    raise
            except VaultError:
                assert record_id not in vault.ids()
        return len(vault.ids())


def verify(vault_path):
    damage = [problem for problem in problems_of(vault_path) if not problem[1].startswith("(")]
    assert damage == []
    return 1


def release(vault_path, folder, act):
    with Vault(str(vault_path)) as vault:
        ids = vault.ids()
        if not ids:
            return 0
        target = folder / f"{act.__name__}{time.monotonic_ns()}"
        try:
            record = vault.record(random.choice(ids))
            act(vault, record, str(target), reason="a test")
        except VaultError:
            return 0
        if act is restore:
            assert sha256_of(target.read_bytes()) == record.sha256
        return 1


def let_go(vault_path):
    with Vault(str(vault_path)) as vault:
        ids = vault.ids()
        records = []
        for record_id in random.sample(ids, k=min(len(ids), 10)):
            try:
                records.append(vault.record(record_id))
            except VaultError:
                assert record_id not in vault.ids()
        return len(list(purge(vault, records, "a test")))


def test_everything_at_once(tmp_path, ingest, vault_path):
    stop, out = tmp_path / "stop", tmp_path / "out"
    out.mkdir()
    others = [
        in_background(lambda action=action: until(stop, action))
        for action in (
            lambda: look(vault_path),
            lambda: verify(vault_path),
            lambda: release(vault_path, out, restore),
            lambda: release(vault_path, out, export),
            lambda: let_go(vault_path),
            lambda: let_go(vault_path),
        )
    ]
    try:
        assert wait_status_of(lambda: daemon(vault_path, ingest)) == 0
    finally:
        stop.touch()
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in others]
    assert ended == [0] * len(others), "one of the others failed, or never came to anything"
    assert list(ingest.iterdir()) == []
    assert leftovers(vault_path) == []
    assert problems_of(vault_path) == []
    entries = trail_of(vault_path)
    stored = [entry.record for entry in entries if entry.action == "store"]
    purged = [entry.record for entry in entries if entry.action == "purge"]
    with Vault(str(vault_path)) as vault:
        assert sorted(vault.ids() + purged) == sorted(stored)
    assert len(stored) == FILES
    assert len(purged) > FILES // 20


def test_a_daemon_sees_at_once_what_an_operator_allows(ingest, vault_path):
    with writer(vault_path) as daemon:
        record = store(daemon, put(ingest / "bad", content_of(1)), content_of(1))

        def operator():
            with Vault(str(vault_path)) as vault:
                restore(vault, record, reason="a test", allow_for=timedelta(days=1))

        assert not daemon.is_allowed(record.sha256)
        assert wait_status_of(operator) == 0
        assert daemon.is_allowed(record.sha256)
