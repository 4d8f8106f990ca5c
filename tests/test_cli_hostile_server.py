"""Hostile text from a server or its users never reaches a terminal unescaped."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message as AnyMessage

from tests.rpcs import RPCS
from tests.script import EPOCH, THREAD, Failure, Script, batch, last_batch, scripted
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse

pytestmark = pytest.mark.slow

HOSTILE = (
    "a\x1b[2Jb\x1b]0;owned\x07c\rd\x9b31me\u202ef\u2066g\u2028h\x7f\x08i\u200bj\xadk"
    "\U000e0041\U000e007fl\ufe0fm\u200dn\u2029o\ufeff"
)
#: Fields that are not text from people, and must be correct.
PLACES = {"thread": THREAD, "epoch": EPOCH, "next_page_token": ""}


def fill(message: AnyMessage) -> AnyMessage:
    """Set all strings of a protobuf message, and of those inside it, to hostile text."""
    for field in message.DESCRIPTOR.fields:
        value: Any = HOSTILE
        kind = field.message_type
        if kind is not None and kind.full_name.startswith("google."):
            continue
        if kind is not None and kind.GetOptions().map_entry:
            getattr(message, field.name)[HOSTILE] = HOSTILE
        elif kind is not None:
            inner = getattr(message, field.name)
            fill(inner.add() if field.is_repeated else inner)
        elif field.type == field.TYPE_STRING:
            value = PLACES.get(field.name, value)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    for name in ("seq", "after_seq", "head_seq", "first_seq", "next_after_seq"):
        if name in message.DESCRIPTOR.fields_by_name:
            setattr(message, name, 1)
    if "kind" in message.DESCRIPTOR.fields_by_name:
        setattr(message, "kind", 1)  # noqa: B010 - not every message has one
    return message


def frames() -> list[WaitMessagesResponse]:
    """Return the frames of a wait that delivers a hostile message."""
    begin, _, end = last_batch(1)
    brought = batch(1)
    fill(brought.messages.messages[0])
    return [begin, brought, end]


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """A server that fills every response with hostile text."""
    async with scripted() as script:
        for rpc in RPCS:
            for _ in range(20):
                if str(rpc) == "WaitMessages":
                    script.answer(str(rpc), *frames())
                elif not rpc.streams and str(rpc) not in ("RegisterAgent", "Heartbeat"):
                    script.answer(str(rpc), fill(rpc.response_type()))
        yield script


VERBS = {
    "read": ["read", THREAD],
    "join": ["join", THREAD],
    "wait": ["wait", THREAD, "--after", "0"],
    "tail": ["tail", THREAD, "other"],
    "post": ["post", THREAD, "hello"],
    "requests": ["requests", "--all", "--state", "any"],
    "withdraw": ["withdraw", THREAD, "1"],
    "threads": ["thread", "list"],
    "thread": ["thread", "show", THREAD],
    "create": ["thread", "create", THREAD],
    "update": ["thread", "update", THREAD, "--stage", "x"],
    "close": ["thread", "close", THREAD],
    "leave": ["thread", "leave", THREAD, "--as", "worker"],
    "agents": ["agents"],
    "waits": ["agents", "waits"],
    "rotate": ["agents", "rotate-token"],
    "export": ["export", THREAD],
    "fields": ["export", THREAD, "--fields", "sender,content,labels"],
    "markdown": ["export", THREAD, "--format", "markdown"],
    "bench": ["bench", "--only", "post", "--seconds", "0.01s"],
    "doctor": ["doctor", "--timeout", "1"],
}


def assert_harmless(shown: str) -> None:
    plain = re.sub("\r?\x1b\\[\\?25[lh]", "", shown)  # of the progress bar
    plain = re.sub("\x1b\\[[0-9;]*m", "", plain).replace("\r\n", "\n")
    found = {char for char in plain if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")}
    assert not found - {"\n", "\t"}
    assert "\ufe0f" not in plain
    assert "Traceback" not in plain


async def shown(script: Script, home: Path, *verb: str) -> str:
    shell = Shell(script.address, home)
    environment = {"THREADBUS_TOKEN": "t" * 43} if "rotate-token" in verb else {}
    _, text = await asyncio.to_thread(shell.on_terminal, *verb, env=environment)
    return text


@pytest.mark.parametrize("json", [False, True], ids=["people", "json"])
@pytest.mark.parametrize("verb", VERBS)
async def test_control_characters_in_responses_are_made_visible(
    script: Script, tmp_path: Path, verb: str, json: bool
) -> None:
    text = await shown(script, tmp_path, *VERBS[verb], *(["--json"] if json else []))
    assert_harmless(text)
    if verb not in ("leave", "close", "post", "bench", "doctor", "rotate"):
        assert r"\u202ef" in text


@pytest.mark.parametrize("json", [False, True], ids=["people", "json"])
@pytest.mark.parametrize("verb", VERBS)
async def test_control_characters_in_errors_are_made_visible(
    tmp_path: Path, verb: str, json: bool
) -> None:
    failure = Failure(
        grpc.StatusCode.FAILED_PRECONDITION,
        "THREAD_CLOSED",
        metadata={"thread": HOSTILE},
        fields=[HOSTILE],
        message=HOSTILE,
    )
    async with scripted() as script:
        for rpc in RPCS:
            if str(rpc) not in ("GetServerInfo", "RegisterAgent"):
                for _ in range(5):
                    script.answer(str(rpc), failure)
        text = await shown(script, tmp_path, *VERBS[verb], *(["--json"] if json else []))
    assert_harmless(text)
    assert r"\u202ef" in text or verb == "doctor"  # which prints nothing about such a server
