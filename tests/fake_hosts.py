"""Stand-ins for the programs of coding agents, which register MCP servers as these do."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.shell import Done, Shell

_HEAD = """#!{python} -SE
import json, os, sys, time
home = {home!r}
words = sys.argv[1:]
with open(home + "/calls", "a") as calls:
    calls.write(json.dumps([{name!r}, *words]) + "\\n")
state = home + "/{name}-registered"
registered = os.path.exists(state)
def end(text, code=0):
    print(text, file=sys.stderr if code else sys.stdout)
    sys.exit(code)
def put():
    with open(state, "w") as file:
        json.dump(words, file)
"""
#: As they were seen to behave: Claude Code 2.1.197, Codex 0.171 and Copilot CLI 1.0.102.
_BODIES = {
    "claude": """
if words[:2] == ["mcp", "add"]:
    if registered:
        end("MCP server threadbus already exists in local config", 1)
    put()
    end("Added stdio MCP server threadbus to local config")
if not registered:
    end('No MCP server named "threadbus" in local scope', 1)
os.unlink(state)
end("Removed MCP server threadbus from local config")
""",
    "codex": """
print("WARNING: proceeding, even though {it} could not be done", file=sys.stderr)
if words[:2] == ["mcp", "add"]:
    put()
    end("Added global MCP server 'threadbus'.")
if words[:2] == ["mcp", "get"]:
    if not registered:
        end("Error: No MCP server named 'threadbus' found.", 1)
    kept = json.load(open(state))
    at = kept.index("--")
    env = dict(pair.split("=", 1) for pair in kept[4:at:2]) or None
    transport = {"type": "stdio", "command": kept[at + 1], "args": kept[at + 2:], "env": env}
    end(json.dumps({"name": "threadbus", "transport": transport}, indent=2))
if registered:
    os.unlink(state)
    end("Removed global MCP server 'threadbus'.")
end("No MCP server named 'threadbus' found.")
""",
    "copilot": """
if words[:2] == ["mcp", "add"]:
    if registered:
        end('Error: Server "threadbus" already exists. To update it, remove it first', 1)
    put()
    end('Added server "threadbus"')
if not registered:
    end('Error: Server "threadbus" not found.', 1)
if words[:2] == ["mcp", "get"]:
    kept = json.load(open(state))
    at = kept.index("--")
    server = {"type": "local", "command": kept[at + 1], "args": kept[at + 2:], "source": "user"}
    if at > 3:
        server["env"] = dict(pair.split("=", 1) for pair in kept[4:at:2])
    end(json.dumps({"threadbus": server}, indent=2))
os.unlink(state)
end('Removed server "threadbus"')
""",
}
#: By host: its program, if it has one that we run.
PROGRAMS = {"claude-code": "claude", "codex": "codex", "copilot": "copilot"}


@dataclass(frozen=True, slots=True)
class Desk:
    """A user's machine: a home directory, a project, and programs."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Desk":
        """Make one in an empty folder, with `threadbus` and every host."""
        desk = cls(root)
        for folder in (desk.home, desk.project, desk.bin):
            folder.mkdir()
        for name in ("threadbus", "threadbus-hook"):
            (desk.bin / name).write_text("#!/bin/sh\n", "utf-8")
            (desk.bin / name).chmod(0o755)
        for name, body in _BODIES.items():
            desk.put_program(name, body)
        return desk

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def project(self) -> Path:
        return self.root / "my app"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    def put_program(self, name: str, body: str) -> None:
        """Put a program on PATH that runs `body`, Python that may use end() and put()."""
        head = _HEAD.format(python=sys.executable, home=str(self.home), name=name)
        (self.bin / name).write_text(head + body, "utf-8")
        (self.bin / name).chmod(0o755)

    def install(self, *arguments: str, env: dict[str, str] | None = None) -> Done:
        """Run `threadbus install`. The test must have changed to the project's folder."""
        own = {
            "HOME": str(self.home),
            "PATH": str(self.bin),
            "XDG_DATA_HOME": "",
            "XDG_STATE_HOME": "",
            "THREADBUS_SERVER": "",
        }
        return Shell("", self.home).run("install", *arguments, env=own | (env or {}))

    def calls(self) -> list[list[str]]:
        """Returns the commands of hosts that were run, without `mcp get`."""
        file = self.home / "calls"
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        return [call for line in lines if "get" not in (call := json.loads(line))]

    def registered(self, host: str) -> list[str] | None:
        """Returns the arguments with which a host's program has registered the bridge."""
        file = self.home / f"{PROGRAMS[host]}-registered"
        if not file.exists():
            return None
        words: list[str] = json.loads(file.read_text("utf-8"))
        return words

    def file(self, host: str, part: str) -> Path:
        """Returns the file in which a host has its `hooks`, `server` or `permission`."""
        paths = {
            ("claude-code", "hooks"): self.project / ".claude/settings.local.json",
            ("claude-code", "permission"): self.project / ".claude/settings.local.json",
            ("codex", "hooks"): self.home / ".codex/hooks.json",
            ("copilot", "hooks"): self.home / ".copilot/hooks/threadbus.json",
            ("gemini", "hooks"): self.project / ".gemini/settings.json",
            ("gemini", "server"): self.project / ".gemini/settings.json",
            ("qwen", "hooks"): self.home / ".qwen/settings.json",
            ("qwen", "server"): self.home / ".qwen/settings.json",
            ("cursor", "hooks"): self.project / ".cursor/hooks.json",
            ("cursor", "server"): self.project / ".cursor/mcp.json",
            ("vscode", "hooks"): self.project / ".github/hooks/threadbus-vscode.json",
            ("vscode", "server"): self.project / ".vscode/mcp.json",
            ("opencode", "server"): self.project / "opencode.json",
        }
        return paths[host, part]

    def document(self, host: str, part: str) -> Any:
        """Returns what such a file holds."""
        return json.loads(self.file(host, part).read_text("utf-8"))

    def tree(self) -> dict[str, bytes]:
        """Returns every file at home and in the project, but those of the programs."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in (self.home, self.project)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "calls" and not path.name.endswith("-registered")
        }
