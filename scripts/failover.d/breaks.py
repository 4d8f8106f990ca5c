"""One database that is restarted, and sessions and servers that end or hang."""

import asyncio
import os
import signal
import time

from scene import SERVERS, Scene, Stage
from waiting import SceneFailed, until_found

#: How often each of some breaks is repeated.
_RESTARTS, _ROUNDS, _KILLS = 2, 15, 3
#: Seconds in which a post is answered whose session hangs: ANSWER_TIMEOUT, --busy-timeout, and
#: what it takes to connect again, on a machine that is busy.
_HUNG = 20.0
#: Posts whose wake-ups are measured, and seconds that they take at least without hints: between two
#: looks at the store there are 0.7 s or more.
_WAKE_UPS, _WITHOUT_HINTS = 10, 6.0
_LISTENS = "query LIKE 'LISTEN %'"


async def _restart(stage: Stage) -> None:
    for _ in range(_RESTARTS):
        await stage.some()
        await asyncio.to_thread(stage.primary.stop)
        await asyncio.to_thread(stage.primary.start)
    await stage.some()


async def _sessions(stage: Stage) -> None:
    ended = 0
    for _ in range(_ROUNDS):
        await stage.load.more(max(stage.posts // _ROUNDS, 1))
        ended += len(await stage.sessions("true", "pg_terminate_backend(pid)"))
    await stage.some()
    stage.notes.append(f"{ended} sessions ended")


async def _deaf(stage: Stage) -> None:
    await stage.some()
    await stage.load.stop_posting()
    deaf = await _listeners(stage, *SERVERS)
    await stage.sessions(_LISTENS, "pg_terminate_backend(pid)")
    await _wake_ups(stage, "without hints", 1)
    await _until_others_listen(stage, deaf, *SERVERS)
    await _quick_wake_ups(stage)
    (frozen,) = await _listeners(stage, SERVERS[1])
    os.kill(frozen, signal.SIGSTOP)
    try:
        await _wake_ups(stage, "with a session that hangs", 3)
        await _until_others_listen(stage, {frozen}, SERVERS[1])
    finally:
        os.kill(frozen, signal.SIGCONT)
    await _quick_wake_ups(stage)
    stage.load.start_posting()
    await stage.some()


async def _listeners(stage: Stage, *servers: str) -> set[int]:
    """Returns the sessions of servers that receive hints, once each has one."""
    found: set[int] = set()

    def listen() -> bool:
        rows = stage.primary.execute(
            f"SELECT pid, application_name FROM pg_stat_activity WHERE {_LISTENS}"  # noqa: S608
        )
        found.clear()
        found.update(pid for pid, name in rows if name in servers)
        return len(found) == len(servers)

    await until_found("every server to listen", listen)
    return found


async def _until_others_listen(stage: Stage, deaf: set[int], *servers: str) -> None:
    """Wait until servers listen with other sessions than these."""

    def others() -> bool:
        rows = stage.primary.execute(
            f"SELECT pid, application_name FROM pg_stat_activity WHERE {_LISTENS}"  # noqa: S608
        )
        return {name for pid, name in rows if pid not in deaf} >= set(servers)

    await until_found("the servers to listen again", others)


async def _wake_ups(stage: Stage, how: str, count: int) -> float:
    """Post through the first server, each time until all have read it. Returns the seconds."""
    began = time.monotonic()
    for _ in range(count):
        await stage.load.post(0, "red")
        await stage.load.read_everywhere()
    taken = time.monotonic() - began
    stage.notes.append(f"wake-ups {how}: {count} in {taken:.1f} s")
    return taken


async def _quick_wake_ups(stage: Stage) -> None:
    if await _wake_ups(stage, "by hints again", _WAKE_UPS) > _WITHOUT_HINTS:
        stage.wrong.append("there are no hints after the servers listen again")


async def _hung(stage: Stage) -> None:
    await stage.some()
    hung = await _freeze_writer(stage)
    try:
        # More than the posters that wait for that session.
        await stage.load.more_through(0, 100)
    finally:
        os.kill(hung, signal.SIGCONT)
    await stage.some()
    if stage.load.longest > _HUNG:
        stage.wrong.append(f"a post waited {stage.load.longest:.0f} s for a session that hung")


async def _freeze_writer(stage: Stage) -> int:
    """Stop the first server's session that commits, between two commits. Returns its process."""
    between = f"application_name = '{SERVERS[0]}' AND query = 'COMMIT' AND state = 'idle'"
    for _ in range(1_000):
        for (pid,) in await stage.sessions(between):
            os.kill(pid, signal.SIGSTOP)
            if await stage.sessions(f"{between} AND pid = {pid}"):
                return int(pid)
            os.kill(pid, signal.SIGCONT)
    raise SceneFailed("the session that commits was never idle")


async def _servers(stage: Stage) -> None:
    server = stage.servers[1]
    for _ in range(_KILLS):
        await stage.some()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    await stage.some()


SCENES = [
    Scene(
        name="restart",
        what=f"the database is restarted at once, as after a crash, {_RESTARTS} times",
        run=_restart,
    ),
    Scene(
        name="sessions",
        what=f"all sessions of the servers are terminated, {_ROUNDS} times",
        run=_sessions,
    ),
    Scene(
        name="deaf",
        what="the sessions that receive hints are terminated; then one hangs",
        run=_deaf,
    ),
    Scene(
        name="hung",
        what="the session that commits the posts of a server hangs",
        run=_hung,
    ),
    Scene(
        name="servers",
        what=f"one of the servers is killed and started again, {_KILLS} times",
        run=_servers,
        stopped=SERVERS[1:],
    ),
]
