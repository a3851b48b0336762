"""Figures for Prometheus, and whether the daemon is well, over HTTP."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

from dicomguard.errors import DicomguardError
from dicomguard.reports.escape import printable

_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """The figures of one daemon.

    Args:
        ailments: What makes it ill, by name; empty if it is healthy.
        gauges: Figures as of now: name → what it is, and how to get it. They are asked from
            another thread.
    """

    def __init__(
        self,
        ailments: Callable[[], Mapping[str, str]],
        gauges: Mapping[str, tuple[str, Callable[[], float]]],
    ) -> None:
        self._ailments = ailments
        self.registry = CollectorRegistry()
        self.outcomes = Counter(
            "dicomguard_files", "Files by what became of them.", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "dicomguard_outcome_seconds",
            "Time from the last change of a file to its outcome.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._metrics_page = make_wsgi_app(self.registry)
        healthy = Gauge("dicomguard_healthy", "1 if nothing is wrong.", registry=self.registry)
        healthy.set_function(lambda: not ailments())
        for name, (meaning, value) in gauges.items():
            Gauge(f"dicomguard_{name}", meaning, registry=self.registry).set_function(value)

    def serve(self, address: str) -> Callable[[], None]:
        """Serves ``/metrics`` and ``/health`` from a thread of its own.

        Args:
            address: ``PORT`` of the loopback address, or ``HOST:PORT``, ``[HOST]:PORT`` for IPv6.

        Returns:
            What stops it.

        Raises:
            DicomguardError: The address is wrong or taken.
        """
        host, port = host_and_port(address)
        try:
            server = make_server(host, port, self._answer, handler_class=_Silent)
        except OSError as error:
            msg = f"cannot serve metrics at {printable(address)}: {error.strerror or error}"
            raise DicomguardError(msg) from error
        thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def _answer(self, request: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if request["PATH_INFO"] == "/metrics":
            page: Iterable[bytes] = self._metrics_page(request, start_response)
            return page
        if request["PATH_INFO"] == "/health":
            ailments = dict(self._ailments())
            status = HTTPStatus.SERVICE_UNAVAILABLE if ailments else HTTPStatus.OK
            body = {"status": "failing" if ailments else "ok", "troubles": ailments}
            kind = "application/json"
        else:
            status, body, kind = (
                HTTPStatus.NOT_FOUND,
                {"status": "no such page"},
                "application/json",
            )
        start_response(f"{status.value} {status.phrase}", [("Content-Type", kind)])
        return [json.dumps(body).encode()]


class _Silent(WSGIRequestHandler):
    timeout = 10
    """Seconds after which a client that says nothing is hung up on."""

    def log_message(self, *_arguments: object) -> None:
        pass


def host_and_port(address: str) -> tuple[str, int]:
    """``PORT`` of the loopback address, or ``HOST:PORT``, ``[HOST]:PORT`` for IPv6.

    Raises:
        DicomguardError: It is neither.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    try:
        ipaddress.ip_address(host)
        number = int(port)
        if not 0 < number < 1 << 16:
            raise ValueError(port)  # noqa: TRY301 - one message for all of it
    except ValueError as error:
        msg = f"{printable(address)} is no PORT, and no HOST:PORT with an IP address"
        raise DicomguardError(msg) from error
    return host, number
