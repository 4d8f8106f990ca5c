"""Pages of a thread whose oldest entries are removed while they are read."""

from typing import Any

import pytest

from bus_server.filter import Filter
from bus_server.history import PAGE_ROWS, Page, read_page
from bus_server.store import AppendMany, Excerpt
from bus_server.store.interface import Store
from bus_server.trim import Trim
from tests.store.commits import commit, create, post, remove_before
from threadbus.v1.message_pb2 import Message, MessageFilter

LAST = 2 * PAGE_ROWS + 100
SHORT = Trim(omit_attachment_data=True, max_content_bytes=0)


@pytest.fixture
async def shrinking(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that loses almost all of its thread after the first read of each page."""
    await commit(store, create(), AppendMany([post(content="x") for _ in range(LAST)]))
    read, first_seqs = store.excerpt, [PAGE_ROWS + 50]

    async def excerpt(*arguments: Any) -> Excerpt:
        part = await read(*arguments)
        if first_seqs:
            await remove_before(store, first_seqs.pop())
        return part

    monkeypatch.setattr(type(store), "excerpt", lambda _, *arguments: excerpt(*arguments))
    return store


async def page(store: Store, *, after: int = 0, before: int = 0, newest: bool = False) -> Page:
    return await read_page(
        store,
        "t",
        after=after,
        before=before,
        limit=1_000,
        newest=newest,
        epoch="",
        wanted=Filter(MessageFilter(), ""),
        trim=SHORT,
    )


def seqs(found: Page) -> list[int]:
    return [Message.FromString(body).seq for body in found.bodies]


async def test_a_page_ends_before_the_gap(shrinking: Store) -> None:
    first = await page(shrinking)
    assert seqs(first) == list(range(1, PAGE_ROWS + 1))
    assert (first.next_after, first.more) == (PAGE_ROWS, True)
    rest = await page(shrinking, after=first.next_after)
    assert seqs(rest) == list(range(PAGE_ROWS + 50, LAST + 1))
    assert (rest.next_after, rest.more) == (LAST, False)
    assert rest.head.first_seq == PAGE_ROWS + 50


async def test_a_page_of_the_newest_ends_where_the_thread_begins(shrinking: Store) -> None:
    first = await page(shrinking, newest=True)
    assert seqs(first) == list(range(PAGE_ROWS + 50, LAST + 1))
    rest = await page(shrinking, before=first.next_before, newest=True)
    assert (seqs(rest), rest.more) == ([], False)
