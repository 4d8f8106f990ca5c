"""The program that hosts run as a hook. It never fails, and prints one JSON object.

Imports as little as possible before it knows that there is something to do: a hook runs after each
call of a tool.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from bus_client.hosts import state
from bus_client.hosts.arguments import Help, UsageError, parse

_READ_SHARE = 1 / 8  # of the time, for the host to write stdin and to close it
_READ_LIMIT = 4 * 1024 * 1024  # bytes of stdin that are kept
# Seconds for a server on this machine, or on another one, to take a connection. Where nobody
# listens, a hook need not import gRPC.
_PROBE_TIMEOUT, _FAR_PROBE_TIMEOUT = 0.2, 1.0
_GRACE = 0.5  # seconds to finish output that was begun in time
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run() -> None:
    """Run as `threadbus-hook`, and end the process: with 0, without the interpreter's clean-up."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by the host: the next file opened would take its place
            os.open(os.devnull, os.O_RDWR)
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run a hook, and print its output. Returns 0, the exit code. Raises no Exception.

    Ends the process, with 0, if the time is over, or at SIGTERM, SIGINT or SIGHUP.

    Args:
        arguments: Those after `threadbus hook`.
    """
    began = time.monotonic()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the reason is given in a line
    try:
        parsed = parse(arguments)
    except Help as help:
        sys.stdout.write(str(help))
        return 0
    except UsageError as error:
        _complain(f"{error}. See threadbus hook --help.")
        with _Output() as output:
            output.end()
        return 0
    with _Output() as output:
        wait = parsed.wait if parsed.event == "stop" else 0.0
        with output.limited(began + parsed.timeout + wait):
            try:
                _run(parsed, began + parsed.timeout, output)
            except Exception as error:  # noqa: BLE001 - a hook never fails
                _complain(_reason(error))
            output.end()
    return 0


class _Output:
    """Standard output, for one JSON object. What else is printed goes to stderr.

    As a context manager it restores stdout at the end.
    """

    def __init__(self) -> None:
        self._free = _thread.allocate_lock()
        self._claimed = self._written = False

    def __enter__(self) -> _Output:
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        self._descriptor = os.dup(_descriptor_of(sys.stdout, 1))
        self._before = os.dup(1)
        os.dup2(2, 1)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        os.dup2(self._before, 1)
        os.close(self._before)
        os.close(self._descriptor)

    def claim(self) -> bool:
        """Returns whether the main thread may write an object: True once, unless it is too late."""
        self._claimed = self._free.acquire(blocking=False)
        return self._claimed

    def write(self, line: bytes) -> None:
        """Write an object, which was claimed. No-op if nobody reads it any more."""
        self._written = True
        with suppress(OSError):
            os.write(self._descriptor, line + b"\n")

    def end(self) -> None:
        """Write an empty object unless one was written. Called once, by the main thread."""
        if self._written:
            return
        if self._claimed or self.claim():
            self.write(b"{}")
        else:
            time.sleep(_GRACE)  # the time is over: another thread is about to end the process

    def abandoned(self) -> bool:
        """Returns whether stdout is a pipe or socket that nobody reads any more."""
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))

    @contextmanager
    def limited(self, deadline: float) -> Iterator[None]:
        """Context manager that ends the process at `deadline`, or at a signal, with output.

        A thread does so, whatever the others are blocked by.
        """
        done = _thread.allocate_lock()
        done.acquire()

        def watch() -> None:
            if done.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
                return
            if self._free.acquire(blocking=False):
                _complain("the time is over")
                self.write(b"{}")
            elif done.acquire(timeout=_GRACE):
                return
            os._exit(0)

        def stop(*_: object) -> None:
            if self.claim():
                self.write(b"{}")
                os._exit(0)

        _thread.start_new_thread(watch, ())
        before = {}
        with suppress(ValueError):  # not in the main thread
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            done.release()


def _run(arguments: Namespace, deadline: float, output: _Output) -> None:
    """Do what the event asks for, and write the output if there is any. Raises any Exception."""
    given = _read_stdin(arguments.timeout * _READ_SHARE)
    if arguments.event == "post-tool" and arguments.every:
        name = arguments.agent or ""
        if state.is_recent(arguments.server, name, arguments.every):
            return
        with suppress(OSError, ValueError):
            state.mark_run(arguments.server, name)
    if not _is_there(arguments.server):
        _complain(f"{arguments.server} does not answer")
        return

    import asyncio
    import json

    from bus_client.hosts import events

    try:
        parsed = json.loads(given)
    except (ValueError, RecursionError):
        parsed = None
    run = events.Run(
        arguments=arguments,
        given=parsed if isinstance(parsed, dict) else {},
        deadline=deadline,
        claim=output.claim,
        abandoned=output.abandoned,
    )
    if document := asyncio.run(events.output(run)):
        output.write(json.dumps(document).encode())


def _read_stdin(timeout: float) -> bytes:
    """Returns what the host writes to stdin, at most 4 MiB; b"" if it does not end in time.

    Reads all of it if possible: a host may fail if a hook leaves something.
    """
    stdin = _descriptor_of(sys.stdin, 0)
    try:
        if os.isatty(stdin):
            return b""
        parts: list[bytes] = []
        poll, size = select.poll(), 0
        poll.register(stdin, select.POLLIN)
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0 and poll.poll(left * 1000):
            part = os.read(stdin, 65_536)
            if not part:
                return b"".join(parts)
            size += len(part)
            if size <= _READ_LIMIT:
                parts.append(part)
    except OSError:
        pass
    return b""


def _descriptor_of(stream: TextIO | None, default: int) -> int:
    try:
        return default if stream is None else stream.fileno()
    except (OSError, ValueError):
        return default


def _is_there(server: str) -> bool:
    """Returns whether something takes connections at the server's address.

    True, too, if that may be known to a proxy only. Raises ValueError for an invalid address.
    """
    import socket

    from bus_client.address import endpoint, host_of, is_local, whole_address

    address = whole_address(server)
    local, where = is_local(address), endpoint(address)
    if not local and any(
        os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")
    ):
        return True
    try:
        if where.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_PROBE_TIMEOUT)
                client.connect(where.removeprefix("unix:"))
            return True
        host, port = host_of(address), int(where.rpartition(":")[2])
        if host.lower() == "localhost":  # see open_channel()
            host = "127.0.0.1"
        timeout = _PROBE_TIMEOUT if local else _FAR_PROBE_TIMEOUT
        with socket.create_connection((host, port), timeout):
            return True
    except OSError:
        return False


def _reason(error: Exception) -> str:
    """Returns the text of an error; with its type before it if it was not expected."""
    kinds = {kind.__name__ for kind in type(error).__mro__}  # BusError may not be imported
    expected = kinds & {"BusError", "OSError", "ValueError"}
    return str(error) if expected and str(error) else f"{type(error).__name__}: {error}"


def _complain(text: str) -> None:
    """Print a line to stderr, with anything but printable ASCII escaped: it may be a peer's."""
    line = text.replace("–", "-").encode("ascii", "backslashreplace").decode()
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line[:1_000])
    with suppress(OSError):
        os.write(_descriptor_of(sys.stderr, 2), f"threadbus hook: {shown}\n".encode())
