"""The page for everybody: light and dark, on a phone, and with a screen reader."""

import pytest

from bus_client import Attachment, BusClient, Presence, Priority
from tests.console.consoles import PERSON
from tests.console.page.pages import LOOKS, PHONE, Opened, expect, violations

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


@pytest.fixture
async def conversation(bus: BusClient, name: str) -> str:
    """A thread with one of everything."""
    thread = await bus.join(name, topic="What there is to see")
    await thread.post("# Plan\n\n1. `code` and **bold**\n\n> quoted\n\n```\nx = 1\n```")
    await thread.post(
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n[link](https://example.org/x)", reply_to=1
    )
    await thread.post("Wrong.", priority=Priority.PRIORITY_URGENT)
    await thread.post("Right.", edit_of=3)
    file = Attachment(filename="a.txt", media_type="text/plain", raw=b"a")
    await thread.post("See it.", attachments=[file], priority=Priority.PRIORITY_LOW)
    await thread.update(stage="review")
    await thread.post(f"@{PERSON} do you agree?", mentions=[PERSON], ask=True)
    await bus.heartbeat(state=Presence.PRESENCE_AWAITING_HUMAN, status_text="needs a decision")
    return name


@pytest.mark.parametrize("look", LOOKS)
async def test_everybody_can_use_it(
    opened: Opened, bus: BusClient, conversation: str, look: str
) -> None:
    shown = await opened(bypass_csp=True, **LOOKS[look])
    await expect(shown.page.locator(".card", has_text="do you agree?").first).to_be_visible()
    assert await violations(shown) == []
    await shown.open(conversation)
    await expect(shown.message(7)).to_contain_text("Waiting for an answer from you")
    assert await violations(shown) == []
    await shown.page.get_by_role("button", name="More").click()
    await shown.locator("#menu").wait_for()
    assert await violations(shown) == []
    await shown.page.keyboard.press("Escape")
    await shown.page.keyboard.press("?")
    await shown.page.get_by_role("dialog").wait_for()
    assert await violations(shown) == []
    await shown.page.keyboard.press("Escape")
    await shown.locator("#text").fill(f"@{bus.agent[:4]}")
    await shown.locator(f"#name-{bus.agent}").wait_for()
    assert await violations(shown) == []


async def test_a_phone_shows_everything_without_scrolling_sideways(
    opened: Opened, bus: BusClient, conversation: str
) -> None:
    await bus.thread(conversation).post("wide" * 400 + "\n\n```\n" + "code " * 200 + "\n```")
    shown = await opened(conversation, **PHONE)
    await shown.message(8).wait_for()
    width = "document.scrollingElement.scrollWidth"
    assert await shown.page.evaluate(width) == 390
    assert await shown.page.locator("#scroller").evaluate("node => node.scrollWidth") == 390
    await shown.page.get_by_role("button", name="More").click()
    await shown.page.get_by_role("menuitem", name="Find").click()
    await shown.page.keyboard.type("do you agree")
    await expect(shown.locator("#find-count")).to_have_text("1 of 1")
    await shown.page.get_by_role("button", name="Close the search").click()
    await shown.page.get_by_role("button", name="Show people and requests").click()
    await expect(shown.locator("#participants")).to_contain_text(bus.agent)
    await shown.page.get_by_role("button", name="Hide people").click()
    await expect(shown.locator("#participants")).to_have_count(0)
    await shown.page.get_by_role("button", name="Show threads").click()
    await shown.locator("#filter").fill(conversation)
    await expect(shown.locator("#threads a")).to_have_count(1)
    await shown.locator("#inbox-link").click()
    await expect(shown.locator("#title")).to_have_text("Inbox")
    await expect(shown.locator("#threads")).to_have_count(0)
    assert await shown.page.evaluate(width) == 390


async def test_times_are_local_with_the_exact_one_on_hover(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    posted = await thread.post("now")
    shown = await opened(name, timezone_id="Asia/Kolkata")
    at = posted.create_time.ToDatetime()
    minutes = (at.hour * 60 + at.minute + 330) % 1440
    time = shown.message(1).locator("time")
    await expect(time).to_have_text(f"{minutes // 60:02}:{minutes % 60:02}")
    assert f":{at.second:02}" in (await time.get_attribute("title") or "")
