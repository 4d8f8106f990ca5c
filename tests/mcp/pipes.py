"""`threadbus mcp` as a host sees it: a process with pipes, and lines of JSON on them."""

import contextlib
import itertools
import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import IO, Any

from tests.mcp.command import Command

__all__ = ["BOUND", "Pipes", "opened", "request", "strict"]

#: Seconds after which a step counts as failed.
BOUND = 30.0


def request(at: Any, method: str, params: Any = None) -> bytes:
    """Returns the line of a request. Strings are ASCII: any text, even half a character, fits."""
    document = {"jsonrpc": "2.0", "id": at, "method": method}
    return json.dumps(document if params is None else document | {"params": params}).encode()


def strict(line: bytes) -> dict[str, Any]:
    """Returns the object of a line as any JSON parser would: without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON: {line!r}")

    document = json.loads(line.decode(), parse_constant=refuse)
    assert isinstance(document, dict), line
    assert document["jsonrpc"] == "2.0", line
    return document


class Pipes:
    """A bridge, whose stdout a thread reads into `messages`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._ids = itertools.count(1)
        self._changed = threading.Condition()
        self._answers = defaultdict[tuple[type, Any], list[dict[str, Any]]](list)
        #: How many responses it has written.
        self.answered = 0
        #: The notifications that it has written, in order.
        self.notifications: list[dict[str, Any]] = []
        #: What it wrote that is no message.
        self.faults: list[str] = []
        #: What it wrote to stderr.
        self.stderr = b""
        self._reading = threading.Event()
        self._reading.set()
        targets = (self._read, self._log)
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    @property
    def stdin(self) -> IO[bytes]:
        """Where it reads."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Where it writes."""
        assert self.process.stdout is not None
        return self.process.stdout

    def stop_reading(self) -> None:
        """Leave alone what it writes, but for a few lines, until `go_on_reading`."""
        self._reading.clear()

    def go_on_reading(self) -> None:
        """Read again what it writes."""
        self._reading.set()

    def write(self, *lines: bytes) -> None:
        """Write lines, all at once."""
        self.stdin.write(b"".join(line + b"\n" for line in lines))
        self.stdin.flush()

    def answers(self, at: Any) -> list[dict[str, Any]]:
        """Returns the responses so far with an id."""
        with self._changed:
            return list(self._answers[type(at), at])

    def until(self, state: Callable[[], bool], *, within: float = BOUND) -> None:
        """Return once `state()` is true. Fails if the bridge exits, or after `within` seconds."""
        end = time.monotonic() + within
        with self._changed:
            while not state():
                assert not self.faults, self.faults
                assert self._threads[0].is_alive() or state(), f"it has exited: {self.stderr!r}"
                assert self._changed.wait(end - time.monotonic()) or state(), "nothing came"

    def answer(self, at: Any) -> dict[str, Any]:
        """Returns the response with an id, once it is there; there must be one."""
        self.until(lambda: bool(self.answers(at)))
        (only,) = self.answers(at)
        return only

    def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        """Send a request that is served; returns its result."""
        at = f"own-{next(self._ids)}"
        self.write(request(at, method, params))
        result = self.answer(at)["result"]
        assert isinstance(result, dict)
        return result

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool; returns its result."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must succeed; returns its text."""
        result = self.call(tool, **arguments)
        assert not result.get("isError"), result
        (block,) = result["content"]
        return str(block["text"])

    def initialize(self) -> dict[str, Any]:
        """Shake hands; returns what it tells of itself."""
        client = {"name": "test", "version": "1"}
        told = self.ask(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client},
        )
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return told

    def works(self) -> None:
        """Fail unless it answers."""
        assert self.ask("ping") == {}

    def end(self) -> int:
        """Close its stdin; returns its exit code."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        return self.exit_code()

    def exit_code(self) -> int:
        """Returns its exit code once it has exited. What it wrote must have been messages."""
        code = self.process.wait(BOUND)
        for thread in self._threads:
            thread.join(BOUND)
        assert not self.faults, self.faults
        return code

    def _read(self) -> None:
        # Without a buffer of our own, what is not read stays in the pipe.
        while self._reading.wait() and (line := self._line()):
            with self._changed:
                try:
                    self._take(strict(line))
                except Exception as error:  # noqa: BLE001 - a test is to be told
                    self.faults.append(f"{error!r}: {line[:200]!r}")
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            assert "id" not in message, "it asks the host for something"
            self.notifications.append(message)
        else:
            at = message["id"]
            assert ("result" in message) != ("error" in message), message
            self._answers[type(at), at].append(message)
            self.answered += 1

    def _line(self) -> bytes:
        with contextlib.suppress(ValueError, OSError):  # the test has closed it
            return self.stdout.readline()
        return b""

    def _log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.stderr += line


@contextlib.contextmanager
def opened(command: Command) -> Iterator[Pipes]:
    """Starts a bridge that has not shaken hands; it is killed on exit."""
    process = subprocess.Popen(
        command.line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=command.environment,
    )
    pipes = Pipes(process)
    try:
        yield pipes
    finally:
        process.kill()
        pipes.go_on_reading()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            pipes.stdin.close()
        with contextlib.suppress(OSError):
            pipes.stdout.close()
