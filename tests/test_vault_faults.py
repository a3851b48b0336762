"""Disks that fail, fill up or turn read-only: nothing is lost, and work goes on afterwards."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from dicomguard.files import ChangedError
from dicomguard.quarantine import Vault, VaultError, export, purge, restore
from namespaces import in_own_mount_namespace, mount, remount
from vaults import (
    CONTENT,
    actions_of,
    contents_of,
    leftovers,
    other_file_system,
    problems_of,
    put,
    store,
    writer,
)

OPERATIONS = ["open", "write", "fsync", "link", "rename", "unlink", "ftruncate", "stat", "fstat"]
FOREVER = 10**6
FAULTS = {
    "one I/O error": (1, errno.EIO),
    "three I/O errors": (3, errno.EIO),
    "no space from then on": (FOREVER, errno.ENOSPC),
    "read-only from then on": (FOREVER, errno.EROFS),
}


@pytest.fixture
def ingest(tmp_path):
    folder = tmp_path / "ingest"
    folder.mkdir()
    return folder


@pytest.fixture
def vault_path(tmp_path):
    return tmp_path / "vault"


class Fault:
    """Lets operations on the disk fail from the n-th on, so many of them."""

    def __init__(self, kind, first):
        failures, self._code = FAULTS[kind]
        self._numbers = range(first, first + failures)
        self._counter = count(1)
        self.hit = False

    @contextlib.contextmanager
    def injected(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, self._faulty(getattr(os, name)))
            yield

    def _faulty(self, operation):
        def call(*arguments, **options):
            if next(self._counter) not in self._numbers:
                return operation(*arguments, **options)
            self.hit = True
            raise OSError(self._code, os.strerror(self._code))

        return call


def at_every_operation(kind, attempt, least):
    """Attempts something with a fault at each of its operations, and once without."""
    for first in count(1):
        fault = Fault(kind, first)
        attempt(str(first), fault)
        if not fault.hit:
            assert first > least
            return


def assert_in_one_place(vault_path, bad, content, *, stored):
    assert not (stored and bad.exists())
    if bad.exists():
        assert bad.read_bytes() == content
    elif not stored:
        # Even the way back failed, and what was taken waits in the vault, or under another name.
        in_vault = (vault_path / "pending").glob("*.original")
        (parked,) = [*in_vault, *bad.parent.glob(".*.part")]
        assert parked.read_bytes() == content


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_fault_while_storing(tmp_path, kind, reopen, elsewhere):
    with other_file_system() as memory:
        vault_path, ingest = memory / "vault", tmp_path if elsewhere else memory
        vault = writer(vault_path)

        def attempt(number, fault):
            nonlocal vault
            bad, content, stored = ingest / f"bad{number}", f"bad content {number}".encode(), False
            put(bad, content)
            before = len(vault.ids())
            with fault.injected(), contextlib.suppress(OSError):
                store(vault, bad, content)
                stored = True
            assert_in_one_place(vault_path, bad, content, stored=stored)
            if reopen:
                vault.close()
                vault = writer(vault_path)
            if bad.exists():
                # Work that could not be undone is done first; then the file has gone by that.
                with contextlib.suppress(ChangedError):
                    store(vault, bad, content)
            # What was left over otherwise is done before the next.
            store(vault, put(ingest / "next", content * 2), content * 2)
            assert not bad.exists()
            assert len(vault.ids()) == before + 2
            assert leftovers(vault_path) == []

        at_every_operation(kind, attempt, least=30)
        vault.close()
        assert problems_of(vault_path) == []


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_while_opening(tmp_path, kind):
    def attempt(number, fault):
        folder = tmp_path / number
        folder.mkdir()
        with fault.injected(), contextlib.suppress(VaultError):
            writer(folder / "vault").close()
        with writer(folder / "vault") as vault:
            store(vault, put(folder / "bad"))

    at_every_operation(kind, attempt, least=5)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("act", [restore, export])
def test_a_fault_while_releasing(ingest, vault_path, kind, act):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))

    def attempt(number, fault):
        target = ingest / number
        with Vault(str(vault_path)) as vault:
            before = len(actions_of(vault_path))
            with fault.injected(), contextlib.suppress(VaultError):
                act(vault, record, str(target), reason="a test")
            told = actions_of(vault_path)[before:]
            if target.exists():
                assert told == [act.__name__], "nothing is released without a line"
            elif kind == "one I/O error":
                assert told in ([], [act.__name__, f"{act.__name__}-undone"])
            vault.verify(record)
        assert {path.name for path in ingest.iterdir()} <= {number}
        target.unlink(missing_ok=True)

    at_every_operation(kind, attempt, least=8)
    assert problems_of(vault_path) == []


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_while_purging(tmp_path, ingest, kind):
    def attempt(number, fault):
        vault_path = tmp_path / f"vault{number}"
        with writer(vault_path) as vault:
            going, staying, alone = (
                store(vault, put(ingest / "bad", each), each) for each in (b"1", b"1", b"2")
            )
        with Vault(str(vault_path)) as vault:
            with fault.injected(), contextlib.suppress(VaultError):
                list(purge(vault, [going, alone], "a test"))
            vault.verify(staying)
            list(purge(vault, [going, alone], "a test"))
            assert vault.ids() == [staying.id]
        assert leftovers(vault_path) == []
        assert problems_of(vault_path) == []

    at_every_operation(kind, attempt, least=15)


# Real ones


def test_a_disk_that_fills_up_at_any_point(tmp_path):
    """From a disk with no room at all to one with room enough, page by page."""
    vault_path, page = tmp_path / "vault", os.sysconf("SC_PAGE_SIZE")

    def test():
        vault_path.mkdir()
        mount(vault_path, size=64 * page)
        filler = vault_path / "state"
        content = os.urandom(8 * page)
        refused = 0
        with writer(vault_path) as vault:
            for free in range(16):
                bad = put(tmp_path / "bad", content + bytes([free]))
                _fill(filler, vault_path, leave=free * page)
                try:
                    store(vault, bad, bad.read_bytes())
                except OSError:
                    assert bad.read_bytes() == content + bytes([free])
                    assert leftovers(vault_path) == []
                    refused += 1
                    filler.unlink()
                    store(vault, bad, bad.read_bytes())
                assert not bad.exists()
                assert problems_of(vault_path) == []
                list(purge(vault, [vault.record(each) for each in vault.ids()], "a test"))
        assert 4 < refused < 16

    in_own_mount_namespace(test)


def _fill(filler, folder, leave):
    """Takes all the room of a file system but so many bytes."""
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as target, contextlib.suppress(OSError):
        while True:
            target.write(bytes(4096))
    os.truncate(filler, max(0, filler.stat().st_size - leave))
    assert os.statvfs(folder).f_bavail * 4096 == leave


def test_a_target_that_fills_up_while_restoring(tmp_path):
    vault_path, target = tmp_path / "vault", tmp_path / "target"
    target.mkdir()
    with writer(vault_path) as vault:
        record = store(vault, put(tmp_path / "bad"))

    def test():
        mount(target, size=len(CONTENT) // 2)
        with Vault(str(vault_path)) as vault, pytest.raises(VaultError, match="No space"):
            restore(vault, record, str(target / "bad"), reason="a test")
        assert list(target.iterdir()) == []
        assert os.statvfs(target).f_bavail == os.statvfs(target).f_blocks
        assert actions_of(vault_path) == ["store"]

    in_own_mount_namespace(test)


@pytest.mark.parametrize("reopen", [False, True])
def test_a_vault_that_turns_read_only_and_back(tmp_path, reopen):
    vault_path, ingest = tmp_path / "vault", tmp_path / "ingest"

    def test():
        vault_path.mkdir()
        ingest.mkdir()
        mount(vault_path, size="1m")
        vault = writer(vault_path)
        record = store(vault, put(ingest / "first"))
        _open_for_reading_only(vault_path / "lock")
        remount(vault_path, "ro")
        bad = put(ingest / "bad", b"second")
        with pytest.raises(OSError, match="Read-only"):
            store(vault, bad, b"second")
        assert bad.read_bytes() == b"second"
        with Vault(str(vault_path)) as reader:
            assert reader.ids() == [record.id]
            assert problems_of(vault_path) == []
            # Nothing is released that cannot be written to the trail.
            with pytest.raises(VaultError, match=r"audit trail .* cannot be written"):
                restore(reader, record, reason="a test", allow_for=timedelta(days=1))
            with pytest.raises(VaultError, match="Read-only"):
                list(purge(reader, [record], "a test"))
        assert not (ingest / "first").exists()
        if reopen:
            vault.close()
            with pytest.raises(VaultError, match="Read-only"):
                writer(vault_path)
        remount(vault_path, "rw")
        if reopen:
            vault = writer(vault_path)
        store(vault, bad, b"second")
        vault.close()
        assert len(contents_of(vault_path)[0]) == 2
        assert problems_of(vault_path) == []

    in_own_mount_namespace(test)


def _open_for_reading_only(path):
    """Lets a file system be remounted; a kernel that does so after an error does not ask."""
    for number in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{number}") == str(path):
            descriptor = os.open(path, os.O_RDONLY)
            os.dup2(descriptor, int(number), inheritable=False)
            os.close(descriptor)


def test_an_ingest_folder_that_turns_read_only_and_back(tmp_path):
    vault_path, ingest = tmp_path / "vault", tmp_path / "ingest"

    def test():
        ingest.mkdir()
        mount(ingest, size="1m")
        bad = put(ingest / "bad")
        with writer(vault_path) as vault:
            remount(ingest, "ro")
            with pytest.raises(OSError, match="Read-only"):
                store(vault, bad)
            assert vault.ids() == []
            assert problems_of(vault_path) == []
            assert leftovers(vault_path) == []
            remount(ingest, "rw")
            store(vault, bad)
        assert problems_of(vault_path) == []

    in_own_mount_namespace(test)


WRITES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from vaults import store, writer
with writer(sys.argv[2]) as vault:
    store(vault, Path(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("call", "least"), [("write", 3), ("fsync", 7)])
@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_every_single_write_and_sync_fails(tmp_path, call, least, code):
    """As `test_a_fault_while_storing`, and with the bytes that buffers write as well."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    refused = 0
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        vault_path, bad, trace = folder / "vault", put(folder / "bad"), folder / "trace"
        done = subprocess.run(
            [
                *("strace", "-o", trace, "-e", f"trace={call}"),
                *("-e", f"inject={call}:error={code}:when={number}"),
                *(sys.executable, "-c", WRITES, Path(__file__).parent, vault_path, bad),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if "INJECTED" not in trace.read_text():
            break
        if done.returncode:
            refused += 1
            assert bad.read_bytes() == CONTENT
        with writer(vault_path) as vault:
            assert len(vault.ids()) == (not bad.exists())
        assert leftovers(vault_path) == []
        assert problems_of(vault_path) == []
    assert done.returncode == 0
    assert refused >= least
