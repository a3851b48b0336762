"""Worker processes: whatever happens to one costs the file in its hand and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dicomguard import Report, ScanSettings, Verdict, naming, scan_file, wire
from dicomguard import workers as workers_module
from dicomguard.workers import Crew, ScanPool, Task
from fixtures.build import all_fixtures
from fixtures.carriers import carrier
from fixtures.dicomfile import PRIVATE_TAG, element, private

LARGE = 160 << 20
"""Bytes that take a worker long enough to be caught at; sparse on disk."""

SMALL = ("ct", "poly-pe", "name-obrien", "eicar", "deflate-tail")


@pytest.fixture
def small_files(tmp_path: Path) -> dict[str, Verdict]:
    """A few small files by path, with the verdict that each must get."""
    paths = {}
    for name in SMALL:
        fixture = all_fixtures()[name]
        path = tmp_path / fixture.filename
        path.write_bytes(fixture.data)
        assert fixture.verdict is not None
        paths[str(path)] = fixture.verdict
    return paths


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """A DICOM file whose last value, of a private element, goes on and on."""
    path = tmp_path / "large.dcm"
    value = element(PRIVATE_TAG, "OB", b"", length=LARGE).header
    file = carrier()
    before = [part.encoded for part in file.dataset if part.tag < PRIVATE_TAG]
    path.write_bytes(file.head + b"".join((*before, private(b"")[0].encoded, value)))
    os.truncate(path, path.stat().st_size + LARGE)
    return path


def holder(path: Path) -> int:
    """The worker that has a file open, as soon as there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for pid in workers():
            try:
                opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            except OSError:  # closed, or ended, while it was looked at
                continue
            if str(path) in opened:
                return pid
    pytest.fail("no worker opened the file")


def workers() -> list[int]:
    """Worker processes: the children of this process's child that forks them."""
    return [child for nursery in children(os.getpid()) for child in children(nursery)]


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                its_parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(its_parent) == parent:
                found.append(int(entry.name))
    return found


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile, so that what happens to it does so in mid-scan."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def run(small_files: dict[str, Verdict], large_file: Path, harm: Callable[[int], object]) -> Report:
    """Scan all files at once, harm the worker of the large one, and answer the latter's report.

    Every other file must have its verdict.
    """
    with ScanPool(ScanSettings(), workers=2) as pool:
        before = {path: pool.submit(path) for path in list(small_files)[:2]}
        victim = pool.submit(str(large_file))
        after = {path: pool.submit(path) for path in list(small_files)[2:]}
        harm(holder(large_file))
        verdicts = {path: each.result(60).verdict for path, each in (before | after).items()}
        report = victim.result(60)
        again = pool.submit(next(iter(small_files))).result(60)
    assert verdicts == small_files
    assert again.verdict is Verdict.CLEAN, "the pool goes on"
    return report


def output_of(code: str, *arguments: str) -> str:
    """What a program of its own prints, which starts workers that it has changed."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def assert_incomplete(report: Report, reason: str) -> None:
    assert report.verdict is Verdict.INCOMPLETE
    assert not report.complete
    assert len(report.unexamined) == 1
    assert reason in report.unexamined[0]
    assert [each.kind.id for each in report.findings] == ["SCAN-INCOMPLETE"]


def test_a_pool_scans_as_one_process_does(small_files: dict[str, Verdict]) -> None:
    with ScanPool(ScanSettings(), workers=2) as pool:
        reports = {path: pool.submit(path) for path in small_files}
        for path, report in reports.items():
            assert report.result(60) == scan_file(path)


@pytest.mark.skipif(not naming.is_available(), reason="libmagic is not installed")
def test_what_a_lone_worker_cannot_name_the_next_one_does(tmp_path: Path) -> None:
    path = tmp_path / "tail.dcm"
    path.write_bytes(carrier().but(tail=gzip.compress(b"nothing")).data)
    with Crew(ScanSettings(), 1, lone=True) as crew:
        crew.ready()
        crew.hand_out([Task(str(path))])
        reports = []
        while not reports:
            reports += crew.reports(60)
    ((_, report),) = reports
    assert report == scan_file(path)
    assert "gzip" in " ".join(each.detail for each in report.findings)


def test_no_worker_asks_for_more_than_there_is(small_files: dict[str, Verdict]) -> None:
    code = (
        "import sys\n"
        "from dicomguard import ScanSettings, naming, scan\n"
        "from dicomguard.workers import Crew, Task\n"
        "def fail(*_):\n"
        "    raise naming.NotLoadedError\n"
        "scan.scan_file = fail\n"
        "with Crew(ScanSettings(), 1, lone=len(sys.argv) == 2) as crew:\n"
        "    crew.ready()\n"
        "    crew.hand_out([Task(path, 0) for path in sys.argv[1:]])\n"
        "    while not crew.is_idle:\n"
        "        for task, report in crew.reports(9):\n"
        "            print(task.path, *report.unexamined, sep='|')\n"
    )
    for paths in (list(small_files)[:1], list(small_files)):
        expected = [f"{path}|the worker died (exit code 3)" for path in paths]
        assert output_of(code, *paths).splitlines() == expected


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("rules.shipped_rules = lambda: Path('/nonexistent')", "no rules"),
        ("dictionary._source = lambda _: 'nothing'", "not written as dicomguard knows it"),
    ],
)
def test_why_there_can_be_no_worker_is_told(harm: str, told: str) -> None:
    code = (
        "from pathlib import Path\n"
        "from dicomguard import ScanSettings, rules\n"
        "from dicomguard.dicom import dictionary\n"
        "from dicomguard.errors import DicomguardError\n"
        "from dicomguard.workers import Crew\n"
        f"{harm}\n"
        "with Crew(ScanSettings(), 1) as crew:\n"
        "    try:\n"
        "        crew.ready()\n"
        "    except DicomguardError as error:\n"
        "        print(error)\n"
    )
    assert told in output_of(code)


def test_long_names_and_long_reports_do_not_wait_for_each_other() -> None:
    code = (
        "from dicomguard import ScanSettings, scan\n"
        "from dicomguard.incomplete import unexamined_report\n"
        "from dicomguard.workers import Crew, Task\n"
        "def scan_file(path, settings):\n"
        "    is_long = int(path[:4]) % 64 > 57\n"
        "    return unexamined_report(path, 'x' * (300_000 if is_long else 9))\n"
        "scan.scan_file = scan_file\n"
        "with Crew(ScanSettings(), 1) as crew:\n"
        "    crew.ready()\n"
        "    crew.hand_out([Task(f'{number:04d}'.ljust(4090, 'a'), 9) for number in range(200)])\n"
        "    done = 0\n"
        "    while not crew.is_idle:\n"
        "        done += len(crew.reports(9))\n"
        "print(done)\n"
    )
    assert output_of(code) == "200\n"


def test_strictness_reaches_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "tail.dcm"
    path.write_bytes(all_fixtures()["tail-text"].data)
    with ScanPool(ScanSettings(strict=True), workers=1) as pool:
        assert pool.submit(str(path)).result(60).verdict is Verdict.SUSPICIOUS


@pytest.mark.parametrize(
    "death", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda number: number.name
)
def test_a_worker_dies(
    small_files: dict[str, Verdict], large_file: Path, death: signal.Signals
) -> None:
    def harm(pid: int) -> None:
        os.kill(pid, death)

    assert_incomplete(run(small_files, large_file, harm), death.name)


def test_a_file_shrinks_under_a_worker(small_files: dict[str, Verdict], large_file: Path) -> None:
    """The mapped pages are gone: the kernel answers the next access with SIGBUS."""

    def harm(pid: int) -> None:
        with stopped(pid):
            os.truncate(large_file, 4096)

    assert_incomplete(run(small_files, large_file, harm), "SIGBUS")


@pytest.mark.parametrize("name", ["grown", "replaced"])
def test_a_file_changes_while_a_worker_reads(
    small_files: dict[str, Verdict], large_file: Path, name: str
) -> None:
    def harm(pid: int) -> None:
        with stopped(pid):
            if name == "grown":
                with large_file.open("ab") as stream:
                    stream.write(b"MZ")
            else:
                large_file.unlink()
                large_file.write_bytes(carrier().data)

    assert_incomplete(run(small_files, large_file, harm), "the file changed while it was read")


def test_a_file_vanishes_while_a_worker_reads(
    small_files: dict[str, Verdict], large_file: Path
) -> None:
    def harm(pid: int) -> None:
        with stopped(pid):
            large_file.unlink()

    assert_incomplete(run(small_files, large_file, harm), "No such file")


def test_a_worker_needs_too_much_memory(small_files: dict[str, Verdict], large_file: Path) -> None:
    """The kernel's limit is lowered while it works, to little more than the worker uses already."""

    def harm(pid: int) -> None:
        with stopped(pid):
            assert resource.prlimit(pid, resource.RLIMIT_DATA)[1] == (
                workers_module.MEMORY_PER_WORKER
            )
            used = next(
                int(line.split()[1]) << 10
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmData")
            )
            resource.prlimit(pid, resource.RLIMIT_DATA, (used + (64 << 20),) * 2)

    assert_incomplete(run(small_files, large_file, harm), "MiB")


def test_a_worker_takes_too_long(
    small_files: dict[str, Verdict], large_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped for good; the time it has is shortened, lest the test take as long."""
    monkeypatch.setattr(workers_module, "SECONDS_PER_FILE", 2)

    def harm(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)

    assert_incomplete(run(small_files, large_file, harm), "longer than 2 s")


def test_workers_end_with_their_pool(small_files: dict[str, Verdict]) -> None:
    with ScanPool(ScanSettings(), workers=2) as pool:
        pool.submit(next(iter(small_files))).result(60)
        mine = workers()
        assert mine
    assert not set(mine) & set(workers())


def test_an_error_ends_the_workers_at_once(large_file: Path) -> None:
    def interrupted() -> None:
        with ScanPool(ScanSettings(), workers=1) as pool:
            for _ in range(50):
                pool.submit(str(large_file))
            holder(large_file)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 15
    assert not workers()


def test_a_report_comes_back_as_it_was_sent_but_for_its_path() -> None:
    report = scan_file(__file__, ScanSettings(draw=frozenset(Verdict)))
    assert report.drawing
    assert wire.decode(wire.encode(report)) == replace(report, path="")


@pytest.mark.parametrize(
    "values",
    [
        {"verdict": "harmless"},
        {"verdict": None},
        {"findings": ["none"]},
        {"findings": [{"kind": {"id": "X"}}]},
        {"size": "2"},
        {"identity": [1, 2, 3, 4, 5]},
    ],
)
def test_what_a_worker_says_is_a_report_or_nothing(values: dict[str, object]) -> None:
    said = msgspec.to_builtins(Report(path="", size=2, verdict=Verdict.CLEAN)) | values
    with pytest.raises(ValueError, match=next(iter(values))):
        wire.decode(msgspec.msgpack.encode(said))


@given(st.binary())
def test_no_answer_of_a_worker_does_anything_else(raw: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(wire.decode(raw), Report)


def test_an_answer_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.decode(b"\x8c\xa8findings" + b"\x91" * (1 << 20))


def test_known_content_reaches_the_workers_however_much_it_is(tmp_path: Path) -> None:
    data = all_fixtures()["poly-pe"].data
    path = tmp_path / "known.dcm"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    known = frozenset((digest, *(f"{number:064x}" for number in range(100_000))))
    with ScanPool(ScanSettings(known_clean=known), workers=1) as pool:
        assert pool.submit(str(path)).result(60).sha256 == digest
        assert pool.submit(str(path)).result(60).verdict is Verdict.CLEAN
