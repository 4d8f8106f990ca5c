"""docs/proxies.md: with its configurations, real proxies do what the page says."""

import asyncio
import http.client
import json
import re
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, ThreadNotFound
from tests.callers import register
from tests.client_process import waiting_client
from tests.conftest import StartServer
from tests.connections import connected
from tests.files import file
from tests.open_wait import admitted, open_wait, wait_request
from tests.polling import until_known
from tests.post_stream import post_stream, seqs
from tests.proxies import PAGE, envoy, nginx
from tests.refusals import refused
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessageResponse

pytestmark = pytest.mark.slow

Proxy = Callable[..., AbstractContextManager[str]]


@pytest.fixture(params=[nginx, envoy], ids=["nginx", "envoy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    found: Proxy = request.param
    return found


@pytest.fixture
def through_envoy(server: ServerProcess, tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    with envoy(server.address, tmp_path) as address:
        connection = http.client.HTTPConnection(address, timeout=20)
        yield connection
        connection.close()


async def test_the_sdk_works_through_the_proxy(
    proxy: Proxy, server: ServerProcess, tmp_path: Path, name: str
) -> None:
    with proxy(server.address, tmp_path) as address:
        credentials = tmp_path / "credentials.json"
        async with (
            BusClient(address, agent=f"{name}-a", credentials=credentials) as writer,
            BusClient(address, agent=f"{name}-b", credentials=credentials) as reader,
        ):
            writing, reading = await writer.join(name), await reader.join(name)
            waiting = asyncio.create_task(reading.wait(timeout=20))
            large = file(b"x" * 2_500_000, filename="a")
            await writing.post("hello", attachments=[large])
            (message,) = await waiting
            assert (message.content, message.attachments[0]) == ("hello", large)
            with pytest.raises(ThreadNotFound):
                await writer.get_thread(f"{name}-nothing")


async def test_a_stream_of_posts_may_be_of_any_length(
    proxy: Proxy, server: ServerProcess, tmp_path: Path, name: str
) -> None:
    with proxy(server.address, tmp_path) as address:
        async with connected(address, name) as there, post_stream(there.bus) as stream:
            post = PostMessageRequest(thread=name, content="x" * 1_000_000)
            for batch in range(4):  # 12 MB
                assert seqs(await stream.post(post, post, post))[-1] == 3 * (batch + 1)
            await stream.done()


async def test_with_default_limits_nginx_ends_large_and_idle_streams(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    changes = {"client_max_body_size 0": "client_max_body_size 4m", "1h": "1s"}
    with nginx(server.address, tmp_path, changes) as address:
        async with connected(address, name) as there:
            async with post_stream(there.bus) as stream:
                post = PostMessageRequest(thread=name, content="x" * 1_000_000)
                with pytest.raises(grpc.aio.AioRpcError):
                    for _ in range(4):
                        await stream.post(post, post, post)
            async with open_wait(there.bus, f"{name}", keepalive=300) as wait:
                await refused(wait.ended())


@pytest.mark.parametrize(
    "changes",
    [{"timeout: 0s }": "timeout: 1s }"}, {"stream_idle_timeout: 0s": "stream_idle_timeout: 1s"}],
)
async def test_with_default_limits_envoy_ends_waits(
    server: ServerProcess, tmp_path: Path, name: str, changes: dict[str, str]
) -> None:
    with envoy(server.address, tmp_path, changes) as address:
        async with (
            connected(address, name) as there,
            open_wait(there.bus, name, keepalive=300) as wait,
        ):
            await refused(wait.ended())


async def test_waits_outlast_envoys_timeout_for_other_calls(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    with envoy(server.address, tmp_path, {"timeout: 60s": "timeout: 0.5s"}) as address:
        async with (
            connected(address, name) as there,
            open_wait(there.bus, name, keepalive=1) as wait,
        ):
            await wait.until(lambda: wait.kinds().count("keepalive") == 2)
            await there.bus.PostMessage(PostMessageRequest(thread=name, content="at last"))
            await wait.until(lambda: wait.seqs(name) == [1])


async def test_envoy_takes_as_many_calls_as_configured(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    with envoy(server.address, tmp_path, {"max_requests: 100000": "max_requests: 2"}) as address:
        async with (
            connected(address, name) as there,
            open_wait(there.bus, name),
            open_wait(there.bus, name),
        ):
            refusal = await refused(there.bus.WaitMessages(wait_request([name])))
            assert refusal.code is grpc.StatusCode.UNAVAILABLE


async def test_envoy_detects_dead_clients(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server = start_server("--max-open-waits", "1")
    changes = {"interval: 30s, timeout: 10s": "interval: 0.2s, timeout: 0.5s"}
    with envoy(server.address, tmp_path, changes) as address:
        async with connected(server.address, name) as direct:
            agent = await register(direct.agents, name)
            with waiting_client(address, name, agent.token) as process:
                assert not await admitted(direct.bus, agent, name)
                process.send_signal(signal.SIGSTOP)
                await until_known(lambda: admitted(direct.bus, agent, name))


def post(connection: http.client.HTTPConnection, path: str, body: str) -> tuple[int, str]:
    """What `curl -d` does. Returns the HTTP status and the body."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_the_pages_http_calls_succeed(through_envoy: http.client.HTTPConnection, name: str) -> None:
    calls = re.findall(r"^\$ curl -\w+ http://127.0.0.1:7430(\S+) -d '(.*)'$", PAGE, re.MULTILINE)
    joined, posted, waited = (
        post(through_envoy, path, body.replace('"web"', f'"{name}"')) for path, body in calls
    )
    assert (joined[0], posted[0], waited[0]) == (200, 200, 200)
    assert json.loads(joined[1])["cursor"]["thread"] == name
    assert json.loads(posted[1])["seq"] == "1"
    kinds = [next(iter(json.loads(frame))) for frame in waited[1].splitlines()]
    assert (kinds[0], kinds[-1]) == ("started", "ending")
    assert "messages" in kinds


def test_a_refusal_is_json_with_its_details(
    through_envoy: http.client.HTTPConnection, name: str
) -> None:
    path = "/threadbus.v1.BusService/PostMessage"
    status, body = post(through_envoy, path, json.dumps({"thread": name, "content": "x"}))
    error = json.loads(body)
    assert (status, error["code"]) == (404, grpc.StatusCode.NOT_FOUND.value[0])
    assert "THREAD_NOT_FOUND" in [detail.get("reason") for detail in error["details"]]


def test_a_browsers_grpc_web_works(through_envoy: http.client.HTTPConnection, name: str) -> None:
    join = json.dumps({"thread": name, "create": True})
    post(through_envoy, "/threadbus.v1.ThreadService/JoinThread", join)
    request = PostMessageRequest(thread=name, content="hello").SerializeToString()
    through_envoy.request(
        "POST",
        "/threadbus.v1.BusService/PostMessage",
        b"\0" + struct.pack(">I", len(request)) + request,
        {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    body = through_envoy.getresponse().read()
    (length,) = struct.unpack_from(">I", body, 1)
    assert PostMessageResponse.FromString(body[5 : 5 + length]).seq == 1
    assert b"grpc-status:0" in body[5 + length :]
