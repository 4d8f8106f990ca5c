"""Makes hostile calls to every RPC and reports what the server did wrong."""

import argparse
import asyncio
import contextlib
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
from calls import Call, plan
from cast import SCENE, Cast
from grpc_health.v1 import health_pb2, health_pb2_grpc
from innocent import Innocent
from methods import all_methods
from sender import CHANNEL_OPTIONS, describe, send
from server import OwnServer
from verdict import fault

from tests import serving

WORKERS, CHANNELS = 32, 4
#: Maximum number of findings of a kind to print.
SHOWN = 3


class Run:
    """The calls of one run."""

    def __init__(self, seed: int, numbers: Sequence[int], server: OwnServer | None) -> None:
        self._seed = seed
        self._numbers = iter(numbers)
        self._server = server
        self._step = max(len(numbers) // 100, 1)
        self._methods = all_methods()
        self._casts: dict[int, asyncio.Task[Cast]] = {}
        self._open: dict[int, Call] = {}
        self.calls = 0
        #: The status codes of calls, counted by method.
        self.endings: Counter[tuple[str, str]] = Counter()
        self.findings: list[str] = []

    async def work(self, channels: Sequence[grpc.aio.Channel]) -> None:
        """Make all calls of the run over these channels."""
        workers = [
            asyncio.create_task(self._work(channels[at % len(channels)])) for at in range(WORKERS)
        ]
        await asyncio.gather(*workers)

    async def _work(self, channel: grpc.aio.Channel) -> None:
        for number in self._numbers:
            cast = await self._cast(number // SCENE, channel)
            if cast is None or (self._server is not None and self._server.gone()):
                return
            call = plan(self._seed, number, self._methods[number % len(self._methods)], cast)
            self._open[number] = call
            ending = await send(channel, call)
            self.calls += 1
            self.endings[call.method.name, ending.code.name] += 1
            if wrong := fault(call, ending):
                self.findings.append(f"{call}\n    {wrong} (after {ending.seconds:.1f} s)")
            self._look_at_server()
            del self._open[number]

    async def _cast(self, scene: int, channel: grpc.aio.Channel) -> Cast | None:
        if scene not in self._casts:
            self._casts[scene] = asyncio.create_task(self._enter(scene, channel))
        return await self._casts[scene]

    async def _enter(self, scene: int, channel: grpc.aio.Channel) -> Cast | None:
        cast = Cast(self._seed, scene, self._server.operator_token if self._server else "")
        try:
            await cast.enter(channel)
        except grpc.aio.AioRpcError as error:
            self.findings.append(
                f"setting the scene for the calls from {scene * SCENE}: {describe(error)}"
            )
            return None
        return cast

    def _look_at_server(self) -> None:
        if self._server is None:
            return
        if self.calls % self._step == 0:
            self._server.measure()
        for lines in self._server.log_faults():
            calls = ", ".join(f"{call.number} {call.method.name}" for call in self._open.values())
            self.findings.append(f"the server logged, while it had calls {calls}:\n{lines}")


@contextlib.asynccontextmanager
async def _channels(address: str) -> AsyncIterator[list[grpc.aio.Channel]]:
    async with contextlib.AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(grpc.aio.insecure_channel(address, CHANNEL_OPTIONS))
            for _ in range(CHANNELS + 1)
        ]


async def _fuzz(seed: int, numbers: Sequence[int], address: str, server: OwnServer | None) -> Run:
    run = Run(seed, numbers, server)
    async with _channels(address) as (own, *channels):
        innocent = Innocent(own, Cast(seed, -1, server.operator_token if server else ""))
        async with innocent.at_work():
            await run.work(channels)
        run.findings += innocent.faults
        try:
            run.findings += await _health_faults(own)
            if server is not None:
                run.findings += await server.wait_faults(own)
        except grpc.aio.AioRpcError as error:
            run.findings.append(f"the server does not work afterwards: {describe(error)}")
    if server is not None:
        if server.gone():
            run.findings.append("the server exited by itself")
        else:
            server.measure()
            run.findings += server.growth_faults(run.calls)
            run.findings += server.stop_faults()
        run.findings += [f"the server logged:\n{lines}" for lines in server.log_faults()]
    return run


async def _health_faults(channel: grpc.aio.Channel) -> list[str]:
    health = health_pb2_grpc.HealthStub(channel)
    state = await health.Check(health_pb2.HealthCheckRequest(), timeout=30)
    serving = state.status == health_pb2.HealthCheckResponse.SERVING
    return [] if serving else [f"the server's health is {state}"]


@contextlib.contextmanager
def _own_server(flags: Sequence[str]) -> Iterator[OwnServer]:
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        OwnServer(Path(folder), flags) as server,
    ):
        yield server


def _tell(run: Run, seed: int, server: OwnServer | None, seconds: float, *, verbose: bool) -> None:
    kinds: Counter[str] = Counter()
    for finding in run.findings:
        kind = re.sub(r"[0-9]+", "", finding.strip().rpartition("\n")[2])[:80]
        kinds[kind] += 1
        if kinds[kind] <= SHOWN:
            print(f"FOUND: {finding}\n")
    for kind, count in kinds.items():
        if count > SHOWN:
            print(f"… and {count - SHOWN} more like: {kind.strip()}\n")
    if verbose:
        for method in sorted({method for method, _ in run.endings}):
            of_it = {code: n for (name, code), n in run.endings.items() if name == method}
            ends = ", ".join(f"{code} {n}" for code, n in sorted(of_it.items()))
            print(f"{method}: {ends}")
    if server is not None:
        print(f"server memory: {server.memory_text()}")
    found = f"{len(run.findings)} found" if run.findings else "nothing found"
    print(f"{run.calls:,} calls in {seconds:.0f} s, seed {seed}: {found}")
    if run.findings:
        print(f"to repeat one of the calls: scripts/fuzz --seed {seed} --only NUMBER")


def _numbers(text: str) -> Sequence[int]:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise argparse.ArgumentTypeError("a number, such as 123, or a range, such as 100-131")
    return range(int(first), int(last or first) + 1)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number of 1 or more")
    return int(text)


_DESCRIPTION = """\
Sends well-framed calls with hostile contents to every RPC of the contract, and to health and
reflection, 32 at a time over 4 connections, while an innocent agent posts and waits. Requests are
built from the descriptors, and some are then damaged; metadata, deadlines, compression,
cancellations and half-closed streams vary. New RPCs and fields are covered automatically."""

_EPILOG = """\
a finding is:
  - UNKNOWN or INTERNAL, or an error without the details that errors.proto promises (gRPC's own
    limits on sizes excepted)
  - a call that does not end, or that exceeds its deadline although it should have returned
  - an error or traceback in the server's log, growing memory, a wait that is left open, a non-zero
    exit code on SIGTERM (not with --server)
  - a message of the innocent agent that is missing, duplicated or out of order; a failed health
    check

exit code: 0 no findings, 1 findings, 2 invalid usage

examples:
  scripts/fuzz                           50,000 calls to a new server, with a new seed
  scripts/fuzz --calls 500 --seed 7      the same 500 calls each time
  scripts/fuzz --seed 7 --only 123       only call 123, as numbered in a finding
  scripts/fuzz --seed 7 --only 100-131   the calls around it, if it depends on them
  scripts/fuzz --server 127.0.0.1:7420   a running server; the threads and agents stay on it
  scripts/fuzz --store postgresql://…  a server on this database
  scripts/fuzz -- --auth required        a server that requires tokens
  scripts/fuzz -- --max-open-waits 2 --max-anonymous-waits 2 --max-queued-posts 20"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--calls", type=_count, default=50_000, metavar="N", help="how many (default: 50,000)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="seed of the calls (default: a new one)"
    )
    parser.add_argument(
        "--only", type=_numbers, metavar="N[-M]", help="only the calls with these numbers"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--server", metavar="HOST:PORT", help="a running server to call")
    where.add_argument("--store", metavar="URL", help="a PostgreSQL database for the new server")
    parser.add_argument("--verbose", action="store_true", help="print how the calls ended, by RPC")
    parser.add_argument("flags", nargs="*", help="after --: flags for the new server")
    given = parser.parse_args()
    if given.only is not None and given.seed is None:
        parser.error("--only needs the --seed of the calls")
    if given.store:
        serving.database_of = lambda _: given.store
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    numbers = range(given.calls) if given.only is None else given.only
    began = time.monotonic()
    with contextlib.nullcontext() if given.server else _own_server(given.flags) as server:
        address = given.server or server.address
        try:
            run = asyncio.run(_fuzz(seed, numbers, address, server))
        except grpc.aio.AioRpcError as error:
            parser.error(f"no call to {address} succeeds: {describe(error)}")
    _tell(run, seed, server, time.monotonic() - began, verbose=given.verbose)
    return 1 if run.findings else 0


if __name__ == "__main__":
    sys.exit(main())
