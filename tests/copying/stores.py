"""Stores to copy: places for them, one with everything in it, and what is in one."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import StoreRefused
from bus_server.settings import Settings, StoreUrl
from bus_server.store.opening import open_store
from tests.callers import Caller, create_token, operator, register, with_token
from tests.connections import Connection, connected
from tests.peers import Peer
from tests.polling import until_known
from tests.presence import beat
from tests.requests import ask, asking, noticed, read_up_to, withdraw
from tests.rotation import rotate
from tests.serving import ServerProcess
from tests.shell import Done, Shell
from tests.store.commits import LARGE, STATES, TEXTS
from tests.wait_frames import seconds
from threadbus.v1.admin_service_pb2 import ListTokensRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN, PRESENCE_IDLE
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    ListAgentsRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, ListRequestsRequest
from threadbus.v1.message_pb2 import (
    PRIORITY_HIGH,
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    Attachment,
    Cursor,
    MessageFilter,
)
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_STRICT,
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    Retention,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    JoinThreadRequest,
    LeaveThreadRequest,
    ListParticipantsRequest,
    ListThreadsRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)

#: An epoch as a thread has one after a backup was restored (store/epochs.py).
RENEWED = "0123abcd.2.89ab4567"

#: What agents report of themselves.
STATUS: dict[str, Any] = {
    "state": PRESENCE_IDLE,
    "status_text": TEXTS["emoji"] + TEXTS["nul"],
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, or will be."""

    #: The database file; for a database, only the operator's token is beside it.
    db: Path
    #: The URL of a database; empty: the file.
    url: str = ""

    def __str__(self) -> str:
        return self.url or str(self.db)

    @contextlib.contextmanager
    def serve(self, *flags: str, listen: str = "") -> Iterator[ServerProcess]:
        """A server on the store, which is stopped at the end."""
        with ServerProcess(self.db, *flags, listen=listen, url=self.url) as server:
            yield server
            if server.process is not None:
                assert server.stop() == 0

    def refusal(self) -> str:
        """Open the store as a server does, which must be refused. Returns why."""
        at = {"store": StoreUrl(self.url)} if self.url else {"db": self.db}
        settings = Settings(**at, busy_timeout=0.1)
        with pytest.raises(StoreRefused) as refusal:
            asyncio.run(open_store(settings))
        return str(refusal.value)

    def execute(self, *statements: str) -> list[list[tuple[Any, ...]]]:
        """Run statements without a server. Returns the rows of each."""
        with self._connected() as db:
            return [
                cursor.fetchall() if (cursor := db.execute(each)).description else []
                for each in statements
            ]

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        if self.url:
            import psycopg

            with psycopg.connect(self.url, autocommit=True) as connection:
                yield connection
        else:
            with closing(sqlite3.connect(self.db, isolation_level=None)) as connection:
                yield connection

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Returns all rows of all tables but those of servers, which are never copied."""
        listing = (
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
            if self.url
            else "SELECT name FROM sqlite_schema WHERE type = 'table'"
        )
        names = {name for (name,) in self.execute(listing)[0]} - {"server", "wait", "writer"}
        queries = [f"SELECT * FROM {name}" for name in names]  # noqa: S608
        found = dict(zip(names, self.execute(*queries), strict=True))
        if self.url:
            found["thread_id"] = self.execute("SELECT last_value, is_called FROM thread_id")[0]
            # The rest says where the tables are.
            found["meta"] = [row[:3] for row in found["meta"]]
            # No text and an empty one are the same.
            found["presence"] = [
                (name, text or b"", *rest) for name, text, *rest in found["presence"]
            ]
        return {name: sorted(rows, key=repr) for name, rows in sorted(found.items())}


class Callers(NamedTuple):
    """Those who use the store with everything in it."""

    boss: Caller
    ann: Caller
    ben: Caller
    #: Whose token permits reading, in threads that begin with `deal`.
    limited: Caller
    #: Whose token was rotated, and still works.
    former: Caller


def run(source: Place | str, target: Place | str) -> Done:
    """Run `threadbus copy`, where there is no server."""
    return Shell("", Path("/")).run("copy", "--from", str(source), "--to", str(target))


def copied(source: Place, target: Place) -> str:
    """Copy a store. Returns what is printed. Fails if that fails."""
    done = run(source, target)
    assert done.code == 0, done
    assert done.out.startswith("copied "), done
    return done.out


def refused(source: Place | str, target: Place | str) -> str:
    """Copy a store, which must be refused. Returns the error."""
    done = run(source, target)
    assert (done.code, done.out) == (1, ""), done
    assert done.err.startswith("threadbus: ")
    return done.err


async def furnish(server: ServerProcess) -> Callers:
    """Put something of everything into the store of a new server."""
    boss = operator(server)
    async with connected(server.address) as to:
        ann = Peer(to.bus, await register(to.agents, "ann", display_name="Änn 👩‍👩‍👧"))
        ben = Peer(to.bus, await register(to.agents, "ben", labels={"größe": "ﷺ\0"}))
        person = Peer(to.bus, await register(to.agents, "eve", boss, AGENT_KIND_HUMAN))
        gone = Peer(to.bus, await register(to.agents, "gone"))
        await _fill_threads(to, ann, ben, person, boss)
        await _ask(to, ann, ben, gone)
        limited = await with_token(
            to.channel,
            boss,
            "ann",
            scopes=["read"],
            thread_prefixes=["deal"],
            lifetime=seconds(86_400),
        )
        await create_token(to.channel, boss, "ben", lifetime=seconds(0.001))
        former = await register(to.agents, "cat")
        await rotate(to.agents, former, Duration(seconds=3_000))
        await to.agents.UnregisterAgent(
            UnregisterAgentRequest(agent="gone"), metadata=boss.metadata
        )
        await to.agents.EndSession(EndSessionRequest(), metadata=person.metadata)
        for each in (ann, ben):
            assert each.caller is not None
            await beat(to.bus, each.caller, lease=3_000, **STATUS)
    assert ann.caller is not None
    assert ben.caller is not None
    return Callers(boss, ann.caller, ben.caller, limited, former)


async def _fill_threads(to: Connection, ann: Peer, ben: Peer, person: Peer, boss: Caller) -> None:
    async def create(name: str, **settings: Any) -> None:
        await to.threads.CreateThread(
            CreateThreadRequest(thread=name, **settings), metadata=ann.metadata
        )

    await create("deal", topic=TEXTS["emoji"], labels={"k": TEXTS["quotes"]})
    for each in (ann, ben):
        await to.threads.JoinThread(JoinThreadRequest(thread="deal"), metadata=each.metadata)
    for number, text in enumerate(TEXTS.values()):
        await ann.post("deal", text, request_id=f"r-{number}", labels={"é": text})
    await ben.post("deal", "yes", reply_to=1, mentions=["ann"], priority=PRIORITY_HIGH)
    await ann.post("deal", "yours", handoff_to="ben", wakes=WAKE_ADDRESSED)
    await ann.post("deal", "nobody", wakes=WAKE_NOBODY, request_id="quiet")
    files = [Attachment(filename="ä.bin", raw=bytes(range(256))), Attachment(url="https://x/y")]
    await ann.post("deal", "", attachments=files)
    large = (await ann.post("deal", LARGE)).seq
    await ann.post("deal", LARGE[::-1], edit_of=large)
    await ann.post("deal", "edited", edit_of=1)
    await Peer(to.bus, boss).post("deal", "for dan", on_behalf_of="dan")
    await Peer(to.bus).post("deal", "from nobody")
    await read_up_to(ben, "deal", 2)
    only = MessageFilter(senders=["ben"])
    await ann.read(Cursor(thread="deal", after_seq=3), filter=only)
    await create("strict", sync_mode=SYNC_MODE_STRICT)
    await ben.post("strict", "first", expected_last_seq=0)
    for name, state in (("closed", THREAD_STATE_CLOSED), ("archived", THREAD_STATE_ARCHIVED)):
        await create(name)
        await ask(ann, name, "ben")
        await to.threads.SetThreadState(
            SetThreadStateRequest(thread=name, state=state), metadata=ann.metadata
        )
    for _ in range(2):
        await create("again")
        await ben.post("again", "gone", request_id="r", mentions=["ann"])
        await to.threads.DeleteThread(DeleteThreadRequest(thread="again"), metadata=ann.metadata)
    await create("again")
    await create("empty")
    await create("renewed")
    await person.post("renewed", "one")
    await person.post("renewed", "two")
    await to.threads.UpdateThread(
        UpdateThreadRequest(
            thread="renewed",
            topic="new",
            stage="über",
            update_mask=FieldMask(paths=["topic", "stage"]),
        ),
        metadata=ann.metadata,
    )
    await to.threads.LeaveThread(LeaveThreadRequest(thread="renewed"), metadata=person.metadata)
    await create("Deal")
    await create("short", retention=Retention(max_messages=3))
    await create("emptied", retention=Retention(max_age=Duration(nanos=1)))
    for name in ("short", "emptied"):
        for n, wakes in enumerate((WAKE_ALL, WAKE_NOBODY, WAKE_ALL, WAKE_NOBODY, WAKE_ALL)):
            await ben.post(name, "text", mentions=["ann"], wakes=wakes, request_id=f"r-{n}")
    await ben.post("short", LARGE)
    await ben.post("short", "edited", edit_of=6)

    async def are_short() -> bool:
        listed = await to.threads.ListThreads(ListThreadsRequest())
        first = {thread.name: thread.first_seq for thread in listed.threads}
        return (first["short"], first["emptied"]) == (5, 6)

    await until_known(are_short)


async def _ask(to: Connection, ann: Peer, ben: Peer, gone: Peer) -> None:
    """Make requests in every state, and notices."""
    await to.threads.JoinThread(
        JoinThreadRequest(thread="asks", create=True), metadata=ann.metadata
    )
    late = await ask(ann, "asks", "ben", "gone", within=0.01)
    await noticed(ann, "asks", 2)
    answered = await ask(ann, "asks", "ben")
    await ben.post("asks", "done", reply_to=answered)
    await withdraw(ann, "asks", await ask(ann, "asks", "ben"))
    await gone.post("asks", "late", reply_to=late)
    await ask(ann, "asks", "ben", within=3_600, request_id="open")
    await ben.post("asks", "and you?", expect_reply=asking("ann"))


async def shown(server: ServerProcess, callers: Callers) -> dict[str, Any]:
    """Returns what a server says about its store, but the moments of calls."""
    boss = callers.boss.metadata
    async with connected(server.address) as to:
        threads = (await to.threads.ListThreads(ListThreadsRequest(states=STATES))).threads
        names = [thread.name for thread in threads]
        agents = (await to.agents.ListAgents(ListAgentsRequest())).agents
        tokens = (
            await AdminServiceStub(to.channel).ListTokens(ListTokensRequest(), metadata=boss)
        ).tokens
        for agent in agents:
            agent.ClearField("last_seen_time")
        for token in tokens:
            token.ClearField("last_use_time")
            token.ClearField("expire_time")  # of a clock that is compared with the wall clock
        found: dict[str, Any] = {"threads": list(threads), "agents": list(agents)}
        found["tokens"] = list(tokens)
        found["requests"] = list((await to.bus.ListRequests(ListRequestsRequest())).requests)
        for name in names:
            log = await to.bus.ListMessages(ListMessagesRequest(thread=name, limit=1000))
            found[f"log of {name}"] = list(log.messages)
            people = await to.threads.ListParticipants(ListParticipantsRequest(thread=name))
            found[f"participants of {name}"] = list(people.participants)
        for caller in (callers.ann, callers.ben):
            answer = await beat(to.bus, caller, lease=3_000, **STATUS)
            found[f"unread of {caller.name}"] = list(answer.unread)
    return found
