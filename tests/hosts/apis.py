"""The model APIs that coding agents call: how each spells a request, and a reply to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.hosts.prompts import Piece, Prompt, Reply, Tool

_Json = dict[str, Any]
#: Events of a stream: name and data. A stream without names has empty ones.
Events = Iterator[tuple[str, _Json]]


@dataclass(frozen=True, slots=True)
class Api:
    """One model API."""

    name: str
    read: Callable[[_Json], tuple[list[Tool], list[Piece]]]
    """Takes a request apart."""
    whole: Callable[[Reply, str], _Json]
    """Returns a reply of the model that the request names, as one document."""
    events: Callable[[Reply, str], Events]
    """Returns the same as events of a stream."""
    end: str = ""
    """The line after the last event of a stream."""

    def prompt(self, body: _Json, *, model: str = "", stream: bool = False) -> Prompt:
        """Returns what a request shows to the model."""
        tools, pieces = self.read(body)
        return Prompt(
            api=self.name,
            model=model or body.get("model", ""),
            stream=stream or bool(body.get("stream")),
            tools=tuple(tools),
            pieces=tuple(piece for piece in pieces if piece.text),
        )


def text_of(content: Any) -> str:
    """Returns the text in a message's content: a string, an object, or a list of such."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(text_of, content)))
    if not isinstance(content, Mapping):
        return ""
    for key in ("text", "output", "content", "parts"):
        if key in content:
            return text_of(content[key])
    return json.dumps(content, ensure_ascii=False)


def _call(name: str, arguments: Any) -> Piece:
    spelled = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return Piece("call", f"{name} {spelled}")


# Anthropic: POST /v1/messages


def _read_anthropic(body: _Json) -> tuple[list[Tool], list[Piece]]:
    tools = [
        Tool(t["name"], "", t.get("description", ""), t.get("input_schema", {}))
        for t in body.get("tools", [])
    ]
    pieces = [Piece("system", text_of(body.get("system", "")))]
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "tool_use":
                pieces.append(_call(block["name"], block["input"]))
            elif block["type"] == "tool_result":
                pieces.append(Piece("tool", text_of(block.get("content", ""))))
            elif block["type"] == "text":
                pieces.append(Piece(message["role"], block["text"]))
    return tools, pieces


def _anthropic_block(reply: Reply) -> _Json:
    if reply.tool is None:
        return {"type": "text", "text": reply.text}
    return {
        "type": "tool_use",
        "id": f"toolu_{reply.number}",
        "name": reply.tool.name,
        "input": dict(reply.arguments),
    }


def _anthropic_whole(reply: Reply, model: str) -> _Json:
    return {
        "id": f"msg_{reply.number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_anthropic_block(reply)],
        "stop_reason": "tool_use" if reply.tool else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _anthropic_events(reply: Reply, model: str) -> Events:
    whole = _anthropic_whole(reply, model)
    block = whole["content"][0]
    if reply.tool:
        start = block | {"input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        start = block | {"text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events: list[_Json] = [
        {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": whole["usage"]},
        {"type": "message_stop"},
    ]
    for event in events:
        yield event["type"], event


# OpenAI's older one: POST /v1/chat/completions


def _read_chat(body: _Json) -> tuple[list[Tool], list[Piece]]:
    functions = [t["function"] for t in body.get("tools", []) if t["type"] == "function"]
    tools = [
        Tool(f["name"], "", f.get("description", ""), f.get("parameters", {})) for f in functions
    ]
    pieces = []
    for message in body["messages"]:
        pieces.append(Piece(message["role"], text_of(message.get("content", ""))))
        calls = [call["function"] for call in message.get("tool_calls") or []]
        pieces += [_call(call["name"], call["arguments"]) for call in calls]
    return tools, pieces


def _chat_message(reply: Reply) -> _Json:
    if reply.tool is None:
        return {"role": "assistant", "content": reply.text}
    call = {"name": reply.tool.name, "arguments": json.dumps(dict(reply.arguments))}
    calls = [{"index": 0, "id": f"call_{reply.number}", "type": "function", "function": call}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _chat_document(reply: Reply, model: str, kind: str, choice: _Json) -> _Json:
    return {
        "id": f"chatcmpl-{reply.number}",
        "object": kind,
        "created": 0,
        "model": model,
        "choices": [{"index": 0, **choice}],
    }


_CHAT_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _chat_whole(reply: Reply, model: str) -> _Json:
    choice = {
        "message": _chat_message(reply),
        "finish_reason": "tool_calls" if reply.tool else "stop",
    }
    return _chat_document(reply, model, "chat.completion", choice) | {"usage": _CHAT_USAGE}


def _chat_events(reply: Reply, model: str) -> Events:
    kind = "chat.completion.chunk"
    delta = {"delta": _chat_message(reply), "finish_reason": None}
    end: _Json = {"delta": {}, "finish_reason": "tool_calls" if reply.tool else "stop"}
    yield "", _chat_document(reply, model, kind, delta)
    yield "", _chat_document(reply, model, kind, end) | {"usage": _CHAT_USAGE}


# OpenAI's newer one: POST /v1/responses


def _responses_tools(listed: list[_Json], namespace: str = "") -> Iterator[Tool]:
    for tool in listed:
        if tool["type"] == "namespace":
            yield from _responses_tools(tool["tools"], tool["name"])
        elif tool["type"] in ("function", "custom"):
            yield Tool(
                name=tool["name"],
                namespace=namespace,
                description=tool.get("description", ""),
                schema=tool.get("parameters", {}),
                freeform=tool["type"] == "custom",
            )


def _read_responses(body: _Json) -> tuple[list[Tool], list[Piece]]:
    tools = list(_responses_tools(body.get("tools") or []))
    pieces = [Piece("system", body.get("instructions") or "")]
    given = body["input"]
    items: list[_Json] = given if isinstance(given, list) else [{"role": "user", "content": given}]
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            pieces.append(Piece(item["role"], text_of(item["content"])))
        elif kind in ("function_call", "custom_tool_call"):
            pieces.append(_call(item["name"], item.get("arguments") or item.get("input")))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            pieces.append(Piece("tool", text_of(item["output"])))
        elif kind == "additional_tools":  # where Codex puts them for some models
            tools += _responses_tools(item["tools"])
    return tools, pieces


def _responses_item(reply: Reply) -> _Json:
    if reply.tool is None:
        content = {"type": "output_text", "text": reply.text, "annotations": []}
        return {
            "type": "message",
            "id": f"msg_{reply.number}",
            "status": "completed",
            "role": "assistant",
            "content": [content],
        }
    if reply.tool.freeform:
        kind, given = "custom_tool_call", {"input": reply.arguments["input"]}
    else:
        kind, given = "function_call", {"arguments": json.dumps(dict(reply.arguments))}
    item = {
        "type": kind,
        "id": f"item_{reply.number}",
        "status": "completed",
        "call_id": f"call_{reply.number}",
        "name": reply.tool.name,
        **given,
    }
    return item | ({"namespace": reply.tool.namespace} if reply.tool.namespace else {})


def _responses_whole(reply: Reply, model: str) -> _Json:
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    return {
        "id": f"resp_{reply.number}",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": model,
        "output": [_responses_item(reply)],
        "usage": usage,
    }


def _responses_events(reply: Reply, model: str) -> Events:
    whole = _responses_whole(reply, model)
    (item,) = whole["output"]
    events: list[_Json] = [
        {
            "type": "response.created",
            "response": whole | {"status": "in_progress", "output": [], "usage": None},
        },
        {"type": "response.output_item.added", "output_index": 0, "item": _begun(item)},
        *_responses_deltas(item),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield event["type"], event | {"sequence_number": number}


def _begun(item: _Json) -> _Json:
    empty: _Json = {"content": [], "arguments": "", "input": ""}
    return item | {"status": "in_progress"} | {key: empty[key] for key in empty if key in item}


def _responses_deltas(item: _Json) -> list[_Json]:
    place: _Json = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "message":
        place |= {"content_index": 0}
        (content,) = item["content"]
        text = content["text"]
        return [
            {"type": "response.content_part.added", **place, "part": content | {"text": ""}},
            {"type": "response.output_text.delta", **place, "delta": text},
            {"type": "response.output_text.done", **place, "text": text},
            {"type": "response.content_part.done", **place, "part": content},
        ]
    kind, key = "function_call_arguments", "arguments"
    if item["type"] == "custom_tool_call":
        kind, key = "custom_tool_call_input", "input"
    return [
        {"type": f"response.{kind}.delta", **place, "delta": item[key]},
        {"type": f"response.{kind}.done", **place, "name": item["name"], key: item[key]},
    ]


# Gemini: POST /v1beta/models/MODEL:generateContent


def _read_gemini(body: _Json) -> tuple[list[Tool], list[Piece]]:
    tools = []
    for group in body.get("tools", []):
        for function in group.get("functionDeclarations", []):
            schema = function.get("parametersJsonSchema") or function.get("parameters") or {}
            tools.append(Tool(function["name"], "", function.get("description", ""), schema))
    pieces = [Piece("system", text_of(body.get("systemInstruction", "")))]
    for content in body["contents"]:
        role = "assistant" if content.get("role") == "model" else "user"
        for part in content["parts"]:
            if "functionCall" in part:
                pieces.append(_call(part["functionCall"]["name"], part["functionCall"]["args"]))
            elif "functionResponse" in part:
                pieces.append(Piece("tool", text_of(part["functionResponse"]["response"])))
            elif "text" in part:
                pieces.append(Piece(role, part["text"]))
    return tools, pieces


def _gemini_whole(reply: Reply, model: str) -> _Json:
    if reply.tool is None:
        part: _Json = {"text": reply.text}
    else:
        call = {"name": reply.tool.name, "args": dict(reply.arguments)}
        part = {"functionCall": call, "thoughtSignature": "c2NyaXB0ZWQ="}
    content = {"role": "model", "parts": [part]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "modelVersion": model,
        "usageMetadata": {
            "promptTokenCount": 1,
            "candidatesTokenCount": 1,
            "totalTokenCount": 2,
        },
    }


def _gemini_events(reply: Reply, model: str) -> Events:
    yield "", _gemini_whole(reply, model)


ANTHROPIC = Api("anthropic", _read_anthropic, _anthropic_whole, _anthropic_events)
CHAT = Api("chat", _read_chat, _chat_whole, _chat_events, end="data: [DONE]")
RESPONSES = Api("responses", _read_responses, _responses_whole, _responses_events)
GEMINI = Api("gemini", _read_gemini, _gemini_whole, _gemini_events)
