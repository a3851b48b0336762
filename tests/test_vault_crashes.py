"""A crash before each operation on the disk: nothing is lost, nothing is there twice."""

import contextlib
import errno
import json
import os
import signal
from datetime import timedelta
from functools import partial
from itertools import count

import pytest

from children import wait_status_of
from dicomguard.files import ChangedError
from dicomguard.quarantine import Vault, VaultWriter, export, purge, restore
from vaults import (
    CONTENT,
    actions_of,
    contents_of,
    leftovers,
    other_file_system,
    problems_of,
    put,
    sha256_of,
    store,
    trail_of,
    writer,
)

DISK_OPERATIONS = ["open", "write", "fsync", "link", "rename", "unlink", "mkdir", "ftruncate"]
"""Where the disk changes: a crash between two of them leaves what one just before the second does.

(Bytes that a buffer writes are a matter of the file that is synced afterwards.)
"""


def dies_before(number, action):
    """Runs something in a child that is killed before its n-th operation on the disk.

    Answers whether it was: else there were fewer.
    """

    def child():
        operations = count(1)

        def counted(operation):
            def call(*arguments, **options):
                if next(operations) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return operation(*arguments, **options)

            return call

        for name in DISK_OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))
        action()

    status = wait_status_of(child)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed; its traceback is above"
    return False


def at_every_operation(case, folder, least):
    """Lets a case crash before each of its operations, each time anew, and once not at all.

    Args:
        case: Context manager over what is there before; gives what is done, and checks what is
            there after. Gets a new folder.
        folder: For the folders.
        least: Operations that there must be.
    """
    for number in count(1):
        place = folder / str(number)
        place.mkdir()
        with case(place) as action:
            crashed = dies_before(number, action)
        if not crashed:
            assert number > least
            return


def assert_sound(vault_path, *, reopen=True):
    """Nothing is left over after the daemon's next start, and everything verifies."""
    if reopen:
        with writer(vault_path):
            pass
    assert leftovers(vault_path) == []
    assert problems_of(vault_path) == []


def assert_one_outcome(vault_path, bad, before=0):
    """The file is in its place or in the vault, not in both, and not in neither."""
    assert_sound(vault_path)
    stored = len(contents_of(vault_path)[0]) - before
    assert (stored, bad.exists()) in {(1, False), (0, True)}
    if bad.exists():
        assert bad.read_bytes() == CONTENT


def opened_and_stored(vault_path, path, kind=VaultWriter):
    with writer(vault_path, kind) as vault, contextlib.suppress(ChangedError):
        store(vault, path)


@contextlib.contextmanager
def first_file(folder):
    """The daemon opens a vault for the first time, and takes a file."""
    vault_path, bad = folder / "vault", put(folder / "bad")
    yield partial(opened_and_stored, vault_path, bad)
    assert_one_outcome(vault_path, bad)


@contextlib.contextmanager
def equal_file(folder):
    """The vault has an object of these bytes already."""
    vault_path, bad = folder / "vault", put(folder / "bad")
    opened_and_stored(vault_path, put(folder / "earlier"))
    yield partial(opened_and_stored, vault_path, bad)
    assert_one_outcome(vault_path, bad, before=1)


@contextlib.contextmanager
def equal_file_and_damaged_object(folder):
    """The vault has an object of these bytes, but it is damaged; a new one replaces it."""
    vault_path, bad = folder / "vault", put(folder / "bad")
    opened_and_stored(vault_path, put(folder / "earlier"))
    (packed,) = (vault_path / "objects").iterdir()
    packed.write_bytes(b"CART and nothing else")
    yield partial(opened_and_stored, vault_path, bad)
    with writer(vault_path) as vault:
        if bad.exists():
            store(vault, bad)
    assert_sound(vault_path)


@contextlib.contextmanager
def file_of_another_file_system(folder):
    with other_file_system() as other:
        vault_path, bad = folder / "vault", put(other / "bad")
        yield partial(opened_and_stored, vault_path, bad)
        assert_one_outcome(vault_path, bad)


@contextlib.contextmanager
def file_swapped_at_the_last_moment(folder):
    """Another file has the name when the vault takes it, and must be there in the end."""
    vault_path, bad = folder / "vault", put(folder / "bad")
    other = put(folder / "other", b"another patient")

    class Swapping(VaultWriter):
        def _take(self, record_id, file):
            other.rename(bad)
            super()._take(record_id, file)

    yield partial(opened_and_stored, vault_path, bad, Swapping)
    assert_sound(vault_path)
    contents = [path.read_bytes() for path in (bad, other) if path.exists()]
    with Vault(str(vault_path)) as vault:
        (stored,) = [vault.record(each).sha256 for each in vault.ids()] or [None]
    assert b"another patient" in contents
    # The first content is nowhere else only if the swap, which was not ours, had replaced it.
    assert CONTENT in contents or stored == sha256_of(CONTENT) or not other.exists()


@contextlib.contextmanager
def restoring(folder):
    vault_path, target = folder / "vault", folder / "bad"
    with writer(vault_path) as vault:
        record = store(vault, put(target))

    def act():
        with Vault(str(vault_path)) as vault:
            restore(vault, record, reason="a test", allow_for=timedelta(days=1))

    yield act
    assert_sound(vault_path, reopen=False)
    if target.exists():
        assert target.read_bytes() == CONTENT
        assert actions_of(vault_path) == ["store", "restore"]
        with Vault(str(vault_path)) as vault:
            assert vault.is_allowed(record.sha256)
    assert {path.name for path in folder.iterdir()} <= {"vault", "bad"}


@contextlib.contextmanager
def exporting(folder):
    vault_path, target = folder / "vault", folder / "bad.cart"
    with writer(vault_path) as vault:
        record = store(vault, put(folder / "bad"))

    def act():
        with Vault(str(vault_path)) as vault:
            export(vault, record, str(target), reason="a test")

    yield act
    assert_sound(vault_path, reopen=False)
    if target.exists():
        assert actions_of(vault_path) == ["store", "export"]
    assert {path.name for path in folder.iterdir()} <= {"vault", "bad.cart"}


@contextlib.contextmanager
def purging(folder, *, then_purge_again=False):
    """Of three files with two contents, one of each content goes."""
    vault_path = folder / "vault"
    with writer(vault_path) as vault:
        first, second = (store(vault, put(folder / name)) for name in "ab")
        alone = store(vault, put(folder / "c", b"other"), b"other")
    going = [first, alone]

    def act():
        with Vault(str(vault_path)) as vault:
            for _ in purge(vault, going, "a test"):
                pass

    yield act
    if then_purge_again:
        act()
    with writer(vault_path) as vault:
        left = set(vault.ids())
        told = {entry.record for entry in trail_of(vault_path) if entry.action == "purge"}
        assert second.id in left
        assert {record.id for record in going} - left <= told, "nothing goes without a line"
        if then_purge_again:
            assert left == {second.id}
    assert leftovers(vault_path) == []
    damage = [problem for problem in problems_of(vault_path) if not problem[1].startswith("(")]
    assert damage == []


CASES = [
    (first_file, 30),
    (equal_file, 30),
    (equal_file_and_damaged_object, 30),
    (file_of_another_file_system, 30),
    (file_swapped_at_the_last_moment, 40),
    (restoring, 8),
    (exporting, 8),
    (purging, 15),
    (partial(purging, then_purge_again=True), 15),
]


@pytest.mark.parametrize(("case", "least"), CASES)
def test_a_crash_at_any_operation(case, least, tmp_path):
    at_every_operation(case, tmp_path, least)


@pytest.mark.slow
def test_a_crash_while_recovering_from_any_crash():
    crashes = 0
    with other_file_system() as memory:
        for first in count(1):
            for second in count(1):
                folder = memory / f"{first}-{second}"
                folder.mkdir()
                vault_path, bad = folder / "vault", put(folder / "bad")
                crashed = dies_before(first, partial(opened_and_stored, vault_path, bad))
                crashed_again = dies_before(second, lambda v=vault_path: writer(v).close())
                assert_one_outcome(vault_path, bad)
                crashes += crashed + crashed_again
                if not crashed_again:
                    break
            if not crashed:
                break
    assert crashes > 1000


# By name, and with what else may have happened meanwhile


def dies_at(step, vault_path, path, content=CONTENT):
    """Stores a file in a process that is killed when it comes to a step."""

    def child():
        with writer(vault_path) as vault:
            owner, _, name = step.rpartition(".")
            target = getattr(vault, owner) if owner else vault
            setattr(target, name, lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL))
            store(vault, path, content)

    assert os.WIFSIGNALED(wait_status_of(child))


@pytest.mark.parametrize(
    ("step", "stands"),
    [
        ("_prepare", False),
        ("pending.sync", False),
        ("_commit", False),
        ("objects.sync", False),
        ("records.sync", True),
        ("_take", True),
        ("_let_go", True),
        ("_clear", True),
    ],
)
def test_a_crash_at_every_step(tmp_path, step, stands):
    vault_path, bad = tmp_path / "vault", put(tmp_path / "bad")
    dies_at(step, vault_path, bad)
    assert_one_outcome(vault_path, bad)
    assert bad.exists() != stands


@pytest.fixture
def bad(tmp_path):
    """A file whose record is in force, but which was not yet taken when the daemon died."""
    path = put(tmp_path / "bad")
    dies_at("_take", tmp_path / "vault", path)
    return path


@pytest.fixture
def vault_path(tmp_path):
    return tmp_path / "vault"


def test_another_file_that_was_parked_is_put_back(bad, vault_path):
    ((record_id,), _) = contents_of(vault_path)
    bad.unlink()
    put(vault_path / "pending" / f"{record_id}.original", b"another patient")
    assert_sound(vault_path)
    assert bad.read_bytes() == b"another patient"
    assert contents_of(vault_path) == ([], [])
    assert actions_of(vault_path) == ["store", "store-undone"]


def test_the_original_stays_if_its_object_is_damaged(bad, vault_path):
    (packed,) = (vault_path / "objects").iterdir()
    os.truncate(packed, packed.stat().st_size - 40)
    assert_sound(vault_path)
    assert bad.read_bytes() == CONTENT
    assert contents_of(vault_path) == ([], [])


def test_the_original_comes_back_if_its_object_is_damaged(tmp_path, vault_path):
    bad = put(tmp_path / "bad")
    dies_at("_let_go", vault_path, bad)
    assert not bad.exists()
    (packed,) = (vault_path / "objects").iterdir()
    os.truncate(packed, packed.stat().st_size - 40)
    assert_sound(vault_path)
    assert bad.read_bytes() == CONTENT
    assert contents_of(vault_path) == ([], [])


def test_a_record_stays_though_its_object_is_damaged_if_the_original_is_gone(bad, vault_path):
    bad.unlink()
    (packed,) = (vault_path / "objects").iterdir()
    os.truncate(packed, packed.stat().st_size - 40)
    writer(vault_path).close()
    assert [len(names) for names in contents_of(vault_path)] == [1, 1]
    ((path, what),) = problems_of(vault_path)
    assert path == f"objects/{packed.name}"
    assert "cannot be decoded" in what


@pytest.mark.parametrize("change", ["content", "time", "place", "folder"])
def test_what_is_not_the_original_any_more_is_left_to_be_scanned(bad, vault_path, tmp_path, change):
    if change == "content":
        before = bad.stat()
        put(bad, CONTENT[::-1])
        os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "time":
        os.utime(bad, ns=(1, 1))
    else:
        bad.rename(tmp_path / "renamed")
        if change == "folder":
            bad.mkdir()
    assert_sound(vault_path)
    assert len(contents_of(vault_path)[0]) == 1
    assert bad.exists() != (change == "place")


def test_the_original_is_known_again_on_a_file_system_with_other_numbers(bad, vault_path):
    """A share may have another device and inode number after a restart."""
    before = bad.stat()
    copy = put(bad.with_name("copy"), bad.read_bytes())
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.rename(bad)
    assert bad.stat().st_ino != before.st_ino
    assert_one_outcome(vault_path, bad)
    assert not bad.exists()


def test_an_object_stays_that_another_record_needs(tmp_path, vault_path):
    """It came with a file that was not committed, but something else relies on it by now."""
    dies_at("objects.sync", vault_path, put(tmp_path / "bad"))
    (draft,) = (vault_path / "pending").glob("*.json")
    values = json.loads(draft.read_bytes()) | {"id": "20200101"}
    put(vault_path / "records" / "20200101.json", json.dumps(values).encode(), 0o600)
    with writer(vault_path) as vault:
        vault.verify(vault.record("20200101"))
    assert leftovers(vault_path) == []


def test_records_that_could_not_be_withdrawn_are_finished_before_anything_else(
    tmp_path, vault_path
):
    def fails(*_arguments, **_options):
        raise OSError(errno.EIO, "a test")

    files = [put(tmp_path / name) for name in ("first", "second")]
    with writer(vault_path) as vault:
        vault._take = vault._withdraw = fails
        for file in files:
            with pytest.raises(OSError, match="a test"):
                store(vault, file)
        assert all(file.exists() for file in files)
        del vault._take, vault._withdraw
        store(vault, put(tmp_path / "third"))
    assert not any(file.exists() for file in files)
    assert [len(names) for names in contents_of(vault_path)] == [3, 1]
    assert_sound(vault_path)
