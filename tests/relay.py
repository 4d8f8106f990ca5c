"""A TCP relay to a server that can go silent or be cut, as networks do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Relay:
    """Forwards bytes between clients of `address` and a server."""

    def __init__(self, server: str) -> None:
        self._host, _, self._port = server.rpartition(":")
        self._connections: set[_Connection] = set()
        self.address = ""
        #: New connections are closed at once.
        self.refusing = False
        #: Connections accepted so far.
        self.accepted = 0

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        if self.refusing:
            client.close()
            return
        try:
            answers, server = await asyncio.open_connection(self._host, int(self._port))
        except OSError:
            client.close()
            return
        connection = _Connection(client, server)
        self._connections.add(connection)
        self.accepted += 1
        back = asyncio.create_task(connection.pass_back(answers))
        try:
            await connection.pass_on(reader)
            await back
        finally:
            self._connections.remove(connection)

    def silence(self) -> None:
        """Forward nothing more to the clients of open connections, not even the end."""
        for connection in self._connections:
            connection.silent = True

    def cut(self) -> None:
        """Abort the open connections."""
        for connection in self._connections:
            connection.cut()


class _Connection:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client, self._server = client, server
        self.silent = False

    async def pass_on(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                with contextlib.suppress(ConnectionError):
                    self._server.write(data)
                    await self._server.drain()
        self.cut()

    async def pass_back(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not self.silent:
                    self._client.write(data)
                    await self._client.drain()
        if not self.silent:
            self.cut()

    def cut(self) -> None:
        self._client.close()
        self._server.close()


@contextlib.asynccontextmanager
async def relay_to(server: str) -> AsyncIterator[Relay]:
    """A relay to the server at this address, on a port of its own."""
    relay = Relay(server)
    listening = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    relay.address = f"{host}:{port}"
    async with listening:
        try:
            yield relay
        finally:
            relay.cut()
