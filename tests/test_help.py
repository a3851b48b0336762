"""The comfort of the command line: examples that work, completions, manual, hints, lists."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dicomguard.cli.commands import cli
from dicomguard.cli.manpage import manual
from watching import CLEAN, EXECUTABLE, SECONDS, Daemon


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from commands(each, (*path, name))


def examples(command: click.Command) -> list[str]:
    _, _, told = (command.help or "").partition("\b\nExamples\n")
    if not told:
        _, _, told = (command.help or "").partition("Examples\n")
    return [line.strip() for line in told.splitlines() if line.strip()]


NAMED = dict(commands())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which there is a command ``dicomguard``."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "dicomguard"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dicomguard "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, installed: dict[str, str]) -> Path:
    """What the examples speak of: folders, files, a vault with a file in it, a pack, a baseline."""
    world = tmp_path_factory.mktemp("template")
    for name in ("incoming", "archive", "review"):
        (world / "data" / name).mkdir(parents=True)
        (world / "data" / name / "IM0009").write_bytes(CLEAN)
    (world / "stamp").touch()
    for name in ("IM0001", "IM0002", "data/incoming/IM0003"):
        (world / name).write_bytes(CLEAN)
    (world / "data" / "incoming" / "bad").write_bytes(EXECUTABLE)
    with Daemon(world / "data" / "incoming", world / "data" / "vault") as daemon:
        daemon.await_line("malicious quarantined")
        daemon.stop()
    folders = "".join(
        f'{name} = "data/{folder}"\n'
        for name, folder in (("ingest", "incoming"), ("quarantine", "vault"))
    )
    (world / "dicomguard.toml").write_text(f"[watch]\n{folders}")
    for line in (
        "dicomguard rules new first --to acme",
        "dicomguard check --write-baseline known.json data/archive",
    ):
        subprocess.run(["sh", "-c", line], cwd=world, env=installed, check=True, timeout=60)
    return world


@pytest.fixture
def world(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "world")


def runs_until_told(line: str, world: Path, env: dict[str, str]) -> int:
    """Run an example that goes on until it is stopped; its exit code."""
    log = world / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {line}"], cwd=world, env=env, stderr=stream, stdout=stream
        )
    end = time.monotonic() + SECONDS
    while "watching" not in log.read_text() and process.poll() is None:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    process.terminate()
    return process.wait(SECONDS)


@pytest.mark.parametrize("name", NAMED, ids=lambda name: name or "dicomguard")
def test_every_example_of_every_help_works(
    name: str, world: Path, installed: dict[str, str]
) -> None:
    lines = examples(NAMED[name])
    assert lines, "its --help has no example"
    for line in lines:
        assert f"dicomguard {name}".split()[-1] in line
        here = line.replace("/data/", f"{world}/data/")
        if " watch " in f"{here} ":
            assert runs_until_told(here, world, installed) == 0, line
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", here],
            cwd=world,
            env=installed,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        # The pack of the shipped rules is small, so that a rule may well take 5 % of its time.
        assert done.returncode == 0 or "bench" in line, (line, done.stdout, done.stderr)
        assert "rror:" not in done.stderr, line


# ---------------------------------------------------------------------- hints


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["chek", "x"], "Did you mean 'check'?"),
        (["check", "--shw-values", "x"], "'--show-values'"),
        (["check", "--engine", "yarax", "x"], "Did you mean 'yara-x'?"),
        (["rules", "lit"], "Did you mean"),
        (["quarantine", "restor"], "Did you mean 'restore'?"),
        (["completions", "bsh"], "Did you mean 'bash'?"),
    ],
)
def test_a_wrong_word_brings_the_right_one_to_mind(words: list[str], hint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dicomguard", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert hint in done.stderr


# ---------------------------------------------------------------------- completions, manual


def completed(words: str, env: dict[str, str]) -> list[str]:
    """What bash would be offered for the last of some words."""
    asked = {
        "_DICOMGUARD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        ["dicomguard"], env=env | asked, capture_output=True, text=True, timeout=60, check=True
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_options_and_choices_are_completed(installed: dict[str, str]) -> None:
    assert completed("dicomguard che", installed) == ["check"]
    assert "--show-values" in completed("dicomguard check --show", installed)
    assert completed("dicomguard check --engine yara-", installed) == ["yara-x"]


@pytest.mark.parametrize("words", ["check IM", "watch IM", "extract IM", "check --baseline IM"])
def test_names_of_files_are_completed(words: str, installed: dict[str, str]) -> None:
    """What else asks bash itself for files."""
    script = (
        'compopt() { echo "$@"; }\n'
        "source <(dicomguard completions bash)\n"
        f"COMP_WORDS=(dicomguard {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        "_dicomguard_completion dicomguard"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=installed,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "-o default\n", done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_what_the_shell_understands(
    shell: str, tmp_path: Path, installed: dict[str, str]
) -> None:
    done = subprocess.run(
        ["dicomguard", "completions", shell],
        env=installed,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "_DICOMGUARD_COMPLETE" in done.stdout
    if not shutil.which(shell):
        pytest.skip(f"needs {shell} to read it")
    script = tmp_path / "completions"
    script.write_text(done.stdout)
    subprocess.run([shell, "-n", script], check=True, timeout=60)


def test_the_manual_has_every_command_and_option() -> None:
    page = manual(cli).replace("\\-", "-")
    for name, command in NAMED.items():
        if not isinstance(command, click.Group):
            assert f".SS dicomguard {name} " in page
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert option in page, (name, option)


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
def test_the_manual_is_readable_by_man(tmp_path: Path) -> None:
    path = tmp_path / "dicomguard.1"
    path.write_text(manual(cli))
    done = subprocess.run(
        ["man", "--warnings", "-l", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"MANWIDTH": "80"},
    )
    assert done.stderr == ""
    assert "dicomguard rules test acme" in done.stdout


# ---------------------------------------------------------------------- lists of files

ODD = [b"with space.dcm", b"line\nbreak.dcm", b"\xff\xfe.dcm", b"-", b"-dash.dcm", b"qu'ote\".dcm"]


def listed(
    folder: Path, content: bytes, *options: str, stdin: bool = False
) -> tuple[int, set[str]]:
    path = folder.parent / "list"
    path.write_bytes(content)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dicomguard", "check", "--workers", "1", "--format", "jsonl"),
            *(*options, "--files-from", "-" if stdin else path),
        ],
        cwd=folder,
        input=content if stdin else None,
        capture_output=True,
        timeout=60,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {line["path"] for line in lines if line["type"] == "file"}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(CLEAN)
    return folder


@pytest.mark.parametrize("stdin", [False, True])
def test_a_list_of_files_may_hold_any_name(odd: Path, stdin: bool) -> None:
    code, paths = listed(odd, b"\0".join(ODD) + b"\0", "-0", stdin=stdin)
    assert code == 0
    assert len(paths) == len(ODD)


def test_a_list_of_lines(odd: Path) -> None:
    code, paths = listed(odd, b"with space.dcm\n\n-dash.dcm")
    assert (code, paths) == (0, {"with space.dcm", "-dash.dcm"})


def test_what_is_listed_and_not_there_is_not_clean(odd: Path) -> None:
    code, paths = listed(odd, b"with space.dcm\nnone.dcm\n")
    assert (code, len(paths)) == (3, 2)


def test_a_list_that_is_not_there_and_no_list_at_all_are_errors(tmp_path: Path) -> None:
    for words in (["--files-from", str(tmp_path / "none")], [], ["-", "--files-from", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "dicomguard", "check", *words],
            input="",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, words
