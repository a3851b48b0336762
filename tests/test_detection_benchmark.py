"""The benchmark of benchmarks/detection measures what it claims to measure."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicomguard.model import Verdict
from dicomguard.scan import scan_bytes
from dicomguard.settings import ScanSettings

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from detection import honest, polyglots
from detection.case import Bar, Case, Target, judge
from detection.corpus import cases
from detection.encodings import ENCODINGS, Encoding
from detection.payloads import payloads
from detection.places import Place, places
from detection.run import attacks, main, run


def test_there_are_forty_kinds_of_payload_and_no_two_alike() -> None:
    contents = {payload.data for payload in payloads().values()}
    assert len(contents) == len(payloads()) >= 40


@pytest.mark.parametrize("place", places(), ids=lambda place: place.name)
def test_a_place_holds_what_is_put_there(place: Place) -> None:
    content = payloads()["script-powershell" if place.text else "elf-x86_64"].data
    data, target = place.fill(content)
    assert target.end == target.start + len(content)
    if not place.inner:
        assert data[target.start : target.end] == content


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_an_encoding_hides_a_program_from_a_search_for_its_bytes(encoding: Encoding) -> None:
    payload = payloads()["script-powershell"].data
    wrapped = encoding.wrap(payload)
    assert wrapped != payload
    if encoding.text:
        assert wrapped.isascii()


def a_case() -> Case:
    return next(case for case in cases() if case.name == "pe-tiny@private OB")


def test_a_payload_at_its_place_is_found() -> None:
    case = a_case()
    assert judge(case, scan_bytes(case.data)).found


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"ids": frozenset(["EMB-ELF"])}, "id+place"),
        ({"target": Target(frozenset(["(0009,1002)"]))}, "place"),
        ({"target": Target(frozenset(["(0009,1001)"]), 0, 700)}, "place"),
        ({"bar": Bar.CLEAN}, "verdict"),
    ],
)
def test_a_miss_says_what_is_wrong(wrong: dict[str, object], part: str) -> None:
    case = replace(a_case(), **wrong)  # type: ignore[arg-type]
    outcome = judge(case, scan_bytes(case.data))
    assert not outcome.found
    assert outcome.wrong == part


def test_the_same_seed_gives_the_same_files() -> None:
    first, again = (list(islice(cases(7), 300)) for _ in range(2))
    assert first == again
    other = {case.name: case.data for case in honest.cases(8)}
    assert any(case.data != other[case.name] for case in honest.cases(7))


def test_the_runner_writes_tables_and_names_misses(tmp_path: Path) -> None:
    options = ["--every", "97", "--no-peers", "--no-bombs", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert result.exit_code == 0
    table = (tmp_path / "table.md").read_text()
    assert "| **all** |" in table
    assert table in result.output
    header, *misses = (tmp_path / "misses.tsv").read_text().splitlines()
    assert all(miss.count("\t") == header.count("\t") for miss in misses)


def test_honest_files_can_be_any_folder(tmp_path: Path) -> None:
    (tmp_path / "odd.dcm").write_bytes(a_case().data)
    options = ["--only", "bare", "--no-peers", "--no-bombs", "--benign", str(tmp_path)]
    result = CliRunner().invoke(main, [*options, "--out", str(tmp_path / "out")])
    assert f"- malicious {tmp_path / 'odd.dcm'}" in result.output


@pytest.mark.slow
def test_the_whole_corpus() -> None:
    done = run(cases(), ScanSettings())
    names = [result.case.name for result in done.results]
    assert len(names) == len(set(names))
    assert len(attacks(done.results)) >= 1500
    false = [r.case.name for r in done.results if r.case.bar is Bar.CLEAN and not r.outcome.found]
    assert false == []
    known = {case.name for case in polyglots.cases()}
    missed = [r.case.name for r in done.results if r.case.name in known and not r.outcome.found]
    assert missed == []
    assert all(
        result.report.verdict > Verdict.CLEAN
        for result in done.results
        if result.case.bar is Bar.NOT_CLEAN
    )
