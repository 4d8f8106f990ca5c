"""The stage of a case: a server, perhaps a relay before it, and the runner's own calls."""

import asyncio
import contextlib
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf import json_format

from tests.callers import operator
from tests.conformance.cases import Case
from tests.conformance.contract import METHODS, shown
from tests.conformance.driver import BOUND, Driver
from tests.conformance.scripted import SCRIPTS
from tests.conformance.tls import TlsFiles
from tests.relay import Relay, relay_to
from tests.serving import ServerProcess


class OwnCalls:
    """The runner's own connection to a server."""

    def __init__(self, address: str, tls: TlsFiles | None = None) -> None:
        options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, options=options)
        else:
            options.append(("grpc.ssl_target_name_override", tls.name))
            self._channel = grpc.aio.secure_channel(address, tls.credentials, options=options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(self, name: str, fields: dict[str, Any], token: str = "") -> dict[str, Any]:
        """Call a method, and return its response. Raises AioRpcError."""
        rpc = METHODS[name]
        method: Any = self._channel.unary_unary(
            rpc.path, rpc.request_type.SerializeToString, rpc.response_type.FromString
        )
        request = json_format.ParseDict(fields, rpc.request_type())
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return shown(await method(request, timeout=BOUND, metadata=metadata, wait_for_ready=True))

    async def post(self, thread: str, *, count: int, posters: int, prefix: str) -> None:
        """Post `count` messages as `anonymous`, by several posters concurrently."""
        numbers = iter(range(1, count + 1))

        async def poster() -> None:
            for number in numbers:
                content = f"{prefix}{number}"
                await self.call("PostMessage", {"thread": thread, "content": content})

        await asyncio.gather(*(poster() for _ in range(posters)))

    async def history(self, thread: str) -> list[dict[str, Any]]:
        """Return all messages of a thread."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else "0"
            request = {"thread": thread, "after_seq": after, "limit": 1000}
            page = await self.call("ListMessages", request)
            found += page["messages"]
            if not page["has_more"]:
                return found


class Stage:
    """The server and the driver of one case. `variables` are the values of `$name` in it."""

    def __init__(
        self,
        driver: Driver,
        bus: OwnCalls,
        address: str,
        server: ServerProcess | None,
        relay: Relay | None,
        tls: TlsFiles | None,
    ) -> None:
        self.driver = driver
        self.bus = bus
        self._server, self._relay, self._tls = server, relay, tls
        unique = uuid.uuid4().hex
        self.variables: dict[str, Any] = {
            "address": relay.address if relay else address,
            "thread": f"thread-{unique[:12]}",
            "elsewhere": f"elsewhere-{unique[:12]}",
            "agent": f"agent-{unique[:12]}",
            "other": f"other-{unique[:12]}",
            "third": f"third-{unique[:12]}",
            "token": unique + unique,
            "other_token": unique + unique[::-1],
            "third_token": unique[::-1] + unique,
        }
        address = self.variables["address"]
        self.variables["tls_address"] = f"tls://{address}"
        if tls is not None:
            self.variables["name_address"] = f"tls://localhost:{address.rpartition(':')[2]}"
            self.variables |= tls.paths
        if server is not None:
            self.variables["operator_token"] = operator(server).token

    async def control(self, what: str) -> None:
        """Control the server or the connection, for example `kill` or `cut`."""
        match what:
            case "cut":
                assert self._relay is not None
                self._relay.cut()
            case "refuse" | "accept":
                assert self._relay is not None
                self._relay.refusing = what == "refuse"
            case "silence":
                assert self._relay is not None
                self._relay.silence()
            case "kill":
                await asyncio.to_thread(self.server.kill)
            case "drain":
                assert await asyncio.to_thread(self.server.stop) == 0
            case "start":
                await asyncio.to_thread(self.server.start)
            case "change CA":
                assert self._tls is not None
                self._tls.change_ca()
            case "freeze":
                self.server.signal(signal.SIGSTOP)
            case "thaw":
                self.server.signal(signal.SIGCONT)
            case _:
                raise ValueError(f"nobody knows how to {what}")

    @property
    def server(self) -> ServerProcess:
        """Return the case's own server. Raises AssertionError if it has none."""
        assert self._server is not None, "the case needs a server of its own"
        return self._server


@contextlib.asynccontextmanager
async def stage(
    case: Case, driver: Driver, shared: ServerProcess, tree: Path | None = None
) -> AsyncIterator[Stage]:
    """Yield the stage of a case. `shared` is the server for cases without one of their own."""
    async with contextlib.AsyncExitStack() as stack:
        server: ServerProcess | None = shared
        address, tls = shared.address, None
        if case.tls is not None:
            folder = tempfile.TemporaryDirectory(prefix="conformance-tls-")
            tls = TlsFiles(case.tls, Path(stack.enter_context(folder)))
        if case.script:
            server, address = None, await stack.enter_async_context(SCRIPTS[case.script]())
        elif case.server is not None or tls is not None:
            flags = [*(case.server or ()), *(tls.flags if tls else ())]
            server = await stack.enter_async_context(own_server(flags, tree))
            address = server.address
        relay = await stack.enter_async_context(relay_to(address)) if case.relay else None
        bus = await stack.enter_async_context(OwnCalls(address, tls))
        yield Stage(driver, bus, address, server, relay, tls)


@contextlib.asynccontextmanager
async def own_server(
    flags: Sequence[str] = (), tree: Path | None = None
) -> AsyncIterator[ServerProcess]:
    """Yield a server process with a new store, run from `tree` if given."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        server = ServerProcess(Path(folder) / "bus.db", *flags, tree=tree)
        await asyncio.to_thread(server.start)
        try:
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                await asyncio.to_thread(server.kill)
