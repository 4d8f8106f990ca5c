"""Files of JSON lines, and what became of them."""

import json
from typing import Any

from tests.shell import Done, Shell

__all__ = ["line", "said", "summary"]


def line(thread: str, sender: str, content: str, **more: Any) -> str:
    """A line of such a file."""
    said = {"thread": thread, "sender": sender, "content": content} | more
    return json.dumps(said, ensure_ascii=False) + "\n"


def said(shell: Shell, thread: str) -> list[tuple[str, str]]:
    """Senders and contents of a thread on the server."""
    messages = shell.ok("read", thread, "--limit", "10000", "--json").json["messages"]
    return [(message["sender"], message["content"]) for message in messages]


def summary(done: Done) -> dict[str, int]:
    """What an import says that it did, but for what it did not."""
    assert done.code == 0, done
    return {name: count for name, count in done.json.items() if count}
