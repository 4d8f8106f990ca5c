"""Records one run: clients and followers of several servers, to which faults are done."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import history
import scene
from client import Client, Recorder
from faults import Faults
from followers import follow_by_sdk, follow_raw
from history import Follower, Operation
from scene import Engine, Scene

from tests import ledger
from tests.connections import Connection, connected
from tests.polling import until

CLIENTS = 8
THREADS = ("t0", "t1", "t2", "t3")
#: Seconds in which followers come to the end of their threads.
_PATIENCE = 30.0
#: So that a connection is tried again soon after its server was started.
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
_BUG = re.compile(r"\bCRITICAL\b|\bincident\b|Traceback")


@dataclass(frozen=True, slots=True)
class Recording:
    """What was done, beside the history that was written."""

    servers: int
    faults: str


async def record(engine: Engine, seconds: float, seed: int, folder: Path) -> Recording:
    """Run servers on a new store, clients and faults, and write what was seen into `folder`.

    Raises FileExistsError if it has a history already, and cluster.Missing without PostgreSQL.
    """
    store = folder / "store"
    store.mkdir(parents=True)
    recorder, problems, followers = Recorder(), list[str](), list[Follower]()
    with scene.running(engine, store) as running:
        faults = Faults(running, recorder, f"{seed} {engine}")
        try:
            async with contextlib.AsyncExitStack() as open_meanwhile:

                async def connect(*threads: str) -> Sequence[Connection]:
                    """Connections to all servers. Creates threads if needed."""
                    return [
                        await open_meanwhile.enter_async_context(
                            connected(server.address, *threads, options=_CHANNEL)
                        )
                        for server in running.servers
                    ]

                servers = await connect(*THREADS)
                clients = [
                    Client(number, await connect(), THREADS, recorder, f"{seed} {engine}")
                    for number in range(CLIENTS)
                ]
                following = list[Coroutine[None, None, None]]()
                for number, server in enumerate(servers):
                    for thread in THREADS:
                        followers.append(Follower(name=f"server {number}, {thread}", thread=thread))
                        following.append(follow_raw(server, followers[-1]))
                followers.append(Follower(name="SDK", thread=THREADS[0]))
                address = running.servers[0].address
                following.append(follow_by_sdk(address, store, followers[-1]))

                await open_meanwhile.enter_async_context(_in_background(following))
                async with asyncio.TaskGroup() as calling:
                    for client in clients:
                        calling.create_task(client.run())
                    try:
                        await faults.run(seconds)
                    except TimeoutError as error:
                        problems.append(str(error))
                    recorder.stopping = True
                problems += await _restart(running)
                await _read_logs(servers, recorder)
                await _until_all_is_followed(followers, recorder)
        finally:
            problems += _logged(running, folder)
            history.write(folder, recorder.operations, followers, problems)
    counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(faults.count.items()))
    return Recording(len(running.servers), counts)


@contextlib.asynccontextmanager
async def _in_background(coroutines: Iterable[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run coroutines until the end of the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def _restart(running: Scene) -> list[str]:
    """Restart all servers, so that no post is under way. Returns what went wrong."""
    codes = await running.restart()
    return [f"server {n} stopped with exit code {code}" for n, code in enumerate(codes) if code]


async def _read_logs(servers: Sequence[Connection], recorder: Recorder) -> None:
    """Read every thread from its beginning, through every server."""
    for number, server in enumerate(servers):
        await server.channel.channel_ready()
        for thread in THREADS:
            call = time.monotonic_ns()
            contents = [message.content for message in await ledger.history(server.bus, thread)]
            recorder.add(
                Operation(
                    kind="log",
                    call=call,
                    returned=time.monotonic_ns(),
                    thread=thread,
                    client=CLIENTS,
                    server=number,
                    contents=contents,
                )
            )


async def _until_all_is_followed(followers: Sequence[Follower], recorder: Recorder) -> None:
    """Wait until each follower has received as many messages as its thread has, if it ever does."""
    lengths = {entry.thread: len(entry.contents) for entry in recorder.operations}

    def complete() -> bool:
        return all(len(each.received) >= lengths[each.thread] for each in followers)

    with contextlib.suppress(TimeoutError):
        await until(complete, within=_PATIENCE)


def _logged(running: Scene, folder: Path) -> list[str]:
    """Write the servers' logs into files. Returns lines that tell of a bug."""
    found = []
    for number, server in enumerate(running.servers):
        (folder / f"server-{number}.log").write_text("".join(server.log), "utf-8")
        bugs = [line.strip() for line in server.log if _BUG.search(line)]
        found += [f"server {number} logged: {line}" for line in bugs[:3]]
    return found
