"""The commands about tokens, and what they and reads of tokens return.

Times of their ends are in microseconds on the store's clock, all others in microseconds since the
Unix epoch.
"""

from dataclasses import dataclass
from typing import NamedTuple

from bus_server.store.commands import Command

#: The expire time of a token that was revoked, or whose agent was unregistered. It is kept, so that
#: nobody registers it again: streams that were opened with it may not have ended at each server.
REVOKED = 1

#: Seconds for which a token is kept after it has expired: its calls get TokenExpired, and nobody
#: can register it while streams that were opened with it may be open.
KEPT_EXPIRED = 86_400.0


class TokenOwner(NamedTuple):
    """The agent that a token belongs to, and what the token permits."""

    agent: str  # empty: an operator
    kind: int  # an AgentKind; 0: an operator
    expire_time: int  # in microseconds on the store's clock; 0: never
    scopes: tuple[str, ...]
    prefixes: tuple[str, ...]

    @classmethod
    def stored(
        cls, agent: str, kind: int, expire_time: int, scopes: str, prefixes: str
    ) -> "TokenOwner":
        """Returns an owner. `scopes` and `prefixes`: between spaces, as they are stored."""
        return cls(agent, kind, expire_time, tuple(scopes.split()), tuple(prefixes.split()))


class TokenPageKey(NamedTuple):
    """A token's position in the list of tokens, which is in descending order of these keys."""

    create_time: int  # in microseconds since the Unix epoch
    token_id: str


#: Comes before the key of every token.
FIRST_PAGE = TokenPageKey((1 << 63) - 1, "")


class TokenInfo(NamedTuple):
    """A token as operators list it."""

    token_id: str
    agent: str  # empty: an operator
    scopes: tuple[str, ...]
    prefixes: tuple[str, ...]
    create_time: int  # in microseconds since the Unix epoch
    end_time: int = 0  # in microseconds on the store's clock; 0: it does not expire
    last_use_time: int = 0  # in microseconds since the Unix epoch; 0: it was not used

    @property
    def key(self) -> TokenPageKey:
        """Its page key."""
        return TokenPageKey(self.create_time, self.token_id)

    @classmethod
    def stored(
        cls, token_id: str, agent: str, scopes: str, prefixes: str, *times: int
    ) -> "TokenInfo":
        """Returns a token. `scopes` and `prefixes`: between spaces, as they are stored."""
        return cls(token_id, agent, tuple(scopes.split()), tuple(prefixes.split()), *times)


@dataclass(frozen=True, slots=True)
class CreateToken(Command[TokenInfo]):
    """Create a token. Registers its agent if it is not registered, as kind AGENT.

    Tokens of the agent that expired more than KEPT_EXPIRED ago are deleted. Raises AgentExists if
    the same batch unregisters the agent.
    """

    token_hash: bytes
    agent: str  # empty: an operator
    scopes: tuple[str, ...]
    prefixes: tuple[str, ...]
    end_time: int  # in microseconds on the store's clock; 0: it does not expire


@dataclass(frozen=True, slots=True)
class RevokeToken(Command[list[bytes]]):
    """End the tokens that have an id. Returns the hash of each.

    Raises ValidationFailed if there is none, or if one of them is `own_hash`.
    """

    token_id: str
    own_hash: bytes  # of the token that the call is made with


@dataclass(frozen=True, slots=True)
class SetOperatorToken(Command[None]):
    """Add the operator's token in the server's file, unless it was added before.

    Raises TokenInvalid if it was revoked.
    """

    token_hash: bytes
    #: Whether earlier tokens of the file end.
    replace: bool = True


@dataclass(frozen=True, slots=True)
class RotateToken(Command[dict[bytes, int]]):
    """Replace a token, or all tokens of an agent, with a new one.

    Without `agent`, the token that has `old_hash`, and those that it replaced, are replaced with
    one of the same id, scopes, prefixes and end_time; with `agent`, all of its tokens with one that
    permits post and read everywhere. The old ones expire at `expire_time` at the latest. Returns
    the expire time of each, by hash. Raises AgentNotFound if `agent` is not registered;
    TokenInvalid if no token has `old_hash`, and TokenExpired if that token has expired.
    """

    old_hash: bytes
    new_hash: bytes
    expire_time: int  # in microseconds on the store's clock
    agent: str = ""
