"""A standby takes the place of the primary."""

import asyncio

from scene import LOST, SERVERS, Scene, Stage, confirm
from waiting import until, until_found

_CONFIRMED = "SELECT bool_and(confirmed) FROM writer"


async def _synchronous(stage: Stage) -> None:
    await stage.some()
    await stage.fail_over(stage.primary, stage.standby)
    await stage.some()


async def _twice(stage: Stage) -> None:
    first, second = stage.primary, stage.standby
    await stage.some()
    await stage.fail_over(first, second)
    await asyncio.to_thread(first.copy, second)
    await asyncio.to_thread(first.start)
    await confirm(second)
    await until_found(
        "both servers to commit with the new standby",
        lambda: second.execute(_CONFIRMED) == [(True,)],
    )
    await stage.some()
    await stage.fail_over(second, first)
    await stage.some()


async def _asynchronous(stage: Stage) -> None:
    await stage.some()
    await _let_it_lag(stage)
    await stage.fail_over(stage.primary, stage.standby)
    await stage.some()
    stage.load.come_back()
    await stage.some()


async def _stopped(stage: Stage) -> None:
    await stage.some()
    await _let_it_lag(stage)
    for server in stage.servers:
        await asyncio.to_thread(server.stop)
    await stage.fail_over(stage.primary, stage.standby)
    for server in stage.servers:
        await asyncio.to_thread(server.start)
    stage.load.come_back()
    await stage.some()


async def _let_it_lag(stage: Stage) -> None:
    """Let the standby miss posts, and some followers read none of these."""
    primary, standby = stage.primary, stage.standby
    await stage.load.leave()
    ((position,),) = await asyncio.to_thread(primary.execute, "SELECT pg_current_wal_lsn()")
    replayed = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    await until_found("the standby to follow", lambda: standby.execute(replayed) == [(True,)])
    await asyncio.to_thread(primary.freeze, "walsender")
    await stage.load.more(2 * LOST)


async def _cancelled(stage: Stage) -> None:
    load, waited = stage.load, list[int]()
    await stage.some()
    await load.stop_posting()
    await asyncio.to_thread(stage.primary.freeze, "walsender")
    post = asyncio.create_task(load.post(0, "red"))
    for _ in range(3):
        waited.append(await _waiting_session(stage, waited))
        await stage.sessions(f"pid = {waited[-1]}", "pg_cancel_backend(pid)")
    # The server has noticed the last one, and looks the commit up.
    await _waiting_session(stage, waited)
    if post.done():
        stage.wrong.append("a post was acknowledged that no standby had confirmed")
    await asyncio.to_thread(stage.primary.thaw, "walsender")
    await until("the post to be acknowledged", post.done)
    await post
    load.start_posting()
    await stage.some()


async def _waiting_session(stage: Stage, former: list[int]) -> int:
    """Returns a session of the first server that waits for the standby, once there is a new one."""
    waiting = f"application_name = '{SERVERS[0]}' AND wait_event = 'SyncRep'"
    found: list[int] = []

    def waits() -> bool:
        rows = stage.primary.execute(
            f"SELECT pid FROM pg_stat_activity WHERE {waiting}"  # noqa: S608
        )
        found[:] = [pid for (pid,) in rows if pid not in former]
        return bool(found)

    await until_found("a commit to wait for the standby", waits)
    return found[0]


SCENES = [
    Scene(
        name="synchronous",
        what="a primary fails; the standby that confirmed all commits takes over",
        run=_synchronous,
        standby="confirms",
    ),
    Scene(
        name="synchronous-twice",
        what="the failed one comes back as a standby that confirms, and takes over again",
        run=_twice,
        standby="confirms",
    ),
    Scene(
        name="asynchronous",
        what="control: a standby takes over that lags; posts are lost, and readers learn of it",
        run=_asynchronous,
        standby="follows",
        loses=True,
    ),
    Scene(
        name="standby-only",
        what="the same while all servers are stopped; they are started after it",
        run=_stopped,
        standby="follows",
        loses=True,
        stopped=SERVERS,
    ),
    Scene(
        name="cancelled-commit",
        what="a commit that waits for a standby in vain is cancelled",
        run=_cancelled,
        standby="confirms",
    ),
]
