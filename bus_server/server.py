"""Starts, drains and stops a server."""

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from bus_server import __version__, extras, fd_limit, listening, logs, memory, tls
from bus_server.audit import Audit, log_to
from bus_server.auth import Auth, token_hash
from bus_server.budget import Budget
from bus_server.configuration import Configuration
from bus_server.console import address, console
from bus_server.errors import (
    BusError,
    Draining,
    StoreBug,
    StoreFailed,
    StoreRefused,
    TokenInvalid,
)
from bus_server.listening import ServeError
from bus_server.operator_token import operator_token
from bus_server.parts import Parts, build
from bus_server.reloading import Reloader
from bus_server.server_status import ServerStatus
from bus_server.services import admin_service, agent_service, bus_service, thread_service
from bus_server.services.call_log import CallLog
from bus_server.services.call_metadata import CallMetadata
from bus_server.services.dispatch import Dispatcher
from bus_server.services.request_reader import PendingReads
from bus_server.services.standard import Health, StandardServices
from bus_server.settings import Settings
from bus_server.store import SetOperatorToken
from bus_server.store.interface import ServedStore
from bus_server.store.opening import located, open_store
from threadbus.limits import MAX_CALL_BYTES

if TYPE_CHECKING:
    from bus_server.exporter import Exporter
    from bus_server.tracing import Tracing

__all__ = ["ServeError", "channel_options", "serve"]

logger = logging.getLogger(__name__)

#: Bytes of a request that gRPC buffers before a handler reads it.
LOOKAHEAD_BYTES = 16 * 1024

#: Number of calls waiting for a handler above which gRPC refuses some: see `channel_options`. None
#: of ten thousand waits that are opened at once may be refused.
MAX_PENDING_CALLS = 12_000

#: Minimum milliseconds between pings of a client. gRPC disconnects clients that ping more often.
MIN_PING_INTERVAL = 1_000

#: A drained server keeps refusing calls until none arrives for a period of this many seconds, and
#: for at most this many periods.
REFUSAL_PERIOD, MAX_REFUSAL_PERIODS = 0.1, 10
#: Seconds that gRPC waits for the last streams to end.
STOP_GRACE = 1.0
#: Seconds between inspections of the store's files.
INSPECT_INTERVAL = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """What a server has before it opens its store. It listens already."""

    configuration: Configuration
    settings: Settings
    server: grpc.aio.Server
    certificates: tls.Certificates | None
    port: int
    #: Who can reach it: see `listening.resolve`.
    reach: str
    #: See `address`.
    for_console: Sequence[str]
    exporter: "Exporter | None"
    tracing: "Tracing | None"


def _worth_logging(record: logging.LogRecord) -> bool:
    """Returns False for log records about a client that disconnected during a response.

    grpc logs those as errors, with a traceback: any client could fill the log, even without a
    token.
    """
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """Returns the options of the gRPC server."""
    time, timeout = round(settings.keepalive_time * 1000), round(settings.keepalive_timeout * 1000)
    return [
        ("grpc.keepalive_time_ms", time),
        # Both timeouts are needed: with the first alone, it takes a minute to detect a dead peer.
        ("grpc.keepalive_timeout_ms", timeout),
        ("grpc.http2.ping_timeout_ms", timeout),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Otherwise gRPC disconnects clients that ping more often than every five minutes. That
        # includes proxies, which share a connection among clients: service meshes ping every 5 s.
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL),
        # Otherwise a second server could share the port, and each would get half of the posts.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_CALL_BYTES),
        # Otherwise one connection that opens and resets calls fills the memory faster than gRPC
        # frees it: after five seconds, 2 GB and no response for half a minute.
        ("grpc.max_concurrent_streams", settings.max_streams),
        # How much of a request gRPC buffers before a handler reads it. Without the second option,
        # gRPC raises that to megabytes on a fast connection. A request that is being read gets as
        # large a window as it needs.
        ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
        ("grpc.http2.bdp_probe", 0),
        # The numbers of calls waiting for a handler, over all connections, above which gRPC refuses
        # some calls, and all. With the default of 1,000 it would refuse calls of a burst; without a
        # limit, clients that open and close connections would leave any number of calls behind.
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS + MAX_PENDING_CALLS // 4),
    ]


async def serve(configuration: Configuration) -> None:
    """Run a server until SIGTERM, SIGINT or SIGHUP, or until a background task ends.

    With a file of settings, SIGHUP reloads it instead.

    Ends the process with code 1 if draining takes longer than `drain_timeout`.

    Raises:
        ServeError: it cannot listen on the address, `listening.resolve` refused the settings, the
            certificate or key cannot be used, or a background task ended.
        StoreRefused: the database cannot be used.
        StoreLost: the store's files were removed, replaced or damaged. What could be saved was
            saved.
    """
    asyncio.get_running_loop().set_exception_handler(logs.log_loop_errors)
    logs.event(
        logger,
        logging.INFO,
        "starting",
        "starting version %s as process %d",
        __version__,
        os.getpid(),
        version=__version__,
        pid=os.getpid(),
        config=configuration.file,
    )
    settings, reach = listening.resolve(located(configuration.settings))
    if settings.audit_log is not None:
        try:
            log_to(settings.audit_log)
        except OSError as error:
            reason = error.strerror or error
            raise ServeError(f"cannot write --audit-log {settings.audit_log}: {reason}") from error
    fd_limit.raise_limit()
    logging.getLogger("grpc._cython.cygrpc").addFilter(_worth_logging)
    server = grpc.aio.server(interceptors=[CallMetadata()], options=channel_options(settings))
    certificates = tls.certificates(settings)
    add_port = server.add_insecure_port
    if certificates:
        add_port = functools.partial(
            server.add_secure_port, server_credentials=certificates.credentials()
        )
    with (
        listening.listen(settings, add_port) as port,
        address(settings, port, server.add_insecure_port) as for_console,
        extras.exporter(settings) as exporter,
    ):
        tracing = extras.tracing(settings)
        try:
            await _serve(
                _Setup(
                    configuration=configuration,
                    settings=settings,
                    server=server,
                    certificates=certificates,
                    port=port,
                    reach=reach,
                    for_console=for_console,
                    exporter=exporter,
                    tracing=tracing,
                )
            )
        finally:
            if tracing:
                await asyncio.to_thread(tracing.close)
    logs.event(logger, logging.INFO, "stopped", "stopped")


async def _serve(setup: _Setup) -> None:
    store = await open_store(setup.settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if setup.configuration.file is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the file can be reloaded
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # SIGHUP stays ignored under nohup: the server must outlive its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, _stop, stop, number)
    try:
        await _run(setup, store, stop)
    finally:
        await store.close()


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    if not stop.is_set():
        text = "received %s: draining"
        logs.event(logger, logging.INFO, "draining", text, number.name, signal=number.name)
        stop.set()


async def _run(setup: _Setup, store: ServedStore, stop: asyncio.Event) -> None:
    """Serve over an open store until `stop` is set or a background task ends, then drain.

    Raises StoreRefused if the store cannot be set up, and ServeError after a background task ended.
    """
    configuration, settings, server = setup.configuration, setup.settings, setup.server
    parts = build(store, settings, lambda: auth.clear_cache(), setup.tracing)
    auth = Auth(store, parts.uses, required=settings.auth == "required")
    try:
        if token_file := settings.operator_token_file or store.token_file:
            token, replace = _operator_token(token_file), token_file == store.token_file
            done = await store.commit([SetOperatorToken(token_hash(token), replace)])
            if isinstance(done.outcomes[0], TokenInvalid):
                raise StoreRefused(
                    f"the operator's token in {token_file} was revoked: delete the file; the next "
                    "start creates a new one"
                )
        elif settings.auth == "required":
            logger.warning(
                "no --operator-token-file: agents can only be registered with an operator's token "
                "that the store has already"
            )
        parts.presence.restore(await store.presence_rows(0))
        if settings.fallback_interval:  # else it takes no notice of other servers
            await parts.servers.enter()
    except (BusError, StoreBug) as error:
        raise StoreRefused(f"cannot set up {store.name}: {error}") from error
    risks = [
        *(*store.risks(), *listening.risks(settings), *tls.risks(settings)),
        *configuration.risks(),
    ]
    for risk in dict.fromkeys(risks):
        logger.warning("%s", risk)
    audit = Audit()
    calls, status = CallLog(), ServerStatus(store, parts)
    dispatcher, health, users = _add_services(*(setup, store, parts, auth, audit, calls, status))
    reloader = Reloader(configuration, settings, users)
    if configuration.file is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.reload)
    inspecting = asyncio.create_task(_inspect(store, health))
    watches = [memory.trim_forever(), fd_limit.watch_forever()]
    if setup.certificates:
        watches.append(setup.certificates.watch_forever())
    if setup.exporter:
        watches.append(setup.exporter.run(status, parts.statistics))
    tasks = [*parts.start(settings), *(asyncio.create_task(watch) for watch in watches), inspecting]
    await server.start()
    rights = {"auth": settings.auth, "thread_rights": settings.thread_rights}
    audit.event("server_started", None, "", listen=settings.listen, **rights)
    _tune_gc()
    _announce(setup, store)

    async with console(settings, setup.for_console, token_file):
        stopping = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = ended - {stopping}
    if inspecting in failed and not inspecting.exception():
        failed.remove(inspecting)  # it returns when the store is lost
    for task in failed:
        logger.critical("a background task ended: stopping", exc_info=task.exception())
    inspecting.cancel()  # or it would report SERVING
    health.set_serving(False)
    await _shut_down(server, reloader.settings, store, parts, dispatcher)
    audit.close()
    calls.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise ServeError("a background task ended: the log says why")


def _operator_token(path: Path) -> str:
    """Returns the operator's token in a file. Raises StoreRefused, which names the file."""
    try:
        return operator_token(path)
    except OSError as error:
        reason = error.strerror or error
        raise StoreRefused(f"cannot use the operator's token file {path}: {reason}") from error


def _add_services(
    setup: _Setup,
    store: ServedStore,
    parts: Parts,
    auth: Auth,
    audit: Audit,
    calls: CallLog,
    status: ServerStatus,
) -> tuple[Dispatcher, Health, list[Callable[[Settings], None]]]:
    """Add all services to the gRPC server.

    Returns their dispatcher, their health, and functions that take up reloaded settings.
    """
    settings, server = setup.settings, setup.server
    posts = bus_service.BusService(parts.bus, audit, settings, store, parts.statistics)
    threads = thread_service.ThreadService(parts.bus, settings)
    agents = agent_service.AgentService(parts.agents, parts.tokens, auth, settings)
    services = {
        bus_service.SERVICE: posts,
        thread_service.SERVICE: threads,
        agent_service.SERVICE: agents,
        admin_service.SERVICE: admin_service.AdminService(
            parts.tokens, parts.servers.name, parts.waits, parts.remote, status
        ),
    }
    timeout = settings.request_timeout
    reading = Budget(settings.max_request_bytes, timeout=timeout, what="the request")
    unread = Budget(settings.max_frame_bytes, timeout=timeout, what="the response")
    dispatcher = Dispatcher(
        auth,
        parts.presence.seen,
        PendingReads(reading, timeout),
        unread,
        audit,
        parts.statistics,
        setup.tracing,
        calls,
    )
    for service, servicer in services.items():
        dispatcher.add(service, servicer)
    standard = StandardServices([service.full_name for service in services])
    dispatcher.add_methods(standard.methods())
    server.add_generic_rpc_handlers((dispatcher,))
    for service_name, handlers in dispatcher.registered_handlers().items():
        server.add_registered_method_handlers(service_name, handlers)
    users = [
        *(posts.reload, threads.reload, agents.reload, parts.cleaner.reload),
        lambda new: parts.waits.limit(new.max_open_waits, new.max_anonymous_waits),
        lambda new: dispatcher.limit_time(new.request_timeout),
    ]
    return dispatcher, standard.health, users


async def _shut_down(
    server: grpc.aio.Server,
    settings: Settings,
    store: ServedStore,
    parts: Parts,
    dispatcher: Dispatcher,
) -> None:
    """Refuse new calls, end every wait, respond to accepted posts, and stop, in this order."""
    dispatcher.refusal = Draining
    if store.lost.is_set():
        dispatcher.refusal = store.refusal
        await parts.waits.end_all(functools.partial(StoreFailed, "its file is lost"))
        await store.give_up()
    await _drain(parts, settings, store)
    # Clients whose waits just ended call again. They must be refused with an error that says why: a
    # gRPC server that stops would reset their calls without one.
    for _ in range(MAX_REFUSAL_PERIODS):
        refused_calls = dispatcher.refused_calls
        await asyncio.sleep(REFUSAL_PERIOD)
        if dispatcher.refused_calls == refused_calls:
            break
    await server.stop(STOP_GRACE)
    await _drain(parts, settings, store)  # later calls changed presence, too
    await parts.servers.leave()


async def _inspect(store: ServedStore, health: Health) -> None:
    """Inspect the store every INSPECT_INTERVAL seconds until it is lost, and report its health."""
    while not store.lost.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INSPECT_INTERVAL):
                await store.lost.wait()
        await store.inspect()
        health.set_serving(not store.failing)


def _tune_gc() -> None:
    """Exclude existing objects from garbage collection, and collect less often.

    With the defaults, the collector would repeatedly traverse all waits, positions and recent
    messages: 4 % of a post's time, and pauses of up to a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def _drain(parts: Parts, settings: Settings, store: ServedStore) -> None:
    """Drain the bus. Ends the process with code 1 if that takes longer than `drain_timeout`."""
    try:
        async with asyncio.timeout(settings.drain_timeout):
            await parts.bus.drain()
    except TimeoutError:
        pending = parts.writer.statistics()
        logger.critical(
            "stopping after %g s (--drain-timeout) without the outcome of %d posts and %d other "
            "writes: %s %s",
            settings.drain_timeout,
            pending.pending_posts,
            pending.pending - pending.pending_posts,
            store.name,
            "fails, as logged above" if store.failing else "does not answer",
        )
        # The database's OS thread may hang in a call that cannot be interrupted, and would then
        # block exit.
        os._exit(1)


def _announce(setup: _Setup, store: ServedStore) -> None:
    """Print on standard output that the server is listening, and log it.

    Logs a warning if it cannot be printed.
    """
    settings, exporter, where = setup.settings, setup.exporter, setup.settings.listen
    if not where.startswith("unix:"):
        where = f"{where.rpartition(':')[0]}:{setup.port}"
    facts = {
        "listen": where,
        "store" if settings.store else "db": store.name,
        "kind": store.kind,
        "durability": settings.durability,
        "auth": settings.auth,
        "tls": settings.tls_cert is not None,
        **({"metrics": exporter.url} if exporter else {}),
    }
    logs.event(logger, logging.INFO, "listening", "listening on %s", where, **facts)
    if settings.json:
        line = json.dumps(facts)
    else:
        line = (
            f"listening on {where} · store {store.name} ({store.kind}) · "
            f"auth {settings.auth} ({setup.reach})"
        )
        if exporter:
            line += f" · metrics {exporter.url}"
    if sys.stdout is None:  # the shell closed it
        return
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError as error:
        logger.warning("cannot announce the start on standard output: %s", error.strerror)
        # Python flushes the rest of the buffer at exit, which would fail again.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
