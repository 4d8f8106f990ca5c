"""Run by the Python of a clean environment: uses what is installed there, and nothing else.

The arguments are the version that has to be installed, and what is used: `client`, `server` for
one without other extras, or `all`.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import bus_client
import bus_client.sync

PROGRAM = Path(sys.executable).parent / "threadbus"


def main(version: str, what: str) -> None:
    if bus_client.__version__ != version:
        sys.exit(f"smoke: bus_client is {bus_client.__version__}, not {version}")
    said = _command(".", "", "--version")
    if version not in said:
        sys.exit(f"smoke: threadbus --version prints {said}")
    if what == "client":
        return
    flags = []
    if what == "all":
        flags = ["--metrics", "127.0.0.1:0"]
        _import_all()
    with tempfile.TemporaryDirectory() as folder:
        _use(folder, flags)


def _import_all() -> None:
    """Import what each extra is for."""
    modules = ("opentelemetry.sdk", "psycopg", "trustme", "bus_client.cli.console.site")
    for module in modules:
        import_module(module)
    console = Path(import_module("bus_client.cli.console").__file__ or "").parent
    if not (console / "static/index.html").is_file():
        sys.exit("smoke: the console has no page")


def _use(folder: str, flags: list[str]) -> None:
    """Start a server with the flags; post, and wait for it."""
    command = (PROGRAM, "serve", "--listen", "127.0.0.1:0", "--json", *flags)
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = json.loads(next(server.stdout or iter(())))["listen"]
        _command(folder, address, "post", "design", "is it there?", "--as", "coder")
        said = _command(folder, address, "wait", "design", "--as", "reviewer", "--timeout", "20")
        if "is it there?" not in said:
            sys.exit(f"smoke: the post is not read: {said}")
    finally:
        server.terminate()
        server.communicate(timeout=20)
    if server.returncode:
        sys.exit(f"smoke: the server ended with {server.returncode}")


def _command(folder: str, address: str, *words: str) -> str:
    done = subprocess.run(
        [PROGRAM, *words],
        cwd=folder,
        env=os.environ | {"THREADBUS_SERVER": address},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        sys.exit(f"smoke: threadbus {' '.join(words)}: {done.stderr}")
    return done.stdout


main(sys.argv[1], sys.argv[2])
