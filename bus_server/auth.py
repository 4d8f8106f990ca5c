"""Who calls: tokens, and what each may do."""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass

from bus_server.errors import AccessDenied, TokenExpired, TokenInvalid
from bus_server.store.interface import Store
from threadbus.v1.agent_pb2 import AGENT_KIND_ANONYMOUS, AGENT_KIND_HUMAN, AgentKind

#: Callers remembered by their token's hash, so that a call costs no query.
MAX_KNOWN_CALLERS = 10_000

#: Unknown tokens are refused one at a time, with a pause of so many seconds between two; nobody is
#: kept for longer than this. Callers who try many tokens would otherwise keep the server busy. A
#: valid token is never delayed.
REFUSAL_PAUSE, MAX_REFUSAL_DELAY = 0.005, 1.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    kind: AgentKind.ValueType
    scopes: tuple[str, ...]
    #: Hash of the token that it calls with; empty: none.
    token: bytes = b""
    #: When that ends, on the store's clock; 0: never.
    expire_time: int = 0
    #: Which connection it calls through; only known of one without a name of its own.
    connection: str = ""

    @property
    def operator(self) -> bool:
        """It may do what only operators may."""
        return "admin" in self.scopes

    @property
    def own_name(self) -> str:
        """Its name if it has one of its own; empty for anonymous."""
        return "" if self.kind == AGENT_KIND_ANONYMOUS else self.name

    @property
    def fairness_key(self) -> str:
        """What tells it from others when room is shared: its own name, or else its connection."""
        return self.own_name or self.connection


ANONYMOUS = Caller("anonymous", AGENT_KIND_ANONYMOUS, ("post", "read"))
UNAUTHENTICATED = Caller("anonymous", AGENT_KIND_ANONYMOUS, ())


class Auth:
    """Turns what a call carries into a Caller."""

    def __init__(self, store: Store, *, required: bool) -> None:
        self.required = required
        self._store = store
        self._known: dict[bytes, Caller] = {}
        #: When the next unknown token is refused, on the monotonic clock.
        self._next_refusal = 0.0

    async def authenticate(
        self, authorization: str | bytes | None, *, token_needed: bool = True
    ) -> Caller:
        """Who sent this `authorization` metadata (None: none; of several entries, joined by commas,
        all must be the same).

        Raises:
            TokenInvalid: the token is unknown, or missing where one is required.
            TokenExpired: it was rotated, and its time is over.
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
                "the call carries several `authorization` entries that differ: send only one"
            )
        scheme, _, token = entry.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenInvalid("the authorization metadata must read `Bearer …`")
        caller = await self._caller(token_hash(token.strip()))
        if caller.expire_time and caller.expire_time <= self._store.clock.now():
            raise TokenExpired
        return caller

    def clear_cache(self) -> None:
        """Tokens may have ended: ask the store again, also of those it is being asked about."""
        self._known = {}

    async def _caller(self, hashed: bytes) -> Caller:
        caller = self._known.get(hashed)
        while caller is None:
            known = self._known
            found = await self._look_up(hashed)
            if known is self._known:  # else the token may have ended since it was looked up
                if len(known) >= MAX_KNOWN_CALLERS:
                    known.clear()
                caller = known[hashed] = found
        return caller

    async def _look_up(self, hashed: bytes) -> Caller:
        owner = await self._store.owner(hashed)
        if owner is None:
            await self._delay_refusal()
            raise TokenInvalid(
                "the token is unknown here; where tokens are required, an operator registers "
                "agents: threadbus register NAME --token-file DB.operator-token"
            )
        if owner.agent:
            kind = AgentKind.ValueType(owner.kind)
            return Caller(owner.agent, kind, ("post", "read"), hashed, owner.expire_time)
        return Caller("operator", AGENT_KIND_HUMAN, ("post", "read", "admin"), hashed)

    async def _delay_refusal(self) -> None:
        """Wait until the next unknown token may be refused."""
        now = time.monotonic()
        at = min(max(now, self._next_refusal), now + MAX_REFUSAL_DELAY)
        self._next_refusal = at + REFUSAL_PAUSE
        if at > now:
            await asyncio.sleep(at - now)


def require_scope(caller: Caller, scope: str) -> None:
    """Refuse a caller that may not do this. Raises AccessDenied."""
    if scope not in caller.scopes:
        raise AccessDenied(f"this needs a token with the scope `{scope}`")


def token_hash(token: str) -> bytes:
    """What the store keeps of a token. Tokens are long and random: one round of SHA-256 does."""
    return hashlib.sha256(token.encode()).digest()


def new_token() -> str:
    """A token: 43 characters, 256 random bits."""
    return secrets.token_urlsafe(32)
