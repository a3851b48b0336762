"""The daemon, with real events, real signals and real files."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from dicomguard.config import ScanConfig, WatchConfig
from dicomguard.dicom.budgets import Budgets
from dicomguard.errors import DicomguardError
from dicomguard.files import ChangedError, ScannedFile, identity_of, parked_name
from dicomguard.model import Verdict
from dicomguard.quarantine import Vault, restore
from dicomguard.watch import pipeline as pipeline_module
from dicomguard.watch.deliver import Delivery, OccupiedError
from dicomguard.watch.folders import Folders
from dicomguard.watch.journal import Journal
from dicomguard.watch.quarantine import Quarantine
from dicomguard.watch.scanner import Scanner
from dicomguard.watch.service import WatchService
from watching import (
    CLEAN,
    EXECUTABLE,
    SECONDS,
    Daemon,
    carrier,
    facts,
    records_of,
    run,
    until,
)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """One bad file that is DICOM."""
    return carrier(0, tmp_path_factory.mktemp("bad"))


@pytest.fixture
def elsewhere():
    """A folder on another file system than the temporary one."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("needs a second file system to write to")
    folder = shm / f"dicomguard-watch-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


# The recorded run


def quarters(data):
    step = len(data) // 4 + 1
    return [data[start : start + step] for start in range(0, len(data), step)]


class Arrivals:
    """A thousand files by number; those of `bad_numbers` hide or are a program."""

    bad_numbers = range(7, 1000, 20)

    def __init__(self, ingest, staging):
        self.ingest = ingest
        self.staging = staging
        self.contents = {number: self._content(number) for number in range(1000)}

    def _content(self, number):
        if number not in self.bad_numbers:
            return CLEAN
        return EXECUTABLE + b"%d" % number if number % 40 == 7 else carrier(number, self.staging)

    def copy(self, numbers, folder):
        for number in numbers:
            (folder / f"IM{number:04}").write_bytes(self.contents[number])

    def rename_in(self, numbers):
        for number in numbers:
            self.copy([number], self.staging)
            name = f"IM{number:04}"
            (self.staging / name).rename(self.ingest / name)

    def make_tree(self, numbers):
        for number in numbers:
            folder = self.ingest / "new" / str(number % 7) / str(number % 5)
            folder.mkdir(parents=True, exist_ok=True)
            self.copy([number], folder)

    def move_in_tree(self, numbers):
        tree = self.staging / "study" / "series"
        tree.mkdir(parents=True)
        self.copy(numbers, tree)
        tree.parent.rename(self.ingest / "study")

    def write_with_pauses(self, number):
        """Open all the time, with pauses that are longer than the settle time."""
        with (self.ingest / f"IM{number:04}").open("wb", buffering=0) as target:
            for piece in quarters(self.contents[number]):
                target.write(piece)
                time.sleep(0.6)

    def append(self, numbers):
        """Closed after each piece, with pauses that are shorter than the settle time."""
        for number in numbers:
            for piece in quarters(self.contents[number]):
                with (self.ingest / f"IM{number:04}").open("ab") as target:
                    target.write(piece)
                time.sleep(0.02)

    def all_at_once(self):
        threads = [
            threading.Thread(target=work, args=arguments)
            for work, *arguments in [
                (self.copy, range(100, 400), self.ingest),
                (self.rename_in, range(400, 600)),
                (self.make_tree, range(600, 850)),
                (self.move_in_tree, range(850, 960)),
                *((self.write_with_pauses, number) for number in range(960, 980)),
                (self.append, range(980, 1000)),
            ]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_of_a_thousand_files_exactly_the_fifty_bad_are_quarantined(ingest, vault, staging):
    arrivals = Arrivals(ingest, staging)
    bad_numbers = set(arrivals.bad_numbers)
    assert len(bad_numbers) == 50
    arrivals.copy(range(100), ingest)  # these are there before the daemon is
    with Daemon(ingest, vault, "--settle", "0.5", "--reconcile", "5") as daemon:
        arrivals.all_at_once()
        written = {
            path: facts(path)
            for path in ingest.rglob("IM*")
            if int(path.name[2:]) not in bad_numbers
        }
        daemon.await_line(" clean: ", count=950)
        daemon.await_line(" malicious quarantined ", count=50)
        assert daemon.stop() == 0
    assert len(daemon.lines(" clean: ")) == 950
    assert len(daemon.lines(" malicious quarantined ")) == 50

    records = {int(record.original_path[-4:]): record for record in records_of(vault)}
    assert records.keys() == bad_numbers
    assert len(list((vault / "records").iterdir())) == 50
    with Vault(str(vault)) as opened:
        for number, record in records.items():
            assert record.sha256 == hashlib.sha256(arrivals.contents[number]).hexdigest()
            opened.verify(record)
            copy = staging / f"restored{number}"
            restore(opened, record, str(copy), reason="test")
            assert copy.read_bytes() == arrivals.contents[number]
    assert list((vault / "pending").iterdir()) == []

    remaining = {int(path.name[2:]): path for path in ingest.rglob("IM*")}
    assert remaining.keys() == arrivals.contents.keys() - bad_numbers
    for number, path in remaining.items():
        assert path.read_bytes() == arrivals.contents[number]
        assert facts(path) == written[path]


def test_nothing_is_touched_of_a_clean_file_that_stays(ingest, vault):
    path = ingest / "a.dcm"
    path.write_bytes(CLEAN)
    before = facts(path)
    with Daemon(ingest, vault) as daemon:
        daemon.await_line("clean: a.dcm")
    assert facts(path) == before
    assert [entry.name for entry in ingest.iterdir()] == ["a.dcm"]


# What is taken, and when


def test_a_file_is_not_taken_while_it_is_open_for_writing(ingest, vault):
    with Daemon(ingest, vault) as daemon:
        with (ingest / "slow").open("wb") as target:
            target.write(EXECUTABLE)
            target.flush()
            (ingest / "other").write_bytes(CLEAN)
            daemon.await_line("clean: other")
            time.sleep(0.5)
            assert not daemon.lines(": slow")
        daemon.await_line("malicious quarantined", ": slow")


def test_links_fifos_and_sockets_are_counted_and_left_alone(tmp_path, ingest, vault):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "evil").write_bytes(EXECUTABLE)
    (ingest / "link").symlink_to(outside / "evil")
    (ingest / "folder link").symlink_to(outside)
    (ingest / "dangling").symlink_to("nowhere")
    os.mkfifo(ingest / "fifo")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        Daemon(ingest, vault, "--reconcile", "0.1") as daemon,
    ):
        here = os.open(ingest, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        (ingest / "last").write_bytes(CLEAN)
        daemon.await_line("skipped socket")
        daemon.await_line("clean: last")
        time.sleep(0.5)  # several reconcile scans
        assert daemon.stop() == 0
    assert len(daemon.lines("skipped")) == len(daemon.lines("not opened")) + 1 == 6
    assert len(daemon.lines("skipped symbolic link")) == 3
    assert len(daemon.lines("5 skipped")) == 1
    assert len(list(ingest.iterdir())) == 6
    assert (outside / "evil").read_bytes() == EXECUTABLE
    assert records_of(vault) == []


NAMES = [b"line\nbreak", b"\x1b[31mred", b"\xff\xfe", "\u202egnp.exe".encode(), b"n" * 255, b"-rf"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_escaped_in_the_log_and_exact_in_the_record(ingest, vault, name):
    path = os.path.join(os.fsencode(ingest), name)
    Path(os.fsdecode(path)).write_bytes(EXECUTABLE)
    with Daemon(ingest, vault) as daemon:
        daemon.await_line("malicious quarantined")
        assert daemon.stop() == 0
    assert daemon.log.replace("\n", "").isprintable()
    (record,) = records_of(vault)
    assert os.fsencode(record.original_path) == path
    assert not os.path.exists(path)


def test_what_happens_without_any_event_is_found_by_the_scan(tmp_path, ingest, vault):
    path, outside = ingest / "a", tmp_path / "hard link"
    path.write_bytes(CLEAN)
    os.link(path, outside)
    with Daemon(ingest, vault, "--reconcile", "0.3") as daemon:
        daemon.await_line("clean: a")
        outside.write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined", ": a")
    assert not path.exists()
    assert outside.read_bytes() == EXECUTABLE


def test_a_clean_file_that_is_changed_is_scanned_again(ingest, vault):
    path = ingest / "a"
    path.write_bytes(CLEAN)
    with Daemon(ingest, vault) as daemon:
        daemon.await_line("clean: a")
        with path.open("ab") as target:
            target.write(EXECUTABLE)
        daemon.await_line("quarantined", ": a")


def test_the_daemon_recovers_when_the_ingest_folder_goes_and_comes_back(ingest, vault):
    with Daemon(ingest, vault, "--reconcile", "0.2") as daemon:
        ingest.rmdir()
        daemon.await_line("ingest folder: it cannot be watched")
        ingest.mkdir()
        daemon.await_line("replaced")
        (ingest / "a").write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined", ": a")
        assert daemon.stop() == 0


# Stopping and starting


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(ingest, vault, number):
    with Daemon(ingest, vault) as daemon:
        for index in range(200):
            (ingest / f"{index}").write_bytes(EXECUTABLE + b"%d" % index)
        daemon.await_line("malicious quarantined")
        started = time.monotonic()
        os.killpg(daemon.process.pid, number)  # as a terminal and systemd do: all of them
        assert daemon.process.wait(SECONDS) == 0
        assert time.monotonic() - started < 10
    assert "Traceback" not in daemon.log
    assert "incomplete" not in daemon.log
    records = records_of(vault)
    assert {record.verdict for record in records} == {Verdict.MALICIOUS}
    assert len(records) + len(list(ingest.iterdir())) == 200
    assert list((vault / "pending").iterdir()) == []


def test_a_restart_scans_only_what_is_new_or_changed(ingest, vault):
    for name in ("a", "b", "c"):
        (ingest / name).write_bytes(CLEAN)
    with Daemon(ingest, vault) as daemon:
        daemon.await_line(" clean: ", count=3)
        assert daemon.stop() == 0
    (ingest / "b").write_bytes(CLEAN + b"\0\0")
    (ingest / "c").unlink()
    with Daemon(ingest, vault) as daemon:
        daemon.await_line(": b")
        (ingest / "d").write_bytes(CLEAN)
        daemon.await_line(": d")
        assert not daemon.lines(": a")
        assert daemon.stop() == 0
    # What is known holds for the settings it was found with.
    with Daemon(ingest, vault, "--strict") as daemon:
        daemon.await_line(": a")


def test_after_any_number_of_kills_each_file_has_one_outcome(ingest, vault):
    contents = {}
    for number in range(150):
        data = CLEAN if number % 3 else EXECUTABLE + b"%d" % number
        (ingest / str(number)).write_bytes(data)
        contents[str(number)] = data
    bad_names = {name for name, data in contents.items() if data != CLEAN}
    kills = 0
    for pause in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12):
        daemon = Daemon(ingest, vault)
        with daemon:
            until(lambda d=daemon: d.lines("quarantined") or d.lines("clean"), "an outcome")
            time.sleep(pause)
            os.killpg(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait(SECONDS)
        kills += 1
        if not any((ingest / name).exists() for name in bad_names):
            break
    with Daemon(ingest, vault) as daemon:
        until(lambda: not any((ingest / name).exists() for name in bad_names), daemon.log)
        assert daemon.stop() == 0
    assert kills >= 2
    records = records_of(vault)
    assert sorted(Path(record.original_path).name for record in records) == sorted(bad_names)
    with Vault(str(vault)) as opened:
        for record in records:
            opened.verify(record)
            data = contents[Path(record.original_path).name]
            assert record.sha256 == hashlib.sha256(data).hexdigest()
    for name in contents.keys() - bad_names:
        assert (ingest / name).read_bytes() == CLEAN
    assert len(list((vault / "objects").iterdir())) == len(bad_names)
    assert list((vault / "pending").iterdir()) == []


# Where it may not watch


@pytest.mark.parametrize(
    ("vault_path", "deliver", "state"),
    [
        ("ingest/vault", None, None),
        ("ingest", None, None),
        (".", None, None),
        ("vault", "ingest", None),
        ("vault", "ingest/out", None),
        ("vault", ".", None),
        ("vault", "vault", None),
        ("vault", "vault/out", None),
        ("out/vault", "out", None),
        ("vault", None, "ingest/state"),
        ("vault", "out", "out/state"),
        ("link/vault", None, None),
    ],
)
def test_folders_that_would_feed_each_other_are_refused(
    tmp_path, ingest, vault_path, deliver, state
):
    (tmp_path / "link").symlink_to(ingest)
    paths = [
        None if name is None else str(tmp_path / name) for name in (vault_path, deliver, state)
    ]
    with pytest.raises(DicomguardError, match="must not lie in"):
        Folders.resolve(str(ingest), *paths)
    assert list(ingest.iterdir()) == []


def test_folders_side_by_side_are_accepted_and_resolved(tmp_path, ingest):
    (tmp_path / "link").symlink_to(ingest)
    folders = Folders.resolve(
        str(tmp_path / "link"), str(tmp_path / "ingest-vault"), str(tmp_path / "out"), None
    )
    assert folders.ingest == ingest
    assert folders.state == tmp_path / "ingest-vault" / "state"


def test_what_the_user_can_put_right_is_one_line_and_exit_code_2(tmp_path, ingest, vault):
    for arguments in (
        ["watch", ingest, "--quarantine", ingest / "vault"],
        ["watch", tmp_path / "missing", "--quarantine", vault],
        ["watch", ingest, "--quarantine", tmp_path / "no" / "vault"],
        ["watch", ingest, "--quarantine", vault, "--deliver", tmp_path / "no" / "out"],
        ["watch", ingest, "--quarantine", vault, "--state", tmp_path / "no" / "state"],
        ["watch", ingest, "--quarantine", vault, "--rules", tmp_path / "missing"],
        ["watch", ingest, "--quarantine", vault, "--settle", "0"],
        ["quarantine", "list", "--quarantine", tmp_path / "missing"],
    ):
        result = run(*arguments)
        assert result.returncode == 2, result.stderr
        assert b"rror: " in result.stderr
        assert b"Traceback" not in result.stderr
        assert result.stdout == b""


def test_two_daemons_do_not_share_a_vault(ingest, vault):
    with Daemon(ingest, vault):
        second = run("watch", ingest, "--quarantine", vault)
    assert second.returncode == 2
    assert b"another daemon" in second.stderr


# Delivering


def test_clean_files_are_delivered_and_bad_ones_are_not(tmp_path, ingest, vault, bad):
    deliver = tmp_path / "deliver"
    (ingest / "study" / "series").mkdir(parents=True)
    path = ingest / "study" / "series" / "IM1"
    path.write_bytes(CLEAN)
    inode = path.stat().st_ino
    (ingest / "study" / "IM2").write_bytes(bad)
    with Daemon(ingest, vault, "--deliver", deliver) as daemon:
        daemon.await_line("clean delivered: study/series/IM1")
        daemon.await_line("malicious quarantined", "study/IM2")
        assert daemon.stop() == 0
    delivered = deliver / "study" / "series" / "IM1"
    assert delivered.read_bytes() == CLEAN
    assert delivered.stat().st_ino != inode  # a name that the sender has kept leads elsewhere
    assert not [path for path in ingest.rglob("*") if path.is_file()]
    assert [path for path in deliver.rglob("*") if path.is_file()] == [delivered]


def test_delivery_never_overwrites_and_goes_on_when_the_place_is_free(tmp_path, ingest, vault):
    deliver = tmp_path / "deliver"
    deliver.mkdir()
    (deliver / "a").write_bytes(b"was here first")
    (ingest / "a").write_bytes(CLEAN)
    with Daemon(ingest, vault, "--deliver", deliver, "--reconcile", "0.2") as daemon:
        daemon.await_line("clean kept")
        time.sleep(0.6)
        assert len(daemon.lines("clean kept")) == 1
        assert (deliver / "a").read_bytes() == b"was here first"
        assert (ingest / "a").read_bytes() == CLEAN
        (deliver / "a").unlink()
        daemon.await_line("clean delivered: a")
    assert (deliver / "a").read_bytes() == CLEAN


def scanned(path):
    return ScannedFile(
        folder=os.open(path.parent, os.O_RDONLY),
        name=path.name,
        path=str(path),
        identity=identity_of(path.lstat()),
    )


@pytest.fixture(params=["same file system", "another file system"])
def deliver_path(request, tmp_path):
    if request.param == "same file system":
        return tmp_path / "deliver"
    return request.getfixturevalue("elsewhere") / "deliver"


def test_a_delivered_file_is_what_was_scanned(ingest, deliver_path):
    path = ingest / "a"
    path.write_bytes(CLEAN)
    path.chmod(0o640)
    os.utime(path, ns=(1_500_000_000_123_456_789,) * 2)
    with Delivery(str(deliver_path)) as delivery:
        delivery.deliver(scanned(path), "x/y/a", hashlib.sha256(CLEAN).hexdigest())
    delivered = deliver_path / "x" / "y" / "a"
    assert delivered.read_bytes() == CLEAN
    assert delivered.stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert delivered.stat().st_mode & 0o7777 == 0o640
    assert not path.exists()
    assert [entry.name for entry in delivered.parent.iterdir()] == ["a"]


@pytest.mark.parametrize("there", ["file", "symlink", "folder", "file as folder", "link as folder"])
def test_an_occupied_place_stays_as_it_is(tmp_path, ingest, deliver_path, there):
    path = ingest / "a"
    path.write_bytes(CLEAN)
    file = scanned(path)
    outside = tmp_path / "outside"
    outside.mkdir()
    with Delivery(str(deliver_path)) as delivery:
        target = deliver_path / "x" / "a"
        if "as folder" not in there:
            target.parent.mkdir()
        if there == "file":
            target.write_bytes(CLEAN[:-1] + b"!")
        elif there == "symlink":
            target.symlink_to(path)
        elif there == "folder":
            target.mkdir()
        elif there == "file as folder":
            target.parent.write_bytes(b"x")
        else:
            target.parent.symlink_to(outside)
        with pytest.raises(OccupiedError):
            delivery.deliver(file, "x/a", None)
    assert facts(path)[0] == CLEAN
    assert list(outside.iterdir()) == []
    if there == "file":
        assert target.read_bytes() == CLEAN[:-1] + b"!"


def test_a_delivery_that_a_crash_cut_short_is_finished(ingest, deliver_path):
    path = ingest / "a"
    path.write_bytes(CLEAN)
    with Delivery(str(deliver_path)) as delivery:
        (deliver_path / "a").write_bytes(CLEAN)  # the copy has its name, the original is not gone
        delivery.deliver(scanned(path), "a", None)
        assert not path.exists()
        path.write_bytes(CLEAN)
        with contextlib.suppress(OSError):
            (deliver_path / "a").unlink()
            os.link(path, deliver_path / "a")
            delivery.deliver(scanned(path), "a", None)
            assert not path.exists()


def test_content_with_another_hash_is_not_delivered(ingest, deliver_path):
    """Where neither leases nor times can be relied on, as on a network share."""
    path = ingest / "a"
    path.write_bytes(CLEAN)
    with Delivery(str(deliver_path)) as delivery, pytest.raises(ChangedError):
        delivery.deliver(scanned(path), "a", hashlib.sha256(EXECUTABLE).hexdigest())
    assert path.read_bytes() == CLEAN
    assert list(deliver_path.iterdir()) == []


def test_a_name_or_descriptor_that_the_sender_keeps_is_of_no_use(tmp_path, ingest, deliver_path):
    path, name = ingest / "a", tmp_path / "name"
    path.write_bytes(CLEAN)
    os.link(path, name)
    with path.open("rb") as kept, Delivery(str(deliver_path)) as delivery:
        delivery.deliver(scanned(path), "a", None)
        name.write_bytes(EXECUTABLE)
        with open(f"/proc/self/fd/{kept.fileno()}", "r+b") as again:
            again.write(EXECUTABLE)
    assert (deliver_path / "a").read_bytes() == CLEAN


def test_a_hole_is_delivered_as_a_hole(ingest, deliver_path):
    path = ingest / "a"
    with path.open("wb") as file:
        file.write(CLEAN)
        file.seek(1 << 30)
        file.write(CLEAN)
        file.truncate(2 << 30)
    with path.open("rb") as source, Delivery(str(deliver_path)) as delivery:
        delivery.deliver(scanned(path), "a", None)
        delivered = deliver_path / "a"
        assert delivered.stat().st_blocks * 512 < 4 << 20
        subprocess.run(["cmp", "-", delivered], stdin=source, check=True)


class SwappingFile(ScannedFile):
    """Something takes the file's name at the very last moment."""

    swap = staticmethod(lambda: None)

    def remove(self):
        SwappingFile.swap()
        super().remove()


@pytest.mark.parametrize("kind", ["file", "symlink", "folder", "nothing"])
def test_what_takes_the_name_of_a_delivered_file_stays(tmp_path, ingest, deliver_path, kind):
    path, other = ingest / "a", ingest / "other"
    path.write_bytes(CLEAN)
    if kind == "file":
        other.write_bytes(EXECUTABLE)
    elif kind == "symlink":
        other.symlink_to(tmp_path)
    elif kind == "folder":
        other.mkdir()

    def swap():
        path.unlink()
        if kind != "nothing":
            other.rename(path)

    file = scanned(path)
    file = SwappingFile(folder=file.folder, name=file.name, path=file.path, identity=file.identity)
    SwappingFile.swap = staticmethod(swap)
    with Delivery(str(deliver_path)) as delivery:
        delivery.deliver(file, "a", None)
    assert (deliver_path / "a").read_bytes() == CLEAN
    assert [each.name for each in ingest.iterdir()] == ([] if kind == "nothing" else ["a"])
    if kind == "file":
        assert path.read_bytes() == EXECUTABLE


@pytest.mark.parametrize("taken", [False, True])
def test_what_was_parked_at_a_crash_gets_its_name_back(ingest, taken):
    path = ingest / "a"
    path.write_bytes(EXECUTABLE)
    file = scanned(path)
    path.rename(ingest / parked_name("a", file.identity))
    if taken:
        path.write_bytes(CLEAN)
        file.give_back()
    else:
        with pytest.raises(ChangedError), file.opened():
            pass
    found = sorted(each.read_bytes() for each in ingest.iterdir())
    assert found == sorted([EXECUTABLE, CLEAN] if taken else [EXECUTABLE])
    assert all(each.name.startswith("a") for each in ingest.iterdir())
    assert path.read_bytes() == (CLEAN if taken else EXECUTABLE)


def test_a_changed_or_open_file_is_not_delivered(ingest, deliver_path):
    path = ingest / "a"
    path.write_bytes(CLEAN)
    with Delivery(str(deliver_path)) as delivery:
        file = scanned(path)
        path.write_bytes(EXECUTABLE)
        with pytest.raises(ChangedError):
            delivery.deliver(file, "a", None)
        file = scanned(path)
        with path.open("ab"), pytest.raises(ChangedError):
            delivery.deliver(file, "a", None)
    assert path.read_bytes() == EXECUTABLE
    assert not (deliver_path / "a").exists()


# What can go wrong in between, inside one process


class Meddling(Scanner):
    """The real scanner, and somebody who does something to the file while it is scanned, once."""

    meddle = staticmethod(lambda: None)

    def limit(self, budgets):
        self._settings = replace(self._settings, budgets=budgets)
        self.renew()

    def submit(self, path):
        future = super().submit(path)
        if "self-test" not in path:
            future.result()
            self.meddle()
            self.meddle = lambda: None
        return future


@contextlib.contextmanager
def service_in_process(
    ingest, vault, *, meddle=None, budgets=None, quarantine=Quarantine, deliver=None, **settings
):
    """The service in this process; yields a function that runs it until a condition holds."""
    config = WatchConfig(settle=0.1, reconcile=0.3, log_paths=True, **settings)
    with contextlib.ExitStack() as stack:
        kept = quarantine(vault)
        stack.callback(kept.close)
        journal = stack.enter_context(Journal(vault / "state"))
        delivery = stack.enter_context(Delivery(str(deliver))) if deliver else None
        scanner = Meddling(ScanConfig(workers=1), vault / "state")
        if budgets is not None:
            scanner.limit(budgets)
        scanner.meddle = meddle or (lambda: None)
        service = WatchService(
            str(ingest),
            config,
            scanner=scanner,
            quarantine=kept,
            journal=journal,
            delivery=delivery,
            reload=lambda: None,
        )

        def run_until(condition):
            seen, ended = threading.Event(), threading.Event()

            def watch():
                end = time.monotonic() + SECONDS
                while not ended.wait(0.02) and time.monotonic() < end:
                    if condition():
                        seen.set()
                        break
                service.stop()

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                service.run()
            finally:
                ended.set()
                watcher.join()
            assert seen.is_set(), "waited in vain"

        yield run_until


def test_a_file_that_turns_bad_while_it_is_scanned_is_scanned_again(ingest, vault, tmp_path):
    path = ingest / "a"
    path.write_bytes(CLEAN)
    deliver = tmp_path / "deliver"
    with service_in_process(
        ingest, vault, meddle=lambda: path.write_bytes(EXECUTABLE), deliver=deliver
    ) as run_until:
        run_until(lambda: not path.exists())
    (record,) = records_of(vault)
    assert record.sha256 == hashlib.sha256(EXECUTABLE).hexdigest()
    assert list(deliver.iterdir()) == []


def test_a_bad_file_swapped_for_another_while_it_is_scanned(ingest, vault, tmp_path, caplog):
    path, other = ingest / "a", tmp_path / "other"
    path.write_bytes(EXECUTABLE)
    other.write_bytes(CLEAN)
    with (
        caplog.at_level(logging.INFO, "dicomguard"),
        service_in_process(ingest, vault, meddle=lambda: other.rename(path)) as run_until,
    ):
        run_until(lambda: "clean: a" in caplog.text)
    assert records_of(vault) == []
    assert path.read_bytes() == CLEAN


def test_a_file_swapped_for_a_link_while_it_is_scanned(ingest, vault, tmp_path, caplog):
    path, secret = ingest / "a", tmp_path / "secret"
    path.write_bytes(EXECUTABLE)
    secret.write_bytes(b"secret")

    def meddle():
        path.unlink()
        path.symlink_to(secret)

    with (
        caplog.at_level(logging.INFO, "dicomguard"),
        service_in_process(ingest, vault, meddle=meddle) as run_until,
    ):
        run_until(lambda: "skipped symbolic link" in caplog.text)
    assert records_of(vault) == []
    assert secret.read_bytes() == b"secret"


def test_a_folder_swapped_for_a_link_while_a_file_in_it_is_scanned(ingest, vault, tmp_path, caplog):
    folder, outside = ingest / "study", tmp_path / "outside"
    folder.mkdir()
    (folder / "a").write_bytes(EXECUTABLE)

    def meddle():
        folder.rename(outside)
        folder.symlink_to(outside)

    with (
        caplog.at_level(logging.INFO, "dicomguard"),
        service_in_process(ingest, vault, meddle=meddle) as run_until,
    ):
        run_until(lambda: "skipped symbolic link" in caplog.text)
    assert records_of(vault) == []
    assert (outside / "a").read_bytes() == EXECUTABLE


def test_a_full_disk_keeps_the_file_and_is_tried_again(ingest, vault, caplog):
    class Full(Quarantine):
        tries = 0

        def store(self, file, report):
            self.tries += 1
            if self.tries < 3:
                raise OSError(28, "No space left on device")
            return super().store(file, report)

    caplog.set_level(logging.INFO, "dicomguard")
    path = ingest / "a"
    path.write_bytes(EXECUTABLE)
    with service_in_process(ingest, vault, quarantine=Full) as run_until:
        run_until(lambda: not path.exists())
    assert caplog.text.count("No space left on device") == 1
    assert "quarantine: over after" in caplog.text
    assert len(records_of(vault)) == 1


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("quarantine", "quarantined"), ("keep", "kept"), ("deliver", "delivered")],
)
def test_a_file_that_could_not_be_examined(ingest, vault, caplog, policy, outcome):
    caplog.set_level(logging.INFO, "dicomguard")
    deliver = ingest.parent / "deliver"
    for name in ("first", "second"):
        (ingest / name).write_bytes(CLEAN)
        caplog.clear()
        with service_in_process(
            ingest, vault, budgets=Budgets(elements=150), on_incomplete=policy, deliver=deliver
        ) as run_until:
            run_until(lambda: f"incomplete {outcome}" in caplog.text)
    assert ": first" not in caplog.text, "it was scanned again without need"
    assert len(list(ingest.iterdir())) == 2 * (policy == "keep")
    assert len(list(deliver.iterdir())) == 2 * (policy == "deliver")
    kept = [record.verdict for record in records_of(vault)]
    assert kept == [Verdict.INCOMPLETE] * 2 * (policy == "quarantine")


def test_more_files_than_may_wait_are_left_in_the_folder_until_there_is_room(
    ingest, vault, caplog, monkeypatch
):
    monkeypatch.setattr(pipeline_module, "_MOST_WAITING", 4)
    caplog.set_level(logging.INFO, "dicomguard")
    for number in range(30):
        (ingest / str(number)).write_bytes(CLEAN)
    with service_in_process(ingest, vault) as run_until:
        run_until(lambda: caplog.text.count(" clean: ") == 30)


# The quarantine's commands


def test_list_show_and_restore(tmp_path, ingest, vault, bad):
    path = os.path.join(os.fsencode(ingest), b"\x1b[31m\xff")
    Path(os.fsdecode(path)).write_bytes(bad)
    with Daemon(ingest, vault) as daemon:
        daemon.await_line("malicious quarantined")
        listed = run("quarantine", "list", "--quarantine", vault, "--format", "jsonl")
        assert listed.returncode == 0
        assert daemon.stop() == 0
    (line,) = listed.stdout.decode("ascii").splitlines()
    entry = json.loads(line)
    assert entry["sha256"] == hashlib.sha256(bad).hexdigest()
    assert os.fsencode(entry["original_path"]) == path
    assert entry["verdict"] == "malicious"
    assert entry["modality"] == "CT"

    text = run("quarantine", "list", "--quarantine", vault).stdout.decode()
    assert text.startswith(entry["id"])
    assert "\\x1b[31m\\udcff" in text
    shown = run("quarantine", "show", entry["id"], "--quarantine", vault).stdout.decode()
    assert entry["sha256"] in shown
    assert "EMB-PE" in shown
    for output in (text, shown):
        assert output.replace("\n", "").isprintable()
    assert "CompressedSamples" not in shown + text + line  # the patient's name

    target = tmp_path / "restored"
    for code in (0, 2):
        result = run(
            "quarantine",
            "restore",
            entry["id"][:12],
            "--quarantine",
            vault,
            "--to",
            target,
            "--reason",
            "test",
        )
        assert result.returncode == code
        assert target.read_bytes() == bad
    (packed,) = (vault / "objects").iterdir()
    packed.write_bytes(packed.read_bytes()[:-100])
    damaged = run("quarantine", "restore", entry["id"], "--quarantine", vault, "--reason", "test")
    assert damaged.returncode == 2
    assert b"damaged" in damaged.stderr
    assert list(ingest.iterdir()) == []


def test_a_damaged_record_does_not_hide_the_others(ingest, vault):
    (ingest / "a").write_bytes(EXECUTABLE)
    with Daemon(ingest, vault) as daemon:
        daemon.await_line("malicious quarantined")
    (vault / "records" / "00damaged.json").write_bytes(b"{")
    listed = run("quarantine", "list", "--quarantine", vault, "--format", "jsonl")
    assert listed.returncode == 2
    assert len(listed.stdout.splitlines()) == 1
    assert b"00damaged" in listed.stderr
