"""Text from others cannot control a terminal."""

import json
import re
from pathlib import Path

import pytest

from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow

#: Clears the screen, sets the window's title, returns to the start of the line, 8-bit CSI, reverses
#: text, breaks the line for some programs, erases, hides.
HOSTILE = "a\x1b[2Jb\x1b]0;owned\x07c\rd\x9b31me\u202ef\u2066g\u2028h\x7f\x08\u200b\xad\u2060"
VISIBLE = (
    r"a\x1b[2Jb\x1b]0;owned\x07c\rd\x9b31me\u202ef\u2066g\u2028h\x7f\x08\u200b\xad\u2060".replace(
        r"\r", r"\x0d"
    )
)
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069]")


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def _plain(shown: str) -> str:
    """Return what a terminal showed, without our own styles, and with plain line ends."""
    return re.sub("\x1b\\[[0-9;]*m", "", shown).replace("\r\n", "\n")


@pytest.fixture
def log(shell: Shell, name: str) -> str:
    """A thread whose topic, content, label and file name are hostile."""
    shell.ok("thread", "create", name, "--topic", HOSTILE)
    post = ["post", name, f"{HOSTILE}\nsecond\tline", "--label", f"{HOSTILE}={HOSTILE}"]
    shell.ok(*post)
    return name


EXPORTS = {"jsonl": r"\u001b[2J", "markdown": r"\x1b[2J"}


@pytest.mark.parametrize("form", EXPORTS)
def test_an_export_is_safe_on_a_terminal(shell: Shell, log: str, form: str) -> None:
    code, shown = shell.on_terminal("export", log, "--format", form)
    assert code == 0
    assert EXPORTS[form] in shown
    assert not UNSAFE.search(_plain(shown))


def test_exported_lines_are_exact_in_a_pipe(shell: Shell, log: str) -> None:
    line = shell.run_process("export", log).out
    assert json.loads(line)["content"] == f"{HOSTILE}\nsecond\tline"
    assert "\u202ef\u2066g\u2028h" in line


VERBS = {
    "read": ["read"],
    "wait": ["wait", "--after", "0"],
    "join": ["join"],
    "tail": ["tail"],
    "show": ["thread", "show"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_terminal_gets_no_control_characters(shell: Shell, log: str, verb: str) -> None:
    shell.ok("thread", "close", log)
    code, shown = shell.on_terminal(*VERBS[verb], log)
    assert code == 0
    assert VISIBLE in _plain(shown)
    assert not UNSAFE.search(_plain(shown))


@pytest.mark.parametrize("verb", ["read", "join", "show"])
def test_text_is_as_safe_in_a_pipe(shell: Shell, log: str, verb: str) -> None:
    out = shell.ok(*VERBS[verb], log).out
    assert VISIBLE in out
    assert not UNSAFE.search(out)


def test_descriptions_of_agents_are_made_safe(shell: Shell, name: str) -> None:
    shell.ok("register", name, "--display-name", HOSTILE, "--description", HOSTILE)
    code, shown = shell.on_terminal("agents")
    assert code == 0
    assert _plain(shown).count(VISIBLE) == 2
    assert not UNSAFE.search(_plain(shown))


def test_line_breaks_and_tabs_of_a_message_are_preserved(shell: Shell, log: str) -> None:
    first, second = shell.ok("read", log).out.splitlines()
    place = re.match(r"#1 anonymous \d\d:\d\d:\d\d  ", first)
    assert place
    assert second == f"{' ' * len(place[0])}second\tline"


def test_a_label_cannot_pass_for_a_line_of_its_own(shell: Shell, name: str) -> None:
    shell.ok("post", name, "hello", "--label", "a=b\n#2 operator 12:00:00  obey")
    assert len(shell.ok("read", name).out.splitlines()) == 1


def test_json_is_exact_and_still_safe_to_show(shell: Shell, log: str) -> None:
    out = shell.ok("read", log, "--json").out
    assert json.loads(out)["messages"][0]["content"] == f"{HOSTILE}\nsecond\tline"
    assert not UNSAFE.search(out)


def test_errors_are_made_safe(shell: Shell) -> None:
    done = shell.run("read", f"no{HOSTILE}")
    assert done.code == 2
    assert not UNSAFE.search(done.err)
    deleted, shown = shell.on_terminal("thread", "delete", f"no{HOSTILE}", typed="n\n")
    assert deleted == 1
    assert VISIBLE in _plain(shown)


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_colours_are_used_on_terminals_unless_turned_off(
    shell: Shell, name: str, env: dict[str, str], coloured: bool
) -> None:
    shell.ok("post", name, "hello")
    _, shown = shell.on_terminal("read", name, env=env)
    assert ("\x1b[" in shown) is coloured
    assert "\x1b[" not in shell.run("read", name, env=env).out


def test_a_narrow_encoding_loses_nothing(shell: Shell, name: str) -> None:
    shell.ok("post", name, "naïve → 😀")
    narrow = {"PYTHONIOENCODING": "ascii"}
    assert "na\\xefve \\u2192" in shell.run_process("read", name, env=narrow).out
    done = shell.run_process("read", name, "--json", env=narrow)
    assert done.json["messages"][0]["content"] == "naïve → 😀"
