"""Edits: what readers see of them, and who may edit what."""

from typing import Any

import pytest

from bus_server.errors import AccessDenied, MessageNotFound, ValidationFailed
from bus_server.store import AppendMany, Command
from bus_server.store.interface import Store
from tests.store.commits import LARGE, commit, create, log, outcomes, post, set_state
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN


async def edit_seqs(store: Store) -> list[int]:
    """Returns the edit_seq of each entry."""
    return [entry.edit_seq for entry in await log(store)]


@pytest.mark.parametrize("content", ["short", LARGE], ids=["short", "large"])
@pytest.mark.parametrize("together", [True, False])
async def test_a_message_names_its_newest_edit(store: Store, content: str, together: bool) -> None:
    posts = [post(content=content), *(post(content=content + end, edit_of=1) for end in "ab")]
    await commit(store, create())
    await outcomes(store, posts, together=together)
    entries = await log(store)
    assert [entry.edit_seq for entry in entries] == [3, 0, 0]
    assert [entry.edit_of for entry in entries] == [0, 1, 1]
    assert [entry.content for entry in entries] == [content, content + "a", content + "b"]


async def test_posts_of_one_command_edit_one_another(store: Store) -> None:
    await commit(store, create())
    posts = [post(), post(edit_of=1), post(), post(edit_of=3), post(edit_of=1)]
    await commit(store, AppendMany(posts))
    assert await edit_seqs(store) == [5, 0, 4, 0, 0]


@pytest.mark.parametrize("content", ["short", LARGE], ids=["short", "large"])
@pytest.mark.parametrize("together", [True, False])
async def test_what_may_not_be_edited_stays_as_it_is(
    store: Store, content: str, together: bool
) -> None:
    before: list[Command[Any]] = [
        create(),
        post(content=content),
        post(sender="anonymous", content=content),
        post(content=content, edit_of=1),
        set_state(),
        set_state(state=THREAD_STATE_OPEN),
    ]
    refused = [
        post(sender="ben", edit_of=1),
        post(sender="anonymous", edit_of=2),
        post(edit_of=3),
        post(sender="operator", edit_of=4),
        post(edit_of=6),
    ]
    done = await outcomes(store, [*before, *refused], together=together)
    another_s, anonymous, an_edit, about_the_thread, missing = done[len(before) :]
    assert isinstance(another_s, AccessDenied)
    assert isinstance(anonymous, AccessDenied)
    assert isinstance(an_edit, ValidationFailed)
    assert "edit message 1" in str(an_edit)
    assert isinstance(about_the_thread, ValidationFailed)
    assert isinstance(missing, MessageNotFound)
    assert await edit_seqs(store) == [3, 0, 0, 0, 0]


async def test_a_repeated_edit_is_stored_once(store: Store) -> None:
    await commit(store, create(), post(), post(edit_of=1, request_id="a"))
    (again,) = await commit(store, post(edit_of=1, request_id="a"))
    assert (again.seq, again.deduplicated) == (2, True)
    assert await edit_seqs(store) == [2, 0]
