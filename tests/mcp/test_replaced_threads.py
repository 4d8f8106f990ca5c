"""Threads that are deleted and created again, or restored from an older copy."""

import shutil
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.mcp.host import Host
from tests.mcp.test_reading import read_seq, until_waiting
from tests.serving import ServerProcess


async def test_a_mention_in_a_thread_that_was_replaced_during_a_wait_is_delivered(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    for text in ("old", "old"):
        await thread.post(text)
    await host.call("bus_join", thread=name)
    waiting = host.start_call("bus_wait", thread=name)
    await until_waiting(peer, f"{name}-me")
    await thread.delete()
    thread = await peer.join(name)
    assert (await host.answer(waiting)).failed
    await thread.post("new", mentions=[f"{name}-me"])
    text = await host.call("bus_wait", thread=name)
    assert text == f"#1 {name}-peer @{name}-me: new"
    assert f"posted {name} #2" in await host.call("bus_post", text="welcome")


async def test_what_was_seen_of_a_thread_does_not_count_for_the_one_that_replaces_it(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    await thread.post("old")
    await host.call("bus_wait", thread=name)
    await thread.delete()
    thread = await peer.join(name)
    for text in ("new", "unread"):
        await thread.post(text, mentions=[f"{name}-me"])
    await host.call("bus_join", thread=name)
    await host.call("bus_post", text="hello")
    assert await read_seq(peer, name, f"{name}-me") == 0


@pytest.mark.own_server
@pytest.mark.sqlite
@pytest.mark.slow
async def test_posts_go_on_after_the_bus_was_restored_from_an_older_copy(
    server: ServerProcess, host: Host, name: str, tmp_path: Path
) -> None:
    def files() -> list[Path]:
        return [file for file in server.db.parent.glob(f"{server.db.name}*") if file.is_file()]

    copies = tmp_path / "copies"
    copies.mkdir()
    await host.call("bus_join", thread=name)
    assert server.stop() == 0
    for file in files():
        shutil.copy(file, copies)
    server.start()
    await host.call("bus_post", text="lost")
    assert server.stop() == 0
    for file in files():
        file.unlink()
    for file in copies.iterdir():
        shutil.copy(file, server.db.parent)
    server.start()
    text = await host.refused("bus_post", text="again")
    assert text.endswith("the bus was restored from an older copy. Call bus_join again.")
    await host.call("bus_join", thread=name)
    assert f"posted {name} #1" in await host.call("bus_post", text="again")
