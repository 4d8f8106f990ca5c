"""The attacked server: a process on its own core, with a new database."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORES = sorted(os.sched_getaffinity(0))
#: The server has one core; attackers and the innocent agent have the others, if there are any.
SERVER_CORES = set(CORES[:1])
CLIENT_CORES = set(CORES[1:]) or SERVER_CORES
#: Seconds between two samples of the server's memory.
SAMPLE = 0.05
_STATUS = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], port: int, db: Path, log: Path) -> None:
        self.port = port
        self._process = process
        self._db = db
        self._log = log
        self._peak = 0

    @property
    def operator_token(self) -> str:
        """Returns its operator token."""
        return self._db.with_name(f"{self._db.name}.operator-token").read_text("ascii").strip()

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def memory(self) -> int:
        """Returns its resident memory in bytes; 0 if it has exited."""
        return self._status().get("VmRSS", 0)

    def peak(self) -> int:
        """Returns its peak memory in bytes since `forget_peak`."""
        self._peak = max(self._peak, self.memory(), self._status().get("VmHWM", 0))
        return self._peak

    def forget_peak(self) -> None:
        """Reset the measurement of the peak."""
        self._peak = 0
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def _status(self) -> dict[str, int]:
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        except OSError:
            return {}
        return {key: int(kilobytes) * 1024 for key, kilobytes in _STATUS.findall(text)}

    def log(self) -> str:
        """Returns its log."""
        return self._log.read_text("utf-8", "replace")


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Pin the processes that are started in this context to `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def serve(folder: Path, *flags: str) -> Iterator[Server]:
    """Run a server in `folder` (context manager)."""
    db, log = folder / "bus.db", folder / "log"
    command = [sys.executable, "-m", "bus_server", "--listen", "127.0.0.1:0", "--db", str(db)]
    kept = {key: value for key, value in os.environ.items() if "THREADBUS" not in key}
    with log.open("w", encoding="utf-8") as opened, _on(SERVER_CORES):
        process = subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=opened,
            text=True,
            env=kept,
            cwd=ROOT,
        )
    if process.stdout is None:
        raise RuntimeError("the server has no standard output")
    try:
        line = process.stdout.readline()
        found = re.match(r"listening on \S+:(\d+) ", line)
        if found is None:
            raise RuntimeError(f"the server did not start: {line}{log.read_text('utf-8')[-2000:]}")
        yield Server(process, int(found[1]), db, log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
