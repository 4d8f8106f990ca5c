"""Runs the steps of a case, one after the other."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from tests.conformance.contract import (
    METHODS,
    UNARY,
    plain,
    plain_detail,
    repeatable,
    request_json,
)
from tests.conformance.driver import BOUND, Command
from tests.conformance.matching import brief, differences
from tests.conformance.stage import Stage
from tests.polling import until_known
from tests.rpcs import good_request
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_service_pb2 import JoinThreadResponse

Step = dict[str, Any]

_REQUESTS = {
    "ask": PostMessageRequest,
    "post": PostMessageRequest,
    "wait": WaitMessagesRequest,
}
_ANSWERS = {"ask": Message, "join": JoinThreadResponse, "post": PostMessageResponse}


def _thread_of(message: Step) -> str:
    return str(message["thread"])


class Play:
    """A running case."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        #: Running commands and their steps, by the name that the case gave them.
        self._commands: dict[str, tuple[Command, Step]] = {}

    async def step(self, step: Step) -> None:
        """Run a step. Raises AssertionError if the result is not the expected one."""
        step = self._filled(step)
        verbs: dict[str, Callable[[Step], Awaitable[None]]] = {
            "do": self._do,
            "frames": self._frames,
            "responses": self._responses,
            "messages": self._messages,
            "whole": self._whole,
            "ends": self._ends,
            "repeat": self._repeat,
            "one_wins": self._one_wins,
            "bus": self._bus,
            "posts": self._posts,
            "invokes_all": self._invokes_all,
            "server": self._control,
            "connection": self._control,
        }
        [verb] = verbs.keys() & step.keys()
        await verbs[verb](step)

    async def _do(self, step: Step) -> None:
        fields = dict(step.get("with", {}))
        unchecked = step.get("unchecked", False)  # its request is not valid
        if step["do"] in ("call", "invoke"):
            if step["do"] == "call":
                fields.setdefault("timeout", 20)
            if not unchecked:
                kind = METHODS[fields["method"]].request_type
                fields["request"] = request_json(kind, fields["request"])
        elif step["do"] == "post_many":
            kind = METHODS["PostMessages"].request_type
            fields["requests"] = [request_json(kind, one) for one in fields["requests"]]
        elif step["do"] in _REQUESTS and not unchecked:
            fields["request"] = request_json(_REQUESTS[step["do"]], fields["request"])
        if "cursor" in fields:
            fields["cursor"] = request_json(Cursor, fields["cursor"])
        if "target" in fields:
            fields["target"] = self._commands[fields["target"]][0].number
        command = await self._stage.driver.give(step["do"], **fields)
        if "as" in step:
            self._commands[step["as"]] = command, step
        else:
            await self._end(command, step, step)

    async def _ends(self, step: Step) -> None:
        command, begun = self._commands[step["ends"]]
        await self._end(command, begun, step)

    async def _end(self, command: Command, begun: Step, step: Step) -> None:
        """Check that the command ends as the step says, without other lines before."""
        line = await command.next(step.get("within", BOUND))
        self._check(self._ended(line, begun), step)

    async def _repeat(self, step: Step) -> None:
        for _ in range(step["repeat"]):
            for each in step["steps"]:
                await self.step(each)

    def _ended(self, line: dict[str, Any], begun: Step) -> dict[str, Any]:
        if "error" in line:
            error = dict(line["error"])
            error["details"] = [plain_detail(one) for one in error.get("details", ())]
            if "resync" in error:
                error["resync"] = plain(WaitResync, error["resync"])
            return {"error": error}
        assert "ok" in line, f"before it ended came {brief(line)}"
        kind = _ANSWERS.get(begun["do"])
        if kind is None and begun["do"] in ("call", "invoke"):
            kind = METHODS[begun["with"]["method"]].response_type
        return {"ok": plain(kind, line["ok"]) if kind else line["ok"]}

    def _check(self, answer: dict[str, Any], step: Step) -> None:
        expected = {"error": step["error"]} if "error" in step else {"ok": step.get("ok", {})}
        self._same(expected, answer)
        for variable, path in step.get("keep", {}).items():
            value: Any = answer.get("ok", answer)
            for key in path.split("."):
                value = value[int(key)] if isinstance(value, list) else value[key]
            self._stage.variables[variable] = value

    async def _frames(self, step: Step) -> None:
        """Check the next frames of a wait, or read frames until one is like `until`."""
        command, _ = self._commands[step["frames"]]
        if "until" in step:
            while differences(step["until"], await self._next_frame(command, step["until"])):
                pass
        for expected in step.get("like", ()):
            async with asyncio.timeout(step.get("within")):
                frame = await self._next_frame(command, expected)
            self._same(expected, frame)

    async def _next_frame(self, command: Command, expected: Step) -> dict[str, Any]:
        line = await command.next()
        assert "frame" in line, f"instead of {expected!r} came {brief(line)}"
        return plain(WaitMessagesResponse, line["frame"])

    async def _responses(self, step: Step) -> None:
        """Check the next responses of a post_many."""
        command, _ = self._commands[step["responses"]]
        for expected in step["like"]:
            line = await command.next()
            assert "response" in line, f"instead of {expected!r} came {brief(line)}"
            self._same(expected, plain(METHODS["PostMessages"].response_type, line["response"]))

    async def _next_message(self, command: Command) -> dict[str, Any]:
        line = await command.next()
        assert "message" in line, f"instead of a message came {brief(line)}"
        return plain(Message, line["message"]) | {"truncated": line.get("truncated")}

    async def _messages(self, step: Step) -> None:
        """Check the next messages of a follow or inbox."""
        command, _ = self._commands[step["messages"]]
        if step.get("by_thread"):
            found = [await self._next_message(command) for _ in step["like"]]
            self._same(*(sorted(each, key=_thread_of) for each in (step["like"], found)))
            return
        for expected in step["like"]:
            self._same(expected, await self._next_message(command))

    async def _whole(self, step: Step) -> None:
        """Check that a follow delivers seqs `from` to `to` once, in order and as stored."""
        command, begun = self._commands[step["whole"]]
        thread = begun["with"]["cursor"]["thread"]
        seqs = range(step["from"], step["to"] + 1)
        found = [await self._next_message(command) for _ in seqs]
        assert [int(message["seq"]) for message in found] == list(seqs), brief(
            [message["seq"] for message in found]
        )
        stored = (await self._stage.bus.history(thread))[step["from"] - 1 : step["to"]]
        self._same(stored, found)

    async def _one_wins(self, step: Step) -> None:
        """Check that one of several commands succeeds, and the others end with this error."""
        answers = []
        for name in step["one_wins"]:
            command, begun = self._commands[name]
            answers.append(self._ended(await command.next(), begun))
        won = [answer for answer in answers if "ok" in answer]
        assert len(won) == 1, f"{len(won)} succeeded: {brief(answers)}"
        for answer in answers:
            self._same({"ok": step["ok"]} if "ok" in answer else {"error": step["error"]}, answer)

    async def _invokes_all(self, _: Step) -> None:
        """Have the client call each unary method, and check that repeatable calls succeed."""
        for method in UNARY:
            request = good_request(METHODS[method], "scripted")
            if isinstance(request, PostMessageRequest):
                request.request_id = "mine"
            fields = MessageToDict(request)
            command = await self._stage.driver.give("invoke", method=method, request=fields)
            line = await command.next()
            if repeatable(METHODS[method]):
                assert "ok" in line, f"{method}: {brief(line)}"
            else:
                self._same({"error": {"outcome_unknown": True}}, line)

    async def _bus(self, step: Step) -> None:
        """Call a method as the runner; with `until`, repeat it until the response is like that."""

        async def answer() -> dict[str, Any]:
            fields, token = step.get("with", {}), step.get("token", "")
            try:
                return {"ok": await self._stage.bus.call(step["bus"], fields, token)}
            except grpc.aio.AioRpcError as error:
                return {"error": {"code": error.code().name, "message": error.details()}}

        if "until" not in step:
            self._check(await answer(), step)
            return
        found: dict[str, Any] = {}

        async def so() -> bool:
            found.update(await answer())
            return not differences({"ok": step["until"]}, found)

        try:
            await until_known(so)
        except TimeoutError:
            self._same({"ok": step["until"]}, found)
            raise
        self._check(found, {"keep": step.get("keep", {})})

    async def _posts(self, step: Step) -> None:
        fields = step.get("with", {})
        await self._stage.bus.post(
            self._stage.variables["thread"],
            count=step["posts"],
            posters=fields.get("posters", 1),
            prefix=fields.get("prefix", "number "),
        )

    async def _control(self, step: Step) -> None:
        await self._stage.control(step.get("server") or step["connection"])

    def _same(self, expected: Any, found: Any) -> None:
        different = differences(expected, found)
        assert not different, "; ".join(itertools.islice(different, 3))

    def _filled(self, value: Any) -> Any:
        """Return a part of a step with the values of `$name`."""
        match value:
            case str() if value.startswith("$"):
                return self._stage.variables[value[1:]]
            case dict():
                return {key: self._filled(item) for key, item in value.items()}
            case list():
                return [self._filled(item) for item in value]
        return value


async def play(stage: Stage, steps: Sequence[Step]) -> None:
    """Run a case. Raises AssertionError with the number of the step that fails."""
    acted = Play(stage)
    await stage.driver.ask("open", address=stage.variables["address"])
    for number, step in enumerate(steps, 1):
        try:
            await acted.step(step)
        except (AssertionError, grpc.aio.AioRpcError, TimeoutError) as error:
            described = next(f"{key}: {value}" for key, value in step.items())
            raise AssertionError(f"step {number} ({described}): {error}") from error
    await stage.driver.ask("close")
