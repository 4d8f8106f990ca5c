"""The HTTP server of a server's metrics.

It has OS threads of its own: slow clients, and making the response, do not hold up the event loop,
which only says how the server is.
"""

import asyncio
import concurrent.futures
import contextlib
import http.server
import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from bus_server.listening import ServeError
from bus_server.metrics import Metrics
from bus_server.server_status import ServerStatus
from bus_server.statistics import Statistics

logger = logging.getLogger(__name__)

#: Of the response, as Prometheus expects it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds that the lags in the metrics are about.
WINDOW = 60
#: Seconds for which a response is given to others, too: scraping again and again costs little.
FRESH = 1.0
#: Seconds to wait for the event loop.
STATUS_TIMEOUT = 8.0
#: Seconds to wait for a client to send or to take the next bytes, and the number of connections
#: above which the oldest is closed for each new one.
CLIENT_TIMEOUT, MAX_CONNECTIONS = 10.0, 16
#: Seconds between two connections: making threads for clients must not keep the event loop busy.
ACCEPT_INTERVAL = 0.005
#: Seconds between two looks at whether the server is to stop.
POLL_INTERVAL = 0.25


class Exporter:
    """Serves GET /metrics. It listens from its creation on, and responds once it is `run`."""

    def __init__(self, address: str) -> None:
        """`address`: HOST:PORT. Raises ServeError if it cannot listen there."""
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ServeError(f"--metrics {address}: use HOST:PORT, such as 127.0.0.1:9464")
        try:
            self._server = _Server(host.strip("[]"), int(port), self._page)
        except OSError as error:
            reason = error.strerror or error
            raise ServeError(f"cannot listen on --metrics {address}: {reason}") from error
        #: The URL of the metrics.
        self.url = f"http://{host}:{self._server.server_address[1]}/metrics"
        self._lock = threading.Lock()
        self._cached, self._cached_until = b"", 0.0
        self._render: Callable[[], bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.server_close()

    async def run(self, status: ServerStatus, statistics: Statistics) -> None:
        """Respond until cancelled."""
        loop, metrics = asyncio.get_running_loop(), Metrics(statistics)
        registry = CollectorRegistry()
        registry.register(metrics)
        ProcessCollector(registry=registry)

        def render() -> bytes:
            reading = asyncio.run_coroutine_threadsafe(status.read(WINDOW), loop)
            metrics.status = reading.result(STATUS_TIMEOUT)
            return generate_latest(registry)

        self._render = render
        serving = threading.Thread(
            target=self._server.serve_forever, args=(POLL_INTERVAL,), name="metrics", daemon=True
        )
        serving.start()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(self._server.shutdown)

    def _page(self) -> bytes:
        """Returns the metrics in Prometheus' text format. Any OS thread may call it.

        Raises TimeoutError if the event loop does not answer in time, and RuntimeError while the
        server starts or stops.
        """
        with self._lock:
            if self._render is None:
                raise RuntimeError("the server is starting")
            if time.monotonic() >= self._cached_until:
                self._cached = self._render()
                self._cached_until = time.monotonic() + FRESH
            return self._cached


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """An HTTP server with an OS thread for each connection, of which there are few."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, page: Callable[[], bytes]) -> None:
        """Listen. Raises OSError."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.address_family, *_, address = found[0]
        self.page = page
        #: The open connections, oldest first.
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__((str(address[0]), int(address[1])), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        time.sleep(ACCEPT_INTERVAL)
        return super().get_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MAX_CONNECTIONS else None
            if oldest is not None:
                del self._open[oldest]
                _end(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # else it is the client's
            logger.error("cannot make the metrics", exc_info=True)


def _end(connection: socket.socket) -> None:
    """End a connection that another OS thread uses: what it waits for returns at once."""
    with contextlib.suppress(OSError):  # the client has ended it
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    """The handler of one connection: one request, by HTTP/1.0."""

    server: _Server
    server_version, sys_version = "threadbus", ""
    timeout = CLIENT_TIMEOUT

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, explain="The metrics are at /metrics.")
            return
        try:
            page = self.server.page()
        except (TimeoutError, concurrent.futures.CancelledError, RuntimeError):
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Log nothing: clients could fill the log."""
