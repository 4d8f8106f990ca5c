"""`threadbus export`."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from tests.callers import operator_token_file
from tests.conftest import StartServer
from tests.script import EPOCH, THREAD, scripted
from tests.serving import ServerProcess
from tests.shell import Done, Shell
from tests.test_conversations import FILE
from threadbus.v1.bus_service_pb2 import GetMessageResponse, ListMessagesResponse
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, MESSAGE_KIND_EDIT, Message
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import GetThreadResponse, ListThreadsResponse

pytestmark = pytest.mark.slow

WHAT_WAS_IMPORTED = ("--fields", "thread,sender,content")

#: Characters that are easily lost when files are read and written.
AWKWARD = [
    "naïve → 😀 مرحبا \u200f",
    "".join(map(chr, range(0xA0))),
    "a\u2028b\u2029c\u0085d\u202ee\ufeff",
    "one\r\ntwo\rthree\n\n",
    "same",
    "same",
    "```python\nprint()",
    "  \t ",
    '"quoted" \\ / </script>',
]


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def token(server: ServerProcess) -> str:
    return f"--token-file={operator_token_file(server.db)}"


def awkward(*threads: str) -> bytes:
    """Write a file of JSON lines that are hard to preserve."""
    lines = [
        json.dumps({"thread": thread, "sender": "a-1", "content": content}, ensure_ascii=False)
        for thread in threads
        for content in AWKWARD
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def exported(shell: Shell, *arguments: str, to: Path) -> bytes:
    """Return the bytes that an export writes to stdout."""
    with to.open("wb") as file:
        done = shell.run_process("export", *arguments, stdout=file)
    assert (done.code, done.err) == (0, "")
    return to.read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_imported_lines_are_exported_byte_for_byte(
    shell: Shell, token: str, name: str, tmp_path: Path, encoding: str
) -> None:
    file = awkward(name)
    shell.ok("import", "-", token, stdin=file)
    with (tmp_path / "stdout").open("w+b") as stdout:
        narrow = {"PYTHONIOENCODING": encoding}
        export = ["export", name, *WHAT_WAS_IMPORTED]
        assert shell.run_process(*export, stdout=stdout, env=narrow).code == 0
    assert (tmp_path / "stdout").read_bytes() == file
    again = tmp_path / "talk.jsonl"
    assert shell.run_process(*export, "--out", str(again), env=narrow).code == 0
    assert again.read_bytes() == file


def test_all_threads_are_exported_in_the_order_of_their_creation(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    file = awkward("z", "b", "Y", "a")
    token = f"--token-file={operator_token_file(server.db)}"
    shell.ok("import", "-", token, stdin=file)
    shell.ok("thread", "archive", "Y", token)
    shell.ok("thread", "close", "b", token)
    shell.ok("thread", "create", "empty")
    assert exported(shell, "--all", *WHAT_WAS_IMPORTED, to=tmp_path / "all.jsonl") == file


@pytest.mark.skipif(not FILE.exists(), reason="no recorded conversations (THREADBUS_CONVERSATIONS)")
def test_recorded_conversations_come_back_byte_for_byte(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    token = f"--token-file={operator_token_file(server.db)}"
    done = shell.ok("import", str(FILE), token, "--json")
    assert done.json["posted"] == FILE.read_bytes().count(b"\n")
    back = exported(shell, "--all", *WHAT_WAS_IMPORTED, to=tmp_path / "all.jsonl")
    assert back == FILE.read_bytes()


def test_lines_are_the_documents_that_read_prints(shell: Shell, name: str) -> None:
    shell.ok("post", name, "one", "--label", "k=v")
    shell.ok("post", name, "two", "--reply-to", "1", "--based-on", "1")
    lines = shell.ok("export", name).out.splitlines()
    assert [json.loads(line) for line in lines] == shell.ok("read", name, "--json").json["messages"]


def test_unset_fields_are_included_if_requested(shell: Shell, name: str) -> None:
    shell.ok("post", name, "one")
    fields = "reply_to,labels,based_on_seq, seq,handoff_to"
    assert shell.ok("export", name, "--fields", fields).out == (
        '{"reply_to": 0, "labels": {}, "based_on_seq": null, "seq": 1, "handoff_to": ""}\n'
    )


def test_threads_are_exported_in_the_order_given_and_once_each(shell: Shell, name: str) -> None:
    names = [f"{name}-b", f"{name}-a"]
    for thread in reversed(names):
        shell.ok("post", thread, "hello")
    out = shell.ok("export", *names, names[0], "--fields", "thread").out
    assert [json.loads(line)["thread"] for line in out.splitlines()] == names


def test_long_threads_are_exported_whole_without_their_thread_entries(
    shell: Shell, token: str, name: str
) -> None:
    lines = [
        json.dumps({"thread": name, "sender": "a", "content": f"{number}"}) + "\n"
        for number in range(250)
    ]
    shell.ok("import", "-", token, stdin="".join(lines[:99]))
    shell.ok("thread", "close", name, token)
    shell.ok("thread", "open", name, token)
    shell.ok("import", "-", token, stdin="".join(lines))
    assert shell.ok("export", name, *WHAT_WAS_IMPORTED).out == "".join(lines)


def test_an_unknown_thread_writes_nothing(shell: Shell, name: str, tmp_path: Path) -> None:
    shell.ok("post", name, "hello")
    done = shell.run("export", name, f"{name}-missing", "--json")
    assert (done.code, done.out, done.error["reason"]) == (1, "", "THREAD_NOT_FOUND")
    file = tmp_path / "talk.jsonl"
    assert shell.run("export", f"{name}-missing", "--out", str(file)).code == 1
    assert list(tmp_path.glob("*talk*")) == []


def test_a_file_in_a_folder_that_does_not_exist_is_wrong_usage(
    shell: Shell, tmp_path: Path
) -> None:
    folder = tmp_path / "missing"
    done = shell.run("export", "--all", "--out", str(folder / "talk.jsonl"))
    assert (done.code, f"{folder} is not a folder: create it" in done.err) == (2, True)


def test_an_empty_export_is_exit_code_3_and_replaces_no_file(
    shell: Shell, name: str, tmp_path: Path
) -> None:
    shell.ok("thread", "create", name)
    done = shell.run("export", name)
    assert (done.code, done.out, done.err) == (3, "", "There is nothing to export.\n")
    file = tmp_path / "talk.jsonl"
    file.write_text("as it was")
    assert shell.run("export", name, "--out", str(file)).code == 3
    assert file.read_text() == "as it was"
    assert list(tmp_path.glob("*talk*")) == [file]


def test_a_file_is_replaced_in_place_with_its_permissions(
    shell: Shell, name: str, tmp_path: Path
) -> None:
    shell.ok("post", name, "hello")
    file, link = tmp_path / "talk.jsonl", tmp_path / "link"
    file.write_text("as it was")
    file.chmod(0o600)
    link.symlink_to(file)
    done = shell.ok("export", name, "--fields", "content", "--out", str(link))
    assert done.out == f"1 message of 1 thread written to {link}\n"
    assert file.read_text() == '{"content": "hello"}\n'
    assert file.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink()
    assert sorted(tmp_path.glob("*talk*")) == [file]
    told = shell.ok("export", name, "--out", str(file), "--json").json
    assert told == {"file": str(file), "messages": 1, "threads": 1}


def test_a_pipe_is_written_to_and_not_replaced(shell: Shell, name: str, tmp_path: Path) -> None:
    shell.ok("post", name, "hello")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    export = ["export", name, "--fields", "content", "--out", str(fifo)]
    with shell.start(*export) as running:
        assert fifo.read_text() == '{"content": "hello"}\n'
        assert running.wait(20) == 0
    assert fifo.is_fifo()


@pytest.mark.own_server
def test_the_thread_may_come_from_the_environment(shell: Shell, name: str) -> None:
    shell.ok("post", name, "hello")
    usual = {"THREADBUS_THREAD": name}
    assert shell.run("export", "--fields", "thread", env=usual).out == f'{{"thread": "{name}"}}\n'
    everything = shell.run("export", "--all", "--fields", "thread", env=usual)
    assert f'{{"thread": "{name}"}}' in everything.out.splitlines()


def test_an_export_ends_when_its_reader_closes_the_pipe(
    shell: Shell, token: str, name: str
) -> None:
    content = "x" * 1_000_000
    lines = [
        json.dumps({"thread": name, "sender": "a", "content": f"{number}{content}"}) + "\n"
        for number in range(3)
    ]
    shell.ok("import", "-", token, stdin="".join(lines))
    with shell.start("export", name) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.wait(20) == 141
        assert running.stderr is not None
        assert running.stderr.read() == ""


UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def test_lines_are_escaped_on_a_terminal_and_exact_elsewhere(
    shell: Shell, token: str, name: str
) -> None:
    shell.ok("import", "-", token, stdin=awkward(name))
    code, shown = shell.on_terminal("export", name, *WHAT_WAS_IMPORTED)
    assert code == 0
    lines = shown.replace("\r\n", "\n").splitlines()
    assert [json.loads(line)["content"] for line in lines] == AWKWARD
    assert not any(UNSAFE.search(line) for line in lines)


def test_on_a_terminal_export_shows_its_progress(shell: Shell, name: str, tmp_path: Path) -> None:
    shell.ok("post", name, "hello")
    code, shown = shell.on_terminal("export", name, "--out", str(tmp_path / "talk.jsonl"))
    assert code == 0
    assert "Exporting" in shown
    assert "100%" in shown
    code, shown = shell.on_terminal("export", name, "--fields", "content")
    assert (code, shown) == (0, '{"content": "hello"}\r\n')


def _thread(*, epoch: str = EPOCH) -> GetThreadResponse:
    return GetThreadResponse(thread=Thread(name=THREAD, epoch=epoch, first_seq=1, head_seq=2))


def _said(seq: int, content: str) -> Message:
    return Message(thread=THREAD, seq=seq, sender="a", content=content, kind=MESSAGE_KIND_CHAT)


async def _export(address: str, home: Path, *options: str) -> Done:
    return await asyncio.to_thread(Shell(address, home).run, "export", THREAD, *options)


async def test_an_edited_message_is_exported_with_its_current_content(tmp_path: Path) -> None:
    edited, edit = _said(1, "bad"), _said(2, "better")
    edited.edit_seq, edit.edit_of, edit.kind = 2, 1, MESSAGE_KIND_EDIT
    page = ListMessagesResponse(messages=[edited, edit], head_seq=2)
    async with scripted() as script:
        script.answer("GetThread", _thread())
        script.answer("ListMessages", page)
        script.answer("GetMessage", GetMessageResponse(message=edit))
        script.answer("GetThread", _thread())
        done = await _export(script.address, tmp_path, "--fields", "seq,content")
    assert (done.code, done.out) == (0, '{"seq": 1, "content": "better"}\n')


async def test_threads_missing_from_some_listings_are_exported(tmp_path: Path) -> None:
    first, second = Thread(name="first", epoch=EPOCH), Thread(name="second", epoch=EPOCH)
    page = ListMessagesResponse(messages=[_said(1, "one"), _said(2, "two")], head_seq=2)
    async with scripted() as script:
        script.answer("ListThreads", ListThreadsResponse(threads=[first]))
        script.answer("ListThreads", ListThreadsResponse(threads=[second, first]))
        script.answer("ListThreads", ListThreadsResponse(threads=[_thread().thread, second]))
        script.answer("ListThreads", ListThreadsResponse(threads=[_thread().thread, second]))
        script.answer("GetThread", GetThreadResponse(thread=first))
        script.answer("ListMessages", page)
        script.answer("GetThread", _thread())
        script.answer("GetThread", GetThreadResponse(thread=second))
        arguments = ["export", "--all", "--fields", "content"]
        done = await asyncio.to_thread(Shell(script.address, tmp_path).run, *arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out == '{"content": "one"}\n{"content": "two"}\n'


async def test_a_thread_recreated_during_the_export_is_an_error(tmp_path: Path) -> None:
    page = ListMessagesResponse(messages=[_said(1, "old"), _said(2, "new")], head_seq=2)
    file = tmp_path / "talk.jsonl"
    async with scripted() as script:
        script.answer("GetThread", _thread())
        script.answer("ListMessages", page)
        script.answer("GetThread", _thread(epoch="another"))
        done = await _export(script.address, tmp_path, "--out", str(file))
    assert (done.code, done.out) == (1, "")
    assert "created again" in done.err
    assert not file.exists()
