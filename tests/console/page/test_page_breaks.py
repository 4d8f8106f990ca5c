"""The page while the bus or the console is away, and in a hidden tab."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.callers import operator
from tests.console.consoles import PERSON, ConsoleProcess, console_of
from tests.console.page.pages import Opened, Shown, expect
from tests.polling import until_known
from tests.serving import ServerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sqlite,
    pytest.mark.own_server,
    pytest.mark.timeout(180),
]

HIDE = """
(state) => {
  Object.defineProperty(document, "visibilityState", { get: () => state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.fixture
def own_console(server: ServerProcess, tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console that the test may kill, at a server of its own."""
    with console_of(server, tmp_path) as running:
        yield running


async def test_a_bus_that_dies_is_shown_and_no_text_is_lost(
    opened: Opened, server: ServerProcess, own_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("before")
    shown = await opened(name, console=own_console)
    await shown.message(1).wait_for()
    server.kill()
    await shown.live("bus")
    await expect(shown.locator("#live")).to_contain_text("bus unreachable")
    await shown.post("Is anybody there?")
    await expect(shown.locator("#posted")).to_contain_text("Not posted.")
    await expect(shown.locator("#text")).to_have_value("Is anybody there?")
    server.start()
    await shown.live()
    await shown.page.get_by_role("button", name="Post", exact=True).click()
    await shown.message(2).wait_for()
    await thread.post("after")
    await shown.message(3).wait_for()
    assert await shown.seqs() == [1, 2, 3]
    found = await thread.messages(after_seq=0)
    assert [each.content for each in found] == ["before", "Is anybody there?", "after"]


async def test_a_console_that_dies_resumes_without_a_gap(
    opened: Opened, own_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("before")
    shown = await opened(name, console=own_console)
    own_console.stop(signal.SIGKILL)
    await shown.live("console")
    await expect(shown.locator("#live")).to_contain_text("console unreachable")
    for number in range(3):
        await thread.post(f"meanwhile {number}")
    own_console.start()
    await shown.live()
    await shown.message(4).wait_for()
    assert await shown.seqs() == [1, 2, 3, 4]


async def test_a_thread_that_was_replaced_is_shown_after_a_reload(
    opened: Opened, own_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("old one")
    await thread.post("old two")
    shown = await opened(name, console=own_console)
    await shown.message(2).wait_for()
    await thread.delete()
    await expect(shown.locator("#problem")).to_contain_text(name)
    again = await bus.join(name)
    await again.post("new one")
    await shown.page.reload()
    await expect(shown.message(1)).to_contain_text("new one")
    assert await shown.seqs() == [1]


async def test_a_hidden_tab_closes_its_stream_and_resumes(
    opened: Opened, own_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    shown = await opened(console=own_console)
    await shown.page.clock.install()
    await shown.open(name)
    await thread.post("seen")
    await shown.message(1).wait_for()
    await shown.page.evaluate(HIDE, "hidden")
    async with shown.page.expect_event("requestfailed") as ended:
        await shown.page.clock.fast_forward("01:05")
    assert "api/events" in (await ended.value).url
    for number in range(3):
        await thread.post(f"meanwhile {number}")
    assert await shown.seqs() == [1]
    await shown.page.evaluate(HIDE, "visible")
    await shown.page.clock.resume()
    await shown.message(4).wait_for()
    assert await shown.seqs() == [1, 2, 3, 4]


@pytest.mark.parametrize("in_sight", [False, True])
async def test_many_tabs_are_open_at_once(
    opened: Opened, own_console: ConsoleProcess, bus: BusClient, name: str, in_sight: bool
) -> None:
    thread = await bus.join(name)
    tabs = [await opened(name, console=own_console)]
    for _ in range(8):
        if not in_sight:
            await tabs[-1].page.evaluate(HIDE, "hidden")
        tabs.append(Shown(await tabs[0].page.context.new_page(), own_console))
        await tabs[-1].open(name)
    await thread.post("seen")
    await tabs[-1].message(1).wait_for()
    if not in_sight:
        await tabs[-1].page.evaluate(HIDE, "hidden")
        await tabs[0].page.evaluate(HIDE, "visible")
    for tab in tabs if in_sight else tabs[:1]:
        await tab.message(1).wait_for()
    assert [error for tab in tabs for error in tab.errors] == []


async def test_a_bus_that_is_down_at_the_start_is_waited_for(
    opened: Opened, server: ServerProcess, bus: BusClient, tmp_path: Path, name: str
) -> None:
    await (await bus.join(name)).post("before")
    server.kill()
    with console_of(server, tmp_path, None) as console:  # which does not know who it is yet
        shown = await opened(console=console)
        await shown.go(f"#/{name}")
        await shown.live("bus")
        server.start()
        await shown.live()
        await shown.message(1).wait_for()
        await expect(shown.page.get_by_role("navigation")).to_contain_text("operator at")
        await expect(shown.page.get_by_role("link", name="Open waits")).to_be_visible()


async def test_a_bus_that_returns_with_another_store_is_said(
    opened: Opened,
    server: ServerProcess,
    own_console: ConsoleProcess,
    bus: BusClient,
    tmp_path: Path,
    name: str,
) -> None:
    await (await bus.join(name)).post("of the old store")
    shown = await opened(name, console=own_console)
    await shown.message(1).wait_for()
    server.kill()
    server.db = tmp_path / "new" / "bus.db"
    server.db.parent.mkdir()
    server.start()
    await shown.live("out")
    await expect(shown.page.get_by_role("alert")).to_contain_text("signed out of the bus")
    own_console.stop()
    with console_of(server, tmp_path, PERSON, "--listen", own_console.listening) as again:
        async with BusClient(server.address, agent="new", credentials=tmp_path / "c") as other:
            thread = await other.join(name)
            await thread.post("of the new store")
            shown = await opened(name, console=again)
            await expect(shown.message(1)).to_contain_text("of the new store")
            assert await shown.seqs() == [1]


@pytest.mark.sqlite
async def test_a_bus_that_returns_with_an_older_copy_is_followed_from_there(
    opened: Opened,
    server: ServerProcess,
    own_console: ConsoleProcess,
    bus: BusClient,
    tmp_path: Path,
    name: str,
) -> None:
    thread = await bus.join(name)

    async def has_read(seq: int) -> bool:
        people = (await bus.join(name)).participants
        return (PERSON, seq) in [(each.agent, each.read_seq) for each in people]

    await thread.post("kept", mentions=[PERSON])
    shown = await opened(name, console=own_console)
    await shown.message(1).wait_for()
    server.stop()
    copy = shutil.copy(server.db, tmp_path / "copy.db")
    server.start()
    await thread.post("lost one")
    await thread.post("lost two")
    await until_known(lambda: has_read(3))
    server.stop()
    shutil.copy(copy, server.db)
    server.start()
    await expect(shown.message(3)).to_have_count(0)
    await expect(shown.message(1)).to_contain_text("kept")
    await bus.thread(name).post("after")
    await expect(shown.message(2)).to_contain_text("after")
    assert await shown.seqs() == [1, 2]
    await until_known(lambda: has_read(2))


async def test_a_token_that_ends_while_the_page_is_open_is_shown(
    opened: Opened, server: ServerProcess, own_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    await (await bus.join(name)).post("before")
    shown = await opened(name, console=own_console)
    await shown.message(1).wait_for()
    token = operator(server).token
    async with BusClient(server.address, token=token) as boss:
        await boss.reset_token(PERSON)
    await shown.live("out")
    await expect(shown.locator("#live")).to_have_text("signed out")
    await expect(shown.locator("#problem")).to_contain_text("signed out of the bus")
