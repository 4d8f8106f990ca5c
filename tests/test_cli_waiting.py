"""`threadbus wait`: printed messages are marked as read, and no others."""

import json
import os
from pathlib import Path

import pytest

from tests.serving import BusStub, ServerProcess
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import PostMessageRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def me(name: str) -> str:
    """The agent that waits."""
    return f"{name}-me"


@pytest.fixture
async def log(bus: BusStub, shell: Shell, thread: str, me: str) -> str:
    """A thread with messages 1 to 3 that `me` has not read."""
    shell.ok("join", thread, "--as", me)
    for number in (1, 2, 3):
        await bus.PostMessage(PostMessageRequest(thread=thread, content=f"m{number}"))
    return thread


def _seqs(shell: Shell, *arguments: str) -> list[int]:
    done = shell.run("wait", *arguments, "--timeout", "0", "--json")
    assert (done.code, done.err) == (0 if done.json["messages"] else 3, "")
    return [message["seq"] for message in done.json["messages"]]


def test_wait_continues_where_the_last_one_ended(shell: Shell, log: str, me: str) -> None:
    first = shell.ok("wait", log, "--as", me, "--max", "2", "--json").json
    assert [message["content"] for message in first["messages"]] == ["m1", "m2"]
    assert (first["cursor"], first["timed_out"]) == (2, False)
    assert shell.ok("wait", log, "--as", me).out.endswith("  m3\n")
    shell.ok("post", log, "m4")
    assert _seqs(shell, log, "--as", me) == [4]


def test_a_wait_without_messages_is_exit_code_3(shell: Shell, log: str, me: str) -> None:
    assert _seqs(shell, log, "--as", me) == [1, 2, 3]
    done = shell.run("wait", log, "--as", me, "--timeout", "0.1", "--json")
    assert (done.code, done.err) == (3, "")
    assert done.json == {"messages": [], "cursor": 3, "timed_out": True}
    done = shell.run("wait", log, "--as", me, "--timeout", "0")
    assert (done.code, done.out) == (3, "")
    assert "#3" in done.err


def test_wait_returns_when_a_message_comes(shell: Shell, log: str, me: str) -> None:
    assert _seqs(shell, log, "--as", me) == [1, 2, 3]
    with shell.start("wait", log, "--as", me, "--timeout", "25", "--json") as waiting:
        shell.ok("post", log, "at last")
        out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, err) == (0, "")
    assert '"content": "at last"' in out


def test_wait_can_wait_for_several_messages(shell: Shell, log: str, me: str) -> None:
    with shell.start("wait", log, "--as", me, "--min", "4", "--timeout", "25") as waiting:
        shell.ok("post", log, "m4")
        out, _ = waiting.communicate(timeout=20)
    assert len(out.splitlines()) == 4


def test_fewer_than_requested_are_printed_at_the_timeout(shell: Shell, log: str, me: str) -> None:
    done = shell.ok("wait", log, "--as", me, "--min", "9", "--timeout", "0.1", "--json").json
    assert (len(done["messages"]), done["timed_out"]) == (3, True)


def test_wait_after_a_seq_moves_no_read_position(shell: Shell, log: str, me: str) -> None:
    for _ in range(2):
        assert _seqs(shell, log, "--after", "1", "--as", me) == [2, 3]
    assert _seqs(shell, log, "--after", "0") == [1, 2, 3]
    assert _seqs(shell, log, "--after", "3", "--as", me) == []
    assert _seqs(shell, log, "--as", me) == [1, 2, 3]


def test_wait_after_a_seq_past_the_head_is_a_conflict(shell: Shell, log: str) -> None:
    done = shell.run("wait", log, "--after", "9", "--json")
    assert (done.code, done.error["reason"]) == (5, "CURSOR_AHEAD")


def test_own_messages_come_only_on_request(shell: Shell, log: str, me: str) -> None:
    shell.ok("post", log, "my own", "--as", me)
    assert _seqs(shell, log, "--after", "0", "--as", me) == [1, 2, 3]
    assert _seqs(shell, log, "--after", "0", "--as", me, "--all") == [1, 2, 3, 4]


def test_mine_skips_messages_addressed_to_others(shell: Shell, log: str, me: str) -> None:
    shell.ok("post", log, f"@{me} look")
    shell.ok("post", log, "m5")
    assert _seqs(shell, log, "--as", me, "--mine") == [4]
    assert _seqs(shell, log, "--as", me, "--mine") == []
    assert _seqs(shell, log, "--as", me) == [1, 2, 3, 4, 5]


def test_skipped_messages_stay_unread_and_the_next_wait_for_mine_skips_them_too(
    shell: Shell, log: str, me: str
) -> None:
    done = shell.run("wait", log, "--as", me, "--mine", "--timeout", "0", "--json")
    assert (done.code, done.json["cursor"]) == (3, 3)
    shell.ok("post", log, f"@{me} look")
    assert shell.ok("wait", log, "--as", me, "--mine", "--json").json["cursor"] == 4
    done = shell.run("wait", log, "--as", me, "--mine", "--timeout", "0")
    assert (done.code, done.out, done.err) == (3, "", f"Nothing new in {log} after #4.\n")
    assert _seqs(shell, log, "--as", me) == [1, 2, 3, 4]


def test_a_peek_marks_nothing_as_read(shell: Shell, log: str, me: str) -> None:
    shell.ok("wait", log, "--as", me, "--max", "1")
    assert _seqs(shell, log, "--as", me, "--peek") == [2, 3]
    assert _seqs(shell, log, "--as", me, "--peek", "--mine") == []
    assert _seqs(shell, log, "--as", me) == [2, 3]
    assert _seqs(shell, log, "--as", me, "--peek") == []


def test_own_messages_are_printed_on_request(shell: Shell, log: str, me: str) -> None:
    shell.ok("post", log, "my own", "--as", me)
    assert _seqs(shell, log, "--as", me, "--peek", "--own") == [1, 2, 3, 4]


def test_a_cursor_moves_apart_from_the_read_position(shell: Shell, log: str, me: str) -> None:
    shell.ok("wait", log, "--as", me, "--max", "1")
    hooks = [log, "--as", me, "--cursor", "hooks"]
    assert _seqs(shell, *hooks, "--max", "1") == [2]
    assert _seqs(shell, *hooks, "--peek") == [3]
    assert _seqs(shell, *hooks) == [3]
    assert _seqs(shell, *hooks) == []
    assert _seqs(shell, log, "--as", me, "--cursor", "others") == [2, 3]
    assert _seqs(shell, log, "--as", me) == [2, 3]
    shell.ok("post", log, "m4")
    shell.ok("post", log, f"@{me} m5")
    assert _seqs(shell, *hooks, "--mine") == [5]
    assert _seqs(shell, *hooks) == []
    assert _seqs(shell, log, "--as", me) == [4, 5]


def test_a_cursor_belongs_to_an_agent_and_a_thread(
    shell: Shell, log: str, me: str, name: str
) -> None:
    assert _seqs(shell, log, "--as", me, "--cursor", "hooks") == [1, 2, 3]
    assert _seqs(shell, log, "--as", f"{name}-other", "--cursor", "hooks") == [1, 2, 3]
    shell.ok("post", f"{name}-2", "elsewhere")
    assert _seqs(shell, f"{name}-2", "--as", me, "--cursor", "hooks") == [1]
    assert _seqs(shell, log, "--cursor", "hooks") == []  # anonymous starts at the newest message
    shell.ok("post", log, "m4")
    assert _seqs(shell, log, "--cursor", "hooks") == [4]


def test_a_cursor_of_an_earlier_thread_is_reported_once(shell: Shell, log: str, me: str) -> None:
    hooks = [log, "--as", me, "--cursor", "hooks"]
    assert _seqs(shell, *hooks) == [1, 2, 3]
    shell.ok("thread", "delete", log, "--yes")
    shell.ok("post", log, "new")
    done = shell.run("wait", *hooks, "--timeout", "0", "--json")
    assert (done.code, done.error["reason"]) == (5, "EPOCH_CHANGED")
    assert _seqs(shell, *hooks) == [1]


def test_a_cursor_file_that_is_damaged_is_refused(
    shell: Shell, log: str, me: str, tmp_path: Path
) -> None:
    hooks = [log, "--as", me, "--cursor", "hooks"]
    assert _seqs(shell, *hooks) == [1, 2, 3]
    (folder,) = tmp_path.rglob("*.cursors")
    (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    for content in ("{", "[]", '{"after_seq": "1", "epoch": ""}', '{"after_seq": -1}'):
        file.write_text(content)
        done = shell.run("wait", *hooks, "--json")
        assert done.code != 0
        assert str(file) in done.error["message"]


def test_mine_needs_a_name(shell: Shell, log: str) -> None:
    done = shell.run("wait", log, "--mine", "--json")
    assert (done.code, done.error["code"]) == (2, "INVALID_ARGUMENT")


def test_a_closed_thread_is_read_to_its_end_and_then_exit_code_5(
    shell: Shell, log: str, me: str
) -> None:
    shell.ok("thread", "close", log)
    done = shell.ok("wait", log, "--as", me, "--min", "9", "--peek", "--json").json
    assert (len(done["messages"]), done["timed_out"]) == (4, False)
    assert _seqs(shell, log, "--as", me) == [1, 2, 3, 4]
    done = shell.run("wait", log, "--as", me, "--json")
    assert (done.code, done.out, done.error["reason"]) == (5, "", "THREAD_CLOSED")


@pytest.mark.parametrize("inbox", [False, True])
def test_a_wait_that_ends_with_the_agents_session_is_exit_code_5(
    shell: Shell, log: str, me: str, inbox: bool
) -> None:
    assert _seqs(shell, log, "--as", me) == [1, 2, 3]
    waited = ["wait", "--mine"] if inbox else ["wait", log]
    with shell.start(*waited, "--as", me, "--timeout", "600", "--json") as waiting:
        while me not in shell.ok("agents", "--presence", "waiting").out.split():
            pass
        shell.ok("agents", "goodbye", "--as", me)
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out, json.loads(err)["reason"]) == (5, "", "SESSION_ENDED")
    # The wait has not begun another session.
    assert me in shell.ok("agents", "--presence", "offline").out.split()


def test_messages_that_could_not_be_printed_come_again(shell: Shell, log: str, me: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = shell.run_process("wait", log, "--as", me, "--json", stdout=full)
    assert done.code == 1
    assert "No space left" in done.err
    assert _seqs(shell, log, "--as", me) == [1, 2, 3]


def test_messages_that_no_reader_of_the_pipe_got_come_again(
    shell: Shell, log: str, me: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = shell.run_process("wait", log, "--as", me, stdout=closed)
    assert (done.code, done.err) == (141, "")
    assert _seqs(shell, log, "--as", me) == [1, 2, 3]


def test_an_agents_loop_is_three_lines_of_shell(shell: Shell, log: str, me: str) -> None:
    shell.ok("thread", "close", log)
    loop = f'while news=$(threadbus wait {log} --as {me} --max 1); do\n echo "$news"\ndone'
    lines = shell.script(loop).splitlines()
    assert [line.split()[0] for line in lines] == ["#1", "#2", "#3", "#4"]


def test_for_an_agent_that_never_waited_everything_is_unread(shell: Shell, name: str) -> None:
    shell.ok("post", name, "said before", "--as", f"{name}-a")
    waited = shell.ok("wait", name, "--as", f"{name}-b", "--json")
    assert [message["content"] for message in waited.json["messages"]] == ["said before"]


def test_without_a_name_only_new_messages_come(shell: Shell, name: str) -> None:
    shell.ok("post", name, "said before")
    assert shell.run("wait", name, "--timeout", "0").code == 3
