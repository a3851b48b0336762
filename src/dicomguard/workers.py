"""Supervised worker processes: hostile bytes are parsed where a crash costs one file."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from dicomguard import wire
from dicomguard.errors import DicomguardError
from dicomguard.incomplete import unexamined_report
from dicomguard.model import Report
from dicomguard.nursery import (
    ALIVE,
    BIRTH,
    KILL,
    LENGTH,
    MEMORY_PER_WORKER,
    MOST_READY,
    NUMBERS,
    PREPARE,
    RETIRED,
    SECONDS_PER_FILE,
    UNPREPARED,
    Nursery,
    Ready,
)
from dicomguard.settings import ScanSettings

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["MEMORY_PER_WORKER", "SECONDS_PER_FILE", "Crew", "PoolBrokenError", "ScanPool", "Task"]

_FILES_AHEAD, _BYTES_AHEAD = 64, 16 << 20
"""What a worker has in hand before it is given no more."""
_NAMES_AHEAD = 1 << 15
"""Characters of their names: more than a socket holds would have it wait for us, and us for it."""
_BATCH = 64
_TOGETHER = 0.01
"""Seconds in which reports gather, to be read at once, while all workers have enough to do."""
_TICK = 1.0
"""Seconds between looks at how long workers have taken."""


class PoolBrokenError(DicomguardError):
    """There are no workers any more: no file is to blame, and the pool must be made anew."""


class Task(NamedTuple):
    """A file to be scanned.

    Attributes:
        path: Its name.
        size: Bytes, as far as they are known; a worker gets no other file beside an unknown one.
        key: Whatever tells the asker which file it is.
    """

    path: str
    size: int | None = None
    key: Any = None


class _Worker(Struct, eq=False):
    """A worker process.

    Attributes:
        channel: To and from it.
        pid: None before its birth.
        status: How it ended; `ALIVE` before.
        tasks: What it has in hand, in order.
        ahead: Bytes of these.
        names: Characters of their names.
        since: When it began with the first of them.
        unread: What it has sent of an answer that is not complete.
        verdict: Why it was told to end, in words.
        has_answered: Whether it has ever sent a report.
        is_prepared: Whether it has everything loaded.
    """

    channel: socket.socket
    pid: int | None = None
    status: int = ALIVE
    tasks: deque[Task] = field(default_factory=deque)
    ahead: int = 0
    names: int = 0
    since: float = 0.0
    unread: bytearray = field(default_factory=bytearray)
    verdict: str = ""
    has_answered: bool = False
    is_prepared: bool = False

    @property
    def is_hungry(self) -> bool:
        """Whether it has so little in hand that it is worth a message."""
        is_little = 2 * len(self.tasks) <= _FILES_AHEAD and 2 * self.ahead <= _BYTES_AHEAD
        return is_little and 2 * self.names <= _NAMES_AHEAD

    def can_take(self, task: Task) -> bool:
        """Whether it may be given a file beside those that it has."""
        if not self.tasks:
            return True
        if task.size is None or self.tasks[-1].size is None:
            return False
        if self.names + len(task.path) > _NAMES_AHEAD:
            return False
        return len(self.tasks) < _FILES_AHEAD and self.ahead < _BYTES_AHEAD


class Crew:
    """Workers without a thread: whoever has one hands out files and asks for reports.

    A worker that dies, hangs or runs out of memory costs the file in its hand an ``incomplete``
    verdict with the reason, and is replaced.

    Args:
        settings: Rules and limits, the same for every file.
        workers: Number of processes, at least 1; they are started when they are needed.
        nursery: What starts them, if there is one already.
        lone: Whether there is but one file.
    """

    def __init__(
        self,
        settings: ScanSettings,
        workers: int,
        nursery: Nursery | None = None,
        *,
        lone: bool = False,
    ) -> None:
        self._most = workers
        self._ready: Ready | None = None
        self._waiting: deque[Task] = deque()
        self._by_channel: dict[int, _Worker] = {}
        self._by_pid: dict[int, _Worker] = {}
        self._unborn: deque[_Worker] = deque()
        self._is_prepared = not lone
        self._has_lacked = False
        """Whether a worker wanted what it has only if it is prepared."""
        self._poll = select.poll()
        self._nursery = nursery or Nursery()
        self._nursery.use(settings, lone=lone)
        self._control = self._nursery.control
        self.watch(self._control)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and wait until they have; what they have not finished gets no report."""
        for worker in self._by_channel.values():
            worker.channel.close()
        self._nursery.close()

    def ready(self) -> Ready:
        """What the workers use; waits until it is loaded.

        Raises:
            DicomguardError: The rules cannot be loaded.
            PoolBrokenError: There can be no workers.
        """
        if self._ready is None:
            wire.load()
            self._hear()
        assert self._ready is not None
        return self._ready

    def watch(self, source: socket.socket) -> None:
        """Have `reports` return early as well when a socket can be read, which is left to do."""
        self._poll.register(source, select.POLLIN)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done."""
        return not self._waiting and not any(each.tasks for each in self._by_channel.values())

    @property
    def _is_sated(self) -> bool:
        """Whether no worker will soon need another file."""
        workers = self._by_channel.values()
        return len(workers) == self._most and not any(each.is_hungry for each in workers)

    @property
    def wants_more(self) -> bool:
        """Whether files should be handed out lest a worker soon have none."""
        return len(self._waiting) < _BATCH * self._most

    def hand_out(self, tasks: Iterable[Task]) -> None:
        """Have files scanned, in about this order."""
        self._waiting.extend(tasks)

    def reports(self, timeout: float, *, is_last: bool = False) -> list[tuple[Task, Report]]:
        """Reports that are there, after a wait of ``timeout`` seconds at most.

        Args:
            timeout: How long to wait.
            is_last: Whether nothing more will be handed out: then the workers are told to end while
                their last reports are still looked at.

        Raises:
            PoolBrokenError: There are no workers any more.
        """
        self._feed()
        if timeout and self._is_sated:
            time.sleep(_TOGETHER)
        done: list[tuple[Task, Report]] = []
        silent = set(self._by_channel)
        for descriptor, _ in self._poll.poll(min(timeout, _TICK) * 1000):
            if descriptor == self._control.fileno():
                done += self._hear()
            elif descriptor in self._by_channel:
                silent.discard(descriptor)
                done += self._read(self._by_channel[descriptor])
        self._end_late(silent)
        if done:
            self._feed()
        if is_last and self.is_idle:
            self._nursery.end()
        return done

    def _feed(self) -> None:
        """Give every worker that has little in hand a few more files."""
        waiting = self._waiting
        while waiting:
            least = min(
                (
                    each
                    for each in self._by_channel.values()
                    if each.is_hungry and each.can_take(waiting[0])
                ),
                key=lambda each: len(each.tasks),
                default=None,
            )
            if (least is None or least.tasks) and len(self._by_channel) < self._most:
                least = self._recruit()
            if least is None:
                return
            self._give(least)

    def _give(self, worker: _Worker) -> None:
        batch: list[bytes] = []
        if not worker.tasks:
            worker.since = time.monotonic()
        while self._waiting and len(batch) < _BATCH and worker.can_take(self._waiting[0]):
            task = self._waiting.popleft()
            worker.tasks.append(task)
            worker.ahead += task.size or 0
            worker.names += len(task.path)
            batch.append(os.fsencode(task.path))
        message = msgspec.msgpack.encode(batch)
        with suppress(BrokenPipeError, ConnectionResetError):  # its end will be heard of
            worker.channel.sendall(LENGTH.pack(len(message)) + message)

    def _recruit(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                if self._has_lacked and not self._is_prepared:
                    self._control.send(PREPARE)
                    self._is_prepared = True
                socket.send_fds(self._control, [BIRTH], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise PoolBrokenError(f"no worker can be started: {error}") from error
        worker = _Worker(ours, is_prepared=self._is_prepared)
        self._unborn.append(worker)
        self._by_channel[ours.fileno()] = worker
        self._poll.register(ours, select.POLLIN)
        return worker

    def _hear(self) -> list[tuple[Task, Report]]:
        """What the nursery tells: that it is ready, then of one worker's birth or end."""
        try:
            message = self._control.recv(MOST_READY)
        except OSError as error:
            raise PoolBrokenError(f"the workers are gone: {error}") from error
        if not message:
            raise PoolBrokenError("the workers are gone: the process that starts them has died")
        if self._ready is None:
            self._ready = msgspec.json.decode(message, type=Ready)
            if self._ready.problem:
                raise DicomguardError(self._ready.problem)
            return []
        pid, status = NUMBERS.unpack(message)
        if status == ALIVE:
            worker = self._unborn.popleft()
            worker.pid = pid
            self._by_pid[pid] = worker
            return []
        worker = self._by_pid.pop(pid)
        worker.status = status
        done: list[tuple[Task, Report]] = []
        while worker.channel.fileno() in self._by_channel:
            done += self._read(worker)
        return done

    def _read(self, worker: _Worker) -> list[tuple[Task, Report]]:
        """The answers that a worker has sent; if it has ended, what became of its files."""
        try:
            received = worker.channel.recv(1 << 20)
        except OSError:
            received = b""
        if not received:
            return self._dismiss(worker)
        unread = worker.unread
        unread += received
        if not worker.tasks:
            self._end(worker, "the worker answers what it was not asked")
        done: list[tuple[Task, Report]] = []
        at = 0
        while len(unread) - at >= LENGTH.size and worker.tasks:
            (length,) = LENGTH.unpack_from(unread, at)
            end = at + LENGTH.size + length
            if length > wire.LONGEST:
                self._end(worker, "the worker's answer is too long")
                break
            if end > len(unread):
                break
            try:
                report = wire.decode(bytes(memoryview(unread)[at + LENGTH.size : end]))
            except ValueError as error:
                self._end(worker, f"the worker's answer makes no sense: {error}")
                break
            worker.has_answered = True
            task = worker.tasks.popleft()
            worker.ahead -= task.size or 0
            worker.names -= len(task.path)
            done.append((task, replace(report, path=task.path)))
            at = end
        del unread[:at]
        worker.since = time.monotonic()
        return done

    def _dismiss(self, worker: _Worker) -> list[tuple[Task, Report]]:
        """Settle what a worker leaves that has closed its channel.

        The cause is known only when the nursery has told of its end; until then nothing is said.
        """
        descriptor = worker.channel.fileno()
        with suppress(KeyError):
            self._poll.unregister(descriptor)
        if worker.status == ALIVE:
            return []
        del self._by_channel[descriptor]
        worker.channel.close()
        code = os.waitstatus_to_exitcode(worker.status)
        lacked = code == UNPREPARED and not worker.is_prepared
        self._has_lacked |= lacked
        # One that retires before it has done anything does it for the file in its hand.
        if lacked or (worker.has_answered and code == RETIRED):
            self._waiting.extendleft(reversed(worker.tasks))
            return []
        if not worker.tasks:
            return []
        victim = worker.tasks.popleft()
        self._waiting.extendleft(reversed(worker.tasks))
        reason = worker.verdict or f"the worker died ({_cause(worker.status)})"
        return [(victim, unexamined_report(victim.path, reason))]

    def _end_late(self, silent: Iterable[int]) -> None:
        """End workers that have said nothing for too long."""
        now = time.monotonic()
        for descriptor in silent:
            worker = self._by_channel.get(descriptor)
            if worker and worker.tasks and now - worker.since > SECONDS_PER_FILE:
                self._end(worker, f"the scan took longer than {SECONDS_PER_FILE} s")

    def _end(self, worker: _Worker, verdict: str) -> None:
        if worker.pid is not None and not worker.verdict:  # one that is not born yet can wait
            worker.verdict = verdict
            with suppress(OSError):
                self._control.send(KILL + NUMBERS.pack(worker.pid, 0))


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class ScanPool:
    """A `Crew` with a thread of its own: files can be submitted from any thread.

    Args:
        settings: Rules and limits, the same for every file.
        workers: Number of processes, at least 1.
    """

    def __init__(self, settings: ScanSettings, workers: int) -> None:
        self._crew = Crew(settings, workers)
        self._lock = threading.Lock()
        self._submitted: deque[Task] = deque()
        self._broken: PoolBrokenError | None = None
        self._is_closed = False
        self._open: set[Future[Report]] = set()
        self._bell, self._heard = socket.socketpair()
        self._bell.setblocking(False)
        self._heard.setblocking(False)
        self._crew.watch(self._heard)
        self._thread = threading.Thread(target=self._run, name="scan-pool", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the workers; what they have not finished gets no report."""
        with self._lock:
            self._is_closed = True
        self._ring()
        self._thread.join()
        self._bell.close()
        self._heard.close()

    def submit(self, path: str) -> Future[Report]:
        """Scan a file in a worker. The future gets a report, or raises `PoolBrokenError`."""
        from concurrent.futures import Future  # noqa: PLC0415 - only who submits needs it

        answer: Future[Report] = Future()
        with self._lock:
            if self._broken or self._is_closed:
                answer.set_exception(
                    self._broken or PoolBrokenError("no file can be given to a worker: they stop")
                )
                return answer
            self._submitted.append(Task(path, key=answer))
            self._open.add(answer)
        self._ring()
        return answer

    def _ring(self) -> None:
        """Have the thread look up; where it was called before, that will do."""
        with suppress(BlockingIOError):
            self._bell.send(b"\0")

    def _run(self) -> None:
        try:
            while not self._is_closed:
                with self._lock:
                    self._crew.hand_out(self._submitted)
                    self._submitted.clear()
                for task, report in self._crew.reports(_TICK):
                    answer: Future[Report] = task.key
                    with self._lock:
                        self._open.discard(answer)
                    answer.set_result(report)
                with suppress(BlockingIOError):
                    self._heard.recv(4096)
        except PoolBrokenError as error:
            with self._lock:
                self._broken = error
                unanswered, self._open = self._open, set()
            for answer in unanswered:
                answer.set_exception(error)
        finally:
            self._crew.close()
