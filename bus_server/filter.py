"""Filters messages by the MessageFilter of a request."""

from collections.abc import Iterable, Sequence
from typing import Any

from bus_server.store import Row
from bus_server.store.interface import Store
from threadbus.limits import MAX_MESSAGE_BYTES
from threadbus.v1.message_pb2 import Message, MessageFilter

#: Shared, as each empty frozenset takes 216 bytes, and there may be ten thousand idle waits.
_NONE: frozenset[Any] = frozenset()


class Filter:
    """The MessageFilter of a caller.

    Parses messages only if the filter depends on more than their senders.
    """

    __slots__ = (
        *("_addressee", "_caller", "_kinds", "_min_priority", "_not_from", "_senders"),
        *("addressed", "everything", "hides", "parses"),
    )

    def __init__(self, wanted: MessageFilter, caller: str) -> None:
        """`caller`: the caller's name; empty: it is anonymous."""
        self._senders = frozenset(wanted.senders) or _NONE
        self._kinds = frozenset(wanted.kinds) or _NONE
        self._min_priority = wanted.min_priority
        self._caller = caller
        self._not_from = caller if wanted.exclude_own else ""
        self._addressee = caller if wanted.addressed_to_me else ""
        #: Whether it matches only what is addressed to the caller.
        self.addressed = wanted.addressed_to_me
        #: Whether no field is set, so that it matches every message.
        self.everything = wanted == MessageFilter()
        #: Whether it depends on more than the sender, so that messages must be parsed.
        self.parses = bool(self._kinds or self._min_priority or self._addressee)
        #: Whether it can hide messages of others from the caller.
        self.hides = self.parses or bool(self._senders)

    async def select(self, store: Store, thread_id: int, rows: Sequence[Row]) -> Sequence[int]:
        """Returns the indices of the rows that match, in ascending order.

        `thread_id`: the id of the thread of all rows. Raises what the store raises.
        """
        if self.everything:
            return range(len(rows))
        indices = [
            index
            for index, (sender, _) in enumerate(rows)
            if sender != self._not_from and (not self._senders or sender in self._senders)
        ]
        if not self.parses:
            return indices
        found = [(index, Message.FromString(rows[index][1])) for index in indices]
        found = [each for each in found if self._is_of_kind(each[1])]
        messages = [message for _, message in found]
        wanted = await self._wanted(store, thread_id, messages)
        edits = {message.edit_of for message in messages if message.seq not in wanted} - {0}
        if edits:
            here = [message for message in messages if message.seq in edits]
            elsewhere = edits - {message.seq for message in here}
            here += [
                message
                for seq in sorted(elsewhere)
                for message in await edited(store, thread_id, seq)
            ]
            edits = await self._wanted(store, thread_id, here)
        return [
            index for index, message in found if message.seq in wanted or message.edit_of in edits
        ]

    async def _wanted(self, store: Store, thread_id: int, messages: Sequence[Message]) -> set[int]:
        """Returns the seqs of the messages that match: of any kind, and edits by themselves."""
        addressee, replies = self._addressee, set[int]()
        if addressee:
            replies = await replies_to(store, thread_id, addressee, messages)
        return {
            message.seq
            for message in messages
            if self._matches(message, addressee if message.seq in replies else "")
        }

    def first_hidden(self, rows: Sequence[Row], wanted: Sequence[int]) -> int | None:
        """Returns the index of the first row that the filter hides from its caller; None if none.

        Entries of the caller itself are not hidden from it, whether or not they match.

        `wanted`: what `select` returned for these rows.
        """
        if len(wanted) == len(rows):
            return None
        shown = frozenset(wanted)
        return next(
            (
                index
                for index, (sender, _) in enumerate(rows)
                if index not in shown and sender != self._caller
            ),
            None,
        )

    def wants(self, related: Sequence[tuple[Message, str]]) -> bool:
        """Returns whether a message matches: itself, or the message that it edits.

        `related`: the message, then the one that it edits if it is an edit; each with the sender of
        the message that it replies to, or "" if there is none.
        """
        return self._is_of_kind(related[0][0]) and any(
            self._matches(message, answered) for message, answered in related
        )

    def _is_of_kind(self, message: Message) -> bool:
        return not self._kinds or message.kind in self._kinds

    def _matches(self, message: Message, answered: str) -> bool:
        """Returns whether a message matches by itself, whatever its kind.

        `answered`: the sender of the message that this one replies to; empty: there is none.
        """
        return (
            (not self._senders or message.sender in self._senders)
            and message.priority >= self._min_priority
            and (not self._not_from or message.sender != self._not_from)
            and (
                not self._addressee
                or self._addressee in message.mentions
                or self._addressee in (message.handoff_to, answered)
            )
        )


async def edited(store: Store, thread_id: int, seq: int) -> list[Message]:
    """Returns the message with a seq, in a list that is empty if it is missing.

    One at a time: each may be large. Raises what the store raises.
    """
    rows = await store.read(thread_id, seq - 1, seq, MAX_MESSAGE_BYTES)
    return [Message.FromString(body) for _, body in rows]


async def replies_to(
    store: Store, thread_id: int, agent: str, messages: Iterable[Message]
) -> set[int]:
    """Returns the seqs of the messages that reply to a message of an agent.

    Also to one that has been removed since. Raises what the store raises.
    """
    replies = [message for message in messages if message.reply_to]
    if not replies:
        return set()
    senders = await store.senders(thread_id, [message.reply_to for message in replies])
    found = set[int]()
    for seq, replied_to in ((message.seq, message.reply_to) for message in replies):
        sender = senders.get(replied_to)
        if sender == agent or (
            sender is None and await store.addressed(agent, thread_id, seq - 1, seq, 1)
        ):
            found.add(seq)
    return found
