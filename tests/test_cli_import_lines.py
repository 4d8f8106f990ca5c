"""Lines that `threadbus import` refuses."""

from pathlib import Path

import pytest

from tests.callers import operator_token_file
from tests.json_lines import line
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def token(server: ServerProcess) -> str:
    return f"--token-file={operator_token_file(server.db)}"


BAD_LINES = {
    "JSON": ('{"thread": "x", ', "not JSON"),
    "unfinished": ('{"thread": "x"', "column 15"),
    "array": ("[]", "not a JSON object"),
    "depth": ("[" * 100_000, "nested too deeply"),
    "no thread": ('{"sender": "a", "content": "x"}', 'no "thread"'),
    "no sender": ('{"thread": "x", "content": "x"}', 'no "sender"'),
    "no content": ('{"thread": "x", "sender": "a"}', 'no "content"'),
    "null": ('{"thread": "x", "sender": "a", "content": null}', '"content" is null'),
    "number": ('{"thread": 5, "sender": "a", "content": "x"}', '"thread" is a number'),
    "surrogate": (r'{"thread": "x", "sender": "a", "content": "\ud83d"}', r"(\ud83d)"),
    "thread": ('{"thread": "a b", "sender": "a", "content": "x"}', "\"thread\" is 'a b'"),
    "sender": (
        '{"thread": "x", "sender": "Chief Executive Officer", "content": "x"}',
        "rename it, such as chief-executive-officer",
    ),
    "reserved": ('{"thread": "x", "sender": "anonymous", "content": "x"}', "anonymous"),
    "empty": ('{"thread": "x", "sender": "a", "content": ""}', '"attachments"'),
    "mentions": ('{"thread": "x", "sender": "a", "content": "x", "mentions": "b"}', "mentions"),
    "priority": ('{"thread": "x", "sender": "a", "content": "x", "priority": "?"}', "priority"),
    "label": ('{"thread": "x", "sender": "a", "content": "x", "labels": {"k": 1}}', "labels"),
    "size": (line("x", "a", "x" * (1024 * 1024 + 1)).strip(), "1,048,577 bytes"),
}


@pytest.mark.parametrize(("bad", "why"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_reported_before_anything_is_posted(
    shell: Shell, token: str, name: str, bad: str, why: str
) -> None:
    text = line(name, "a", "fine") + "\n" + bad + "\n" + line(name, "a", "fine")
    done = shell.run("import", "-", token, "--json", stdin=text)
    assert (done.code, done.out) == (2, "")
    assert done.error["message"].startswith("Line 3, after posting 0 messages: ")
    assert why in done.error["message"]
    assert "Correct the line" in done.error["hint"]
    assert shell.run("thread", "show", name).code == 1


def test_bytes_that_are_not_utf_8_are_a_bad_line(shell: Shell, token: str) -> None:
    bad = b'{"thread": "x", "sender": "a", "content": "caf\xe9"}'
    done = shell.run("import", "-", token, stdin=bad)
    assert done.code == 2
    assert "Line 1, after posting 0 messages: it is not UTF-8 (byte 47)" in done.err


def test_a_line_longer_than_any_message_is_refused(shell: Shell, token: str, name: str) -> None:
    done = shell.run("import", "-", token, stdin=line(name, "a", "x" * (33 * 1024 * 1024)))
    assert done.code == 2
    assert "Line 1, after posting 0 messages: it is longer than any message" in done.err
