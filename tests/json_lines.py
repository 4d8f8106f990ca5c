"""Files of JSON lines to import, and what was imported."""

import json
from typing import Any

from tests.shell import Done, Shell

__all__ = ["line", "stored_messages", "summary"]


def line(thread: str, sender: str, content: str, **more: Any) -> str:
    """Return a line of such a file."""
    said = {"thread": thread, "sender": sender, "content": content} | more
    return json.dumps(said, ensure_ascii=False) + "\n"


def stored_messages(shell: Shell, thread: str) -> list[tuple[str, str]]:
    """Return the senders and contents of the messages in a thread on the server."""
    messages = shell.ok("read", thread, "--limit", "10000", "--json").json["messages"]
    return [(message["sender"], message["content"]) for message in messages]


def summary(done: Done) -> dict[str, int]:
    """Return the counts that an import prints, without those that are 0."""
    assert done.code == 0, done
    return {name: count for name, count in done.json.items() if count}
