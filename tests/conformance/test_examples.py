"""The example in each language: an agent that replies to what is addressed to it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.examples import example
from tests.conformance.languages import FOLDER, Language, built, languages
from tests.conformance.stage import own_server
from tests.conformance.tls import Tls, TlsFiles
from tests.presence import state
from tests.serving import AgentStub, BusStub, ServerProcess
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, PostMessageRequest

# The first run builds the clients. No store changes what they do.
pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(1800)]

WITH_EXAMPLE = [language for language in languages() if "python" not in language.name]


@pytest.fixture(scope="module", params=WITH_EXAMPLE, ids=lambda language: language.name)
def language(request: pytest.FixtureRequest) -> str:
    """A language, built."""
    found: Language = request.param
    return built(found).name


async def post(bus: BusStub, thread: str, *contents: str, mentions: tuple[str, ...] = ()) -> None:
    """Post messages one after the other, as `anonymous`."""
    for content in contents:
        request = PostMessageRequest(thread=thread, content=content, mentions=mentions)
        await bus.PostMessage(request)


async def test_the_example_replies_to_mentions_and_ends_its_session(
    language: str, server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    async with example(language, server.address, thread, name) as agent:
        assert await agent.line() == {"joined": thread, "after_seq": 0}
        await post(bus, thread, "to nobody")
        await post(bus, thread, "to you: é", mentions=(name,))
        await post(bus, thread, "stop")
        lines = await agent.rest()
    messages = (await bus.ListMessages(ListMessagesRequest(thread=thread))).messages
    [echo] = [message for message in messages if message.sender == name]
    assert (echo.content, echo.reply_to) == ("echo: to you: é", 2)
    assert lines[:2] == [
        {"seq": 1, "sender": "anonymous", "content": "to nobody"},
        {"seq": 2, "sender": "anonymous", "content": "to you: é"},
    ]
    assert {"posted": echo.seq, "reply_to": 2, "deduplicated": False} in lines
    assert await state(agents, name) == "OFFLINE"


async def test_the_example_resumes_after_a_kill_and_replies_once(
    language: str, server: ServerProcess, bus: BusStub, thread: str, name: str
) -> None:
    async with example(language, server.address, thread, name, token=name * 4) as agent:
        await agent.line()
        await post(bus, thread, "one", mentions=(name,))
        while "posted" not in await agent.line():
            pass
        agent.kill()
    await post(bus, thread, "stop")
    async with example(language, server.address, thread, name, token=name * 4) as agent:
        await agent.rest()
    messages = (await bus.ListMessages(ListMessagesRequest(thread=thread))).messages
    assert [message.content for message in messages] == ["one", "echo: one", "stop"]


async def test_the_example_says_why_it_cannot_continue(
    language: str, server: ServerProcess, thread: str, name: str
) -> None:
    async with example(language, server.address, thread, name, token=name * 4) as first:
        await first.line()
        async with example(language, server.address, thread, name, token="another" * 6) as second:
            error_output = await second.error_output()
    assert (error_output["code"], error_output["reason"]) == ("ALREADY_EXISTS", "AGENT_EXISTS")
    assert name in error_output["message"]


@pytest.mark.usefixtures("chosen_store")
async def test_the_example_uses_the_tls_files_that_its_environment_names(
    language: str, thread: str, name: str, tmp_path: Path
) -> None:
    files = TlsFiles(Tls(client_ca=True), tmp_path)
    named = {
        f"THREADBUS_{option.upper()}": files.paths[option]
        for option in ("ca_file", "client_cert", "client_key")
    }
    async with own_server(files.flags) as server:
        address = f"tls://{server.address}"
        async with example(language, address, thread, name, **named) as agent:
            assert await agent.line() == {"joined": thread, "after_seq": 0}
        named["THREADBUS_CLIENT_KEY"] = files.paths["missing_file"]
        async with example(language, address, thread, name, **named) as agent:
            error_output = await agent.error_output()
    assert error_output["code"] == "INVALID_ARGUMENT"
    assert files.paths["missing_file"] in error_output["message"]


@pytest.mark.soak
def test_the_languages_own_linters_find_nothing(language: str) -> None:
    Language(language).lint()


@pytest.mark.parametrize("language", WITH_EXAMPLE, ids=lambda language: language.name)
def test_a_missing_toolchain_is_reported(language: Language, tmp_path: Path) -> None:
    for command in ("bash", "env", "dirname", "sed", "sort", "head"):
        found = shutil.which(command)
        assert found is not None
        (tmp_path / command).symlink_to(found)
    done = subprocess.run(
        [str(FOLDER / language.name), "needs"],
        env={"PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.strip()
