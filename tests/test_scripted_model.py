"""The stand-in for models that the hosts of coding agents are tested with."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.model import ASIDE, END, Call, Model, Say
from tests.hosts.prompts import Prompt
from tests.hosts.reaching import NO_TOOL

_Json = dict[str, Any]
_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
APIS = ["anthropic", "chat", "responses", "gemini"]


def ask(model: Model, path: str, body: _Json) -> str:
    """Returns the body of the response to a request."""
    request = urllib.request.Request(  # noqa: S310 - the URL is a model's
        model.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
        return str(response.read().decode())


def events(text: str) -> list[_Json]:
    """Returns the data of a stream's events."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


class Conversation:
    """What a host does: it sends the prompt again with each reply, and the result of each call."""

    def __init__(self, model: Model, api: str, *tools: str, stream: bool = False) -> None:
        self.model = model
        self.api = api
        self.stream = stream
        self.tools = tools
        self.history: list[_Json] = []
        self.say("user", "Go on.")

    def say(self, role: str, text: str) -> None:
        if self.api == "gemini":
            self.history.append({"role": role, "parts": [{"text": text}]})
        else:
            self.history.append({"role": role, "content": text})

    def answer(self, name: str, arguments: _Json, result: str) -> None:
        """Add a call of a tool and its result."""
        spelled = json.dumps(arguments)
        if self.api == "anthropic":
            use = {"type": "tool_use", "id": "1", "name": name, "input": arguments}
            content = [{"type": "text", "text": result}]
            self.history += [
                {"role": "assistant", "content": [use]},
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "1", "content": content}],
                },
            ]
        elif self.api == "chat":
            call = {"id": "1", "type": "function", "function": {"name": name, "arguments": spelled}}
            self.history += [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": result},
            ]
        elif self.api == "responses":
            self.history += [
                {"type": "function_call", "call_id": "1", "name": name, "arguments": spelled},
                {"type": "function_call_output", "call_id": "1", "output": result},
            ]
        else:
            response = {"name": name, "response": {"output": result}}
            self.history += [
                {"role": "model", "parts": [{"functionCall": {"name": name, "args": arguments}}]},
                {"role": "user", "parts": [{"functionResponse": response}]},
            ]

    def next(self) -> str | tuple[str, _Json]:
        """Returns the model's reply: a text, or the name of a tool and its arguments."""
        return getattr(self, f"_{self.api}")()  # type: ignore[no-any-return]

    def _anthropic(self) -> str | tuple[str, _Json]:
        tools = [{"name": name, "input_schema": _SCHEMA} for name in self.tools]
        body = {"model": "m", "system": "Be brief.", "messages": self.history, "tools": tools}
        said = ask(self.model, "/v1/messages", body | {"stream": self.stream})
        if not self.stream:
            (block,) = json.loads(said)["content"]
            return (block["name"], block["input"]) if "name" in block else block["text"]
        blocks = {event["type"]: event for event in events(said)}
        assert blocks["message_stop"]
        delta = blocks["content_block_delta"]["delta"]
        if blocks["message_delta"]["delta"]["stop_reason"] == "end_turn":
            return str(delta["text"])
        name = blocks["content_block_start"]["content_block"]["name"]
        return name, json.loads(delta["partial_json"])

    def _chat(self) -> str | tuple[str, _Json]:
        tools = [
            {"type": "function", "function": {"name": name, "parameters": _SCHEMA}}
            for name in self.tools
        ]
        messages = [{"role": "system", "content": "Be brief."}, *self.history]
        body = {"model": "m", "messages": messages, "tools": tools, "stream": self.stream}
        said = ask(self.model, "/v1/chat/completions", body)
        if self.stream:
            assert said.endswith("data: [DONE]\n\n")
            message = events(said)[0]["choices"][0]["delta"]
        else:
            message = json.loads(said)["choices"][0]["message"]
        if not message.get("tool_calls"):
            return str(message["content"])
        function = message["tool_calls"][0]["function"]
        return function["name"], json.loads(function["arguments"])

    def _responses(self) -> str | tuple[str, _Json]:
        tools = [{"type": "function", "name": name, "parameters": _SCHEMA} for name in self.tools]
        body = {"model": "m", "instructions": "Be brief.", "input": self.history, "tools": tools}
        said = ask(self.model, "/v1/responses", body | {"stream": self.stream})
        if self.stream:
            last = events(said)[-1]
            assert last["type"] == "response.completed"
            (item,) = last["response"]["output"]
        else:
            (item,) = json.loads(said)["output"]
        if item["type"] == "message":
            return str(item["content"][0]["text"])
        return item["name"], json.loads(item["arguments"])

    def _gemini(self) -> str | tuple[str, _Json]:
        functions = [{"name": name, "parametersJsonSchema": _SCHEMA} for name in self.tools]
        body = {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": self.history,
            "tools": [{"functionDeclarations": functions}] if functions else [],
        }
        method = "streamGenerateContent?alt=sse" if self.stream else "generateContent"
        said = ask(self.model, f"/v1beta/models/m:{method}", body)
        whole = events(said)[0] if self.stream else json.loads(said)
        (part,) = whole["candidates"][0]["content"]["parts"]
        if "text" in part:
            return str(part["text"])
        return part["functionCall"]["name"], part["functionCall"]["args"]


@pytest.fixture
def model() -> Iterator[Model]:
    """A model that posts and is done."""
    with Model([Call("bus_post", {"text": "hello"}), Say("Done.")]) as model:
        yield model


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_a_script_is_played_step_by_step(model: Model, api: str, stream: bool) -> None:
    host = Conversation(model, api, "read_file", "mcp__threadbus__bus_post", stream=stream)
    assert host.next() == ("mcp__threadbus__bus_post", {"text": "hello"})
    host.answer("mcp__threadbus__bus_post", {"text": "hello"}, "posted design #1")
    assert not model.over
    assert host.next() == "Done."
    assert (model.over, model.surplus) == (True, 0)
    assert host.next() == END
    assert model.surplus == 1


@pytest.mark.parametrize("api", APIS)
def test_a_prompt_records_what_was_shown_in_which_role(model: Model, api: str) -> None:
    host = Conversation(model, api, "bus_post")
    host.answer("bus_post", {"text": "hello"}, "posted design #1")
    host.next()
    (prompt,) = model.prompts
    assert (prompt.api, prompt.model, prompt.stream) == (api, "m", False)
    assert [piece.role for piece in prompt.pieces] == ["system", "user", "call", "tool"]
    assert prompt.roles("Be brief.") == ["system"]
    assert prompt.roles("hello") == ["call"]
    assert prompt.results == ["posted design #1"]
    tool = prompt.tool("bus_post")
    assert tool
    assert tool.schema == _SCHEMA


def test_a_tool_is_found_whatever_the_host_puts_before_its_name(model: Model) -> None:
    for name in ("bus_post", "mcp__threadbus__bus_post", "threadbus-bus_post"):
        host = Conversation(model, "chat", name)
        host.next()
        assert model.prompts[-1].tool("bus_post")
    Conversation(model, "chat", "omnibus_post").next()
    assert model.prompts[-1].tool("bus_post") is None


def test_a_call_is_repeated_until_its_result_is_the_one_wanted() -> None:
    with Model([Call("bus_wait", until="#7"), Say("Done.")]) as model:
        host = Conversation(model, "chat", "bus_wait")
        for result in ("No messages", "No messages", "#7 coder: ready"):
            assert host.next() == ("bus_wait", {})
            host.answer("bus_wait", {}, result)
        assert host.next() == "Done."


def test_a_call_is_not_repeated_forever() -> None:
    with Model([Call("bus_wait", until="#7"), Say("Done.")]) as model:
        host = Conversation(model, "chat", "bus_wait")
        for _ in range(20):
            assert host.next() == ("bus_wait", {})
            host.answer("bus_wait", {}, "No messages")
        assert host.next() == "Done."


def test_a_step_can_depend_on_the_prompt() -> None:
    def repeat(prompt: Prompt) -> Say:
        return Say(f"It says: {prompt.results[-1]}")

    with Model([Call("bus_read"), repeat]) as model:
        host = Conversation(model, "chat", "bus_read")
        host.next()
        host.answer("bus_read", {}, "#1 coder: hello")
        assert host.next() == "It says: #1 coder: hello"


def test_requests_without_tools_do_not_move_the_script(model: Model) -> None:
    assert Conversation(model, "chat").next() == ASIDE
    assert not model.prompts
    assert len(model.asides) == 1
    assert Conversation(model, "chat", "bus_post").next() == ("bus_post", {"text": "hello"})


def test_a_tool_that_is_not_offered_is_recorded(model: Model) -> None:
    assert Conversation(model, "chat", "read_file").next() == END
    assert model.missing == ["bus_post"]


def test_a_deferred_tool_is_searched_for_first(model: Model) -> None:
    host = Conversation(model, "anthropic", "ToolSearch")
    assert host.next() == ("ToolSearch", {"query": "bus_post"})
    host.answer("ToolSearch", {"query": "bus_post"}, "Tool loaded.")
    host.tools = ("ToolSearch", "mcp__threadbus__bus_post")
    assert host.next() == ("mcp__threadbus__bus_post", {"text": "hello"})


def test_a_search_that_finds_nothing_is_not_repeated(model: Model) -> None:
    host = Conversation(model, "anthropic", "ToolSearch")
    host.next()
    host.answer("ToolSearch", {"query": "bus_post"}, "Nothing was found.")
    assert host.next() == END
    assert model.missing == ["bus_post"]


def test_a_deferred_tool_is_called_by_another_one_if_the_host_wants_that(model: Model) -> None:
    host = Conversation(model, "chat", "tool_search", "tool_call")
    assert host.next() == ("tool_search", {"query": "bus_post"})
    host.answer("tool_search", {"query": "bus_post"}, '{"name":"mcp__threadbus__bus_post"}')
    assert host.next() == (
        "tool_call",
        {"name": "mcp__threadbus__bus_post", "arguments": {"text": "hello"}},
    )


def scripted(model: Model, *history: _Json) -> _Json:
    """Returns what the model replies to a host that has tools called by a script."""
    group: _Json = {"type": "namespace", "name": "functions"}
    group |= {"tools": [{"type": "custom", "name": "exec"}]}
    tools = {"type": "additional_tools", "role": "developer", "tools": [group]}
    body = {"model": "m", "input": [tools, *history], "stream": True}
    (item,) = events(ask(model, "/v1/responses", body))[-1]["response"]["output"]
    return dict(item)


def test_a_tool_is_called_by_a_script_if_the_host_wants_that(model: Model) -> None:
    item = scripted(model)
    assert (item["type"], item["namespace"], item["name"]) == (
        "custom_tool_call",
        "functions",
        "exec",
    )
    assert '"bus_post"' in item["input"]
    assert '{"text": "hello"}' in item["input"]
    output = [{"type": "input_text", "text": "posted design #1"}]
    result = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": output}
    assert scripted(model, item, result)["content"][0]["text"] == "Done."
    assert model.prompts[-1].results == ["posted design #1"]


def test_a_script_that_finds_no_tool_is_recorded(model: Model) -> None:
    item = scripted(model)
    result = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": NO_TOOL}
    assert scripted(model, item, result)["content"][0]["text"] == END
    assert model.missing == ["bus_post"]


def test_a_request_that_no_api_has_is_recorded(model: Model) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(model, "/v1/audio", {})
    assert model.unknown == ["POST /v1/audio"]
