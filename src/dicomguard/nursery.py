"""The process that workers are forked from, and what a worker does.

It has one thread when it forks, so that this is safe whatever the process that wants workers is
doing, and everything loaded that workers need, which they share. It never touches a file to be
scanned.

It can be started before it is known what is to be scanned and how, to load the scanner meanwhile.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import msgspec

from dicomguard.errors import DicomguardError
from dicomguard.incomplete import unexamined_report
from dicomguard.model import Report
from dicomguard.settings import RulesInUse, ScanSettings
from dicomguard.wire import encode

SECONDS_PER_FILE = 300
"""Time after which a worker is killed."""

MEMORY_PER_WORKER = 2 << 30
"""Bytes of private memory a worker may use; mapped files do not count."""

MANY, LONE, PREPARE, BIRTH, KILL = b"m", b"l", b"p", b"b", b"k"
"""What a nursery is told first: the settings, in the file that comes along, for many files or for a
lone one. Then what it is asked for: to load after all what many files need, which takes longer than
a lone file does; a worker on the socket that comes along; the end of one."""

NUMBERS = struct.Struct("<qi")
"""Of a worker: its process, and its status as ``os.waitpid`` gives it, or `ALIVE`."""

ALIVE = -1

RETIRED, UNPREPARED = 0, 3
"""Exit codes of a worker: it is not fit for another file; one that is prepared must do this."""

LENGTH = struct.Struct("<I")
"""Before each message to or from a worker."""

_HANDOVER = 0.0002
"""Seconds for which a thread keeps the interpreter from another that waits for it."""

MOST_READY = 1 << 16
"""Bytes of a `Ready` at most."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a nursery tells first: whether there can be workers.

    Attributes:
        rules: What they use; None if it cannot be loaded.
        problem: Why not, in words.
        names_formats: Whether libmagic is on the machine.
    """

    rules: RulesInUse | None = None
    problem: str = ""
    names_formats: bool = False


class Nursery:
    """A nursery, for the process that wants workers; it begins to load the scanner.

    It is forked from this process, or, as that is not safe beside other threads, from a new one.

    Attributes:
        control: What it is asked for goes in here, and what it tells comes out.
    """

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._kill, self._wait = _start(theirs)
        theirs.close()
        self._is_used = False
        self._is_over = False

    def use(self, settings: ScanSettings, *, lone: bool) -> None:
        """Have its workers scan with these settings; it tells whether they can.

        For a ``lone`` file it does not load what only many files need.
        """
        self._is_used = True
        # No message is as long as a list of known content may be.
        with open(os.memfd_create("settings"), "w+b") as file:
            pickle.dump(settings, file)
            file.flush()
            with suppress(BrokenPipeError, ConnectionResetError):  # its end will be heard of
                socket.send_fds(self.control, [LONE if lone else MANY], [file.fileno()])

    def end(self) -> None:
        """Have it end with all its workers."""
        self.control.close()

    def close(self) -> None:
        """End it with all its workers, and wait until it has; that may be done twice."""
        if self._is_over:
            return
        self._is_over = True
        self.end()
        if not self._is_used:  # it may be busy loading what nobody needs
            self._kill()
        self._wait()


def _start(theirs: socket.socket) -> tuple[Callable[[], object], Callable[[], object]]:
    """Start the process; the answer is how to kill it, and how to wait for its end."""
    if len(os.listdir("/proc/self/task")) == 1:
        pid = os.fork()
        if not pid:
            try:
                serve(theirs)
            finally:
                os._exit(1)
        return lambda: os.kill(pid, signal.SIGKILL), lambda: os.waitpid(pid, 0)
    import multiprocessing  # noqa: PLC0415 - a process with one thread has no use for it

    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    return process.kill, process.join


# ---------------------------------------------------------------------- the process itself

_OWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a whole group gets; what they mean is for the process that wants workers to say."""


def serve(control: socket.socket) -> NoReturn:
    """Load the scanner, tell whether there can be workers, and fork them until ``control`` closes.

    Then end with all of them.
    """
    _detach(control.fileno())
    settings, ready = _loaded(control)
    if settings is not None:
        nurse = _Nurse(control, settings, ready)
        try:
            nurse.run()
        finally:
            nurse.end()
    os._exit(0)


def _settings(control: socket.socket) -> tuple[ScanSettings | None, bool]:
    """What is told first, None if it never comes; and whether there are many files."""
    message, descriptors, _, _ = socket.recv_fds(control, len(MANY), 1)
    if not descriptors:
        return None, False
    with open(descriptors[0], "rb") as file:
        file.seek(0)
        settings: ScanSettings = pickle.load(file)  # noqa: S301 - from whoever started this
    return settings, message == MANY


def _detach(*kept: int) -> None:
    """Let go of what belongs to the process that this one was forked from."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for number in _OWN_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # a rule's console.log is no part of the report
    low = 3
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _loaded(control: socket.socket) -> tuple[ScanSettings | None, Ready]:
    """Load what every worker needs; the settings are None if they never come.

    To compile rules takes no interpreter, so that another thread does it, as soon as it is told
    which. It has ended when the first worker is forked.
    """
    from dicomguard.rules import shipped_pack  # noqa: PLC0415 - whoever starts this needs no rules

    settings: ScanSettings | None = None
    are_many = False
    is_told = threading.Event()
    rules: RulesInUse | None = None
    problem = ""

    def compile_rules() -> None:
        nonlocal settings, are_many, rules, problem
        try:
            with suppress(DicomguardError):  # whoever needs it is told
                shipped_pack()
            settings, are_many = _settings(control)
            is_told.set()
            rules = settings.pack.in_use if settings else None
            if settings and are_many:
                settings.pack.prepare()
        except DicomguardError as error:
            problem = _in_words(error)
        finally:
            is_told.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(_HANDOVER)
    beside = threading.Thread(target=compile_rules)
    beside.start()
    from dicomguard import naming, sandbox, scan  # noqa: PLC0415 - as above

    sandbox.abilities()
    names_formats = naming.is_available()
    lacking = ""
    try:
        scan.load()
    except DicomguardError as error:
        lacking = _in_words(error)
    is_told.wait()
    if are_many:
        scan.prepare()
    beside.join()
    sys.setswitchinterval(interval)
    if settings and not (rules or problem):  # a defect, which the thread has shown
        os._exit(1)
    return settings, Ready(rules=rules, problem=problem or lacking, names_formats=names_formats)


def _in_words(error: DicomguardError) -> str:
    return str(error).encode(errors="backslashreplace").decode()


class _Nurse:
    """What forks workers, and knows of them."""

    def __init__(self, control: socket.socket, settings: ScanSettings, ready: Ready) -> None:
        self._control = control
        self._settings = settings
        self._children: dict[int, int] = {}
        """Descriptor that tells of its end, by process."""
        with suppress(BrokenPipeError, ConnectionResetError):
            control.send(msgspec.json.encode(ready))

    def run(self) -> None:
        """Do what is asked, and tell of every worker's end."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor != self._control.fileno():
                    poll.unregister(descriptor)
                    self._bury(descriptor)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
                if not message:
                    return
                if message[:1] == PREPARE:
                    from dicomguard.scan import prepare  # noqa: PLC0415 - loaded by now

                    prepare()
                    self._settings.pack.prepare()
                elif message[:1] == BIRTH:
                    poll.register(self._fork(descriptors[0]), select.POLLIN)
                else:
                    pid, _ = NUMBERS.unpack(message[1:])
                    if pid in self._children:
                        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """End all workers, and wait until they have."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)

    def _fork(self, descriptor: int) -> int:
        """Fork a worker, which shares all that is loaded."""
        gc.freeze()
        pid = os.fork()
        if not pid:
            with suppress(BaseException):
                _work(descriptor, self._settings)
            os._exit(1)
        os.close(descriptor)
        self._children[pid] = os.pidfd_open(pid)
        self._tell(pid, ALIVE)
        return self._children[pid]

    def _bury(self, descriptor: int) -> None:
        pid = next(pid for pid, each in self._children.items() if each == descriptor)
        _, status = os.waitpid(pid, 0)
        del self._children[pid]
        os.close(descriptor)
        self._tell(pid, status)

    def _tell(self, pid: int, status: int) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(NUMBERS.pack(pid, status))


# ---------------------------------------------------------------------- a worker


def _work(descriptor: int, settings: ScanSettings) -> NoReturn:
    """Scan the files whose names come in, in order, until there are no more."""
    _detach(descriptor)
    from dicomguard import naming  # noqa: PLC0415 - loaded by the nursery
    from dicomguard.sandbox import confine  # noqa: PLC0415

    channel = socket.socket(fileno=descriptor)
    decode = msgspec.msgpack.Decoder(list[bytes]).decode
    naming.forgo()
    confine(MEMORY_PER_WORKER)
    while True:
        length = channel.recv(LENGTH.size, socket.MSG_WAITALL)
        if len(length) < LENGTH.size:
            os._exit(0)
        for path in decode(channel.recv(LENGTH.unpack(length)[0], socket.MSG_WAITALL)):
            _grant_time()
            report, is_fit = _scan(os.fsdecode(path), settings)
            answer = encode(report)
            channel.sendall(LENGTH.pack(len(answer)) + answer)
            if not is_fit:
                os._exit(RETIRED)


def _grant_time() -> None:
    """Have the kernel end the worker should nobody be left to do so."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS_PER_FILE + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _scan(path: str, settings: ScanSettings) -> tuple[Report, bool]:
    """A file's report, and whether the worker is fit for another file."""
    from dicomguard.naming import NotLoadedError  # noqa: PLC0415 - loaded by the nursery
    from dicomguard.scan import scan_file  # noqa: PLC0415

    try:
        return scan_file(path, settings), True
    except NotLoadedError:
        os._exit(UNPREPARED)
    except MemoryError:  # what is left of it may lie anywhere
        reason = f"the scan needed more than {MEMORY_PER_WORKER >> 20} MiB"
        return unexamined_report(path, reason), False
    except Exception as error:  # noqa: BLE001 - a defect here must not call a file clean
        reason = f"the scanner failed: {type(error).__name__}: {error}"
        # A path may be in it, which need not be text.
        return unexamined_report(path, reason.encode(errors="backslashreplace").decode()), True
