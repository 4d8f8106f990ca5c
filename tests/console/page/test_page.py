"""The page: logging in, what comes, and what a person posts."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Route

from bus_client import Attachment, BusClient, Presence, Priority
from tests.console.consoles import PERSON, ConsoleProcess, console_of
from tests.console.page.pages import (
    COUNT_ENTRIES,
    MOST_ENTRIES,
    STEP_CLOCK,
    Opened,
    expect,
    is_whole,
)
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


@pytest.fixture
def others_console(server: ServerProcess, name: str, tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console of a person of whom no other test asks anything."""
    with console_of(server, tmp_path, f"{name}-p") as running:
        yield running


async def test_the_token_is_removed_from_the_address(
    opened: Opened, console: ConsoleProcess
) -> None:
    shown = await opened()
    assert shown.page.url == f"{console.url}#/"
    await expect(shown.page.locator("#me")).to_contain_text(PERSON)
    await shown.page.reload()
    await expect(shown.page.locator("#me")).to_contain_text(PERSON)
    await shown.page.context.clear_cookies()
    await shown.page.reload()
    await expect(shown.page.locator("#gate-text")).to_have_text("You are signed out.")


async def test_messages_appear_as_they_are_posted(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name, topic="Storage layout")
    shown = await opened(name)
    await expect(shown.locator("#topic")).to_have_text("Storage layout")
    await thread.post("The **first** one.")
    await expect(shown.message(1).locator(".body strong")).to_have_text("first")
    await expect(shown.message(1).locator(".sender")).to_have_text(bus.agent)
    await expect(shown.page.locator("#announce")).to_have_text(f"{bus.agent}: The **first** one.")
    await thread.post("The second one.", edit_of=1)
    await expect(shown.message(1).locator(".body")).to_contain_text("The second one.")
    await shown.message(1).locator("summary").click()
    await expect(shown.message(1).locator(".first strong")).to_have_text("first")
    await expect(shown.message(2)).to_contain_text(f"{bus.agent} edited #1")
    await thread.update(stage="review")
    await expect(shown.message(3)).to_contain_text("review")
    await expect(shown.locator("#topic .stage")).to_have_text("review")
    await bus.heartbeat(state=Presence.PRESENCE_AWAITING_HUMAN)
    await expect(shown.locator("#participants")).to_contain_text("awaiting human")
    await shown.page.get_by_role("button", name="Join").click()
    await expect(shown.locator("#participants")).to_contain_text(f"{PERSON} (you)")


async def test_messages_of_a_thread_that_was_left_are_not_shown(
    opened: Opened, bus: BusClient, name: str, others_console: ConsoleProcess
) -> None:
    first, second = [await bus.join(f"{name}-{at}") for at in (1, 2)]
    await second.post("of the second")
    shown = await opened(first.name, console=others_console)
    loaded = asyncio.Event()

    async def hold(route: Route) -> None:
        await loaded.wait()
        await route.continue_()

    await shown.page.route(f"**/api/threads/{second.name}?*", hold)
    await shown.go(f"#/{second.name}")
    await expect(shown.locator("#title")).to_have_text(second.name)
    await first.post("of the first", mentions=[f"{name}-p"])
    await expect(shown.locator("#inbox-count")).to_have_text("1")  # which comes later
    assert await shown.seqs() == []
    loaded.set()
    await expect(shown.message(1)).to_contain_text("of the second")


async def test_of_a_burst_few_messages_are_drawn_at_once_and_few_are_kept(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    shown = await opened(name)
    await shown.page.evaluate(COUNT_ENTRIES)
    await shown.page.evaluate(STEP_CLOCK)
    for first, last in ((1, 5000), (5001, 5100)):  # more than the page draws; and all of it
        texts = (f"Message **{at}**, with `code`." for at in range(first, last + 1))
        async for _ in thread.post_many(texts):
            pass
        await shown.message(last).wait_for()
        assert (await is_whole(shown))[-1] == last
    assert await shown.page.evaluate("globalThis.most") == MOST_ENTRIES
    assert await shown.page.evaluate("globalThis.added") == 12  # those of 12 ms


async def test_a_post_mentions_whom_the_person_has_chosen(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    shown = await opened(name)
    text = shown.locator("#text")
    await expect(text).to_be_enabled()  # once the thread is loaded
    await text.press_sequentially(f"Look, @{bus.agent[:6]}")
    await shown.locator(f"#name-{bus.agent}").wait_for()
    await text.press("Enter")
    await expect(text).to_have_value(f"Look, @{bus.agent} ")
    await text.press("Control+Enter")
    await expect(shown.locator("#posted")).to_contain_text(f"Posted #1 · {bus.agent}")
    await expect(text).to_have_value("")
    await expect(shown.message(1).locator(".badge.person")).to_have_text("person")
    posted = await thread.message(1)
    assert (posted.sender, list(posted.mentions)) == (PERSON, [bus.agent])


async def test_a_reply_may_ask_for_an_answer(opened: Opened, bus: BusClient, name: str) -> None:
    thread = await bus.join(name)
    await thread.post("How long does it take?")
    shown = await opened(name)
    await shown.message(1).hover()
    await shown.message(1).get_by_role("button", name="Reply").click()
    await expect(shown.locator("#reply")).to_contain_text("How long does it take?")
    await shown.locator("#ask").check()
    await shown.locator("#priority").select_option("urgent")
    await shown.post("An hour. Is that good enough?")
    await expect(shown.message(2).locator(".quote")).to_contain_text("How long does it take?")
    await expect(shown.message(2).locator(".asks")).to_contain_text(bus.agent)
    await expect(shown.locator("#requests")).to_contain_text(f"You wait for {bus.agent}")
    asked = await thread.message(2)
    assert (asked.reply_to, asked.priority) == (1, Priority.PRIORITY_URGENT)
    assert list(asked.expect_reply.agents) == [bus.agent]
    await thread.post("It is.", reply_to=2)
    await expect(shown.message(2).locator(".asks")).to_contain_text("answered in #3")
    await expect(shown.locator("#requests")).not_to_contain_text(bus.agent)
    await shown.locator("#ask").check()
    await shown.post(f"@{bus.agent} are you sure?")
    await shown.message(4).get_by_role("button", name="Withdraw").click()
    await shown.page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    await expect(shown.message(4).locator(".asks")).to_contain_text("no longer open")


async def test_requests_and_mentions_are_in_the_inbox_until_they_are_seen(
    opened: Opened, bus: BusClient, name: str, others_console: ConsoleProcess
) -> None:
    thread = await bus.join(name)
    shown = await opened(console=others_console)
    person = f"{name}-p"
    await thread.post(f"@{person} may I tag {name}?", mentions=[person], ask=True)
    await thread.post(f"@{person} see {name} above.", mentions=[person])
    await expect(shown.page).to_have_title("(2) Inbox · ThreadBus")
    asked = shown.page.locator(".card", has_text=f"may I tag {name}?")
    await expect(shown.page.locator(".card", has_text=f"see {name} above.")).to_be_visible()
    await asked.get_by_role("link", name="Open").click()
    await expect(shown.page).to_have_title(f"(1) {name} · ThreadBus")
    await expect(shown.message(1)).to_have_class("entry message for-me target")
    await shown.message(1).get_by_role("button", name="Answer").click()
    await shown.post("Yes.")
    await expect(shown.page).to_have_title(f"{name} · ThreadBus")
    answers = [each for each in await thread.messages(after_seq=2) if each.reply_to == 1]
    assert [each.content for each in answers] == ["Yes."]


async def test_a_file_is_downloaded_with_a_safe_type(
    opened: Opened, bus: BusClient, name: str, tmp_path: Path
) -> None:
    thread = await bus.join(name)
    page = Attachment(filename="page.html", media_type="text/html", raw=b"<script>boo()</script>")
    await thread.post("See it.", attachments=[page])
    shown = await opened(name)
    async with shown.page.expect_download() as download:
        await shown.message(1).get_by_role("link", name="page.html").click()
    saved = await download.value
    assert saved.suggested_filename == "page.html"
    await saved.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == b"<script>boo()</script>"


async def test_threads_are_created_changed_closed_and_exported(
    opened: Opened, bus: BusClient, name: str
) -> None:
    shown = await opened()
    await shown.page.get_by_role("button", name="New thread").click()
    dialog = shown.page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill(name)
    await dialog.get_by_label("Topic").fill("Old")
    await dialog.get_by_role("button", name="Create").click()
    await expect(shown.locator("#title")).to_have_text(name)

    async def choose(item: str) -> None:
        await shown.page.get_by_role("button", name="More").click()
        await shown.page.get_by_role("menuitem", name=item).click()

    await choose("Topic and stage")
    await dialog.get_by_label("Topic").fill("New")
    await dialog.get_by_label("Stage").fill("draft")
    await dialog.get_by_role("button", name="Save").click()
    await expect(shown.locator("#topic")).to_have_text("draft New")
    await choose("Close thread")
    await dialog.get_by_role("button", name="Close thread").click()
    await expect(shown.locator("#text")).to_be_disabled()
    await choose("Reopen thread")
    await shown.post("Open again.")
    await expect(shown.locator("#posted")).to_contain_text("Posted #")
    async with shown.page.expect_download() as download:
        await choose("Export as Markdown")
    assert "Open again." in (await (await download.value).path()).read_text()
    assert (await bus.thread(name).refresh()).topic == "New"


async def test_a_thread_that_is_not_there_can_be_created(opened: Opened, name: str) -> None:
    shown = await opened()
    await shown.go(f"#/{name}")
    await expect(shown.locator("#problem")).to_contain_text(name)
    await shown.page.get_by_role("button", name="Create it").click()
    await shown.page.get_by_role("dialog").get_by_role("button", name="Create").click()
    await shown.post("The first one.")
    await shown.message(1).wait_for()
    await expect(shown.locator("#problem")).to_have_count(0)
