"""Which messages a reader wants."""

from collections.abc import Sequence

from bus_server.store.interface import Store
from threadbus.v1.message_pb2 import Message, MessageFilter


class Filter:
    """A MessageFilter as one caller meant it. `caller` is empty for one without a name."""

    __slots__ = (*("_addressee", "_kinds", "_min_priority", "_not_from", "_senders", "everything"),)

    def __init__(self, wanted: MessageFilter, caller: str) -> None:
        self._senders = frozenset(wanted.senders)
        self._kinds = frozenset(wanted.kinds)
        self._min_priority = wanted.min_priority
        self._not_from = caller if wanted.exclude_own else ""
        self._addressee = caller if wanted.addressed_to_me else ""
        #: It leaves nothing out.
        self.everything = wanted == MessageFilter()

    async def select(
        self, store: Store, thread_id: int, messages: Sequence[Message]
    ) -> Sequence[Message]:
        """Those of the messages, a run of one thread's, that are wanted."""
        if self.everything:
            return messages
        senders: dict[int, str] = {}
        if self._addressee:
            answered = [message.reply_to for message in messages if message.reply_to]
            senders = await store.senders(thread_id, answered) if answered else {}
        return [
            message
            for message in messages
            if self.wants(message, senders.get(message.reply_to, ""))
        ]

    def wants(self, message: Message, answered: str) -> bool:
        """Whether a message is wanted; `answered` is whose message it answers."""
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
