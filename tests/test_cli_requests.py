"""`threadbus post --ask`, `requests` and `withdraw`, and where else requests and notices show."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.callers import operator_token_file
from tests.serving import ServerProcess
from tests.shell import Done, Shell

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def coder(shell: Shell, name: str) -> str:
    """The agent that asks."""
    return shell.ok("register", f"{name}-coder").out.rstrip()


@pytest.fixture
def reviewer(shell: Shell, name: str) -> str:
    """The agent that is asked."""
    return shell.ok("register", f"{name}-rev").out.rstrip()


@pytest.fixture
def thread(shell: Shell, name: str, coder: str, reviewer: str) -> str:
    """A thread whose message 1 asks the reviewer."""
    shell.ok("post", name, f"ready, @{reviewer}?", "--ask", "--within", "10m", "--as", coder)
    return name


def listed(shell: Shell, *options: str) -> list[tuple[str, int, str, str, str]]:
    """Returns the thread, seq, asker, agent and state of each request that is listed."""
    done = shell.run("requests", *options, "--json")
    assert (done.code, done.err) == (0 if done.json["requests"] else 3, "")
    return [
        (each["thread"], each["seq"], each["asker"], each["agent"], state(each))
        for each in done.json["requests"]
    ]


def state(request: dict[str, Any]) -> str:
    return str(request["state"]).removeprefix("REQUEST_STATE_")


def overdue(shell: Shell, thread: str, coder: str, reviewer: str) -> None:
    """Ask the reviewer, and return once the notice that it is overdue is in the thread."""
    shell.ok("post", thread, f"now, @{reviewer}", "--ask", "--within", "0.01", "--as", coder)
    shell.ok("wait", thread, "--as", coder, "--timeout", "25", "--peek")


def usage_error(done: Done) -> str:
    assert (done.code, done.out) == (2, "")
    return done.err


def test_the_agent_asked_has_a_request_until_it_replies(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    assert listed(shell, "--as", reviewer) == [(thread, 1, coder, reviewer, "OPEN")]
    shell.ok("post", thread, "yes", "--reply-to", "1", "--as", reviewer)
    assert listed(shell, "--as", reviewer) == []
    answered = (thread, 1, coder, reviewer, "ANSWERED")
    for wanted in ("answered", "any"):
        assert listed(shell, "--as", reviewer, "--state", wanted) == [answered]
    assert listed(shell, "--as", reviewer, "--state", "withdrawn") == []
    done = shell.run("requests", "--as", reviewer)
    assert (done.code, done.out, done.err) == (3, "", "There are no such requests.\n")


def test_requests_are_of_the_agent_or_of_everybody_in_one_thread_or_in_all(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    other = f"{thread}.2"
    shell.ok("post", other, "and you?", "--handoff", coder, "--ask", "--as", reviewer)
    to_reviewer = (thread, 1, coder, reviewer, "OPEN")
    to_coder = (other, 1, reviewer, coder, "OPEN")
    assert listed(shell, "--as", coder) == [to_coder]
    assert listed(shell, "--as", coder, "--from-me") == [to_reviewer]
    assert listed(shell, other, "--as", coder, "--from-me") == []
    assert [each for each in listed(shell, "--all") if coder in each] == [to_coder, to_reviewer]
    assert listed(shell, thread, "--all") == [to_reviewer]
    assert shell.run("requests", f"{thread}.none", "--all").code == 1


def test_people_see_who_asks_whom_and_when_it_is_due(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    shell.ok("post", thread, f"@{reviewer}", "--ask", "--as", coder)
    overdue(shell, thread, coder, reviewer)
    lines = shell.ok("requests", "--as", reviewer).out.splitlines()
    shown = [re.split(" {2,}", line) for line in lines]
    asks = f"{coder} asks {reviewer}"
    assert [line[:2] for line in shown] == [[f"{thread} #{seq}", asks] for seq in (3, 2, 1)]
    assert all(line[2].endswith(" ago") for line in shown)
    due = [line[3:] for line in shown]
    assert (due[0], due[1]) == (["OVERDUE"], [])
    assert due[2][0].startswith("due in ")
    document = shell.ok("requests", "--as", reviewer, "--json").json
    assert [each["overdue"] for each in document["requests"]] == [True, False, False]


def test_the_asker_withdraws_what_it_asked(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    assert shell.run("withdraw", thread, "1", "--as", reviewer).code == 6
    done = shell.ok("withdraw", thread, "1", "--as", coder)
    assert done.out.rstrip().endswith("  withdrawn")
    assert listed(shell, "--as", reviewer) == []
    shell.ok("post", thread, "no question")
    assert "asks nobody" in usage_error(shell.run("withdraw", thread, "3", "--as", coder))
    for seq, why in (([], "Missing SEQ"), (["x"], "'x' is not"), (["--", "-1"], "SEQ must be")):
        assert why in usage_error(shell.run("withdraw", "--as", coder, thread, *seq))


def test_the_thread_may_come_from_the_environment(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    usual = {"THREADBUS_THREAD": thread, "THREADBUS_AGENT": coder}
    assert shell.run("requests", "--from-me", env=usual).code == 0
    assert shell.run("withdraw", "1", env=usual).out.rstrip().endswith("  withdrawn")
    assert shell.run("requests", "--from-me", env=usual).code == 3
    question = shell.run("post", f"{thread}.2", f"@{reviewer}?", "--ask", env=usual)
    assert question.out.startswith(f"{thread}.2 #1")
    assert shell.run("withdraw", f"{thread}.2", "1", env=usual).code == 0
    assert "THREAD" in usage_error(shell.run("withdraw", "--as", coder))


def test_a_thread_shows_its_open_requests(shell: Shell, thread: str, reviewer: str) -> None:
    (request,) = shell.ok("thread", "show", thread, "--json").json["requests"]
    assert (request["seq"], request["agent"], request["overdue"]) == (1, reviewer, False)
    assert f"asks {reviewer}" in shell.ok("thread", "show", thread).out
    shell.ok("thread", "close", thread, "--as", f"{thread}-coder")
    assert shell.ok("thread", "show", thread, "--json").json["requests"] == []
    assert listed(shell, thread, "--all", "--state", "closed")[0][4] == "CLOSED"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("text", "--ask"), "--ask asks nobody"),
        (("`@x`", "--ask"), "--ask asks nobody"),
        (("@x", "--ask", "--no-mentions"), "--ask asks nobody"),
        (("@nobody.is.there", "--ask"), "--ask asks nobody"),
        (("@x", "--within", "10m"), "--within needs --ask"),
        (("@x", "--ask", "--within", "0"), "--within"),
        (("@x", "--ask", "--within", "366d"), "--within"),
        (("@x", "--ask", "--no-wake"), "leave out --no-wake, or use --quiet"),
        (("@x", "--ask", "--edit", "1"), "leave out --edit"),
    ],
)
def test_questions_that_make_no_sense_are_not_posted(
    shell: Shell, name: str, options: tuple[str, ...], why: str
) -> None:
    done = shell.run("post", name, *options, "--as", f"{name}-me")
    assert why in usage_error(done)
    assert shell.run("thread", "show", name).code == 1


def test_a_note_says_that_an_agent_that_is_gone_causes_no_notice(
    shell: Shell, name: str, coder: str, reviewer: str
) -> None:
    question = ("post", name, f"ready, @{reviewer}?", "--ask", "--as", coder)
    shell.ok(*question)
    shell.ok("agents", "goodbye", "--as", reviewer)
    done = shell.run(*question)
    assert done.code == 0
    note = f"{reviewer} was gone already: if it never comes back, you are not notified."
    assert f"{note} With --within TIME, you are.\n" in done.err
    shell.ok(*question, "--within", "10m")
    shell.ok(*question, "--json")


def test_anonymous_callers_have_and_ask_no_requests(shell: Shell, name: str, reviewer: str) -> None:
    assert "Missing agent" in usage_error(shell.run("post", name, f"@{reviewer}", "--ask"))
    for options in ((), ("--from-me",)):
        assert "Missing agent" in usage_error(shell.run("requests", *options))
    both = shell.run("requests", "--all", "--from-me", "--as", reviewer)
    assert "not both" in usage_error(both)


def test_every_way_to_read_shows_whom_a_message_asks(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    shell.ok("thread", "close", thread, "--as", coder)
    remark = f"(asks {reviewer} within 10 min) ready, @{reviewer}?"
    for call in (
        ("read", thread),
        ("tail", thread),
        ("wait", thread, "--as", reviewer, "--peek"),
        ("wait", "--mine", "--as", reviewer, "--peek"),
    ):
        assert remark in shell.run(*call).out
    (message, _) = shell.ok("read", thread, "--json").json["messages"]
    assert message["expect_reply"] == {"agents": [reviewer], "within": "600s"}


def test_a_wait_prints_notices_to_the_asker_only_and_read_and_tail_to_all(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    overdue(shell, thread, coder, reviewer)
    text = f"(notice, @{coder}) {reviewer} has not answered message 2 in time"
    assert text in shell.ok("wait", thread, "--as", coder, "--timeout", "0", "--peek").out
    assert "notice" not in shell.ok("wait", thread, "--as", reviewer, "--timeout", "0").out
    assert text in shell.ok("read", thread).out
    mine = shell.ok("wait", "--mine", "--as", coder, "--timeout", "0", "--json").json["messages"]
    assert [each["notice"] for each in mine] == [
        {"reason": "REASON_OVERDUE", "request_seq": 2, "agent": reviewer}
    ]
    for call in (("tail", thread), ("tail", "--all", "--as", reviewer, "--from-start")):
        with shell.start(*call) as tail:
            assert tail.stdout is not None
            assert text in [tail.stdout.readline() for _ in range(3)][2]


def test_markdown_shows_what_became_of_questions_and_json_lines_leave_notices_out(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    overdue(shell, thread, coder, reviewer)
    shell.ok("post", thread, "yes", "--reply-to", "1", "--as", reviewer)
    out = shell.ok("export", thread, "--format", "markdown").out
    assert f"asks {reviewer} within 10 min · {reviewer}: answered in \\#4\n" in out
    assert f"asks {reviewer} within 0.01 s · {reviewer}: not answered\n" in out
    assert f"> {reviewer} has not answered message 2 in time\n" in out
    lines = [json.loads(line) for line in shell.ok("export", thread).out.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 4]
    assert lines[0]["expect_reply"]["agents"] == [reviewer]


def test_an_import_asks_nobody_again_and_leaves_notices_out(
    shell: Shell, server: ServerProcess, thread: str, coder: str, reviewer: str, tmp_path: Path
) -> None:
    overdue(shell, thread, coder, reviewer)
    file = tmp_path / "lines.jsonl"
    messages = shell.ok("read", thread, "--json").json["messages"]
    for message in messages:
        message["thread"] = f"{thread}.copy"
    file.write_text("".join(f"{json.dumps(message)}\n" for message in messages), "utf-8")
    boss = str(operator_token_file(server.db))
    done = shell.ok("import", str(file), "--token-file", boss, "--json").json
    assert (done["posted"], done["left_out"]) == (2, 1)
    assert listed(shell, f"{thread}.copy", "--all", "--state", "any") == []
    (copy, _) = shell.ok("read", f"{thread}.copy", "--json").json["messages"]
    assert (copy["mentions"], "expect_reply" in copy) == ([reviewer], False)


def test_a_post_that_is_no_answer_says_that_one_is_owed(
    shell: Shell, thread: str, coder: str, reviewer: str
) -> None:
    said = f"{coder} still waits for your answer to #1: it takes --reply-to 1.\n"
    assert shell.run("post", thread, "yes", "--as", reviewer).err == said
    shell.ok("post", thread, "yes", "--as", reviewer, "--reply-to", "1")
    shell.ok("post", thread, "and more", "--as", reviewer)
