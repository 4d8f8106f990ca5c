"""The registry of open PostMessages streams, and how they end before their clients end them."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

from bus_server.errors import BusError, Draining, TokenExpired, TokenInvalid
from bus_server.store.clock import StoreClock

#: Seconds between checks of whether a token has expired, at most.
CHECK_INTERVAL = 3_600.0


class OpenStream:
    """The entry of one PostMessages call: `receiving` is the task that receives its requests."""

    def __init__(
        self, receiving: "asyncio.Task[None]", agent: str, token: bytes, clock: StoreClock
    ) -> None:
        #: Empty: anonymous.
        self.agent = agent
        #: Hash of the token that it was opened with; empty: none.
        self.token = token
        #: Why it receives no more requests; None: it does.
        self.error: BusError | None = None
        self._receiving = receiving
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def end(self, error: BusError) -> None:
        """Receive no more requests. Those received are responded to; then the call gets `error`."""
        self.error = self.error or error
        self._receiving.cancel()

    def expire(self, expire_time: int) -> None:
        """End the stream when its token expires.

        `expire_time`: in microseconds on the store's clock; 0: never.
        """
        self.close()
        if expire_time:
            rest = max((expire_time - self._clock.now()) / 1e6, 0.0)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(rest, CHECK_INTERVAL), self._check, expire_time)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, expire_time: int) -> None:
        if self._clock.now() < expire_time:
            self.expire(expire_time)
        else:
            self.end(TokenExpired())


class PostStreams:
    """All open PostMessages streams of this server."""

    def __init__(self, clock: StoreClock) -> None:
        """`clock`: the store's."""
        self._clock = clock
        self._open: set[OpenStream] = set()

    @contextlib.contextmanager
    def opened(
        self, receiving: "asyncio.Task[None]", agent: str, token: bytes, expire_time: int
    ) -> Iterator[OpenStream]:
        """Add a stream (context manager).

        Args:
            receiving: the task that receives its requests.
            agent: the caller; empty: it is anonymous.
            token: the hash of its token; empty: it has none.
            expire_time: when that expires, in microseconds on the store's clock; 0: never.
        """
        stream = OpenStream(receiving, agent, token, self._clock)
        self._open.add(stream)
        stream.expire(expire_time)
        try:
            yield stream
        finally:
            self._open.discard(stream)
            stream.close()

    def expire(self, expire_times: Mapping[bytes, int | None]) -> None:
        """Set when tokens expire, and end the streams with revoked tokens, as `Waits.expire`."""
        for stream in list(self._open):
            if stream.token in expire_times:
                expire_time = expire_times[stream.token]
                if expire_time is None:
                    stream.end(
                        TokenInvalid("the token that this stream was opened with is revoked")
                    )
                else:
                    stream.expire(expire_time)

    def end(self, error: BusError, *, agent: str) -> None:
        """End the streams of an agent."""
        for stream in list(self._open):
            if stream.agent == agent:
                stream.end(error)

    def drain(self) -> None:
        """End all streams with Draining."""
        for stream in list(self._open):
            stream.end(Draining())

    def tokens(self) -> set[bytes]:
        """Returns the hashes of the tokens that streams were opened with."""
        return {stream.token for stream in self._open if stream.token}
