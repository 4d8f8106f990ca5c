"""What is photographed: which page, on which screen, in which colours."""

from __future__ import annotations

import subprocess
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, Page, Route
from scene import DAY, LAST, NOW, THREAD

from tests.console.consoles import ConsoleProcess
from tests.console.page.pages import PHONE, Shown, expect

_DESKTOP: dict[str, Any] = {
    "viewport": {"width": 1280, "height": 800},
    "device_scale_factor": 1.5,
}
_PHONE = PHONE | {"device_scale_factor": 2}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to take.

    Attributes:
        where: The fragment of the page.
        scheme: The colours.
        screen: Options of Playwright's context.
        until: What the page has to show first, as texts.
        operator: Whether an operator looks at it, else the person.
        beginning: Whether the beginning of the thread is shown, else its end.
    """

    where: str
    scheme: Literal["dark", "light"]
    until: tuple[str, ...]
    screen: dict[str, Any]
    operator: bool = False
    beginning: bool = False


_TALK = (LAST, "Waiting for an answer from you", "merging the index branch", "has read all")
_REQUEST = "please add the changelog entry"

#: By the name of the file. The operator's first: then the person is there in all the others.
PICTURES = {
    "console-operator.png": Picture(
        "#agents", "dark", ("7 registered", "build 1208"), _DESKTOP, operator=True
    ),
    "console-dark.png": Picture(f"#/{THREAD}", "dark", (*_TALK, _REQUEST), _DESKTOP),
    "console-light.png": Picture(f"#/{THREAD}", "light", _TALK, _DESKTOP, beginning=True),
    "console-phone.png": Picture(f"#/{THREAD}", "dark", _TALK, _PHONE),
    "console-inbox.png": Picture(
        "#/",
        "light",
        ("snapshots of February", "fail fast", "80 GB on staging", _REQUEST),
        _DESKTOP,
    ),
}


async def take(
    name: str, browser: Browser, console: ConsoleProcess, out: Path, pages: AsyncExitStack
) -> None:
    """Take a picture, and write it into a folder.

    Its page stays open for the block of `pages`, so that the person stays there.
    """
    picture = PICTURES[name]
    context = await browser.new_context(
        color_scheme=picture.scheme,
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
        **picture.screen,
    )
    pages.push_async_callback(context.close)
    page = await context.new_page()
    await page.clock.set_fixed_time(f"{DAY}T{NOW}:30Z")
    await page.route("**/api/me", _with_usual_address)
    shown = Shown(page, console)
    await shown.log_in()
    await shown.go(picture.where)
    await shown.live()
    await _settled(page, picture)
    await page.screenshot(path=out / name, animations="disabled", caret="hide")


async def _with_usual_address(route: Route) -> None:
    """Let the page show the default port: the server has another one at each run."""
    response = await route.fetch()
    await route.fulfill(
        response=response, json=await response.json() | {"server": "127.0.0.1:7420"}
    )


async def _settled(page: Page, picture: Picture) -> None:
    """Wait until all that the picture should have is loaded, and what is seen counts as read."""
    for text in picture.until:
        await page.get_by_text(text).first.wait_for(state="attached")
    await expect(page.locator("#threads [aria-current] .count:not([hidden])")).to_have_count(0)
    if picture.where != "#/" and not picture.operator:
        you = page.locator("#participants li", has_text="(you)")
        await expect(you).to_contain_text("has read all")
        await page.locator("#show-people[data-requests=overdue]").wait_for(state="attached")
    if picture.beginning:
        await page.locator("#scroller").evaluate("node => node.scrollTo(0, 0)")
        await page.locator("#newest").wait_for()
    await page.evaluate("document.fonts.ready")


def compress(program: str, files: list[Path]) -> None:
    """Reduce the colours of pictures to 256, which makes them a third as large."""
    subprocess.run(
        [program, "--speed", "1", "--strip", "--force", "--ext", ".png", *files], check=True
    )
