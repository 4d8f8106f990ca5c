"""The log: its formats, what it never contains, and that nobody can forge a line of it."""

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from bus_server import logs
from tests import serving
from tests.callers import Caller, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.doc_examples import page
from tests.locks import locked
from tests.polling import until
from tests.post_stream import post_stream
from tests.refusals import refused
from tests.serving import ServerProcess
from threadbus.v1.agent_service_pb2 import GetAgentRequest, UpdateAgentRequest
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import Attachment
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, GetThreadRequest

#: What must not be logged.
SECRET = "hush-hush"  # noqa: S105 - no password
#: The first line of each record in the text format.
LINE = re.compile(
    r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) \S+: "
)
FORGED = "x\n2026-01-01 00:00:00,000 INFO root: forged\r\x1b[2J\u2028\u202e\x00"


def objects(server: ServerProcess) -> list[dict[str, Any]]:
    """Returns what a server has logged in JSON. Every line must be an object."""
    return [json.loads(line) for line in server.log]


async def say_secrets(server: ServerProcess, thread: str) -> list[str]:
    """Send a secret in every text that others read. Returns the tokens that were used."""
    texts: dict[str, Any] = {"labels": {SECRET: SECRET}, "content": SECRET}
    file = Attachment(filename=SECRET, media_type="text/plain", raw=SECRET.encode())
    post = PostMessageRequest(thread=thread, attachments=[file], **texts)
    async with connected(server.address) as client:
        settings: dict[str, Any] = {"display_name": SECRET, "description": SECRET}
        ann = await register(client.agents, thread, labels={"x": SECRET}, **settings)
        unknown = Caller("nobody", SECRET * 4)
        await client.threads.CreateThread(
            CreateThreadRequest(thread=thread, topic=SECRET, labels={"x": SECRET}),
            metadata=ann.metadata,
        )
        await client.bus.PostMessage(post, metadata=ann.metadata)
        edit = PostMessageRequest(thread=thread, content=SECRET, edit_of=1)
        await client.bus.PostMessage(edit, metadata=ann.metadata)
        async with post_stream(client.bus, metadata=ann.metadata) as stream:
            await stream.post(post, edit, PostMessageRequest(thread=f"no-{thread}", content=SECRET))
        await client.bus.Heartbeat(HeartbeatRequest(status_text=SECRET), metadata=ann.metadata)
        await client.bus.ListMessages(ListMessagesRequest(thread=thread), metadata=ann.metadata)
        await refused(client.agents.GetAgent(GetAgentRequest(), metadata=unknown.metadata))
        await refused(client.agents.UpdateAgent(UpdateAgentRequest(description=SECRET)))
        await refused(client.threads.GetThread(GetThreadRequest(thread=SECRET + FORGED)))
        return [ann.token, unknown.token]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has servers run on each engine, whichever the other tests run on."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        monkeypatch.setattr(serving, "database_of", lambda _: url)
    else:
        monkeypatch.setattr(serving, "database_of", None)
    return str(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_no_content_and_no_token_is_logged_even_at_debug(
    start_server: StartServer, engine: str, log_format: str, name: str
) -> None:
    server = start_server("--log-level", "debug", "--log-format", log_format)
    tokens = await say_secrets(server, name)
    assert server.stop() == 0
    assert any("PostMessages" in line for line in server.log)
    assert any("sql: INSERT INTO message" in line for line in server.log) == (engine == "sqlite")
    assert not [line for line in server.log for each in (*tokens, SECRET) if each in line]
    if log_format == "text":
        assert [line for line in server.log if not LINE.match(line)] == []


@pytest.mark.slow
async def test_in_json_every_line_is_an_object_with_time_level_and_event(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--log-format", "json", "--log-level", "debug")
    async with connected(server.address) as client:
        ann = await register(client.agents, name)
        await client.threads.CreateThread(CreateThreadRequest(thread=name), metadata=ann.metadata)
        posts = [PostMessageRequest(thread=name, content=each) for each in "abc"]
        async with post_stream(client.bus, metadata=ann.metadata) as stream:
            await stream.post(*posts)
            await stream.post(*posts)
            await stream.done()
        await refused(client.threads.GetThread(GetThreadRequest(thread="nothing")))
        call: Any = client.channel.unary_unary(f"/threadbus.v1.BusService/{name}")
        await refused(call(b""))
    assert server.stop() == 0
    lines = objects(server)
    for line in lines:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["level"] in ("debug", "info", "warning")
        assert line.get("message") or line["event"]
    events = [line["event"] for line in lines if line["level"] == "info"]
    assert events == [
        *("starting", "server_started", "listening", "agent_registered", "draining", "stopped")
    ]
    started = next(line for line in lines if line.get("event") == "server_started")
    assert (started["logger"], started["thread_rights"]) == ("threadbus.audit", "owners")
    calls = {line["method"]: line for line in lines if line.get("event") == "call"}
    assert {each: calls["PostMessages"][each] for each in ("agent", "code", "reason")} == {
        "agent": name,
        "code": "OK",
        "reason": "",
    }
    assert calls["PostMessages"]["service"] == "threadbus.v1.BusService"
    assert (calls["PostMessages"]["requests"], calls["PostMessages"]["responses"]) == (2, 2)
    assert calls["CreateThread"]["request_bytes"] == 2 + len(name)
    assert calls["CreateThread"]["response_bytes"] > 2 + len(name)
    assert calls["GetThread"]["reason"] == "THREAD_NOT_FOUND"
    assert calls["GetThread"]["agent"] == "anonymous"
    assert calls["GetThread"]["peer"].startswith("127.0.0.1:")
    assert calls[""]["code"] == "UNIMPLEMENTED"
    assert not [line for line in lines if line.get("method") == name]


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_calls_that_the_server_fails_are_warnings_but_cannot_fill_the_log(
    start_server: StartServer, log_format: str, name: str
) -> None:
    server = start_server("--busy-timeout", "0", "--log-format", log_format)
    async with connected(server.address, name) as client:
        with locked(server.db):
            for _ in range(13):
                post = PostMessageRequest(thread=name, content=SECRET)
                assert (await refused(client.bus.PostMessage(post))).reason == "STORE_BUSY"
        await refused(client.threads.GetThread(GetThreadRequest(thread="nothing")))
    assert server.stop() == 0
    failed = [line for line in server.log if "STORE_BUSY" in line]
    assert len(failed) == 11
    assert "… and 3 more: STORE_BUSY" in failed[-1] or "\\u2026 and 3 more" in failed[-1]
    if log_format == "json":
        warnings = [line for line in objects(server) if line["level"] == "warning"]
        lines = [line for line in warnings if not line["event"].startswith("store_")]
        assert [line["event"] for line in lines] == ["call"] * 10 + ["calls_failed"]
        assert lines[-1]["count"] == 3
    assert not [line for line in server.log if "THREAD_NOT_FOUND" in line]


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
def test_in_json_a_server_that_cannot_start_says_so_in_an_object(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--log-format", "json", listen="nowhere")
    server.process = server.spawn()
    assert server._reap() == 1
    (starting, failed) = objects(server)
    assert (starting["event"], failed["event"], failed["level"]) == (
        *("starting", "failed", "critical"),
    )
    assert "--listen nowhere" in failed["message"]


def record(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("threadbus", logging.INFO, "", 1, message, args, info)


def raised(text: str) -> ValueError:
    """Returns an exception with a text, whose cause and context are others."""
    try:
        try:
            try:
                Path(FORGED.replace("\0", "")).stat()
            except OSError as error:
                raise KeyError(text) from error
        except KeyError:
            int(text)
    except ValueError as error:
        return error
    raise AssertionError


def test_no_text_makes_a_line_of_its_own() -> None:
    text = logs.Text().format(record("hello %s", FORGED))
    assert LINE.match(text)
    assert text.isprintable()
    assert r"x\n2026-01-01" in text
    line = logs.Json().format(record("hello %s", FORGED))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"hello {FORGED}"


@pytest.mark.parametrize("formatter", [logs.Text(), logs.Json()])
def test_tracebacks_do_not_quote_what_callers_sent(formatter: logging.Formatter) -> None:
    text = formatter.format(record("failed", error=raised(SECRET)))
    assert SECRET not in text
    if isinstance(formatter, logs.Json):
        text = json.loads(text)["traceback"]
    for told in ("KeyError", "ValueError", "FileNotFoundError: [Errno 2]", "in raised"):
        assert told in text
    assert all(line.isprintable() for line in text.splitlines())
    assert not [line for line in text.splitlines() if line.startswith("2026-01-01")]


def test_what_nothing_catches_is_logged_in_the_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    try:
        logs.set_up("warning", "json")
        error = raised(SECRET)
        sys.excepthook(ValueError, error, None)
        logging.getLogger("py.warnings").warning("old\n")
        logging.getLogger("x").error("%d posts", SECRET)
    finally:
        logging.captureWarnings(False)
        root.setLevel(root.level)
    uncaught, warning, unloggable = map(json.loads, capsys.readouterr().err.splitlines())
    assert (uncaught["level"], uncaught["message"]) == ("critical", "an exception was not caught")
    assert "ValueError" in uncaught["traceback"]
    assert warning["message"] == "old\n"
    assert "a record from test_logs.py:" in unloggable["message"]
    assert SECRET not in json.dumps(unloggable)


def test_the_docs_list_the_events() -> None:
    found = set[str]()
    for path in (Path(__file__).parents[1] / "bus_server").rglob("*.py"):
        text = path.read_text("utf-8")
        found |= set(re.findall(r'logs\.event\(\s*logger,\s*[\w.]+,\s*"(\w+)"', text))
        assert text.count("logs.event(") == len(
            re.findall(r'logs\.event\(\s*logger,\s*[\w.]+,\s*"\w+"', text)
        ), path
    logs_section = page("docs/operations.md").partition("\n## Logs\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `([a-z_]+)` \| [a-z ]+ \| .* \|", logs_section, re.MULTILINE)
    assert sorted(documented) == sorted(found)


async def test_a_call_that_is_not_for_this_server_is_not_logged_by_its_name(
    server: ServerProcess, name: str
) -> None:
    async with connected(server.address) as client:
        call: Any = client.channel.unary_unary(f"/other.Service/{name}")
        assert (await refused(call(b""))).code == grpc.StatusCode.UNIMPLEMENTED
        await until(lambda: bool(server.log))
    assert not [line for line in server.log if name in line]
