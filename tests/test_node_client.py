"""The client in clients/node, run by node against real servers."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.newer_server import LAST_SEQ
from tests.node_process import CLIENT, example, history, post, require_node, script
from tests.serving import BusStub, ServerProcess, ThreadStub
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import SetThreadStateRequest

TEXTS = ["grüße 🎈👩‍🚀", 'two\nlines and a "quote"', "a zero \0 byte", "\u2028 — \ufeff 漢字"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", autouse=True)
def needs_node() -> None:
    require_node()


async def test_the_example_sees_history_and_live_messages_each_once_and_in_order(
    server: ServerProcess, bus: BusStub, thread: str, name: str
) -> None:
    await post(bus, thread, *TEXTS)
    async with example(server.address, thread, name) as agent:
        assert await agent.line() == {"joined": thread, "after_seq": 0}
        seen = await agent.lines(len(TEXTS))
        await post(bus, thread, *TEXTS, "stop")
        seen += await agent.rest()
    assert [line["content"] for line in seen] == [*TEXTS, *TEXTS, "stop"]
    assert [line["seq"] for line in seen] == list(range(1, 2 * len(TEXTS) + 2))
    assert {line["sender"] for line in seen} == {"anonymous"}


@pytest.mark.parametrize("field", ["mentions", "handoff_to"])
async def test_the_example_echoes_what_is_addressed_to_it(
    server: ServerProcess, bus: BusStub, thread: str, name: str, field: str
) -> None:
    async with example(server.address, thread, name) as agent:
        await agent.line()  # registered: it can be addressed
        await post(bus, thread, "to nobody")
        await post(bus, thread, "to you: é", **{field: [name] if field == "mentions" else name})
        await post(bus, thread, "stop")
        lines = await agent.rest()
    [echo] = [message for message in await history(bus, thread) if message.sender == name]
    assert (echo.content, echo.reply_to) == ("echo: to you: é", 2)
    assert {"posted": echo.seq, "reply_to": 2, "deduplicated": False} in lines


async def test_an_example_with_its_token_goes_on_where_it_left(
    server: ServerProcess, bus: BusStub, thread: str, name: str
) -> None:
    await post(bus, thread, "first", "stop")
    async with example(server.address, thread, name, THREADBUS_TOKEN="t" * 40) as agent:
        await agent.rest()
    await post(bus, thread, "later", "stop")
    async with example(server.address, thread, name, THREADBUS_TOKEN="t" * 40) as agent:
        assert (await agent.line())["after_seq"] == 2
        assert [line["content"] for line in await agent.rest()] == ["later", "stop"]


async def test_errors_are_typed_and_seqs_exact_up_to_the_largest(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    await post(bus, thread, "one")
    async with script(
        """
        const far = Number.MAX_SAFE_INTEGER;
        for (const attempt of [
          () => bus.follow({ thread: 'nowhere', after_seq: 0 }).next(),
          () => bus.post(thread, 'two', { expected_last_seq: far }),
          () => bus.post(thread, 'two', { expected_last_seq: 0 }),
          () => bus.post(thread, 'two', { mentions: ['É'] }),
          () => bus.follow({ thread, after_seq: far }).next(),
          () => bus.post(thread, 'two', { replyTo: 1 }),
        ]) {
          const error = await attempt().catch((error) => error);
          say({ ...error, message: error.message });
        }
        """,
        server.address,
        thread,
    ) as client:
        unknown, ahead, behind, invalid, lost, misspelt = await client.rest()
    assert (unknown["code"], unknown["reason"]) == ("NOT_FOUND", "THREAD_NOT_FOUND")
    assert unknown["details"][1]["resource_name"] == "nowhere"
    assert not unknown["outcomeUnknown"]
    assert (ahead["code"], ahead["reason"]) == ("ABORTED", "SEQ_CONFLICT")
    assert ahead["metadata"] == {"expected": str(LAST_SEQ), "last_seq": "1"}
    assert behind["metadata"] == {"expected": "0", "last_seq": "1"}
    assert invalid["reason"] == "VALIDATION_FAILED"
    assert invalid["details"][1]["field_violations"][0]["field"] == "mentions[0]"
    assert "1–63" in invalid["message"]
    assert lost["name"] == "CursorLost"
    assert lost["reason"] == "REASON_CURSOR_AHEAD"
    assert lost["requested"] == {"thread": thread, "after_seq": LAST_SEQ, "epoch": ""}
    assert lost["position"]["cursor"]["after_seq"] == 0
    assert misspelt["message"] == "PostMessage has no field replyTo"


async def test_a_wait_that_is_left_ends_at_the_server_too(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-open-waits", "1")
    async with script(
        """
        await bus.register(thread);
        const { cursor } = await bus.join(thread);
        const filter = { exclude_own: false };
        await bus.post(thread, 'one');
        for await (const { seq } of bus.follow(cursor, { filter })) {
          const refused = await bus.follow(cursor, { filter }).next().catch((error) => error);
          say({ seq, reason: refused.reason });
          break;
        }
        for (let seq; !seq; ) { // the server learns of it a moment later
          const again = bus.follow(cursor, { filter });
          seq = await again.next().then(({ value }) => value.seq, () => undefined);
          if (seq) say({ seq });
          await again.return();
        }
        """,
        server.address,
        name,
    ) as client:
        assert await client.line() == {"seq": 1, "reason": "QUOTA_EXCEEDED"}
        assert await client.rest() == [{"seq": 1}]


async def test_follow_ends_when_its_thread_is_closed_or_its_signal_aborted(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await post(bus, thread, "one")
    async with script(
        """
        const stop = new AbortController();
        const messages = bus.follow({ thread, after_seq: 0 }, { signal: stop.signal });
        const { value } = await messages.next();
        const pending = messages.next();
        stop.abort();
        say({ aborted: await pending.catch((error) => error.name) });
        const from = { thread, after_seq: value.seq, epoch: value.epoch };
        for await (const { kind } of bus.follow(from)) say({ kind });
        say({ ended: true });
        """,
        server.address,
        thread,
    ) as client:
        assert await client.line() == {"aborted": "AbortError"}
        await threads.SetThreadState(
            SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED)
        )
        assert await client.rest() == [{"kind": "MESSAGE_KIND_THREAD"}, {"ended": True}]


async def test_the_protos_that_the_command_line_writes_are_all_it_needs(
    server: ServerProcess, bus: BusStub, thread: str, name: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "bus_client.cli", "proto", "--out", str(tmp_path)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    await post(bus, thread, "stop")
    async with example(server.address, thread, name, THREADBUS_PROTOS=str(tmp_path)) as agent:
        assert [line.get("content") for line in await agent.rest()] == [None, "stop"]


def test_the_packages_are_pinned_and_no_address_of_a_registry_is_committed() -> None:
    package = json.loads((CLIENT / "package.json").read_text("utf-8"))
    assert package["private"]
    assert all(version.startswith("=") for version in package["dependencies"].values())
    assert not list(CLIENT.glob("*lock*")), "a lock file names where packages were loaded from"
