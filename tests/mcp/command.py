"""How the tests run `threadbus mcp`."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """A `threadbus mcp` of one agent, whose tokens are kept in `home`."""

    server: str
    agent: str
    home: Path
    flags: tuple[str, ...] = ()

    @property
    def line(self) -> list[str]:
        """The program and its arguments."""
        threadbus = [sys.executable, "-m", "bus_client.cli"]
        return [*threadbus, "mcp", "--as", self.agent, "--server", self.server, *self.flags]

    @property
    def environment(self) -> dict[str, str]:
        """All its environment variables."""
        inherited = {name: text for name, text in os.environ.items() if "THREADBUS" not in name}
        own = {name: str(self.home) for name in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
        return inherited | own

    @property
    def entry(self) -> dict[str, object]:
        """What hosts' configuration files hold of a server on stdio."""
        program, *arguments = self.line
        return {"command": program, "args": arguments, "env": self.environment}
