"""Who needs a person and who waits for whom, what each may do, and doing it by keyboard alone."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus_client import BusClient, Presence, Priority
from tests.console.consoles import PERSON, ConsoleProcess
from tests.console.page.pages import Opened, Shown, expect
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


@pytest.fixture
async def other(server: ServerProcess, tmp_path: Path, name: str) -> AsyncIterator[BusClient]:
    """Another agent, whose name comes before that of `bus`."""
    async with BusClient(
        server.address, agent=f"a-{name}", credentials=tmp_path / "other"
    ) as opened:
        yield opened


@pytest.fixture
def agents_console(server: ServerProcess, tmp_path: Path, name: str) -> Iterator[ConsoleProcess]:
    """A console that acts for an agent."""
    Shell(server.address, tmp_path).ok("register", f"{name}-c")
    with ConsoleProcess(server.address, tmp_path / "data", "--as", f"{name}-c") as running:
        yield running


async def test_who_needs_a_person_comes_first_and_who_waits_for_whom_is_said(
    opened: Opened, bus: BusClient, other: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await other.join(name)
    await other.heartbeat(state=Presence.PRESENCE_WORKING)
    await bus.heartbeat(state=Presence.PRESENCE_AWAITING_HUMAN, status_text=f"which {name}?")
    await thread.post("Which one?", mentions=[other.agent], ask=True)
    shown = await opened()
    stuck = shown.page.get_by_role("listitem").filter(has_text=f"which {name}?")
    await expect(stuck).to_contain_text("awaiting human")
    waiting = shown.page.get_by_role("listitem").filter(has_text=f"{bus.agent} waits for")
    await expect(waiting).to_contain_text(f"{bus.agent} waits for {other.agent}")
    await expect(waiting).to_contain_text(f"{name} #1")
    await shown.open(name)
    people = shown.page.get_by_role("complementary").get_by_role("listitem")
    await expect(people.nth(0)).to_contain_text("awaiting human")
    await expect(people.nth(0)).to_contain_text(bus.agent)
    await expect(people.nth(1)).to_contain_text(f"owes {bus.agent} an answer to #1")
    await expect(people.filter(has_text=f"{bus.agent} waits for")).to_contain_text(other.agent)


async def test_an_agent_called_you_is_not_taken_for_the_reader(
    opened: Opened, bus: BusClient, server: ServerProcess, tmp_path: Path, name: str
) -> None:
    thread = await bus.join(name)
    async with BusClient(server.address, agent="you", credentials=tmp_path / "you") as agent:
        await agent.join(name)
        await thread.post("Ready?", mentions=["you"], ask=True, handoff_to="you")
        await thread.post("Ready?", mentions=[PERSON], ask=True)
        shown = await opened(name)
        await expect(shown.message(1)).to_contain_text("Waiting for an answer from @you")
        await expect(shown.message(1)).to_contain_text("turn → @you")
        await expect(shown.message(2)).to_contain_text("Waiting for an answer from you")
        side = shown.page.get_by_role("complementary")
        await expect(side).to_contain_text("waits for @you: #1")
        await expect(side).to_contain_text("waits for you: #2")
        await expect(side).to_contain_text(f"{bus.agent} waits for @you")
        await expect(side).to_contain_text(f"{bus.agent} waits for you")
        await thread.withdraw(1)
        await expect(shown.message(1)).to_contain_text("Asked @you for a reply")


async def test_a_notice_is_shown_as_one(
    opened: Opened, bus: BusClient, other: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await other.join(name)
    await thread.post("Really?", mentions=[other.agent], ask=True, within=0.5)
    shown = await opened(name)
    await expect(shown.message(2)).to_contain_text(other.agent)
    await expect(shown.message(2).get_by_role("link", name="#1")).to_be_visible()
    await expect(shown.message(2).get_by_role("button", name="Reply")).to_have_count(0)
    await expect(shown.message(1)).to_contain_text("overdue")


async def test_an_agent_changes_only_its_own_threads(
    opened: Opened, agents_console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    await bus.join(name, topic="Theirs")
    shown = await opened(name, console=agents_console)
    await shown.page.get_by_role("button", name="Join").click()
    more = shown.page.get_by_role("button", name="More")
    await more.click()
    await expect(shown.page.get_by_role("menuitem", name="Export as Markdown")).to_be_visible()
    await expect(shown.page.get_by_role("menuitem", name="Close thread")).to_have_count(0)
    await shown.page.get_by_role("menuitem", name="Topic and stage").click()
    dialog = shown.page.get_by_role("dialog")
    await expect(dialog.get_by_label("Topic", exact=True)).to_be_disabled()
    await dialog.get_by_label("Stage").fill("review")
    await dialog.get_by_role("button", name="Save").click()
    await expect(shown.message(1)).to_contain_text("review")
    await shown.go(f"#/{name}-own")
    await shown.page.get_by_role("button", name="Create it").click()
    await dialog.get_by_role("button", name="Create").click()
    await expect(shown.page.get_by_label("Message", exact=True)).to_be_enabled()
    await more.click()
    await shown.page.get_by_role("menuitem", name="Close thread").click()
    await dialog.get_by_role("button", name="Close thread").click()
    await expect(shown.page.get_by_label("Message", exact=True)).to_be_disabled()
    await expect(more).to_be_focused()


async def test_an_export_by_click_is_that_of_the_shell(
    opened: Opened, bus: BusClient, server: ServerProcess, home: Path, name: str
) -> None:
    thread = await bus.join(name, topic="\u202e<b>")
    first = await thread.post("# One \u00e9\U0001f600", mentions=[PERSON])
    await thread.post("# Two", edit_of=first.seq)
    async for _ in thread.post_many(f"text {at}\n\n```\n{at}" for at in range(300)):
        pass
    shown = await opened(name)
    shell = Shell(server.address, home)
    for item, form, end in [("Markdown", "markdown", "md"), ("JSON lines", "jsonl", "jsonl")]:
        await shown.page.get_by_role("button", name="More").click()
        async with shown.page.expect_download() as download:
            await shown.page.get_by_role("menuitem", name=f"Export as {item}").click()
        saved = await download.value
        assert saved.suggested_filename == f"{name}.{end}"
        said = shell.run_process("export", name, "--format", form)
        assert (await saved.path()).read_bytes() == said.out.encode()


async def tabs_to(shown: Shown, name: str) -> set[str]:
    """Press Tab until a control has the focus. Returns the names of those before it."""
    seen = set[str]()
    script = """
    () => {
      const node = document.activeElement;
      const label = node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent;
      return (label ?? node.textContent).trim();
    }
    """
    for _ in range(300):
        await shown.page.keyboard.press("Tab")
        found = await shown.page.evaluate(script)
        if found.startswith(name):
            return seen
        seen.add(found)
    raise AssertionError(f"{name} is not among {seen}")


async def test_everything_is_done_by_keyboard_alone(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    for at in range(1, 31):
        await thread.post(f"Question {at}")
    await (await bus.join(f"{name}-2")).post("another thread")
    shown = await opened()
    keys = shown.page.keyboard
    title = shown.page.get_by_role("heading", level=1)
    await keys.press("t")
    await keys.type(name)
    await keys.press("Enter")
    await expect(title).to_have_text(name)
    await expect(shown.page.get_by_label("Message", exact=True)).to_be_focused()
    await keys.type(f"@{bus.agent[:8]}")
    await expect(
        shown.page.get_by_role("listbox").get_by_role("option", name=bus.agent)
    ).to_be_visible()
    await keys.press("Tab")
    await keys.type("hello")
    await keys.press("Control+Enter")
    await expect(shown.message(31)).to_contain_text(f"@{bus.agent} hello")

    await keys.press("Escape")
    await keys.press("g")
    await keys.type("3")
    await keys.press("Enter")
    await expect(shown.message(3)).to_be_focused()
    await keys.press("j")
    await expect(shown.message(4)).to_be_focused()
    await keys.press("r")
    await keys.type("Is it?")
    await tabs_to(shown, "Ask for a reply")
    await keys.press("Space")
    await tabs_to(shown, "Priority")
    await keys.press("ArrowDown")
    await tabs_to(shown, "Post")
    await keys.press("Enter")
    await expect(shown.message(32)).to_contain_text(f"Waiting for an answer from {bus.agent}")
    await expect(shown.page.get_by_role("button", name="Post", exact=True)).to_be_focused()
    posted = await thread.message(32)
    assert (posted.reply_to, posted.priority, posted.content) == (
        4,
        Priority.PRIORITY_HIGH,
        "Is it?",
    )

    await keys.press("Escape")
    await tabs_to(shown, "Withdraw")
    await keys.press("Enter")
    await expect(shown.page.get_by_role("dialog")).to_be_visible()
    await tabs_to(shown, "Withdraw")
    await keys.press("Enter")
    await expect(shown.message(32)).to_contain_text("no longer open")

    await keys.press("Escape")
    await keys.press("/")
    await keys.type("question 7")
    await expect(shown.message(7)).to_be_in_viewport()
    await keys.press("Escape")
    await tabs_to(shown, "More")
    await keys.press("Enter")
    for _ in range(2):
        await keys.press("ArrowDown")
    await expect(shown.page.get_by_role("menuitem", name="Close thread")).to_be_focused()
    await keys.press("Enter")
    await tabs_to(shown, "Close thread")
    await keys.press("Enter")
    await expect(shown.page.get_by_label("Message", exact=True)).to_be_disabled()

    for _ in range(2):
        await keys.press("]")
    for _ in range(2):
        await keys.press("[")
    await expect(title).to_have_text(name)
    await keys.press("i")
    await expect(title).to_have_text("Inbox")
    passed = await tabs_to(shown, "Keyboard and help")
    assert {"New thread", "Filter threads"} <= passed
    await keys.press("Enter")
    await expect(shown.page.get_by_role("dialog")).to_contain_text("reply to the message in focus")
    await keys.press("Escape")
    await expect(shown.page.get_by_role("dialog")).to_have_count(0)
