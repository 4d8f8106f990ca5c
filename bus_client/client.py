"""BusClient: one agent's connection to a server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import nullcontext
from typing import Literal, Self

from bus_client.agent_calls import AgentCalls
from bus_client.calls import Calls
from bus_client.channel import forked, refuse_fork
from bus_client.connections import Connections
from bus_client.errors import AccessDenied, ThreadNotFound
from bus_client.heartbeats import Heartbeats
from bus_client.identity import ANONYMOUS, Identity
from bus_client.reading_calls import ReadingCalls
from bus_client.requests import build, choice, seconds, text
from bus_client.responses import checked_join, checked_thread
from bus_client.retention import NewRetention, retention_fields
from bus_client.thread import ThreadHandle
from bus_client.threads_reader import ThreadsReader
from bus_client.tls import tls_files
from threadbus.v1 import agent_service_pb2, thread_service_pb2
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    PRESENCE_UNSPECIFIED,
    AgentKind,
    Presence,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    HeartbeatRequest,
    HeartbeatResponse,
)
from threadbus.v1.thread_pb2 import SYNC_MODE_UNSPECIFIED, SyncMode, Thread, ThreadState


class BusClient(AgentCalls, ReadingCalls):
    """One agent's connection to a ThreadBus server.

        async with BusClient("127.0.0.1:7420", agent="reviewer") as bus:
            thread = await bus.join("design")
            await thread.post("Ready to review.", mentions=["coder"])

    Belongs to the event loop in which it was connected; any number of calls may run at once.
    Broken connections are reopened. Calls that are safe to repeat are retried for up to `timeout`
    seconds. While the client is connected, its heartbeats show others that the agent is alive.

    Every call may raise Unavailable (in most cases Unreachable, Draining, StoreBusy or
    StoreFailed), Unauthenticated, AccessDenied, InvalidArgument, InternalError and ProtocolError; a
    call that writes, StorageFull. TlsFailed, an Unreachable, is not retried. InvalidArgument is
    raised before anything is sent for an argument that does not fit into the request, such as a
    number out of range. A call of a client that is
    not connected, or in a forked process, raises RuntimeError. So does a call during which the
    client is closed, unless it raises OutcomeUnknown.

    If the server no longer knows an agent that was registered by its name, the client registers
    the agent again. A call raises AgentExists if that fails because the name is taken.

    Args:
        server: `host`, `host:port` or `unix:PATH`. The default port is 7420. Connections use TLS,
            except to this machine (`localhost`, 127.0.0.0/8, `::1`, Unix sockets);
            `tls://host:port` and `plaintext://host:port` say it explicitly.
        agent: The name to register, or to resume. The client creates its token and keeps it in the
            credentials file. With a `token`, it must be the name of the token's agent. None without
            a `token` = anonymous, where the server allows it.
        token: An existing token, of an agent or an operator. Nothing is registered then.
        kind: AGENT_KIND_AGENT, or AGENT_KIND_HUMAN for a person, whom an operator must have
            registered. Like the next two, it is set by the registration, and ignored later.
        display_name: A name for people, up to 128 bytes.
        description: What the agent does, up to 1,024 bytes.
        timeout: Seconds for a call with its retries; follow(), wait(), post() and post_many() have
            limits of their own. For this and every other time in seconds, infinity or more than 31
            years means no limit, and a negative number or NaN raises InvalidArgument.
        credentials: Path of the credentials file. None = THREADBUS_CREDENTIALS, or else
            `credentials.json` in the user's data directory. Used only for an `agent` without a
            `token`. A file of the user that others may access is refused with CredentialsError.
        ca_file: Path of the CA certificates to trust, in PEM format. None = THREADBUS_CA_FILE, or
            else the public CAs that gRPC comes with. This and the next two are for TLS, and read
            when the client connects.
        client_cert: Path of the client's certificate, for servers that require one, in PEM format.
            None = THREADBUS_CLIENT_CERT, or else no certificate.
        client_key: Path of its key. None = THREADBUS_CLIENT_KEY.
        heartbeats: Report automatically that the agent is alive, at the interval that the server
            asks for. With False, for short-lived tools, heartbeats are sent only by heartbeat(),
            and to report read positions.

    Raises:
        InvalidArgument: `server`, `token`, `timeout`, `credentials` or a path for TLS is not valid.
            The other arguments are checked by connect().
    """

    def __init__(
        self,
        server: str = "127.0.0.1:7420",
        *,
        agent: str | None = None,
        token: str | None = None,
        kind: AgentKind.ValueType = AGENT_KIND_AGENT,
        display_name: str = "",
        description: str = "",
        timeout: float = 30.0,
        credentials: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        client_cert: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        heartbeats: bool = True,
    ) -> None:
        self._timeout = seconds("timeout", timeout)
        self._identity = Identity(
            server=server,
            agent=agent,
            token=token,
            kind=kind,
            display_name=display_name,
            description=description,
            credentials=credentials,
        )
        self._tls = tls_files(ca_file, client_cert, client_key)
        self._automatic_heartbeats = heartbeats
        self._agent = agent or ANONYMOUS
        self._created = False
        self._opened: tuple[Calls, Heartbeats, ThreadsReader] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and register the agent, as `async with` does. No-op if connected.

        If the client was given a token, it is checked instead.

        Raises:
            TlsFailed: TLS prevents any connection; the message says why.
            Unreachable: No server answered within `timeout`.
            InvalidArgument: An argument of the registration, or a file for TLS, is not valid.
            AgentExists: The name is registered with another token or none, or was unregistered.
            AccessDenied: It is a person whom no operator has registered.
            Unauthenticated: The token is unknown or expired, or belongs to another agent. Or the
                server requires tokens, and an operator has not registered the agent.
            CredentialsError: The token cannot be read from the credentials file or saved in it.
            RuntimeError: The process was forked from one in which a client had connected, which
                gRPC does not survive. Start processes with the method `spawn`.
        """
        refuse_fork()
        if self._opened is not None:
            return
        connections = Connections(self._identity.server, self._tls)
        calls = Calls(connections, identity=self._identity, timeout=self._timeout)
        try:
            self._agent = await calls.authenticate()
            self._created = calls.created
        except BaseException:
            await calls.close()
            raise
        anonymous = self._agent == ANONYMOUS
        heartbeats = Heartbeats(calls, anonymous=anonymous, automatic=self._automatic_heartbeats)
        self._opened = calls, heartbeats, ThreadsReader(calls, heartbeats)

    async def close(self) -> None:
        """Report the last read positions, for at most 2 s, and disconnect. Ends all open calls.

        Does not end the agent's session: others see the agent as present until its lease expires;
        see end_session(). No-op if not connected, or in a forked process.
        """
        opened, self._opened = self._opened, None
        if opened is None or forked():  # the parent process still uses the connection
            return
        calls, heartbeats, _ = opened
        try:
            await heartbeats.close()
        finally:
            await calls.close()

    @property
    def agent(self) -> str:
        """The caller's name at the server, or "anonymous". Before connect(): the name given."""
        return self._agent

    @property
    def created(self) -> bool:
        """Whether connect() registered a new agent. If you expected none, check the name."""
        return self._created

    @property
    def session_ended(self) -> bool:
        """Whether the agent's session was ended, as far as this client knows.

        By end_session(), or elsewhere: that ends follow(), wait() and inbox(). After one of the
        calls that end_session() names, it is False again.
        """
        return self._opened is not None and self._opened[1].paused

    @property
    def server(self) -> str:
        """The server's address, with its port, and a scheme if it means something else without."""
        return self._identity.server

    async def server_info(self) -> GetServerInfoResponse:
        """Returns the server's version, settings and limits, and the caller's identity.

        `default_retention` says how long messages are kept in threads without a retention of their
        own. If the server requires tokens, that and `limits` are not set for a client without one.
        """
        return await self._calls.call(self._calls.bus.GetServerInfo, GetServerInfoRequest())

    async def heartbeat(
        self,
        *,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        status_text: str | None = None,
        lease: float | None = None,
    ) -> HeartbeatResponse:
        """Report what the agent is doing, and return the server's response.

        `unread` has the threads that the agent has not read to the end, the most recently active
        first, at most 100, each with the number of open requests to the agent; `expire_time` is
        when the lease ends. Later heartbeats repeat the text, and what is left of a lease longer
        than agent_timeout, even if this call fails with an error other than InvalidArgument. The
        server ignores the heartbeats of an anonymous client.

        Args:
            state: PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE or PRESENCE_AWAITING_HUMAN.
                PRESENCE_UNSPECIFIED = unchanged.
            status_text: What it is doing, for people, up to 256 bytes. None = unchanged.
            lease: Seconds from now for which the agent may be silent without being LAPSED, for
                example during a long model call that blocks the event loop. The server lowers a
                longer lease to its max_lease (1 h). 0 = its agent_timeout. None = what is left of
                the last lease, or agent_timeout if that is longer.
        """
        build(HeartbeatRequest, state=state, status_text="" if status_text is None else status_text)
        lease = None if lease is None else seconds("lease", lease)
        self._heartbeats.resume()
        return await self._heartbeats.beat(state, status_text=status_text, lease=lease)

    async def rotate_token(self, *, grace: float = 60.0) -> str:
        """Replace the caller's token, and return the new one. It cannot be retrieved later.

        This client uses the new token from now on, and its open follow() and wait() go on with it.
        If the old one was in the credentials file, the new one replaces it there, and other clients
        that use the file go on with it, too. Clients that were given the old one raise TokenExpired
        once `grace` is over.

        Args:
            grace: Seconds for which the old token remains valid, at most 1 h. With 0, others that
                use the file fail until it has the new one, and all do if the response is lost.

        Raises:
            OutcomeUnknown: The response was lost. Call this again within `grace`.
            CredentialsError: The new token, in use now, was not saved; or the file was not read.
            InvalidArgument: The caller is an operator.
        """
        request = agent_service_pb2.RotateTokenRequest()
        request.grace.FromMicroseconds(int(seconds("grace", grace) * 1e6))
        return await self._calls.rotate_token(request)

    async def end_session(self) -> None:
        """End the agent's session: others see it as PRESENCE_OFFLINE at once.

        Reports the read positions first. Ends all open waits of the agent, also in its other
        processes: their follow() ends as when the thread is closed. Any later call of the agent
        starts a new session, so this client sends no automatic heartbeats until the next
        heartbeat(), acknowledge(), follow(), wait() or watch_participants(). No-op if anonymous.
        """
        anonymous = self.agent == ANONYMOUS
        ending = nullcontext() if anonymous else self._calls.session_generation.ending()
        async with ending, self._heartbeats.ending_session():
            request = agent_service_pb2.EndSessionRequest()
            await self._calls.call(self._calls.agents.EndSession, request)

    async def join(
        self,
        thread: str,
        *,
        create: bool = True,
        topic: str = "",
        context_limit: int = 0,
        start: Literal["head", "first"] = "head",
    ) -> ThreadHandle:
        """Join a thread, and return a handle at the position where the agent continues reading.

        An agent that has joined or posted before continues after what it has read. `start` applies
        to all others, even if they have been mentioned, and to an anonymous client.

        Args:
            thread: 1–128 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
            create: Create the thread if it does not exist. A caller that may create none joins it
                if it exists.
            topic: What it is about, if it is created. Up to 1,024 bytes.
            context_limit: Maximum number of messages up to the position to return in `context`.
                Lowered to 100, and to about 1 MiB in all.
            start: Where a new participant starts: "head" = after the newest message, "first" =
                before the oldest message that is kept.

        Raises:
            ThreadNotFound: There is no such thread, and `create` is False.
            QuotaExceeded: There is no such thread, and the agent may not create more for now.
            ContentBlocked: The topic contains a secret, and the server refuses those.
        """
        choice("start", start, ("head", "first"))
        request = build(
            thread_service_pb2.JoinThreadRequest,
            thread=thread,
            create=create,
            topic=topic,
            context_limit=context_limit,
            start=(
                thread_service_pb2.JOIN_START_FIRST
                if start == "first"
                else thread_service_pb2.JOIN_START_HEAD
            ),
        )
        try:
            joined = await self._calls.call(self._calls.threads.JoinThread, request)
        except AccessDenied as error:
            if not create:
                raise
            request.create = False
            try:
                joined = await self._calls.call(self._calls.threads.JoinThread, request)
            except ThreadNotFound:
                raise error from None
        checked_join(joined, thread)
        return ThreadHandle(thread, self._calls, self._heartbeats, joined)

    def thread(self, name: str) -> ThreadHandle:
        """Returns a handle for a thread. Makes no call.

        Posting and listing messages does not require joining the thread. The first follow() or
        wait() joins it, unless its position was set before.
        """
        return ThreadHandle(text("thread", name), self._calls, self._heartbeats)

    async def create_thread(
        self,
        name: str,
        *,
        topic: str = "",
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType = SYNC_MODE_UNSPECIFIED,
        retention: NewRetention = None,
    ) -> Thread:
        """Create a thread, and return it.

        Args:
            name: As in join().
            topic: What it is about, up to 1,024 bytes.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            sync_mode: With SYNC_MODE_STRICT, posts need expected_last_seq; see ThreadHandle.post().
                SYNC_MODE_UNSPECIFIED = SYNC_MODE_OFF.
            retention: How long its messages are kept: a Retention. None or "default" = as long as
                the server keeps those of all threads; see server_info().

        Raises:
            ThreadExists: There is a thread of this name.
            QuotaExceeded: The agent may not create more threads for now.
            ContentBlocked: The topic or a label contains a secret, and the server refuses those.
            OutcomeUnknown: The response was lost.
        """
        request = build(
            thread_service_pb2.CreateThreadRequest,
            thread=name,
            topic=topic,
            labels=labels,
            sync_mode=sync_mode,
            retention=retention_fields(retention),
        )
        response = await self._calls.call(self._calls.threads.CreateThread, request)
        return response.thread

    async def get_thread(self, name: str) -> Thread:
        """Returns a thread. Raises ThreadNotFound if there is none of this name."""
        request = build(thread_service_pb2.GetThreadRequest, thread=name)
        response = await self._calls.call(self._calls.threads.GetThread, request)
        return checked_thread(response.thread, name)

    async def list_threads(
        self,
        *,
        prefix: str = "",
        states: Iterable[ThreadState.ValueType] = (),
        participant: str = "",
    ) -> AsyncIterator[Thread]:
        """Yields the threads that match, the most recently active first.

        A thread to which an entry is appended while the list is read may be missing.

        Args:
            prefix: Only threads whose names begin with it. Empty = all.
            states: Only threads in one of these states, at most 100. THREAD_STATE_UNSPECIFIED =
                in any state. Empty = open and closed threads, not archived ones.
            participant: Only threads in which this agent participates. Empty = all.
        """
        request = build(
            thread_service_pb2.ListThreadsRequest,
            prefix=prefix,
            states=states,
            participant=participant,
        )
        async for page in self._calls.pages(self._calls.threads.ListThreads, request):
            for thread in page.threads:
                yield thread

    @property
    def _reader(self) -> ThreadsReader:
        return self._open[2]

    @property
    def _calls(self) -> Calls:
        return self._open[0]

    @property
    def _heartbeats(self) -> Heartbeats:
        return self._open[1]

    @property
    def _open(self) -> tuple[Calls, Heartbeats, ThreadsReader]:
        if self._opened is None:
            raise RuntimeError(
                "Not connected: use the client as a context manager, or call connect()."
            )
        return self._opened
