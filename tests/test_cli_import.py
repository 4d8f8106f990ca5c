"""`threadbus import`."""

import json
from pathlib import Path
from typing import Any

import pytest

from bus_client import StoreBusy, ThreadHandle
from tests.callers import operator, operator_token_file
from tests.conftest import StartServer
from tests.json_lines import line, stored_messages, summary
from tests.locks import locked
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def token(server: ServerProcess) -> str:
    return f"--token-file={operator_token_file(server.db)}"


def test_each_message_is_posted_on_behalf_of_its_sender(
    shell: Shell, token: str, name: str
) -> None:
    text = line(name, f"{name}-a", "one") + line(name, f"{name}-b", "two")
    done = shell.ok("import", "-", token, stdin=text)
    assert done.out == "2 posted, 0 were there already, in 1 thread\n"
    messages = shell.ok("read", name, "--json").json["messages"]
    assert [(m["seq"], m["sender"], m["content"], m["posted_by"]) for m in messages] == [
        (1, f"{name}-a", "one", "operator"),
        (2, f"{name}-b", "two", "operator"),
    ]
    participants = ["thread", "list", "--prefix", name, "--participant", "operator", "--json"]
    assert shell.ok(*participants).json["threads"] == []


def test_the_operators_own_messages_are_posted_as_its_own(
    shell: Shell, token: str, name: str
) -> None:
    shell.ok("import", "-", token, stdin=line(name, "operator", "stop it"))
    (message,) = shell.ok("read", name, "--json").json["messages"]
    assert message["sender"] == "operator"
    assert "posted_by" not in message


def test_repeated_lines_are_kept_and_a_second_run_posts_nothing(
    shell: Shell, token: str, name: str, tmp_path: Path
) -> None:
    other = f"{name}-other"
    lines = [line(name, "a", "yes"), line(other, "a", "yes"), line(name, "b", "yes")] * 3
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(lines))
    done = shell.ok("import", str(file), token, "--json")
    assert done.json == {
        "posted": 9,
        "already_there": 0,
        "out_of_place": 0,
        "threads": 2,
        "left_out": 0,
        "replies_unlinked": 0,
    }
    again = shell.ok("import", str(file), token, "--json")
    assert summary(again) == {"already_there": 9, "threads": 2}
    assert stored_messages(shell, name) == [("a", "yes"), ("b", "yes")] * 3
    assert stored_messages(shell, other) == [("a", "yes")] * 3


def test_lines_appended_to_a_file_are_posted_by_the_next_run(
    shell: Shell, token: str, name: str
) -> None:
    begun = line(name, "a", "yes") + line(name, "a", "no")
    shell.ok("import", "-", token, stdin=begun)
    done = shell.ok("import", "-", token, "--json", stdin=begun + line(name, "a", "yes"))
    assert summary(done) == {"posted": 1, "already_there": 2, "threads": 1}
    assert [content for _, content in stored_messages(shell, name)] == ["yes", "no", "yes"]


def of_one(thread: str, *contents: str) -> str:
    """Return a file with the messages of one sender in a thread."""
    return "".join(line(thread, "a", content) for content in contents)


def test_the_same_lines_from_another_source_are_other_messages(
    shell: Shell, token: str, name: str
) -> None:
    days = {"mon": of_one(name, "hi", "+1", "ok"), "tue": of_one(name, "new day", "+1", "ok")}
    for day, text in days.items():
        done = shell.ok("import", "-", token, "--source", day, "--json", stdin=text)
        assert summary(done) == {"posted": 3, "threads": 1}
    again = shell.ok("import", "-", token, "--source", "tue", "--json", stdin=days["tue"])
    assert summary(again) == {"already_there": 3, "threads": 1}
    assert [content for _, content in stored_messages(shell, name)] == [
        "hi",
        "+1",
        "ok",
        "new day",
        "+1",
        "ok",
    ]


@pytest.mark.parametrize(
    ("second", "out_of_place"),
    [
        (["new day", "+1", "ok"], 2),
        (["+1", "new day", "ok"], 1),
        (["ok", "+1"], 1),
        (["hi", "ok"], 1),
        (["hi", "+1", "ok", "new"], 0),
        (["hi", "+1"], 0),
        (["hi", "+1", "ok"], 0),
        (["other", "day"], 0),
    ],
)
def test_lines_already_imported_from_another_file_are_reported(
    shell: Shell, token: str, name: str, second: list[str], out_of_place: int
) -> None:
    shell.ok("import", "-", token, stdin=of_one(name, "hi", "+1", "ok"))
    done = shell.run("import", "-", token, stdin=of_one(name, *second))
    assert (f"{out_of_place} of those that were there already are not where" in done.err) is bool(
        out_of_place
    )
    assert bool(done.err) is bool(out_of_place)


def test_a_file_that_grows_while_agents_post_is_still_one_source(
    shell: Shell, token: str, name: str
) -> None:
    text = ""
    for content in ("hi", "+1", "ok"):
        text += of_one(name, content)
        shell.ok("import", "-", token, stdin=text)
        shell.ok("post", name, "+1")
    assert shell.ok("import", "-", token, stdin=text).out.startswith("0 posted, 3 were there")


def test_interleaved_threads_keep_their_order_and_are_created_in_the_files(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    names = [f"t{number * 37 % 100}" for number in range(100)]
    lines = [line(thread, "a", f"{number}") for number in range(5) for thread in names]
    token = f"--token-file={operator_token_file(server.db)}"
    shell.ok("import", "-", token, stdin="".join(lines))
    threads = shell.ok("thread", "list", "--json").json["threads"]
    assert [thread["head_seq"] for thread in threads] == [5] * 100
    created = sorted(threads, key=lambda thread: thread["create_time"])
    assert [thread["name"] for thread in created] == names
    for thread in names[:3]:
        assert [content for _, content in stored_messages(shell, thread)] == [
            "0",
            "1",
            "2",
            "3",
            "4",
        ]


def test_a_post_that_the_server_refuses_is_named_with_the_number_posted_before(
    shell: Shell, token: str, name: str
) -> None:
    lines = [line(name, "a", "one"), line(name, "a", "two")]
    shell.ok("import", "-", token, stdin="".join(lines))
    shell.ok("thread", "close", name, token)
    again = shell.ok("import", "-", token, "--json", stdin="".join(lines))
    assert summary(again) == {"already_there": 2, "threads": 1}
    done = shell.run("import", "-", token, "--json", stdin="".join([*lines, line(name, "a", "3")]))
    assert (done.code, done.error["reason"]) == (5, "THREAD_CLOSED")
    assert done.error["message"].startswith("Line 3, after posting 0 messages: ")


def test_plain_lines_are_posted_in_batches(
    shell: Shell, token: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[str] = []
    post = ThreadHandle.post

    async def noted(self: ThreadHandle, content: str = "", **options: Any) -> Any:
        alone.append(content)
        return await post(self, content, **options)

    monkeypatch.setattr(ThreadHandle, "post", noted)
    said = [("ab"[number % 2], f"{number}") for number in range(250)]
    lines = [line(name, *each) for each in said]
    lines[120] = line(name, *said[120], labels={"k": "v"})
    done = shell.ok("import", "-", token, "--json", stdin="".join(lines))
    assert summary(done) == {"posted": 250, "threads": 1}
    assert stored_messages(shell, name) == said
    assert alone == ["0", "1", "120"]  # the first of each sender, and the one with labels


def test_lines_that_a_busy_server_refuses_are_posted_again_in_order(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server()
    post_many, shell = ThreadHandle.post_many, Shell(server.address, tmp_path)
    results: list[Any] = []

    async def refused(self: ThreadHandle, posts: Any, **options: Any) -> Any:
        with locked(server.db):
            results.extend([each async for each in post_many(self, posts, **options)])
        for result in results:
            yield result

    monkeypatch.setattr(ThreadHandle, "post_many", refused)
    said = [("a", f"{number} {'é' * 100_000}") for number in range(4)]  # 600 KB after the first
    token = f"--token-file={operator_token_file(server.db)}"
    done = shell.ok("import", "-", token, "--json", stdin="".join(line("t", *e) for e in said))
    assert summary(done) == {"posted": 4, "threads": 1}
    assert [type(result) for result in results] == [StoreBusy] * 3
    assert stored_messages(shell, "t") == said


@pytest.mark.parametrize("gone", [False, True], ids=["bad", "unregistered"])
def test_no_line_is_posted_before_an_earlier_one_that_is_refused(
    shell: Shell, token: str, name: str, gone: bool
) -> None:
    sender = f"{name}-gone"
    if gone:
        shell.ok("register", sender)
        shell.ok("agents", "unregister", sender, "--as", sender, "--yes")
    before, after = ([line(name, "a", f"{n}") for n in part] for part in ((1, 2, 3), (5, 6, 7)))
    bad = line(name, sender, "4") if gone else line(name, "a", "4", labels={"k" * 64: "v"})
    done = shell.run("import", "-", token, "--json", stdin="".join([*before, bad, *after]))
    assert done.code != 0
    assert done.error["message"].startswith("Line 4, after posting 3 messages: ")
    corrected = "".join([*before, line(name, "a", "4"), *after])
    done = shell.ok("import", "-", token, "--json", stdin=corrected)
    assert summary(done) == {"posted": 4, "already_there": 3, "threads": 1}
    assert stored_messages(shell, name) == [("a", f"{n}") for n in range(1, 8)]


def test_a_line_with_other_fields_than_before_is_a_conflict(
    shell: Shell, token: str, name: str
) -> None:
    first = line(name, "a", "one")
    shell.ok("import", "-", token, stdin=first)
    other = line(name, "a", "two") + line(name, "a", "one", labels={"k": "v"})
    done = shell.run("import", "-", token, "--json", stdin=other)
    assert (done.code, done.error["reason"]) == (5, "REQUEST_ID_REUSED")
    assert done.error["message"].startswith("Line 2, after posting 1 message: ")
    assert "#1" in done.error["hint"]


@pytest.mark.parametrize("flags", [(), ("--auth", "required")], ids=["open", "required"])
def test_without_the_operators_token_nothing_is_posted(
    start_server: StartServer, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    server = start_server(*flags)
    shell = Shell(server.address, tmp_path)
    done = shell.run("import", "-", stdin=line("design", "a", "hello"))
    assert done.code == 6
    assert "Only an operator" in done.err
    assert "THREADBUS_TOKEN or --token-file" in done.err
    token = {"THREADBUS_TOKEN": operator(server).token}
    assert shell.run("thread", "list", "--json", env=token).json["threads"] == []
    assert shell.run("import", "-", stdin=line("design", "a", "hello"), env=token).code == 0


def test_all_fields_of_a_message_are_imported(
    shell: Shell, token: str, name: str, tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_bytes(b"\x00\xff")
    for agent in ("a", "b"):
        shell.ok("register", f"{name}-{agent}")
    shell.ok("post", name, "first", "--as", f"{name}-a")
    shell.ok("thread", "close", name, token)
    shell.ok("thread", "open", name, token)  # so that seqs differ where it is imported
    options = ["--mention", f"{name}-b", "--handoff", f"{name}-b", "--priority", "high"]
    options += ["--label", "k=v", "--attach", str(note), "--reply-to", "1", "--no-wake"]
    shell.ok("post", name, "second", "--as", f"{name}-a", *options)
    shell.ok("post", name, "third", "--as", f"{name}-a", "--reply-to", "4")
    shell.ok("post", name, "fourth", "--as", f"{name}-a", "--reply-to", "2")
    exported = shell.ok("export", name).out
    shell.ok("thread", "delete", name, "--yes", token)

    done = shell.ok("import", "-", token, "--json", stdin=exported)
    assert summary(done) == {"posted": 4, "threads": 1, "replies_unlinked": 1}
    again = shell.ok("import", "-", token, "--json", stdin=exported)
    assert summary(again) == {"already_there": 4, "threads": 1, "replies_unlinked": 1}
    _, second, third, fourth = map(json.loads, shell.ok("export", name).out.splitlines())
    before = json.loads(exported.splitlines()[1])
    kept = ("mentions", "handoff_to", "priority", "wakes", "labels", "attachments", "content")
    assert {key: second[key] for key in kept} == {key: before[key] for key in kept}
    assert (second["reply_to"], third["reply_to"]) == (1, 2)
    assert "reply_to" not in fourth


def test_the_traceparent_of_a_message_is_imported(shell: Shell, token: str, name: str) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    lines = [line(name, "a", "0"), line(name, "a", "1", traceparent=trace), line(name, "a", "2")]
    lines.append(line(name, "a", "3", traceparent="none"))
    shell.ok("import", "-", token, stdin="".join(lines))
    exported = map(json.loads, shell.ok("export", name).out.splitlines())
    assert [(each["content"], each.get("traceparent")) for each in exported] == [
        ("0", None),
        ("1", trace),
        ("2", None),
        ("3", None),
    ]


def test_messages_may_have_attachments_only(shell: Shell, token: str, name: str) -> None:
    files = [{"filename": "a.txt", "raw": "AAEC"}, {"url": "https://example.org/"}]
    text = json.dumps({"thread": name, "sender": "a", "attachments": files})
    shell.ok("import", "-", token, stdin=text)
    message = json.loads(shell.ok("export", name).out)
    assert "content" not in message
    assert message["attachments"] == [{**files[0], "size": 3}, files[1]]


def test_agents_that_messages_name_are_registered_and_can_be_resumed(
    shell: Shell, token: str, name: str
) -> None:
    text = line(name, f"{name}-a", "hello", mentions=[f"{name}-b"], handoff_to=f"{name}-c")
    shell.ok("import", "-", token, stdin=text + line(name, f"{name}-b", "yes"))
    assert shell.ok("wait", name, "--as", f"{name}-b", "--mine", "--json").json["cursor"] == 1
    assert shell.ok("post", name, "mine", "--as", f"{name}-c").out.startswith(f"{name} #3 · ")


def test_an_unregistered_agent_that_a_message_names_is_registered_again(
    server: ServerProcess,
    shell: Shell,
    token: str,
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    other = Shell(server.address, tmp_path_factory.mktemp("other"))
    other.ok("register", f"{name}-gone")
    other.ok("agents", "unregister", f"{name}-gone", "--as", f"{name}-gone", "--yes")
    text = line(name, f"{name}-a", "hello", mentions=[f"{name}-gone"])
    shell.ok("import", "-", token, stdin=text)
    shell.ok("post", name, "back", "--as", f"{name}-gone")


def test_the_output_of_tail_can_be_imported(shell: Shell, token: str, name: str) -> None:
    shell.ok("post", name, "hello", "--as", f"{name}-a")
    shell.ok("thread", "close", name, token)
    printed = shell.run("tail", name, "--json").out
    assert "MESSAGE_KIND_THREAD" in printed
    text = printed.replace(name, f"{name}-copy")
    done = shell.ok("import", "-", token, stdin=text)
    assert done.out.splitlines() == [
        "1 posted, 0 were there already, in 1 thread",
        "1 left out: edits, notices, and changes of a thread's state",
    ]
    assert stored_messages(shell, f"{name}-copy") == [(f"{name}-copy-a", "hello")]


def test_crlf_line_ends_and_empty_lines_do_no_harm(shell: Shell, token: str, name: str) -> None:
    text = line(name, "a", "one").replace("\n", "\r\n\r\n") + line(name, "a", "two").strip()
    done = shell.ok("import", "-", token, stdin=b"\xef\xbb\xbf" + text.encode())
    assert done.out.startswith("2 posted")
    assert stored_messages(shell, name) == [("a", "one"), ("a", "two")]


def test_an_empty_file_is_no_error(shell: Shell, token: str) -> None:
    assert summary(shell.ok("import", "-", token, "--json", stdin="")) == {}


def test_missing_files_are_wrong_usage(shell: Shell, token: str) -> None:
    done = shell.run("import", "no-such-file", token)
    assert done.code == 2
    assert "no-such-file" in done.err


def test_on_a_terminal_import_shows_its_progress(
    shell: Shell, token: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(line(name, "a", f"{number}") for number in range(20)))
    code, shown = shell.on_terminal("import", str(file), token)
    assert code == 0
    assert "Posting" in shown
    assert "100%" in shown
    assert "20 posted" in shown
    code, shown = shell.on_terminal("import", str(file), token, "--json")
    assert code == 0
    assert json.loads(shown)["already_there"] == 20
