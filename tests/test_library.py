"""dicomguard as a library: what its documentation shows works, and holds no loop up."""

from __future__ import annotations

import asyncio
import doctest
import os
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import dicomguard
from dicomguard import Verdict, library, scan, scan_bytes, scan_dataset, scan_files
from fixtures.build import all_fixtures
from watching import CLEAN, EXECUTABLE, carrier


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "IM0001").write_bytes(CLEAN)
    return folder


@pytest.mark.parametrize("module", [dicomguard, scan, library])
def test_what_the_documentation_shows_works(module, study, monkeypatch):
    monkeypatch.chdir(study.parent)
    finder = doctest.DocTestFinder(recurse=True, exclude_empty=True)
    shown = {test.name: test for test in finder.find(module) if test.examples}
    runner = doctest.DocTestRunner()
    for test in shown.values():
        runner.run(test)
    assert runner.summarize().failed == 0
    if module is not dicomguard:
        for name, each in vars(module).items():
            if name.startswith("scan_") and each.__module__ == module.__name__:
                assert f"{module.__name__}.{name}" in shown, "a public function without an example"


def test_all_that_is_public_is_there_and_importing_it_is_quick():
    for name in dicomguard.__all__:
        assert getattr(dicomguard, name) is not None
    assert set(dicomguard.__all__) <= set(dir(dicomguard))
    with pytest.raises(AttributeError):
        _ = dicomguard.nothing
    code = "import sys, dicomguard; print([m for m in sys.modules if m.startswith('dicomguard.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_it_is_typed():
    assert (Path(dicomguard.__file__).parent / "py.typed").is_file()


# ---------------------------------------------------------------------- data sets


def test_a_data_set_is_examined_as_it_would_be_written(tmp_path):
    path = tmp_path / "bad"
    path.write_bytes(carrier(1, tmp_path))
    dataset = pydicom.dcmread(path)
    report = scan_dataset(dataset, "from memory")
    assert report.verdict is Verdict.MALICIOUS
    assert report.path == "from memory"
    (found,) = [each for each in report.findings if each.kind.id == "EMB-PE"]
    assert found.place.tag_path == "(0099,1010)"


def test_the_preamble_of_a_data_set_is_examined():
    polyglot = all_fixtures()["poly-pe"].data
    assert scan_bytes(polyglot).verdict is Verdict.MALICIOUS
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.preamble = b"#!/bin/sh\nrm -rf /tmp/x\n".ljust(128, b"\n")
    assert scan_dataset(dataset).verdict is Verdict.MALICIOUS


def test_a_bare_data_set_is_written_explicitly():
    dataset = Dataset()
    block = dataset.private_block(0x0099, "ACME", create=True)
    block.add_new(1, "OB", EXECUTABLE)
    assert scan_dataset(dataset).verdict is Verdict.MALICIOUS


def test_a_data_set_beyond_the_bound_is_incomplete():
    dataset = Dataset()
    dataset.EncapsulatedDocument = bytes(1000)
    report = scan_dataset(dataset, most_bytes=100)
    assert report.verdict is Verdict.INCOMPLETE
    assert report.unexamined == ("the data set is larger than 100 bytes",)


def test_a_data_set_that_cannot_be_written_is_incomplete_and_quotes_no_patient():
    dataset = Dataset()
    dataset.Rows = 1
    dataset["Rows"]._value = "Doe^Jane"
    report = scan_dataset(dataset)
    assert report.verdict is Verdict.INCOMPLETE
    assert "Doe" not in str(report)
    deep = inner = Dataset()
    for _ in range(2000):
        following = Dataset()
        inner.ReferencedImageSequence = Sequence([following])
        inner = following
    assert scan_dataset(deep).verdict is Verdict.INCOMPLETE


# ---------------------------------------------------------------------- many files


def test_many_files_are_reported_as_they_are_done(study):
    (study / "bad").write_bytes(EXECUTABLE)
    (study / "link").symlink_to("bad")
    os.mkfifo(study / "fifo")
    found = {Path(each.path).name: each.verdict for each in scan_files([study, study / "none"])}
    assert found == {
        "IM0001": Verdict.CLEAN,
        "bad": Verdict.MALICIOUS,
        "none": Verdict.INCOMPLETE,
    }


def test_an_event_loop_goes_on_meanwhile(study):
    for number in range(20):
        (study / f"copy{number}").write_bytes(CLEAN)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def examine() -> list[Verdict]:
        ticking = asyncio.create_task(tick())
        verdicts = [report.verdict async for report in scan_files([study], workers=1)]
        ticking.cancel()
        return verdicts

    verdicts = asyncio.run(examine())
    assert verdicts == [Verdict.CLEAN] * 21
    assert ticks > 100


def test_whoever_leaves_the_loop_stops_the_workers(study):
    for number in range(20):
        (study / f"copy{number}").write_bytes(CLEAN)

    async def first() -> Verdict:
        reports = aiter(scan_files([study], workers=1))
        report = await anext(reports)
        await reports.aclose()
        return report.verdict

    resource_tracker.ensure_running()  # Python keeps it, once there has been a process
    before = children()
    assert asyncio.run(first()) is Verdict.CLEAN
    for report in scan_files([study], workers=1):
        assert report.verdict is Verdict.CLEAN
        break
    end = time.monotonic() + 30
    while children() - before:
        assert time.monotonic() < end, children() - before
        time.sleep(0.05)


def children() -> set[int]:
    """Processes below this one, at any depth."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        parent = pending.pop()
        below = [child for child, of in parents.items() if of == parent]
        found.update(below)
        pending += below
    return found
