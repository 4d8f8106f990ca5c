"""A scene: what happens to a database under two servers, and what must hold after it."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import checker
from load import THREADS, Load
from waiting import SceneFailed, until_found

from tests import serving
from tests.postgres import cluster
from tests.postgres.cluster import Cluster
from tests.serving import ServerProcess

#: The names of the servers, which their sessions have, too.
SERVERS = ("one", "two")
#: Minimum number of posts that a scene loses if it is to lose any.
LOST = 50
#: Seconds that a scene may take.
LONGEST = 180.0
# So that a standby follows within moments.
_SETTINGS = {"wal_retrieve_retry_interval": "200ms"}
# That the database could not be reached is true.
_FAULT = re.compile(
    r" ERROR (?!bus_server\.store\.faults)|Traceback|Task .* was |never (?:awaited|retrieved)"
)
_SYNCHRONOUS = "SELECT sync_state FROM pg_stat_replication"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A scene: one line of the output."""

    name: str
    #: What happens, in one line.
    what: str
    run: Callable[["Stage"], Awaitable[None]]
    #: The standby: "none", or one that "confirms" each commit, or "follows" without that.
    standby: str = "none"
    #: Whether posts that were acknowledged are lost, which the servers must notice.
    loses: bool = False
    #: Servers that are stopped or killed, which ends the waits at them.
    stopped: tuple[str, ...] = ()


@dataclass(slots=True)
class Stage:
    """What a scene is played with."""

    primary: Cluster
    #: The primary itself if there is no standby.
    standby: Cluster
    servers: list[ServerProcess]
    load: Load
    #: The number of posts that were asked for.
    posts: int
    #: What the scene saw.
    notes: list[str] = field(default_factory=list)
    #: What a scene found wrong.
    wrong: list[str] = field(default_factory=list)

    async def some(self) -> None:
        """Wait until a quarter of the posts that were asked for are acknowledged in addition."""
        await self.load.more(max(self.posts // 4, 1))

    async def fail_over(self, primary: Cluster, standby: Cluster) -> None:
        """End a primary as if its machine had failed, and let its standby take over."""
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)

    async def sessions(self, condition: str, *columns: str) -> list[tuple[Any, ...]]:
        """Returns what pg_stat_activity of the primary has of the servers' sessions."""
        return await asyncio.to_thread(
            self.primary.execute,
            f"SELECT {', '.join(columns) or 'pid'} FROM pg_stat_activity"  # noqa: S608
            f" WHERE application_name IN {SERVERS} AND {condition}",
        )


@dataclass(slots=True)
class Result:
    """The figures of a scene, and what is wrong."""

    posts: int
    longest: float
    retries: int
    verdict: checker.Verdict
    notes: list[str]
    seconds: float = 0.0


def play(scene: Scene, posts: int) -> Result:
    """Play a scene.

    Raises cluster.Missing if there is no PostgreSQL, and SceneFailed.
    """
    began = time.monotonic()
    with TemporaryDirectory(prefix="failover-") as folder, contextlib.ExitStack() as stack:
        primary = standby = stack.enter_context(cluster.running(**_SETTINGS))
        if scene.standby != "none":
            standby = stack.enter_context(cluster.standby(primary, **_SETTINGS))
        if scene.standby == "confirms":
            asyncio.run(confirm(primary))
        hosts = ",".join(dict.fromkeys(quote(each.host, "") for each in (primary, standby)))
        url = f"postgresql://postgres@/postgres?host={hosts}"
        stack.enter_context(_served_by(url))
        servers = [stack.enter_context(ServerProcess(Path(folder) / name)) for name in SERVERS]
        stage = Stage(primary, standby, servers, Load(servers, Path(folder)), posts)
        result = asyncio.run(_play(scene, stage))
    result.seconds = time.monotonic() - began
    return result


async def confirm(primary: Cluster) -> None:
    """Let the standby confirm each commit from now on."""
    await asyncio.to_thread(primary.configure, "synchronous_standby_names", "standby")
    await until_found(
        "the standby to confirm commits", lambda: primary.execute(_SYNCHRONOUS) == [("sync",)]
    )


@contextlib.contextmanager
def _served_by(url: str) -> Iterator[None]:
    """Servers that start in this context are on a database; each names its sessions as itself."""
    before = serving.database_of
    serving.database_of = lambda db: f"{url}&application_name={db.name}"
    try:
        yield
    finally:
        serving.database_of = before


async def _play(scene: Scene, stage: Stage) -> Result:
    load = stage.load
    try:
        async with asyncio.timeout(LONGEST), load.running():
            await scene.run(stage)
            await load.reach(stage.posts)
            await load.stop_posting()
            for thread in THREADS:
                await load.post(0, thread)
            with contextlib.suppress(SceneFailed):  # the check says what is missing
                await load.read_everywhere()
            stored = [await load.stored(number) for number in range(len(stage.servers))]
    except TimeoutError:
        raise SceneFailed(f"it took more than {LONGEST:.0f} s") from None
    verdict = checker.check(load.acknowledgements, stored[0], load.readers)
    if any(each != stored[0] for each in stored):
        verdict.wrong.append("the servers list different messages")
    verdict.wrong += [*stage.wrong, *_of_servers(scene, stage), *_of_losses(scene, stage, verdict)]
    return Result(sum(load.posts), load.longest, load.retries, verdict, stage.notes)


def _of_servers(scene: Scene, stage: Stage) -> list[str]:
    """Returns what is wrong with the servers' logs, and with the waits at them."""
    lines = [line.strip() for server in stage.servers for line in server.log]
    wrong = [f"a server logged {line}" for line in lines if _FAULT.search(line)][:3]
    for name, server in zip(SERVERS, stage.servers, strict=True):
        if name not in scene.stopped:
            number = stage.servers.index(server)
            wrong += [
                f"{wait.name} on {wait.thread} did not stay open: {wait.ended}"
                for wait in stage.load.waits
                if wait.name == f"wait-{number}" and wait.ended
            ]
    return wrong


def _of_losses(scene: Scene, stage: Stage, verdict: checker.Verdict) -> list[str]:
    """Returns what is wrong if the scene must lose something, or must not."""
    told = any(" CRITICAL " in line for server in stage.servers for line in server.log)
    if scene.loses:
        losses = {
            f"only {verdict.lost} posts are lost, so this proves nothing": verdict.lost >= LOST,
            "no server logged that posts are missing": told,
            "not every thread has a new epoch": verdict.renewed == len(THREADS),
            "no reader was told what is gone": verdict.resyncs > 0,
            "one was told of messages that it had not read": not any(
                before != after for reader in stage.load.absent for before, after in reader.resyncs
            ),
        }
    else:
        renewals = sum(wait.renewals for wait in stage.load.waits)
        losses = {
            f"{verdict.lost} posts are lost": verdict.lost == 0,
            "a server logged that posts are missing": not told,
            f"{verdict.renewed} threads have new epochs": verdict.renewed == 0,
            "waits got a resync": verdict.resyncs + renewals == 0,
        }
    return [wrong for wrong, held in losses.items() if not held]
