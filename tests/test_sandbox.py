"""What a confined process can still do: each attempt is really made by one."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomguard.batch import Batch
from dicomguard.discover import discover
from dicomguard.sandbox import abilities, confine
from dicomguard.scan import scan_file
from dicomguard.settings import ScanSettings
from fixtures.build import all_fixtures

MEMORY = 1 << 30


def confined(attempt: Callable[[], object]) -> str:
    """What becomes of an attempt in a confined process: ``done``, an error's name or a signal's."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            confine(MEMORY)
            attempt()
            answer = "done"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            answer = type(error).__name__
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read().decode()
    _, status = os.waitpid(pid, 0)
    return answer or signal.Signals(os.WTERMSIG(status)).name


@pytest.fixture(autouse=True)
def _has_filter() -> None:
    if not (abilities().landlock and abilities().seccomp):
        pytest.skip("this system has no Landlock or no libseccomp")


def new_socket(family: socket.AddressFamily, kind: socket.SocketKind) -> Callable[[], object]:
    return lambda: socket.socket(family, kind)


@pytest.mark.parametrize(
    "attempt",
    [
        new_socket(socket.AF_INET, socket.SOCK_STREAM),
        new_socket(socket.AF_INET6, socket.SOCK_DGRAM),
        new_socket(socket.AF_UNIX, socket.SOCK_STREAM),
        lambda: os.execv("/bin/true", ["true"]),
        lambda: subprocess.run(["/bin/true"], check=True),
        os.fork,
        lambda: os.kill(os.getppid(), signal.SIGTERM),
        lambda: os.chmod("/tmp", 0o777),
        lambda: os.setuid(0),
        lambda: os.chroot("/"),
    ],
    ids=["tcp", "udp", "unix", "exec", "subprocess", "fork", "kill", "chmod", "setuid", "chroot"],
)
def test_what_only_an_attack_needs_is_refused(attempt: Callable[[], object]) -> None:
    assert confined(attempt) == "PermissionError"


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "xb"])
def test_no_file_is_written(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    if mode != "xb":
        path.write_bytes(b"as it was")
    assert confined(lambda: path.open(mode)) == "PermissionError"
    assert mode == "xb" or path.read_bytes() == b"as it was"


@pytest.mark.parametrize("change", [os.unlink, lambda path: os.rename(path, path + "x")])
def test_no_name_is_changed(tmp_path: Path, change: Callable[[str], object]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert confined(lambda: change(str(path))) == "PermissionError"
    assert path.exists()


def test_what_is_open_for_writing_does_not_grow(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb", buffering=0) as stream:
        assert confined(lambda: stream.write(b"x")) in ("OSError", "SIGXFSZ")
    assert not (tmp_path / "file").stat().st_size


def test_memory_is_capped() -> None:
    assert confined(lambda: bytearray(2 * MEMORY)) == "MemoryError"


def test_memory_is_not_made_executable_by_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"read only")

    def attempt() -> None:
        with path.open("rb") as stream:
            mmap.mmap(stream.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_WRITE)

    assert confined(attempt) == "PermissionError"


def test_what_scans_need_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def attempt() -> None:
        assert path.read_bytes() == b"content"
        thread = threading.Thread(target=path.stat)
        thread.start()
        thread.join()

    assert confined(attempt) == "done"


def test_a_process_may_end_itself() -> None:
    assert confined(os.abort) == "SIGABRT"
    assert confined(lambda: ctypes.string_at(0)) == "SIGSEGV"


@pytest.mark.parametrize("engine", ["yara", "yara-x"])
def test_every_fixture_has_its_report_from_a_confined_worker(tmp_path: Path, engine: str) -> None:
    for fixture in all_fixtures().values():
        (tmp_path / fixture.filename).write_bytes(fixture.data)
    settings = ScanSettings(engine=engine)
    with Batch(settings, 2, ordered=True) as batch:
        for candidate, report in batch.reports(discover([str(tmp_path)])):
            assert report == scan_file(candidate.path, settings)
