"""`threadbus import` when it is stopped."""

import json
import os
import signal
from collections import defaultdict
from pathlib import Path

import grpc
import pytest

from tests.callers import operator_token_file
from tests.conftest import StartServer
from tests.json_lines import line, stored_messages
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def token(server: ServerProcess) -> str:
    return f"--token-file={operator_token_file(server.db)}"


async def some_posted(bus: BusStub, thread: str, count: int) -> None:
    """Return when the thread has this many messages."""
    request = WaitMessagesRequest(threads=[Cursor(thread=thread)], max_messages=count)
    async for frame in bus.WaitMessages(request):
        count -= len(frame.messages.messages)
    assert count <= 0


@pytest.fixture
def talk(tmp_path: Path, name: str) -> Path:
    """A file that takes a while to import: a long thread, with lines of three others in between."""
    file = tmp_path / "talk.jsonl"
    with file.open("w") as stream:
        for number in range(600):
            stream.write(line(name, f"agent-{number % 3}", "more" if number % 2 else f"{number}"))
            if number % 100 == 0:
                stream.write(line(f"{name}-{number // 100 % 3}", "other", "again"))
    return file


def threads_of(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the messages in a file, by thread."""
    found = defaultdict(list)
    for text in file.read_text("utf-8").split("\n")[:-1]:
        entry = json.loads(text)
        found[entry["thread"]].append((entry["sender"], entry["content"]))
    return dict(found)


async def test_an_import_killed_and_run_again_posts_each_message_once_in_order(
    shell: Shell, token: str, name: str, talk: Path, threads: ThreadStub, bus: BusStub
) -> None:
    await threads.CreateThread(CreateThreadRequest(thread=name))
    for count in (50, 150):
        with shell.start("import", str(talk), token) as running:
            await some_posted(bus, name, count)
            running.kill()
            assert running.wait(20) == -signal.SIGKILL
    done = shell.ok("import", str(talk), token, "--json")
    assert done.json["already_there"] >= 150
    assert done.json["posted"] > 0
    assert done.json["posted"] + done.json["already_there"] == 606
    for thread, expected in threads_of(talk).items():
        assert stored_messages(shell, thread) == expected


async def test_an_import_continues_after_a_restart_of_the_server(
    start_server: StartServer, tmp_path: Path, name: str, talk: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    token = f"--token-file={operator_token_file(server.db)}"
    shell.ok("thread", "create", name)
    with shell.start("import", str(talk), token, "--timeout", "30", "--json") as running:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await some_posted(BusServiceStub(channel), name, 50)
        server.kill()
        server.start()
        out, err = running.communicate(timeout=50)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["posted"] + json.loads(out)["already_there"] == 606
    for thread, expected in threads_of(talk).items():
        assert stored_messages(shell, thread) == expected


async def test_an_import_that_loses_the_server_says_how_to_resume(
    start_server: StartServer, tmp_path: Path, name: str, talk: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    token = f"--token-file={operator_token_file(server.db)}"
    shell.ok("thread", "create", name)
    with shell.start("import", str(talk), token, "--timeout", "1", "--json") as running:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await some_posted(BusServiceStub(channel), name, 50)
        server.kill()
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (4, "")
    error = json.loads(err)
    assert error["retryable"] is True
    assert error["hint"] == "Run it again: it continues where it stopped."
    assert error["message"].startswith("Line ")
    assert "after posting " in error["message"]
    server.start()
    assert shell.ok("import", str(talk), token, "--json").json["already_there"] >= 50
    for thread, expected in threads_of(talk).items():
        assert stored_messages(shell, thread) == expected


async def test_a_file_that_changes_during_its_import_is_detected(
    shell: Shell, token: str, name: str, talk: Path, threads: ThreadStub, bus: BusStub
) -> None:
    await threads.CreateThread(CreateThreadRequest(thread=name))
    with shell.start("import", str(talk), token, "--json") as running:
        await some_posted(bus, name, 50)
        running.send_signal(signal.SIGSTOP)
        os.truncate(talk, 1_000)
        running.send_signal(signal.SIGCONT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 2
    assert json.loads(err)["message"].endswith("the file was changed while it was imported")


def test_a_signal_ends_an_import_silently(
    shell: Shell, token: str, name: str, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with shell.start("import", str(fifo), token) as running, fifo.open("w"):
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err.strip()) == (130, "", "")
