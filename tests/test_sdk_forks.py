"""Processes forked from one with a client get RuntimeError instead of hanging or crashing."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.serving import ServerProcess

pytestmark = pytest.mark.slow

_BEGIN = """
import asyncio, functools, multiprocessing, os, sys, warnings
from pathlib import Path
import bus_client, bus_client.sync
warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread
print = functools.partial(print, flush=True)
server, agent, credentials = sys.argv[1:]

async def post(bus, text):
    async with bus:
        await (await bus.join(agent)).post(text, timeout=5)

def client():
    return bus_client.BusClient(server, agent=agent, credentials=Path(credentials))

def told(attempt):
    try:
        print(attempt())
    except RuntimeError as error:
        print(error)

def forked(child):
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(15)
    print(process.exitcode)
    process.kill()
"""


def run(text: str, server: ServerProcess, agent: str, home: Path) -> list[str]:
    """Returns what a program prints."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _BEGIN + textwrap.dedent(text),
            server.address,
            agent,
            str(home / "c"),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        # With this set gRPC tries to survive a fork, and sometimes crashes the child.
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def is_refusal(line: str) -> bool:
    """Returns whether the forked process got the RuntimeError that says what to do."""
    return "forked" in line and "`spawn`" in line


def test_no_client_connects_after_a_fork_though_all_were_closed_before(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    text = """
    asyncio.run(post(client(), "a"))
    forked(lambda: told(lambda: asyncio.run(post(client(), "b"))))
    asyncio.run(post(client(), "c"))
    """
    refusal, code = run(text, server, name, tmp_path)
    assert is_refusal(refusal)
    assert code == "0"


@pytest.mark.parametrize(
    "first",
    ['asyncio.run(post(client(), "a"))', "bus = bus_client.sync.BusClient(server); bus.connect()"],
)
def test_neither_kind_of_client_connects_after_a_fork_from_the_other(
    server: ServerProcess, name: str, tmp_path: Path, first: str
) -> None:
    text = f"""
    {first}
    def child():
        told(lambda: asyncio.run(post(client(), "b")))
        told(bus_client.sync.BusClient(server).connect)
    forked(child)
    """
    *refusals, code = run(text, server, name, tmp_path)
    assert [is_refusal(line) for line in refusals] == [True, True]
    assert code == "0"


def test_an_inherited_client_makes_no_call_and_closing_it_does_not_affect_the_parent(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    text = """
    async def main():
        bus = client()
        await bus.connect()
        thread = await bus.join(agent)

        def child():
            asyncio.events._set_running_loop(None)
            attempts = {
                "connect": bus.connect,
                "post": lambda: thread.post("b"),
                "many": lambda: anext(thread.post_many(["b"])),
                "wait": lambda: thread.wait(timeout=5),
                "close": bus.close,
            }
            for attempt in attempts.values():
                async def make():
                    return await attempt()
                told(lambda: asyncio.run(make()))

        forked(child)
        print((await thread.post("c")).seq)
        await bus.close()

    asyncio.run(main())
    """
    *refusals, closed, code, seq = run(text, server, name, tmp_path)
    assert [is_refusal(line) for line in refusals] == [True] * 4
    assert (closed, code, seq) == ("None", "0", "1")


def test_a_loop_of_the_sync_client_ends_in_a_forked_process_and_continues_in_the_parent(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    text = """
    bus = bus_client.sync.BusClient(server, agent=agent, credentials=Path(credentials))
    bus.connect()
    messages = bus.join(agent).follow()
    with bus_client.sync.BusClient(server) as writer:
        list(writer.join(agent).post_many([*"abc"]))
    print(next(messages).content)
    forked(lambda: told(lambda: next(messages).content))
    print(next(messages).content, next(messages).content)
    bus.close()
    """
    first, refusal, code, others = run(text, server, name, tmp_path)
    assert is_refusal(refusal)
    assert (first, code, others) == ("a", "0", "b c")


def test_a_process_forked_before_the_first_client_connects(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    text = """
    bus = client()
    forked(lambda: asyncio.run(post(bus, "a")))
    asyncio.run(post(bus, "b"))
    """
    assert run(text, server, name, tmp_path) == ["0"]
