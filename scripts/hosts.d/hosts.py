"""The hosts that are run: the packages they come in, and how each runs against a scripted model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Where the packages are installed, each host's in a folder of its own.
FOLDER = ROOT / ".tools/hosts"
#: For hosts that need a newer Node.js than the system may have; it ships the program.
_NODE = "node@22.23.3"


class HostError(Exception):
    """A host cannot be installed or run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How a host is run without a terminal, an account and the network."""

    name: str
    """As `threadbus install` calls it."""
    title: str
    program: str
    packages: tuple[str, ...]
    """npm packages with their versions. The first is the host's."""
    arguments: Callable[[str], list[str]]
    """Returns the program's arguments for a prompt, given the model's URL."""
    environment: Callable[[str], dict[str, str]]
    """Returns its environment variables, given the model's URL."""
    files: Callable[[str], dict[str, object]] = lambda url: {}
    """Returns what its user has configured already, given the model's URL: JSON by path."""
    interactive: tuple[str, ...] = ()
    """Events at which it runs no hooks without a terminal."""
    kills_bridge: bool = False
    """At its end it kills the bridge within milliseconds, often before it has said goodbye."""

    @property
    def folder(self) -> Path:
        """The folder that its packages are installed in."""
        return FOLDER / self.name

    @property
    def path(self) -> Path:
        """The folder with its program."""
        return self.folder / "node_modules/.bin"

    @property
    def version(self) -> str:
        """The version of its package that is installed; empty if none is."""
        package = self.packages[0].rpartition("@")[0]
        try:
            text = (self.folder / "node_modules" / package / "package.json").read_text("utf-8")
        except FileNotFoundError:
            return ""
        return str(json.loads(text)["version"])

    def install(self) -> None:
        """Install its packages, unless they are there. Raises HostError."""
        stamp = self.folder / "installed"
        wanted = " ".join(self.packages)
        if stamp.exists() and stamp.read_text("utf-8") == wanted:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "package.json").write_text('{"private": true}\n', "utf-8")
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
        try:
            done = subprocess.run(
                [*command, *self.packages], cwd=self.folder, capture_output=True, timeout=900
            )
        except FileNotFoundError:
            raise HostError("npm is missing: install Node.js 20 or newer") from None
        except subprocess.TimeoutExpired:
            raise HostError("npm took longer than 15 minutes") from None
        if done.returncode:
            raise HostError(f"npm failed: {done.stderr.decode(errors='replace')[-2000:].strip()}")
        stamp.write_text(wanted, "utf-8")


def _codex(url: str) -> list[str]:
    provider = f'{{name="scripted",base_url="{url}/v1",env_key="SCRIPTED_KEY"}}'
    return [
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-hook-trust",
        *("-c", "model_provider=scripted"),
        *("-c", f"model_providers.scripted={provider}"),
        "Go on.",
    ]


def _opencode(url: str) -> dict[str, object]:
    options = {"baseURL": f"{url}/v1", "apiKey": "any"}
    limit = {"context": 200_000, "output": 8_000}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": options,
        "models": {"scripted": {"tool_call": True, "limit": limit}},
    }
    return {"model": "scripted/scripted", "provider": {"scripted": provider}}


_RUNNERS = (
    Runner(
        name="claude-code",
        title="Claude Code",
        program="claude",
        packages=("@anthropic-ai/claude-code@2.1.332",),
        arguments=lambda url: ["-p", "Go on."],
        environment=lambda url: {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "any",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        },
    ),
    Runner(
        name="codex",
        title="Codex",
        program="codex",
        packages=("@openai/codex@0.171.0",),
        arguments=_codex,
        environment=lambda url: {"SCRIPTED_KEY": "any"},
    ),
    Runner(
        name="gemini",
        title="Gemini CLI",
        program="gemini",
        packages=("@google/gemini-cli@0.61.0",),
        arguments=lambda url: ["-p", "Go on.", "-m", "gemini-2.5-flash"],
        environment=lambda url: {
            "GOOGLE_GEMINI_BASE_URL": url,
            "GEMINI_API_KEY": "any",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_TELEMETRY_ENABLED": "false",
        },
        files=lambda url: {
            ".gemini/settings.json": {
                "general": {"enableAutoUpdate": False},
                "privacy": {"usageStatisticsEnabled": False},
                "security": {"auth": {"selectedType": "gemini-api-key"}},
            }
        },
    ),
    Runner(
        name="qwen",
        title="Qwen Code",
        program="qwen",
        packages=("@qwen-code/qwen-code@0.24.4", _NODE),
        arguments=lambda url: ["-p", "Go on.", "--auth-type", "openai"],
        environment=lambda url: {
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "any",
            "OPENAI_MODEL": "scripted",
        },
        interactive=("session-end",),
        files=lambda url: {
            ".qwen/settings.json": {
                "general": {"enableAutoUpdate": False},
                "privacy": {"usageStatisticsEnabled": False},
            }
        },
    ),
    Runner(
        name="copilot",
        title="Copilot CLI",
        program="copilot",
        packages=("@github/copilot@1.0.102",),
        arguments=lambda url: ["-p", "Go on.", "--allow-tool", "threadbus"],
        environment=lambda url: {
            "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
            "COPILOT_PROVIDER_TYPE": "openai",
            "COPILOT_PROVIDER_API_KEY": "any",
            "COPILOT_MODEL": "scripted",
            "COPILOT_OFFLINE": "true",
            "COPILOT_AUTO_UPDATE": "false",
        },
        kills_bridge=True,
    ),
    Runner(
        name="opencode",
        title="OpenCode",
        program="opencode",
        packages=("opencode-ai@1.18.33",),
        arguments=lambda url: ["run", "Go on."],
        environment=lambda url: {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        },
        files=lambda url: {".config/opencode/opencode.json": _opencode(url)},
    ),
)

#: The hosts by name.
RUNNERS = {runner.name: runner for runner in _RUNNERS}
