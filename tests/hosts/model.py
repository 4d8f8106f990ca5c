"""A stand-in for the models that coding agents call: it plays a script, and records every request.

It serves the APIs of Anthropic, OpenAI (both) and Gemini on loopback, and takes any key. A host is
pointed to it with the setting for the API's base URL:

    with Model([Call("bus_post", {"text": "hello"}), Say("Done.")]) as model:
        environment = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "any"}
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from tests.hosts.apis import ANTHROPIC, CHAT, GEMINI, RESPONSES, Api
from tests.hosts.prompts import Prompt, Reply
from tests.hosts.reaching import NO_TOOL, reach


@dataclass(frozen=True, slots=True)
class Say:
    """A step of a script: the model says this, which ends its turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A step of a script: the model calls a tool."""

    tool: str
    """Its name, without what hosts put before it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    until: str = ""
    """Text of its result: it is called again, 20 times at most, until a result contains that."""


#: A step may also be a function of the prompt, which is called when it is the step's turn.
Step = Say | Call | Callable[[Prompt], Say | Call]

#: What a model says once its script has been played, and if it cannot be played.
END = "That is all."
#: What it says to requests that are no part of the script.
ASIDE = "Fine."

_MOST_CALLS = 20
_APIS: list[tuple[str, Api]] = [
    (r"/v1/messages", ANTHROPIC),
    (r"/v1/chat/completions|/chat/completions", CHAT),
    (r"/v1/responses|/responses", RESPONSES),
    (
        r"/v1(?:beta)?/models/(?P<model>[^:]+):(?P<method>generateContent|streamGenerateContent)",
        GEMINI,
    ),
]


class Model:
    """A scripted model, served on a free port of 127.0.0.1 for the length of a `with` block.

    The script is played to requests that offer tools: each gets the next step. Others, such as
    those for a title, get ASIDE. After the last step, and if a tool is called that the host does
    not offer, the model says END.

    Attributes:
        prompts: The requests that the script was played to, oldest first.
        asides: The others.
        unknown: Method and path of requests that no API has. They get status 404.
        missing: Names of tools that the script calls and the host did not offer.
        surplus: How many requests came after the last step.
    """

    def __init__(self, script: Sequence[Step] = ()) -> None:
        self.prompts: list[Prompt] = []
        self.asides: list[Prompt] = []
        self.unknown: list[str] = []
        self.missing: list[str] = []
        self.surplus = 0
        self._steps = list(script)
        self._called = ""  # the tool of the last step
        self._call: Call | None = None  # that is repeated until its result is the one wanted
        self._calls = 0
        self._replies = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.model = self

    @property
    def url(self) -> str:
        """The base URL of all APIs, without `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def over(self) -> bool:
        """Returns whether the whole script has been played."""
        return not self._steps

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, prompt: Prompt) -> Reply:
        """Record a request, and return the reply to it."""
        with self._lock:
            self._replies += 1
            if not prompt.tools:
                self.asides.append(prompt)
                return Reply(self._replies, ASIDE)
            self.prompts.append(prompt)
            return self._play(prompt)

    def _play(self, prompt: Prompt) -> Reply:
        if self._called and prompt.results and NO_TOOL in prompt.results[-1]:
            return self._give_up(self._called)
        step = self._next(prompt)
        if isinstance(step, Say):
            return Reply(self._replies, step.text)
        call = reach(prompt, step.tool, step.arguments)
        if call is None:
            return self._give_up(step.tool)
        if call.search:
            self._steps.insert(0, step)
            self._call = None
        self._called = step.tool
        return Reply(self._replies, tool=call.tool, arguments=call.arguments)

    def _give_up(self, tool: str) -> Reply:
        self.missing.append(tool)
        self._called, self._call = "", None
        return Reply(self._replies, END)

    def _next(self, prompt: Prompt) -> Say | Call:
        called = self._call
        met = called is None or (prompt.results and called.until in prompt.results[-1])
        if called and not met and self._calls < _MOST_CALLS:
            self._calls += 1
            return called
        self._call, self._calls = None, 0
        if not self._steps:
            self.surplus += 1
            return Say(END)
        step = self._steps.pop(0)
        if callable(step):
            step = step(prompt)
        if isinstance(step, Call) and step.until:
            self._call, self._calls = step, 1
        return step


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    model: Model


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if urlsplit(self.path).path.endswith("/models"):
            self._answer({"object": "list", "data": [], "models": []})
        else:
            self._refuse()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        path = urlsplit(self.path).path
        for pattern, api in _APIS:
            if found := re.fullmatch(pattern, path):
                groups = found.groupdict()
                stream = groups.get("method") == "streamGenerateContent"
                prompt = api.prompt(body, model=groups.get("model", ""), stream=stream)
                self._reply(api, prompt)
                return
        self._refuse()

    def _reply(self, api: Api, prompt: Prompt) -> None:
        reply = self.server.model.reply(prompt)
        if not prompt.stream:
            self._answer(api.whole(reply, prompt.model))
            return
        lines = []
        for name, data in api.events(reply, prompt.model):
            named = f"event: {name}\n" if name else ""
            lines.append(f"{named}data: {json.dumps(data)}\n\n")
        if api.end:
            lines.append(f"{api.end}\n\n")
        self._send(200, "text/event-stream", "".join(lines).encode())

    def _refuse(self) -> None:
        self.server.model.unknown.append(f"{self.command} {self.path}")
        self._answer({"error": {"type": "not_found_error", "message": "not here"}}, 404)

    def _answer(self, document: dict[str, Any], status: int = 200) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: what was asked is recorded."""
