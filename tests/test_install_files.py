"""`threadbus install` and files of others: what is not ours stays, whatever is in them."""

import concurrent.futures
import fcntl
import itertools
import json
import os
import stat
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from bus_client.hosts import install_json
from bus_client.hosts.install_json import Document, InstallError
from bus_client.hosts.table import HOSTS, Layout
from tests.disks import make_read_only, small_disk, unchangeable
from tests.fake_hosts import PROGRAMS, Desk

#: Every file that an installation changes: the host, what is in the file, and the options for it.
FILES = [
    *((name, "hooks", ["--hooks"]) for name, host in HOSTS.items() if host.hook_file),
    *((name, "server", list[str]()) for name in HOSTS if name not in PROGRAMS),
    ("claude-code", "permission", ["--allow"]),
]
each_file = pytest.mark.parametrize(
    ("host", "part", "options"), FILES, ids=[f"{host}-{part}" for host, part, _ in FILES]
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk.at(tmp_path)
    monkeypatch.chdir(desk.project)
    return desk


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def key(host: str, part: str) -> str:
    """Return the key of the object that is merged into."""
    server = {"vscode": "servers", "opencode": "mcp"}.get(host, "mcpServers")
    return {"hooks": "hooks", "server": server, "permission": "permissions"}[part]


def other(host: str, part: str) -> Document:
    """Return a file of somebody who uses the same parts of it, in an order of their own."""
    document: Document = {"z": 1.5, "a": [None, True, "é\u2028", {"b": {}}]}
    section: Document = {"zz": {"command": "x"}}
    if part == "hooks":
        file = HOSTS[host].hook_file
        assert file is not None
        hook = {file.command_key: "mine --fast", "type": "command"}
        groups = [{"matcher": "Bash", "hooks": [hook, {"type": "prompt"}]}, "odd"]
        entries = groups if file.layout is Layout.GROUPS else [hook, "odd"]
        document |= file.head
        section = {"Other": 7} | {name: entries for name in HOSTS[host].events.values()}
    if part == "permission":
        section = {"deny": ["x"], "allow": ["Bash(ls)"]}
    return {**document, key(host, part): section, "last": {}}


@each_file
def test_what_is_not_ours_is_kept_in_its_order(
    desk: Desk, host: str, part: str, options: list[str]
) -> None:
    before = json.dumps(other(host, part), indent=4, ensure_ascii=False) + "\n"
    path = put(desk.file(host, part), before)
    done = desk.install(host, *options)
    assert done.code == 0, done
    after = path.read_text("utf-8")
    assert "threadbus" in after
    position = 0
    for line in before.splitlines():  # each is still there, in the same order
        found = after.find(line.rstrip(",").rstrip("]}[{"), position)
        assert found >= 0, line
        position = found
    assert desk.install(host, "--remove").code == 0
    assert path.read_text("utf-8") == before


@each_file
def test_removing_leaves_a_file_without_ours_byte_for_byte(
    desk: Desk, host: str, part: str, options: list[str]
) -> None:
    before = json.dumps(other(host, part), separators=(" ,\t", ":\r\n")).encode()
    path = put(desk.file(host, part), before)
    inode = path.stat().st_ino
    done = desk.install(host, "--remove")
    assert done.code == 0, done
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)


#: In the files of every host.
REFUSED: dict[str, str | bytes] = {
    "comments": '{\n  // mine\n  "a": 1\n}\n',
    "no JSON": "{ broken",
    "a huge file": '{"a": "' + "x" * (1024 * 1024) + '"}',
}
#: In one file, as all are read alike.
REFUSED_TOO: dict[str, str | bytes] = {
    "a trailing comma": '{"a": 1,}',
    "half a file": '{"hooks": {"Stop": [',
    "a list": "[]",
    "a text": '"hooks"',
    "a key twice": '{"a": 1, "a": 2}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NUL": b"\0\0\0\0",
    "no number": '{"a": NaN}',
    "a huge number": '{"a": 1e999}',
    "many digits": '{"a": ' + "9" * 5_000 + "}",
    "much nesting": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
@each_file
def test_a_file_that_is_not_understood_is_left_alone(
    desk: Desk, host: str, part: str, options: list[str], content: str | bytes
) -> None:
    path = put(desk.file(host, part), content)
    before = path.read_bytes()
    for arguments in (options, [*options, "--dry-run"], ["--remove"]):
        done = desk.install(host, *arguments)
        assert done.code == 1, done
        assert done.err.startswith(f"threadbus: {path} was left alone: ")
        assert done.out == ""
        assert path.read_bytes() == before
    assert desk.calls() == []  # nothing else was changed either
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("content", REFUSED_TOO.values(), ids=REFUSED_TOO)
def test_what_json_has_not_is_left_alone(desk: Desk, content: str | bytes) -> None:
    path = put(desk.file("cursor", "server"), content)
    before = path.read_bytes()
    done = desk.install("cursor")
    assert done.code == 1, done
    assert done.err.startswith(f"threadbus: {path} was left alone: ")
    assert path.read_bytes() == before


@each_file
def test_it_shows_what_to_add_by_hand(desk: Desk, host: str, part: str, options: list[str]) -> None:
    path = put(desk.file(host, part), "{} // mine")
    error, _, paste = desk.install(host, *options).err.partition("\n  To do it by hand, add:\n")
    assert "it is not plain JSON, without comments" in error
    adds = json.loads(paste)
    assert key(host, part) in adds
    message = desk.install(host, *options, "--json").error["message"]
    assert json.loads(message.partition(" Add: ")[2]) == adds
    path.unlink()
    desk.install(host, *options)
    assert desk.document(host, part) == adds


WRONG: dict[str, object] = {"null": None, "a list": []}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@each_file
def test_a_section_of_another_shape_is_left_alone(
    desk: Desk, host: str, part: str, options: list[str], value: object
) -> None:
    name = key(host, part)
    path = put(desk.file(host, part), json.dumps({name: value}))
    before = path.read_bytes()
    done = desk.install(host, *options)
    assert done.code == 1, done
    assert f"{path} was left alone: {name} is not an object." in done.err
    assert desk.install(host, "--remove").code == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [None, {}])
@pytest.mark.parametrize("host", [host for host, part, _ in FILES if part == "hooks"])
def test_an_event_of_another_shape_is_left_alone(desk: Desk, host: str, value: object) -> None:
    event = [*HOSTS[host].events.values()][1]
    path = put(desk.file(host, "hooks"), json.dumps({"hooks": {event: value}}))
    before = path.read_bytes()
    done = desk.install(host, "--hooks")
    assert done.code == 1, done
    assert f"hooks.{event} is not a list" in done.err
    assert desk.install(host, "--remove").code == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("host", [host for host, part, _ in FILES if part == "server"])
@pytest.mark.parametrize("server", [{"command": "other"}, {"url": "http://x"}, None])
def test_another_server_of_our_name_is_left_alone(desk: Desk, host: str, server: object) -> None:
    content = json.dumps({key(host, "server"): {"threadbus": server}})
    path = put(desk.file(host, "server"), content)
    done = desk.install(host)
    assert done.code == 1, done
    assert "threadbus is another program's" in done.err
    assert desk.install(host, "--remove").code == 0
    assert path.read_text("utf-8") == content


@pytest.mark.parametrize("host", [host for host, part, _ in FILES if part == "server"])
def test_what_a_user_has_added_to_our_server_is_kept(desk: Desk, host: str) -> None:
    desk.install(host, "--as", "first", env={"XDG_DATA_HOME": "/data"})
    document = desk.document(host, "server")
    document[key(host, "server")]["threadbus"]["timeout"] = 300_000
    put(desk.file(host, "server"), json.dumps(document))
    desk.install(host, "--as", "second")
    server = desk.document(host, "server")[key(host, "server")]["threadbus"]
    assert server["timeout"] == 300_000
    assert "second" in str(server)
    assert "/data" not in str(server)


def test_our_hooks_are_replaced_where_they_are(desk: Desk) -> None:
    ours = {"type": "command", "command": "/old/threadbus hook stop --as old", "timeout": 1}
    mine = {"type": "command", "command": "mine"}
    groups = [{"matcher": "*", "hooks": [mine, ours]}, {"hooks": [ours]}, {"hooks": [mine]}]
    put(desk.file("claude-code", "hooks"), json.dumps({"hooks": {"Stop": groups}}))
    assert desk.install("claude-code", "--hooks").code == 0
    first, *rest = desk.document("claude-code", "hooks")["hooks"]["Stop"]
    assert first["matcher"] == "*"
    assert first["hooks"][0] == mine
    assert first["hooks"][1]["timeout"] == 15
    assert rest == [{"hooks": [mine]}]


def test_hooks_of_ours_are_removed_from_events_that_we_do_not_use(desk: Desk) -> None:
    ours = [{"hooks": [{"type": "command", "command": "threadbus-hook stop"}]}]
    path = put(
        desk.file("claude-code", "hooks"),
        json.dumps({"hooks": {"Notification": ours, "Stop": ours}}),
    )
    desk.install("claude-code", "--remove")
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "\n", "{}", "{}\n"])
def test_an_empty_file_is_as_none(desk: Desk, content: str) -> None:
    put(desk.file("cursor", "server"), content)
    assert desk.install("cursor").code == 0
    assert "threadbus" in desk.document("cursor", "server")["mcpServers"]


@pytest.mark.parametrize("indent", ["  ", "    ", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_indentation_and_line_ends_stay(desk: Desk, indent: str, end: str, last: str) -> None:
    before = json.dumps({"a": {"b": [1]}}, indent=indent) + last
    path = put(desk.file("cursor", "server"), before.replace("\n", end))
    desk.install("cursor")
    written = path.read_bytes().decode()
    assert written.startswith(f'{{{end}{indent}"a": {{{end}{indent * 2}"b"')
    assert written.count("\n") == written.count(end)
    assert written.endswith("}" + last.replace("\n", end))
    desk.install("cursor", "--remove")
    assert path.read_bytes().decode() == before.replace("\n", end)


def test_half_of_a_surrogate_pair_stays(desk: Desk) -> None:
    path = put(desk.file("cursor", "server"), '{"a": "\\ud83d"}')
    assert desk.install("cursor").code == 0
    assert "\\ud83d" in path.read_text("utf-8")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o777])
def test_the_files_mode_and_owner_stay(desk: Desk, mode: int) -> None:
    path = put(desk.file("cursor", "server"), '{"a": 1}')
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    owner = (path.stat().st_uid, path.stat().st_gid)
    desk.install("cursor")
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == mode
    assert (status.st_uid, status.st_gid) == owner
    assert [*path.parent.iterdir()] == [path]


def test_a_symbolic_link_stays_and_its_target_is_changed(desk: Desk) -> None:
    target = put(desk.home / "dotfiles/mcp.json", '{"a": 1}')
    path = desk.file("cursor", "server")
    path.parent.mkdir()
    path.symlink_to(target)
    done = desk.install("cursor")
    assert f"changed: {path} (a link to {target})" in done.out
    assert path.is_symlink()
    assert "threadbus" in target.read_text("utf-8")
    desk.install("cursor", "--remove")
    assert json.loads(target.read_text("utf-8")) == {"a": 1}


def test_the_target_of_a_link_is_created(desk: Desk) -> None:
    path = desk.file("cursor", "server")
    path.parent.mkdir()
    path.symlink_to(desk.home / "dotfiles/mcp.json")
    assert desk.install("cursor").code == 0
    assert path.is_symlink()
    assert path.exists()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _no_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("", "utf-8")


KINDS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": _loop,
    "no folder": _no_folder,
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@each_file
def test_what_is_no_file_is_left_alone(
    desk: Desk, host: str, part: str, options: list[str], make: Callable[[Path], object]
) -> None:
    path = desk.file(host, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    if make is _no_folder and path.parent == desk.project:
        return
    make(path)
    done = desk.install(host, *options)
    assert done.code == 1, done
    assert str(path) in done.err or str(path.parent) in done.err
    assert done.err.count("\n") == 1 or "To do it by hand" in done.err
    assert desk.calls() == []


@pytest.mark.slow
@each_file
def test_nothing_is_changed_on_a_disk_that_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, part: str, options: list[str]
) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        desk = Desk.at(disk)
        path = put(desk.file(host, part), '{"a": 1}')
        make_read_only(disk)
        monkeypatch.chdir(desk.project)
        done = desk.install(host, *options)
        monkeypatch.chdir(tmp_path)
        assert done.code == 1, done
        assert "cannot be written" in done.err
        assert desk.calls() == []
        assert path.read_text("utf-8") == '{"a": 1}'


@pytest.mark.slow
@each_file
def test_nothing_is_changed_in_a_folder_that_cannot_be_written(
    desk: Desk, host: str, part: str, options: list[str]
) -> None:
    folder = desk.file(host, part).parent
    folder.mkdir(parents=True, exist_ok=True)
    with unchangeable(folder):
        done = desk.install(host, *options)
    assert done.code == 1, done
    assert f"cannot be written: {folder} does not permit it." in done.err
    assert desk.calls() == []


@pytest.mark.slow
def test_installations_at_once_lose_nothing(desk: Desk) -> None:
    path = put(desk.file("gemini", "server"), '{"mine": 1}')

    def add(number: int) -> bool:
        return install_json.change(path, lambda document: {**document, f"n{number}": number})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(add, range(8)))
    document = json.loads(path.read_text("utf-8"))
    assert document == {"mine": 1} | {f"n{number}": number for number in range(8)}


def test_an_installation_waits_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "settings.json", "{}")
    waits = threading.Event()
    clock = types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: waits.set())
    monkeypatch.setattr(install_json, "time", clock)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        changed = pool.submit(install_json.change, path, lambda document: {**document, "a": 1})
        changed.add_done_callback(lambda _: waits.set())
        assert waits.wait(30)
        assert not changed.done()
        assert path.read_text("utf-8") == "{}"
        os.close(folder)
        assert changed.result(30)


def test_an_installation_that_waits_for_long_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "settings.json", "{}")
    seconds = itertools.count(0, 6)
    clock = types.SimpleNamespace(monotonic=seconds.__next__, sleep=lambda _: None)
    monkeypatch.setattr(install_json, "time", clock)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(InstallError, match=r"^Another process has held .* locked for 10 s\.$"):
        install_json.change(path, lambda document: {**document, "a": 1})
    os.close(folder)
    assert path.read_text("utf-8") == "{}"


def test_a_change_of_another_program_in_between_is_kept(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", '{"a": 1}')
    seen = []

    def edit(document: Document) -> Document:
        seen.append(document)
        if len(seen) == 1:
            path.write_text('{"a": 2}', "utf-8")
        return {**document, "ours": True}

    assert install_json.change(path, edit)
    assert seen == [{"a": 1}, {"a": 2}]
    assert json.loads(path.read_text("utf-8")) == {"a": 2, "ours": True}
    assert [*tmp_path.iterdir()] == [path]


def test_a_program_that_keeps_changing_the_file_wins(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", "{}")

    def edit(document: Document) -> Document:
        path.write_text(json.dumps({"n": document.get("n", 0) + 1}), "utf-8")
        return {**document, "ours": True}

    with pytest.raises(InstallError, match=r"Another program keeps changing .*settings\.json"):
        install_json.change(path, edit)
    assert "ours" not in path.read_text("utf-8")
    assert [*tmp_path.iterdir()] == [path]
