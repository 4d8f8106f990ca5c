"""`threadbus read`, `wait`, `tail`, `join` and `export`: texts cut off, files saved or left out."""

import base64
import json
from pathlib import Path

import pytest

from bus_client.cli.files import take_files
from tests.peers import Peer
from tests.serving import BusStub, ServerProcess
from tests.shell import Shell
from threadbus.v1.message_pb2 import Attachment, Message

pytestmark = pytest.mark.slow

DATA = bytes(range(256))
RAW = base64.b64encode(DATA).decode()
HOSTILE = [
    "..bashrc",
    "-rf",
    "a\u202etxt.exe",
    "a\x1b[31m",
    "con trol\n",
    "ü" * 127,
    "x." + "y" * 200,
]


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


async def post_file(bus: BusStub, thread: str, name: str = "a.bin", data: bytes = DATA) -> None:
    """Post a long text with a file and a link."""
    files = [Attachment(filename=name, raw=data), Attachment(url="https://example.org/x")]
    await Peer(bus).post(thread, "größe " * 20, attachments=files)


@pytest.mark.parametrize("verb", ["read", "wait", "join"])
async def test_bytes_of_files_are_left_out_of_json(
    shell: Shell, bus: BusStub, thread: str, verb: str
) -> None:
    await post_file(bus, thread)
    options = ["--after", "0", "--timeout", "5"] if verb == "wait" else []
    done = shell.ok(verb, thread, "--json", *options)
    (message,) = done.json["context" if verb == "join" else "messages"]
    described, link = message["attachments"]
    assert described == {"filename": "a.bin", "size": 256}
    assert link == {"url": "https://example.org/x"}
    assert "content_truncated" not in message
    assert RAW[:20] not in done.out


@pytest.mark.parametrize("verb", ["read", "wait"])
async def test_files_are_saved_on_request_and_their_paths_told(
    shell: Shell, bus: BusStub, thread: str, tmp_path: Path, verb: str
) -> None:
    await post_file(bus, thread)
    folder = tmp_path / "new" / "folder"
    options = ["--after", "0", "--timeout", "5"] if verb == "wait" else []
    options += ["--with-files", str(folder)]
    (message,) = shell.ok(verb, thread, "--json", *options).json["messages"]
    path = str(folder / "a.bin")
    assert message["attachments"][0] == {"filename": "a.bin", "size": 256, "path": path}
    assert "path" not in message["attachments"][1]
    assert Path(path).read_bytes() == DATA
    # Again, for people: the file is there already.
    assert f"file {path}, file https://example.org/x" in shell.ok(verb, thread, *options).out
    assert [each.name for each in folder.iterdir()] == ["a.bin"]


async def test_no_file_is_replaced_by_another_one(
    shell: Shell, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "a.bin").write_text("mine")
    (tmp_path / "a-2.bin").symlink_to(target)
    for data in (b"1", b"2", b"1"):
        await post_file(bus, thread, data=data)
    done = shell.ok("read", thread, "--json", "--with-files", str(tmp_path))
    paths = [message["attachments"][0]["path"] for message in done.json["messages"]]
    assert paths == [str(tmp_path / name) for name in ("a-3.bin", "a-4.bin", "a-3.bin")]
    assert (tmp_path / "a.bin").read_text() == "mine"
    assert not target.exists()
    assert [Path(path).read_bytes() for path in paths] == [b"1", b"2", b"1"]


@pytest.mark.parametrize("filename", [*HOSTILE, ""], ids=lambda filename: ascii(filename)[:20])
async def test_names_of_files_are_made_safe(
    shell: Shell, bus: BusStub, thread: str, tmp_path: Path, filename: str
) -> None:
    folder = tmp_path / "files"
    await post_file(bus, thread, filename)
    await post_file(bus, thread, filename, b"another")
    shell.ok("read", thread, "--with-files", str(folder))
    saved = sorted(folder.iterdir())
    assert len(saved) == 2
    assert all(path.name[0] not in ".-" and path.name.isprintable() for path in saved)
    assert {path.read_bytes() for path in saved} == {DATA, b"another"}


@pytest.mark.parametrize("filename", ["../out", "/etc/x", "a/../../b", "..", "\\..\\x", "a\0b"])
def test_no_server_can_have_a_file_saved_elsewhere(tmp_path: Path, filename: str) -> None:
    folder = tmp_path / "a" / "b"
    message = Message(seq=7, attachments=[Attachment(filename=filename, raw=DATA)])
    ((path,),) = take_files([message], folder).values()
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [Path(path)]
    assert Path(path).parent == folder


async def test_a_folder_that_cannot_be_written_is_an_error_and_nothing_counts_as_read(
    shell: Shell, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await post_file(bus, thread)
    (tmp_path / "file").touch()
    options = ["--as", f"{thread}-a", "--timeout", "5", "--json"]
    done = shell.run("wait", thread, *options, "--with-files", str(tmp_path / "file" / "below"))
    assert (done.code, done.out) == (1, "")
    assert [m["seq"] for m in shell.ok("wait", thread, *options).json["messages"]] == [1]


async def test_one_message_is_read_with_what_was_left_out(
    shell: Shell, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "before")
    await post_file(bus, thread)
    done = shell.ok("read", thread, "--seq", "2", "--with-files", str(tmp_path), "--json")
    (message,) = done.json["messages"]
    assert (message["seq"], message["content"]) == (2, "größe " * 20)
    assert Path(message["attachments"][0]["path"]).read_bytes() == DATA
    assert shell.run("read", thread, "--seq", "3", "--json").error["reason"] == "MESSAGE_NOT_FOUND"
    assert shell.run("read", thread, "--seq", "1", "--last", "1").code == 2


@pytest.mark.parametrize("verb", ["read", "wait", "tail"])
async def test_long_texts_are_cut_off_and_it_is_told_how_to_read_them(
    shell: Shell, bus: BusStub, thread: str, verb: str
) -> None:
    await post_file(bus, thread)
    options = ["--after", "0", "--timeout", "5"] if verb == "wait" else []
    if verb == "tail":
        shell.ok("thread", "close", thread)
    cut = shell.run(verb, thread, "--max-chars", "10", *options).out
    assert f"… cut off after 10 of 160 bytes; whole: threadbus read {thread} --seq 1" in cut
    assert "größe gr\n" in cut
    done = shell.ok(verb, thread, "--max-chars", "10", "--json", *options)
    found = json.loads(done.out.splitlines()[0])
    message = found if verb == "tail" else found["messages"][0]
    assert message["content"] == "größe gr"
    assert (message["content_size"], message["content_truncated"]) == (160, True)


@pytest.mark.parametrize("most", ["0", "160", str(2**31)])
async def test_a_text_within_max_chars_is_whole(
    shell: Shell, bus: BusStub, thread: str, most: str
) -> None:
    await post_file(bus, thread)
    text = shell.ok("read", thread, "--max-chars", most).out
    assert "größe " * 19 in text
    assert "cut off" not in text


@pytest.mark.parametrize("most", ["-1", str(2**31 + 1), "x", ""])
def test_a_bad_max_chars_is_a_usage_error(shell: Shell, thread: str, most: str) -> None:
    assert shell.run("read", thread, "--max-chars", most).code == 2
    assert shell.run("wait", thread, "--max-chars", most).code == 2


async def test_a_tail_in_json_is_complete(shell: Shell, bus: BusStub, thread: str) -> None:
    await post_file(bus, thread)
    shell.ok("thread", "close", thread)
    message = json.loads(shell.ok("tail", thread, "--json").out.splitlines()[0])
    assert message["attachments"][0] == {"filename": "a.bin", "raw": RAW, "size": 256}


async def test_json_lines_are_complete_unless_files_are_left_out(
    shell: Shell, bus: BusStub, thread: str
) -> None:
    await post_file(bus, thread)
    whole = json.loads(shell.ok("export", thread).out)
    assert whole["attachments"][0] == {"filename": "a.bin", "raw": RAW, "size": 256}
    short = json.loads(shell.ok("export", thread, "--no-files").out)
    assert short["attachments"][0] == {"filename": "a.bin", "size": 256}
    assert short["content"] == whole["content"]


async def test_an_edited_message_is_exported_with_the_size_of_its_latest_text(
    shell: Shell, thread: str
) -> None:
    shell.ok("post", thread, "first text", "--as", f"{thread}-a")
    shell.ok("post", thread, "new", "--edit", "1", "--as", f"{thread}-a")
    found = json.loads(shell.ok("export", thread).out)
    assert (found["content"], found["content_size"]) == ("new", 3)


async def test_markdown_has_no_bytes_and_tells_where_files_were_saved(
    shell: Shell, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await post_file(bus, thread)
    options = ["export", thread, "--format", "markdown"]
    assert "file a.bin" in shell.ok(*options).out
    folder = tmp_path / "files"
    assert not folder.exists()
    assert "/a.bin" in shell.ok(*options, "--with-files", str(folder)).out
    assert (folder / "a.bin").read_bytes() == DATA
    assert shell.run("export", thread, "--with-files", str(folder)).code == 2
    assert shell.run(*options, "--no-files", "--with-files", str(folder)).code == 2
