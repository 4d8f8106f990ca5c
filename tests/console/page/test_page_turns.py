"""Whose turn it is: handing off, and finding what an agent was asked and has not answered."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.console.consoles import PERSON
from tests.console.page.pages import Opened, expect
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


@pytest.fixture
async def coder(server: ServerProcess, name: str, tmp_path: Path) -> AsyncIterator[BusClient]:
    """Another agent."""
    async with BusClient(server.address, agent=f"{name}-c", credentials=tmp_path / "c") as opened:
        yield opened


async def test_a_turn_is_handed_off_with_the_keyboard_alone(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("Done so far.")
    shown = await opened(name)
    await expect(shown.locator("#text")).to_be_focused()
    keys = shown.page.keyboard
    await keys.type("Please go on.")
    await keys.press("Tab")
    await keys.press("Space")
    await keys.press("Tab")
    await expect(shown.page.get_by_label("Hand off to").locator("option")).to_have_text(
        ["nobody", bus.agent]
    )
    await keys.press("ArrowDown")
    await keys.press("Tab")
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(shown.message(2)).to_contain_text(f"turn → {bus.agent}")
    await expect(shown.message(2)).to_contain_text(f"Waiting for an answer from {bus.agent}")
    await expect(shown.page.get_by_label("Hand off to")).to_have_value("")
    posted = await thread.message(2)
    assert (posted.content, posted.handoff_to) == ("Please go on.", bus.agent)
    assert list(posted.expect_reply.agents) == [bus.agent]


async def test_what_an_agent_was_asked_and_has_not_answered_is_found_from_everywhere(
    opened: Opened, bus: BusClient, coder: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await coder.join(name)
    await thread.post(
        f"# Changelog\n\n@{coder.agent}, **please** add the entry `{name}`.\n\n```\nx = 1\n```",
        mentions=[coder.agent],
        ask=True,
        within=0.5,
    )
    words = f"Changelog @{coder.agent}, please add the entry {name}."
    shown = await opened()
    asked = shown.page.locator(".card", has_text=f"{bus.agent} waits for {coder.agent}")
    await expect(asked).to_contain_text(words)
    await expect(asked).to_contain_text("overdue")
    await asked.get_by_role("link", name="Open").click()
    await expect(shown.message(1)).to_be_focused()
    await expect(shown.message(1)).to_contain_text(f"{coder.agent}, overdue")
    await expect(shown.message(2)).to_contain_text(f"{coder.agent} has not answered #1 in time")
    await expect(shown.locator("#requests")).to_contain_text(words)
    debtor = shown.page.locator("#participants li", has_text=f"owes {bus.agent} an answer to #1")
    await expect(debtor).to_contain_text(f"{coder.agent}")
    await debtor.get_by_role("button").click()
    dialog = shown.page.get_by_role("dialog", name=coder.agent)
    await expect(dialog.get_by_role("list", name="Open requests")).to_contain_text(words)
    await dialog.get_by_role("link", name="Open").click()
    await expect(dialog).to_have_count(0)
    await coder.thread(name).post("It is there.", reply_to=1)
    await expect(shown.message(1)).to_contain_text("answered in #3")


async def test_only_those_that_a_message_mentions_look_mentioned(
    opened: Opened, bus: BusClient, coder: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post(f"@{coder.agent} is not notified, @{PERSON} is.", mentions=[PERSON])
    shown = await opened(name)
    await expect(shown.message(1).locator(".body .at")).to_have_text([f"@{PERSON}"])
    await expect(shown.message(1)).to_contain_text(f"@{coder.agent} is not notified")
