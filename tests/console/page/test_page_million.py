"""A thread of a million messages: the page opens it, moves in it, and holds little of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import BusClient, ThreadHandle
from tests.console.consoles import ConsoleProcess, console_of
from tests.console.page.pages import COUNT_ENTRIES, MOST_ENTRIES, Opened, Shown, expect, is_whole
from tests.serving import ServerProcess

pytestmark = [
    pytest.mark.soak,
    pytest.mark.sqlite,
    pytest.mark.own_server,
    pytest.mark.timeout(900),
]

MANY = 1_000_000
#: The number of messages that the page loads at once, at most.
PAGE = 100


@pytest.fixture
def own_console(server: ServerProcess, tmp_path: Path) -> Iterator[ConsoleProcess]:
    with console_of(server, tmp_path) as running:
        yield running


async def test_a_million_messages_are_a_thread_as_any(
    opened: Opened, own_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    texts = (f"Message **{at}**, with `code` and @{bus.agent}." for at in range(1, MANY + 1))
    async for _ in thread.post_many(texts):
        pass
    shown = await opened(name, console=own_console)
    await shown.page.evaluate(COUNT_ENTRIES)
    await tour(shown, bus.thread(name))
    assert await shown.page.evaluate("globalThis.most") == MOST_ENTRIES
    assert await shown.page.evaluate("globalThis.added") <= PAGE


async def tour(shown: Shown, thread: ThreadHandle) -> None:
    """Jump to the middle of the thread, scroll up, go to its beginning, and to its end."""
    await expect(shown.message(MANY)).to_be_in_viewport()
    await is_whole(shown)
    await shown.locator("#scroller").focus()
    await shown.page.keyboard.press("g")
    await shown.page.get_by_role("dialog").get_by_label("Number").fill(str(MANY // 2))
    await shown.page.keyboard.press("Enter")
    await expect(shown.message(MANY // 2)).to_be_focused()
    for _ in range(10):
        first = (await is_whole(shown))[0]
        await shown.page.locator("#scroller").evaluate("node => node.scrollTo(0, 0)")
        await shown.message(first - 1).wait_for(state="attached")
    await shown.go(f"#/{thread.name}/1")
    await expect(shown.message(1)).to_be_in_viewport()
    await is_whole(shown)
    await shown.page.keyboard.press("e")
    await expect(shown.message(MANY)).to_be_in_viewport()
    await thread.post("One more.")
    await expect(shown.message(MANY + 1)).to_be_in_viewport()
    await is_whole(shown)
