"""Loads of unary posts, from h2load and from client_http2.py, and the count of what they stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ghz
import h2load
import own_calls
import processes
import servers
from bench import Bench, note_failures
from ghz import Load
from numbering import content
from results import Outcome

from threadbus.v1.bus_service_pb2 import PostMessageRequest

_POST = "threadbus.v1.BusService/PostMessage"


class Posts:
    """Posts to ThreadBus, or to the floor, for about as many seconds as wanted.

    Counts the messages that ThreadBus acknowledged; check() compares them to what it stored. The
    threads may have messages already: `stored` of them.
    """

    def __init__(
        self,
        bench: Bench,
        outcome: Outcome,
        folder: Path,
        threads: Sequence[str],
        *,
        stored: int = 0,
        size: int = 256,
    ) -> None:
        self._bench = bench
        self._outcome = outcome
        self._folder = folder
        self._threads = threads
        self._size = size
        self._rates: dict[tuple[str, int], float] = {}
        self._acknowledged = stored

    def run(self, server: servers.Server, in_flight: int, seconds: float) -> Load:
        """Post for about `seconds`, with `in_flight` posts unanswered.

        With h2load; with client_http2.py to several threads in turn, or where there is no h2load.
        """
        rate = self._rates.get((server.address, in_flight))
        if rate is None:
            # A short load shows about how many posts that is.
            rate = self._closed(server, in_flight, 100 + 10 * in_flight).per_second
        load = self._closed(server, in_flight, max(round(rate * seconds), 100))
        self._rates[server.address, in_flight] = load.per_second
        return load

    def poisson(
        self, server: servers.Server, rate: float, seconds: float, seed: int
    ) -> tuple[Load, float]:
        """Post at random times, whether or not earlier posts were answered.

        Returns the load, whose latencies count from when each post was due, and the p99 of how late
        the client sent the posts, in seconds.
        """
        count = max(round(rate * seconds), 10)
        load, found = self._raw(server, do="poisson", rate=rate, count=count, seed=seed)
        return load, found["late_p99"]

    def ghz(self, server: servers.Server, sizes: Sequence[int], in_flight: int, count: int) -> Load:
        """Post contents of these sizes, round-robin, with ghz."""
        load = ghz.post(
            self._bench.tools.ghz,
            server,
            folder=self._folder,
            threads=self._threads[:1],
            sizes=sizes,
            count=count,
            concurrency=in_flight,
        )
        return self._counted(server, load)

    def check(self, bus: servers.Server) -> None:
        """Count acknowledged messages that are not stored, and stored messages that are surplus."""
        stored = own_calls.messages_in(bus.address, self._threads)
        self._outcome.count(
            "ThreadBus",
            lost=max(self._acknowledged - stored, 0),
            duplicated=max(stored - self._acknowledged, 0),
        )

    def _closed(self, server: servers.Server, in_flight: int, count: int) -> Load:
        if self._bench.tools.h2load is None or len(self._threads) > 1:
            return self._raw(server, do="posts", count=count, in_flight=in_flight)[0]
        request = PostMessageRequest(thread=self._threads[0], content=content(0, self._size))
        load = h2load.calls(
            self._bench.tools.h2load,
            server,
            folder=self._folder,
            method=_POST,
            request=request.SerializeToString(),
            count=count,
            in_flight=in_flight,
        )
        return self._counted(server, load)

    def _raw(self, server: servers.Server, **job: Any) -> tuple[Load, dict[str, Any]]:
        cpu = server.cpu_seconds()
        found = processes.run(
            "client_http2.py",
            address=server.address,
            threads=list(self._threads),
            size=self._size,
            **job,
        )
        load = Load(
            calls=job["count"],
            failed=found["failed"],
            seconds=found["seconds"],
            latencies=found["taken"],
            server_cpu_seconds=server.cpu_seconds() - cpu,
        )
        return self._counted(server, load), found

    def _counted(self, server: servers.Server, load: Load) -> Load:
        if "threadbus" in server.log.name:
            self._acknowledged += load.calls - len(load.failed)
            self._outcome.count("ThreadBus", sent=load.calls)
            note_failures(self._outcome, "ThreadBus", load.failed)
        return load
