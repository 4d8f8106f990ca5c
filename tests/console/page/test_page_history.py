"""Long threads: earlier messages, jumps, permanent links, and finding text."""

import pytest

from bus_client import BusClient, Post
from tests.console.consoles import PERSON
from tests.console.page.pages import Opened, expect, is_whole

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


@pytest.fixture
async def long_thread(bus: BusClient, name: str) -> str:
    """A thread with 1,200 messages."""
    thread = await bus.join(name)
    texts = (f"entry {at}" + (" has the needle" if at == 40 else "") for at in range(1, 1201))
    async for _ in thread.post_many([Post(text) for text in texts]):
        pass
    return name


async def test_earlier_messages_come_on_scrolling_up(opened: Opened, long_thread: str) -> None:
    shown = await opened(long_thread)
    await shown.message(1200).wait_for()
    first = (await is_whole(shown))[0]
    while first > 1:
        await shown.page.locator("#scroller").evaluate("node => node.scrollTo(0, 0)")
        await shown.message(first - 1).wait_for(state="attached")
        first = (await is_whole(shown))[0]
    await expect(shown.page.locator(".edge")).to_have_text("The thread begins here.")
    await shown.locator("#newest").click()
    await expect(shown.message(1200)).to_be_in_viewport()
    await is_whole(shown)


async def test_a_permanent_link_shows_its_message_and_only_counts_what_comes(
    opened: Opened, bus: BusClient, long_thread: str
) -> None:
    shown = await opened(f"{long_thread}/300")
    await expect(shown.message(300)).to_be_in_viewport()
    await expect(shown.message(300)).to_be_focused()
    for number in range(3):
        await bus.thread(long_thread).post(f"new {number}")
    await expect(shown.locator("#newest")).to_have_text("↓ 3 new messages")
    assert 1201 not in await is_whole(shown)
    await shown.page.keyboard.press("e")
    await expect(shown.message(1203)).to_be_in_viewport()
    await shown.page.go_back()
    await shown.go(f"#/{long_thread}/2000")
    await expect(shown.locator("#problem")).to_contain_text("There is no #2000")
    await expect(shown.message(1203)).to_be_in_viewport()


async def test_a_thread_opens_at_what_is_new_which_is_unread_until_its_end_is_seen(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("old")
    shown = await opened(name)
    await shown.page.get_by_role("button", name="Join").click()
    you = shown.page.locator("#participants li", has_text="(you)")
    await expect(you).to_contain_text("has read all")
    await shown.page.keyboard.press("Escape")
    await shown.page.keyboard.press("i")
    await thread.post("for you", mentions=[PERSON])
    async for _ in thread.post_many([Post(f"entry {at}") for at in range(150)]):
        pass
    link = shown.page.get_by_role("link", name=f"{name} 151 unread, 1 message for you")
    await link.click()
    await expect(shown.message(2)).to_be_in_viewport()
    await expect(shown.locator(".new + [data-seq='2']")).to_have_count(1)
    await expect(shown.locator("#newest")).to_have_text("↓ 151 new messages")
    await expect(you).to_contain_text("151 behind")
    await shown.locator("#newest").click()
    await expect(shown.message(152)).to_be_in_viewport()
    await expect(you).to_contain_text("has read all")
    await expect(link).to_have_count(0)


async def test_later_messages_come_on_scrolling_down(opened: Opened, long_thread: str) -> None:
    shown = await opened(f"{long_thread}/900")
    await shown.message(900).wait_for()
    last = (await is_whole(shown))[-1]
    while last < 1200:
        bottom = "node => node.scrollTo(0, node.scrollHeight)"
        await shown.page.locator("#scroller").evaluate(bottom)
        await shown.message(last + 1).wait_for(state="attached")
        last = (await is_whole(shown))[-1]


async def test_text_is_found_in_the_page_and_before_it(opened: Opened, long_thread: str) -> None:
    shown = await opened(long_thread)
    await shown.message(1200).wait_for()
    await shown.locator("#scroller").focus()
    await shown.page.keyboard.press("/")
    await shown.locator("#find-text").fill("entry 115")
    await expect(shown.locator("#find-count")).to_have_text("10 of 10")
    await shown.locator("#find-text").press("Shift+Enter")
    await expect(shown.locator("#find-count")).to_have_text("9 of 10")
    await expect(shown.message(1158)).to_be_in_viewport()
    await shown.locator("#find-text").fill("NEEDLE")
    await expect(shown.locator("#find-count")).to_have_text("Not in #1101–#1200")
    await shown.page.get_by_role("button", name="Search earlier").click()
    await expect(shown.message(40)).to_be_in_viewport()
    await expect(shown.locator("#find-count")).to_have_text("1 of 1")
    await shown.page.keyboard.press("Escape")
    await expect(shown.locator("#find")).to_have_count(0)


async def test_the_keyboard_reaches_everything(opened: Opened, long_thread: str) -> None:
    shown = await opened(long_thread)
    await shown.message(1200).wait_for()
    keys = shown.page.keyboard
    await shown.locator("#scroller").focus()
    await keys.press("k")
    await expect(shown.message(1200)).to_be_focused()
    await keys.press("k")
    await keys.press("r")
    await expect(shown.locator("#reply")).to_contain_text("Reply to #1199")
    await keys.press("Escape")
    await expect(shown.locator("#reply")).to_have_count(0)
    await keys.press("Escape")
    await keys.press("g")
    await shown.page.get_by_role("dialog").get_by_label("Number").fill("#700")
    await keys.press("Enter")
    await expect(shown.message(700)).to_be_focused()
    await keys.press("?")
    await expect(shown.page.get_by_role("dialog")).to_contain_text("next or previous message")
    await keys.press("Escape")
    await keys.press("i")
    await expect(shown.locator("#title")).to_have_text("Inbox")
    await expect(shown.locator("#page-view")).to_be_focused()
    await keys.press("t")
    await expect(shown.locator("#filter")).to_be_focused()
    await expect(shown.locator("#veil")).to_have_count(0)
    await keys.type(long_thread[:-1])
    await expect(shown.locator("#threads a")).to_have_count(1)
    await keys.press("Enter")
    await expect(shown.locator("#title")).to_have_text(long_thread)
    await expect(shown.locator("#text")).to_be_focused()
    await shown.locator("#participants button").wait_for()
    await keys.press("Escape")
    await keys.press("p")
    await expect(shown.locator("#participants button")).to_be_focused()


async def test_a_long_text_is_loaded_on_request(opened: Opened, bus: BusClient, name: str) -> None:
    thread = await bus.join(name)
    await thread.post("x" * 1_000_000 + "end")
    shown = await opened(name)
    await shown.page.get_by_role("button", name="Show all (1.0 MB)").click()
    await expect(shown.message(1).locator(".chunk").last).to_have_text("end")
    await expect(shown.message(1).locator(".chunk")).to_have_count(251)


async def test_few_long_texts_are_drawn_at_once(opened: Opened, bus: BusClient, name: str) -> None:
    thread = await bus.join(name)
    text = "word " * 3_800
    async for _ in thread.post_many([Post(text)] * 150):
        pass
    shown = await opened(name)
    await expect(shown.message(150)).to_be_in_viewport()
    seqs = await is_whole(shown)
    while seqs[0] > 80:
        await shown.page.locator("#scroller").evaluate("node => node.scrollTo(0, 0)")
        await shown.message(seqs[0] - 1).wait_for(state="attached")
        before, seqs = seqs, await is_whole(shown)
        assert before[0] - seqs[0] <= 10, (before, seqs)  # a page of them takes seconds
        assert len(seqs) <= 60
    await shown.go(f"#/{name}/40")
    await expect(shown.message(40)).to_be_focused()
    seqs = await is_whole(shown)
    assert seqs[0] < 40 <= seqs[-1]
    while seqs[-1] < 60:
        bottom = "node => node.scrollTo(0, node.scrollHeight)"
        await shown.page.locator("#scroller").evaluate(bottom)
        await shown.message(seqs[-1] + 1).wait_for(state="attached")
        seqs = await is_whole(shown)
    assert len(seqs) <= 60
