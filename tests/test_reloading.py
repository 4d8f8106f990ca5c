"""SIGHUP with --config: settings that change while the server runs, and those that do not."""

import json
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.settings import declared
from tests.callers import Caller, register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.locks import commit_lock_held
from tests.open_wait import open_wait
from tests.polling import until, until_known
from tests.post_stream import post_stream, reason
from tests.raw_connection import RawConnection
from tests.refusals import refused
from tests.retention import post as post_many
from tests.retention import read, shorten, until_first
from tests.serving import ServerProcess
from threadbus.v1.admin_service_pb2 import GetStatusRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    HeartbeatRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, DeleteThreadRequest

pytestmark = pytest.mark.slow

KEY = "ghp_" + "aB3" * 12
#: The tests of this module, by the settings that they change.
COVERED = {
    *("posts_per_minute", "threads_per_caller", "agents_per_caller", "thread_rights"),
    *("heartbeat_interval", "drain_timeout", "max_content_bytes", "max_open_waits"),
    *("max_anonymous_waits", "request_timeout", "refuse_secrets", "log_level", "log_format"),
    *("retain_age", "retain_messages", "retain_bytes"),
}


@dataclass
class Reloadable:
    """A server with a file of settings."""

    server: ServerProcess
    file: Path

    async def reload(self, text: str = "", *, until_logged: str = "settings reloaded: ") -> str:
        """Change the file, and reload it. Returns the line that says so."""
        self.file.write_text(text)
        return await self.again(until_logged)

    async def again(self, text: str = "settings reloaded: ") -> str:
        """Reload the file. Returns the new line of the log that has a text."""
        before = len(self._lines(text))
        self.server.signal(signal.SIGHUP)
        await until(lambda: len(self._lines(text)) > before)
        return self._lines(text)[-1]

    def _lines(self, text: str) -> list[str]:
        return [line for line in self.server.log if text in line]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[Reloadable]:
    """The server of all tests here that do not end it."""
    folder = tmp_path_factory.mktemp("reloading")
    file, flags = folder / "threadbus.toml", ("--max-streams", "900")
    file.write_text("")
    with ServerProcess(folder / "bus.db", "--config", str(file), *flags) as server:
        yield Reloadable(server, file)
        assert server.stop() == 0


@pytest.fixture
async def reloadable(running: Reloadable) -> AsyncIterator[Reloadable]:
    """The same, with an empty file."""
    await running.reload()
    yield running


@pytest.fixture
async def client(reloadable: Reloadable) -> AsyncIterator[Connection]:
    async with connected(reloadable.server.address) as opened:
        yield opened


@pytest.fixture
async def ann(client: Connection, name: str) -> Caller:
    return await register(client.agents, f"ann-{name}")


@pytest.fixture
async def thread(client: Connection, ann: Caller, name: str) -> str:
    """A thread of ann's."""
    request = CreateThreadRequest(thread=name)
    await client.threads.CreateThread(request, metadata=ann.metadata)
    return name


def test_each_reloadable_setting_has_a_test() -> None:
    assert {each.name for each in declared() if each.reloadable} == COVERED


async def test_posts_are_limited_also_in_open_streams(
    reloadable: Reloadable, client: Connection, ann: Caller, thread: str
) -> None:
    post = PostMessageRequest(thread=thread, content="x")
    async with post_stream(client.bus, metadata=ann.metadata) as stream:
        assert [reason(result) for result in await stream.post(*[post] * 4)] == [""] * 4
        await reloadable.reload("posts-per-minute = 2")
        results = await stream.post(*[post] * 3)
        assert [reason(result) for result in results] == ["", "", "RATE_LIMITED"]
        refusal = await refused(client.bus.PostMessage(post, metadata=ann.metadata))
        assert refusal.reason == "RATE_LIMITED"
        await reloadable.reload("posts-per-minute = 2\nmax-open-waits = 5")  # counts go on
        assert [reason(result) for result in await stream.post(post)] == ["RATE_LIMITED"]
        await reloadable.reload()
        assert [reason(result) for result in await stream.post(post)] == [""]


async def test_new_threads_and_agents_are_limited(
    reloadable: Reloadable, client: Connection, ann: Caller, name: str
) -> None:
    await reloadable.reload("threads-per-caller = 1\nagents-per-caller = 1")
    threads = [CreateThreadRequest(thread=f"{name}-{n}") for n in range(2)]
    await client.threads.CreateThread(threads[0], metadata=ann.metadata)
    refusal = await refused(client.threads.CreateThread(threads[1], metadata=ann.metadata))
    assert refusal.reason == "QUOTA_EXCEEDED"
    await register(client.agents, f"bob-{name}")
    refusal = await refused(register(client.agents, f"cat-{name}"))
    assert refusal.reason == "QUOTA_EXCEEDED"


async def test_who_may_change_a_thread(
    reloadable: Reloadable, client: Connection, thread: str
) -> None:
    bob = await register(client.agents, f"bob-{thread}")
    delete = DeleteThreadRequest(thread=thread)
    refusal = await refused(client.threads.DeleteThread(delete, metadata=bob.metadata))
    assert refusal.reason == "ACCESS_DENIED"
    await reloadable.reload("thread-rights = 'everyone'")
    info = await client.bus.GetServerInfo(GetServerInfoRequest())
    assert info.thread_rights == "everyone"
    await client.threads.DeleteThread(delete, metadata=bob.metadata)


async def test_the_interval_of_heartbeats(
    reloadable: Reloadable, client: Connection, ann: Caller
) -> None:
    await reloadable.reload("heartbeat-interval = 11")
    answer = await client.bus.Heartbeat(HeartbeatRequest(), metadata=ann.metadata)
    assert answer.heartbeat_interval.seconds == 11


async def test_contents_are_limited_and_searched(
    reloadable: Reloadable, client: Connection, thread: str
) -> None:
    small, large = (PostMessageRequest(thread=thread, content="x" * n) for n in (9, 11))
    key = PostMessageRequest(thread=thread, content=KEY)
    for post in (small, large, key):
        await client.bus.PostMessage(post)
    await reloadable.reload("max-content-bytes = 10")
    await client.bus.PostMessage(small)
    assert (await refused(client.bus.PostMessage(large))).reason == "MESSAGE_TOO_LARGE"
    await reloadable.reload("refuse-secrets = true")
    await client.bus.PostMessage(large)
    assert (await refused(client.bus.PostMessage(key))).reason == "CONTENT_BLOCKED"
    topic = CreateThreadRequest(thread=f"{thread}-2", topic=KEY)
    assert (await refused(client.threads.CreateThread(topic))).reason == "CONTENT_BLOCKED"


async def test_waits_are_limited_and_open_ones_go_on(
    reloadable: Reloadable, client: Connection, ann: Caller, thread: str
) -> None:
    async with open_wait(client.bus, thread) as first, open_wait(client.bus, thread) as second:
        await first.until_started()
        await second.until_started()
        await reloadable.reload("max-anonymous-waits = 2\nmax-open-waits = 1")
        request = WaitMessagesRequest(threads=[Cursor(thread=thread)], max_messages=1)
        refusal = await refused(client.bus.WaitMessages(request))
        assert refusal.reason == "QUOTA_EXCEEDED"
        own: Any = client.bus.WaitMessages(request, metadata=ann.metadata)
        await own.read()
        refusal = await refused(client.bus.WaitMessages(request, metadata=ann.metadata))
        assert refusal.reason == "QUOTA_EXCEEDED"
        await client.bus.PostMessage(PostMessageRequest(thread=thread, content="x"))
        for wait in (first, second):
            await wait.until(lambda wait=wait: wait.seqs(thread) == [1])  # type: ignore[misc]
        own.cancel()


async def test_how_long_a_request_may_take(reloadable: Reloadable, client: Connection) -> None:
    await client.bus.GetServerInfo(GetServerInfoRequest())  # which has the longer time
    await reloadable.reload("request-timeout = 0.2")
    async with RawConnection(reloadable.server.address) as connection:
        path = "/threadbus.v1.BusService/PostMessage"
        stream = connection.begin(path, b"", announced=100)
        await until(lambda: stream in connection.answered, within=10)
    info = await client.bus.GetServerInfo(GetServerInfoRequest())
    assert info.limits.request_timeout.ToMilliseconds() == 200


async def test_how_long_entries_are_kept(
    reloadable: Reloadable, client: Connection, thread: str
) -> None:
    async def reload(text: str, **expected: Any) -> None:
        await reloadable.reload(text)
        info = await client.bus.GetServerInfo(GetServerInfoRequest())
        assert info.default_retention == Retention(**expected)

    await post_many(client.bus, thread, 10)
    await reload("retain-messages = 4", max_messages=4)
    await until_first(client.threads, thread, 7)
    await post_many(client.bus, thread, 1, "x" * 100_000)
    await reload("retain-bytes = 100_000", max_bytes=100_000)
    await until_first(client.threads, thread, 11)
    await reload("retain-age = 0.000001", max_age=Duration(nanos=1_000))
    await until_first(client.threads, thread, 12)
    await reload("")
    await post_many(client.bus, thread, 2)
    await shorten(client.bus, client.threads, f"{thread}-other", first=2, head=3)
    assert (await read(client.threads, thread)).first_seq == 12  # all threads were looked at


async def test_what_is_logged_and_in_which_format(
    reloadable: Reloadable, client: Connection, name: str
) -> None:
    def calls() -> list[str]:
        return [line for line in reloadable.server.log if "GetServerInfo" in line]

    before = len(calls())
    await client.bus.GetServerInfo(GetServerInfoRequest())
    line = await reloadable.reload(
        "log-level = 'debug'\nlog-format = 'json'", until_logged="settings_reloaded"
    )
    assert len(calls()) == before
    assert json.loads(line)["changed"] == {"log-level": "debug", "log-format": "json"}
    await client.bus.GetServerInfo(GetServerInfoRequest())
    await until(lambda: len(calls()) > before)
    assert json.loads(calls()[-1])["event"] == "call"
    # Logged, although the new level would not admit it.
    assert 'log-level = "error"' in await reloadable.reload("log-level = 'error'")


async def test_what_cannot_change_is_named_and_what_flags_set_does_not_change(
    reloadable: Reloadable, client: Connection
) -> None:
    pending = "take effect at the next start: "
    text = "auth = 'required'\nmax-queued-posts = 7\nmax-streams = 5\nmax-open-waits = 9"
    line = await reloadable.reload(text, until_logged=pending)
    assert line.partition(pending)[2].strip() == "auth, max-queued-posts"
    info = await client.bus.GetServerInfo(GetServerInfoRequest())
    assert (info.auth, info.limits.max_streams, info.limits.max_open_waits) == ("open", 900, 9)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("max-open-waits = 9\nmax-content-bytes = 'big'", ", line 2: max-content-bytes is "),
        ("max-open-waits = 9\nheartbeat-interval = 59", "more than two thirds of --agent-timeout"),
        ("max-open-waits = ", "is not valid TOML"),
    ],
)
async def test_a_file_that_is_not_valid_changes_nothing(
    reloadable: Reloadable, client: Connection, text: str, error: str
) -> None:
    await reloadable.reload("max-open-waits = 8")
    line = await reloadable.reload(text, until_logged="the server goes on with the settings")
    assert " ERROR " in line
    assert error in line
    info = await client.bus.GetServerInfo(GetServerInfoRequest())
    assert info.limits.max_open_waits == 8


async def test_a_file_that_is_gone_changes_nothing(
    reloadable: Reloadable, client: Connection
) -> None:
    reloadable.file.unlink()
    assert "cannot read" in await reloadable.again("the server goes on with the settings")
    await client.bus.GetServerInfo(GetServerInfoRequest())


@pytest.mark.sqlite
async def test_the_time_to_drain(start_server: StartServer, tmp_path: Path, name: str) -> None:
    file = tmp_path / "threadbus.toml"
    file.write_text("")
    server = start_server("--config", str(file))
    await Reloadable(server, file).reload("drain-timeout = 0.2")
    async with connected(server.address, name) as client:
        with commit_lock_held(server.db):
            post: Any = client.bus.PostMessage(PostMessageRequest(thread=name, content="x"))

            async def is_queued() -> bool:
                return (await admin.GetStatus(GetStatusRequest())).queued_posts == 1

            admin = AdminServiceStub(client.channel)
            await until_known(is_queued)
            assert not post.done()
            server.signal(signal.SIGTERM)
            assert server.process is not None
            assert server.process.wait(20) == 1
    server.kill()
    assert any("stopping after 0.2 s (--drain-timeout)" in line for line in server.log)


async def test_under_nohup_the_file_is_reloaded_and_the_audit_log_opened_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    file, audit = tmp_path / "threadbus.toml", tmp_path / "audit.jsonl"
    file.write_text(f"audit-log = '{audit}'")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; it is inherited
    try:
        server = start_server("--config", str(file), fresh=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    audit.rename(tmp_path / "audit.1")
    assert "none has changed" in await Reloadable(server, file).again()
    async with connected(server.address) as client:
        await register(client.agents, "ann")
    (line,) = audit.read_text().splitlines()
    assert json.loads(line)["about"] == "ann"
    assert server.stop() == 0
