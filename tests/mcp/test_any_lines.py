"""`threadbus mcp` and any sequence of lines: it goes on, and each request has one answer."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus_client.cli.mcp.tools import TOOLS
from tests.mcp.command import Command
from tests.mcp.pipes import Pipes, opened, request

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]

_THREAD = "any-lines"

# Half characters and NUL are characters, too.
_texts = st.text(st.characters(exclude_categories=()), max_size=20)
_numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**400, 1e308]),
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
#: Few, for some to be used again while they are in use, or to be cancelled.
_ids = st.one_of(st.integers(0, 5), st.sampled_from(["0", "1", "\ud800", ""]))


def _line(document: Any) -> bytes:
    return json.dumps(document).encode()


def _argument(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of an argument: some may be meant so, others are of no type that it can have."""
    meant = {
        "string": st.sampled_from([_THREAD, "high", "to @all-of-you"]) | _texts,
        "array": st.lists(_texts, max_size=3),
        "boolean": st.booleans(),
    }
    return meant.get(schema["type"], _numbers) | _values


def _calls() -> st.SearchStrategy[bytes]:
    """Calls of the tools, some with proper arguments."""
    params = [
        st.fixed_dictionaries(
            {"name": st.just(tool["name"])},
            optional={
                "arguments": st.fixed_dictionaries(
                    {},
                    optional={
                        name: _argument(schema)
                        for name, schema in tool["inputSchema"]["properties"].items()
                    },
                ),
                "_meta": st.fixed_dictionaries({"progressToken": _values}) | _values,
            },
        )
        for tool in TOOLS
    ]
    return st.builds(lambda at, given: request(at, "tools/call", given), _ids, st.one_of(params))


def _objects() -> st.SearchStrategy[bytes]:
    """Objects that look like messages."""
    methods = ["ping", "initialize", "tools/list", "tools/call", "notifications/progress"]
    fields = {
        "jsonrpc": st.just("2.0") | _values,
        "id": _ids | _values,
        "method": st.sampled_from(methods) | _values,
        "params": _values,
        "result": _values,
        "error": _values,
    }
    return st.fixed_dictionaries({}, optional=fields).map(_line)


_cancellations = st.builds(
    lambda at: _line(
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": at}}
    ),
    _ids | _values,
)
_lines = st.one_of(
    _calls(),
    _objects(),
    _values.map(_line),
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")),
    st.builds(lambda line, end: line[:end], _calls(), st.integers(0, 60)),
    st.integers(1, 1_100).map(lambda depth: b"[" * depth + b"]" * depth),
)

_NONE = object()


def _answered_as(line: bytes) -> object:
    """Returns the id of the answer that a line must have; _NONE if it must have none."""
    if not line.strip():
        return _NONE
    try:
        message = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    method, at = message.get("method"), message.get("id")
    if method is None and ("result" in message or "error" in message):
        return _NONE
    if "id" in message and (isinstance(at, bool) or not isinstance(at, str | int)):
        return None
    if at is None and isinstance(method, str) and message.get("jsonrpc") == "2.0":
        return _NONE
    return at


class Tried:
    """A bridge, and how many answers it owes."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        #: The least and the most answers that it may have given to all lines so far.
        self._least = self._most = 0

    def write(self, lines: list[bytes]) -> None:
        """Write lines and then a ping, and wait for the answers. Fails if these are not right."""
        owed = [at for line in lines if (at := _answered_as(line)) is not _NONE]
        cancels = any(b"notifications/cancelled" in line for line in lines)
        # A request that is cancelled may have an answer.
        self._least += len([at for at in owed if at is None or not cancels]) + 1
        self._most += len(owed) + 1
        without_id = len(self._pipes.answers(None))
        self._pipes.write(*lines)
        self._pipes.works()
        self._pipes.until(lambda: self._pipes.answered >= self._least)
        assert self._pipes.answered <= self._most
        # That of a request whose id is in use has none, either.
        assert len(self._pipes.answers(None)) - without_id >= owed.count(None)
        assert self._pipes.stderr == b"", "a call has failed in a way that nobody expected"


class Bridges:
    """Starts a bridge for sequences of lines, and another one after each that it did not bear."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._running = contextlib.ExitStack()
        self._fit: Tried | None = None

    def write(self, lines: list[bytes]) -> None:
        """Have a bridge take lines, and fail if it does not do so well."""
        if self._fit is None:
            self._running.close()
            self._fit = Tried(self._running.enter_context(opened(self._command)))
        tried, self._fit = self._fit, None
        tried.write(lines)
        self._fit = tried

    def close(self) -> None:
        """End the bridge."""
        self._running.close()


@pytest.fixture
def bridges(command: Command) -> Iterator[Bridges]:
    """Those of one test."""
    flags = ("--thread", _THREAD, "--wait", "0.02", "--wait-max", "0.02")
    found = Bridges(dataclasses.replace(command, flags=flags))
    yield found
    found.close()


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@given(lines=st.lists(_lines, max_size=12))
@_settings(100)
def test_any_lines_have_the_answers_that_they_must_have(
    bridges: Bridges, lines: list[bytes]
) -> None:
    bridges.write(lines)


@given(lines=st.lists(_lines | _cancellations, max_size=12))
@_settings(100)
def test_any_cancellations_among_them_harm_no_other(bridges: Bridges, lines: list[bytes]) -> None:
    bridges.write(lines)


@pytest.mark.soak
@pytest.mark.timeout(300)
@given(lines=st.lists(_lines | _cancellations, max_size=30))
@_settings(2_000)
def test_many_lines_harm_no_other(bridges: Bridges, lines: list[bytes]) -> None:
    bridges.write(lines)
