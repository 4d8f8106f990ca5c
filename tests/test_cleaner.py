"""The cleaner removes what is over a limit, whatever is posted meanwhile."""

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.settings import Settings
from bus_server.store import Append, UpdateThread
from bus_server.store.sqlite.store import SqliteStore
from tests import own_bus
from tests.polling import until_known
from tests.store.commits import commit, create, post
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Retention, Thread

LARGE = "x" * 1_000


class Racing(SqliteStore):
    """A store that commits posts as soon as the entries before them were counted."""

    #: What it has still to commit.
    posts: list[Append]

    async def sizes(self, thread_id: int, after: int, limit: int) -> tuple[int, int]:
        found = await super().sizes(thread_id, after, limit)
        posts, self.posts = self.posts, []
        if posts:
            await self.commit(posts)
        return found


@pytest.mark.slow
async def test_entries_that_go_before_they_were_counted_are_not_counted_later(
    tmp_path: Path,
) -> None:
    limit = 10_000
    both = Retention(max_age=Duration(nanos=1), max_bytes=limit)
    store = await Racing.open(tmp_path / "bus.db", full_durability=False, busy_timeout=5)
    assert isinstance(store, Racing)
    store.posts = [post(content=LARGE) for _ in range(40)]
    try:
        await commit(store, create(retention=both), post())
        async with own_bus.started(store, Settings(db=tmp_path / "bus.db")):

            async def is_empty() -> bool:
                head = (await store.heads(["t"]))["t"]
                return (head.first_seq, head.seq) == (42, 41)

            await until_known(is_empty)
            settings = Thread(retention=Retention(max_bytes=limit))
            update = UpdateThread("t", Message(sender="operator"), settings, ["retention"])
            await commit(store, update, *(post(content=LARGE) for _ in range(30)))
            thread_id = (await store.heads(["t"]))["t"].thread_id

            async def is_small() -> bool:
                return (await store.sizes(thread_id, 0, 100))[1] <= limit

            await until_known(is_small)
    finally:
        await store.close()
