"""--refuse-secrets: keys of well-known formats are refused wherever others would read them."""

import json
import random
import string
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import ContentBlocked
from bus_server.services.key_formats import RULES, refuse_keys
from tests.callers import operator, register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.post_stream import post_stream, reason
from tests.refusals import refused
from tests.serving import ServerProcess
from tests.test_conversations import FILE
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, PostMessageRequest
from threadbus.v1.message_pb2 import Attachment
from threadbus.v1.thread_pb2 import THREAD_STATE_UNSPECIFIED
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
    UpdateThreadRequest,
)

_RANDOM = random.Random(7)  # noqa: S311 - these need not be secret
_UPPER, _HEX = string.ascii_uppercase + "234567", "0123456789abcdef"
_ALNUM = string.ascii_letters + string.digits
_URL = f"{_ALNUM}-_"


def some(length: int, alphabet: str = _ALNUM) -> str:
    """Returns random characters: no key in this file is one of anybody's."""
    return "".join(_RANDOM.choices(alphabet, k=length))


def block(kind: str, first: str = "", line: str = "\n") -> str:
    """Returns a private key in text form. `line`: how its lines end."""
    lines = [f"-----BEGIN {kind}-----", *([first, ""] if first else []), some(64), some(64)]
    return line.join([*lines, f"-----END {kind}-----"])


#: Keys that are none, but look like one, by rule.
KEYS = [
    ("aws-access-key-id", "AKIA" + some(16, _UPPER)),
    ("aws-access-key-id", "ASIA" + some(16, _UPPER)),
    *(("github-token", f"gh{kind}_" + some(36)) for kind in "pousr"),
    ("github-token", f"github_pat_{some(22)}_{some(59)}"),
    ("gitlab-token", "glpat-" + some(20, _URL)),
    ("gitlab-token", "glrt-" + some(27, _URL)),
    ("slack-token", f"xoxb-{some(12, string.digits)}-{some(13, string.digits)}-{some(24)}"),
    ("slack-token", f"xapp-1-A{some(10, _UPPER)}-{some(13, string.digits)}-{some(64, _HEX)}"),
    ("slack-token", f"xoxe-1-{some(146)}"),
    ("slack-webhook", f"https://hooks.slack.com/services/T{'A' * 8}/B{'B' * 10}/{some(24)}"),
    ("stripe-key", "sk_live_" + some(24)),
    ("stripe-key", "rk_live_" + some(99)),
    ("google-api-key", "AIza" + some(35, _URL)),
    ("google-oauth-client-secret", "GOCSPX-" + some(28, _URL)),
    ("openai-key", f"sk-{some(20)}T3BlbkFJ{some(20)}"),
    ("openai-key", f"sk-proj-{some(74, _URL)}T3BlbkFJ{some(74, _URL)}"),
    ("anthropic-key", f"sk-ant-api03-{some(93, _URL)}AA"),
    ("huggingface-token", "hf_" + some(34)),
    ("npm-token", "npm_" + some(36)),
    ("pypi-token", "pypi-AgEIcHlwaS5vcmc" + some(160, _URL)),
    ("docker-hub-token", "dckr_pat_" + some(27, _URL)),
    ("digitalocean-token", "dop_v1_" + some(64, _HEX)),
    ("sendgrid-key", f"SG.{some(22)}.{some(43)}"),
    ("azure-storage-key", f"AccountName=x;AccountKey={some(86)}==;EndpointSuffix=core"),
    ("private-key", block("PRIVATE KEY")),
    ("private-key", block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED")),
    ("private-key", block("EC PRIVATE KEY", line="\r\n")),
    ("private-key", json.dumps(block("PRIVATE KEY"))),
    ("private-key", block("OPENSSH PRIVATE KEY", line="\n    ")),
    ("private-key", block("OPENSSH PRIVATE KEY", line='\\n"\n  "')),
    ("private-key", block("PGP PRIVATE KEY BLOCK", "Version: GnuPG v2")),
]
KEY = "ghp_" + some(36)

#: What people and agents write about keys.
HARMLESS = [
    "AKIAIOSFODNN7EXAMPLE is the key in AWS's documentation",
    "export GITHUB_TOKEN=ghp_… and OPENAI_API_KEY=sk-...",
    f"ghp_{'x' * 36}, sk-proj-{'X' * 48} and npm_{'0' * 36} are placeholders",
    "sk-proj-YOUR-KEY-HERE or xoxb-your-token",
    "use `-----BEGIN PRIVATE KEY-----` and `-----END PRIVATE KEY-----` around it",
    "-----BEGIN PUBLIC KEY-----\n" + some(64) + "\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\n" + some(64),
    "the whole desk-" + some(60) + " of task-" + some(60),
    f"x{KEY} and XAKIA{some(16, _UPPER)} are parts of longer words",
    "sk_test_" + some(24),
    "commit 9f2c1a7e5b3d8f60412c7a9be3d5f81a2b4c6d8e, request 0190b5a2-7c3d-7e4f-8a9b-0c1d2e3f4a5b",
    some(4_000, _ALNUM + "+/"),
    some(4_000, _HEX),
]


@pytest.fixture
def guarded(start_server: StartServer) -> ServerProcess:
    """A server that refuses secrets."""
    return start_server("--refuse-secrets")


@pytest.fixture
async def client(guarded: ServerProcess, name: str) -> AsyncIterator[Connection]:
    """A connection to it. The thread `name` exists."""
    async with connected(guarded.address, name) as opened:
        yield opened


async def contents(client: Connection, thread: str) -> list[str]:
    listed = await client.bus.ListMessages(ListMessagesRequest(thread=thread, limit=1_000))
    return [message.content for message in listed.messages]


def test_every_rule_has_a_key_that_it_finds() -> None:
    assert {rule for rule, _ in KEYS} == RULES


async def test_keys_are_refused_by_rule_wherever_they_stand(client: Connection, name: str) -> None:
    frames = ("{}", 'token = "{}"', "first line\n{}\nlast line", "é漢{}😀", "{},{}")
    texts = [(rule, frame.format(key, key)) for rule, key in KEYS for frame in frames]
    posts = [PostMessageRequest(thread=name, content=text) for _, text in texts]
    async with post_stream(client.bus) as stream:
        results = await stream.post(*posts)
        await stream.done()
    for (rule, text), result in zip(texts, results, strict=True):
        assert reason(result) == "CONTENT_BLOCKED", text
        assert f"({rule})" in result.status.message
    assert await contents(client, name) == []


async def test_text_about_keys_is_stored(client: Connection, name: str) -> None:
    async with post_stream(client.bus) as stream:
        results = await stream.post(
            *(PostMessageRequest(thread=name, content=text) for text in HARMLESS)
        )
    assert [reason(result) for result in results] == [""] * len(HARMLESS)
    assert await contents(client, name) == HARMLESS


Place = Callable[[Connection, str, str], Awaitable[object]]


def _post(**fields: object) -> Place:
    def call(client: Connection, thread: str, _: str) -> Awaitable[object]:
        request = PostMessageRequest(thread=thread, **{"content": "x", **fields})  # type: ignore[arg-type]
        return client.bus.PostMessage(request)

    return call


def _update(path: str, **fields: object) -> Place:
    def call(client: Connection, thread: str, _: str) -> Awaitable[object]:
        request = UpdateThreadRequest(
            thread=thread,
            update_mask=FieldMask(paths=[path]),
            **fields,  # type: ignore[arg-type]
        )
        return client.threads.UpdateThread(request)

    return call


#: Every field that is looked at, with a call that has a key in it.
PLACES: list[tuple[str, Place]] = [
    ("content", _post(content=KEY)),
    ("content", _post(content=KEY, request_id="7")),
    ("content", _post(content=KEY, labels={"a": "b"})),
    ("content", _post(content=f"new text {KEY}", edit_of=1)),
    ("labels", _post(labels={"a": KEY})),
    ("labels", _post(labels={KEY: "a"})),
    ("attachments[0].filename", _post(attachments=[Attachment(filename=KEY, raw=b"x")])),
    ("attachments[0].url", _post(attachments=[Attachment(url=f"https://x.org/?t={KEY}")])),
    (
        "attachments[1].raw",
        _post(attachments=[Attachment(raw=b"x"), Attachment(raw=b"\0\xff\n" + KEY.encode())]),
    ),
    (
        "topic",
        lambda client, _, new: client.threads.CreateThread(
            CreateThreadRequest(thread=new, topic=KEY)
        ),
    ),
    (
        "labels",
        lambda client, _, new: client.threads.CreateThread(
            CreateThreadRequest(thread=new, labels={"a": KEY})
        ),
    ),
    (
        "topic",
        lambda client, _, new: client.threads.JoinThread(
            JoinThreadRequest(thread=new, topic=KEY, create=True)
        ),
    ),
    ("topic", _update("topic", topic=KEY)),
    ("stage", _update("stage", stage=KEY)),
    ("labels", _update("labels", labels={"a": KEY})),
]


@pytest.mark.parametrize(("field", "call"), PLACES)
async def test_a_key_is_refused_in_every_field_that_others_read(
    client: Connection, guarded: ServerProcess, name: str, field: str, call: Place
) -> None:
    before = await client.threads.GetThread(GetThreadRequest(thread=name))
    refusal = await refused(call(client, name, f"{name}-new"))
    assert (refusal.reason, refusal.metadata) == ("CONTENT_BLOCKED", {"rule": "github-token"})
    assert refusal.fields == [field]
    assert refusal.message.startswith(f"{field} contains")
    assert refusal.details == ["ErrorInfo", "BadRequest"]
    # Nothing was stored, and no part of the key is returned or logged.
    listed = await client.threads.ListThreads(ListThreadsRequest(states=[THREAD_STATE_UNSPECIFIED]))
    assert list(listed.threads) == [before.thread]
    told = [str(refusal), *guarded.log]
    assert not [line for line in told for at in range(4, 36) if KEY[at : at + 4] in line]


async def test_operators_are_refused_as_well(
    client: Connection, guarded: ServerProcess, name: str
) -> None:
    request = PostMessageRequest(thread=name, content=KEY, on_behalf_of="coder")
    refusal = await refused(client.bus.PostMessage(request, metadata=operator(guarded).metadata))
    assert refusal.reason == "CONTENT_BLOCKED"


async def test_an_edit_that_adds_a_key_is_refused(client: Connection, name: str) -> None:
    agent = await register(client.agents, name)
    first = PostMessageRequest(thread=name, content="x")
    await client.bus.PostMessage(first, metadata=agent.metadata)
    edit = PostMessageRequest(thread=name, content=f"x {KEY}", edit_of=1)
    refusal = await refused(client.bus.PostMessage(edit, metadata=agent.metadata))
    assert refusal.reason == "CONTENT_BLOCKED"
    assert await contents(client, name) == ["x"]


async def test_a_refused_post_of_a_batch_stops_no_other(client: Connection, name: str) -> None:
    posts = [PostMessageRequest(thread=name, content=text) for text in ("one", KEY, "two")]
    async with post_stream(client.bus) as stream:
        results = await stream.post(*posts)
    assert [reason(result) for result in results] == ["", "CONTENT_BLOCKED", ""]
    assert await contents(client, name) == ["one", "two"]


async def test_the_debug_log_has_nothing_of_a_refused_post(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--refuse-secrets", "--log-level", "debug")
    async with connected(server.address, name) as client:
        await refused(client.bus.PostMessage(PostMessageRequest(thread=name, content=KEY)))
    assert server.stop() == 0
    assert any("CONTENT_BLOCKED" in line for line in server.log)
    assert not [line for line in server.log if KEY[4:12] in line]


async def test_by_default_nothing_is_looked_at(server: ServerProcess, name: str) -> None:
    async with connected(server.address, name) as client:
        await client.bus.PostMessage(PostMessageRequest(thread=name, content=KEY))
        assert await contents(client, name) == [KEY]


@pytest.mark.parametrize(
    "part",
    [
        *("a", "-", "_", "AKIA", "ghs_", "ghs_" + "ab" * 17 + "!", "sk-", "sk-proj-!", "xoxb-1"),
        *("sk-" + "a" * 20 + "T3BlbkFJ", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----"),
        *("-----BEGIN PRIVATE KEY-----" + end * 40 for end in ("\\n", "-", "n", "\n", "a!")),
    ],
)
def test_no_text_takes_long(part: str) -> None:
    text = part * (1024 * 1024 // len(part))
    start = time.process_time()
    refuse_keys("content", text)
    assert time.process_time() - start < 1  # quadratic time would be minutes


@pytest.mark.skipif(not FILE.exists(), reason="no recorded conversations (THREADBUS_CONVERSATIONS)")
def test_real_conversations_have_nothing_that_is_refused() -> None:
    lines = FILE.read_text("utf-8").splitlines()
    assert lines
    for line in lines:
        try:
            refuse_keys("content", json.loads(line)["content"])
        except ContentBlocked as blocked:
            pytest.fail(f"{blocked}: {line[:200]}")
