"""``dicomguard map``: one file as a picture in the terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicomguard import Verdict, scan_bytes
from dicomguard.model import Region
from dicomguard.reports.map import TextMap
from dicomguard.reports.model import FileRecord
from dicomguard.reports.renderer import Detail
from dicomguard.settings import ScanSettings
from fixtures.build import HERE, all_fixtures
from test_check import environment, put
from test_html import drawn
from test_reports import ATTACKS

DRAW = ScanSettings(draw=frozenset(Verdict))
LETTERS = {
    "p": Region.PREAMBLE, "P": Region.PREFIX, "m": Region.META, "d": Region.DATASET,
    "v": Region.PRIVATE, "o": Region.DOCUMENT, "x": Region.PIXELS, "-": Region.PADDING,
    "t": Region.TAIL, "?": Region.GAP,
}  # fmt: skip


def shown(name: str, *, verbose: bool = False, depth: int = 8, most: int = 200) -> str:
    report = scan_bytes(all_fixtures()[name].data, name, DRAW)
    out = io.StringIO()
    TextMap(out, Detail(verbose=verbose), depth=depth, most=most).file(
        FileRecord.of(report), named=True
    )
    return out.getvalue()


NESTED = """\
malicious   pe-nested  10.5 KiB

              1
pmmdddddddddddvvvvvvvvvvxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
ENTROPY
0                                                                                           10.5 KiB
p preamble 128 bytes   P prefix 4 bytes   m meta 202 bytes   d dataset 1.2 KiB   \
v private 1.0 KiB   x pixels 8.0 KiB
below the strip: byte entropy, 0 to 8 bits

  1  critical  EMB-PE  Windows executable  private (0040,0275)[0] > (0040,0008)[1] > (0009,1001), \
offset 1574, 1024 bytes
1 of conformance and inventory: -v marks them too

      offset      length  VR  element
         132          12  UL  (0002,0000) File Meta Information Group Length
         144          14  OB  (0002,0001) File Meta Information Version
        1488        1110  SQ  (0040,0275) Request Attributes Sequence
        1508        1090  SQ    [0] (0040,0008) Scheduled Protocol Code Sequence
        1562        1036  OB      [1] (0009,1001) ?  [DICOMGUARD FIXTURE]  <= 1
… and 79 more elements (--elements, --depth)
"""


def test_a_picture_of_a_file() -> None:
    lines = shown("pe-nested", most=2).splitlines(keepends=True)
    assert re.fullmatch("[ ▁▂▃▄▅▆▇█]{100}\n", lines[4])
    lines[4] = "ENTROPY\n"
    assert "".join(lines) == NESTED


@pytest.mark.parametrize("name", sorted(all_fixtures()))
def test_every_fixture_is_drawn_to_scale(name: str) -> None:
    data = all_fixtures()[name].data
    text = shown(name, verbose=True)
    report = scan_bytes(data, name, DRAW)
    assert all(line.isprintable() for line in text.split("\n"))
    if not data:
        return
    strip = next(line for line in text.split("\n")[2:] if set(line) <= set(LETTERS) and line)
    assert len(strip) == min(100, len(data))
    assert report.drawing
    for column, letter in enumerate(strip):
        start, end = len(data) * column // len(strip), len(data) * (column + 1) // len(strip)
        regions = {
            each.region
            for each in report.drawing.stretches
            if each.offset < end and each.offset + each.length > start
        }
        assert LETTERS[letter] in regions
    for finding in report.findings:
        assert finding.kind.id in text


def test_depth_and_number_are_bounded() -> None:
    assert "[0]" not in shown("ct", depth=0)
    listed = [line for line in shown("ct", most=3).split("\n") if re.match(r"\s+\d+\s+\d+  ", line)]
    assert len(listed) == 3


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
@pytest.mark.parametrize("verbose", [False, True])
def test_no_file_drives_the_terminal(attack: str, verbose: bool) -> None:
    out = io.StringIO()
    TextMap(out, Detail(verbose=verbose)).file(FileRecord.of(drawn(attack)), named=True)
    for line in out.getvalue().split("\n"):
        assert line.isprintable(), ascii(line)


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicomguard", "map", *arguments],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


def test_the_command() -> None:
    done = run(HERE / "malicious" / "poly-pe.dcm")
    assert done.returncode == 1
    assert "POLY-PE" in done.stdout
    assert "Patient's Name" in done.stdout
    assert run(HERE / "clean" / "ct.dcm").returncode == 0


def test_the_command_where_only_ascii_can_be_shown() -> None:
    done = run(HERE / "malicious" / "poly-pe.dcm", PYTHONIOENCODING="ascii")
    assert done.stdout.isascii()
    assert "\\u" not in done.stdout.split("offset      length")[0]


def test_the_command_in_other_formats() -> None:
    clean = HERE / "clean" / "ct.dcm"
    page = run("--format", "html", clean)
    assert page.returncode == 0
    assert "<figure" in page.stdout
    document = json.loads(run("--format", "json", clean).stdout)
    picture = document["files"][0]["drawing"]
    assert sum(each["length"] for each in picture["stretches"]) == clean.stat().st_size
    assert len(picture["elements"]) == picture["elements_in_file"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    missing = run(tmp_path / "missing")
    assert missing.returncode == 3
    assert "No such file" in missing.stdout
    empty = run(put(tmp_path, "empty", b""))
    assert (empty.returncode, empty.stderr) == (0, "")
