"""`threadbus thread …`."""

from pathlib import Path

import pytest

from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def test_create_creates_a_thread_once(shell: Shell, name: str) -> None:
    create = ["thread", "create", name, "--topic", "What to build", "--label", "team=a"]
    made = shell.ok(*create, "--as", f"{name}-me", "--json").json
    assert (made["name"], made["topic"], made["labels"]) == (name, "What to build", {"team": "a"})
    assert (made["creator"], made["head_seq"], made["first_seq"]) == (f"{name}-me", 0, 1)
    done = shell.run(*create, "--json")
    assert (done.code, done.out, done.error["reason"]) == (5, "", "THREAD_EXISTS")


def test_show_shows_state_head_and_topic(shell: Shell, name: str) -> None:
    shell.ok("thread", "create", name, "--topic", "What to build")
    shell.ok("post", name, "hello")
    line = shell.ok("thread", "show", name).out
    assert line.split()[:3] == [name, "open", "#1"]
    assert line.endswith("  What to build\n")
    assert shell.ok("thread", "show", name, "--json").json["head_seq"] == 1
    shown = shell.run("thread", "show", env={"THREADBUS_THREAD": name})
    assert shown.out == line


def test_show_of_a_missing_thread_prints_what_to_do(shell: Shell, name: str) -> None:
    done = shell.run("thread", "show", name)
    assert (done.code, done.out) == (1, "")
    assert "threadbus thread create" in done.err


@pytest.mark.parametrize(("verb", "state"), [("close", "closed"), ("archive", "archived")])
def test_a_thread_that_is_not_open_takes_no_posts(
    shell: Shell, name: str, verb: str, state: str
) -> None:
    shell.ok("post", name, "hello")
    assert shell.ok("thread", verb, name).out.split()[:3] == [name, state, "#2"]
    done = shell.run("post", name, "more", "--json")
    assert (done.code, done.error["reason"]) == (5, "THREAD_CLOSED")
    opened = shell.ok("thread", "open", name, "--json").json
    assert opened["state"] == "THREAD_STATE_OPEN"
    assert shell.ok("post", name, "more").out == f"{name} #4\n"


def test_list_lists_what_is_requested(shell: Shell, name: str) -> None:
    for thread in ("a", "b", "c"):
        shell.ok("post", f"{name}-{thread}", "hello", "--as", f"{name}-in-{thread}")
    shell.ok("thread", "archive", f"{name}-c", "--as", f"{name}-in-c")
    shell.ok("thread", "close", f"{name}-a", "--as", f"{name}-in-a")

    def listed(*options: str) -> list[str]:
        threads = shell.ok("thread", "list", "--prefix", name, *options, "--json").json["threads"]
        return [thread["name"].removeprefix(f"{name}-") for thread in threads]

    assert listed() == ["a", "b"]
    assert listed("--state", "archived") == ["c"]
    assert listed("--state", "closed", "--state", "archived") == ["a", "c"]
    assert listed("--participant", f"{name}-in-b") == ["b"]
    lines = shell.ok("thread", "list", "--prefix", name).out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [f"{name}-a", "closed", "#2"],
        [f"{name}-b", "open", "#1"],
    ]


def test_an_empty_list_is_no_failure(shell: Shell, name: str) -> None:
    assert shell.ok("thread", "list", "--prefix", name).out == ""
    assert shell.ok("thread", "list", "--prefix", name, "--json").json == {"threads": []}


def test_delete_without_a_terminal_needs_yes(shell: Shell, name: str) -> None:
    shell.ok("post", name, "hello")
    done = shell.run("thread", "delete", name, stdin="y\n")
    assert done.code == 2
    assert "--yes" in done.err
    assert shell.ok("thread", "delete", name, "--yes", "--json").json == {
        "thread": name,
        "deleted": True,
    }
    assert shell.run("thread", "show", name).code == 1


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)])
def test_delete_on_a_terminal_asks(
    shell: Shell, name: str, answer: str, code: int, left: int
) -> None:
    shell.ok("post", name, "hello")
    done, shown = shell.on_terminal("thread", "delete", name, typed=answer)
    assert done == code
    assert f"Delete thread {name} and all of its messages?" in shown
    assert shell.run("thread", "show", name).code == left


def test_a_deleted_thread_can_be_recreated(shell: Shell, name: str) -> None:
    shell.ok("post", name, "old")
    assert shell.ok("thread", "delete", name, "--yes").out == f"{name} deleted\n"
    assert shell.ok("post", name, "new").out == f"{name} #1\n"
