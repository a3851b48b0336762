"""In which order the daemon's system calls come: what a crash of the machine cannot take back."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from watching import CLEAN, EXECUTABLE, Daemon

CALLS = "trace=linkat,unlinkat,renameat,renameat2,fsync,fdatasync,pwrite64,write"


def works():
    command = ["strace", "-o", "/dev/null", "true"]
    return shutil.which("strace") and subprocess.run(command, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not works(), reason="needs strace")


class Trace:
    """The system calls of the daemon, in the order in which they ended."""

    def __init__(self, path):
        self.calls = []
        started = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            thread, _, call = line.partition(" ")
            call = call.strip()
            if call.endswith("<unfinished ...>"):
                started[thread] = call.removesuffix("<unfinished ...>")
            elif call.startswith("<..."):
                self.calls.append(started.pop(thread, "") + call.partition("resumed>")[2])
            else:
                self.calls.append(call)

    def first(self, pattern, after=-1):
        """The number of the first call that matches, after another."""
        for number, call in enumerate(self.calls):
            if number > after and re.search(pattern, call):
                return number
        raise AssertionError(f"no {pattern} after {after}")

    def in_order(self, *patterns):
        """That calls match, each after the one before."""
        number = -1
        for pattern in patterns:
            number = self.first(pattern, number)


def traced(tmp_path, ingest, vault, *options):
    """A trace of a daemon that works on a clean and on a bad file."""
    path = tmp_path / "trace"
    (ingest / "x").mkdir()
    (ingest / "x" / "clean").write_bytes(CLEAN)
    (ingest / "x" / "bad").write_bytes(EXECUTABLE)
    prefix = ["strace", "-f", "-y", "-qq", "-s", "200", "-e", CALLS, "-o", path]
    with Daemon(ingest, vault, *options, prefix=prefix) as daemon:
        daemon.await_line("clean", "x/clean")
        daemon.await_line("malicious quarantined", "x/bad")
        subprocess.run(["pkill", "-TERM", "-P", str(daemon.process.pid)], check=True)
        assert daemon.process.wait(30) == 0
    return Trace(path)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same disk", "another"])
def test_nothing_is_announced_that_is_not_on_the_disk(tmp_path, ingest, vault, elsewhere):
    deliver = Path("/dev/shm") if elsewhere else tmp_path
    deliver /= f"deliver-{tmp_path.name}"
    try:
        trace = traced(tmp_path, ingest, vault, "--deliver", deliver)
    finally:
        shutil.rmtree(deliver, ignore_errors=True)
    source, target = re.escape(f"{ingest}/x>"), re.escape(f"{deliver}/x>")
    trace.in_order(
        rf"fsync\(\d+<{re.escape(str(deliver))}/x/#\d+>\(deleted\)",
        rf'linkat\(.*{target}, "clean".* = 0',
        rf"fsync\(\d+<{target}",
        rf'renameat\(\d+<{source}, "clean"',
        rf'unlinkat\(\d+<{source}, "\.[0-9a-f]+\.part"',
        rf"fsync\(\d+<{source}",
        r"write\(2<.*clean delivered: x/clean",
    )
    assert_announced_when_journalled(trace, "clean delivered: x/clean")
    assert_announced_when_journalled(trace, "malicious quarantined")


def test_a_file_that_stays_is_announced_when_the_journal_has_it(tmp_path, ingest, vault):
    trace = traced(tmp_path, ingest, vault)
    assert_announced_when_journalled(trace, "clean: x/clean")


def assert_announced_when_journalled(trace, announcement):
    said = trace.first(rf"write\(2<.*{announcement}")
    before = trace.calls[:said]
    written = [n for n, call in enumerate(before) if re.match(r"pwrite64\(.*sqlite-wal>", call)]
    synced = [n for n, call in enumerate(before) if re.match(r"f\w*sync\(.*sqlite-wal>", call)]
    assert written
    assert synced
    assert written[-1] < synced[-1], trace.calls[written[-1] : said + 1]
