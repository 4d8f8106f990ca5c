"""One run: servers, clients, events and samples, and what is found at the end."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import checks
import grpc
from events import Events
from programs import Client, Visit, names
from reporting import content
from samples import BOUNDS, Sampler
from trend import LEAST, WARM_UP, Trend, judge

from bus_client import BusClient, BusError, Message, Presence
from tests.polling import until_known
from tests.serving import ServerProcess

#: Posts a second to the threads that stay, and the agents that make them and follow them.
RATE, POSTERS, FOLLOWERS = 40.0, 4, 6
THREADS = ["red", "green", "blue"]
#: Waits on threads to which nobody posts, and threads that are deleted and created again.
IDLE, CHURNING = 40, 3
#: Agents that come and go, and how their visits end, in turn.
VISITORS, ENDINGS = 6, ("leaves", "killed", "stopped")
#: Messages that are posted before the run. The server keeps about 20,000 of them in memory (32 MiB,
#: at 1.7 kB each); with the load alone, it would take six minutes until it does.
FILL = 30_000
#: Samples of a run, unless they were less than half a second or more than 5 s apart.
_SAMPLES = 240
#: Rounds of events in a run, and visits.
_ROUNDS, _VISITS = 8, 120
#: The presence of those that stay, at the end.
_WAITING = dict.fromkeys(
    [
        *(f"follower-{n}" for n in range(FOLLOWERS)),
        *(f"idle-{n}" for n in range(IDLE)),
        "responder",
    ],
    Presence.PRESENCE_WAITING,
)
#: Seconds in which the server knows what clients did at the end, besides the agents' timeout.
_PATIENCE = 30.0


@dataclass(slots=True, kw_only=True)
class Result:
    """What a run found."""

    seconds: float
    trends: list[Trend]
    problems: list[str]
    #: What could not be judged, as other processes disturbed it, and how many samples they did.
    unjudged: list[str]
    disturbed: int
    events: Counter[str]
    times: list[float] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether the run failed."""
        return bool(self.problems) or any(trend.wrong for trend in self.trends)


class Soak:
    """A run of so many seconds in a folder. `flags`: of both servers."""

    def __init__(self, seconds: float, folder: Path, flags: Iterable[str], *, leak: bool) -> None:
        self._seconds, self._folder, self._leak = seconds, folder, leak
        for name in ("store", "backups", "restored"):
            (folder / name).mkdir()
        self._config = folder / "threadbus.toml"
        self._config.write_text("", "utf-8")
        db = folder / "store/bus.db"
        # Interpreters of their own, not forks: a fork shares its memory.
        self._server = ServerProcess(db, "--config", str(self._config), *flags, fresh=True)
        self._sibling = ServerProcess(db, *flags, fresh=True)
        self._servers = {"server": self._server, "sibling": self._sibling}
        self._problems: list[str] = []
        self._visits: list[Visit] = []
        self._leaks: list[grpc.aio.Channel] = []
        #: When the warm-up is over, on the monotonic clock.
        self._fitted = 0.0

    def run(self) -> Result:
        """Run, and return what was found. Raises ClientFailed."""
        began = time.monotonic()
        # Outside of the event loop, which waits at its end for a restart that is under way.
        with self._server, self._sibling:
            try:
                result = asyncio.run(self._run())
            finally:
                for name, server in self._servers.items():
                    (self._folder / f"{name}.log").write_text("".join(server.log), "utf-8")
        result.seconds = time.monotonic() - began
        return result

    async def _run(self) -> Result:
        async with BusClient(self._server.address) as bus:
            return await self._serve(bus)

    async def _serve(self, bus: BusClient) -> Result:
        await self._fill(bus)
        sampler = Sampler(self._server, bus, messages=FILL)
        events = Events(
            self._server,
            self._sibling,
            bus,
            config=self._config,
            folder=self._folder / "backups",
        )
        async with (
            self._client("following.py", idle=IDLE, followers=FOLLOWERS) as following,
            self._client("posting.py", rate=RATE, posters=POSTERS) as posting,
            self._client("churning.py", churning=CHURNING) as churning,
        ):
            load = (following, posting, churning)
            await self._meanwhile(sampler, events, load)
            churned, posted = await asyncio.gather(churning.end(), posting.end())
            await self._until_waits(bus, following)
            self._problems += await self._presence(bus, _WAITING)
            followed = await following.end()
        await self._until_waits(bus, None)
        stored = {thread: await checks.read(bus, thread) for thread in [*THREADS, "asks", "lobby"]}
        for each in (churned, posted, followed):
            self._problems += each["problems"]
        acknowledged = [tuple(each) for each in posted["acknowledged"]]
        acknowledged += [each for visit in self._visits for each in visit.acknowledged]
        for thread, messages in stored.items():
            self._problems += checks.posts(thread, messages, acknowledged)
        self._problems += checks.followers(followed["received"], stored)
        self._problems += events.problems
        self._problems += await self._presence(bus, self._gone())
        self._problems += await self._backups(events, stored)
        self._problems += checks.logs(self._servers)
        events.counts["posts checked"] = len(acknowledged)
        events.counts["threads deleted"] = churned["deleted"]
        return self._result(sampler, events)

    async def _fill(self, bus: BusClient) -> None:
        """Post FILL messages and read them, so that the server's caches are full."""
        credentials = self._credentials("filler")
        async with BusClient(self._server.address, agent="filler", credentials=credentials) as own:
            thread = await own.join("past")
            texts = (content(f"past/{number}", 0) for number in range(FILL))
            async for posted in thread.post_many(texts):
                if isinstance(posted, BusError):
                    raise posted
            await own.end_session()
        await checks.read(bus, "past")

    @contextlib.asynccontextmanager
    async def _client(self, program: str, **job: Any) -> AsyncIterator[Client]:
        job |= {"measured": self._server.address, "sibling": self._sibling.address}
        job |= {"threads": THREADS, "credentials": str(self._credentials(program))}
        async with Client(program, job) as started:
            await until_known(started.reports_now, within=_PATIENCE)
            yield started

    def _credentials(self, name: str) -> Path:
        return self._folder / f"credentials-{name}.json"

    # ── Meanwhile ───────────────────────────────────────────────────────────────────────────────

    async def _meanwhile(self, sampler: Sampler, events: Events, load: tuple[Client, ...]) -> None:
        """Let everything happen for the seconds of the run, or until there are enough samples."""
        begin = time.monotonic()
        end, fitted = begin + self._seconds, begin + WARM_UP * self._seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(events.run(self._seconds / _ROUNDS, end))
            tasks.create_task(self._visit(end))
            every = min(max(self._seconds / _SAMPLES, 0.5), 5.0)
            while time.monotonic() < end or len(sampler.after(fitted)) < 2 * LEAST:
                await asyncio.sleep(every)
                await self._sample(sampler, load)
        self._fitted = fitted

    async def _sample(self, sampler: Sampler, load: tuple[Client, ...]) -> None:
        posts: list[float] = []
        wakes: list[float] = []
        for client in load:
            client.check()
            taken = client.take()
            posts += taken[0]
            wakes += taken[1]
        if self._leak:
            self._leaks.append(await _connect(self._server.address))
        sample = await sampler.take(
            posts=posts, wakes=wakes, waits=sum(each.waits for each in load), client=load[0].pid
        )
        number = len(sampler.samples)
        if number % max(_SAMPLES // 24, 1) == 0:
            at, figures = (
                sampler.times[-1] - sampler.times[0],
                ("memory MB", "descriptors", "open waits", "cpu %"),
            )
            shown = ", ".join(f"{each} {sample[each]:.1f}" for each in figures)
            print(
                f"{at:6.0f} s  {shown}, {sample['posts/s']:.0f} posts/s,"
                f" p99 ms: post {sample['post p99 ms']:.1f}, wake {sample['wake p99 ms']:.1f}",
                flush=True,
            )

    async def _visit(self, end: float) -> None:
        """Let visitors come one after the other, up to two at once, until the end."""
        every = max(self._seconds / _VISITS, 0.5)
        seconds = min(1.5 * every, 20.0)
        under_way: set[asyncio.Task[str]] = set()
        visitors = names(VISITORS)
        for number, ending in enumerate(cycle(ENDINGS)):
            # All have to be gone soon after the end.
            if time.monotonic() + seconds > end:
                break
            agent = next(visitors)
            job = {
                **{"measured": self._server.address, "agent": agent, "visit": number},
                **{"credentials": str(self._credentials(agent)), "seconds": seconds},
                "mentions": f"follower-{number % FOLLOWERS}",
            }
            self._visits.append(Visit(job))
            under_way.add(asyncio.create_task(self._visits[-1].run(ending)))
            await asyncio.sleep(every)
            while len(under_way) >= VISITORS - 1:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                self._problems += [task.result() for task in done if task.result()]
        for task in under_way:
            self._problems += [wrong] if (wrong := await task) else []

    # ── At the end ──────────────────────────────────────────────────────────────────────────────

    async def _until_waits(self, bus: BusClient, following: Client | None) -> None:
        """Wait until the server counts the waits that clients have open, and no others."""
        counted = 0

        async def equal() -> bool:
            nonlocal counted
            counted = (await bus.status()).open_waits
            return counted == (following.waits if following else 0)

        try:
            await until_known(equal, within=_PATIENCE)
        except TimeoutError:
            held = following.waits if following else 0
            self._problems.append(
                f"the server counts {counted} open waits, of which clients know {held}"
            )

    def _gone(self) -> dict[str, Presence.ValueType]:
        """Returns the presence at the end of the agents that are not there any more."""
        agents = [f"poster-{n}" for n in range(POSTERS)] + ["asker"]
        agents += [f"churn-{n}-{who}" for n in range(CHURNING) for who in ("maker", "reader")]
        wanted = dict.fromkeys(agents, Presence.PRESENCE_OFFLINE)
        for visit in self._visits:  # the last visit of each counts
            left = Presence.PRESENCE_OFFLINE if visit.left else Presence.PRESENCE_LAPSED
            wanted[visit.agent] = left
        return wanted

    async def _presence(
        self, bus: BusClient, wanted: Mapping[str, Presence.ValueType]
    ) -> list[str]:
        """Returns which agents do not have the presence that they should, once it can be known."""
        timeout = (await bus.server_info()).agent_timeout.ToTimedelta().total_seconds()
        found: dict[str, Presence.ValueType] = {}

        async def right() -> bool:
            found.clear()
            found.update({each.name: each.presence async for each in bus.list_agents()})
            return all(found.get(agent) == presence for agent, presence in wanted.items())

        with contextlib.suppress(TimeoutError):
            await until_known(right, within=timeout + _PATIENCE)
        return [
            f"{agent} is {Presence.Name(found.get(agent, Presence.PRESENCE_UNSPECIFIED))}, and"
            f" should be {Presence.Name(presence)}"
            for agent, presence in wanted.items()
            if found.get(agent) != presence
        ]

    async def _backups(self, events: Events, stored: Mapping[str, list[Message]]) -> list[str]:
        kept = sorted((self._folder / "backups").iterdir())
        problems = [] if set(kept) == set(events.backups) else [f"beside the backups: {kept}"]
        if not events.backups:
            problems.append("no backup was made")
        for made in events.backups.values():
            problems += await checks.backup(made, stored, self._folder / "restored")
        return problems

    def _result(self, sampler: Sampler, events: Events) -> Result:
        trends, unjudged = [], list[str]()
        for bound in BOUNDS:
            series = (sampler.quiet if bound.quiet else sampler.series)(bound.figure)
            try:
                trends.append(judge(bound, sampler.times, series, begin=self._fitted))
            except ValueError as error:
                (unjudged if bound.quiet else self._problems).append(str(error))
        events.counts["visits"] = len(self._visits)
        return Result(
            seconds=0.0,
            trends=trends,
            problems=self._problems,
            unjudged=unjudged,
            disturbed=sum(math.isnan(each) for each in sampler.quiet("messages")),
            events=events.counts,
            times=[at - sampler.times[0] for at in sampler.times],
            samples=sampler.samples,
        )


async def _connect(address: str) -> grpc.aio.Channel:
    """Returns a connection of its own, which nobody closes: the control."""
    channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    await channel.channel_ready()
    return channel
