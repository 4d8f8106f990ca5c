"""Who may call what: one table for all methods.

The dispatcher applies the scopes and thread prefixes of tokens before a method runs. Who may change
a thread is decided in the transaction that changes it, from the same table. docs/security.md shows
all of it.
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bus_server.errors import AccessDenied, ThreadNotFound
from threadbus.names import THREAD
from threadbus.v1.agent_pb2 import AgentKind

#: What tokens can permit, in the order in which they are listed.
SCOPES = ("post", "read", "admin")


class Who(enum.Enum):
    """Who may do something, besides operators."""

    #: Anyone with the scope.
    ANYONE = enum.auto()
    #: The agent that it is about.
    ITSELF = enum.auto()
    #: People, and the thread's creator; anyone if `anonymous` created the thread.
    OWNERS = enum.auto()
    #: As OWNERS, and the thread's participants.
    PARTICIPANTS = enum.auto()
    #: The agent that posted the message.
    SENDER = enum.auto()
    #: Nobody else.
    OPERATORS = enum.auto()


class Threads(enum.Enum):
    """How a call concerns threads: what it does with a token that has thread prefixes."""

    #: It does not.
    NONE = enum.auto()
    #: It names threads: others than the token's do not exist for it.
    EXISTING = enum.auto()
    #: It may create the thread that it names: only one of the token's.
    NEW = enum.auto()
    #: Its response lists threads: only the token's.
    LISTED = enum.auto()
    #: It concerns all threads of an agent: not with such a token.
    ALL = enum.auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call needs: a scope of its token, and the right kind of caller."""

    #: "post", "read" or "admin"; empty: none.
    scope: str = ""
    who: Who = Who.ANYONE
    threads: Threads = Threads.NONE
    #: Who may do this where tokens are required; None: as in open mode.
    who_if_required: Who | None = None
    #: Whether a caller without a token may do this, too, in open mode, and over loopback or a Unix
    #: socket.
    open_here: bool = False
    #: Fields of the request, and what a call that sets one needs as well. In `update_mask`: what a
    #: call that sets no other field needs instead.
    fields: Mapping[str, "Rule"] = field(default_factory=dict)

    def check_scope(self, scopes: Collection[str]) -> None:
        """Check that a caller has the scope. `scopes`: the caller's. Raises AccessDenied."""
        if self.scope and self.scope not in scopes:
            raise AccessDenied(f"this needs a token with the scope `{self.scope}`")

    def check_threads(self, prefixes: tuple[str, ...], names: Iterable[str]) -> None:
        """Check that a token with thread prefixes permits access to the threads that a call names.

        Names that no thread can have are left to the method.

        Args:
            prefixes: the token's; at least one.

        Raises:
            ThreadNotFound: it does not, so that these threads do not exist for the caller.
            AccessDenied: it does not, and the call may create the thread, or concerns all threads.
        """
        if self.threads is Threads.ALL:
            only = any_of(prefixes)
            raise AccessDenied(f"this needs a token for all threads, not only for {only}")
        others = (name for name in names if not name.startswith(prefixes))
        hidden = [name for name in others if THREAD.fullmatch(name)]
        if hidden and self.threads is Threads.NEW:
            raise AccessDenied(
                f"{hidden[0]} is not a thread for this token: its threads begin with "
                f"{any_of(prefixes)}"
            )
        if hidden and self.threads is Threads.EXISTING:
            raise ThreadNotFound(hidden)


def narrowed(prefix: str, prefixes: tuple[str, ...]) -> list[str]:
    """Returns the prefixes of the names that begin with `prefix`, and with one of a token's.

    None of them begins with another one. `prefixes`: the token's; empty: for all threads.
    """
    both = {
        own if own.startswith(prefix) else prefix
        for own in prefixes or ("",)
        if own.startswith(prefix) or prefix.startswith(own)
    }
    return [
        each for each in sorted(both) if not any(each != p and each.startswith(p) for p in both)
    ]


def any_of(prefixes: Collection[str]) -> str:
    """Returns prefixes for a message."""
    return " or ".join(prefixes)


_ADMIN, _ITSELF = Rule("admin", Who.OPERATORS), Rule("post", Who.ITSELF)
_READ_THREAD = Rule("read", threads=Threads.EXISTING)
_CREATE_THREAD = Rule("post", threads=Threads.NEW)
_CHANGE_THREAD = Rule("post", Who.OWNERS, Threads.EXISTING)
_POST = Rule(
    "post",
    threads=Threads.EXISTING,
    fields={"on_behalf_of": Rule("post", Who.OPERATORS, Threads.EXISTING)},
)

#: By method, without `threadbus.v1.`.
RULES: Mapping[str, Rule] = {
    "BusService.PostMessage": _POST,
    "BusService.PostMessages": _POST,
    "BusService.WaitMessages": _READ_THREAD,
    "BusService.Heartbeat": Rule("read", threads=Threads.LISTED),
    "BusService.ListMessages": _READ_THREAD,
    "BusService.GetMessage": _READ_THREAD,
    "BusService.ListRequests": Rule("read", threads=Threads.LISTED),
    "BusService.WithdrawRequest": Rule("post", Who.SENDER, Threads.EXISTING),
    "BusService.GetServerInfo": Rule(),
    "ThreadService.CreateThread": _CREATE_THREAD,
    "ThreadService.GetThread": _READ_THREAD,
    "ThreadService.ListThreads": Rule("read", threads=Threads.LISTED),
    "ThreadService.JoinThread": Rule(
        "read", threads=Threads.EXISTING, fields={"create": _CREATE_THREAD}
    ),
    "ThreadService.LeaveThread": _READ_THREAD,
    "ThreadService.ListParticipants": _READ_THREAD,
    "ThreadService.UpdateThread": Rule(
        "post",
        Who.OWNERS,
        Threads.EXISTING,
        fields={"stage": Rule("post", Who.PARTICIPANTS, Threads.EXISTING)},
    ),
    "ThreadService.SetThreadState": _CHANGE_THREAD,
    "ThreadService.DeleteThread": _CHANGE_THREAD,
    "AgentService.RegisterAgent": Rule(
        "post", who_if_required=Who.ITSELF, fields={"kind": Rule("post", Who.OPERATORS)}
    ),
    "AgentService.GetAgent": Rule("read"),
    "AgentService.ListAgents": Rule("read"),
    "AgentService.UpdateAgent": _ITSELF,
    "AgentService.EndSession": Rule(who=Who.ITSELF),
    "AgentService.UnregisterAgent": Rule("post", Who.ITSELF, Threads.ALL),
    "AgentService.RotateToken": Rule(who=Who.ITSELF),
    "AdminService.CreateToken": _ADMIN,
    "AdminService.ListTokens": _ADMIN,
    "AdminService.RevokeToken": _ADMIN,
    "AdminService.ListWaits": _ADMIN,
    "AdminService.GetStatus": Rule("admin", Who.OPERATORS, open_here=True),
}


class Conditions(NamedTuple):
    """What must hold for a caller to change a thread."""

    #: The caller.
    agent: str
    kind: AgentKind.ValueType
    #: Who may make this change. Operators count as people.
    who: Who
    #: The thread's epoch; empty: any.
    epoch: str = ""


def who_may_update(fields: Iterable[str]) -> Who:
    """Returns who may change these settings of a thread together."""
    rule = RULES["ThreadService.UpdateThread"]
    allowed = {rule.fields.get(name, rule).who for name in fields}
    return allowed.pop() if len(allowed) == 1 else rule.who
