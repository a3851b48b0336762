"""Files that are swapped, truncated and written over while the daemon works on them."""

import hashlib
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from dicomguard.model import Verdict
from dicomguard.scan import scan_file
from watching import EXECUTABLE, Daemon, records_of, until

FIXTURES = Path(__file__).parent / "fixtures"
ATTACKERS = 8
DATE = b"20040826185059"
BAD = (FIXTURES / "malicious" / "pe-nested.dcm").read_bytes()


def clean(number):
    """A clean file of the size of a bad one, each number another."""
    content = (FIXTURES / "clean" / "tiff.dcm").read_bytes()
    padding = b"\xfc\xff\xfc\xffOB\0\0" + (len(BAD) - len(content) - 12).to_bytes(4, "little")
    content += padding + bytes(len(BAD) - len(content) - 12)
    return content.replace(DATE, b"2%013d" % number)


def bad(number):
    return BAD.replace(DATE, b"2%013d" % number)


class Attacker:
    """Turns clean files into bad ones at the worst moments, each file once.

    It finds the worst moment by itself: an attack that comes too late is followed by an earlier
    one, and one that comes in time by a later one.

    Args:
        outside: A folder on the file system of the ingest folder.
        rng: Decides how.
    """

    def __init__(self, outside, rng):
        self.outside = outside
        self.rng = rng
        self.delay = 0.13
        self.done = Counter()
        self.swapped = set()

    def attack(self, path, number):
        time.sleep(self.delay)
        way = self.rng.choice(
            [self.swap, self.swap_for_link, self.append, self.truncate, self.overwrite, self.mapped]
        )
        outcome = "in time"
        try:
            way(path, number)
        except FileNotFoundError:
            outcome = "too late"
        self.delay *= (
            self.rng.uniform(0.85, 1) if outcome == "too late" else self.rng.uniform(1, 1.2)
        )
        self.done[f"{way.__name__} {outcome}"] += 1

    def _another(self, number):
        other = self.outside / f"other{number}"
        other.write_bytes(bad(number))
        return other

    def swap(self, path, number):
        other = self._another(number)
        path.stat()
        other.rename(path)
        self.swapped.add(number)

    def swap_for_link(self, path, number):
        link = self.outside / f"link{number}"
        link.symlink_to(self._another(number))
        path.stat()
        link.rename(path)

    def append(self, path, number):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, EXECUTABLE + b"%d" % number)
        os.close(descriptor)

    def truncate(self, path, number):
        """Makes the file shorter, then another of the old size and time."""
        info = path.stat()
        descriptor = os.open(path, os.O_WRONLY)
        os.ftruncate(descriptor, 1000)
        os.write(descriptor, bad(number))
        os.utime(descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))
        os.close(descriptor)

    def overwrite(self, path, number):
        """Through another name, by somebody who keeps the size and the time."""
        info = path.stat()
        name = self.outside / f"name{number}"
        os.link(path, name)
        time.sleep(self.rng.uniform(0, 0.05))
        descriptor = os.open(name, os.O_WRONLY)
        os.write(descriptor, bad(number))
        os.utime(descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))
        os.close(descriptor)

    def mapped(self, path, number):
        """By somebody who opened the file before and writes late."""
        descriptor = os.open(path, os.O_RDWR)
        time.sleep(self.rng.uniform(0, 0.2))
        os.pwrite(descriptor, bad(number), 0)
        os.close(descriptor)


@pytest.mark.slow
def test_no_file_that_changes_is_delivered_as_what_it_was(tmp_path, ingest, vault, staging):
    seed = random.randrange(1 << 32)
    deliver = tmp_path / "deliver"
    attackers = [Attacker(staging, random.Random(seed + number)) for number in range(ATTACKERS)]

    def work(attacker, numbers):
        for number in numbers:
            path = ingest / f"IM{number}"
            path.write_bytes(clean(number))
            attacker.attack(path, number)

    with Daemon(ingest, vault, "--deliver", deliver, "--reconcile", "0.5") as daemon:
        threads = [
            threading.Thread(target=work, args=(attacker, range(first, 1000, ATTACKERS)))
            for first, attacker in enumerate(attackers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(
            lambda: all(path.is_symlink() for path in ingest.iterdir()),
            lambda: f"seed {seed}: {list(ingest.iterdir())[:5]} {daemon.log[-2000:]}",
        )
        assert daemon.stop() == 0
    done = sum((attacker.done for attacker in attackers), Counter())
    print(dict(done))  # noqa: T201 - how many attacks came in time is what the proof rests on
    assert sum(count for way, count in done.items() if "in time" in way) >= 200, done
    assert "Traceback" not in daemon.log
    for path in deliver.iterdir():
        number = int(path.name[2:])
        assert path.read_bytes() == clean(number), f"seed {seed}: {path.name}, {done}"
        assert scan_file(path).verdict is Verdict.CLEAN
    stored = {record.sha256 for record in records_of(vault)}
    for number in set().union(*(attacker.swapped for attacker in attackers)):
        assert hashlib.sha256(bad(number)).hexdigest() in stored, f"seed {seed}: lost {number}"
