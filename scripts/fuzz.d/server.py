"""The server under test, unless one is running already: its log, its memory, and its exit."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import grpc

from tests.callers import operator
from tests.process_memory import memory
from tests.serving import ServerProcess
from threadbus.v1.admin_service_pb2 import ListWaitsRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub

#: Bytes of memory by which a server may grow in a run. Recent messages alone are
#: 32 MiB, and the allocator keeps some of the freed memory. Measured over 50,000 calls: 41 MiB.
GROWTH = 128 * 1024 * 1024
#: Bytes by which it may grow from the fifth tenth of the calls to the last. Measured: 6 MiB.
LATE_GROWTH = 32 * 1024 * 1024
#: Minimum number of calls after which memory is checked.
FEWEST = 2_000

#: A log line about an error. The lines after it, a traceback, belong to it.
_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL)\b|Traceback|Task .* was |Exception|never (?:awaited|ret)"
)


class OwnServer:
    """A server process with its own database."""

    def __init__(self, folder: Path, flags: Sequence[str]) -> None:
        self._process = ServerProcess(folder / "bus.db", *flags)
        self._read = 0
        #: Bytes of memory: at the start, then at each call of `measure`.
        self.sizes: list[int] = []

    def __enter__(self) -> Self:
        self._process.start()
        self.measure()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.__exit__(*exc)

    @property
    def address(self) -> str:
        return self._process.address

    @property
    def operator_token(self) -> str:
        return operator(self._process).token

    def measure(self) -> None:
        """Record the server's memory use."""
        self.sizes.append(memory(self._process.pid))

    def gone(self) -> bool:
        """Whether the server has exited by itself."""
        process = self._process.process
        return process is None or process.poll() is not None

    def log_faults(self) -> list[str]:
        """Returns what was logged since the last time this was called, if that has an error."""
        new = self._process.log[self._read :]
        self._read += len(new)
        return ["".join(new)] if any(_ERROR.search(line) for line in new) else []

    def growth_faults(self, calls: int) -> list[str]:
        """Returns a finding if the memory that `measure` recorded grew during `calls` calls."""
        if calls < FEWEST or len(self.sizes) < 20:
            return []
        start, last = self.sizes[0], self.sizes[-1]
        tenth = len(self.sizes) // 10
        middle, end = _median(self.sizes[4 * tenth : 5 * tenth]), _median(self.sizes[-tenth:])
        faults = []
        if last - start > GROWTH:
            faults.append(f"the server's memory grew from {_mib(start)} to {_mib(last)}")
        if end - middle > LATE_GROWTH:
            faults.append(
                f"the server's memory still grew, from {_mib(middle)} half-way to {_mib(end)}"
            )
        return faults

    def memory_text(self) -> str:
        """Returns a text with the recorded memory, in ten steps."""
        step = max(len(self.sizes) // 10, 1)
        return " ".join(_mib(size) for size in (*self.sizes[::step], self.sizes[-1]))

    async def wait_faults(self, channel: grpc.aio.Channel) -> list[str]:
        """Returns a finding if waits are still open although no client is waiting."""
        admin = AdminServiceStub(channel)
        metadata = (("authorization", f"Bearer {self.operator_token}"),)
        for _ in range(200):
            listed = await admin.ListWaits(ListWaitsRequest(), metadata=metadata, timeout=30)
            if not listed.waits:
                return []
            await asyncio.sleep(0.05)
        return [f"{len(listed.waits)} waits are open without a client, such as {listed.waits[0]}"]

    def stop_faults(self) -> list[str]:
        """Stop the server. Returns a finding if it does not exit as it should."""
        code = self._process.stop()
        return [f"the server's exit code on SIGTERM is {code}"] if code else []


def _median(sizes: list[int]) -> int:
    return sorted(sizes)[len(sizes) // 2]


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
