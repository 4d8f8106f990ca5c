"""Arguments that fit into no request: refused with the field's name before anything is sent."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bus_client import (
    Attachment,
    BusClient,
    BusError,
    Cursor,
    InvalidArgument,
    MessageFilter,
    Post,
    ThreadHandle,
)
from bus_client.sync import BusClient as SyncBusClient
from tests.members import contents, member
from tests.script import THREAD, Script, last_batch, scripted
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import PostMessageResponse, WaitMessagesRequest

HALF = "bad\udcb2"


def untyped(value: object) -> Any:
    """Hides from mypy that a type is wrong."""
    return value


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted() as running:
        yield running


@pytest.fixture
async def bus(script: Script, tmp_path: Path) -> AsyncIterator[BusClient]:
    credentials = tmp_path / "credentials.json"
    async with BusClient(
        script.address, agent="worker", credentials=credentials, heartbeats=False
    ) as connected:
        yield connected


async def refused(script: Script, call: Awaitable[object]) -> InvalidArgument:
    """Returns the refusal of a call that sends nothing."""
    before = len(script.requests)
    with pytest.raises(InvalidArgument) as raised:
        async with asyncio.timeout(10):
            await call
    assert len(script.requests) == before
    assert (raised.value.code, raised.value.reason) == ("INVALID_ARGUMENT", "VALIDATION_FAILED")
    return raised.value


POSTS: list[tuple[dict[str, Any], str, str]] = [
    ({"content": HALF}, "content", r"contains a lone surrogate (\udcb2); fix or remove it"),
    ({"content": b"bytes"}, "content", "must be a string, not bytes"),
    ({"content": 5}, "content", "must be a string, not int"),
    ({"content": None}, "content", "must be a string, not None"),
    ({"labels": {"k": HALF}}, 'labels["k"]', "a lone surrogate"),
    ({"labels": {"k": None}}, 'labels["k"]', "not None"),
    ({"labels": {HALF: "v"}}, r'labels["bad\udcb2"]', "a lone surrogate"),
    ({"labels": {1: "v"}}, 'labels["1"]', "must be a string, not int"),
    ({"labels": [("k", "v")]}, "labels", "must be a mapping, not list"),
    ({"mentions": ["a", HALF]}, "mentions[1]", "a lone surrogate"),
    ({"mentions": "coder"}, "mentions", "must be a list, not str"),
    ({"mentions": None}, "mentions", "must be a list, not None"),
    ({"handoff_to": HALF}, "handoff_to", "a lone surrogate"),
    ({"reply_to": 2**63}, "reply_to", "must be between"),
    ({"reply_to": "1"}, "reply_to", "must be an integer, not str"),
    ({"reply_to": True}, "reply_to", "must be an integer, not bool"),
    ({"reply_to": None}, "reply_to", "not None"),
    ({"edit_of": 1.0}, "edit_of", "not float"),
    ({"expected_last_seq": -(2**63) - 1}, "expected_last_seq", "must be between"),
    ({"based_on_seq": math.nan}, "based_on_seq", "not float"),
    ({"priority": 2**31}, "priority", "must be between"),
    ({"priority": "urgent"}, "priority", "not str"),
    ({"include_recipients": "no"}, "include_recipients", "must be True or False"),
    ({"on_behalf_of": HALF}, "on_behalf_of", "a lone surrogate"),
    ({"request_id": HALF}, "request_id", "a lone surrogate"),
    ({"request_id": b""}, "request_id", "not bytes"),
    ({"attachments": [{"url": HALF}]}, "attachments[0].url", "a lone surrogate"),
    ({"attachments": [{"raw": "text"}]}, "attachments[0].raw", "must be bytes, not str"),
    ({"attachments": [{"file": "x"}]}, "attachments[0].file", "has no such field; it has filename"),
    ({"attachments": [Attachment(), Cursor()]}, "attachments[1]", "an Attachment, not Cursor"),
    ({"attachments": [None]}, "attachments[0]", "not None"),
]


@pytest.mark.parametrize(("post", "path", "told"), POSTS, ids=repr)
async def test_a_post_that_cannot_be_sent_is_refused_with_its_field(
    script: Script, bus: BusClient, post: dict[str, Any], path: str, told: str
) -> None:
    error = await refused(script, bus.thread(THREAD).post(**post))
    ((field, description),) = error.field_violations
    assert field == path
    assert told in description
    assert str(error) == f"{field}: {description}"
    str(error).encode()  # can be printed


CALLS: dict[str, tuple[Callable[[BusClient, ThreadHandle], Awaitable[object]], str]] = {
    "join": (lambda bus, _: bus.join(HALF), "thread"),
    "topic": (lambda bus, _: bus.join("t", topic=untyped(None)), "topic"),
    "context": (lambda bus, _: bus.join("t", context_limit=2**31), "context_limit"),
    "start": (lambda bus, _: bus.join("t", start=untyped("frist")), "start"),
    "create": (lambda bus, _: bus.create_thread("t", labels={"k": HALF}), 'labels["k"]'),
    "get": (lambda bus, _: bus.get_thread(HALF), "thread"),
    "list": (lambda bus, _: anext(aiter(bus.list_threads(prefix=HALF))), "prefix"),
    "states": (lambda bus, _: anext(aiter(bus.list_threads(states=[untyped(None)]))), "states[0]"),
    "waits": (lambda bus, _: anext(aiter(bus.list_waits(agent=HALF))), "agent"),
    "window": (lambda bus, _: bus.status(window=math.nan), "window"),
    "register": (lambda bus, _: bus.register_agent(HALF), "agent"),
    "kind": (lambda bus, _: bus.register_agent("a", kind=untyped(None)), "kind"),
    "token": (lambda bus, _: bus.register_agent("a", token=HALF), "token"),
    "agent": (lambda bus, _: bus.get_agent(HALF), "agent"),
    "agents": (
        lambda bus, _: anext(aiter(bus.list_agents(presences=untyped([2**40])))),
        "presences[0]",
    ),
    "update agent": (lambda bus, _: bus.update_agent(description=HALF), "description"),
    "unregister": (lambda bus, _: bus.unregister_agent(HALF), "agent"),
    "grace": (lambda bus, _: bus.rotate_token(grace=math.nan), "grace"),
    "negative grace": (lambda bus, _: bus.rotate_token(grace=-1), "grace"),
    "status": (lambda bus, _: bus.heartbeat(status_text=HALF), "status_text"),
    "state": (lambda bus, _: bus.heartbeat(state=untyped(None)), "state"),
    "lease": (lambda bus, _: bus.heartbeat(lease=math.nan), "lease"),
    "negative lease": (lambda bus, _: bus.heartbeat(lease=-1), "lease"),
    "timeout": (lambda _, thread: thread.post("x", timeout=math.nan), "timeout"),
    "negative timeout": (lambda _, thread: thread.post("x", timeout=-0.5), "timeout"),
    "timeout as a text": (lambda _, thread: thread.post("x", timeout=untyped("5")), "timeout"),
    "wait": (lambda _, thread: thread.wait(timeout=math.nan), "timeout"),
    "no wait": (lambda _, thread: thread.wait(timeout=untyped(None)), "timeout"),
    "negative wait": (lambda _, thread: thread.wait(timeout=-math.inf), "timeout"),
    "min": (lambda _, thread: thread.wait(timeout=1, min_messages=2**40), "min_messages"),
    "max": (lambda _, thread: thread.wait(timeout=1, max_messages=-1), "max_messages"),
    "wait filter": (
        lambda _, thread: thread.wait(timeout=1, filter=untyped({"senders": ["a", HALF]})),
        "filter.senders[1]",
    ),
    "filter": (lambda _, thread: anext(thread.follow(filter=untyped(Cursor()))), "filter"),
    "resync": (lambda _, thread: anext(thread.follow(on_resync=untyped("go on"))), "on_resync"),
    "wait resync": (
        lambda _, thread: thread.wait(timeout=0, on_resync=untyped("go on")),
        "on_resync",
    ),
    "acknowledge": (lambda _, thread: thread.acknowledge(2**63), "seq"),
    "messages": (lambda _, thread: thread.messages(after_seq=2**63), "after_seq"),
    "limit": (lambda _, thread: thread.messages(limit=untyped(1.5)), "limit"),
    "message": (lambda _, thread: thread.message(untyped("1")), "seq"),
    "update": (lambda _, thread: thread.update(stage=HALF), "stage"),
    "mode": (lambda _, thread: thread.update(sync_mode=untyped(2**31)), "sync_mode"),
    "set_state": (lambda _, thread: thread.set_state(untyped(None)), "state"),
    "one post": (lambda _, thread: anext(thread.post_many("one")), "posts"),
    "posts for ever": (lambda _, thread: anext(thread.post_many([], timeout=math.nan)), "timeout"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_names_the_field_that_it_cannot_send(
    script: Script, bus: BusClient, call: str
) -> None:
    start, path = CALLS[call]
    error = await refused(script, start(bus, bus.thread(THREAD)))
    assert [field for field, _ in error.field_violations] == [path]


def test_a_handle_refuses_an_invalid_name_and_position(tmp_path: Path) -> None:
    async def handles() -> None:
        async with scripted() as script, BusClient(script.address) as bus:
            with pytest.raises(InvalidArgument, match="thread: must be a string"):
                bus.thread(untyped(None))
            with pytest.raises(InvalidArgument, match="threads"):
                bus.thread("t").position = untyped(5)
            with pytest.raises(InvalidArgument, match=r"position\.thread: must be 't'"):
                bus.thread("t").position = Cursor(thread="other")

    asyncio.run(handles())


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"timeout": math.nan}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"token": "bad\ntoken"}, "token"),
        ({"token": "tökén"}, "token"),
        ({"token": b"bytes"}, "token"),
        ({"server": None}, "server"),
        ({"server": "http://localhost:7420"}, "server"),
        ({"server": "localhost:99999"}, "server"),
        ({"server": ""}, "server"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [BusClient, SyncBusClient], ids=["async", "sync"])
def test_a_client_refuses_invalid_arguments(
    kind: type[BusClient] | type[SyncBusClient], options: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        kind(**options)
    assert [field for field, _ in raised.value.field_violations] == [path]
    assert "tök" not in str(raised.value)


def test_the_sync_client_refuses_the_same(server: ServerProcess, name: str) -> None:
    with SyncBusClient(server.address) as bus:
        thread = bus.join(name)
        for call in (
            lambda: thread.post("x", labels={"k": HALF}),
            lambda: thread.post("x", reply_to=2**63),
            lambda: thread.post("x", timeout=math.nan),
            lambda: thread.wait(timeout=math.nan),
            lambda: next(thread.follow(filter=untyped(5))),
            lambda: next(thread.post_many("one text")),
            lambda: next(thread.post_many(untyped(5))),
            lambda: bus.join(untyped(None)),
            lambda: next(bus.list_threads(prefix=HALF)),
        ):
            with pytest.raises(InvalidArgument):
                call()
        kinds = [type(result) for result in thread.post_many(["one", HALF, "two"])]
        assert kinds == [PostMessageResponse, InvalidArgument, PostMessageResponse]


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400], ids=["inf", "1e300", "10^400"])
async def test_a_very_long_wait_has_no_end(script: Script, bus: BusClient, timeout: float) -> None:
    script.answer("WaitMessages", *last_batch(1))
    script.answer("PostMessage", PostMessageResponse(seq=2))
    (message,) = await bus.thread(THREAD).wait(timeout=timeout, max_messages=1)
    assert message.seq == 1
    (request,) = script.asked(WaitMessagesRequest)
    assert not request.HasField("max_wait")
    assert (await bus.thread(THREAD).post("x", timeout=timeout)).seq == 2


async def test_a_post_that_cannot_be_sent_stops_no_other_of_post_many(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    before, after = ([f"{side}{n}" for n in range(150)] for side in "mn")
    bad: list[Any] = [
        HALF,
        Post("x", labels={"k": HALF}),
        Post("x", reply_to=2**63),
        Post(untyped(None)),
        5,
        None,
        b"bytes",
        Post("x", attachments=untyped([{"url": HALF}])),
    ]
    paths = ["content", 'labels["k"]', "reply_to", *["content"] * 4, "attachments[0].url"]
    async with member(server.address, name, tmp_path) as thread:
        posts = [HALF, *before, *bad, *after, HALF]
        results = [result async for result in thread.post_many(posts)]
        found = [
            result.field_violations[0][0] if isinstance(result, InvalidArgument) else result.seq
            for result in results
            if not isinstance(result, BusError) or isinstance(result, InvalidArgument)
        ]
        assert found == ["content", *range(1, 151), *paths, *range(151, 301), "content"]
        assert contents(await thread.messages(limit=1_000)) == [*before, *after]


async def test_if_no_post_can_be_sent_each_gets_an_error_without_a_server(
    script: Script, bus: BusClient
) -> None:
    posts = (HALF for _ in range(1_000))
    async with asyncio.timeout(10):
        results = [result async for result in bus.thread(THREAD).post_many(posts)]
    assert [type(result) for result in results] == [InvalidArgument] * 1_000


async def test_messages_may_be_given_as_mappings(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with member(server.address, name, tmp_path) as thread:
        await thread.post("x", attachments=untyped([{"filename": "a.txt", "raw": b"a"}]))
        wanted: Any = {"senders": [f"{name}-reader"]}
        (message,) = await thread.wait(timeout=5, filter=wanted, include_own=True)
        assert message.attachments[0].raw == b"a"
        wanted = MessageFilter(senders=["nobody-else"])
        assert await thread.wait(timeout=0, filter=wanted, include_own=True) == []
