"""The command line in threads that lose their oldest messages."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.blocking import until
from tests.conftest import StartServer
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def shown(shell: Shell, name: str) -> Any:
    return shell.ok("thread", "show", name, "--json").json


def until_first(shell: Shell, name: str, seq: int) -> None:
    """Return once the oldest entry of the thread is `seq`."""
    until(lambda: shown(shell, name)["first_seq"] == seq)


@pytest.fixture
def short(shell: Shell, name: str) -> str:
    """A thread with messages 4 and 5, from which 1 to 3 were removed; its reader has read 1."""
    shell.ok("thread", "create", name, "--retain-messages", "2")
    shell.ok("post", name, "1")
    shell.ok("wait", name, "--as", f"{name}-reader")
    for number in "2345":
        shell.ok("post", name, f"{number} @{name}-reader")
    until_first(shell, name, 4)
    return name


# ── Settings ────────────────────────────────────────────────────────────────────────────────────


def test_create_and_update_set_the_retention(shell: Shell, name: str) -> None:
    limits = ["--retain-age", "30d", "--retain-messages", "1000", "--retain-bytes", "10MB"]
    made = shell.ok("thread", "create", name, *limits, "--json").json
    assert made["retention"] == {
        "max_age": "2592000s",
        "max_messages": 1_000,
        "max_bytes": 10_000_000,
    }
    _, kept = shell.ok("thread", "show", name).out.splitlines()
    assert kept == "keeps at most 30 d, 1,000 messages, 9.5 MiB"
    changed = shell.ok("thread", "update", name, "--retain-bytes", "1.5KiB", "--json").json
    assert changed["retention"] == {"max_messages": 0, "max_bytes": 1536}
    changed = shell.ok("thread", "update", name, "--topic", "t", "--json").json
    assert changed["retention"]["max_bytes"] == 1536
    assert shell.ok("thread", "update", name, "--retain-age", "0").out.endswith(
        "keeps everything\n"
    )
    assert shown(shell, name)["retention"] == {"max_messages": 0, "max_bytes": 0}
    changed = shell.ok("thread", "update", name, "--retain-default", "--json").json
    assert "retention" not in changed
    assert len(shell.ok("thread", "show", name).out.splitlines()) == 1


def test_set_is_another_name_of_update(shell: Shell, name: str) -> None:
    shell.ok("thread", "create", name, "--retain-default")
    done = shell.ok("thread", "set", name, "--retain-messages", "7", "--json").json
    assert done["retention"]["max_messages"] == 7


def test_show_tells_the_servers_default(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--retain-age", "2h", "--retain-messages", "1")
    shell = Shell(server.address, tmp_path)
    shell.ok("thread", "create", name)
    assert (
        "keeps at most 2 h, 1 message, as the server says" in shell.ok("thread", "show", name).out
    )
    shell.ok("thread", "update", name, "--retain-messages", "0")
    assert "keeps everything" in shell.ok("thread", "show", name).out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--retain-default", "--retain-age", "1d"], "not both"),
        (["--retain-default", "--retain-messages", "0"], "not both"),
        (["--retain-age", "soon"], "not a time"),
        (["--retain-age", "-1"], "not between"),
        (["--retain-age", "10001d"], "not between"),
        (["--retain-messages", "-1"], "-1"),
        (["--retain-messages", "1.5"], "1.5"),
        (["--retain-messages", str(2**63)], "max_messages"),
        (["--retain-bytes", "10 apples"], "not a size"),
        (["--retain-bytes", "-1"], "not a size"),
        (["--retain-bytes", "0.1"], "between 1 byte"),
        (["--retain-bytes", "9999999TB"], "between 1 byte"),
    ],
)
def test_what_is_no_retention_is_a_usage_error(
    shell: Shell, thread: str, options: list[str], why: str
) -> None:
    for verb in (["create", f"{thread}-2"], ["update", thread]):
        done = shell.run("thread", *verb, *options)
        assert (done.code, done.out) == (2, "")
        assert why in done.err


@pytest.mark.parametrize(
    ("size", "in_bytes"),
    [("0", 0), ("7", 7), ("500000", 500_000), ("2kB", 2_000), ("1 MB", 10**6), ("1gib", 2**30)],
)
def test_sizes_have_units(shell: Shell, name: str, size: str, in_bytes: int) -> None:
    made = shell.ok("thread", "create", name, "--retain-bytes", size, "--json").json
    assert made["retention"]["max_bytes"] == in_bytes


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────


def test_show_tells_the_oldest_message(shell: Shell, short: str) -> None:
    lines = shell.ok("thread", "show", short).out.splitlines()
    assert lines[1:3] == ["keeps at most 2 messages", "the oldest message that is kept is #4"]
    shell.ok("thread", "update", short, "--retain-age", "0.000001")
    until_first(shell, short, 7)
    assert (
        "no message is kept any more; the next one is #7" in shell.ok("thread", "show", short).out
    )


@pytest.mark.parametrize("own", [[], ["--mine"]], ids=["all", "mine"])
def test_wait_goes_on_and_says_so_once(shell: Shell, short: str, own: list[str]) -> None:
    wait = ["wait", *own, "--timeout", "0", "--as", f"{short}-reader"]
    done = shell.run(*wait[:1], *([] if own else [short]), *wait[1:])
    assert done.code == 0
    assert done.err == f"Messages #2 to #3 of {short} are not kept any more.\n"
    assert [line.split("  ")[-1].split()[0] for line in done.out.splitlines()] == ["4", "5"]
    again = shell.run("wait", short, "--timeout", "0", "--as", f"{short}-reader")
    assert (again.code, again.err) == (3, f"Nothing new in {short} after #5.\n")


def test_wait_in_json(shell: Shell, short: str) -> None:
    done = shell.run("wait", short, "--timeout", "0", "--as", f"{short}-reader", "--json")
    assert (done.code, done.json["cursor"]) == (0, 5)
    assert (done.error["code"], done.error["reason"]) == ("OUT_OF_RANGE", "COMPACTED")
    assert "#2 to #3" in done.error["message"] and "#4" in done.error["hint"]


@pytest.mark.parametrize(
    "options",
    [["--after", "1"], ["--peek"], ["--cursor", "mine"]],
    ids=["after", "peek", "cursor"],
)
def test_waits_that_acknowledge_nothing_go_on_too(
    shell: Shell, short: str, options: list[str]
) -> None:
    wait = ["wait", short, "--timeout", "0", "--as", f"{short}-reader"]
    for _ in range(2):
        done = shell.run(*wait, *options)
        if options[0] == "--cursor" and not done.out:
            assert (done.code, done.err) == (3, f"Nothing new in {short} after #5.\n")
            break
        assert done.code == 0 and len(done.out.splitlines()) == 2
        assert done.err == f"Messages #2 to #3 of {short} are not kept any more.\n"
    peeked = shell.run("wait", "--mine", "--peek", "--timeout", "0", "--as", f"{short}-reader")
    assert (peeked.code, len(peeked.out.splitlines())) == (0, 2)
    assert "#2 to #3" in peeked.err


def test_a_wait_in_an_emptied_thread_is_told_once(shell: Shell, short: str) -> None:
    shell.ok("thread", "update", short, "--retain-age", "0.000001")
    until_first(shell, short, 7)
    wait = ["wait", short, "--timeout", "0", "--as", f"{short}-reader"]
    assert shell.run(*wait).err.splitlines() == [
        f"Messages #2 to #6 of {short} are not kept any more.",
        f"Nothing new in {short} after #6.",
    ]
    assert shell.run(*wait).err == f"Nothing new in {short} after #6.\n"


def test_read_says_what_is_missing(shell: Shell, short: str) -> None:
    gone = f"Messages #1 to #3 of {short} are not kept any more.\n"
    assert shell.run("read", short).err == gone
    assert shell.run("read", short, "--last", "9").err == gone
    one = f"Message #3 of {short} is not kept any more.\n"
    assert shell.run("read", short, "--after", "2").err == one
    done = shell.run("read", short, "--before", "3")
    assert (done.code, done.out, done.err) == (3, "", gone)
    for complete in (["--after", "3"], ["--last", "2"], ["--after", "4", "--limit", "1"]):
        assert "not kept" not in shell.run("read", short, *complete).err
    alone = shell.run("read", short, "--seq", "2", "--json")
    assert (alone.code, alone.error["reason"]) == (1, "MESSAGE_NOT_FOUND")


def test_join_counts_what_is_kept(shell: Shell, short: str) -> None:
    done = shell.run("join", short, "--as", f"{short}-reader", "--context", "0")
    assert done.out.splitlines()[-1] == "you have read up to #1; 2 more to #5"
    assert done.err == f"Messages #2 to #3 of {short} are not kept any more.\n"


@pytest.mark.parametrize("options", [[], ["--from-start"], ["--last", "3"]])
def test_tail_begins_at_the_oldest_message(shell: Shell, short: str, options: list[str]) -> None:
    shell.ok("thread", "close", short)
    until_first(shell, short, 5)
    done = shell.run("tail", short, *options)
    assert [line.split()[0] for line in done.out.splitlines()] == ["#5", "#6"]
    first = {"--last": 4}.get("".join(options[:1]), 1)
    told = "Messages #1 to #4 of" if first == 1 else "Message #4 of"
    assert done.err.startswith(told)
    assert done.err.count("kept any more") == 1


def test_export_begins_there_and_says_so(shell: Shell, short: str) -> None:
    done = shell.run("export", short)
    assert [json.loads(line)["seq"] for line in done.out.splitlines()] == [4, 5]
    assert done.err == f"Messages #1 to #3 of {short} are not kept any more.\n"
    other = f"{short}-2"
    shell.ok("thread", "create", other, "--retain-messages", "1")
    shell.ok("post", other, "a")
    shell.ok("post", other, "b")
    until_first(shell, other, 2)
    done = shell.run("export", short, other)
    named = f"{short} (from #4), {other} (from #2)"
    assert done.err == f"The first messages of these are not kept any more: {named}.\n"
