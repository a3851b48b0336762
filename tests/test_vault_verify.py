"""`verify`: whatever was done to a vault is found, and nothing else is said."""

import json
import os
import stat

import cart
import pytest

from children import wait_status_of
from dicomguard.quarantine import DamagedError, Vault, Verification, purge, restore
from vaults import (
    CONTENT,
    leftovers,
    problems_of,
    put,
    sha256_of,
    store,
    trail_of,
    writer,
)

OTHER = b"other " * 1000


@pytest.fixture
def vault_path(tmp_path):
    """A vault with three records of two contents."""
    path = tmp_path / "vault"
    with writer(path) as vault:
        for name, content in ("a", CONTENT), ("b", CONTENT), ("c", OTHER):
            store(vault, put(tmp_path / name, content), content)
    return path


def records_of(vault_path):
    return sorted((vault_path / "records").iterdir())


def object_of(vault_path, content=CONTENT):
    return vault_path / "objects" / f"{sha256_of(content)}.cart"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes, indent=2) + "\n")


def swap(first, second):
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def recoded(path, content):
    """Replaces an object by good CaRT of other bytes."""
    source = path.with_suffix(".source")
    source.write_bytes(content)
    cart.pack_file(str(source), str(path))
    source.unlink()


def replaced_by_link(path):
    real = path.with_name(path.name + ".real")
    path.rename(real)
    path.symlink_to(real)
    return real


def replaced_by_fifo(path):
    path.unlink()
    os.mkfifo(path, 0o600)


def replaced_by_socket(path):
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


def test_a_sound_vault(vault_path):
    assert problems_of(vault_path) == []


def test_an_empty_vault(tmp_path):
    writer(tmp_path / "new").close()
    assert problems_of(tmp_path / "new") == []


OBJECT_TAMPERINGS = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 50),
    "empty": lambda path: os.truncate(path, 0),
    "bit flipped": lambda path: path.write_bytes(
        path.read_bytes()[:99] + bytes([path.read_bytes()[99] ^ 1]) + path.read_bytes()[100:]
    ),
    "not CaRT": lambda path: path.write_bytes(CONTENT),
    "other bytes": lambda path: recoded(path, b"x" * len(CONTENT)),
    "a little more": lambda path: recoded(path, CONTENT + b"!"),
    "bytes after the end": lambda path: path.write_bytes(path.read_bytes() + bytes(3 << 20)),
    "swapped": lambda path: swap(path, object_of(path.parent.parent, OTHER)),
}


@pytest.mark.parametrize("tampering", OBJECT_TAMPERINGS)
def test_a_tampered_object(vault_path, tampering):
    OBJECT_TAMPERINGS[tampering](object_of(vault_path))
    problems = problems_of(vault_path)
    assert (f"objects/{sha256_of(CONTENT)}.cart") in [path for path, _ in problems]
    assert len(problems) == (2 if tampering == "swapped" else 1)
    assert all("cannot be decoded" in what for _, what in problems)


RECORD_TAMPERINGS = {
    "truncated": (lambda path: os.truncate(path, 100), "cannot be read"),
    "empty": (lambda path: os.truncate(path, 0), "cannot be read"),
    "not JSON": (lambda path: path.write_bytes(b"\xff\x00"), "cannot be read"),
    "nested without end": (lambda path: path.write_bytes(b"[" * 10**6), "cannot be read"),
    "huge": (lambda path: os.truncate(path, 1 << 40), "cannot be read"),
    "another path": (
        lambda path: edit(path, original_path="/etc/cron.d/x"),
        "not what was written",
    ),
    "another verdict": (lambda path: edit(path, verdict="clean"), "not what was written"),
    "a time that is none": (lambda path: edit(path, quarantined_at="soon"), "cannot be read"),
    "no hash": (lambda path: edit(path, sha256="../../x"), "cannot be read"),
    "another's": (
        lambda path: path.write_bytes(records_of(path.parent.parent)[2].read_bytes()),
        "the record of another file",
    ),
}


@pytest.mark.parametrize("tampering", RECORD_TAMPERINGS)
def test_a_tampered_record(vault_path, tampering):
    act, what = RECORD_TAMPERINGS[tampering]
    record = records_of(vault_path)[0]
    act(record)
    ((path, told),) = problems_of(vault_path)
    assert path == f"records/{record.name}"
    assert what in told


def test_a_record_that_names_another_object(vault_path):
    edit(records_of(vault_path)[0], sha256="0" * 64)
    (written, missing) = problems_of(vault_path)
    assert "not what was written" in written[1]
    assert missing[0] == f"objects/{'0' * 64}.cart"
    assert "missing" in missing[1]


@pytest.mark.parametrize("size", [1, len(OTHER) - 1, len(OTHER) + 1])
def test_a_record_that_lies_about_the_size(vault_path, size):
    edit(records_of(vault_path)[2], size=size)
    told = [what for _, what in problems_of(vault_path)]
    assert len(told) == 2
    assert f"has {len(OTHER)} bytes" in told[1]
    with Vault(str(vault_path)) as vault, pytest.raises(DamagedError):
        restore(vault, vault.record(vault.ids()[2]), reason="a test")


def test_swapped_records(vault_path):
    swap(records_of(vault_path)[0], records_of(vault_path)[2])
    told = [what for path, what in problems_of(vault_path) if path.startswith("records/")]
    assert len(told) == 2
    assert all("another file" in what for what in told)
    with Vault(str(vault_path)) as vault, pytest.raises(DamagedError, match="another file"):
        vault.record(vault.ids()[0])


def test_what_was_deleted_is_missed(vault_path):
    gone = records_of(vault_path)[0]
    gone.unlink()
    object_of(vault_path, OTHER).unlink()
    assert {path for path, _ in problems_of(vault_path)} == {
        f"records/{gone.name}",
        f"objects/{sha256_of(OTHER)}.cart",
    }
    assert all("missing" in what for _, what in problems_of(vault_path))


def test_what_was_added_is_noticed(vault_path):
    planted = records_of(vault_path)[0].read_bytes().replace(b"Z-", b"Z-0", 1)
    record_id = json.loads(planted)["id"]
    for name, content in {
        f"records/{record_id}.json": planted,
        f"objects/{'1' * 64}.cart": object_of(vault_path).read_bytes(),
        "objects/notes.txt": b"",
        "records/notes.txt": b"",
        "pending/notes.txt": b"",
    }.items():
        put(vault_path / name, content, 0o600)
    recoded(vault_path / "objects" / f"{sha256_of(b'orphan')}.cart", b"orphan")
    (vault_path / "objects" / f"{sha256_of(b'orphan')}.cart").chmod(0o600)
    assert dict(problems_of(vault_path)) == {
        f"records/{record_id}.json": "is not in the audit trail",
        f"objects/{'1' * 64}.cart": f"cannot be decoded: object {'1' * 64} is damaged: "
        "its bytes have another SHA-256",
        f"objects/{sha256_of(b'orphan')}.cart": "is needed by no record that can be read",
        "objects/notes.txt": "is no object",
        "records/notes.txt": "is no record",
        "pending/notes.txt": "is no file of a vault",
    }


@pytest.mark.parametrize("kind", [replaced_by_link, replaced_by_fifo, replaced_by_socket])
@pytest.mark.parametrize("what", ["record", "object", "trail", "lock"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(vault_path, kind, what):
    path = {
        "record": records_of(vault_path)[0],
        "object": object_of(vault_path),
        "trail": vault_path / "audit.jsonl",
        "lock": vault_path / "lock",
    }[what]
    kind(path)
    told = dict(problems_of(vault_path))
    assert told[str(path.relative_to(vault_path))].startswith(("is not a file", "cannot be"))


@pytest.mark.parametrize("folder", ["objects", "records", "pending"])
def test_a_folder_that_is_a_link_is_not_entered(vault_path, tmp_path, folder):
    (vault_path / folder).rename(tmp_path / "elsewhere")
    (vault_path / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="cannot be opened as a quarantine vault"):
        problems_of(vault_path)


def test_modes(vault_path):
    wrong = {
        ".": 0o755,
        "objects": 0o750,
        "audit.jsonl": 0o640,
        "lock": 0o604,
        f"objects/{object_of(vault_path).name}": 0o644,
        f"records/{records_of(vault_path)[0].name}": 0o400,
    }
    for name, mode in wrong.items():
        (vault_path / name).chmod(mode)
    told = dict(problems_of(vault_path))
    assert told.keys() == wrong.keys()
    assert told["objects"] == "has mode 0750, not 0700"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners(vault_path):
    os.chown(records_of(vault_path)[0], 12345, 12345)
    ((path, told),) = problems_of(vault_path)
    assert path == f"records/{records_of(vault_path)[0].name}"
    assert "12345" in told


TRAIL_TAMPERINGS = {
    "a line edited": (lambda lines: [lines[0].replace(b'"store"', b'"stole"'), *lines[1:]], 2),
    "a line removed": (lambda lines: lines[1:], 1),
    "a line that is none": (lambda lines: [*lines, b"null\n"], 1),
    "a hash edited": (
        lambda lines: [lines[0].replace(b'"record_sha256": "', b'"record_sha256": "0'), *lines[1:]],
        1,
    ),
    "a line of no end": (lambda lines: [*lines, b"x" * (70 << 10), b"\n", lines[0]], 1),
    "all removed": (lambda _: [], 3),
}


@pytest.mark.parametrize("tampering", TRAIL_TAMPERINGS)
def test_a_tampered_trail(vault_path, tampering):
    act, count = TRAIL_TAMPERINGS[tampering]
    trail = vault_path / "audit.jsonl"
    trail.write_bytes(b"".join(act(trail.read_bytes().splitlines(keepends=True))))
    assert len(problems_of(vault_path)) == count


def test_a_trail_that_is_gone(vault_path):
    (vault_path / "audit.jsonl").unlink()
    told = problems_of(vault_path)
    assert told[0] == ("audit.jsonl", "cannot be read: No such file or directory")
    assert len(told) == 4


def test_a_last_line_cut_short_is_a_note(vault_path):
    trail = vault_path / "audit.jsonl"
    with trail.open("ab") as target:
        target.write(trail.read_bytes()[:100])
    assert problems_of(vault_path) == [("audit.jsonl", "(ends with a line that was cut short)")]


def test_a_daemon_at_work_is_no_damage(tmp_path, vault_path):
    """Looked at from within every step of a store."""
    seen = []

    def spied(vault, name):
        real = getattr(vault, name)

        def step(*arguments, **options):
            seen.append(problems_of(vault_path))
            return real(*arguments, **options)

        setattr(vault, name, step)

    with writer(vault_path) as vault:
        for step in ("_prepare", "_prepare_object", "_take", "_let_go", "_clear"):
            spied(vault, step)
        store(vault, put(tmp_path / "d", b"d"), b"d")
    assert [bool(told) for told in seen] == [False, False, True, True, True]
    assert all(what.startswith("(in hand") for told in seen for _, what in told)


def test_interrupted_work_is_no_damage_and_the_restart_resolves_it(tmp_path, vault_path):
    class Dying(BaseException):
        pass

    def die(*_arguments, **_options):
        raise Dying

    for step in ("_commit", "_take", "_let_go"):
        vault = writer(vault_path)
        vault._undo = lambda *_arguments, **_options: None
        setattr(vault, step, die)
        with pytest.raises(Dying):
            store(vault, put(tmp_path / "d", step.encode()), step.encode())
        vault.close()
        told = problems_of(vault_path)
        assert told
        assert all(what.startswith("(") for _, what in told)
        writer(vault_path).close()
        assert problems_of(vault_path) == []
        assert leftovers(vault_path) == []


def test_verifying_changes_nothing(vault_path):
    def state():
        return {
            path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns, path.lstat().st_ino)
            for path in [vault_path, *vault_path.rglob("*")]
        }

    before = state()
    problems_of(vault_path)
    assert state() == before


def test_a_vault_from_before_there_were_trails(vault_path):
    (vault_path / "audit.jsonl").unlink()
    for path in records_of(vault_path):
        values = json.loads(path.read_bytes())
        del values["findings_total"]
        path.write_text(json.dumps(values))
    writer(vault_path).close()
    assert problems_of(vault_path) == []
    assert [entry.record for entry in trail_of(vault_path)] == [
        path.stem for path in records_of(vault_path)
    ]
    with Vault(str(vault_path)) as vault:
        assert [vault.record(each).findings_total for each in vault.ids()] == [1, 1, 1]


def test_an_interrupted_purge_is_a_note(vault_path):
    with Vault(str(vault_path)) as vault:
        record = vault.record(vault.ids()[0])
        vault.records.rename = lambda *_arguments: os._exit(0)
        wait_status_of(lambda: list(purge(vault, [record], "a test")))
    assert problems_of(vault_path) == [
        (f"records/{record.id}.json", "(is there: its purge was interrupted)")
    ]


@pytest.mark.parametrize("moment", ["records", "objects"])
@pytest.mark.parametrize("again", [False, True])
def test_what_is_purged_while_it_is_verified_is_not_missed(vault_path, tmp_path, moment, again):
    """The last record that needs an object goes, once before it and once after it was read.

    The same content may come again, whose record nobody had listed.
    """
    with Vault(str(vault_path)) as vault:
        alone = vault.record(vault.ids()[2])
        folder = getattr(vault, moment)
        stat_of, purged = folder.stat, []

        def purging(name):
            if not purged:
                with writer(vault_path) as other:
                    purged.extend(purge(other, [alone], "a test"))
                    if again:
                        store(other, put(tmp_path / "again", OTHER), OTHER)
            return stat_of(name)

        folder.stat = purging
        assert list(Verification(vault).problems()) == []
        assert purged == [alone]
