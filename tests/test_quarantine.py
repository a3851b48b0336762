"""The vault: what goes in comes out, nothing is lost on the way, nothing is overwritten."""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from pathlib import Path

import cart
import pytest

from dicomguard.files import ChangedError, ScannedFile, identity_of, opened_folder
from dicomguard.model import (
    Category,
    Confidence,
    Finding,
    FindingKind,
    Instance,
    Place,
    Region,
    Report,
    Severity,
    Verdict,
)
from dicomguard.quarantine import DamagedError, Record, Vault, VaultError, VaultWriter

CONTENT = b"MZ" + bytes(range(256)) * 1000
KIND = FindingKind(
    id="EMB-PE",
    title="Windows executable",
    category=Category.MALWARE,
    severity=Severity.CRITICAL,
    confidence=Confidence.CONFIRMED,
    why="It can be run.",
)


@pytest.fixture
def ingest(tmp_path):
    folder = tmp_path / "ingest"
    folder.mkdir()
    return folder


@pytest.fixture
def vault_path(tmp_path):
    return tmp_path / "vault"


def writer(vault_path):
    return VaultWriter(str(vault_path), rules_version="r1")


def report_of(path, content=CONTENT, **changes):
    values = {
        "path": str(path),
        "size": len(content),
        "verdict": Verdict.MALICIOUS,
        "findings": (
            Finding(kind=KIND, place=Place(region=Region.GAP, offset=0, length=len(content))),
        ),
        "instance": Instance(study_instance_uid="1.2.3", modality="CT"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return Report(**values | changes)


@contextlib.contextmanager
def scanned(path):
    """The file as a scan has just seen it."""
    path = Path(path)
    with opened_folder(str(path.parent)) as folder:
        yield ScannedFile(
            folder=folder, name=path.name, path=str(path), identity=identity_of(path.lstat())
        )


def store(vault, path, content=CONTENT, **changes):
    with scanned(path) as file:
        return vault.store(file, report_of(path, content, **changes))


def put(path, content=CONTENT, mode=0o644):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def leftovers(vault_path):
    return sorted(entry.name for entry in (vault_path / "pending").iterdir())


def contents_of(vault_path):
    """Record ids and object names, as they lie in the folders."""
    return (
        sorted(entry.stem for entry in (vault_path / "records").iterdir()),
        sorted(entry.stem for entry in (vault_path / "objects").iterdir()),
    )


def test_a_stored_file_is_gone_and_its_record_tells_all(ingest, vault_path):
    bad = put(ingest / "bad.dcm", mode=0o755)
    os.utime(bad, ns=(1_500_000_000_123_456_789,) * 2)
    before = bad.stat()
    with writer(vault_path) as vault:
        record = store(vault, bad)
        vault.verify(record)
        assert vault.record(record.id) == record
    assert not bad.exists()
    written = json.loads((vault_path / "records" / f"{record.id}.json").read_bytes())
    assert written["schema_version"] == 1
    assert written["original_path"] == str(bad)
    assert written["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert written["size"] == len(CONTENT)
    assert written["mode"] == "0755"
    assert (written["uid"], written["gid"]) == (before.st_uid, before.st_gid)
    assert written["mtime"] == "2017-07-14T02:40:00.123456+00:00"
    assert written["mtime_ns"] == before.st_mtime_ns
    assert written["ctime_ns"] == before.st_ctime_ns
    assert written["verdict"] == "malicious"
    assert written["study_instance_uid"] == "1.2.3"
    assert written["modality"] == "CT"
    assert [finding["id"] for finding in written["findings"]] == ["EMB-PE"]
    assert written["rules_version"] == "r1"
    assert leftovers(vault_path) == []


def test_nobody_else_can_read_the_vault_and_nothing_in_it_is_the_payload(ingest, vault_path):
    vault_path.mkdir(mode=0o755)
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad.exe"))
    for folder, _, files in os.walk(vault_path):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        for name in files:
            file = Path(folder, name)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert CONTENT[:64] not in file.read_bytes()
    packed = vault_path / "objects" / f"{record.sha256}.cart"
    assert cart.is_cart(packed.read_bytes()[:64])


def test_equal_content_shares_an_object_and_has_two_records(ingest, vault_path):
    with writer(vault_path) as vault:
        first = store(vault, put(ingest / "a"))
        second = store(vault, put(ingest / "b"))
        assert vault.ids() == [first.id, second.id]
    records, objects = contents_of(vault_path)
    assert len(records) == 2
    assert objects == [first.sha256] == [second.sha256]


def test_a_damaged_object_is_replaced_before_a_second_file_relies_on_it(ingest, vault_path):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "a"))
        (vault_path / "objects" / f"{record.sha256}.cart").write_bytes(b"CART garbage")
        second = store(vault, put(ingest / "b"))
        vault.verify(second)
        vault.verify(record)


@pytest.mark.parametrize(
    "name",
    [b"line\nbreak", b"esc\x1b[31m", b"\xff\xfe not utf-8", "bidi \u202e gnp".encode(), b"x" * 255],
)
def test_any_name_is_recorded_and_restored(ingest, vault_path, name):
    path = os.fsdecode(os.path.join(os.fsencode(ingest), name))
    Path(path).write_bytes(CONTENT)
    with writer(vault_path) as vault:
        record_id = store(vault, path).id
    with Vault(str(vault_path)) as vault:
        record = vault.record(record_id)
        assert record.original_path == path
        assert vault.restore(record) == path
    assert Path(path).read_bytes() == CONTENT


def test_a_file_changed_after_the_scan_is_left_alone(ingest, vault_path):
    bad = put(ingest / "bad")
    with writer(vault_path) as vault, scanned(bad) as file:
        put(bad, CONTENT + b"more")
        with pytest.raises(ChangedError):
            vault.store(file, report_of(bad))
    assert bad.read_bytes() == CONTENT + b"more"
    assert contents_of(vault_path) == ([], [])
    assert leftovers(vault_path) == []


def test_a_file_whose_hash_is_not_the_scanned_one_is_left_alone(ingest, vault_path):
    bad = put(ingest / "bad")
    with writer(vault_path) as vault, pytest.raises(ChangedError):
        store(vault, bad, sha256="0" * 64)
    assert bad.read_bytes() == CONTENT
    assert contents_of(vault_path) == ([], [])


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "nothing"])
def test_what_took_the_name_after_the_scan_is_not_touched(ingest, vault_path, tmp_path, kind):
    secret = put(tmp_path / "secret")
    bad = put(ingest / "bad")
    with writer(vault_path) as vault, scanned(bad) as file:
        bad.unlink()
        if kind == "symlink":
            bad.symlink_to(secret)
        elif kind == "fifo":
            os.mkfifo(bad)
        elif kind == "folder":
            bad.mkdir()
        with pytest.raises(ChangedError):
            vault.store(file, report_of(bad))
    assert os.path.lexists(bad) == (kind != "nothing")
    assert secret.read_bytes() == CONTENT
    assert contents_of(vault_path) == ([], [])


class SwappingWriter(VaultWriter):
    """A vault whose file is replaced at the last moment: between the commit and the removal."""

    swap = staticmethod(lambda: None)

    def _take(self, record_id, file):
        self.swap()
        self.swap = lambda: None
        super()._take(record_id, file)


@pytest.mark.parametrize("kind", ["file", "symlink", "folder"])
def test_what_takes_the_name_at_the_last_moment_is_put_back(ingest, vault_path, tmp_path, kind):
    bad, other = put(ingest / "bad"), put(tmp_path / "other", b"another patient")

    def swap():
        bad.unlink()
        if kind == "file":
            other.rename(bad)
        elif kind == "symlink":
            bad.symlink_to(other)
        else:
            bad.mkdir()
            put(bad / "inside", b"another patient")

    with SwappingWriter(str(vault_path), rules_version="r1") as vault:
        vault.swap = swap
        with pytest.raises(ChangedError):
            store(vault, bad)
    content = (bad / "inside" if kind == "folder" else bad).read_bytes()
    assert content == b"another patient"
    assert bad.is_symlink() == (kind == "symlink")
    assert contents_of(vault_path) == ([], [])
    assert leftovers(vault_path) == []


def test_what_cannot_be_put_back_gets_a_record_of_its_own(ingest, vault_path, tmp_path):
    bad, second = put(ingest / "bad"), put(tmp_path / "second", b"the second")

    class Racing(SwappingWriter):
        def _put_back(self, record):
            if not bad.exists():
                put(bad, b"the third")
            super()._put_back(record)

    with Racing(str(vault_path), rules_version="r1") as vault:
        vault.swap = lambda: second.rename(bad)
        with pytest.raises(ChangedError):
            store(vault, bad)
        assert bad.read_bytes() == b"the third"
        (record_id,) = vault.ids()
        record = vault.record(record_id)
        assert record.verdict is Verdict.INCOMPLETE
        assert record.sha256 == hashlib.sha256(b"the second").hexdigest()
        vault.verify(record)
    assert leftovers(vault_path) == []


STEPS = ["_encode", "_write_pending", "_commit", "_take"]


class Killed(BaseException):
    """As SIGKILL: nothing after it runs, so no undoing either."""


def killed_after(step, vault_path, path):
    """Stores a file, and dies just after one step."""
    real = getattr(VaultWriter, step)

    class Dying(VaultWriter):
        def _withdraw(self, record_id, *, check_others=False):
            pass

        def _clear(self, record_id):
            pass

    def dying(self, *arguments):
        real(self, *arguments)
        raise Killed

    setattr(Dying, step, dying)
    with Dying(str(vault_path), rules_version="r1") as vault, contextlib.suppress(Killed):
        store(vault, path)


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_after_any_step_ends_with_one_outcome(ingest, vault_path, step):
    bad = put(ingest / "bad")
    killed_after(step, vault_path, bad)
    assert leftovers(vault_path)
    with writer(vault_path) as vault:
        ids = vault.ids()
        assert bad.exists() == (not ids), "in exactly one of the two places"
        assert bool(ids) == (step in {"_commit", "_take"})
        for record_id in ids:
            vault.verify(vault.record(record_id))
    records, objects = contents_of(vault_path)
    assert len(records) == len(objects)
    assert leftovers(vault_path) == []
    if bad.exists():
        assert bad.read_bytes() == CONTENT


def test_a_crash_with_the_original_parked(ingest, vault_path):
    bad = put(ingest / "bad")
    killed_after("_commit", vault_path, bad)
    (record_id,) = contents_of(vault_path)[0]
    bad.rename(vault_path / "pending" / f"{record_id}.original")
    with writer(vault_path) as vault:
        vault.verify(vault.record(record_id))
    assert not bad.exists()
    assert leftovers(vault_path) == []


def test_a_crash_with_another_file_parked_puts_that_back(ingest, vault_path):
    bad = put(ingest / "bad")
    killed_after("_commit", vault_path, bad)
    (record_id,) = contents_of(vault_path)[0]
    bad.unlink()
    put(vault_path / "pending" / f"{record_id}.original", b"another patient")
    with writer(vault_path):
        pass
    assert bad.read_bytes() == b"another patient"
    assert contents_of(vault_path) == ([], [])
    assert leftovers(vault_path) == []


def test_a_crash_keeps_the_original_when_the_object_is_damaged(ingest, vault_path):
    bad = put(ingest / "bad")
    killed_after("_commit", vault_path, bad)
    (packed,) = (vault_path / "objects").iterdir()
    packed.write_bytes(packed.read_bytes()[:-40])
    with writer(vault_path) as vault:
        assert vault.ids() == []
    assert bad.read_bytes() == CONTENT


def test_a_crash_leaves_a_changed_original_to_be_scanned(ingest, vault_path):
    bad = put(ingest / "bad")
    killed_after("_commit", vault_path, bad)
    put(bad, b"sent again")
    with writer(vault_path) as vault:
        (record_id,) = vault.ids()
        vault.verify(vault.record(record_id))
    assert bad.read_bytes() == b"sent again"


def test_recovery_never_removes_an_object_that_a_record_needs(ingest, vault_path):
    killed_after("_write_pending", vault_path, put(ingest / "first"))
    (draft,) = (name for name in leftovers(vault_path) if name.endswith(".json"))
    stem = draft.removesuffix(".json")
    # As after a failed undoing: the object is the interrupted file's, another record shares it.
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    os.link(vault_path / "pending" / f"{stem}.cart", vault_path / "objects" / f"{sha256}.cart")
    values = json.loads((vault_path / "pending" / draft).read_bytes()) | {"id": "20200101"}
    (vault_path / "records" / "20200101.json").write_text(json.dumps(values))
    with writer(vault_path) as vault:
        vault.verify(vault.record("20200101"))
    assert leftovers(vault_path) == []


@pytest.fixture
def other_filesystem(tmp_path_factory):
    folder = Path("/dev/shm")
    here = tmp_path_factory.getbasetemp()
    if not os.access(folder, os.W_OK) or folder.stat().st_dev == here.stat().st_dev:
        pytest.skip("needs a second file system to write to")
    path = folder / f"dicomguard-test-{os.getpid()}"
    path.mkdir()
    yield path
    for child in sorted(path.rglob("*"), reverse=True):
        child.rmdir() if child.is_dir() else child.unlink()
    path.rmdir()


def test_storing_across_file_systems(other_filesystem, vault_path):
    bad = put(other_filesystem / "bad")
    with writer(vault_path) as vault:
        vault.verify(store(vault, bad))
    assert not bad.exists()


def test_across_file_systems_the_wrong_file_is_not_removed(other_filesystem, vault_path):
    bad, other = put(other_filesystem / "bad"), put(other_filesystem / "other", b"another patient")
    with SwappingWriter(str(vault_path), rules_version="r1") as vault:
        vault.swap = lambda: other.rename(bad)
        with pytest.raises(ChangedError):
            store(vault, bad)
    assert bad.read_bytes() == b"another patient"
    assert contents_of(vault_path) == ([], [])


def test_a_failing_disk_leaves_file_and_vault_as_they_were(ingest, vault_path):
    class Full(VaultWriter):
        def _commit(self, record):
            super()._commit(record)
            raise OSError(28, "No space left on device")

    bad = put(ingest / "bad")
    with Full(str(vault_path), rules_version="r1") as vault, pytest.raises(OSError, match="space"):
        store(vault, bad)
    assert bad.read_bytes() == CONTENT
    assert contents_of(vault_path) == ([], [])
    assert leftovers(vault_path) == []


def test_one_writer_at_a_time_and_readers_beside_it(ingest, vault_path):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
        with pytest.raises(VaultError, match="another daemon"):
            writer(vault_path)
        with Vault(str(vault_path)) as reader:
            assert reader.record(record.id) == record
    with writer(vault_path):
        pass


def test_the_lock_is_a_kernel_lock_that_dies_with_its_holder(vault_path):
    with writer(vault_path), (vault_path / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_folder_that_is_something_else_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "important"
    folder.mkdir(mode=0o755)
    put(folder / "thesis.txt")
    with pytest.raises(VaultError, match="neither a quarantine vault nor empty"):
        writer(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert [entry.name for entry in folder.iterdir()] == ["thesis.txt"]


def test_a_vault_that_is_not_there_is_an_error_not_an_empty_list(tmp_path):
    with pytest.raises(VaultError, match="cannot be opened"):
        Vault(str(tmp_path / "nowhere"))
    with pytest.raises(VaultError, match="cannot be made"):
        writer(tmp_path / "no" / "parent")


def test_records_are_found_by_a_unique_beginning_of_their_id(ingest, vault_path):
    with writer(vault_path) as vault:
        first, _ = store(vault, put(ingest / "a")), store(vault, put(ingest / "b"))
        assert vault.record(first.id[:-1]) == first
        common = first.id[:4]  # the year
        with pytest.raises(VaultError, match="2 records begin"):
            vault.record(common)
        for wrong in ("", "nothing", "../records/" + first.id):
            with pytest.raises(VaultError, match="no record"):
                vault.record(wrong)


def test_restore_gives_back_bytes_time_and_permissions_without_execute(ingest, vault_path):
    bad = put(ingest / "bad", mode=0o4755)
    os.utime(bad, ns=(1_500_000_000_123_456_789,) * 2)
    with writer(vault_path) as vault:
        record = store(vault, bad)
        assert vault.restore(record) == str(bad)
        assert bad.read_bytes() == CONTENT
        assert stat.S_IMODE(bad.stat().st_mode) == 0o644
        assert bad.stat().st_mtime_ns == 1_500_000_000_123_456_789
        assert vault.ids() == [record.id]


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling", "folder"])
def test_restore_overwrites_nothing(ingest, vault_path, tmp_path, kind):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
        target = tmp_path / "target"
        other = put(tmp_path / "other", b"precious")
        if kind == "file":
            put(target, b"precious")
        elif kind == "folder":
            target.mkdir()
        else:
            target.symlink_to(other if kind == "symlink" else tmp_path / "missing")
        with pytest.raises(VaultError, match="exists"):
            vault.restore(record, str(target))
    assert other.read_bytes() == b"precious"
    assert not (tmp_path / "missing").exists()
    if kind == "file":
        assert target.read_bytes() == b"precious"


def test_restore_follows_no_link_that_took_the_place_of_a_folder(ingest, vault_path, tmp_path):
    folder, elsewhere = ingest / "study", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    with writer(vault_path) as vault:
        record = store(vault, put(folder / "bad"))
        folder.rmdir()
        folder.symlink_to(elsewhere)
        with pytest.raises(VaultError, match="cannot restore"):
            vault.restore(record)
        assert list(elsewhere.iterdir()) == []
        # A link in a target that the user names is the user's own.
        vault.restore(record, str(folder / "copy"))
    assert (elsewhere / "copy").read_bytes() == CONTENT


def test_restore_into_a_missing_folder_is_an_error(ingest, vault_path):
    folder = ingest / "study"
    folder.mkdir()
    with writer(vault_path) as vault:
        record = store(vault, put(folder / "bad"))
        folder.rmdir()
        with pytest.raises(VaultError, match="cannot restore"):
            vault.restore(record)
    assert not folder.exists()


def repacked(content):
    """An object that is good CaRT of other bytes."""

    def tamper(packed):
        source = packed.with_suffix(".source")
        source.write_bytes(content)
        cart.pack_file(str(source), str(packed))

    return tamper


def flip_bit(packed):
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(data)


TAMPERINGS = {
    "missing": lambda packed: packed.unlink(),
    "empty": lambda packed: packed.write_bytes(b""),
    "truncated": lambda packed: packed.write_bytes(packed.read_bytes()[: -len(CONTENT) // 200]),
    "bit flipped": flip_bit,
    "other bytes": repacked(b"x" * len(CONTENT)),
    "more bytes": repacked(CONTENT * 100),
    "fewer bytes": repacked(CONTENT[:-1]),
    "huge header": lambda packed: packed.write_bytes(
        packed.read_bytes()[:30] + b"\xff" * 8 + packed.read_bytes()[38:]
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_object_is_detected_and_nothing_is_restored(ingest, vault_path, tampering):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
        TAMPERINGS[tampering](vault_path / "objects" / f"{record.sha256}.cart")
        with pytest.raises(DamagedError):
            vault.verify(record)
        with pytest.raises(DamagedError):
            vault.restore(record)
    assert list(ingest.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"schema_version": 2}'],
)
def test_a_damaged_record_is_an_error_of_its_own(ingest, vault_path, text):
    with writer(vault_path) as vault:
        good = store(vault, put(ingest / "bad"))
        (vault_path / "records" / "damaged.json").write_bytes(text)
        with pytest.raises(DamagedError, match="damaged"):
            vault.record("damaged")
        assert vault.record(good.id) == good


def test_a_record_cannot_name_an_object_outside_the_vault(ingest, vault_path):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
    values = record.to_json() | {"sha256": "../" * 8 + "etc/passwd"}
    with pytest.raises(ValueError, match="SHA-256"):
        Record.from_json(json.dumps(values).encode())
