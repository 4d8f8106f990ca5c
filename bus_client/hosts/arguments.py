"""The arguments of `threadbus hook` and `threadbus-hook`, which are the same program.

Not made with click, which takes longer to import than a hook may take after each call of a tool.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

EVENTS = ("stop", "post-tool", "session-start", "session-end")
_LONGEST_WAIT = 86_400.0  # seconds

_DESCRIPTION = """\
Run as a hook of a coding agent ("host"): tell the model that there are unread
messages, and tell others what the agent is doing. Prints one JSON object, in
the words of the host.

stop           The agent is about to stop. If there are messages that it was not
               notified of, it continues; otherwise it is idle. No message keeps
               it from stopping twice, so it cannot loop. With --wait, it stops
               only after that time without a message.
post-tool      The agent has called a tool, so it is alive. It is notified of new
               messages, at most once per --every.
session-start  The agent is idle, and notified of everything that it has not read.
session-end    The agent is offline.

The notice says how many messages there are, in which threads, from whom, and
who asks for a reply, and nothing that a peer wrote: hosts give a hook's text to
the model as if they or their user had written it. Nothing is marked as read: the
agent reads with bus_wait, or threadbus wait.

A hook never fails. Whatever goes wrong, it prints {} after at most --timeout
(stop: and --wait), and exits with 0; stderr has the reason. A TIME is a number
of seconds, or has a unit: 90, 10m, 1h.
"""

_EPILOG = """\
What an agent was notified of is kept in THREADBUS_STATE, or else in the user's
state directory, by server and agent. THREADBUS_AGENT (--as), THREADBUS_SERVER
(--server), THREADBUS_TOKEN, THREADBUS_CREDENTIALS and the variables for TLS are
those of `threadbus --help`. In the host's file, the time limit of a hook with
--wait must be at least 5 s longer.

Input that names the event of another host is ignored. By hand, try `echo '{}' |
threadbus-hook stop --host claude-code --as reviewer`.

threadbus-hook is the same program, and starts faster: use it in hooks.

Examples:
    threadbus hook stop --host claude-code --as reviewer
    threadbus-hook stop --host gemini --as reviewer --wait 240
    threadbus-hook post-tool --host codex --as reviewer --every 15
"""


class UsageError(Exception):
    """The arguments are wrong; the message says how."""


class Help(Exception):
    """Help was asked for; the message is the help."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises UsageError or Help, and neither prints nor exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def print_help(self, _: object = None) -> NoReturn:
        raise Help(self.format_help())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the arguments: event, host, agent, server, threads, timeout, wait, every, and files.

    The host is not checked. Empty environment variables count as not set.

    Raises:
        UsageError: The arguments are wrong.
        Help: They ask for help.
    """
    parser = _Parser(
        prog="threadbus hook",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("event", choices=EVENTS, help="when the host runs it")
    add = parser.add_argument
    hosts = "claude-code, codex, gemini, copilot, qwen, cursor or vscode"
    add("--host", required=True, metavar="HOST", help=hosts)
    agent = _set("THREADBUS_AGENT")
    add("--as", dest="agent", metavar="NAME", default=agent, help="the agent's name [env]")
    server = _set("THREADBUS_SERVER") or "127.0.0.1:7420"
    add("--server", metavar="ADDRESS", default=server, help="[env; default: 127.0.0.1:7420]")
    only = "tell only about this thread; may be repeated"
    add("--thread", dest="threads", metavar="THREAD", action="append", default=[], help=only)
    for name, default, help in (
        ("--wait", 0.0, "stop: how long to wait for a message first"),
        ("--every", 15.0, "post-tool: do nothing if one ran within this time [default: 15]"),
        ("--timeout", 2.0, "give up after this time [default: 2]"),
    ):
        add(name, metavar="TIME", type=_seconds, default=default, help=help)
    for name, help in (
        ("--token-file", "a file with the agent's token"),
        ("--ca-file", "CA certificates to trust"),
        ("--client-cert", "the agent's certificate"),
        ("--client-key", "the key of that certificate"),
    ):
        add(name, metavar="FILE", help=help)
    return parser.parse_args(arguments)


def _set(variable: str) -> str | None:
    return os.environ.get(variable) or None


def _seconds(text: str) -> float:
    """Returns a time such as 90, 5s, 10m or 1h in seconds."""
    unit = {"s": 1, "m": 60, "h": 3_600}.get(text[-1:])
    try:
        seconds = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90, 10m or 1h") from None
    if not 0 <= seconds <= _LONGEST_WAIT:  # refuses nan, too
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 24h")
    return seconds
