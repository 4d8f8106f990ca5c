"""When each token was last used, to the minute."""

from collections.abc import Mapping

from bus_server.presence.changes import Changes
from bus_server.store.clock import StoreClock

#: In microseconds.
MINUTE = 60_000_000

#: Maximum number of tokens whose last use is remembered. A use of another one is saved again.
MAX_TOKENS = 10_000


class TokenUses:
    """The last uses of tokens that this server knows of, until a checkpoint has saved them."""

    def __init__(self, changes: Changes, clock: StoreClock) -> None:
        """`changes`: told when there is something to save. `clock`: the store's."""
        self._changes = changes
        self._clock = clock
        #: By the token's hash, in minutes since the Unix epoch: the last use, and that if unsaved.
        self._last: dict[bytes, int] = {}
        self._unsaved: dict[bytes, int] = {}

    def record(self, token: bytes) -> None:
        """Record that a token is used now. `token`: its hash."""
        minute = self._clock.time() // MINUTE
        if self._last.get(token) != minute:
            if len(self._last) >= MAX_TOKENS:
                self._last.clear()
            self._last[token] = self._unsaved[token] = minute
            self._changes.unsaved.set()

    def begin_save(self) -> Mapping[bytes, int]:
        """Returns the unsaved uses: by the token's hash, in microseconds since the Unix epoch."""
        return {token: minute * MINUTE for token, minute in self._unsaved.items()}

    def finish_save(self, saved: Mapping[bytes, int]) -> None:
        """Forget the uses that `begin_save` returned, unless there were later ones."""
        for token, used in saved.items():
            if self._unsaved.get(token) == used // MINUTE:
                del self._unsaved[token]
