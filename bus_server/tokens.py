"""Tokens: their creation, rotation and end, and the end of what was opened with them.

A call may be authenticated before its token ends, and begin afterwards. So the cache of callers is
emptied before the open streams are ended; and the dispatcher authenticates a call again, once its
request has arrived, if its caller is not in the cache any more (Auth.is_current). From then on
until a stream is registered, nothing else runs on the event loop.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bus_server import store
from bus_server.errors import BusError, OutcomeUnknown, StoreBug
from bus_server.post_streams import PostStreams
from bus_server.store.interface import Store
from bus_server.waits import Waits
from bus_server.writer import Writer
from threadbus.v1.admin_service_pb2 import Token


class Tokens:
    """The operations on tokens.

    Tokens are given as their hashes. Methods that write also raise what `Writer.submit` raises;
    those that read, what the store raises.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        waits: Waits,
        post_streams: PostStreams,
        clear_cache: Callable[[], None],
    ) -> None:
        """`clear_cache`: empties the cache of callers."""
        self._clear_cache = clear_cache
        self._store = store
        self._writer = writer
        self._waits = waits
        self._post_streams = post_streams

    async def create(
        self,
        token_hash: bytes,
        agent: str,
        scopes: Sequence[str],
        prefixes: Sequence[str],
        lifetime: float | None,
    ) -> Token:
        """Create a token. Registers its agent if it is not registered.

        Args:
            agent: the agent's name; empty: an operator.
            scopes: what it permits.
            prefixes: the beginnings of the names of its threads; empty: all threads.
            lifetime: in seconds; None: it does not expire.
        """
        end = 0 if lifetime is None else self._store.clock.now() + round(lifetime * 1e6)
        created = await self._writer.submit(
            store.CreateToken(token_hash, agent, tuple(scopes), tuple(prefixes), end)
        )
        return self._to_proto(created)

    async def page(
        self, agent: str | None, limit: int, before: store.TokenPageKey
    ) -> list[tuple[Token, store.TokenPageKey]]:
        """Returns a page of the tokens that have not expired, newest first, each with its key.

        `agent`, `limit`, `before`: as in `Store.list_tokens`.
        """
        found = await self._store.list_tokens(agent, limit, before)
        return [(self._to_proto(token), token.key) for token in found]

    async def revoke(self, token_id: str, own_hash: bytes) -> None:
        """Revoke the token with an id, and those that it replaced, and end their streams.

        Raises ValidationFailed if there is none, or if it is `own_hash`, the caller's.
        """
        await self.ending(self._revoke(store.RevokeToken(token_id, own_hash)))

    async def _revoke(self, command: store.RevokeToken) -> None:
        revoked = await self._writer.submit(command)
        self._clear_cache()
        await self._expire(dict.fromkeys(revoked))

    async def rotate(
        self, old_hash: bytes, new_hash: bytes, *, grace: float, agent: str = ""
    ) -> None:
        """Replace a token, or all tokens of an agent, with a new one.

        The old tokens, and the streams opened with them, end at most `grace` seconds from now.

        Args:
            old_hash: the hash of the token to replace. Not used if `agent` is given.
            new_hash: the hash of the new token.
            agent: the agent all of whose tokens to replace.

        Raises:
            AgentNotFound: `agent` is not registered.
            TokenInvalid: there is no token with `old_hash`.
            TokenExpired: that token has expired.
        """
        expire_time = self._store.clock.now() + round(grace * 1e6)
        rotation = store.RotateToken(old_hash, new_hash, expire_time, agent)
        await self.ending(self._rotate(rotation))

    async def _rotate(self, command: store.RotateToken) -> None:
        ends = await self._writer.submit(command)
        self._clear_cache()
        await self._expire({**ends})

    async def end_all(self, error: BusError, *, agent: str) -> None:
        """End the streams of an agent whose tokens were all revoked."""
        self._clear_cache()
        self._post_streams.end(error, agent=agent)
        await self._waits.end(error, agent=agent)

    async def refresh(self) -> None:
        """Look up the tokens of open streams: another server may have ended some."""
        self._clear_cache()
        in_use = self._waits.tokens() | self._post_streams.tokens()
        if in_use:
            found = await self._store.expire_times(in_use)
            await self._expire({token: found.get(token) for token in in_use})

    async def ending(self, work: Awaitable[None]) -> None:
        """Run something that ends tokens. If it may be committed, look what became of them.

        Must not be cancelled: it could be committed, while this server still accepted the tokens.
        """
        try:
            await work
        except (OutcomeUnknown, StoreBug):  # it may be committed
            with contextlib.suppress(BusError, StoreBug):
                await self.refresh()
            raise

    async def _expire(self, expire_times: Mapping[bytes, int | None]) -> None:
        """Set when tokens expire, and end the streams of those that were revoked.

        `expire_times`: by the token's hash, in microseconds on the store's clock; 0: never; None or
        REVOKED: the token was revoked.
        """
        expire_times = {
            token: None if time == store.REVOKED else time for token, time in expire_times.items()
        }
        self._post_streams.expire(expire_times)
        await self._waits.expire(expire_times)

    def _to_proto(self, token: store.TokenInfo) -> Token:
        found = Token(
            token_id=token.token_id,
            agent=token.agent,
            scopes=token.scopes,
            thread_prefixes=token.prefixes,
        )
        found.create_time.FromMicroseconds(token.create_time)
        if token.end_time:
            found.expire_time.FromMicroseconds(self._store.clock.wall(token.end_time))
        if token.last_use_time:
            found.last_use_time.FromMicroseconds(token.last_use_time)
        return found
