"""`threadbus mcp` and lines that no client should write: each is answered as JSON-RPC says, and
harms no other.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.mcp.command import Command
from tests.mcp.pipes import Pipes, opened, request
from tests.serving import ServerProcess

_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_CALL = {"name": "bus_who", "arguments": {}}


def _nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def _raw(at: str, params: str = "{}") -> bytes:
    """A line with an id and params as they are written."""
    return f'{{"jsonrpc":"2.0","id":{at},"method":"ping","params":{params}}}'.encode()


#: Name → line, the id of its answer, and the code of its error.
_LINES: dict[str, tuple[bytes, Any, int]] = {
    "garbage": (b"what is this", None, _PARSE_ERROR),
    "half an object": (b'{"jsonrpc":"2.0","id":1,', None, _PARSE_ERROR),
    "bad UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', None, _PARSE_ERROR),
    "NUL bytes": (b"\0" * 64, None, _PARSE_ERROR),
    "a batch": (b"[" + request(1, "ping") + b"," + request(2, "ping") + b"]", None, -32600),
    "an empty batch": (b"[]", None, _INVALID_REQUEST),
    "a number": (b"7", None, _INVALID_REQUEST),
    "null": (b"null", None, _INVALID_REQUEST),
    "NaN as id": (_raw("NaN"), None, _INVALID_REQUEST),
    "null as id": (_raw("null"), None, _INVALID_REQUEST),
    "infinity as id": (_raw("1e400"), None, _INVALID_REQUEST),
    "a number of 5,000 digits as id": (_raw("9" * 5_000), None, _PARSE_ERROR),
    "a number of 5,000 digits": (_raw("1", f'{{"a":{"9" * 5_000}}}'), None, _PARSE_ERROR),
    "an object as id": (_raw('{"a":1}'), None, _INVALID_REQUEST),
    "a list as id": (_raw("[1]"), None, _INVALID_REQUEST),
    "true as id": (_raw("true"), None, _INVALID_REQUEST),
    "no method": (b'{"jsonrpc":"2.0","id":1}', 1, _INVALID_REQUEST),
    "a number as method": (b'{"jsonrpc":"2.0","id":1,"method":5}', 1, _INVALID_REQUEST),
    "half a character as method": (request(1, "\ud800"), 1, _NO_METHOD),
    "an unknown method": (request(1, "resources/list"), 1, _NO_METHOD),
    "params a list": (request(1, "tools/call", [1]), 1, _INVALID_PARAMS),
    "params a string": (request(1, "tools/call", "bus_who"), 1, _INVALID_PARAMS),
    "params a list, of initialize": (request(1, "initialize", [1]), 1, _INVALID_PARAMS),
    "no name": (request(1, "tools/call", {"arguments": {}}), 1, _INVALID_PARAMS),
    "a list as name": (request(1, "tools/call", {"name": ["bus_who"]}), 1, _INVALID_PARAMS),
    "an unknown tool": (request(1, "tools/call", {"name": "bus_x"}), 1, _INVALID_PARAMS),
    "arguments a string": (
        request(1, "tools/call", _CALL | {"arguments": "{}"}),
        1,
        _INVALID_PARAMS,
    ),
    "_meta a string": (request(1, "tools/call", _CALL | {"_meta": "x"}), 1, _INVALID_PARAMS),
    "deep nesting": (b"[" * 100_000 + b"]" * 100_000, None, _PARSE_ERROR),
    "a deeply nested request": (_raw("1", _nested(100_000).decode()), None, _PARSE_ERROR),
    "9 MiB": (_raw("1", json.dumps({"a": "x" * (9 * 2**20)})), None, _INVALID_REQUEST),
}


@pytest.fixture(scope="module")
def pipes(
    shared_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipes]:
    """A bridge that outlives all of them."""
    home = tmp_path_factory.mktemp("hostile")
    with opened(Command(shared_server.address, f"hostile-{uuid.uuid4().hex[:8]}", home)) as running:
        yield running
        assert running.end() == 0
        assert running.stderr == b""


@pytest.mark.parametrize("line", list(_LINES))
def test_a_line_that_is_no_proper_request_has_one_answer(pipes: Pipes, line: str) -> None:
    written, at, code = _LINES[line]
    before = len(pipes.answers(at))
    pipes.write(written)
    pipes.until(lambda: len(pipes.answers(at)) > before)
    error = pipes.answers(at)[-1]["error"]
    assert (error["code"], type(error["message"])) == (code, str)
    pipes.works()
    assert len(pipes.answers(at)) == before + 1


_CANCELLATIONS = [
    *("[1]", "7", "null", "{}"),
    *(f'{{"requestId":{at}}}' for at in ("{}", "[]", "true", "1e400", "987654", '"unknown"')),
]

#: What has no answer: notifications, whatever they hold, responses, and empty lines.
_SILENT: dict[str, bytes] = {
    "an empty line": b"",
    "blanks": b" \t \r",
    "an unknown notification": b'{"jsonrpc":"2.0","method":"notifications/x","params":{"a":1}}',
    "a notification whose params are a list": b'{"jsonrpc":"2.0","method":"a","params":[1]}',
    "an error for an unknown request": (
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"x"}}'
    ),
    "a result": b'{"jsonrpc":"2.0","id":1,"result":{}}',
    "an error": b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}',
    **{
        f"a cancellation with {params}": (
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":'
            + params.encode()
            + b"}"
        )
        for params in _CANCELLATIONS
    },
}


@pytest.mark.parametrize("line", list(_SILENT))
def test_a_line_that_wants_no_answer_has_none(pipes: Pipes, line: str) -> None:
    before = [len(pipes.answers(at)) for at in (1, None)]
    pipes.write(_SILENT[line])
    pipes.works()
    assert [len(pipes.answers(at)) for at in (1, None)] == before


#: Tool, arguments that are hardly meant so, and what the model is told about.
_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("bus_post", {"text": ["a"]}, "text"),
    ("bus_post", {"text": "a", "\ud800": 1}, "argument"),
    ("bus_post", {"text": "a", "mentions": ["\ud800"]}, "mentions"),
    ("bus_post", {"text": "a", "reply_to": 10**400}, "reply_to"),
    ("bus_post", {"text": "a", "reply_to": "9" * 5_000}, "reply_to"),
    ("bus_post", {"text": "a", "priority": []}, "priority"),
    ("bus_post", {"text": "a", "thread": "../x"}, "thread"),
    ("bus_post", {"text": "a", "thread": "a\0b"}, "thread"),
    ("bus_wait", {"timeout_s": 10**400}, "timeout_s"),
    ("bus_wait", {"timeout_s": float("nan")}, "timeout_s"),
    ("bus_join", {"thread": "a" * 1_000_000}, "thread"),
    ("bus_who", {"thread": json.loads(_nested(400))}, "thread"),
]


@pytest.mark.parametrize(
    ("tool", "arguments", "named"), _ARGUMENTS, ids=lambda each: str(each)[:40]
)
def test_arguments_that_cannot_be_are_explained_to_the_model(
    pipes: Pipes, thread: str, tool: str, arguments: dict[str, Any], named: str
) -> None:
    pipes.text("bus_join", thread=thread)
    result = pipes.call(tool, **arguments)
    (block,) = result["content"]
    assert (result["isError"], block["type"]) == (True, "text")
    assert named in block["text"].lower()
    assert len(block["text"]) < 1_000
    pipes.works()
