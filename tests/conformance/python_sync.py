"""The driver without asyncio: bus_client.sync.BusClient, and the stubs on a sync channel."""

import ctypes
import functools
import json
import sys
import threading
from collections.abc import Callable

import grpc
from google.protobuf.json_format import MessageToDict

from bus_client.address import endpoint
from bus_client.sync import BusClient, ThreadHandle
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


def interrupt(thread: int, kind: type[BaseException] | None = KeyboardInterrupt) -> None:
    """Raise an exception in a thread, as Ctrl-C would in the main one. None revokes it."""
    exception = ctypes.py_object(kind) if kind else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


class Driver:
    """The current client, and the running commands, a thread each."""

    def __init__(self) -> None:
        self._address, self._token = "", ""
        self._files = tls_keywords({})
        self._channel: grpc.Channel | None = None
        self._bus: BusClient | None = None
        self._connecting = threading.Lock()
        #: Cancels each command that can be cancelled. Guarded by the lock.
        self._cancels: dict[int, Callable[[], object]] = {}
        self._running: list[threading.Thread] = []
        self._cancelling = threading.Lock()

    def serve(self) -> None:
        """Run commands until stdin is closed."""
        for line in sys.stdin.buffer:
            fields = json.loads(line)
            if fields["do"] in ("open", "close", "cancel"):  # in their order
                self._carry_out(fields)
                continue
            self._running.append(threading.Thread(target=self._carry_out, args=[fields]))
            self._running[-1].start()
        self._close({})

    def _carry_out(self, fields: Fields) -> None:
        number, do = fields["id"], fields["do"]
        command = getattr(self, f"_{do}", None)
        if command is None:
            write(id=number, error={"code": "UNIMPLEMENTED", "message": f"What is {do}?"})
            return
        try:
            try:
                line: Fields = {"ok": command(fields) or {}}
            except Exception as error:  # noqa: BLE001 - reported to the runner
                line = {"error": error_of(error)}
            self._over(number)
        except KeyboardInterrupt:
            line = {"ok": {}}
            self._over(number)
        write(id=number, **line)

    def _over(self, number: int) -> None:
        """Ensure that the command is not interrupted from now on."""
        with self._cancelling:
            self._cancels.pop(number, None)
            interrupt(threading.get_ident(), None)

    def _open(self, fields: Fields) -> None:
        self._close(fields)
        self._address, self._token = fields["address"], fields.get("token", "")
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 16 << 20)]
        self._files = tls_keywords(fields)
        server = BusClient(self._address, **self._files).server  # checks the arguments
        credentials = tls_files(**self._files).credentials_for(server)
        if credentials is None:
            self._channel = grpc.insecure_channel(endpoint(server), options=options)
        else:
            self._channel = grpc.secure_channel(endpoint(server), credentials, options=options)

    def _call(self, fields: Fields) -> Fields:
        method = stub_method(self._channel, fields["method"])
        asked = request(fields["method"], fields["request"])
        timeout, metadata = fields["timeout"], call_metadata(self._token, fields)
        call = method.future(asked, timeout=timeout, metadata=metadata)
        self._cancels[fields["id"]] = call.cancel
        try:
            return MessageToDict(call.result())
        except grpc.FutureCancelledError:
            raise call from None  # the call is its own error

    def _invoke(self, fields: Fields) -> None:
        invoke(
            self._client(), lambda listing: next(listing, None), fields["method"], fields["request"]
        )

    def _wait(self, fields: Fields) -> None:
        method = stub_method(self._channel, "WaitMessages")
        asked = request("WaitMessages", fields["request"])
        call = method(asked, timeout=fields.get("timeout"), metadata=bearer(self._token))
        self._cancels[fields["id"]] = call.cancel
        for frame in call:
            write(id=fields["id"], frame=MessageToDict(frame))

    def _post_many(self, fields: Fields) -> None:
        method = stub_method(self._channel, "PostMessages")
        asked = [request("PostMessages", one) for one in fields["requests"]]
        timeout, metadata = fields.get("timeout"), bearer(self._token)
        call = method(iter(asked), timeout=timeout, metadata=metadata)
        self._cancels[fields["id"]] = call.cancel
        for response in call:
            write(id=fields["id"], response=MessageToDict(response))

    def _register(self, fields: Fields) -> None:
        asked = request("RegisterAgent", {"agent": fields["agent"], "token": fields["token"]})
        stub_method(self._channel, "RegisterAgent")(asked, timeout=10)
        self._token = fields["token"]
        self._client()

    def _client(self) -> BusClient:
        """Return the client, and connect it if needed."""
        with self._connecting:
            if self._bus is None:
                bus = BusClient(self._address, token=self._token or None, **self._files)
                bus.connect()
                self._bus = bus
            return self._bus

    def _thread(self, fields: Fields) -> ThreadHandle:
        return self._client().thread(fields["thread"])

    def _join(self, fields: Fields) -> Fields:
        start = "first" if fields.get("start") == "JOIN_START_FIRST" else "head"
        thread = self._client().join(fields["thread"], start=start)  # type: ignore[arg-type]
        return {"cursor": MessageToDict(thread.position)}

    def _post(self, fields: Fields) -> Fields:
        thread = self._thread(fields["request"])
        with tracing(fields):
            return MessageToDict(thread.post(**post_keywords(fields)))

    def _ask(self, fields: Fields) -> Fields:
        with tracing(fields):
            return MessageToDict(self._thread(fields["request"]).ask(**ask_keywords(fields)))

    def _follow(self, fields: Fields) -> None:
        thread = self._thread(fields["cursor"])
        thread.position = cursor(fields)
        self._cancels[fields["id"]] = functools.partial(interrupt, threading.get_ident())
        for message in thread.follow(**follow_keywords(fields)):
            write_message(fields["id"], message)

    def _inbox(self, fields: Fields) -> None:
        bus = self._client()
        self._cancels[fields["id"]] = functools.partial(interrupt, threading.get_ident())
        for message in bus.inbox(**inbox_keywords(fields)):
            write_message(fields["id"], message)

    def _read(self, fields: Fields) -> None:
        thread = self._thread(fields["cursor"])
        thread.position = cursor(fields)
        thread.acknowledge(thread.position.after_seq)

    def _goodbye(self, _: Fields) -> None:
        self._client().end_session()

    def _cancel(self, fields: Fields) -> None:
        with self._cancelling:
            if cancel := self._cancels.get(fields["target"]):
                cancel()

    def _close(self, _: Fields) -> None:
        with self._cancelling:
            for cancel in self._cancels.values():
                cancel()
        for thread in self._running:
            thread.join()
        self._running.clear()
        if self._bus is not None:
            self._bus.close()
        if self._channel is not None:
            self._channel.close()
        self._bus = self._channel = None


Driver().serve()
