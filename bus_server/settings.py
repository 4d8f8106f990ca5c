"""The settings of a server, each declared once.

A field of `Settings` has the setting's name, type, range, default and help text. The flags of
`threadbus serve`, their environment variables and help are built from it (flags.py), files of
settings are read and written by it (config_file.py), and the table in docs/running.md is checked
against it.
"""

import difflib
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from threadbus.limits import MAX_CALL_BYTES, MAX_MESSAGE_BYTES

_MIB = 1024 * 1024
_DAY = 86_400.0

#: The environment variable of `--config`, which is no setting: it names a file of them.
CONFIG_VARIABLE = "THREADBUS_CONFIG"

T = TypeVar("T")

# ruff: noqa: RUF009 - what _setting() returns is a field


@dataclass(frozen=True, slots=True)
class Range:
    """The valid numbers of a setting: low ≤ number ≤ high, or low < number if `low_open`."""

    unit: Literal["seconds", "bytes", ""]
    low: float
    high: float
    low_open: bool = False


Seconds = Annotated[float, Range("seconds", 0, _DAY)]
PositiveSeconds = Annotated[float, Range("seconds", 0, _DAY, low_open=True)]
Count = Annotated[int, Range("", 1, 2**31 - 1)]
OptionalCount = Annotated[int, Range("", 0, 2**31 - 1)]
Bytes = Annotated[int, Range("bytes", 1, 2**31 - 1)]
OptionalBytes = Annotated[int, Range("bytes", 0, 2**62)]
#: Up to 100 years.
Age = Annotated[float, Range("seconds", 0, 36_525 * _DAY)]
ContentBytes = Annotated[int, Range("bytes", 1, MAX_MESSAGE_BYTES)]
#: At least a few of the largest requests or responses must fit.
BudgetBytes = Annotated[int, Range("bytes", 4 * MAX_CALL_BYTES, 2**40)]


class StoreUrl(str):
    """The URL of a database, which may contain a password."""


class FileMode(int):
    """The permission bits of a file, written in octal."""

    def __str__(self) -> str:
        return f"{self:04o}"


def _setting(
    default: T,
    help_text: str,
    *,
    metavar: str = "",
    variable: bool = True,
    bare: T | None = None,
    reloadable: bool = False,
) -> T:
    """Returns a field of Settings.

    `variable`: whether an environment variable can set it. `bare`: the value if its flag is given
    without one; None: it needs one. `reloadable`: whether a server that runs can take up a change.
    """
    metadata = {
        "help": help_text,
        "metavar": metavar,
        "variable": variable,
        "bare": bare,
        "reloadable": reloadable,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one server."""

    listen: str = _setting(
        "127.0.0.1:7420",
        "HOST:PORT or unix:PATH to listen on. Port 0 takes any free port.",
        metavar="ADDRESS",
    )
    socket_mode: FileMode = _setting(
        FileMode(0o600),
        "Permissions of a Unix socket: 0600 lets its owner connect, 0660 also its group, 0666 "
        "everyone on this machine.",
        metavar="MODE",
    )
    db: Path = _setting(
        Path("threadbus.db"),
        "The database file, created if it does not exist. Symbolic links are followed: the "
        "operator's token is kept beside the file itself.",
    )
    store: StoreUrl = _setting(
        StoreUrl(),
        "A PostgreSQL database for any number of servers, instead of --db: a URL such as "
        "postgresql://USER@HOST/DATABASE. Other users can see flags: give a password by the "
        "variable, or as psql takes it (PGPASSWORD, ~/.pgpass).",
        metavar="URL",
    )
    operator_token_file: Path | None = _setting(
        None,
        "The file of the operator's token, created if it does not exist. By default beside the "
        "database file; with --store there is no default.",
    )
    durability: Literal["full", "replicated", "fast"] = _setting(
        "full",
        "full: an acknowledged post is on disk. replicated: also on a synchronous standby, with "
        "--store. fast: it may be lost if the machine fails.",
    )
    auth: Literal["open", "required", ""] = _setting(
        "",
        "open: a call without a token acts as `anonymous`, and anyone may register. required: "
        "every call needs a token, and an operator registers agents. By default open on loopback "
        "and Unix sockets, else required.",
    )
    tls_cert: Path | None = _setting(
        None,
        "The server's certificate, followed by those between it and its CA, in PEM format: the "
        "server speaks TLS. It is read again when it changes.",
    )
    tls_key: Path | None = _setting(None, "The certificate's private key, in PEM format.")
    tls_client_ca: Path | None = _setting(
        None,
        "CA certificates in PEM format: only clients with a certificate from one of them can "
        "connect. Tokens still say who calls.",
    )
    thread_rights: Literal["owners", "everyone"] = _setting(
        "owners",
        "owners: a thread may be changed, closed and deleted by its creator, people and operators; "
        "its participants may set its stage. everyone: by any caller.",
        reloadable=True,
    )
    insecure: bool = _setting(
        False,
        "Allow a --listen address that other machines can reach without TLS, or with --auth open.",
    )
    fallback_interval: Seconds = _setting(
        1.0,
        "Longest time between checks for what other processes wrote to the store. 0: never check.",
    )
    hints: Literal["on", "off"] = _setting(
        "on",
        "on: servers on the same store tell each other at once what they have written. off: they "
        "see it at the next --fallback-interval.",
    )
    busy_timeout: Seconds = _setting(
        5.0, "How long posts wait while another program locks the store, before they are refused."
    )
    heartbeat_interval: PositiveSeconds = _setting(
        40.0,
        "Time between the heartbeats that agents are asked to send.",
        reloadable=True,
    )
    agent_timeout: PositiveSeconds = _setting(
        60.0,
        "Time without a sign of life after which an agent is LAPSED; at least one and a half "
        "heartbeat intervals.",
    )
    working_timeout: PositiveSeconds = _setting(
        900.0,
        "How long an agent counts as WORKING on messages that it does not report as read; one that "
        "sends heartbeats, at most until its lease ends.",
    )
    checkpoint_interval: PositiveSeconds = _setting(
        2.0,
        "Time between writes of agents' presence and positions to the store, and of the open waits "
        "if there are other servers.",
    )
    server_lease: PositiveSeconds = _setting(
        30.0,
        "Time without a renewal after which other servers on the store consider this one dead, and "
        "its waits ended; at least five checkpoint intervals.",
    )
    drain_timeout: PositiveSeconds = _setting(
        10.0,
        "How long the server waits at shutdown for the posts it has accepted to commit.",
        reloadable=True,
    )
    max_content_bytes: ContentBytes = _setting(
        1 * _MIB, "Maximum size of a message's content.", reloadable=True
    )
    max_queued_posts: Count = _setting(
        10_000,
        "How many posts may wait for the disk; a batch of PostMessages counts as one. Further "
        "posts are refused with STORE_BUSY; further batches wait.",
    )
    max_queued_bytes: Bytes = _setting(
        64 * _MIB,
        "Total size of the posts that may wait for the disk. Further posts are refused with "
        "STORE_BUSY; further batches of PostMessages wait.",
    )
    max_open_waits: Count = _setting(
        10_000, "How many waits one agent may have open.", reloadable=True
    )
    max_anonymous_waits: Count = _setting(
        20_000,
        "How many waits all anonymous callers together may have open.",
        reloadable=True,
    )
    posts_per_minute: OptionalCount = _setting(
        0,
        "How many posts a minute one agent may make, and how many one thread may get: so many at "
        "once, and as many again, evenly, over each minute. Further posts are refused with "
        "RATE_LIMITED. Without a token, each connection counts by itself; operators are exempt. "
        "Each server counts for itself. 0: no limit.",
        reloadable=True,
    )
    threads_per_caller: OptionalCount = _setting(
        0,
        "How many threads one agent may create: so many at once, and as many again, evenly, over "
        "each day. Further ones are refused with QUOTA_EXCEEDED. All callers without a token count "
        "as one; operators are exempt. Each server counts for itself, since its start. 0: no "
        "limit.",
        reloadable=True,
    )
    agents_per_caller: OptionalCount = _setting(
        0,
        "How many agents one caller may register, counted as for --threads-per-caller. In open "
        "mode, agents register without a token: this limits all of them together. 0: no limit.",
        reloadable=True,
    )
    max_streams: Count = _setting(
        1_000,
        "How many calls one connection may have open. Further calls are queued by the client's "
        "gRPC library.",
    )
    max_request_bytes: BudgetBytes = _setting(
        128 * _MIB,
        "Total size of the requests that are arriving or being handled, of all callers. Further "
        "calls wait before they are read.",
    )
    max_frame_bytes: BudgetBytes = _setting(
        64 * _MIB,
        "Total size of the responses and frames that callers have not read yet. Further large "
        "ones wait before they are sent.",
    )
    request_timeout: PositiveSeconds = _setting(
        20.0,
        "How long a request may take to arrive, and how long a call waits while "
        "--max-request-bytes or --max-frame-bytes is reached.",
        reloadable=True,
    )
    keepalive_time: PositiveSeconds = _setting(
        30.0, "Time without traffic after which a connection is pinged."
    )
    keepalive_timeout: PositiveSeconds = _setting(
        10.0, "How long to wait for the reply to a ping before the connection is closed."
    )
    retain_age: Age = _setting(
        0.0,
        "How old entries may become, in threads without a retention of their own: older ones are "
        "removed. 0: no limit.",
        reloadable=True,
    )
    retain_messages: OptionalCount = _setting(
        0,
        "How many entries such a thread keeps: the newest ones. 0: no limit.",
        reloadable=True,
    )
    retain_bytes: OptionalBytes = _setting(
        0,
        "How many bytes of entries such a thread keeps: of the newest ones, but at least one. "
        "0: no limit.",
        reloadable=True,
    )
    refuse_secrets: bool = _setting(
        False,
        "Refuse posts, topics, stages and labels that contain a key or a token of a well-known "
        "format, such as a private key or a token of GitHub.",
        reloadable=True,
    )
    console: str = _setting(
        "",
        "Also run a console, in a process of its own: a page on which --console-as follows threads "
        "and posts. HOST:PORT is where browsers reach it, by default 127.0.0.1:7480.",
        metavar="[HOST:PORT]",
        bare="127.0.0.1:7480",
    )
    console_as: str = _setting(
        "",
        "The person for whom the console acts; registered if the name is new.",
        metavar="NAME",
    )
    metrics: str = _setting(
        "",
        "Also serve metrics for Prometheus, over HTTP at /metrics. They have no names, addresses "
        "or contents; anyone who can reach the port can read them.",
        metavar="HOST:PORT",
    )
    otel: bool = _setting(
        False,
        "Also send the spans of traces by OpenTelemetry, to where its variables say, such as "
        "OTEL_EXPORTER_OTLP_ENDPOINT. They have names of threads and agents, but no contents.",
    )
    json: bool = _setting(
        False, "Announce the start as one JSON object on standard output.", variable=False
    )
    audit_log: Path | None = _setting(
        None,
        "A file to which to append registrations, tokens, refusals and what operators do, one JSON "
        "object in each line. By default they are logged on standard error.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info",
        "What to log on standard error. debug logs every RPC, and with --db the SQL statements. "
        "Contents of messages and tokens are not logged at any level.",
        reloadable=True,
    )
    log_format: Literal["text", "json"] = _setting(
        "text",
        "text: log lines for people. json: one JSON object in each line, for programs.",
        reloadable=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name: The name of its field in `Settings`.
        kind: The Python type of its value.
        choices: The valid values. Empty: any of its type.
        range: The valid numbers. None: it is not a number.
        default: The default value. "" or None: the server chooses one, or does without.
        help: The help text, in whole sentences.
        metavar: The value's placeholder in the help. Empty: derived from its type.
        bare: The value if its flag is given without one. None: it needs one.
        variable: The environment variable. None: it has none.
        reloadable: Whether a server that runs takes up a change in its file of settings.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    range: Range | None
    default: Any
    help: str
    metavar: str
    bare: Any
    variable: str | None
    reloadable: bool

    @property
    def key(self) -> str:
        """Its key in a file of settings."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """Its flag of `threadbus serve`."""
        return f"--{self.key}"


def declared() -> list[Setting]:
    """Returns all settings in the order of their declaration."""
    types = get_type_hints(Settings, include_extras=True)
    return [_declared(each, types[each.name]) for each in fields(Settings)]


def _declared(setting: Field[Any], kind: Any) -> Setting:
    choices: tuple[str, ...] = ()
    limits = None
    if isinstance(kind, UnionType):  # or None
        kind = get_args(kind)[0]
    if get_origin(kind) is Annotated:
        kind, limits = get_args(kind)
    elif get_origin(kind) is Literal:
        kind, choices = str, tuple(choice for choice in get_args(kind) if choice)
    return Setting(
        name=setting.name,
        kind=kind,
        choices=choices,
        range=limits,
        default=setting.default,
        help=setting.metadata["help"],
        metavar=setting.metadata["metavar"],
        bare=setting.metadata["bare"],
        variable=f"THREADBUS_{setting.name.upper()}" if setting.metadata["variable"] else None,
        reloadable=setting.metadata["reloadable"],
    )


def misspelt(variables: Iterable[str]) -> dict[str, str]:
    """Returns the environment variables that set nothing, each with the one that may be meant.

    Other programs have variables that begin as ours do: only those much like one of ours count.
    """
    known = [CONFIG_VARIABLE, *(each.variable for each in declared() if each.variable)]
    others = {name for name in variables if name.startswith("THREADBUS_")} - {*known}
    likely = {name: difflib.get_close_matches(name, known, 1, 0.9) for name in sorted(others)}
    return {name: found[0] for name, found in likely.items() if found}
