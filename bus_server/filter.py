"""Which messages a reader wants."""

from collections.abc import Sequence

from bus_server.store import Store
from threadbus.v1.message_pb2 import Message, MessageFilter


class Filter:
    """A MessageFilter as one caller meant it. `caller` is empty for one without a name."""

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
        wanted = [message for message in messages if self._wants(message)]
        if not self._addressee or not wanted:
            return wanted
        answered = [message.reply_to for message in wanted if message.reply_to]
        senders = await store.senders(thread_id, answered) if answered else {}
        return [
            message
            for message in wanted
            if self._addressee in message.mentions
            or self._addressee == message.handoff_to
            or self._addressee == senders.get(message.reply_to)
        ]

    def _wants(self, message: Message) -> bool:
        return (
            (not self._senders or message.sender in self._senders)
            and (not self._kinds or message.kind in self._kinds)
            and message.priority >= self._min_priority
            and (not self._not_from or message.sender != self._not_from)
        )
