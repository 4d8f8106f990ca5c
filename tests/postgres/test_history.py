"""What a store takes for a loss of commits, and what waits and posts make of new epochs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from bus_server.errors import CursorInvalid
from tests import serving
from tests.postgres.cluster import Cluster
from tests.postgres.stores import opened
from tests.serving import BusStub, ServerProcess
from tests.store.commits import commit, create, post, refusal
from tests.wait_frames import kinds, waiting
from threadbus.v1.message_pb2 import Cursor

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'threadbus'"
)


@pytest.fixture
def where(postgres: Cluster) -> Iterator[tuple[str, str]]:
    """The URL of an empty schema, and its name."""
    with postgres.schema() as url:
        yield url, url.split("search_path%3D")[1]


async def test_the_ending_of_a_wait_that_finds_a_new_epoch_has_no_cursor_in_it(
    postgres: Cluster, where: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, schema = where
    monkeypatch.setattr(serving, "database_of", lambda _: url)
    with ServerProcess(tmp_path / "bus.db", "--fallback-interval", "600") as server:
        async with opened(url) as store, grpc.aio.insecure_channel(server.address) as channel:
            await commit(store, create(), *[post() for _ in range(5)])
            old = (await store.heads(["t"]))["t"]
            at = Cursor(thread="t", after_seq=5, epoch=old.epoch)
            async with waiting(BusStub(channel), at, max_wait=2) as frames:
                await frames.until("caught_up")
                await asyncio.to_thread(
                    postgres.execute,
                    f"BEGIN; DELETE FROM {schema}.message WHERE seq > 4;"  # noqa: S608
                    f" UPDATE {schema}.thread SET last_seq = 4,"
                    " epoch = 'fedcba98.4.' || left(epoch, 8);"
                    f" UPDATE {schema}.meta SET history = history + 1; COMMIT",
                )
                rest = await frames.rest()
            assert kinds(rest) == ["resync", "ending"]
            assert rest[-1].ending.threads[0].cursor.after_seq == 4


async def test_a_restore_to_long_ago_is_no_takeover_for_a_server_that_connects_again(
    postgres: Cluster, where: tuple[str, str]
) -> None:
    url, schema = where
    async with opened(url) as store:
        await commit(store, create(), post())
        before = (await store.heads(["t"]))["t"]
        postgres.execute(
            f"UPDATE {schema}.writer SET confirmed = true,"  # noqa: S608
            " seen_time = seen_time - 7200 * 1000000::bigint"
        )
        postgres.execute(
            f"UPDATE {schema}.meta SET place = split_part(place, '.', 1) || '.00000000.'"  # noqa: S608
            " || split_part(place, '.', 3)"
        )
        postgres.execute(TERMINATE)
        await commit(store, post())
        assert (await store.heads(["t"]))["t"].epoch != before.epoch


async def test_a_server_whose_row_is_lost_says_that_commits_are_missing(
    postgres: Cluster, where: tuple[str, str]
) -> None:
    url, schema = where
    async with opened(url) as store:
        await commit(store, create(), post(), post())
        before = (await store.heads(["t"]))["t"]
        postgres.execute(f"DELETE FROM {schema}.writer")  # noqa: S608
        postgres.execute(TERMINATE)
        await commit(store, post())
        assert (await store.heads(["t"]))["t"].epoch != before.epoch


async def test_a_server_outlives_a_moment_without_the_row_of_meta(
    postgres: Cluster, where: tuple[str, str]
) -> None:
    url, schema = where
    async with opened(url) as store:
        postgres.execute(f"DELETE FROM {schema}.meta")  # noqa: S608
        assert await store.foreign_version() == 0


async def test_a_post_that_refers_to_what_two_epochs_share_is_stored(
    postgres: Cluster, where: tuple[str, str]
) -> None:
    url, schema = where
    async with opened(url) as store:
        await commit(store, create(), post(), post(), post())
        old = (await store.heads(["t"]))["t"].epoch
        postgres.execute(
            f"UPDATE {schema}.thread SET last_seq = 2, epoch = 'fedcba98.2.' || left(epoch, 8);"  # noqa: S608
            f" DELETE FROM {schema}.message WHERE seq > 2"
        )
        refused = await refusal(store, post(reply_to=3, epoch=old))
        assert isinstance(refused, CursorInvalid)
        (reply,) = await commit(store, post(reply_to=2, epoch=old))
        assert reply.seq == 3
        assert isinstance(await refusal(store, post(expected=3, epoch=old)), CursorInvalid)
