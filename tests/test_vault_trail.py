"""The audit trail and the allow-list: who did what, when and why, whatever happens."""

import contextlib
import json
import os
import pwd
from datetime import UTC, datetime, timedelta

import pytest

from children import wait_status_of
from dicomguard.quarantine import Entry, Vault, VaultError, export, purge, restore
from dicomguard.quarantine import trail as trail_module
from vaults import (
    CONTENT,
    WEEK,
    actions_of,
    contents_of,
    other_file_system,
    problems_of,
    put,
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


@pytest.fixture
def record(ingest, vault_path):
    with writer(vault_path) as vault:
        return store(vault, put(ingest / "DOE^JANE.dcm"))


def lines_of(vault_path):
    return (vault_path / "audit.jsonl").read_bytes()


def test_every_act_has_a_line(tmp_path, vault_path, record):
    before = datetime.now(UTC)
    with Vault(str(vault_path)) as vault:
        restore(vault, record, reason="ticket 1", allow_for=WEEK)
        export(vault, record, str(tmp_path / "out.cart"), reason="ticket 2")
        assert list(purge(vault, [record], "ticket 3")) == [record]
    entries = trail_of(vault_path)
    assert [(str(entry.action), entry.reason) for entry in entries] == [
        ("store", "malicious: EMB-PE"),
        ("restore", "ticket 1"),
        ("export", "ticket 2"),
        ("purge", "ticket 3"),
    ]
    for entry in entries:
        assert (entry.record, entry.sha256) == (record.id, record.sha256)
        assert (entry.uid, entry.user) == (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)
    times = [datetime.fromisoformat(entry.at) for entry in entries]
    assert times == sorted(times)
    assert before - timedelta(minutes=1) < times[0] <= times[-1] < datetime.now(UTC)
    until = datetime.fromisoformat(entries[1].allowed_until)
    assert WEEK < until - before < WEEK + timedelta(minutes=1)
    for line in lines_of(vault_path).splitlines():
        assert json.loads(line)["schema_version"] == 1
    for patient_data in (b"DOE", b"1.2.3", b"ingest", str(tmp_path).encode()):
        assert patient_data not in lines_of(vault_path)


def test_who_logged_in_is_told_whatever_sudo_made_of_it(monkeypatch, tmp_path, ingest, vault_path):
    number = tmp_path / "loginuid"
    number.write_text(str(os.getuid()))
    real = trail_module.Path
    monkeypatch.setattr(
        trail_module, "Path", lambda path: number if path == "/proc/self/loginuid" else real(path)
    )
    trail_module._login_uid.cache_clear()
    with writer(vault_path) as vault:
        store(vault, put(ingest / "bad"))
    trail_module._login_uid.cache_clear()
    (entry,) = trail_of(vault_path)
    assert (entry.login_uid, entry.login_user) == (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)


def test_a_line_comes_back_as_it_was_and_holds_any_text(record, vault_path):
    reason = "\u202e\n\x00 \udcff " + "\N{PILE OF POO}" * 2000
    entry = Entry.now(trail_of(vault_path)[0].action, record.id, record.sha256, reason)
    line = entry.to_line()
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert len(line) < 64 << 10
    assert Entry.from_line(line) == entry
    assert len(entry.reason) == 1000


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"schema_version": 2}',
        b"[" * 100_000,
        b"\xff",
        b'{"schema_version": 1, "at": ""}',
    ],
)
def test_what_is_no_line(line):
    with pytest.raises(ValueError, match=r"\S"):
        Entry.from_line(line)


@pytest.mark.parametrize("cut", [1, 100, 300])
def test_a_last_line_that_was_cut_short_is_removed_by_the_next_writer(vault_path, record, cut):
    whole = lines_of(vault_path)
    with (vault_path / "audit.jsonl").open("ab") as target:
        target.write(whole[:cut])
    with Vault(str(vault_path)) as vault:
        assert not vault.is_allowed(record.sha256)
        restore(vault, record, reason="a test", allow_for=WEEK)
        assert vault.is_allowed(record.sha256)
    assert lines_of(vault_path).startswith(whole)
    assert actions_of(vault_path) == ["store", "restore"]


def test_a_first_line_that_was_cut_short(tmp_path, vault_path):
    writer(vault_path).close()
    (vault_path / "audit.jsonl").write_bytes(b'{"schema')
    with writer(vault_path) as vault:
        store(vault, put(tmp_path / "bad"))
    assert actions_of(vault_path) == ["store"]


def test_a_trail_without_line_ends_stops_everything_but_harms_nothing(vault_path, record):
    with (vault_path / "audit.jsonl").open("ab") as target:
        target.write(b"x" * (1 << 20))
    before = lines_of(vault_path)
    with Vault(str(vault_path)) as vault:
        with pytest.raises(VaultError, match="line of no end"):
            restore(vault, record, reason="a test")
        assert not vault.is_allowed(record.sha256)
    assert lines_of(vault_path) == before
    with pytest.raises(VaultError, match="line of no end"):
        writer(vault_path)


def test_a_process_that_was_stopped_with_the_lock_stops_others_only_for_a_while(
    ingest, vault_path, record, monkeypatch
):
    monkeypatch.setattr(trail_module, "_LOCK_SECONDS", 0.2)
    with writer(vault_path) as vault, Vault(str(vault_path)) as other, other.changing():
        bad = put(ingest / "bad", b"other")
        with pytest.raises(TimeoutError, match=r"keeps audit\.jsonl locked"):
            store(vault, bad, b"other")
        assert bad.read_bytes() == b"other"
        with pytest.raises(VaultError, match=r"keeps audit\.jsonl locked"):
            restore(vault, record, reason="a test")
        with pytest.raises(VaultError, match=r"keeps audit\.jsonl locked"):
            list(purge(vault, [record], "a test"))
    with writer(vault_path) as vault:
        store(vault, bad, b"other")
    assert problems_of(vault_path) == []
    assert actions_of(vault_path) == ["store", "store"]


def test_an_act_that_fails_at_the_very_end_is_told_of_as_undone(ingest, vault_path, record):
    target = ingest / "target"

    class Racing(Vault):
        """Somebody takes the name between the line and the file."""

        def changing(self):
            put(target, b"precious")
            return super().changing()

    for act in (restore, export):
        target.unlink(missing_ok=True)
        with Racing(str(vault_path)) as vault, pytest.raises(VaultError, match="exists"):
            act(vault, record, str(target), reason="a test")
        assert target.read_bytes() == b"precious"
    assert actions_of(vault_path)[1:] == ["restore", "restore-undone", "export", "export-undone"]


def test_a_store_that_is_undone_is_told_of(ingest, vault_path):
    with writer(vault_path) as vault:
        take = vault._take

        def late(record_id, file):
            put(ingest / "bad", b"changed")
            take(record_id, file)

        vault._take = late
        with pytest.raises(Exception, match="bad"):
            store(vault, put(ingest / "bad"))
    assert actions_of(vault_path) == ["store", "store-undone"]
    assert problems_of(vault_path) == []


# The allow-list


def test_only_restored_content_is_allowed_and_only_for_a_time(tmp_path, vault_path, record):
    with Vault(str(vault_path)) as daemon, Vault(str(vault_path)) as operator:
        assert not daemon.is_allowed(record.sha256)
        restore(operator, record, str(tmp_path / "1"), reason="a test")
        assert not daemon.is_allowed(record.sha256), "nobody asked for that"
        export(operator, record, str(tmp_path / "2"), reason="a test")
        assert not daemon.is_allowed(record.sha256)
        restore(operator, record, str(tmp_path / "3"), reason="a test", allow_for=WEEK)
        assert daemon.is_allowed(record.sha256), "it sees what is new"
        assert not daemon.is_allowed(sha256_of(b"other"))
        assert not daemon.is_allowed(None)
        restore(
            operator, record, str(tmp_path / "4"), reason="a test", allow_for=timedelta(seconds=-1)
        )
        assert not daemon.is_allowed(record.sha256), "the last word counts, and has expired"


def test_a_restore_that_did_not_happen_allows_nothing(tmp_path, vault_path, record):
    class Racing(Vault):
        def changing(self):
            put(tmp_path / "target", b"precious")
            return super().changing()

    with Racing(str(vault_path)) as vault:
        with pytest.raises(VaultError):
            restore(vault, record, str(tmp_path / "target"), reason="a test", allow_for=WEEK)
        assert not vault.is_allowed(record.sha256)


def test_a_trail_that_is_replaced_or_gone_allows_what_it_says_itself(tmp_path, vault_path, record):
    trail = vault_path / "audit.jsonl"
    with Vault(str(vault_path)) as vault:
        restore(vault, record, str(tmp_path / "1"), reason="a test", allow_for=WEEK)
        assert vault.is_allowed(record.sha256)
        kept = trail.read_bytes()
        trail.unlink()
        assert not vault.is_allowed(record.sha256)
        put(trail, kept, 0o600)
        assert vault.is_allowed(record.sha256)
        put(trail, kept.splitlines(keepends=True)[0], 0o600)
        assert not vault.is_allowed(record.sha256)
        trail.unlink()
        trail.symlink_to(put(tmp_path / "elsewhere", kept))
        assert not vault.is_allowed(record.sha256)


def test_a_malformed_line_allows_nothing(tmp_path, vault_path, record):
    with Vault(str(vault_path)) as vault:
        restore(vault, record, str(tmp_path / "1"), reason="a test", allow_for=WEEK)
        trail = vault_path / "audit.jsonl"
        line = trail.read_bytes().splitlines(keepends=True)[1]
        for wrong in (b'"allowed_until": "later', b'"allowed_until": "2999-01-01T00:00:00'):
            put(trail, line.replace(b'"allowed_until": "20', wrong), 0o600)
            assert not vault.is_allowed(record.sha256)


def test_looking_again_reads_only_what_is_new(tmp_path, vault_path, record, monkeypatch):
    read = []
    real = trail_module.Entry.from_line
    monkeypatch.setattr(
        trail_module.Entry, "from_line", lambda line: read.append(line) or real(line)
    )
    with Vault(str(vault_path)) as vault:
        for number in range(3):
            target = str(tmp_path / str(number))
            restore(vault, record, target, reason="a test", allow_for=WEEK)
            assert vault.is_allowed(record.sha256)
            assert vault.is_allowed(record.sha256)
    assert len(read) == 3


# Purging


def test_an_object_goes_with_its_last_record(ingest, vault_path, record):
    with writer(vault_path) as vault:
        second = store(vault, put(ingest / "second"))
        assert list(purge(vault, [record], "a test")) == [record]
        vault.verify(second)
        assert list(purge(vault, [record, second], "a test")) == [second], "one is gone already"
    assert contents_of(vault_path) == ([], [])
    assert problems_of(vault_path) == []


def test_a_record_that_cannot_be_read_may_need_any_object(ingest, vault_path, record):
    with writer(vault_path) as vault:
        damaged = store(vault, put(ingest / "second"))
        path = vault_path / "records" / f"{damaged.id}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:50])
        list(purge(vault, [record], "a test"))
    assert contents_of(vault_path) == ([damaged.id], [record.sha256])
    path.write_bytes(whole)
    with Vault(str(vault_path)) as vault:
        vault.verify(vault.record(damaged.id))
        list(purge(vault, [damaged], "a test"))
    assert contents_of(vault_path) == ([], [])


def test_many_are_purged_in_turns(ingest, vault_path):
    count = 450
    with writer(vault_path) as vault:
        records = [
            store(vault, put(ingest / "bad", content), content)
            for content in (b"%d" % (number % 300) for number in range(count))
        ]
        assert list(purge(vault, records[:-1], "a test")) == records[:-1]
    assert contents_of(vault_path) == ([records[-1].id], [records[-1].sha256])
    assert problems_of(vault_path) == []


def test_nobody_has_to_wait_while_a_purge_reads_all_records(ingest, vault_path, record):
    read = []

    class Spying(Vault):
        held = False

        @contextlib.contextmanager
        def changing(self):
            with super().changing() as trail:
                self.held = True
                yield trail
                self.held = False

        def read_record(self, record_id):
            read.append(self.held)
            return super().read_record(record_id)

    with writer(vault_path) as vault:
        store(vault, put(ingest / "second"))
    with Spying(str(vault_path)) as vault:
        assert list(purge(vault, [record], "a test")) == [record]
    assert read == [False, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_root_does_leaves_the_vault_to_its_owner():
    """An operator works as root in the vault of a daemon that is not."""
    owner = 12345

    def as_owner(action):
        def act():
            os.setgroups([])
            os.setgid(owner)
            os.setuid(owner)
            action()

        assert wait_status_of(act) == 0

    def daemon_stores():
        with writer(vault_path) as vault:
            store(vault, put(ingest / "bad"))

    def daemon_goes_on():
        with writer(vault_path) as vault:
            assert vault.is_allowed(record.sha256)
            store(vault, put(ingest / "bad", b"other"), b"other")
            assert problems_of(vault_path) == []
            assert restore(vault, record, reason="a test") == str(ingest / "bad")

    with other_file_system() as folder:  # which other users may enter, unlike the tests' own
        folder.chmod(0o755)
        vault_path, ingest = folder / "vault", folder / "ingest"
        for path in (vault_path, ingest):
            path.mkdir(mode=0o700)
            os.chown(path, owner, owner)
        as_owner(daemon_stores)
        (vault_path / "audit.jsonl").unlink()  # so that root makes the next one
        with Vault(str(vault_path)) as vault:
            record = vault.record(vault.ids()[0])
            with pytest.raises(VaultError, match="belongs to uid 12345"):
                restore(vault, record, reason="a test")
            restore(vault, record, str(folder / "out"), reason="a test", allow_for=WEEK)
        assert (folder / "out").stat().st_uid == 0
        as_owner(daemon_goes_on)
        assert (ingest / "bad").read_bytes() == CONTENT
