"""Starts the measured servers, each as a process pinned to its core, with its own folder."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import machine

_HERE = Path(__file__).parent
_START = 60.0  # seconds


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], address: str, log: Path) -> None:
        self.process = process
        self.address = address
        self.log = log

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return int(self.address.rpartition(":")[2])

    def cpu_seconds(self) -> float:
        """Returns the CPU time that the server has used, in seconds."""
        return machine.cpu_seconds(self.process.pid)

    def resident_bytes(self) -> int:
        """Returns the server's resident memory, in bytes."""
        return machine.resident_bytes(self.process.pid)


@contextlib.contextmanager
def floor(folder: Path) -> Iterator[Server]:
    """Runs a bare gRPC server; see floor.py."""
    with _started([sys.executable, str(_HERE / "floor.py")], folder, "floor") as server:
        yield server


@contextlib.contextmanager
def threadbus(
    folder: Path, *flags: str, db: Path | None = None, store: str = ""
) -> Iterator[Server]:
    """Runs ThreadBus from this tree, on a new file, on `db`, or on the URL `store`."""
    command = [sys.executable, "-m", "bus_server", "--listen", "127.0.0.1:0"]
    command += ["--store", store] if store else ["--db", str(db or folder / "threadbus.db")]
    with _started([*command, *flags], folder, "threadbus") as server:
        yield server


@contextlib.contextmanager
def nats(program: Path, folder: Path, *, synced: bool = False) -> Iterator[Server]:
    """Runs NATS with JetStream. `synced`: sync each write, which is not the default."""
    port, name = _free_port(), "nats-synced" if synced else "nats"
    settings = [f"store_dir: {folder / name}", *(["sync_interval: always"] if synced else [])]
    configuration = folder / f"{name}.conf"
    configuration.write_text("jetstream {\n" + "\n".join(settings) + "\n}\n", "utf-8")
    command = [str(program), "-c", str(configuration), "-a", "127.0.0.1", "-p", str(port)]
    with _listening(command, folder, name, port) as server:
        yield server


@contextlib.contextmanager
def redis(program: Path, folder: Path) -> Iterator[Server]:
    """Runs Redis, syncing its log with each write."""
    port = _free_port()
    data = folder / "redis"
    data.mkdir(exist_ok=True)
    command = [str(program), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data)]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with _listening(command, folder, "redis", port) as server:
        yield server


@contextlib.contextmanager
def ancestor(programs: Path, folder: Path) -> Iterator[Server]:
    """Runs AgentChatBus without its rate limit."""
    port = _free_port()
    environment = {
        "AGENTCHATBUS_DB": str(folder / "agentchatbus.db"),
        "AGENTCHATBUS_RATE_LIMIT": "0",
        "AGENTCHATBUS_RELOAD": "0",
        "HOME": str(folder),
    }
    command = [str(programs / "agentchatbus"), "--host", "127.0.0.1", "--port", str(port)]
    with _listening(command, folder, "agentchatbus", port, **environment) as server:
        yield server


@contextlib.contextmanager
def _started(command: list[str], folder: Path, name: str) -> Iterator[Server]:
    """Runs a server that prints the address on which it listens."""
    with _process(command, folder, name, stdout=subprocess.PIPE) as (process, log):
        line = process.stdout.readline() if process.stdout else ""
        found = re.match(r"listening on (\S+)", line)
        if found is None:
            raise RuntimeError(f"{name} did not start: {line}{log.read_text('utf-8')[-2000:]}")
        yield Server(process, found[1], log)


@contextlib.contextmanager
def _listening(
    command: list[str], folder: Path, name: str, port: int, **environment: str
) -> Iterator[Server]:
    """Runs a server that is ready once its port accepts connections."""
    with _process(command, folder, name, stdout=subprocess.DEVNULL, **environment) as (
        process,
        log,
    ):
        give_up = time.monotonic() + _START
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{name} did not start: {log.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)
        yield Server(process, f"127.0.0.1:{port}", log)


@contextlib.contextmanager
def _process(
    command: list[str], folder: Path, name: str, *, stdout: int, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    log = folder / f"{name}.log"
    kept = {key: value for key, value in os.environ.items() if "THREADBUS" not in key}
    with log.open("w", encoding="utf-8") as opened, machine.on_cores(machine.SERVER_CORES):
        process = subprocess.Popen(
            command, stdout=stdout, stderr=opened, text=True, env=kept | environment, cwd=folder
        )
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
