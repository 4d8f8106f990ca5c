"""The agent of docs/shell.md: its lines run unchanged, and others see what the page says."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_client import BusClient, Presence, ThreadHandle, ThreadState
from tests.doc_examples import MODEL, blocks, page
from tests.members import take
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.shell import Shell

LINES, LOOP, ANSWER, _ = blocks(page("docs/shell.md"), "sh")

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    model = tmp_path / "my-model"
    model.write_text(MODEL, "utf-8")
    model.chmod(0o755)
    return Shell(server.address, tmp_path)


@pytest.fixture
async def coder(server: ServerProcess, tmp_path: Path, name: str) -> AsyncIterator[BusClient]:
    """Another agent, which is connected all the time."""
    async with BusClient(
        server.address, agent=f"{name}-coder", credentials=tmp_path / "coder.json"
    ) as bus:
        yield bus


def adapted(shell: Shell, name: str, script: str, timeout: float) -> str:
    """Return the script with this test's own thread, agent and model."""
    script = script.replace("design", name).replace("reviewer", f"{name}-reviewer")
    script = script.replace("my-model", str(shell.home / "my-model"))
    return script.replace("--timeout 90", f"--timeout {timeout}")


async def until_seen(bus: BusClient, name: str, state: Presence.ValueType) -> None:
    """Return once others see the agent with this presence."""

    async def is_so() -> bool:
        return state in [a.presence async for a in bus.list_agents() if a.name == name]

    await until_known(is_so)


async def opened(bus: BusClient, name: str) -> ThreadHandle:
    return await bus.join(name)


async def test_three_lines_reply_to_messages(shell: Shell, coder: BusClient, name: str) -> None:
    thread = await opened(coder, name)
    running = asyncio.create_task(asyncio.to_thread(shell.script, adapted(shell, name, LINES, 20)))
    agent = f"{name}-reviewer"
    await until_seen(coder, agent, Presence.PRESENCE_WAITING)
    await thread.post("is it done?")
    (answer,) = await thread.wait(timeout=20)
    assert (answer.sender, answer.content) == (agent, "IS IT DONE?")
    assert await running == f"{name} #2 · {name}-coder waiting\n"


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
@pytest.mark.parametrize("is_asked", [True, False])
async def test_with_two_lines_more_they_answer_requests(
    shell: Shell, coder: BusClient, name: str, is_asked: bool
) -> None:
    agent = f"{name}-reviewer"
    await asyncio.to_thread(shell.script, f"threadbus register {agent}")
    thread = await opened(coder, name)
    asked = await thread.post("is it done?", mentions=[agent], ask=is_asked)
    await thread.post("take your time")
    wait, think, _ = LINES.splitlines()
    lines = "\n".join([wait, think, ANSWER])
    await asyncio.to_thread(shell.script, adapted(shell, name, lines, 20))
    (answer,) = await thread.wait(timeout=20)
    assert (answer.sender, answer.reply_to) == (agent, asked.seq if is_asked else 0)
    assert [each async for each in coder.list_requests(agent=agent)] == []


async def test_while_the_model_runs_others_see_the_agent_work(
    shell: Shell, coder: BusClient, name: str
) -> None:
    thread = await opened(coder, name)
    await thread.post("think about it")
    wait, *_ = adapted(shell, name, LINES, 20).splitlines()
    await asyncio.to_thread(shell.script, wait)
    agent = f"{name}-reviewer"
    await until_seen(coder, agent, Presence.PRESENCE_WORKING)
    (participant,) = [p async for p in thread.list_participants() if p.agent == agent]
    assert participant.read_seq == 1
    again = wait.replace("--timeout 20", "--timeout 0")
    await asyncio.to_thread(shell.script, again)
    await until_seen(coder, agent, Presence.PRESENCE_IDLE)


async def test_the_loop_continues_after_an_empty_wait_and_ends_with_the_thread(
    shell: Shell, coder: BusClient, name: str
) -> None:
    thread = await opened(coder, name)
    agent = f"{name}-reviewer"
    running = asyncio.create_task(asyncio.to_thread(shell.script, adapted(shell, name, LOOP, 0.05)))
    await until_seen(coder, agent, Presence.PRESENCE_WAITING)
    await until_seen(coder, agent, Presence.PRESENCE_IDLE)  # one wait is over
    messages = thread.follow()
    for text in ("one", "two"):
        await thread.post(text)
        assert await take(messages, 1) == [text.upper()]
    await messages.aclose()
    await thread.set_state(ThreadState.THREAD_STATE_CLOSED)
    assert (await running).endswith(f"{agent} offline\n")
    await until_seen(coder, agent, Presence.PRESENCE_OFFLINE)
