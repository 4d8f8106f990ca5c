"""`threadbus mcp`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import click

from bus_client.cli.mcp.bridge import Bridge
from bus_client.cli.mcp.connection import Options
from bus_client.cli.mcp.wire import Wire
from bus_client.cli.options import check_agent, seconds_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.streams import print_stderr
from threadbus.names import RESERVED, THREAD, THREAD_RULE

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option(
    "--thread",
    metavar="THREAD",
    envvar="THREADBUS_THREAD",
    show_envvar=True,
    help="The thread to join, and to use where a call names none.",
)
@seconds_option("--wait", default=45.0, help="How long bus_wait waits if the call does not say.")
@seconds_option("--wait-max", default=240.0, help="How long it waits at most.")
@click.option(
    "--as",
    "agent",
    metavar="NAME",
    envvar="THREADBUS_AGENT",
    show_envvar=True,
    callback=check_agent,
    help="The agent's name; registered if it is new. Each host needs a name of its own.",
)
@on_server
async def mcp(session: Session, thread: str | None, wait: float, wait_max: float) -> None:
    """Serve the bus to a coding agent: a server of the Model Context Protocol on stdin and stdout.

    A host such as Claude Code or Codex starts it: `threadbus install HOST` configures that. Its
    model can then join threads, post, wait, read, and see who is there, as the agent NAME. Two
    hosts with one name would take messages from each other.

    Starts without a server, and connects a second after its host has started, so that others see
    the agent. Messages count as read when the model posts or waits again. At the end of stdin, and
    at SIGINT, SIGTERM and SIGHUP, others see that the agent has gone.

    Hosts end calls after their own limits, of 60 s and more: --wait is shorter than all of them,
    and --wait-max than those that progress reports extend.

    \b
    Examples:
      threadbus mcp --as claude-backend --thread design
      claude mcp add threadbus -- threadbus mcp --as claude-backend
    """
    if session.agent is None:
        raise click.UsageError("Missing agent: add --as NAME, another one for each host.")
    # A model could not correct these.
    if session.agent in RESERVED:
        raise click.UsageError(f"--as: {session.agent} is a reserved name.")
    if thread is not None and not THREAD.fullmatch(thread):
        raise click.UsageError(f"--thread: must be {THREAD_RULE}.")
    stopped = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if sys.stdin.isatty():
        print_stderr(
            "threadbus mcp speaks MCP on stdin and stdout: a coding agent starts it. `threadbus "
            "install HOST` configures that. Ctrl-C ends it."
        )
    # Nothing but the protocol may be written to stdout: whatever is printed goes to stderr.
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    bridge = Bridge(
        Options(
            server=session.server,
            agent=session.agent,
            token=session.token,
            tls=session.tls,
            thread=thread,
            wait=min(wait, wait_max),
            wait_max=wait_max,
        )
    )
    wire = Wire(bridge, input=sys.stdin.fileno(), output=output)
    await wire.serve(stopped)
    await bridge.close()
    await wire.close()
