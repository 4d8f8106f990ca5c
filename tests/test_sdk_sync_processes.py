"""Programs that use the SDK without asyncio: interrupted, ended, forked, and blocked."""

import signal
from pathlib import Path

import pytest

from bus_client import Presence
from bus_client.sync import BusClient
from tests.blocking import program, until
from tests.conftest import StartServer
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "call", ["next(thread.follow())", "for _ in thread.follow(): pass", "thread.wait(timeout=60)"]
)
def test_an_interrupted_wait_is_cancelled_and_the_client_still_works(
    server: ServerProcess, name: str, tmp_path: Path, call: str
) -> None:
    text = f"""
    with bus:
        thread = bus.join({name!r}, start="first")
        print("joined")
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted")
        for message in thread.follow():
            print(message.content)
            break
        print(thread.post("still here").seq)
    """
    with (
        BusClient(server.address) as anyone,
        program(text, server.address, name, tmp_path) as agent,
    ):
        assert agent.line() == "joined"
        until(lambda: anyone.get_agent(name).presence == Presence.PRESENCE_WAITING)
        agent.process.send_signal(signal.SIGINT)
        assert agent.line() == "interrupted"
        anyone.thread(name).post("hello")
        assert agent.end() == (0, "hello\n2\n", "")


def test_a_post_can_be_interrupted_and_retried(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    text = f"""
    def nobody():
        print("posting")  # by now it is under way
        yield from ()

    with bus:
        thread = bus.join({name!r})
        print("joined")
        sys.stdin.readline()
        try:
            thread.post("hello", request_id="mine", mentions=nobody())
        except KeyboardInterrupt:
            print("interrupted")
        print(thread.post("hello", request_id="mine").seq)
    """
    with program(text, server.address, name, tmp_path) as agent:
        assert agent.line() == "joined"
        server.signal(signal.SIGSTOP)
        agent.tell()
        assert agent.line() == "posting"
        agent.process.send_signal(signal.SIGINT)
        assert agent.line() == "interrupted"
        server.signal(signal.SIGCONT)
        assert agent.end() == (0, "1\n", "")


def test_an_uncaught_interrupt_ends_the_program_as_usual(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    text = f"""
    with bus:
        thread = bus.join({name!r})
        print("joined")
        for message in thread.follow():
            pass
    """
    with (
        BusClient(server.address) as anyone,
        program(text, server.address, name, tmp_path) as agent,
    ):
        assert agent.line() == "joined"
        until(lambda: anyone.get_agent(name).presence == Presence.PRESENCE_WAITING)
        agent.process.send_signal(signal.SIGINT)
        code, _, err = agent.end()
        assert code == -signal.SIGINT
        assert err.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "messages = thread.follow(include_own=True); next(messages)",
        "cycle = [thread.follow(include_own=True)]; next(cycle[0]); cycle.append(cycle)",
        "threading.Thread(target=thread.wait, kwargs=dict(timeout=600), daemon=True).start()",
        "messages = thread.follow(include_own=True); next(messages); bus.close()",
        "messages = thread.follow(include_own=True); next(messages); sys.exit(0)",
        "atexit.register(bus.close)",
    ],
)
def test_a_program_exits_at_once_and_silently_whatever_it_left_open(
    server: ServerProcess, name: str, tmp_path: Path, ending: str
) -> None:
    text = f"""
    import atexit, threading
    bus.connect()
    thread = bus.join({name!r}, start="first")
    thread.post("a")
    print("the end")
    {ending}
    """
    with program(text, server.address, name, tmp_path) as agent:
        assert agent.line() == "the end"
        assert agent.end() == (0, "", "")


def test_a_forked_process_gets_an_error(
    server: ServerProcess, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"""
    import os, warnings
    warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread
    with bus:
        thread = bus.join({name!r}, start="first")
        thread.post("a")
        messages = thread.follow(include_own=True)
        next(messages)
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status))
            next(thread.list_participants())
            print("the parent goes on")
        else:
            another = BusClient({server.address!r})
            for attempt in (lambda: thread.post("b"), another.connect):
                try:
                    attempt()
                except RuntimeError as error:
                    print(error)
            sys.exit(7)
    """
    # With this set gRPC tries to survive a fork, and sometimes crashes the child.
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    with program(text, server.address, name, tmp_path) as agent:
        code, out, err = agent.end()
        assert (code, err) == (0, "")
        *refusals, childs_code, last = out.splitlines()
        assert len(refusals) == 2
        assert all("forked" in line and "spawn" in line for line in refusals)
        assert (childs_code, last) == ("7", "the parent goes on")


HASTY = ("--heartbeat-interval", "0.2", "--agent-timeout", "0.5", "--working-timeout", "60")


def test_heartbeats_continue_while_the_program_does_other_things(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server(*HASTY)
    text = f"""
    with bus:
        thread = bus.join({name!r}, start="first")
        thread.post("a")
        thread.wait(timeout=60, include_own=True)
        print("working")
        sys.stdin.readline()
        print("done")
    """
    with (
        BusClient(server.address) as anyone,
        program(text, server.address, name, tmp_path) as agent,
    ):
        assert agent.line() == "working"
        timeouts_pass(anyone, f"{name}-clock", 4)
        assert anyone.get_agent(name).presence != Presence.PRESENCE_LAPSED
        agent.tell()
        assert agent.end() == (0, "done\n", "")


def timeouts_pass(anyone: BusClient, clock: str, count: int) -> None:
    """Return after this many agent timeouts, measured by another agent that lapses each time."""
    _, token = anyone.register_agent(clock)
    with BusClient(anyone.server, token=token, heartbeats=False) as bus:
        for _ in range(count):
            bus.heartbeat()
            until(lambda: anyone.get_agent(clock).presence == Presence.PRESENCE_LAPSED)
