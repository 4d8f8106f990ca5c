"""`threadbus read` and `threadbus join`."""

import re
from pathlib import Path

import pytest

from tests.callers import register
from tests.serving import AgentStub, BusStub, ServerProcess
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import PostMessageRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
async def log(bus: BusStub, agents: AgentStub, thread: str) -> str:
    """A thread with messages 1 to 5."""
    coder = await register(agents, f"{thread}-coder")
    for number in range(1, 6):
        post = PostMessageRequest(thread=thread, content=f"m{number}")
        await bus.PostMessage(post, metadata=coder.metadata)
    return thread


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["--after", "2"], [3, 4, 5]),
        (["--before", "3"], [1, 2]),
        (["--after", "1", "--before", "4"], [2, 3]),
        (["--limit", "2"], [1, 2]),
        (["--limit", "2", "--newest"], [4, 5]),
        (["--last", "2"], [4, 5]),
        (["--last", "2", "--before", "4"], [2, 3]),
    ],
    ids=str,
)
def test_read_reads_a_range(shell: Shell, log: str, options: list[str], seqs: list[int]) -> None:
    done = shell.run("read", log, "--json", *options)
    assert (done.code, done.err) == (0, "")
    assert [message["seq"] for message in done.json["messages"]] == seqs
    assert done.json["thread"] == log


def test_read_prints_a_line_for_each_message(shell: Shell, log: str) -> None:
    shell.ok("post", log, "first\n\n  third\n", "--as", f"{log}-z", "--reply-to", "2")
    lines = shell.ok("read", log, "--after", "4").out.splitlines()
    time = r"\d\d:\d\d:\d\d"
    assert re.fullmatch(rf"#5 {log}-coder {time}  m5", lines[0])
    start = re.fullmatch(rf"(#6 {log}-z {' ' * len('code')}{time}  )\(re #2\) first", lines[1])
    assert start
    assert lines[2:] == ["", f"{' ' * len(start[1])}  third", ""]


def test_read_prints_where_to_continue(shell: Shell, log: str) -> None:
    assert "--after 2" in shell.run("read", log, "--limit", "2").err


def test_an_empty_range_is_exit_code_3(shell: Shell, log: str) -> None:
    done = shell.run("read", log, "--after", "5")
    assert (done.code, done.out, done.err) == (3, "", "")
    done = shell.run("read", log, "--after", "5", "--json")
    assert (done.code, done.json["messages"], done.err) == (3, [], "")


def test_a_range_past_the_end_is_a_conflict(shell: Shell, log: str) -> None:
    done = shell.run("read", log, "--after", "6", "--json")
    assert (done.code, done.error["reason"]) == (5, "CURSOR_INVALID")


def test_join_creates_a_thread_once(shell: Shell, name: str) -> None:
    first = shell.ok("join", name, "--topic", "What to build", "--as", f"{name}-a", "--json").json
    assert (first["created"], first["cursor"], first["context"]) == (True, 0, [])
    assert first["thread"]["topic"] == "What to build"
    assert first["thread"]["head_seq"] == 0
    again = shell.ok("join", name, "--as", f"{name}-b", "--json").json
    assert again["created"] is False


def test_join_creates_nothing_with_no_create(shell: Shell, name: str) -> None:
    done = shell.run("join", name, "--no-create", "--json")
    assert (done.code, done.error["reason"]) == (1, "THREAD_NOT_FOUND")


@pytest.mark.parametrize(("start", "place", "context"), [("head", 5, [4, 5]), ("first", 0, [])])
def test_join_prints_where_a_newcomer_starts(
    shell: Shell, log: str, start: str, place: int, context: list[int]
) -> None:
    join = ["join", log, "--start", start, "--context", "2", "--as", f"{log}-new", "--json"]
    entered = shell.ok(*join).json
    assert entered["cursor"] == place
    assert [message["seq"] for message in entered["context"]] == context
    assert entered["thread"]["head_seq"] == 5


def test_join_prints_how_far_the_caller_has_read(shell: Shell, log: str) -> None:
    join = ["join", log, "--start", "first", "--as", f"{log}-new"]
    assert shell.ok(*join).out.splitlines()[-1] == "you have read up to #0; 5 more to #5"
    shell.ok("wait", log, "--max", "3", "--as", f"{log}-new")
    lines = shell.ok(*join).out.splitlines()
    assert lines[0].startswith(f"{log}  open  #5  ")
    assert [line.rpartition(" ")[2] for line in lines[1:4]] == ["m1", "m2", "m3"]
    assert lines[4] == "you have read up to #3; 2 more to #5"
