"""The command line against a server that breaks the contract: an error, and no traceback."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.script import (
    EPOCH,
    THREAD,
    Script,
    Step,
    batch,
    caught_up,
    cursor,
    ending,
    last_batch,
    lost,
    scripted,
    started,
)
from tests.shell import Done, Shell
from tests.wait_frames import BOUND
from threadbus.v1.agent_pb2 import PRESENCE_LAPSED, Agent, Participant
from threadbus.v1.agent_service_pb2 import ListAgentsResponse
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoResponse,
    ListMessagesResponse,
    ListRequestsResponse,
    PostMessageResponse,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Message
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN, Request, RequestState
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import (
    DeleteThreadResponse,
    GetThreadResponse,
    ListParticipantsResponse,
    ListThreadsResponse,
)

pytestmark = pytest.mark.slow

#: Invalid times.
NO_TIMES = [
    Timestamp(seconds=2**62),
    Timestamp(seconds=-(2**62)),
    Timestamp(seconds=253_402_300_800),
    Timestamp(nanos=-1),
]


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted() as running:
        yield running


async def run(script: Script, home: Path, *arguments: str) -> Done:
    """Run a command against the script. It must end in bounded time, and without a traceback."""
    shell = Shell(script.address, home)
    async with asyncio.timeout(BOUND):
        done = await asyncio.to_thread(shell.run, *arguments)
    assert "Traceback" not in done.err
    assert "Error" not in done.err
    return done


def thread(head: int, **fields: Any) -> GetThreadResponse:
    return GetThreadResponse(
        thread=Thread(name=THREAD, epoch=EPOCH, head_seq=head, first_seq=1, **fields)
    )


def page(*messages: Message, head: int = 0, **fields: Any) -> ListMessagesResponse:
    return ListMessagesResponse(
        messages=messages, head_seq=head or len(messages), first_seq=1, epoch=EPOCH, **fields
    )


def odd(seq: int, time: Timestamp) -> Message:
    """Return a message with an invalid time."""
    return Message(
        thread=THREAD,
        seq=seq,
        sender="someone",
        content="said",
        kind=MESSAGE_KIND_CHAT,
        create_time=time,
    )


ODD = [odd(seq, time) for seq, time in enumerate(NO_TIMES, start=1)]


async def test_messages_with_an_invalid_time_are_read(script: Script, tmp_path: Path) -> None:
    for _ in range(2):
        script.answer("ListMessages", page(*ODD))
    done = await run(script, tmp_path, "read", THREAD)
    assert (done.code, done.out.count("unknown time")) == (0, len(ODD))
    done = await run(script, tmp_path, "read", THREAD, "--json")
    found = done.json["messages"]
    assert [message["seq"] for message in found] == [1, 2, 3, 4]
    assert not any("create_time" in message for message in found)


@pytest.mark.parametrize("form", ["jsonl", "markdown"])
async def test_messages_with_an_invalid_time_are_exported(
    script: Script, tmp_path: Path, form: str
) -> None:
    for _ in range(2):
        script.answer("GetThread", thread(len(ODD), create_time=NO_TIMES[0]))
    script.answer("ListMessages", page(*ODD))
    script.answer("ListRequests", ListRequestsResponse())
    done = await run(script, tmp_path, "export", THREAD, "--format", form)
    assert (done.code, done.out.count("said")) == (0, len(ODD))
    assert done.out.count("unknown time") == (len(ODD) if form == "markdown" else 0)


async def test_threads_with_an_invalid_creation_time_are_exported(
    script: Script, tmp_path: Path
) -> None:
    made = [Thread(name=f"t{n}", create_time=time) for n, time in enumerate(NO_TIMES)]
    for _ in range(2):  # an export lists the threads twice
        script.answer("ListThreads", ListThreadsResponse(threads=made))
    for listed in sorted(made, key=lambda thread: thread.create_time.seconds):
        script.answer("GetThread", GetThreadResponse(thread=listed))
    done = await run(script, tmp_path, "export", "--all")
    assert (done.code, done.out) == (3, "")


@pytest.mark.parametrize("json_lines", [[], ["--json"]], ids=["text", "json"])
async def test_messages_with_an_invalid_time_are_printed_as_they_are_posted(
    script: Script, tmp_path: Path, json_lines: list[str]
) -> None:
    script.answer("GetThread", thread(len(ODD)))
    frame = batch(*range(1, len(ODD) + 1))
    del frame.messages.messages[:]
    frame.messages.messages.extend(ODD)
    closed = ending(WaitEnding.REASON_THREADS_CLOSED, upto=len(ODD))
    script.answer("WaitMessages", started(), frame, closed)
    done = await run(script, tmp_path, "tail", THREAD, *json_lines)
    assert (done.code, len(done.out.splitlines())) == (0, len(ODD))


async def test_agents_and_threads_with_an_invalid_time_are_listed(
    script: Script, tmp_path: Path
) -> None:
    gone = [
        Agent(name=f"a{n}", presence=PRESENCE_LAPSED, last_seen_time=time)
        for n, time in enumerate(NO_TIMES)
    ]
    listed = [Thread(name=f"t{n}", update_time=time) for n, time in enumerate(NO_TIMES)]
    for form in ([], ["--json"]):
        script.answer("ListAgents", ListAgentsResponse(agents=gone))
        script.answer("ListThreads", ListThreadsResponse(threads=listed))
        done = await run(script, tmp_path, "agents", *form)
        assert done.code == 0
        done = await run(script, tmp_path, "thread", "list", *form)
        assert done.code == 0


async def test_requests_with_an_invalid_time_or_an_unknown_state_are_listed(
    script: Script, tmp_path: Path
) -> None:
    states = REQUEST_STATE_OPEN, RequestState.ValueType(99)
    listed = [
        Request(thread=THREAD, seq=1, state=state, create_time=time, due_time=time)
        for state in states
        for time in NO_TIMES
    ]
    for now in (Timestamp(seconds=2_000_000_000), NO_TIMES[0]):
        for form in ([], ["--json"]):
            script.answer("GetServerInfo", GetServerInfoResponse())  # for the client
            script.answer("ListRequests", ListRequestsResponse(requests=listed))
            script.answer("GetServerInfo", GetServerInfoResponse(server_time=now))
            done = await run(script, tmp_path, "requests", "--all", *form)
            assert done.code == 0
            if form:
                assert [each["overdue"] for each in done.json["requests"]] == [False] * 8
            else:
                assert done.out.count("due at unknown time") == len(NO_TIMES)
                assert done.out.count("no longer open") == len(NO_TIMES)


AGAIN = {"next_page_token": "again"}
ENDLESS: dict[str, tuple[list[str], dict[str, Step]]] = {
    "agents": (
        ["agents"],
        {"ListAgents": ListAgentsResponse(agents=[Agent(name="a")], **AGAIN)},
    ),
    "thread list": (
        ["thread", "list"],
        {"ListThreads": ListThreadsResponse(threads=[Thread(name="a")], **AGAIN)},
    ),
    "thread show": (
        ["thread", "show", THREAD],
        {
            "GetThread": thread(3),
            "ListParticipants": ListParticipantsResponse(
                participants=[Participant(agent="a")], **AGAIN
            ),
        },
    ),
    "requests": (
        ["requests", "--all"],
        {"ListRequests": ListRequestsResponse(requests=[Request(thread="a")], **AGAIN)},
    ),
    "read": (
        ["read", THREAD],
        {"ListMessages": page(ODD[0], head=9, has_more=True, next_after_seq=0)},
    ),
    "read --last": (
        ["read", THREAD, "--last", "5"],
        {"ListMessages": page(ODD[0], head=9, has_more=True)},
    ),
    "export": (
        ["export", THREAD],
        {"GetThread": thread(9), "ListMessages": page(ODD[0], head=9, has_more=True)},
    ),
    "export, no end": (
        ["export", THREAD],
        {"GetThread": thread(2**52), "ListMessages": page(head=0)},
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_responses_that_never_end_are_an_error(
    script: Script, tmp_path: Path, what: str
) -> None:
    arguments, answers = ENDLESS[what]
    for rpc, answer in answers.items():
        for _ in range(50):
            script.answer(rpc, answer)
    done = await run(script, tmp_path, *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err


async def test_tail_requests_no_invalid_cursor(script: Script, tmp_path: Path) -> None:
    lies = [
        Thread(name=THREAD, head_seq=-7),
        Thread(name=THREAD, head_seq=2**62),
        Thread(name="elsewhere"),
    ]
    for lie in lies:
        script.answer("GetThread", GetThreadResponse(thread=lie))
        done = await run(script, tmp_path, "tail", THREAD)
        assert done.code == 1
    assert not script.asked(WaitMessagesRequest)


async def test_tail_does_not_spin_when_every_cursor_is_lost(script: Script, tmp_path: Path) -> None:
    script.answer("GetThread", thread(0))
    for _ in range(3):
        script.answer("WaitMessages", started(), lost(cursor(0), cursor(0)), caught_up(0))
    script.answer("WaitMessages", *last_batch(1))
    done = await run(script, tmp_path, "tail", THREAD)
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    times = [at for at, request in script.requests if isinstance(request, WaitMessagesRequest)]
    assert times[3] - times[0] >= 1.5


def bare_ending(reason: WaitEnding.Reason.ValueType) -> WaitMessagesResponse:
    """Return an ending without cursors, which is valid for a wait on any thread."""
    return WaitMessagesResponse(ending=WaitEnding(reason=reason))


INFOS: dict[str, GetServerInfoResponse] = {
    "nothing": GetServerInfoResponse(),
    "no time": GetServerInfoResponse(server_time=NO_TIMES[0]),
    "intervals": GetServerInfoResponse(
        heartbeat_interval=Duration(seconds=2**62), agent_timeout=Duration(seconds=-1)
    ),
    "control characters": GetServerInfoResponse(version="\x1b[31m", durability="\x07", auth="\r"),
}


@pytest.mark.parametrize("what", INFOS)
@pytest.mark.parametrize(
    "steps",
    [
        [started(), bare_ending(WaitEnding.REASON_THREADS_CLOSED)],
        [started(), bare_ending(WaitEnding.REASON_SESSION_ENDED)],
        last_batch(1),
        [b"\xff\xff"],
    ],
    ids=["closed", "ended", "of-another-thread", "bytes"],
)
async def test_doctor_survives_an_odd_server(
    script: Script, tmp_path: Path, what: str, steps: list[Step]
) -> None:
    info = INFOS[what]
    info.scopes[:] = ["post", "read"]
    for _ in range(20):
        script.answer("GetServerInfo", info)
        script.answer("PostMessage", PostMessageResponse(seq=1))
        script.answer("WaitMessages", *steps)
    script.answer("DeleteThread", DeleteThreadResponse())
    done = await run(script, tmp_path, "doctor", "--timeout", "2", "--json")
    checks = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert (done.code, checks["wake-up"]["status"]) == (1, "failure")
