"""What a power loss would leave, told from the system calls of a real process.

A kill leaves the page cache as it is, so it cannot show a missing sync. Here the system calls are
replayed on a model of disks that keep as little as they may: the bytes of a file only once the
file was synced after they were written, a name in a folder only once the folder was synced after
it was given; but a name that was taken away is gone at once.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TRACED = (
    "openat,creat,mkdir,mkdirat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
    "truncate,ftruncate,write,writev,pwrite64,pwritev,sendfile,copy_file_range,fallocate,"
    "fsync,fdatasync,fcntl,dup"
)
ANNOUNCEMENT = "announced"
"""What a script writes to standard output when it tells the world."""

_LINE = re.compile(r"(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += (\d+)(?:<.*>(?:\(deleted\))?)?$")
_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|(\d+|AT_FDCWD)<([^>]*)>')


@dataclass(frozen=True)
class Call:
    """A system call that succeeded.

    Attributes:
        name: Of the call.
        text: Its arguments, as strace writes them.
        descriptor: The first that it got, and its path; empty where it got none.
        path: Of that descriptor.
        names: Absolute paths that it was given by name.
        result: What it answered.
    """

    name: str
    text: str
    descriptor: str
    path: str
    names: list[str]
    result: str


def traced(script, *arguments):
    """Runs Python code that can import the tests' modules; its system calls."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    code = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}"
    strace = ["strace", "-y", "-s", "64", "-e", f"trace={TRACED}", "-e", "signal=none"]
    done = subprocess.run(
        [*strace, sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if "Operation not permitted" in done.stderr and "strace:" in done.stderr:
        pytest.skip("may not trace")
    assert done.returncode == 0, done.stderr[-3000:]
    return [call for line in done.stderr.splitlines() if (call := _parsed(line))]


def _parsed(line):
    match = _LINE.match(line)
    if match is None:
        return None
    names, folder, first = [], "/", ("", "")
    for string, number, path in _ARGUMENT.findall(match[2]):
        if number:
            folder = path
            first = first if first[0] else (number, path)
        else:
            names.append(str(Path(folder, string)))
    return Call(match[1], match[2], *first, names, match[3])


class _Bytes:
    """What a file holds, whatever its names."""

    synced = True


class Disks:
    """The folders of a test, as they are and as a power loss would leave them."""

    def __init__(self, *roots):
        self._roots = [str(root) for root in roots]
        self.now = {str(path): _Bytes() for root in roots for path in Path(root).rglob("*")}
        self.safe = dict(self.now)
        self._open = {}

    def survives(self, path):
        """Whether a file is there after a power loss, whole, and its folders with it."""
        path = str(path)
        if path in self._roots:
            return True
        content = self.safe.get(path)
        return content is not None and content.synced and self.survives(Path(path).parent)

    def surviving(self, folder):
        """The names in a folder that are there after a power loss."""
        return {
            Path(path).name
            for path in self.safe
            if Path(path).parent == folder and self.survives(path)
        }

    def apply(self, call):
        """Does what a call did."""
        match call.name:
            case "openat" | "creat":
                self._opened(call)
            case "fcntl" | "dup":
                if call.name == "dup" or "F_DUPFD" in call.text:
                    self._open[call.result] = self._open.get(call.descriptor)
            case "mkdir" | "mkdirat":
                self._name(call.names[0], _Bytes())
            case "link" | "linkat":
                number = call.names[0].removeprefix("/proc/self/fd/")
                self._name(call.names[1], self._open.get(number) or self.now[call.names[0]])
            case "rename" | "renameat" | "renameat2":
                self._name(call.names[1], self._taken_away(call.names[0]))
            case "unlink" | "unlinkat" | "rmdir":
                self._taken_away(call.names[0])
            case "fsync" | "fdatasync":
                self._synced(call)
            case _:
                if content := self._open.get(call.descriptor):
                    content.synced = False

    def _opened(self, call):
        name = call.names[0]
        content = None
        if "O_TMPFILE" in call.text:
            content = _Bytes()
        elif "O_CREAT" in call.text and name not in self.now:
            content = _Bytes()
            self._name(name, content)
        elif "O_DIRECTORY" not in call.text:
            content = self.now.get(name)
        self._open[call.result] = content

    def _name(self, path, content):
        if any(path.startswith(f"{root}/") for root in self._roots):
            self.now[path] = content
            self.safe.pop(path, None)

    def _taken_away(self, path):
        self.safe.pop(path, None)
        return self.now.pop(path, None)

    def _synced(self, call):
        if content := self._open.get(call.descriptor):
            content.synced = True
        for path, content in self.now.items():
            if str(Path(path).parent) == call.path:
                self.safe[path] = content
