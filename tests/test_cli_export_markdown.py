"""`threadbus export --format markdown`."""

import re
from pathlib import Path

import pytest

from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def test_markdown_is_a_transcript_in_which_no_message_affects_others(
    shell: Shell, name: str
) -> None:
    shell.ok("register", f"{name}-b")
    shell.ok("thread", "create", name, "--topic", "Which *way*?\n# Up")
    text = "look:\r\n\n```python\n# comment\x1b[2J\n\tx = 1"
    shell.ok("post", name, text, "--as", f"{name}-a", "--label", "a_b=<i>")
    shell.ok("post", name, "# no heading", "--handoff", f"{name}-b", "--reply-to", "1")
    shell.ok("thread", "close", name)
    out = shell.ok("export", name, "--format", "markdown").out
    now = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.sub(now, "NOW", out) == (
        f"# {name}\n"
        "\n"
        r"Which \*way\*?\\x0a\# Up" + "\n"
        "\n"
        f"**{name}-a** #1 · NOW · a\\_b=\\<i\\>\n"
        "\n"
        "> look:\n"
        ">\n"
        "> ```python\n"
        "> # comment\\x1b[2J\n"
        "> \tx = 1\n"
        "\n"
        f"**anonymous** #2 · NOW · re \\#1 · → {name}-b\n"
        "\n"
        "> # no heading\n"
        "\n"
    )


def test_markdown_of_several_threads_has_a_heading_for_each(shell: Shell, name: str) -> None:
    names = [f"{name}-a", f"{name}-b", f"{name}-empty"]
    for thread in names[:2]:
        shell.ok("post", thread, "hello")
    shell.ok("thread", "create", names[2])
    out = shell.ok("export", *names, "--format", "markdown").out
    headings = [line for line in out.splitlines() if line.startswith("# ")]
    assert headings == [f"# {thread}" for thread in names[:2]]
