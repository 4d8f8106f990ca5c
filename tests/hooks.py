"""Hooks of coding agents, run as their hosts run them: as processes, or in the test's own."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from tests.shell import Shell

#: The console script `threadbus-hook`.
PROGRAM = [sys.executable, "-c", "from bus_client.hosts.program import run; run()"]
#: Seconds that a hook may take on a loaded machine, where its time is not what is tested.
PATIENT = "30"


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of an agent in a host, `claude-code` if it does not matter."""

    shell: Shell
    agent: str
    host: str = "claude-code"
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, event: str, *arguments: str, stdin: bytes | None = None) -> Any:
        """Run a hook in this process if possible; returns its output, which must be an object."""
        done = self.shell.run("hook", *self.arguments(event, *arguments), stdin=stdin, env=self.env)
        assert done.code == 0, done
        return parsed(done.out)

    def reason(self, event: str, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a hook of Claude Code; returns what it tells the model, or ""."""
        return told(self.run(event, *arguments, stdin=stdin))

    @contextlib.contextmanager
    def start(
        self, event: str, *arguments: str, stdin: int | IO[Any] = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a hook as a process; it is killed at the end unless it has exited."""
        with subprocess.Popen(
            [*PROGRAM, *self.arguments(event, *arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.shell.environment(self.env),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def arguments(self, event: str, *arguments: str) -> list[str]:
        """Returns the arguments of a hook that has time, unless they say otherwise."""
        time = () if "--timeout" in arguments else ("--timeout", PATIENT)
        every = () if "--every" in arguments else ("--every", "0")
        return [event, "--host", self.host, "--as", self.agent, *time, *every, *arguments]

    def of(self, host: str) -> "Hooks":
        """Returns the hooks of the same agent in another host."""
        return replace(self, host=host)

    @property
    def state(self) -> Path:
        """The file that says what the agent was told about."""
        (found,) = (self.shell.home / "state/threadbus/hooks").glob(f"*/{self.agent}.json")
        return found


def output(process: subprocess.Popen[bytes], within: float = 40.0) -> Any:
    """Returns the output of a started hook, which exits with 0."""
    out, _ = process.communicate(timeout=within)
    assert process.returncode == 0
    return parsed(out.decode())


def parsed(out: str) -> Any:
    """Returns the JSON object that is all of stdout, on a line."""
    assert out.endswith("\n")
    assert out.count("\n") == 1
    document = json.loads(out)
    assert isinstance(document, dict)
    return document


def told(document: dict[str, Any]) -> str:
    """Returns what Claude Code tells the model after this output; "" if nothing."""
    inner = document.get("hookSpecificOutput", {})
    return str(document.get("reason") or inner.get("additionalContext") or "")
