"""The driver for asyncio: bus_client.BusClient, and the stubs on an asyncio channel."""

import asyncio
import json
import sys
from contextlib import aclosing

import grpc
from google.protobuf.json_format import MessageToDict

from bus_client import BusClient, ThreadHandle
from bus_client.channel import open_channel
from bus_client.tls import tls_files
from tests.conformance.python import (
    Fields,
    ask_keywords,
    bearer,
    call_metadata,
    cursor,
    error_of,
    follow_keywords,
    inbox_keywords,
    invoke,
    post_keywords,
    request,
    stub_method,
    tls_keywords,
    tracing,
    write,
    write_message,
)


class Driver:
    """The current client, and the running commands."""

    def __init__(self) -> None:
        self._address, self._token = "", ""
        self._files = tls_keywords({})
        self._channel: grpc.aio.Channel | None = None
        self._bus: BusClient | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Run commands until stdin is closed."""
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
            fields = json.loads(line)
            task = asyncio.create_task(self._carry_out(fields))
            self._tasks[fields["id"]] = task
            task.add_done_callback(self._forget)
        await self._close({})

    def _forget(self, done: asyncio.Task[None]) -> None:
        self._tasks = {number: task for number, task in self._tasks.items() if task is not done}

    async def _carry_out(self, fields: Fields) -> None:
        number, do = fields["id"], fields["do"]
        command = getattr(self, f"_{do}", None)
        if command is None:
            write(id=number, error={"code": "UNIMPLEMENTED", "message": f"What is {do}?"})
            return
        try:
            write(id=number, ok=await command(fields) or {})
        except asyncio.CancelledError:
            ended = do in ("follow", "inbox")
            ending = {"ok": {}} if ended else {"error": {"code": "CANCELLED"}}
            write(id=number, **ending)
        except Exception as error:  # noqa: BLE001 - reported to the runner
            write(id=number, error=error_of(error))

    async def _open(self, fields: Fields) -> None:
        await self._close(fields)
        self._address, self._token = fields["address"], fields.get("token", "")
        self._files = tls_keywords(fields)
        server = BusClient(self._address, **self._files).server  # checks the arguments
        self._channel = open_channel(server, tls_files(**self._files).credentials_for(server))

    async def _call(self, fields: Fields) -> Fields:
        method = stub_method(self._channel, fields["method"])
        asked = request(fields["method"], fields["request"])
        timeout, metadata = fields["timeout"], call_metadata(self._token, fields)
        return MessageToDict(await method(asked, timeout=timeout, metadata=metadata))

    async def _invoke(self, fields: Fields) -> None:
        bus = await self._client()
        await invoke(bus, lambda listing: anext(listing, None), fields["method"], fields["request"])

    async def _wait(self, fields: Fields) -> None:
        method = stub_method(self._channel, "WaitMessages")
        asked = request("WaitMessages", fields["request"])
        timeout, metadata = fields.get("timeout"), bearer(self._token)
        async for frame in method(asked, timeout=timeout, metadata=metadata):
            write(id=fields["id"], frame=MessageToDict(frame))

    async def _post_many(self, fields: Fields) -> None:
        method = stub_method(self._channel, "PostMessages")
        asked = [request("PostMessages", one) for one in fields["requests"]]
        timeout, metadata = fields.get("timeout"), bearer(self._token)
        async for response in method(iter(asked), timeout=timeout, metadata=metadata):
            write(id=fields["id"], response=MessageToDict(response))

    async def _register(self, fields: Fields) -> None:
        asked = request("RegisterAgent", {"agent": fields["agent"], "token": fields["token"]})
        await stub_method(self._channel, "RegisterAgent")(asked, timeout=10)
        self._token = fields["token"]
        await self._client()

    async def _client(self) -> BusClient:
        """Return the client, and connect it if needed."""
        if self._bus is None:
            self._bus = BusClient(self._address, token=self._token or None, **self._files)
        await self._bus.connect()
        return self._bus

    async def _thread(self, name: str) -> ThreadHandle:
        return (await self._client()).thread(name)

    async def _join(self, fields: Fields) -> Fields:
        start = "first" if fields.get("start") == "JOIN_START_FIRST" else "head"
        thread = await (await self._client()).join(fields["thread"], start=start)  # type: ignore[arg-type]
        return {"cursor": MessageToDict(thread.position)}

    async def _post(self, fields: Fields) -> Fields:
        thread = await self._thread(fields["request"]["thread"])
        with tracing(fields):
            return MessageToDict(await thread.post(**post_keywords(fields)))

    async def _ask(self, fields: Fields) -> Fields:
        thread = await self._thread(fields["request"]["thread"])
        with tracing(fields):
            return MessageToDict(await thread.ask(**ask_keywords(fields)))

    async def _follow(self, fields: Fields) -> None:
        thread = await self._thread(fields["cursor"]["thread"])
        thread.position = cursor(fields)
        async with aclosing(thread.follow(**follow_keywords(fields))) as messages:
            async for message in messages:
                write_message(fields["id"], message)

    async def _inbox(self, fields: Fields) -> None:
        bus = await self._client()
        async with aclosing(bus.inbox(**inbox_keywords(fields))) as messages:
            async for message in messages:
                write_message(fields["id"], message)

    async def _read(self, fields: Fields) -> None:
        thread = await self._thread(fields["cursor"]["thread"])
        thread.position = cursor(fields)
        await thread.acknowledge(thread.position.after_seq)

    async def _goodbye(self, _: Fields) -> None:
        await (await self._client()).end_session()

    async def _cancel(self, fields: Fields) -> None:
        if task := self._tasks.get(fields["target"]):
            task.cancel()

    async def _close(self, fields: Fields) -> None:
        others = [task for number, task in self._tasks.items() if number != fields.get("id")]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._bus is not None:
            await self._bus.close()
        if self._channel is not None:
            await self._channel.close()
        self._bus = self._channel = None


asyncio.run(Driver().serve())
