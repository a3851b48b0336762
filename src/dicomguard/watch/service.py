"""The daemon's life: the loop, its signals, the journal's commits, reloading, health.

One thread decides; the threads of the events, the scan pool and the lanes only leave calls in its
inbox. Each turn of the loop commits the journal. Only then are files handed to workers, and
outcomes announced: what the daemon said, no crash takes back.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType

from dicomguard.config import WatchConfig
from dicomguard.errors import DicomguardError
from dicomguard.reports.escape import printable
from dicomguard.watch import sdnotify
from dicomguard.watch.announce import Announcer
from dicomguard.watch.backoff import Pause
from dicomguard.watch.deliver import Delivery
from dicomguard.watch.hook import QuarantineHook
from dicomguard.watch.journal import Journal, JournalError
from dicomguard.watch.logs import path_shower
from dicomguard.watch.metrics import Metrics
from dicomguard.watch.pipeline import Pipeline
from dicomguard.watch.quarantine import Quarantine
from dicomguard.watch.scanner import Scanner
from dicomguard.watch.syslog import SyslogEvents
from dicomguard.watch.troubles import Troubles

_MESSAGES_PER_STEP = 1000

_LONGEST_WAIT = 5.0
"""Seconds after which the loop turns though nothing happened, to see whether all is well."""

_LONGEST_SILENCE = 60.0
"""Seconds without a turn of the loop after which the daemon is not healthy."""

_HOUSEKEEPING = 60.0
_SECONDS_PER_DAY = 86_400

_log = logging.getLogger(__name__)

Reload = Callable[[], tuple[WatchConfig, Scanner]]
"""Reads the settings again, in a thread of its own; raises `DicomguardError` if they are wrong."""


class WatchService:
    """Watches one ingest folder until it is told to stop.

    Args:
        ingest: The folder, absolute and without symbolic links.
        config: How to work.
        scanner: Scans files; the service closes it.
        quarantine: Takes what must not stay.
        journal: Remembers what is in hand, what stays and what was done.
        delivery: Takes what is clean; None where that stays.
        reload: Called on SIGHUP.

    Raises:
        OSError: The ingest folder cannot be opened.
    """

    def __init__(
        self,
        ingest: str,
        config: WatchConfig,
        *,
        scanner: Scanner,
        quarantine: Quarantine,
        journal: Journal,
        delivery: Delivery | None,
        reload: Reload,
    ) -> None:
        self._config = config
        self._quarantine = quarantine
        self._journal = journal
        self._delivery = delivery
        self._reload = reload
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._troubles = Troubles(path_shower(config))
        self._hook = QuarantineHook(config.on_quarantine, config.on_quarantine_timeout)
        self._metrics = Metrics(self._ailments, self._gauges())
        self._announcer = Announcer(self._troubles, self._metrics, self._hook)
        self._journal_pause = Pause()
        self._preparing: Thread | None = None
        self._reload_again = False
        self._reload_failed = False
        self._stopping = False
        self._watchdog = sdnotify.Watchdog()
        self._turned_at = time.monotonic()
        self._housekeep_at = 0.0
        self._journal_bytes = 0
        self._journal_age = 0.0
        self._pipeline = Pipeline(
            ingest,
            config,
            scanner=scanner,
            quarantine=quarantine,
            journal=journal,
            delivery=delivery,
            troubles=self._troubles,
            announcer=self._announcer,
            post=self._inbox.put,
        )

    def run(self) -> None:
        """Works until `stop` is called or SIGTERM or SIGINT comes; finishes what is in its hand.

        What is still being scanned then is left in the folder for the next start.

        Raises:
            DicomguardError: The metrics cannot be served.
        """
        stop_serving = None
        try:
            with self._signals(), self._events_to_syslog():
                if self._config.metrics:
                    stop_serving = self._metrics.serve(self._config.metrics)
                self._pipeline.resolve_claims()
                _log.info("%s", self._what_is_watched())
                sdnotify.notify("READY=1")
                while not self._stopping:
                    self._turn()
        finally:
            sdnotify.notify("STOPPING=1")
            self._finish()
            if stop_serving is not None:
                stop_serving()
            _log.info("stopped; %s", self._announcer.summary() or "nothing was done")

    def stop(self) -> None:
        """Makes `run` return; may be called from any thread and from a signal handler."""
        self._stopping = True
        self._inbox.put(lambda: None)

    @contextmanager
    def _events_to_syslog(self) -> Iterator[None]:
        if self._config.syslog is None:
            yield
            return

        def told(reason: str) -> None:
            self._inbox.put(
                lambda: (
                    self._troubles.note("syslog", reason)
                    if reason
                    else self._troubles.clear("syslog")
                )
            )

        events = SyslogEvents(self._config.syslog, told)
        log = logging.getLogger("dicomguard")
        log.addHandler(events)
        try:
            yield
        finally:
            log.removeHandler(events)
            events.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            # At once, so that the death of a worker in the same process group, which the same
            # signal may have caused, is not taken for what a file did.
            self.stop()

        def reload(_number: int, _frame: FrameType | None) -> None:
            self._inbox.put(self._begin_reload)

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # The loop

    def _turn(self) -> None:
        self._receive()
        if self._stopping:
            return
        self._turned_at = time.monotonic()
        if not self._journal_pause:
            self._pipeline.take_files()
            self._housekeep()
        self._pipeline.act()
        self._commit()
        self._watchdog.tick()

    def _receive(self) -> None:
        """Waits until there is something to do, then takes in what others have left."""
        with suppress(Empty):
            message = self._inbox.get(timeout=self._seconds_to_wait())
            for _ in range(_MESSAGES_PER_STEP):
                if self._stopping:
                    return
                message()
                message = self._inbox.get_nowait()
            self._inbox.put(message)

    def _seconds_to_wait(self) -> float:
        waits = [_LONGEST_WAIT, self._watchdog.interval / 2]
        if self._journal_pause:
            waits.append(self._journal_pause.seconds_left)
        work = self._pipeline.seconds_to_wait(taking=not self._journal_pause)
        if work is not None:
            waits.append(work)
        return min(waits)

    def _commit(self) -> None:
        """Makes durable what was decided, and only then hands out files and says anything."""
        if self._journal_pause.seconds_left:
            return
        try:
            self._journal.commit()
        except JournalError as error:
            self._journal_pause.lengthen()
            self._troubles.note("journal", f"no file is taken until it can be written: {error}")
            return
        self._journal_pause.end()
        self._troubles.clear("journal")
        self._announcer.flush()
        if not self._stopping:
            self._pipeline.examination.hand_out()

    def _housekeep(self) -> None:
        """Keeps the journal small, and its figures fresh, now and then."""
        if time.monotonic() < self._housekeep_at:
            return
        self._housekeep_at = time.monotonic() + _HOUSEKEEPING
        now = time.time()
        self._journal.prune(now - self._config.journal_days * _SECONDS_PER_DAY)
        self._journal_bytes = self._journal.size()
        self._journal_age = now - (self._journal.oldest() or now)

    def _finish(self) -> None:
        """Finishes what is being done, and gives back the rest."""
        self._pipeline.stop()
        if self._preparing is not None:
            self._preparing.join()
        with suppress(Empty):
            while True:
                self._inbox.get_nowait()()
        self._pipeline.close()
        self._commit()
        self._hook.close()

    # New settings

    def _begin_reload(self) -> None:
        if self._preparing is not None:
            self._reload_again = True
            return
        _log.info("reading the configuration and the rules again")
        sdnotify.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._preparing = Thread(target=self._prepare, name="reload")
        self._preparing.start()

    def _prepare(self) -> None:
        """In a thread of its own: rules take a while to compile and to be proven."""
        try:
            config, scanner = self._reload()
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on as it was
            reason = str(error) if isinstance(error, DicomguardError) else repr(error)
            self._inbox.put(lambda: self._reloaded(reason))
        else:
            self._inbox.put(lambda: self._adopt(config, scanner))

    def _adopt(self, config: WatchConfig, scanner: Scanner) -> None:
        if self._stopping:
            scanner.close()
            return
        self._config = config
        self._troubles.show_path = path_shower(config)
        self._hook.configure(config.on_quarantine, config.on_quarantine_timeout)
        self._pipeline.adopt(config, scanner)
        self._reloaded("")

    def _reloaded(self, problem: str) -> None:
        self._preparing = None
        self._reload_failed = bool(problem)
        if problem:
            _log.error("the settings from before stay in force: %s", printable(problem))
        else:
            _log.info("reloaded; %s", self._what_is_watched())
        sdnotify.notify("READY=1")
        if self._reload_again:
            self._reload_again = False
            self._begin_reload()

    # What is said of the daemon

    def _what_is_watched(self) -> str:
        config, scanner = self._config, self._pipeline.examination.scanner
        ingest = self._pipeline.ingest
        without = ingest.without_events
        by = f"nothing but a scan ({without})" if without else "events and a scan"
        incomplete = {"quarantine": "go there too", "keep": "stay", "deliver": "pass"}
        return (
            f"watching {printable(ingest.path)} by {by} every {config.reconcile:g} s; "
            f"files are taken after {config.settle:g} s of quiet and scanned by "
            f"{scanner.workers} workers with {scanner.rules_version}; "
            f"what is found goes to {printable(str(self._quarantine.folder))}, "
            f"files that cannot be examined {incomplete[config.on_incomplete]}, clean ones "
            f"{'stay' if self._delivery is None else f'go to {printable(self._delivery.folder)}'}"
        )

    def _ailments(self) -> dict[str, str]:
        """What is wrong; called from any thread."""
        ailments = self._troubles.ailments
        silent = time.monotonic() - self._turned_at
        if silent > _LONGEST_SILENCE:
            ailments["main loop"] = f"nothing heard of it for {silent:.0f} s"
        return ailments

    def _gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        return {
            "files_settling": (
                "Files that wait to be left alone by their writers.",
                lambda: len(self._pipeline.settling),
            ),
            "files_scanning": (
                "Files in the hands of workers.",
                lambda: len(self._pipeline.examination),
            ),
            "files_storing": (
                "Files that wait for the quarantine.",
                lambda: len(self._pipeline.storing),
            ),
            "files_delivering": (
                "Files that wait for the deliver folder.",
                lambda: len(self._pipeline.delivering),
            ),
            "files_set_aside": (
                "Files that something could not be done with, to be tried again.",
                lambda: len(self._pipeline.aside),
            ),
            "files_unfinished": (
                "Files with names of unfinished uploads, as of the last scan.",
                lambda: self._pipeline.ingest.unfinished,
            ),
            "scan_seconds": (
                "Time the last scan of the folder took.",
                lambda: self._pipeline.ingest.scan_seconds,
            ),
            "journal_bytes": ("Size of the journal.", lambda: self._journal_bytes),
            "journal_age_seconds": (
                "Age of the oldest file that was acted upon in the journal.",
                lambda: self._journal_age,
            ),
            "reload_failed": (
                "1 if the settings could not be read again the last time.",
                lambda: self._reload_failed,
            ),
        }
