"""What the command line shows of presence, read positions and recipients."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.blocking import until
from tests.callers import operator_token_file
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def agent(shell: Shell, name: str) -> dict[str, str]:
    """Return what `agents --json` shows of an agent."""
    (found,) = [a for a in shell.ok("agents", "--json").json["agents"] if a["name"] == name]
    return dict(found)


def line(shell: Shell, name: str, *arguments: str) -> str:
    """Return the line about an agent in a command's output."""
    lines = shell.ok(*arguments).out.splitlines()
    (found,) = [one for one in lines if name in one.split()]
    return found


def test_agents_prints_presence(shell: Shell, name: str) -> None:
    shell.ok("join", name, "--as", f"{name}-a")
    assert agent(shell, f"{name}-a")["presence"] == "PRESENCE_IDLE"
    assert line(shell, f"{name}-a", "agents").split() == [f"{name}-a", "agent", "idle"]
    assert shell.ok("agents", "goodbye", "--as", f"{name}-a").out == f"{name}-a offline\n"
    shown = line(shell, f"{name}-a", "agents", "list")
    assert re.fullmatch(rf"{name}-a +agent +offline \d+ s", shown)


def test_agents_can_list_one_presence(shell: Shell, name: str) -> None:
    shell.ok("join", name, "--as", f"{name}-a")
    shell.ok("agents", "goodbye", "--as", f"{name}-a")
    for presences, listed in ((["idle"], False), (["offline", "waiting"], True)):
        options = [option for presence in presences for option in ("--presence", presence)]
        names = shell.ok("agents", *options).out.split()
        assert (f"{name}-a" in names) is listed


def test_thread_show_prints_participants_and_their_positions(shell: Shell, name: str) -> None:
    for role in ("a", "b"):
        shell.ok("join", name, "--as", f"{name}-{role}")
    for text in ("1", "2", "3"):
        shell.ok("post", name, text, "--as", f"{name}-a")
    assert "has read #0 of #3" in line(shell, f"{name}-b", "thread", "show", name)
    shell.ok("wait", name, "--as", f"{name}-b", "--max", "2")
    assert "working" in line(shell, f"{name}-b", "thread", "show", name)
    told = line(shell, f"{name}-b", "thread", "show", name)
    assert told.endswith("has read #2 of #3")
    shell.ok("wait", name, "--as", f"{name}-b", "--after", "2")  # marks nothing as read
    told = line(shell, f"{name}-b", "thread", "show", name)
    assert told.endswith("has read #2 of #3, was sent #3")
    shell.ok("wait", name, "--as", f"{name}-b")
    assert line(shell, f"{name}-b", "thread", "show", name).endswith("has read all")
    document = shell.ok("thread", "show", name, "--json").json
    assert [p["agent"] for p in document["participants"]] == [f"{name}-a", f"{name}-b"]
    assert document["participants"][1]["read_seq"] == 3


@pytest.mark.parametrize(
    "watch", [["THREAD", "--peek"], ["THREAD", "--cursor", "mine"], ["--mine", "--peek"]], ids=str
)
def test_a_script_beside_an_agent_changes_nothing_that_others_see(
    shell: Shell, name: str, watch: list[str]
) -> None:
    me = f"{name}-a"
    shell.ok("join", name, "--as", me)
    shell.ok("post", name, f"hello @{me}")
    before = line(shell, me, "thread", "show", name)
    arguments = [name if each == "THREAD" else each for each in watch]
    assert "hello" in shell.ok("wait", *arguments, "--as", me, "--timeout", "20").out
    assert line(shell, me, "thread", "show", name) == before
    assert agent(shell, me)["presence"] == "PRESENCE_IDLE"


def test_post_prints_who_will_see_it(shell: Shell, name: str) -> None:
    a, b, c = (f"{name}-{role}" for role in "abc")
    for who in (a, b, c):
        shell.ok("join", name, "--as", who)
    shell.ok("agents", "goodbye", "--as", b)
    with shell.start("wait", name, "--as", c, "--timeout", "20") as waiting:
        while agent(shell, c)["presence"] != "PRESENCE_WAITING":
            pass
        posted = shell.ok("post", name, f"@{b} look", "--as", a).out
        assert re.fullmatch(rf"{name} #1 · {b} offline \d+ s · {c} waiting\n", posted)
        assert waiting.wait(20) == 0
    document = shell.ok("post", name, "and", "--as", a, "--json").json
    assert [found["agent"] for found in document["recipients"]] == [b, c]
    assert document["recipients"][1]["presence"] == "PRESENCE_WORKING"


def test_a_recipient_that_waits_elsewhere_or_for_others_is_marked(shell: Shell, name: str) -> None:
    a, b = f"{name}-a", f"{name}-b"
    shell.ok("join", name, "--as", b)
    shell.ok("join", f"{name}-elsewhere", "--as", b)
    with shell.start("wait", f"{name}-elsewhere", "--as", b, "--timeout", "20"):
        while agent(shell, b)["presence"] != "PRESENCE_WAITING":
            pass
        posted = shell.ok("post", name, "hello", "--as", a).out
    assert posted == f"{name} #1 · {b} waiting (not for it)\n"
    with shell.start("wait", name, "--mine", "--as", b, "--timeout", "20"):
        while agent(shell, b)["presence"] != "PRESENCE_WAITING":
            pass
        posted = shell.ok("post", name, "hello", "--as", a).out
    assert posted == f"{name} #2 · {b} waiting (not for it)\n"


def test_of_many_recipients_the_first_are_named(shell: Shell, name: str) -> None:
    for number in range(11):
        shell.ok("join", name, "--as", f"{name}-{number:02}")
    words = shell.ok("post", name, "hello").out.strip().split(" · ")
    assert (len(words), words[-1]) == (10, "3 more")


@pytest.mark.parametrize("after", [[], ["--after", "0"]], ids=["unread", "after"])
def test_wait_takes_a_lease_of_the_given_duration(
    shell: Shell, name: str, after: list[str]
) -> None:
    shell.ok("post", name, "work")
    shell.ok("wait", name, *after, "--as", f"{name}-a", "--lease", "0.01")
    until(lambda: agent(shell, f"{name}-a")["presence"] == "PRESENCE_LAPSED")


def test_thread_update_and_leave_change_a_thread(shell: Shell, name: str) -> None:
    a = f"{name}-a"
    shell.ok("join", name, "--as", a)
    change = ["--topic", "What", "--stage", "review", "--label", "team=b", "--strict"]
    shown = shell.ok("thread", "update", name, *change, "--as", a).out
    assert shown.endswith("  [review] [strict] What\n")
    assert "stage to “review”" in shell.ok("read", name).out
    change = ["--no-labels", "--no-strict", "--json"]
    document = shell.ok("thread", "update", name, *change, "--as", a).json
    assert (document["labels"], document["sync_mode"]) == ({}, "SYNC_MODE_OFF")
    assert (document["topic"], document["stage"]) == ("What", "review")
    assert shell.ok("thread", "leave", name, "--as", a).out == f"{a} left {name}\n"
    assert shell.ok("thread", "show", name, "--json").json["participants"] == []


def test_a_post_to_a_strict_thread_needs_based_on_or_expect(shell: Shell, name: str) -> None:
    shell.ok("thread", "create", name, "--strict")
    done = shell.run("post", name, "hello", "--json")
    assert (done.code, done.error["reason"]) == (5, "EXPECTED_SEQ_REQUIRED")
    assert "--expect" in done.error["hint"]
    shell.ok("post", name, "hello", "--expect", "0")


def test_a_message_is_edited_by_its_sender(shell: Shell, name: str) -> None:
    a = f"{name}-a"
    shell.ok("post", name, "helo", "--as", a)
    assert shell.ok("post", name, "hello", "--edit", "1", "--as", a).out == f"{name} #2\n"
    first, second = shell.ok("read", name).out.splitlines()
    assert first.endswith("(edited in #2) helo")
    assert second.endswith("(edit of #1) hello")
    refused = shell.run("post", name, "mine", "--edit", "1", "--as", f"{name}-b", "--json")
    assert (refused.code, "its sender with --as" in refused.error["hint"]) == (6, True)


def test_an_agent_rotates_its_token_and_unregisters(shell: Shell, name: str) -> None:
    shell.ok("register", name)
    update = ["agents", "update", "--description", "Reads", "--as", name]
    assert shell.ok(*update).out.endswith("  Reads\n")
    before = shell.ok("register", name, "--show-token", "--json").json["token"]
    rotated = ["agents", "rotate-token", "--grace", "0", "--as", name]
    assert shell.ok(*rotated).out == f"{name} has a new token\n"
    done = shell.run("agents", env={"THREADBUS_TOKEN": before})
    assert done.code == 6
    assert shell.ok("register", name, "--show-token", "--json").json["token"] != before
    gone = ["agents", "unregister", name, "--yes", "--as", name]
    assert shell.ok(*gone).out == f"{name} unregistered\n"
    assert name not in shell.ok("agents").out.split()
    assert shell.run("register", name).code == 5


def test_an_operator_lists_waits(shell: Shell, server: ServerProcess, name: str) -> None:
    a = f"{name}-a"
    shell.ok("post", name, "hello")
    token = str(operator_token_file(server.db))
    waits = ["agents", "waits", "--thread", name, "--token-file", token]
    assert shell.ok(*waits).out == ""
    with shell.start("wait", name, "--after", "1", "--as", a, "--timeout", "20"):
        # A wait is listed from its start; its cursors only once its threads are found.
        found: list[dict[str, Any]] = []
        while not any(wait.get("threads") for wait in found):
            found = shell.ok(*waits, "--json").json["waits"]
        assert [(w["agent"], w["threads"][0]["after_seq"]) for w in found] == [(a, 1)]
        assert re.search(rf"^{a} .+ 127\.0\.0\.1:\d+ +{name} after #1$", shell.ok(*waits).out)
        assert shell.ok(*waits, "--of", "somebody").out == ""
    assert shell.run("agents", "waits").code == 6


def test_an_agent_that_waits_twice_gets_a_warning(shell: Shell, name: str) -> None:
    a, b = f"{name}-a", f"{name}-b"
    shell.ok("join", name, "--as", b)
    wait = ["wait", name, "--as", b, "--timeout", "20"]
    with shell.start(*wait), shell.start(*wait):
        while shell.ok("thread", "show", name, "--json").json["participants"][0]["wait_count"] < 2:
            pass
        shown = line(shell, b, "thread", "show", name)
        posted = shell.ok("post", name, "hello", "--as", a).out
    assert re.fullmatch(rf"  {b} +waiting \(2\) +waits here +has read all", shown)
    assert posted == f"{name} #1 · {b} waiting (2)\n"
