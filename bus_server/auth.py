"""Authentication: tokens, callers and their scopes."""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass

from bus_server.errors import AccessDenied, TokenExpired, TokenInvalid
from bus_server.store.interface import Store
from threadbus.v1.agent_pb2 import AGENT_KIND_ANONYMOUS, AGENT_KIND_HUMAN, AgentKind

#: Maximum number of callers in a cache. Authenticating a cached caller needs no query.
MAX_KNOWN_CALLERS = 10_000

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
    #: The connection of an anonymous caller, as gRPC writes it; empty for any other.
    connection: str = ""

    @property
    def operator(self) -> bool:
        """Whether the caller is an operator."""
        return "admin" in self.scopes

    @property
    def own_name(self) -> str:
        """The caller's name; empty if it is anonymous."""
        return "" if self.kind == AGENT_KIND_ANONYMOUS else self.name

    @property
    def fairness_key(self) -> str:
        """The key of its share in queues and budgets: its name, or its connection if anonymous."""
        return self.own_name or self.connection


#: The caller of a call without a token: in open mode, and where tokens are required.
ANONYMOUS = Caller("anonymous", AGENT_KIND_ANONYMOUS, ("post", "read"))
UNAUTHENTICATED = Caller("anonymous", AGENT_KIND_ANONYMOUS, ())


class Auth:
    """The authentication of calls, with a cache of callers by the hash of their token."""

    def __init__(self, store: Store, *, required: bool) -> None:
        self.required = required
        self._store = store
        self._known: dict[bytes, Caller] = {}
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
            TokenExpired: the token was rotated, and its grace period is over.
            StoreFailed, StoreBusy, StoreBug: the store cannot be read.
        """
        if authorization is None:
            if not self.required:
                return ANONYMOUS
            if token_needed:
                raise TokenInvalid(
                    "this server requires a token: send it as metadata `authorization: Bearer …`"
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
        if caller.expire_time and caller.expire_time <= self._store.clock.now():
            raise TokenExpired
        return caller

    def clear_cache(self) -> None:
        """Empty the cache: tokens may have been rotated or revoked.

        Lookups in progress are repeated.
        """
        self._known = {}

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
        owner = await self._store.owner(hashed)
        if owner is None:
            await self._delay_refusal()
            raise TokenInvalid(
                "the token is unknown to this server; where tokens are required, an operator "
                "registers agents: threadbus register NAME --token-file DB.operator-token"
            )
        if owner.agent:
            kind = AgentKind.ValueType(owner.kind)
            return Caller(owner.agent, kind, ("post", "read"), hashed, owner.expire_time)
        return Caller("operator", AGENT_KIND_HUMAN, ("post", "read", "admin"), hashed)

    async def _delay_refusal(self) -> None:
        """Sleep until this call's unknown token may be refused."""
        now = time.monotonic()
        at = min(max(now, self._next_refusal), now + MAX_REFUSAL_DELAY)
        self._next_refusal = at + REFUSAL_PAUSE
        if at > now:
            await asyncio.sleep(at - now)


def require_scope(caller: Caller, scope: str) -> None:
    """Check that a caller has a scope: "post", "read" or "admin". Raises AccessDenied."""
    if scope not in caller.scopes:
        raise AccessDenied(f"this needs a token with the scope `{scope}`")


def token_hash(token: str) -> bytes:
    """Returns the hash under which the store keeps a token, 32 bytes.

    Tokens are long secrets, so an unsalted SHA-256 suffices.
    """
    return hashlib.sha256(token.encode()).digest()


def new_token() -> str:
    """Returns a new token: 43 characters, 256 random bits."""
    return secrets.token_urlsafe(32)
