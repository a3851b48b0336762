"""Disks that are full, read-only or gone, and watches that run out: in namespaces of their own."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dicomguard.quarantine import Vault
from watching import CLEAN, EXECUTABLE, Daemon, until

_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def is_permitted():
    try:
        command = [*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not is_permitted(), reason="needs user and mount namespaces")


class Mounted(Daemon):
    """A daemon in a namespace where a tmpfs of its own is mounted at a folder."""

    def __init__(self, ingest, vault, *options, at, size, first=":"):
        at.mkdir(exist_ok=True)
        script = f'{first} && mount -t tmpfs -o size={size} tmpfs "$1" && shift && exec "$@"'
        prefix = [*_UNSHARE, "sh", "-c", script, "sh", at]
        self.at = at
        super().__init__(ingest, vault, *options, prefix=prefix)

    def inside(self, path):
        """A path as the daemon sees it."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def run(self, *command):
        enter = ["nsenter", "--target", str(self.process.pid), "--user", "--mount"]
        subprocess.run([*enter, "--preserve-credentials", *command], check=True, timeout=30)

    def remount(self, options):
        self.run("mount", "-o", f"remount,{options}", self.at)


@pytest.fixture
def disk(tmp_path):
    return tmp_path / "disk"


def make_bad(ingest, numbers):
    for number in numbers:
        (ingest / f"bad{number}").write_bytes(EXECUTABLE + b"%d" % number)


def assert_all_kept(vault, numbers):
    """Each bad file is in the vault, whole, and once."""
    with Vault(str(vault)) as opened:
        records = [opened.record(record_id) for record_id in opened.ids()]
        for record in records:
            opened.verify(record)
    names = sorted(Path(record.original_path).name for record in records)
    assert names == sorted(f"bad{number}" for number in numbers)
    assert list((vault / "pending").iterdir()) == []


@pytest.mark.parametrize("state", ["with the vault", "elsewhere"])
def test_a_vault_that_is_full_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path, ingest, disk, state
):
    options = [] if state == "with the vault" else ["--state", tmp_path / "state"]
    vault = disk / "vault"
    with Mounted(ingest, vault, *options, at=disk, size="400k") as daemon:
        make_bad(ingest, range(30))
        daemon.await_line("quarantined")
        daemon.await_line("full" if state == "with the vault" else "No space left on device")
        (ingest / "clean").write_bytes(CLEAN)
        time.sleep(3)
        said = daemon.lines("quarantine: No space left") + daemon.lines("journal: no file")
        # Each of the two is said once, and again only if it was over in between.
        assert 1 <= len(said) <= 2 + len(daemon.lines("over after"))
        # Listed in this order no file is missed that moves meanwhile.
        found = {path.name for path in ingest.glob("bad*")}
        for path in daemon.inside(vault / "records").iterdir():
            found.add(Path(json.loads(path.read_text())["original_path"]).name)
        assert found == {f"bad{number}" for number in range(30)}
        assert (ingest / "clean").read_bytes() == CLEAN
        daemon.remount("size=100m")
        until(lambda: not list(ingest.glob("bad*")), lambda: daemon.log[-3000:], 90)
        daemon.await_line("clean: clean", seconds=90)
        daemon.await_line("over after", seconds=90)
        daemon.await_line("malicious quarantined", ": bad", count=30, seconds=90)
        assert_all_kept(daemon.inside(vault), range(30))
        assert daemon.stop() == 0
    assert len(daemon.lines("malicious quarantined", ": bad")) == 30


def test_a_vault_that_is_read_only_loses_nothing_and_goes_on_when_it_is_not(tmp_path, ingest, disk):
    vault, state, deliver = disk / "vault", tmp_path / "state", tmp_path / "deliver"
    options = ["--state", state, "--deliver", deliver]
    with Mounted(ingest, vault, *options, at=disk, size="100m") as daemon:
        make_bad(ingest, range(3))
        daemon.await_line("malicious quarantined", count=3)
        daemon.remount("ro")
        make_bad(ingest, range(3, 20))
        daemon.await_line("quarantine: Read-only file system")
        (ingest / "clean").write_bytes(CLEAN)
        daemon.await_line("clean delivered: clean")  # what can be done is done
        assert len(list(ingest.glob("bad*"))) == 17
        daemon.remount("rw")
        daemon.await_line("malicious quarantined", count=20, seconds=90)
        daemon.await_line("quarantine: over after")
        assert_all_kept(daemon.inside(vault), range(20))
        assert list(ingest.iterdir()) == []
        assert [path.name for path in deliver.iterdir()] == ["clean"]


def test_a_deliver_folder_that_is_full_loses_nothing_and_goes_on_when_there_is_room(
    ingest, vault, disk
):
    deliver = disk / "deliver"
    options = ["--deliver", deliver]
    with Mounted(ingest, vault, *options, at=disk, size="200k") as daemon:
        for number in range(20):
            (ingest / f"clean{number}").write_bytes(CLEAN)
        daemon.await_line("delivery: No space left on device")
        make_bad(ingest, range(1))
        daemon.await_line("malicious quarantined")
        delivered = list(daemon.inside(deliver).iterdir())
        assert all(path.read_bytes() == CLEAN for path in delivered)
        assert len(delivered) + len(list(ingest.iterdir())) == 20
        daemon.remount("size=100m")
        daemon.await_line("clean delivered", count=20, seconds=90)
        delivered = list(daemon.inside(deliver).iterdir())
        assert len(delivered) == 20
        assert all(path.read_bytes() == CLEAN for path in delivered)
        assert list(ingest.iterdir()) == []


def test_an_ingest_folder_that_is_unmounted_is_missed_until_it_is_back(ingest, vault):
    with Mounted(ingest, vault, "--reconcile", "0.2", at=ingest, size="10m") as daemon:
        daemon.inside(ingest / "a").write_bytes(CLEAN)
        daemon.await_line("clean: a")
        daemon.run("umount", "--lazy", ingest)
        daemon.await_line("ingest folder: nothing is mounted there any more")
        (ingest / "not on the share").write_bytes(EXECUTABLE)
        time.sleep(0.6)
        assert (ingest / "not on the share").exists()
        daemon.run("mount", "-t", "tmpfs", "tmpfs", ingest)
        daemon.await_line("ingest folder: over after")
        daemon.inside(ingest / "b").write_bytes(EXECUTABLE)
        daemon.await_line("malicious quarantined", ": b")


def test_a_vault_that_is_unmounted_is_not_made_anew(tmp_path, ingest, disk):
    vault = disk / "vault"
    options = ["--state", tmp_path / "state"]
    with Mounted(ingest, vault, *options, at=disk, size="10m") as daemon:
        make_bad(ingest, range(1))
        daemon.await_line("malicious quarantined")
        daemon.remount("ro")
        make_bad(ingest, range(1, 2))
        daemon.await_line("quarantine: Read-only")
        daemon.run("umount", "--lazy", disk)
        time.sleep(4)
        assert list(disk.iterdir()) == []
        assert [path.name for path in ingest.iterdir()] == ["bad1"]
        assert daemon.process.poll() is None
        assert daemon.stop(signal.SIGTERM) == 0


def test_watches_that_run_out_are_missed_and_the_scan_finds_the_files(ingest, vault, disk):
    for number in range(30):
        (ingest / str(number)).mkdir()
    first = "echo 10 > /proc/sys/user/max_inotify_watches"
    options = ["--reconcile", "0.3"]
    with Mounted(ingest, vault, *options, at=disk, size="1m", first=first) as daemon:
        daemon.await_line("events: ")
        for number in range(30):
            (ingest / str(number) / "a").write_bytes(EXECUTABLE + b"%d" % number)
        daemon.await_line("malicious quarantined", count=30)
        daemon.run("sh", "-c", "echo 10000 > /proc/sys/user/max_inotify_watches")
        daemon.await_line("events: over after")
        assert os.path.exists(ingest / "29")
