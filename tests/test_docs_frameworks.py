"""docs/frameworks.md: its programs answer questions, each in the environment of its framework."""

import asyncio
import contextlib
import re
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus_client import (
    BusClient,
    Message,
    MessageFilter,
    Presence,
    ThreadHandle,
    ThreadState,
    Unanswered,
)
from tests import programs
from tests.doc_examples import ROOT, blocks, page, program
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.shell import Shell

PAGE = "docs/frameworks.md"
(SHELL,) = blocks(page(PAGE), "sh")
#: Seconds. No step takes longer, not even the start of a large framework on a busy machine.
BOUND = 90.0


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework, and how its program is found on the page and run without a service."""

    #: Of its interpreter, its requirements, and its module in tests/frameworks.
    name: str
    #: What only its program contains.
    imports: str
    #: How its program names the model, which is replaced by the one in tests/frameworks.
    model: str
    #: Whether its program keeps the conversation of a thread.
    remembers: bool = False

    def text(self, address: str) -> str:
        """Returns its program, for a server at an address."""
        text = program(PAGE, self.imports).at(address).text
        assert text.count(self.model) == 1
        module = f"tests.frameworks.{self.name.replace('-', '_')}"
        return f"from {module} import model\n{text.replace(self.model, 'model')}"


FRAMEWORKS = [
    Framework("pydantic-ai", "from pydantic_ai import", '"openai:gpt-5"'),
    Framework("langgraph", "from langgraph.", '"openai:gpt-5"', remembers=True),
    Framework("openai-agents", "from agents import", '"gpt-5"'),
    Framework("crewai", "from crewai import", '"openai/gpt-5"'),
]


class Reviewer:
    """The program of a framework, in a process that can be killed and started again."""

    def __init__(self, framework: Framework, shell: Shell) -> None:
        self.framework = framework
        self._shell = shell
        self._file = shell.home / "reviewer.py"
        self._file.write_text(framework.text(shell.server), "utf-8")
        self._process: Process | None = None

    async def start(self) -> None:
        environment = {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}",
            "HOME": str(self._shell.home),
            "CREWAI_DISABLE_TELEMETRY": "true",
            "LANGSMITH_TRACING": "false",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }
        self._process = await asyncio.create_subprocess_exec(
            programs.program(f"{self.framework.name}-python"),
            self._file,
            env=self._shell.environment(environment),
            cwd=self._shell.home,
        )

    async def end(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self._process is not None
        async with asyncio.timeout(BOUND):
            return await self._process.wait()

    async def kill(self) -> None:
        """Kill it with SIGKILL, if it runs."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.end()


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    """The user that runs the program."""
    return Shell(server.address, tmp_path)


@pytest.fixture(params=FRAMEWORKS, ids=lambda framework: framework.name)
async def reviewer(request: pytest.FixtureRequest, shell: Shell) -> AsyncIterator[Reviewer]:
    """The running program of a framework."""
    running = Reviewer(request.param, shell)
    await running.start()
    yield running
    await running.kill()


@pytest.fixture
async def clients(shell: Shell) -> AsyncIterator[tuple[BusClient, BusClient, BusClient]]:
    """coder, tester, and a second client of reviewer."""
    credentials = shell.home / "data/threadbus/credentials.json"
    coder, tester, second = (
        BusClient(shell.server, agent=name, credentials=credentials)
        for name in ("coder", "tester", "reviewer")
    )
    async with coder, tester, second:
        yield coder, tester, second


@pytest.mark.slow
@pytest.mark.own_server
@pytest.mark.timeout(400)
async def test_a_program_answers_each_question_once_and_nothing_else(
    reviewer: Reviewer, shell: Shell, clients: tuple[BusClient, BusClient, BusClient]
) -> None:
    coder, tester, second = clients

    async def waits() -> bool:
        return (await coder.get_agent("reviewer")).presence == Presence.PRESENCE_WAITING

    await until_known(waits, within=BOUND)
    printed = await asyncio.to_thread(shell.script, SHELL)
    assert "I was told: coder asks: @reviewer, is it good?" in printed
    thread, testers = await coder.join("design"), tester.thread("design")
    await thread.post("Well done.", mentions=["reviewer"])  # not a question

    async with contextlib.aclosing(tester.inbox()) as inbox:
        asking = asyncio.create_task(ask(thread, "Please ask tester: Do the tests pass?"))
        asked = await received(inbox)
        assert (asked.sender, asked.content) == ("reviewer", "Do the tests pass?")
        await testers.post("They do.", reply_to=asked.seq)
        assert await asking == "I asked, and was told: They do."

        # Killed at a question, it gets that one again, and no other.
        asking = asyncio.create_task(ask(thread, "Please ask tester: And now?"))
        await received(inbox)
        await reviewer.kill()
        await reviewer.start()
        asked = await received(inbox)
        await testers.post("Still.", reply_to=asked.seq)
        assert await asking == "I asked, and was told: Still."

        # Its answer is refused.
        other = await coder.join("other")
        asking = asyncio.create_task(ask(other, "Please ask tester: Shall we stop?"))
        await received(inbox)
        await other.set_state(ThreadState.THREAD_STATE_CLOSED)
        with pytest.raises(Unanswered):
            await asking

        # Its own questions are not answered.
        asking = asyncio.create_task(ask(thread, "Please ask tester: Are you there?"))
        await received(inbox)
        await testers.leave()
        assert "tester has left the thread" in await asking
    assert "no agent nobody" in await ask(thread, "Please ask nobody: Is it good?")

    earlier = "After 3 others, " if reviewer.framework.remembers else ""
    assert await ask(thread, "Thank you?") == f"{earlier}I was told: coder asks: Thank you?"
    posted = await thread.messages(filter=MessageFilter(senders=["reviewer"]))
    assert sum(not message.expect_reply.agents for message in posted) == 6
    await second.end_session()
    assert await reviewer.end() == 0


async def ask(thread: ThreadHandle, question: str) -> str:
    """Ask reviewer; returns the answer."""
    reply = await thread.ask(question, of="reviewer", within=BOUND)
    return reply.content


async def received(inbox: AsyncGenerator[Message]) -> Message:
    """Returns the next message."""
    async with asyncio.timeout(BOUND):
        return await anext(inbox)


def test_the_page_names_the_versions_that_are_tested() -> None:
    files = (ROOT / "tests/frameworks").glob("*.txt")
    pins = {pin for file in files for pin in file.read_text("utf-8").splitlines()}
    named = re.findall(r"`([a-z-]+)` (\d+\.\d+\.\d+)", page(PAGE))
    assert len(named) == 7
    for package, version in named:
        assert [pin for pin in pins if pin.startswith(f"{package}==")] == [f"{package}=={version}"]
