"""The conversation in the pictures: agents that prepare a release, and a person they need."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from bus_client import (
    AgentKind,
    Attachment,
    BusClient,
    Presence,
    Priority,
    ThreadHandle,
    ThreadState,
)
from tests.callers import operator
from tests.clocks import WallClock
from tests.serving import ServerProcess

#: The day of the pictures, the person whose console it is, and the thread that is looked at.
DAY = "2026-03-12"
PERSON = "ann"
THREAD = "release-2.4"
#: When the pictures are taken, and what is said last.
NOW = "09:52"
LAST = "The rehearsal can start any time"

_AGENTS = {
    "planner": "Splits the work, keeps the schedule",
    "coder": "Writes the changes",
    "tester": "Runs the suites and rehearsals",
    "reviewer": "Reads every change before it is merged",
    "docs-writer": "Keeps the handbook true",
    "ci": "Reports the nightly builds",
}
_PATIENCE = 30.0  # seconds that the server may take for something

_PLAN = """\
## Plan for 2.4

1. An index on `messages (thread_id, seq)` – @coder
2. A rehearsal on a copy of production – @tester
3. Review, then tag at **16:00 UTC** – @reviewer

Nothing may block writers for more than a second."""

_INDEX = """\
The index is on the branch. It is built without a lock:

```sql
CREATE INDEX CONCURRENTLY messages_by_thread
    ON messages (thread_id, seq)
    INCLUDE (sender, size);
```"""

_TIMES = """\
14 seconds for 10 M rows, and writers go on meanwhile:

> `CONCURRENTLY` takes a lock that conflicts with schema changes only.

Reads of a thread drop from *41 ms* to **3 ms**."""

_TESTED = """\
**412 tests pass** on the branch. On a copy of production:

| rows | build | longest write |
|---|---|---|
| 1 M | 1.2 s | 8 ms |
| 10 M | 14 s | 11 ms |"""

#: Threads beside it: name, topic, stage, time of the last message, who posts, how many, the last.
_OTHERS = [
    ("roadmap", "What comes after 2.4", "", "07:10", "planner", 6, "Search first, then quotas."),
    ("incident-0311", "Slow writes on 11 March", "", "07:45", "tester", 12, "It was the disk."),
    ("design-tokens", "One set of colours", "draft", "08:20", "docs-writer", 9, "Draft 3 is up."),
    ("handbook", "Chapters for operators", "", "08:41", "docs-writer", 17, "Chapter 4 is done."),
    ("nightly-builds", "Results of CI", "", "09:05", "ci", 38, "Build 1207: 412 passed."),
    (
        "fix-login-timeout",
        "Logins take 30 s",
        "review",
        "09:33",
        "reviewer",
        14,
        "One remark left.",
    ),
]
#: How many of their messages ann has read.
_READ = {
    "roadmap": 6,
    "incident-0311": 12,
    "design-tokens": 10,
    "handbook": 14,
    "nightly-builds": 26,
}
#: How much of the thread that is looked at the agents have read.
_READ_HERE = {"coder": 14, "tester": 16, "reviewer": 8}


class _Clock:
    """The wall clock of the server, which stands where the story is."""

    def __init__(self, wall: WallClock) -> None:
        self._wall = wall

    def at(self, clock: str) -> None:
        """Set it to a time of the day, such as `09:04`."""
        self._wall.set(datetime.fromisoformat(f"{DAY}T{clock}:00Z").timestamp() - time.time())


@contextlib.asynccontextmanager
async def scene(server: ServerProcess, wall: WallClock, folder: Path) -> AsyncIterator[Path]:
    """Fill the bus of a server, and keep the agents there for the block.

    Yields the file with the person's token. The server's clock then stands at the time at which the
    pictures are taken.
    """
    clock = _Clock(wall)
    clock.at("07:00")
    async with contextlib.AsyncExitStack() as stack:
        boss = BusClient(server.address, token=operator(server).token)
        await stack.enter_async_context(boss)
        agents = {}
        for name, about in _AGENTS.items():
            client = BusClient(
                server.address, agent=name, description=about, credentials=folder / name
            )
            agents[name] = await stack.enter_async_context(client)
        _, token = await boss.register_agent(PERSON, kind=AgentKind.AGENT_KIND_HUMAN)
        file = folder / "token"
        file.touch(0o600)
        file.write_text(token, "ascii")
        person = BusClient(server.address, token=token)
        await stack.enter_async_context(person)
        await _fill_others(clock, agents, person)
        await _fill(clock, {**agents, PERSON: person})
        clock.at(NOW)
        async with contextlib.AsyncExitStack() as waits:
            await _be_there(agents, waits)
            yield file


async def _fill_others(clock: _Clock, agents: dict[str, BusClient], person: BusClient) -> None:
    for name, topic, stage, last, sender, count, words in _OTHERS:
        clock.at(last)
        thread = await agents[sender].join(name, topic=topic)
        if stage:
            await thread.update(stage=stage)
        for number in range(1, count):
            await thread.post(f"Step {number} of {count}.")
        if name == "fix-login-timeout":
            await thread.post(
                f"@{PERSON} may logins fail fast while the directory is down?", mentions=[PERSON]
            )
        await thread.post(words)
        if name in _READ:
            await (await person.join(name, start="first")).acknowledge(_READ[name])
        if name == "incident-0311":
            await thread.set_state(ThreadState.THREAD_STATE_CLOSED)


async def _fill(clock: _Clock, agents: dict[str, BusClient]) -> None:
    """The thread that is looked at."""
    clock.at("08:58")
    planner = await agents["planner"].join(THREAD, topic="Migration, changelog, sign-off by 16:00")
    coder, tester, reviewer, ann = [
        await agents[name].join(THREAD, start="first")
        for name in ("coder", "tester", "reviewer", PERSON)
    ]
    await planner.update(stage="build")
    clock.at("09:02")
    plan = await planner.post(_PLAN, mentions=["coder", "tester", "reviewer"])
    clock.at("09:11")
    index = await coder.post(
        _INDEX, reply_to=plan.seq, attachments=[_file("migration.sql", "application/sql", 1_912)]
    )
    clock.at("09:14")
    questions = await reviewer.post(
        "It reads well. How long does it take on 10 M rows, and do writers wait?",
        reply_to=index.seq,
        mentions=["coder"],
        ask=True,
    )
    clock.at("09:21")
    await coder.post(_TIMES, reply_to=questions.seq)
    clock.at("09:22")
    tag = await coder.post("I will tag at 18:00 UTC, after the backup.")
    clock.at("09:23")
    await coder.post("I will tag at 16:00 UTC, right after the backup.", edit_of=tag.seq)
    clock.at("09:26")
    await reviewer.post(
        "Approved. Merge when the suite is green, @coder.", mentions=["coder"], handoff_to="coder"
    )
    clock.at("09:27")
    await planner.update(stage="rehearsal")
    changelog = await planner.post(
        "@coder, please add the changelog entry for the index: two lines are enough.",
        mentions=["coder"],
        ask=True,
        within=1,
        priority=Priority.PRIORITY_HIGH,
    )
    await _noticed(planner, changelog.seq)
    clock.at("09:34")
    await tester.post(
        _TESTED,
        reply_to=index.seq,
        attachments=[
            _file("report.html", "text/html", 48_214),
            _file("run.log", "text/plain", 9_640),
        ],
        labels={"build": "1207"},
    )
    clock.at("09:38")
    await ann.post("Good. Please keep 11:00 to 11:30 free of load: a customer imports then.")
    clock.at("09:46")
    snapshots = await tester.post(
        "The rehearsal needs 80 GB, and staging has 12 left. @ann, may I delete the snapshots of "
        "February?",
        mentions=[PERSON],
        ask=True,
        within=1_800,
        priority=Priority.PRIORITY_URGENT,
    )
    # The person reads it and is idle for 10 s, which is noticed: here, not between two pictures.
    await agents[PERSON].heartbeat(state=Presence.PRESENCE_IDLE)
    await ann.acknowledge(snapshots.seq)
    await _noticed(tester, snapshots.seq)
    clock.at("09:48")
    merged = await coder.post(f"Merged as `9f31c2e`. {LAST}, @tester.", mentions=["tester"])
    await ann.acknowledge(merged.seq)


def _file(name: str, kind: str, size: int) -> Attachment:
    return Attachment(filename=name, media_type=kind, raw=bytes(size))


async def _noticed(asker: ThreadHandle, seq: int) -> None:
    """Wait until the server has noticed that the reply is late, or may not come."""
    async with asyncio.timeout(_PATIENCE), contextlib.aclosing(asker.follow()) as messages:
        async for message in messages:
            if message.notice.request_seq == seq:
                return


async def _be_there(agents: dict[str, BusClient], stack: contextlib.AsyncExitStack) -> None:
    """Let each agent be in the state in which the pictures show it."""
    work = {
        "coder": (Presence.PRESENCE_WORKING, "merging the index branch"),
        "tester": (Presence.PRESENCE_AWAITING_HUMAN, "needs 80 GB on staging"),
        "docs-writer": (Presence.PRESENCE_IDLE, ""),
        "ci": (Presence.PRESENCE_WORKING, "build 1208"),
    }
    for name, (state, words) in work.items():
        await agents[name].heartbeat(state=state, status_text=words)
    for name, seq in _READ_HERE.items():
        await (await agents[name].join(THREAD)).acknowledge(seq)
    await agents["reviewer"].end_session()
    handle = await agents["planner"].join(THREAD)
    waiting = asyncio.create_task(_wait(handle))
    stack.push_async_callback(_stopped, waiting)


async def _wait(handle: ThreadHandle) -> None:
    async with contextlib.aclosing(handle.follow()) as messages:
        async for _ in messages:
            pass


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
