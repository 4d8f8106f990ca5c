"""What operators see and do, and others do not."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import BusClient, Presence
from tests.console.consoles import ConsoleProcess, console_of
from tests.console.page.pages import LOOKS, Opened, expect, violations
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


@pytest.fixture
def operators_console(server: ServerProcess, tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console of an operator."""
    with console_of(server, tmp_path, None) as running:
        yield running


async def test_an_operator_sees_agents_and_waits_and_manages_them(
    opened: Opened, operators_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    shown = await opened(console=operators_console)
    await shown.page.get_by_role("link", name="Agents").click()
    await shown.page.get_by_role("button", name=bus.agent).click()
    dialog = shown.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="End its session").click()
    await dialog.get_by_role("button", name="End session").click()
    row = shown.page.get_by_role("row").filter(has_text=bus.agent)
    await expect(row).to_contain_text("offline")
    await row.get_by_role("button").focus()
    await bus.heartbeat(state=Presence.PRESENCE_WORKING)
    await expect(row).to_contain_text("working")
    await expect(row.get_by_role("button")).to_be_focused()  # the row has changed around it
    await row.get_by_role("button").press("Enter")
    await dialog.get_by_role("button", name="New token").click()
    await dialog.get_by_role("button", name="New token").click()
    await expect(dialog.get_by_label(f"The token of {bus.agent}")).to_have_value(
        re.compile(r"\S{20,}")
    )
    await shown.page.keyboard.press("Escape")
    await shown.open(thread.name)
    await shown.page.get_by_role("button", name="More").click()
    await shown.page.get_by_role("menuitem", name="Close thread").click()
    await dialog.get_by_role("button", name="Close thread").click()
    await expect(shown.page.get_by_label("Message", exact=True)).to_be_disabled()
    await shown.page.get_by_role("button", name="More").click()
    await expect(shown.page.get_by_role("menuitem", name="Reopen thread")).to_be_visible()


async def test_open_waits_are_shown_as_they_begin_and_end(
    opened: Opened, operators_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("before")
    shown = await opened(console=operators_console)
    await shown.page.get_by_role("link", name="Open waits").click()
    table = shown.page.get_by_role("table")
    row = table.get_by_role("row").filter(has_text=bus.agent)
    await expect(shown.page.get_by_role("heading", name="Open waits")).to_be_visible()
    await expect(row).to_have_count(0)
    waiting = asyncio.create_task(thread.wait(timeout=60))
    await expect(row).to_contain_text(f"{name} #1")
    other = asyncio.create_task(bus.thread(name).wait(timeout=60))
    await expect(row).to_have_count(2)
    for each in (waiting, other):
        each.cancel()
        await asyncio.wait([each])
    await expect(row).to_have_count(0)


async def test_everybody_can_use_the_pages_of_operators(
    opened: Opened, operators_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    waiting = asyncio.create_task(thread.wait(timeout=150))
    for look in LOOKS.values():
        shown = await opened(console=operators_console, bypass_csp=True, **look)
        await shown.go("#waits")
        row = shown.page.get_by_role("row").filter(has_text=bus.agent)
        await row.wait_for()
        assert await violations(shown) == []
        await shown.go("#agents")
        await row.get_by_role("button").click()
        assert await violations(shown) == []
        dialog = shown.page.get_by_role("dialog")
        await dialog.get_by_role("button", name="New token").click()
        await expect(dialog).to_contain_text("signed out")
        assert await violations(shown) == []
        await shown.page.keyboard.press("Escape")
        assert await violations(shown) == []
        await shown.go("#/no-such-thread")
        await shown.page.get_by_role("alert").wait_for()
        assert await violations(shown) == []
        await shown.page.context.clear_cookies()
        await shown.page.reload()
        await expect(shown.page.get_by_role("main")).to_contain_text("signed out")
        assert await violations(shown) == []
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_others_have_no_operators_controls(opened: Opened, bus: BusClient, name: str) -> None:
    await (await bus.join(name)).post("hello")
    shown = await opened(name)
    await expect(shown.locator(".operator")).to_have_count(0)
    await shown.locator("#participants").get_by_role("button").first.click()
    dialog = shown.page.get_by_role("dialog")
    await expect(dialog).to_contain_text(bus.agent)
    await expect(dialog.get_by_role("button", name="New token")).to_have_count(0)
    await shown.page.keyboard.press("Escape")
    await shown.go("#waits")
    await expect(shown.locator("#title")).to_have_text("Inbox")
