"""Authentication: tokens, callers and their scopes."""

import asyncio
import functools
import hashlib
import secrets
import time
from dataclasses import dataclass

from bus_server.errors import TokenExpired, TokenInvalid
from bus_server.presence.token_uses import TokenUses
from bus_server.store import REVOKED, TokenOwner
from bus_server.store.interface import Store
from threadbus.v1.agent_pb2 import AGENT_KIND_ANONYMOUS, AGENT_KIND_HUMAN, AgentKind

#: Maximum number of callers in a cache. Authenticating a cached caller needs no query.
MAX_KNOWN_CALLERS = 10_000

#: Seconds between two look-ups of a token that is unknown. Calls with it wait for the next one, as
#: another server may create it meanwhile.
LOOKUP_PAUSE = 0.1

#: Seconds by which refusals of unknown tokens are spaced, and the longest that one is delayed for
#: this. Otherwise callers that try many tokens could keep the server busy. Calls with a valid token
#: are never delayed.
REFUSAL_PAUSE, MAX_REFUSAL_DELAY = 0.005, 1.0


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of an RPC: an agent, an operator, or anonymous."""

    name: str
    kind: AgentKind.ValueType
    #: Its scopes: any of "post", "read" and "admin".
    scopes: tuple[str, ...]
    #: Hash of its token; empty if the call has none.
    token: bytes = b""
    #: When the token expires, in microseconds on the store's clock; 0: never.
    expire_time: int = 0
    #: The beginnings of the names of the threads that it may access; empty: all threads.
    prefixes: tuple[str, ...] = ()
    #: The connection of an anonymous caller, as gRPC writes it; empty for any other.
    connection: str = ""

    @property
    def operator(self) -> bool:
        """Whether the caller has the rights of an operator."""
        return "admin" in self.scopes

    @property
    def own_name(self) -> str:
        """The caller's name; empty if it is anonymous."""
        return "" if self.kind == AGENT_KIND_ANONYMOUS else self.name

    @property
    def agent(self) -> str:
        """The agent that calls; empty if it is anonymous, or has a token of an operator."""
        return "" if self.name == OPERATOR_NAME else self.own_name

    @property
    def fairness_key(self) -> str:
        """The key of its share in queues and budgets: its name, or its connection if anonymous."""
        return self.own_name or self.connection


#: The name of callers whose tokens are of no agent.
OPERATOR_NAME = "operator"

#: The caller of a call without a token: in open mode, and where tokens are required.
ANONYMOUS = Caller("anonymous", AGENT_KIND_ANONYMOUS, ("post", "read"))
UNAUTHENTICATED = Caller("anonymous", AGENT_KIND_ANONYMOUS, ())


class Auth:
    """The authentication of calls, with a cache of callers by the hash of their token."""

    def __init__(self, store: Store, uses: TokenUses, *, required: bool) -> None:
        """`uses`: where the uses of tokens are recorded."""
        self.required = required
        self._store = store
        self._uses = uses
        self._known: dict[bytes, Caller] = {}
        #: Look-ups in progress, by the token's hash.
        self._lookups: dict[bytes, asyncio.Task[TokenOwner | None]] = {}
        #: Tokens that were unknown when they were last looked up, and when to look them up again at
        #: the earliest, on the monotonic clock. The latest is the last.
        self._unknown: dict[bytes, float] = {}
        #: The earliest time of the next refusal of an unknown token, on the monotonic clock.
        self._next_refusal = 0.0

    async def authenticate(
        self, authorization: str | bytes | None, *, token_needed: bool = True
    ) -> Caller:
        """Authenticate a call. Returns its caller.

        Args:
            authorization: the call's `authorization` metadata; None: it has none. Several entries,
                joined by commas, must all be the same.
            token_needed: whether a server that requires tokens refuses a call without one.
                Otherwise such a call gets a caller without scopes.

        Raises:
            TokenInvalid: the token is unknown, or missing where one is required; or the metadata is
                malformed.
            TokenExpired: the token was rotated and its grace period is over, or its lifetime is.
            StoreFailed, StoreBusy, StoreBug: the store cannot be read.
        """
        if authorization is None:
            if not self.required:
                return ANONYMOUS
            if token_needed:
                raise TokenInvalid(
                    "this server requires a token, as metadata `authorization: Bearer …`"
                )
            return UNAUTHENTICATED
        entry, *others = {entry.strip() for entry in str(authorization).split(",")}
        if others:
            raise TokenInvalid(
                "the call has several `authorization` entries that differ: send only one"
            )
        scheme, _, token = entry.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenInvalid("the `authorization` metadata must be `Bearer …`")
        caller = await self._caller(token_hash(token.strip()))
        self._check_expiry(caller)
        self._uses.record(caller.token)
        return caller

    def clear_cache(self) -> None:
        """Empty the cache: tokens may have been rotated or revoked.

        Lookups in progress are repeated.
        """
        self._known, self._lookups = {}, {}
        self._unknown.clear()

    def now_valid(self, hashed: bytes) -> None:
        """Forget that a token may have been unknown: it was just created."""
        self._unknown.pop(hashed, None)
        self._lookups.pop(hashed, None)

    def is_current(self, caller: Caller) -> bool:
        """Returns whether a caller is as it was authenticated. If not, authenticate it again.

        Call this once its request has arrived: its token may have ended meanwhile.
        """
        if not caller.token:
            return True
        if 0 < caller.expire_time <= self._store.clock.now():
            return False
        return self._known.get(caller.token) is caller

    def _check_expiry(self, caller: Caller) -> None:
        if caller.expire_time == REVOKED:
            raise TokenInvalid("the token was revoked")
        if 0 < caller.expire_time <= self._store.clock.now():
            raise TokenExpired

    async def _caller(self, hashed: bytes) -> Caller:
        caller = self._known.get(hashed)
        while caller is None:
            known = self._known
            found = await self._look_up(hashed)
            if known is self._known:  # else the cache was cleared during the lookup
                if len(known) >= MAX_KNOWN_CALLERS:
                    known.clear()
                caller = known[hashed] = found
        return caller

    async def _look_up(self, hashed: bytes) -> Caller:
        lookup = self._lookups.get(hashed)
        if lookup is None:
            lookup = self._lookups[hashed] = asyncio.create_task(self._owner(hashed))
            lookup.add_done_callback(functools.partial(self._looked_up, hashed))
        owner = await asyncio.shield(lookup)  # other calls wait for it, too
        if owner is None:
            await self._delay_refusal()
            raise TokenInvalid(
                "the token is unknown to this server, or was revoked; an operator creates another "
                "one: threadbus token create NAME --token-file DB.operator-token"
            )
        name, kind = owner.agent, AgentKind.ValueType(owner.kind)
        if not name:
            name, kind = OPERATOR_NAME, AGENT_KIND_HUMAN
        return Caller(name, kind, owner.scopes, hashed, owner.expire_time, owner.prefixes)

    def _looked_up(self, hashed: bytes, lookup: "asyncio.Task[TokenOwner | None]") -> None:
        if self._lookups.get(hashed) is lookup:
            del self._lookups[hashed]
        if not lookup.cancelled():
            lookup.exception()  # that nobody waits for it any more is no reason to log it

    async def _owner(self, hashed: bytes) -> TokenOwner | None:
        """Returns a token's owner; None if it is unknown, which is remembered for a moment."""
        wait = self._unknown.get(hashed, 0.0) - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        owner = await self._store.owner(hashed)
        self._unknown.pop(hashed, None)
        if owner is None:
            if len(self._unknown) >= MAX_KNOWN_CALLERS:
                del self._unknown[next(iter(self._unknown))]
            self._unknown[hashed] = time.monotonic() + LOOKUP_PAUSE
        return owner

    async def _delay_refusal(self) -> None:
        """Sleep until this call's unknown token may be refused."""
        now = time.monotonic()
        at = min(max(now, self._next_refusal), now + MAX_REFUSAL_DELAY)
        self._next_refusal = at + REFUSAL_PAUSE
        if at > now:
            await asyncio.sleep(at - now)


def token_hash(token: str) -> bytes:
    """Returns the hash under which the store keeps a token, 32 bytes.

    Tokens are long secrets, so an unsalted SHA-256 suffices.
    """
    return hashlib.sha256(token.encode()).digest()


def new_token() -> str:
    """Returns a new token: 43 characters, 256 random bits."""
    return secrets.token_urlsafe(32)
