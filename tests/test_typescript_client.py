"""The client in clients/typescript, run by node against real servers: what is specific to it."""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conformance.languages import Language, built
from tests.conftest import StartServer
from tests.presence import state, until_state
from tests.relay import relay_to
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.typescript_process import CLIENT, post, script
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import SetThreadStateRequest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", autouse=True)
def built_client() -> None:
    built(Language("typescript"))


async def test_an_agent_that_an_operator_registered_calls_with_its_token(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--auth", "required")
    operator = server.db.with_name(f"{server.db.name}.operator-token").read_text("utf-8").strip()
    async with script(
        f"""
        const operator = new ThreadBus(address, {{ token: '{operator}' }});
        const token = 't'.repeat(40);
        await operator.call(AgentServiceService.registerAgent,
          RegisterAgentRequest.create({{ agent: thread, token }}));
        const agent = new ThreadBus(address, {{ token }});
        await agent.register(thread, token);
        await agent.join(thread);
        say(await agent.post(thread, 'hello'));
        say({{ refused: await bus.join(thread).catch(({{ reason }}) => reason) }});
        """,
        server.address,
        name,
    ) as client:
        assert (await client.line())["seq"] == 1
        assert await client.rest() == [{"refused": "TOKEN_INVALID"}]


async def test_breaking_out_of_a_wait_ends_it_at_the_server(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-open-waits", "1")
    async with script(
        """
        await bus.register(thread);
        const { cursor } = await bus.join(thread);
        const filter = { excludeOwn: false };
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
    await post(bus, thread, "one", "two")
    async with script(
        """
        const stop = new AbortController();
        const messages = bus.follow({ thread, afterSeq: 0 }, { signal: stop.signal });
        const { value } = await messages.next();
        stop.abort();
        say({ aborted: await messages.next().catch((error) => error.name) });
        const later = new AbortController();
        const waiting = bus.follow({ ...value, afterSeq: 2 }, { signal: later.signal }).next();
        later.abort();
        say({ aborted: await waiting.catch((error) => error.name) });
        const from = { thread, afterSeq: 2, epoch: value.epoch };
        for await (const { kind } of bus.follow(from)) say({ kind: MessageKind[kind] });
        say({ ended: true });
        """,
        server.address,
        thread,
    ) as client:
        assert await client.line() == {"aborted": "AbortError"}
        assert await client.line() == {"aborted": "AbortError"}
        await threads.SetThreadState(
            SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED)
        )
        assert await client.rest() == [{"kind": "MESSAGE_KIND_THREAD"}, {"ended": True}]


async def test_closing_the_client_ends_a_follow_and_rejects_a_call(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    await post(bus, thread, "one")
    async with script(
        """
        const messages = bus.follow({ thread, afterSeq: 0 });
        await messages.next();
        const following = messages.next();
        const posting = bus.post(thread, 'two');
        bus.close();
        say(await following);
        say({ rejected: await posting.catch(({ message }) => message) });
        say({ after: await bus.join(thread).catch(({ message }) => message) });
        """,
        server.address,
        thread,
    ) as client:
        assert await client.rest() == [
            {"done": True},
            {"rejected": "the client was closed"},
            {"after": "the client was closed"},
        ]


async def test_after_its_session_ended_no_background_call_brings_the_agent_back(
    server: ServerProcess, agents: AgentStub, thread: str, name: str
) -> None:
    async with (
        relay_to(server.address) as relay,
        script(
            f"""
            await bus.register('{name}');
            const {{ cursor }} = await bus.join(thread);
            const follow = async () => {{ for await (const _ of bus.follow(cursor)) {{}} }};
            const following = [follow(), follow(), follow()];
            say({{}});
            await told();
            const reading = bus.markRead(cursor);
            await bus.goodbye();
            await Promise.all([reading, ...following]);
            say({{ over: true }});
            """,
            relay.address,
            thread,
        ) as client,
    ):
        await client.line()
        await until_state(agents, name, "WAITING")
        relay.cut()  # the follows pause before they reconnect
        client.go_on()
        assert await client.rest() == [{"over": True}]
        assert await state(agents, name) == "OFFLINE"


async def test_a_post_is_retried_only_with_its_id_and_under_its_first_token(
    server: ServerProcess, thread: str
) -> None:
    async with script(
        """
        const attempts = [];
        const fake = new grpc.Server();
        fake.addService(AgentServiceService, { registerAgent: (_, answer) => answer(null, {}) });
        fake.addService(BusServiceService, {
          async postMessage({ metadata, request }, answer) {
            attempts.push({ token: metadata.get('authorization').join(), id: request.requestId });
            const first = attempts.length === 1;
            if (first) await client.register('later');
            answer({ code: first ? grpc.status.UNAVAILABLE : grpc.status.NOT_FOUND });
          },
        });
        const loopback = grpc.ServerCredentials.createInsecure();
        const port = await new Promise((resolve) =>
          fake.bindAsync('127.0.0.1:0', loopback, (_, bound) => resolve(bound)));
        const client = new ThreadBus(`127.0.0.1:${port}`);
        await client.post(thread, 'hello', { requestId: 'mine' }).catch(() => {});
        say({ attempts: attempts.splice(0) });
        const request = PostMessageRequest.create({ thread, content: 'hello' });
        const error = await client.call(BusServiceService.postMessage, request).catch((e) => e);
        say({ attempts: attempts.length, unknown: error.outcomeUnknown });
        client.close();
        fake.forceShutdown();
        """,
        server.address,
        thread,
    ) as client:
        attempt = {"token": "", "id": "mine"}
        assert await client.rest() == [
            {"attempts": [attempt, attempt]},
            {"attempts": 1, "unknown": True},
        ]


async def test_an_unknown_outcome_carries_the_request_id(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with script(
        """
        await bus.join(thread);
        say({});
        await told();
        const error = await bus.post(thread, 'one', {}, { timeout: 500 }).catch((e) => e);
        say({ unknown: error.outcomeUnknown, id: error.requestId.length });
        """,
        server.address,
        name,
    ) as client:
        await client.line()
        await asyncio.to_thread(server.kill)
        client.go_on()
        assert await client.rest() == [{"unknown": True, "id": 36}]


def test_a_program_with_a_misspelt_field_does_not_compile_and_the_readmes_does(
    tmp_path: Path,
) -> None:
    snippet = "".join(re.findall(r"^```ts\n(.*?)^```$", _readme(), re.MULTILINE | re.DOTALL))
    (tmp_path / "readme.ts").write_text(f"declare const token: string;\n{snippet}", "utf-8")
    (tmp_path / "misspelt.ts").write_text(
        "import { ThreadBus } from 'threadbus-client';\n"
        "await new ThreadBus('127.0.0.1:1').post('design', 'hello', { reply_to: 1 });\n",
        "utf-8",
    )
    (tmp_path / "package.json").write_text('{ "type": "module" }', "utf-8")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/threadbus-client").symlink_to(CLIENT)
    (tmp_path / "node_modules/@types").symlink_to(CLIENT / "node_modules/@types")
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"]
    compiled = subprocess.run(
        [CLIENT / "node_modules/.bin/tsc", *options, "readme.ts", "misspelt.ts"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    [error] = compiled.stdout.splitlines()
    assert error.startswith("misspelt.ts(2,")
    assert "'reply_to' does not exist" in error


def test_the_packages_are_pinned_and_no_registry_address_is_committed() -> None:
    package = json.loads((CLIENT / "package.json").read_text("utf-8"))
    pinned = package["dependencies"] | package["devDependencies"]
    assert all(version.startswith("=") for version in pinned.values())
    assert not list(CLIENT.glob("*lock*")), "a lock file names where packages were loaded from"


def _readme() -> str:
    return (CLIENT / "README.md").read_text("utf-8")
