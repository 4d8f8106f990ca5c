"""Filters messages by the MessageFilter of a request."""

from collections.abc import Sequence
from typing import Any

from bus_server.store import Row
from bus_server.store.interface import Store
from threadbus.v1.message_pb2 import Message, MessageFilter

#: Shared, as each empty frozenset takes 216 bytes, and there may be ten thousand idle waits.
_NONE: frozenset[Any] = frozenset()


class Filter:
    """The MessageFilter of a caller.

    Parses messages only if the filter depends on more than their senders.
    """

    __slots__ = (
        *("_addressee", "_kinds", "_min_priority", "_not_from", "_senders"),
        *("everything", "parses"),
    )

    def __init__(self, wanted: MessageFilter, caller: str) -> None:
        """`caller`: the caller's name; empty: it is anonymous."""
        self._senders = frozenset(wanted.senders) or _NONE
        self._kinds = frozenset(wanted.kinds) or _NONE
        self._min_priority = wanted.min_priority
        self._not_from = caller if wanted.exclude_own else ""
        self._addressee = caller if wanted.addressed_to_me else ""
        #: Whether no field is set, so that it matches every message.
        self.everything = wanted == MessageFilter()
        #: Whether it depends on more than the sender, so that messages must be parsed.
        self.parses = bool(self._kinds or self._min_priority or self._addressee)

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
        messages = [Message.FromString(rows[index][1]) for index in indices]
        senders: dict[int, str] = {}
        if self._addressee:
            answered = [message.reply_to for message in messages if message.reply_to]
            senders = await store.senders(thread_id, answered) if answered else {}
        return [
            index
            for index, message in zip(indices, messages, strict=True)
            if self.wants(message, senders.get(message.reply_to, ""))
        ]

    def wants(self, message: Message, answered: str) -> bool:
        """Returns whether a message matches.

        `answered`: the sender of the message that this one replies to; empty: there is none.
        """
        return (
            (not self._senders or message.sender in self._senders)
            and (not self._kinds or message.kind in self._kinds)
            and message.priority >= self._min_priority
            and (not self._not_from or message.sender != self._not_from)
            and (
                not self._addressee
                or self._addressee in message.mentions
                or self._addressee in (message.handoff_to, answered)
            )
        )
