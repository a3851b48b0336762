"""The vault: what goes in comes out, nothing is lost on the way, nothing is overwritten."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cart
import pytest

from dicomguard.files import ChangedError
from dicomguard.model import Verdict
from dicomguard.quarantine import (
    DamagedError,
    Record,
    Vault,
    VaultError,
    VaultWriter,
    export,
    objects,
    purge,
    restore,
)
from dicomguard.quarantine.record import MOST_FINDINGS
from vaults import (
    CONTENT,
    actions_of,
    contents_of,
    leftovers,
    other_file_system,
    problems_of,
    put,
    report_of,
    scanned,
    sha256_of,
    store,
    trail_of,
    writer,
)


@pytest.fixture
def ingest(tmp_path):
    folder = tmp_path / "ingest"
    folder.mkdir()
    return folder


@pytest.fixture
def vault_path(tmp_path):
    return tmp_path / "vault"


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
    assert written["sha256"] == sha256_of(CONTENT)
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
        assert restore(vault, record, reason="test") == path
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

    with writer(vault_path, SwappingWriter) as vault:
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
            return super()._put_back(record)

    with writer(vault_path, Racing) as vault:
        vault.swap = lambda: second.rename(bad)
        with pytest.raises(ChangedError):
            store(vault, bad)
        assert bad.read_bytes() == b"the third"
        (record_id,) = vault.ids()
        record = vault.record(record_id)
        assert record.verdict is Verdict.INCOMPLETE
        assert record.sha256 == sha256_of(b"the second")
        vault.verify(record)
    assert leftovers(vault_path) == []


def test_storing_across_file_systems(vault_path):
    with other_file_system() as elsewhere, writer(vault_path) as vault:
        bad = put(elsewhere / "bad")
        vault.verify(store(vault, bad))
        assert not bad.exists()


def test_across_file_systems_the_wrong_file_is_not_removed(vault_path):
    with other_file_system() as elsewhere, writer(vault_path, SwappingWriter) as vault:
        bad, other = put(elsewhere / "bad"), put(elsewhere / "other", b"another patient")
        vault.swap = lambda: other.rename(bad)
        with pytest.raises(ChangedError):
            store(vault, bad)
        assert bad.read_bytes() == b"another patient"
    assert contents_of(vault_path) == ([], [])


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
        assert restore(vault, record, reason="test") == str(bad)
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
            restore(vault, record, str(target), reason="test")
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
        with pytest.raises(VaultError, match="nothing is written"):
            restore(vault, record, reason="test")
        assert list(elsewhere.iterdir()) == []
        # A link in a target that the user names is the user's own.
        restore(vault, record, str(folder / "copy"), reason="test")
    assert (elsewhere / "copy").read_bytes() == CONTENT


def test_restore_into_a_missing_folder_is_an_error(ingest, vault_path):
    folder = ingest / "study"
    folder.mkdir()
    with writer(vault_path) as vault:
        record = store(vault, put(folder / "bad"))
        folder.rmdir()
        with pytest.raises(VaultError, match="nothing is written"):
            restore(vault, record, reason="test")
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
            restore(vault, record, reason="test")
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


MEASURED = """
import re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dicomguard.quarantine import restore
from vaults import store, writer
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
with writer(sys.argv[2]) as vault:
    record = store(vault, Path(sys.argv[3]), sha256=None)
    restore(vault, record, reason="a test")
    store(vault, Path(sys.argv[3]), sha256=record.sha256)
print(peak() - before)
"""


@pytest.mark.parametrize(
    "size", [128 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)], ids=["128 MiB", "1 GiB"]
)
def test_a_huge_file_is_never_in_memory(ingest, vault_path, size):
    """All zeros: they decode to a thousand times as much as is read."""
    bad = ingest / "bad"
    with bad.open("wb") as target:
        target.truncate(size)
    command = [sys.executable, "-c", MEASURED, Path(__file__).parent, vault_path, bad]
    done = subprocess.run(command, capture_output=True, check=True)
    assert int(done.stdout) << 10 < 32 << 20
    assert not bad.exists()


def test_equal_content_is_encoded_once(ingest, vault_path, monkeypatch):
    encoded = []
    real = objects.encode
    monkeypatch.setattr(objects, "encode", lambda *arguments: encoded.append(1) or real(*arguments))
    with writer(vault_path) as vault:
        for number in range(3):
            store(vault, put(ingest / str(number)))
    assert len(encoded) == 1
    assert problems_of(vault_path) == []


def test_a_record_keeps_the_worst_of_very_many_findings(ingest, vault_path):
    bad = put(ingest / "bad")
    finding = report_of(bad).findings[0]
    with writer(vault_path) as vault:
        record = store(vault, bad, findings=(finding,) * (MOST_FINDINGS + 5))
        again = vault.record(record.id)
    assert len(again.findings) == MOST_FINDINGS
    assert again.findings_total == MOST_FINDINGS + 5


def test_root_restores_owner_and_group_in_the_original_place(ingest, vault_path, tmp_path):
    if os.geteuid():
        pytest.skip("only root can give files away")
    bad = put(ingest / "bad")
    os.chown(bad, 12345, 12346)
    with writer(vault_path) as vault:
        record = store(vault, bad)
        restore(vault, record, reason="a test")
        restore(vault, record, str(tmp_path / "elsewhere"), reason="a test")
    assert (bad.stat().st_uid, bad.stat().st_gid) == (12345, 12346)
    assert (tmp_path / "elsewhere").stat().st_uid == 0


@pytest.fixture
def without_unnamed_files(tmp_path):
    """A folder on a file system that has no O_TMPFILE, as NFS."""
    real, folder = tmp_path / "real", tmp_path / "fuse"
    real.mkdir()
    folder.mkdir()
    if shutil.which("bindfs") is None:
        pytest.skip("needs bindfs")
    if subprocess.run(["bindfs", real, folder], check=False).returncode:
        pytest.skip("may not mount")
    with pytest.raises(OSError, match="not supported"):
        os.open(folder, os.O_TMPFILE | os.O_WRONLY)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_restoring_where_no_file_is_without_a_name(ingest, vault_path, without_unnamed_files):
    target = without_unnamed_files / "target"
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
        restore(vault, record, str(target), reason="a test")
        with pytest.raises(VaultError, match="exists"):
            restore(vault, record, str(target), reason="a test")
    assert [path.name for path in without_unnamed_files.iterdir()] == ["target"]
    assert target.read_bytes() == CONTENT


def meddling_encode(monkeypatch, meddle):
    """Lets something happen when an object has been encoded."""
    real = objects.encode

    def encode(source, target):
        sha256 = real(source, target)
        meddle(target)
        return sha256

    monkeypatch.setattr(objects, "encode", encode)


def test_a_file_changed_while_it_is_copied_is_left_alone(ingest, vault_path, monkeypatch):
    """Nobody knows its hash, and whoever changed it has put the time back."""
    bad = put(ingest / "bad")
    before = bad.stat()

    def meddle(_target):
        put(bad, CONTENT[::-1])
        os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))

    meddling_encode(monkeypatch, meddle)
    with writer(vault_path) as vault, pytest.raises(ChangedError):
        store(vault, bad, sha256=None)
    assert bad.read_bytes() == CONTENT[::-1]
    assert contents_of(vault_path) == ([], [])


def test_what_does_not_read_back_as_written_is_not_relied_on(ingest, vault_path, monkeypatch):
    bad = put(ingest / "bad")
    meddling_encode(monkeypatch, lambda target: target.write(b"what the disk made of it"))
    with writer(vault_path) as vault, pytest.raises(OSError, match="does not read back"):
        store(vault, bad)
    assert bad.read_bytes() == CONTENT
    assert contents_of(vault_path) == ([], [])
    assert leftovers(vault_path) == []


def test_an_object_that_is_purged_when_equal_content_is_just_being_stored(ingest, vault_path):
    with writer(vault_path) as vault:
        first = store(vault, put(ingest / "first"))
        prepare = vault._prepare

        def slow(*arguments):
            record = prepare(*arguments)
            with Vault(str(vault_path)) as other:
                assert list(purge(other, [first], "a test")) == [first]
            assert contents_of(vault_path) == ([], [])
            return record

        vault._prepare = slow
        vault.verify(store(vault, put(ingest / "second")))
    assert problems_of(vault_path) == []


class Counted(io.BytesIO):
    """A stream that knows how much went through it."""

    passed = 0

    def read(self, size=-1):
        data = super().read(size)
        self.passed += len(data)
        return data

    def write(self, data):
        self.passed += len(data)
        return super().write(data)


def encoded(content):
    target = io.BytesIO()
    return objects.encode(io.BytesIO(content), target), target.getvalue()


def test_no_more_is_decoded_than_was_recorded():
    sha256, packed = encoded(bytes(100 << 20))
    target = Counted()
    with pytest.raises(DamagedError, match="more bytes than were recorded"):
        objects.decode(io.BytesIO(packed), sha256, size=1000, target=target)
    assert target.passed <= 1000


def test_an_object_that_goes_on_after_its_end_is_not_read_to_that():
    sha256, packed = encoded(CONTENT)
    source = Counted(packed + bytes(50 << 20))
    with pytest.raises(DamagedError, match="goes on after its end"):
        objects.decode(source, sha256)
    assert source.passed < 2 << 20


# Exporting


def test_an_export_is_what_laboratories_exchange(ingest, vault_path, tmp_path):
    target, decoded = tmp_path / "sample.cart", tmp_path / "decoded"
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "DOE^JANE.dcm"))
        export(vault, record, str(target), reason="a test")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert cart.get_metadata_only(str(target)) == {
        "name": record.sha256,
        "verdict": "malicious",
        "findings": ["EMB-PE"],
        "quarantined_at": record.quarantined_at,
        "dicomguard": record.dicomguard_version,
        "md5": hashlib.md5(CONTENT).hexdigest(),
        "sha1": hashlib.sha1(CONTENT).hexdigest(),
        "sha256": record.sha256,
        "length": str(len(CONTENT)),
    }
    subprocess.run([sys.executable, "-m", "cart.cart", "-o", decoded, target], check=True)
    assert decoded.read_bytes() == CONTENT
    for secret in (b"DOE", b"1.2.3", CONTENT[:64]):
        assert secret not in target.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_an_export_of_any_size(ingest, vault_path, tmp_path, size):
    content = os.urandom(size)
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad", content), content)
        vault.verify(record)
        export(vault, record, str(tmp_path / "out"), reason="a test")
    cart.unpack_file(str(tmp_path / "out"), str(tmp_path / "decoded"))
    assert (tmp_path / "decoded").read_bytes() == content


def test_what_is_damaged_is_not_exported(ingest, vault_path, tmp_path):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
        flip_bit(vault_path / "objects" / f"{record.sha256}.cart")
        with pytest.raises(DamagedError):
            export(vault, record, str(tmp_path / "out"), reason="a test")
    assert not (tmp_path / "out").exists()
    assert actions_of(vault_path) == ["store"]


def test_an_export_overwrites_nothing(ingest, vault_path, tmp_path):
    with writer(vault_path) as vault:
        record = store(vault, put(ingest / "bad"))
        target = put(tmp_path / "out", b"precious")
        with pytest.raises(VaultError, match="exists"):
            export(vault, record, str(target), reason="a test")
    assert target.read_bytes() == b"precious"


# The command line


@pytest.fixture
def records(ingest, vault_path):
    """Records of the content of `CONTENT` twice, and of something else."""
    with writer(vault_path) as vault:
        return [
            store(vault, put(ingest / name, content), content)
            for name, content in (("a", CONTENT), ("b\x1b[31m", CONTENT), ("c", b"other"))
        ]


def run(vault_path, command, *arguments, code=0):
    """Runs ``dicomguard quarantine``; its standard output."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dicomguard", "quarantine", command),
            *("--quarantine", vault_path, *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()
    return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.mark.usefixtures("records")
def test_verify_says_that_all_is_well(vault_path):
    text = run(vault_path, "verify")
    assert text == f"3 records, 2 objects of {len(CONTENT) + 5} bytes: sound\n"
    assert json.loads(run(vault_path, "verify", "--format", "jsonl")) == {
        "type": "summary",
        "records": 3,
        "objects": 2,
        "bytes": len(CONTENT) + 5,
        "damage": 0,
    }


def test_verify_says_what_is_damaged(vault_path, records):
    flip_bit(vault_path / "objects" / f"{records[0].sha256}.cart")
    put(vault_path / "pending" / "esc\x1b[31m", b"")
    put(vault_path / "pending" / f"{records[0].id}.cart", b"")
    lines = run(vault_path, "verify", code=1).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"damage  objects/{records[0].sha256}.cart: cannot be decoded")
    assert lines[1].startswith(f"note    pending/{records[0].id}.cart: in hand")
    assert lines[2] == "damage  pending/esc\\x1b[31m: is no file of a vault"
    assert lines[3].endswith(": 2 damaged")
    *problems, summary = map(
        json.loads, run(vault_path, "verify", "--format", "jsonl", code=1).splitlines()
    )
    assert [problem["is_damage"] for problem in problems] == [True, False, True]
    assert summary["damage"] == 2


def test_verify_of_what_is_no_vault(tmp_path):
    assert "cannot be opened" in run(tmp_path / "missing", "verify", code=2)


def test_restore_keeps_the_reason_and_allows_for_a_week(vault_path, records, ingest):
    first = records[0].id
    assert "restore needs a reason" in run(vault_path, "restore", first, code=2)
    assert "say why" in run(vault_path, "restore", first, "--reason", " ", code=2)
    assert "say why" in run(vault_path, "restore", first, "--reason", "x" * 1001, code=2)
    assert not (ingest / "a").exists()
    assert "allowed for 7 days" in run(vault_path, "restore", first, "--reason", "ticket 7")
    assert (ingest / "a").read_bytes() == CONTENT
    with Vault(str(vault_path)) as vault:
        assert vault.is_allowed(records[0].sha256)
    assert trail_of(vault_path)[-1].reason == "ticket 7"


def test_restore_that_allows_nothing(vault_path, records):
    run(vault_path, "restore", records[0].id, "--reason", "x", "--allow-days", "0")
    with Vault(str(vault_path)) as vault:
        assert not vault.is_allowed(records[0].sha256)


def test_export_from_the_command_line(vault_path, records, tmp_path):
    target = tmp_path / "out.cart"
    assert "--reason" in run(vault_path, "export", records[0].id, "--to", target, code=2)
    run(vault_path, "export", records[0].id, "--to", target, "--reason", "to the lab")
    assert cart.is_cart(target.read_bytes())
    assert "exists" in run(
        vault_path, "export", records[0].id, "--to", target, "--reason", "x", code=2
    )


def test_purge_by_id_says_what_it_would_do_and_does_it(vault_path, records):
    first, second, third = (record.id for record in records)
    before = contents_of(vault_path)
    said = run(vault_path, "purge", first, third, "--reason", "x", "--dry-run").splitlines()
    assert contents_of(vault_path) == before
    assert actions_of(vault_path) == ["store"] * 3
    done = run(vault_path, "purge", first, third, "--reason", "x").splitlines()
    assert [line.replace("would purge", "purged") for line in said[:2]] == done[:2]
    assert first in done[0]
    assert done[0].endswith("the content stays, 1 more may need it")
    assert third in done[1]
    assert "stays" not in done[1]
    assert (said[2], done[2]) == ("2 would be purged", "2 purged")
    assert contents_of(vault_path) == ([second], [records[0].sha256])
    assert problems_of(vault_path) == []


def test_purge_by_age(vault_path, records):
    old = records[1]
    path = vault_path / "records" / f"{old.id}.json"
    past = datetime.now(UTC) - timedelta(days=30, minutes=1)
    path.write_text(json.dumps(old.to_json() | {"quarantined_at": past.isoformat()}))
    for days, count in ("31", 0), ("30", 1):
        run(vault_path, "purge", "--older-than", days, "--reason", "retention")
        assert len(contents_of(vault_path)[0]) == 3 - count
    assert not path.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "x"],
        ["ID", "--older-than", "1", "--reason", "x"],
        ["--older-than", "0", "--reason", "x"],
        ["ID"],
        ["--older-than", "1"],
        ["ID-SHORT", "--reason", "x"],
        ["ID", "no such id", "--reason", "x"],
    ],
)
def test_purge_only_does_exactly_what_it_is_told(vault_path, records, arguments):
    ids = {"ID": records[2].id, "ID-SHORT": records[2].id[:-1]}
    run(vault_path, "purge", *(ids.get(each, each) for each in arguments), code=2)
    assert len(contents_of(vault_path)[0]) == 3
    assert actions_of(vault_path) == ["store"] * 3


def test_purge_takes_nothing_from_the_environment(vault_path, records, monkeypatch):
    for name, value in ("OLDER_THAN", "1"), ("REASON", "x"):
        monkeypatch.setenv(f"DICOMGUARD_QUARANTINE_PURGE_{name}", value)
    run(vault_path, "purge", code=2)
    run(vault_path, "purge", records[0].id, code=2)


def test_purge_by_age_passes_over_what_cannot_be_read_and_says_so(vault_path, records):
    (vault_path / "records" / f"{records[0].id}.json").write_bytes(b"{")
    text = run(vault_path, "purge", "--older-than", "1", "--reason", "x", code=1)
    assert f"record {records[0].id} cannot be read" in text
    assert "0 purged" in text
