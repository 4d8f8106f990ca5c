"""What a model learns of messages that are not kept any more."""

import pytest

from bus_client import BusClient, Retention
from bus_client.cli.mcp.words import some_of
from tests.mcp.host import Host
from tests.polling import until_known

pytestmark = pytest.mark.slow


async def shorten(peer: BusClient, name: str, retention: Retention, first_seq: int) -> None:
    """Change a thread's retention; return once its oldest entry is `first_seq`."""
    await peer.thread(name).update(retention=retention)

    async def known() -> bool:
        return (await peer.get_thread(name)).first_seq == first_seq

    await until_known(known)


@pytest.mark.parametrize("arguments", [{}, {"mentions_only": True}, {"thread": "{}"}], ids=str)
async def test_a_wait_goes_on_and_says_so_once(
    host: Host, peer: BusClient, name: str, arguments: dict[str, str]
) -> None:
    arguments = {key: str(value).format(name) for key, value in arguments.items()}
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    for text in "abcd":
        await thread.post(text, mentions=[f"{name}-me"])
    await shorten(peer, name, Retention(max_messages=3), 3)  # the entry about it is the fifth
    joined = await host.call("bus_join", thread=name, history=0)
    assert "You have read it to #0; bus_wait returns the 3 after it that are kept." in joined
    first, *shown = (await host.call("bus_wait", **arguments)).splitlines()
    assert first == f"Messages #1 to #2 of {name} are not kept any more."
    assert [line.split()[-1] for line in shown[:2]] == ["c", "d"]
    again = await host.call("bus_wait", timeout_s=0, **arguments)
    assert "No messages" in again and "kept" not in again
    posted = await host.call("bus_post", thread=name, text="done")
    # What it may have skipped, it has not read.
    assert ("You have not read" in posted) == ("mentions_only" in arguments)


async def test_a_wait_in_emptied_threads_says_so_once(
    host: Host, peer: BusClient, name: str
) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    for each in names:
        await peer.join(each)
        await host.call("bus_join", thread=each)
        await peer.thread(each).post("gone", mentions=[f"{name}-me"])
    for each in names:
        await shorten(peer, each, Retention(max_age=1e-9), 3)
        await peer.thread(each).update(retention="default")
        await peer.thread(each).post("here")
    text = await host.call("bus_wait", timeout_s=0)
    assert text.count("Messages #1 to #2 of") == 3
    assert "… and so in 2 more threads" in text
    assert text.count("here") == 5
    assert "kept" not in await host.call("bus_wait", timeout_s=0)


async def test_a_read_says_what_is_missing(host: Host, peer: BusClient, name: str) -> None:
    thread = await peer.join(name)
    for text in "abc":
        await thread.post(text)
    await shorten(peer, name, Retention(max_messages=2), 3)
    lines = (await host.call("bus_read", thread=name, after_seq=1)).splitlines()
    assert lines[0] == f"Message #2 of {name} is not kept any more."
    assert lines[1] == f"#3 {name}-peer: c"
    assert lines[-1] == "Continue with after_seq=4."
    assert "kept" not in await host.call("bus_read", thread=name, after_seq=2)
    assert "kept" not in await host.call("bus_read", thread=name)
    assert "not kept any more" in await host.refused("bus_read", thread=name, seq=2)
    await shorten(peer, name, Retention(max_age=1e-9), 6)
    lines = (await host.call("bus_read", thread=name, after_seq=3)).splitlines()
    assert lines == [
        f"Messages #4 to #5 of {name} are not kept any more.",
        f"No messages in {name} after #3.",
    ]


@pytest.mark.parametrize(("count", "last"), [(0, None), (3, "3"), (4, "… and so in 1 more thread")])
def test_only_some_threads_are_named(count: int, last: str | None) -> None:
    lines = some_of([str(number + 1) for number in range(count)])
    assert (lines[-1] if lines else None) == last
    assert len(lines) <= 4
