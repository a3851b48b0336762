"""The parts of the daemon, one by one."""

import contextlib
import fcntl
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dicomguard.config import WatchConfig
from dicomguard.errors import DicomguardError
from dicomguard.watch import sdnotify
from dicomguard.watch.backoff import SetAside
from dicomguard.watch.events import FolderEvents, Hints
from dicomguard.watch.journal import Journal, JournalError, Known, Outcome
from dicomguard.watch.lanes import Lane
from dicomguard.watch.logs import path_shower
from dicomguard.watch.mounts import remote_kind
from dicomguard.watch.settle import Settling, kept_from_writers
from dicomguard.watch.troubles import Troubles
from watching import CLEAN, SECONDS, identity, until


class Clock:
    """Seconds that the test counts."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


# Settling


def test_settling_takes_first_what_came_first_and_nothing_early():
    clock = Clock()
    settling = Settling(2.0, clock)
    assert settling.seconds_to_next() is None
    settling.note("a", identity(1))
    clock.now = 101.0
    settling.note("b", identity(2))
    settling.note("a", identity(1))
    assert settling.seconds_to_next() == 1.0
    assert settling.pop_due() is None
    clock.now = 102.0
    assert settling.pop_due() == ("a", identity(1))
    assert settling.pop_due() is None
    assert len(settling) == 1
    clock.now = 200.0
    assert settling.pop_due() == ("b", identity(2))
    assert settling.pop_due() is None


def test_a_file_that_changes_waits_anew():
    clock = Clock()
    settling = Settling(2.0, clock)
    settling.note("a", identity(1))
    clock.now = 101.0
    settling.note("a", identity(2))
    clock.now = 102.5
    assert settling.pop_due() is None
    clock.now = 103.0
    assert settling.pop_due() == ("a", identity(2))


def test_a_writer_is_seen_a_reader_is_not_and_one_who_comes_late_waits(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CLEAN)
    with path.open("rb") as source, path.open("rb"):
        with path.open("ab"), kept_from_writers(source.fileno()) as guard:
            assert not guard.quiet
            assert not guard.still_quiet()
        with kept_from_writers(source.fileno()) as guard:
            assert guard.quiet
            assert guard.still_quiet()
            # The kernel tells this process about the late writer: that must not kill it.
            writer = subprocess.Popen(["sh", "-c", f"echo x >> '{path}'"])
            until(lambda: not guard.still_quiet(), "somebody who waits to write")
            time.sleep(0.1)
            assert path.stat().st_size == len(CLEAN)
        assert writer.wait(SECONDS) == 0
        assert path.stat().st_size == len(CLEAN) + 2
        assert fcntl.fcntl(source.fileno(), fcntl.F_GETLEASE) == fcntl.F_UNLCK


# The journal


def test_the_journal_knows_a_file_by_all_of_its_identity(tmp_path):
    name = os.fsdecode(b"\xff\n")
    path = f"x/{name}"
    with Journal(tmp_path) as journal:
        journal.remember(path, identity(1), Outcome.CLEAN)
        known = journal.known(path)
        assert known == journal.known_among("x", ["other", name])[name]
        assert known.outcome is Outcome.CLEAN
        assert known.is_of(identity(1))
        assert not known.is_of(identity(2))
        assert journal.known(name) is None
        assert journal.known_among("", [name]) == {}
        journal.remember(path, identity(2), Outcome.KEPT)
        assert journal.known(path).is_of(identity(2))
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_the_journal_forgets_what_is_gone(tmp_path):
    with Journal(tmp_path) as journal:
        for folder in ("", "x", "x/y"):
            for number in range(2500):
                journal.remember(os.path.join(folder, f"{number}"), identity(1), Outcome.CLEAN)
        assert sorted(journal.folders()) == ["", "x", "x/y"]
        journal.forget("x", ["7", "8"])
        journal.forget_folder("x/y")
        assert journal.count_in("") == 2500
        assert journal.count_in("x") == 2498
        assert journal.count_in("x/y") == 0
        names = [name for some in journal.names_in("x") for name in some]
        assert len(names) == len(set(names)) == 2498
        assert {str(number) for number in range(2500)} - set(names) == {"7", "8"}


def test_the_journal_outlives_a_kill_and_holds_for_its_scope_only(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    with Journal(first) as journal:
        journal.limit_to("one")
        journal.remember("a", identity(1), Outcome.CLEAN)
        journal.claim("b", identity(2), 3)
        journal.commit()
        for path in first.glob("watch.sqlite*"):  # what a killed process leaves
            shutil.copy(path, second)
    for folder in (first, second):
        with Journal(folder) as journal:
            journal.limit_to("one")
            assert journal.known("a") is not None
            (claim,) = journal.claims()
            assert (claim.path, claim.identity, claim.attempts) == ("b", identity(2), 3)
    with Journal(first) as journal:
        journal.limit_to("two")
        assert journal.known("a") is None
        assert len(journal.claims()) == 1


def test_a_claim_ends_with_the_outcome(tmp_path):
    with Journal(tmp_path) as journal:
        for name in ("remembered", "released", "acted", "scanned"):
            journal.claim(name, identity(1), 2)
        journal.remember("remembered", identity(1), Outcome.CLEAN)
        journal.release("released")
        journal.acted("acted", "clean delivered", "")
        journal.scanned("scanned")
        assert [(claim.path, claim.attempts) for claim in journal.claims()] == [("scanned", 0)]


def test_history_is_pruned_by_age_and_number(tmp_path, monkeypatch):
    monkeypatch.setattr("dicomguard.watch.journal.MOST_HISTORY", 3)
    with Journal(tmp_path) as journal:
        assert journal.oldest() is None
        for number in range(5):
            journal.acted(f"{number}", "clean delivered", "")
        journal.prune(0)
        rows = journal._database.execute("SELECT name FROM history ORDER BY number").fetchall()
        assert rows == [(b"2",), (b"3",), (b"4",)]
        assert time.time() - journal.oldest() < SECONDS
        journal.prune(time.time() + 1)
        assert journal.oldest() is None


def test_the_journal_can_be_read_beside_the_daemon(tmp_path):
    with Journal(tmp_path) as journal:
        journal.acted("x/a", "clean delivered", "")
        journal.commit()
        with contextlib.closing(sqlite3.connect(f"file:{journal.path}?mode=ro", uri=True)) as other:
            (row,) = other.execute("SELECT CAST(folder AS TEXT), outcome FROM history").fetchall()
    assert row == ("x", "clean delivered")


def test_what_could_not_be_written_is_written_later(tmp_path):
    with Journal(tmp_path) as journal:
        with contextlib.closing(sqlite3.connect(journal.path)) as other:
            journal._database.execute("PRAGMA busy_timeout = 10")
            other.execute("BEGIN IMMEDIATE")  # nobody else can write
            journal.remember("a", identity(1), Outcome.CLEAN)
            journal.acted("b", "clean delivered", "")
            for _ in range(2):
                with pytest.raises(JournalError, match="locked"):
                    journal.commit()
        journal.commit()
    with Journal(tmp_path) as journal:
        assert journal.known("a") is not None
        assert journal.oldest() is not None


def damage(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def make_foreign(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def overwrite(path):
    path.write_bytes(b"this is no database" * 1000)


@pytest.mark.parametrize("happens", [overwrite, make_foreign, damage])
def test_a_damaged_or_foreign_journal_starts_anew(tmp_path, happens):
    with Journal(tmp_path) as journal:
        journal.remember("a", identity(1), Outcome.CLEAN)
        journal.commit()
    happens(journal.path)
    with Journal(tmp_path) as journal:
        assert journal.known("a") is None
        journal.remember("a", identity(1), Outcome.CLEAN)
        journal.commit()


def test_two_daemons_do_not_share_a_journal(tmp_path):
    with Journal(tmp_path), pytest.raises(DicomguardError, match="another daemon"):
        Journal(tmp_path)


def test_known_is_only_what_is_known():
    assert not Known("other", Outcome.CLEAN).is_of(identity(1))


# Events


def test_an_overflow_of_the_queue_is_noticed(ingest):
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip("the queue is too long to fill")
    hints = Hints(lambda: None)
    events = FolderEvents(str(ingest), hints)
    try:
        with events._lock:  # who reads the queue waits
            for number in range(most // 2 + 5000):
                (ingest / str(number)).write_bytes(b"")
                (ingest / str(number)).unlink()
        until(lambda: hints.take(most)[1], "an overflow")
    finally:
        events.close()


def test_every_way_to_arrive_gives_a_hint(tmp_path, ingest):
    paths = []
    hints = Hints(lambda: None)
    events = FolderEvents(str(ingest), hints)
    outside = tmp_path / "outside"
    try:
        (ingest / "written").write_bytes(b"x")
        outside.write_bytes(b"x")
        outside.rename(ingest / "renamed")
        outside.write_bytes(b"x")
        os.link(outside, ingest / "linked")
        (ingest / "written").rename(ingest / "moved")
        (ingest / "folder").mkdir()
        odd = os.fsdecode(b"\xff")
        (ingest / odd).write_bytes(b"x")
        expected = {"written", "renamed", "linked", "moved", "folder", odd}

        def arrived():
            paths.extend(hints.take(100)[0])
            return {str(ingest / name) for name in expected} <= set(paths)

        until(arrived, lambda: f"events: {paths}")
    finally:
        events.close()


def test_hints_are_bounded_and_wake_once(monkeypatch):
    monkeypatch.setattr("dicomguard.watch.events._MOST_HINTS", 3)
    woken = []
    hints = Hints(lambda: woken.append(1))
    for path in "aabcd":
        hints.add(path)
    assert len(woken) == 1
    assert hints.take(2) == (["a", "b"], True)
    assert hints.take(2) == (["c"], False)
    hints.lose()
    assert len(woken) == 2
    assert hints.take(2) == ([], True)


def watches():
    """How many folders this process watches, as the kernel counts them."""
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(entry.path) == "anon_inode:inotify":
                count += Path(f"/proc/self/fdinfo/{entry.name}").read_text().count("inotify wd:")
    return count


def test_every_folder_is_watched_and_none_that_is_gone(tmp_path, ingest):
    (ingest / "a" / "b").mkdir(parents=True)
    hints = Hints(lambda: None)
    events = FolderEvents(str(ingest), hints)
    try:
        assert watches() == 3
        outside = tmp_path / "outside"
        (outside / "c" / "d").mkdir(parents=True)
        outside.rename(ingest / "moved")
        until(lambda: watches() == 6, watches)
        (ingest / "moved" / "c" / "d" / "file").write_bytes(b"x")
        seen = set()

        def has_seen(*names):
            seen.update(hints.take(100)[0])
            return {str(ingest / name) for name in names} <= seen

        until(lambda: has_seen("moved", "moved/c", "moved/c/d", "moved/c/d/file"), seen)
        (ingest / "moved").rename(outside)
        events.drop_gone({str(ingest)})
        until(lambda: watches() == 3, watches)
        outside.rename(ingest / "a" / "again")
        until(lambda: has_seen("a/again"), seen)  # what came into it before is for who lists it
        (ingest / "a" / "again" / "late").write_bytes(b"x")
        until(lambda: has_seen("a/again/late"), seen)
        assert events.is_alive()
    finally:
        events.close()
    assert watches() == 0
    assert not events.is_alive()


def test_a_folder_that_moves_away_and_comes_again_ends_no_events(tmp_path, ingest):
    """After these steps watchdog's own Observer is dead, and says that it is alive."""
    hints = Hints(lambda: None)
    events = FolderEvents(str(ingest), hints)
    folder, outside = ingest / "a", tmp_path / "outside"

    def awaited(path):
        until(lambda: str(path) in hints.take(100)[0], path)

    try:
        folder.mkdir()
        awaited(folder)
        folder.rename(outside)
        folder.mkdir()
        awaited(folder)
        folder.rmdir()
        until(lambda: watches() == 2, watches)
        outside.rmdir()
        until(lambda: watches() == 1, watches)
        (ingest / "file").write_bytes(b"x")
        awaited(ingest / "file")
        assert events.is_alive()
    finally:
        events.close()


@pytest.mark.parametrize("trees", range(3))
def test_no_file_of_new_folders_is_lost(ingest, trees):
    hints = Hints(lambda: None)
    events = FolderEvents(str(ingest), hints)
    found = set()

    def look():
        """What the daemon does with a hint: a folder is listed, for files."""
        for hint in hints.take(10_000)[0]:
            path = Path(hint)
            if path.is_dir():
                found.update(str(each) for each in path.iterdir() if each.is_file())
            elif path.exists():
                found.add(hint)
        return len(found) == len(made)

    made = set()
    try:
        for number in range(300):
            folder = ingest / f"{trees}" / str(number % 7) / str(number % 5) / str(number)
            folder.mkdir(parents=True)
            (folder / "file").write_bytes(b"x")
            made.add(str(folder / "file"))
        until(look, lambda: made - found)
    finally:
        events.close()


# Mounts


def test_local_file_systems_are_not_remote(tmp_path):
    assert remote_kind(str(tmp_path)) is None
    assert remote_kind("/dev/shm") is None


def test_what_others_can_write_to_is_remote(tmp_path, monkeypatch):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    line = "36 35 {}:{} / /mnt\\040x rw,noatime shared:1 - {} server:/export rw\n"
    monkeypatch.setattr("dicomguard.watch.mounts._MOUNTS", mounts)
    for kind, expected in [
        ("nfs4", "nfs4"),
        ("cifs", "cifs"),
        ("fuse.sshfs", "fuse.sshfs"),
        ("fuseblk", "fuseblk"),
        ("9p", "9p"),
        ("ext4", None),
        ("overlay", None),
    ]:
        other = line.format(0, 4095, "nfs4")
        mounts.write_text(other + line.format(os.major(device), os.minor(device), kind))
        assert remote_kind(str(tmp_path)) == expected


# Troubles


def test_a_trouble_is_said_once_then_at_growing_intervals_and_when_it_is_over(caplog):
    clock = Clock()
    troubles = Troubles(clock=clock)
    said = []
    for _ in range(10_000):
        troubles.note("quarantine", "No space left on device")
        if len(caplog.records) > len(said):
            said.append(clock.now - 100)
        clock.now += 1
    assert said == [0, 60, 180, 420, 900, 1860, 3780, 7380]
    assert troubles.ailments == {"quarantine": "No space left on device"}
    troubles.clear("quarantine")
    assert "over after 10000 s" in caplog.text
    assert troubles.ailments == {}
    troubles.clear("quarantine")
    assert caplog.text.count("over") == 1


def test_troubles_with_files_are_gathered_and_are_no_ailment(caplog):
    clock = Clock()
    troubles = Troubles(path_shower(WatchConfig(log_paths=False)), clock)
    for number in range(1000):
        troubles.note_file("cannot open a file", f"DOE^JOHN{number}", PermissionError(13, "denied"))
    assert len(caplog.records) == 1
    assert "DOE" not in caplog.text
    assert troubles.ailments == {}
    troubles.clear_files(clock.now)
    assert "over" not in caplog.text
    clock.now += 1
    troubles.clear_files(clock.now)
    assert "cannot open a file: denied: over" in caplog.text


def test_a_file_is_set_aside_for_longer_each_time():
    clock = Clock()
    aside = SetAside(10.0, clock)
    assert not aside.holds("a", identity(1))
    assert aside.put("a", identity(1))
    assert aside.holds("a", identity(1))
    assert not aside.holds("a", identity(2))
    clock.now += 10
    assert not aside.holds("a", identity(1))
    assert not aside.put("a", identity(1))
    clock.now += 19
    assert aside.holds("a", identity(1))
    clock.now += 1
    assert not aside.holds("a", identity(1))
    assert aside.put("a", identity(2))
    aside.take_back("a")
    assert not aside.holds("a", identity(2))


# Lanes


class Bench:
    """A lane whose work is what the test says, and the thread that has it worked."""

    def __init__(self, act, threads=1):
        self.inbox = []
        self.done = []
        self.reopened = 0
        self.troubles = Troubles()
        self.lane = Lane(
            "bench",
            act,
            post=self.inbox.append,
            done=lambda job, result: self.done.append((job, result)),
            troubles=self.troubles,
            reopen=self._reopen,
            threads=threads,
        )

    def _reopen(self):
        self.reopened += 1

    def until(self, condition):
        def turned():
            while self.inbox:
                self.inbox.pop(0)()
            self.lane.start()
            return condition()

        until(turned, lambda: f"{self.done}")


@pytest.fixture
def _short_pauses(monkeypatch):
    monkeypatch.setattr("dicomguard.watch.backoff.FIRST_PAUSE", 0.05)


@pytest.mark.usefixtures("_short_pauses")
def test_a_lane_keeps_its_jobs_while_the_target_fails():
    failures = iter([OSError(28, "full"), OSError(28, "full"), DicomguardError("gone")])

    def act(job):
        error = next(failures, None)
        if error:
            raise error
        return job.upper()

    bench = Bench(act)
    for job in "abc":
        bench.lane.put(job)
    bench.until(lambda: bench.troubles.ailments)
    assert len(bench.lane) == 3
    bench.until(lambda: len(bench.done) == 3)
    assert sorted(bench.done) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert bench.troubles.ailments == {}
    assert bench.reopened == 3
    assert bench.lane.close() == []


@pytest.mark.usefixtures("_short_pauses")
def test_a_job_that_fails_alone_holds_up_no_other():
    def act(job):
        if job == "bad":
            raise PermissionError(13, "denied")
        return "done"

    bench = Bench(act)
    for job in ("a", "bad", "b", "c"):
        bench.lane.put(job)
    bench.until(lambda: len(bench.done) == 4)
    results = dict(bench.done)
    assert isinstance(results.pop("bad"), PermissionError)
    assert set(results.values()) == {"done"}
    assert bench.troubles.ailments == {}
    bench.lane.close()


@pytest.mark.usefixtures("_short_pauses")
def test_a_target_that_refuses_everything_is_in_trouble():
    refuse = True

    def act(job):
        if refuse:
            raise PermissionError(13, "denied")
        return job

    bench = Bench(act)
    for job in range(10):
        bench.lane.put(job)
    bench.until(lambda: bench.troubles.ailments)
    assert len(bench.done) == 2
    refuse = False
    bench.until(lambda: len(bench.done) == 10)
    assert bench.troubles.ailments == {}
    bench.lane.close()


def test_a_long_job_holds_up_no_other_thread_and_is_finished_at_the_end():
    release = threading.Event()

    def act(job):
        if job == "long":
            assert release.wait(SECONDS)
        return job

    bench = Bench(act, threads=2)
    bench.lane.put("long")
    for job in range(5):
        bench.lane.put(job)
    bench.until(lambda: len(bench.done) == 5)
    bench.lane.put("late")
    release.set()
    assert bench.lane.close() == ["late"]
    bench.inbox.pop()()
    assert bench.done[-1] == ("long", "long")


def test_a_defect_is_answered_not_swallowed():
    def act(job):
        raise ZeroDivisionError(job)

    bench = Bench(act)
    bench.lane.put("a")
    bench.until(lambda: bench.done)
    assert isinstance(bench.done[0][1], ZeroDivisionError)
    bench.lane.close()


# systemd


def test_systemd_is_told(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        sdnotify.notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        watchdog = sdnotify.Watchdog()
        assert watchdog.interval == 0.1
        watchdog.tick()
        assert systemd.recv(100) == b"WATCHDOG=1"
        watchdog.tick()
        systemd.settimeout(0)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_systemd_is_told_in_the_abstract_namespace(monkeypatch):
    name = f"dicomguard-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}")
        systemd.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        sdnotify.notify("STOPPING=1")
        assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere", "relative"])
def test_nobody_listens(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    sdnotify.notify("READY=1")
    assert sdnotify.Watchdog().interval == float("inf")
