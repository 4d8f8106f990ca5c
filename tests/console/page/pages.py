"""The page of a console in a browser, as a person uses it."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.console.consoles import ConsoleProcess
from tests.programs import program

__all__ = [
    "COUNT_ENTRIES",
    "LOOKS",
    "MOST_ENTRIES",
    "PATIENCE",
    "PHONE",
    "STEP_CLOCK",
    "Opened",
    "Shown",
    "expect",
    "is_whole",
    "needed",
    "violations",
]

#: ms for which an expectation waits: the machine may be slow.
PATIENCE = 30_000
expect.set_options(timeout=PATIENCE)

#: The number of a thread's entries that a page has at most.
MOST_ENTRIES = 600

#: Records the largest number of entries in the page at a time in `most`, and of entries that were
#: added at a time in `added`.
COUNT_ENTRIES = """
globalThis.most = globalThis.added = 0;
new MutationObserver((changes) => {
  const nodes = changes.flatMap(({ addedNodes }) => [...addedNodes]);
  const entries = nodes.filter((node) => node.nodeName === "ARTICLE");
  globalThis.added = Math.max(globalThis.added, entries.length);
  globalThis.most = Math.max(globalThis.most, document.querySelectorAll("#log > article").length);
}).observe(document.querySelector("#log"), { childList: true });
"""
#: Has a page's clock go on by 1 ms whenever the page reads it, and not otherwise.
STEP_CLOCK = "{ let now = 0; performance.now = () => (now += 1); }"

#: Options of a context: how a page looks.
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 780},
    "has_touch": True,
    "is_mobile": True,
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "dark", **PHONE},
}

#: Opens the page of a console, logged in. `thread`: what is after `#/`; others: of the context.
Opened = Callable[..., Awaitable["Shown"]]


def needed(name: str) -> Path:
    """Returns a program's path. Skips the test where it is missing, but not on CI."""
    try:
        return program(name)
    except pytest.skip.Exception as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        raise


class Shown:
    """A page that is open.

    Attributes:
        page: The page, for what has no method here.
        errors: What went wrong in it: exceptions, and what the policy has refused.
    """

    def __init__(self, page: Page, console: ConsoleProcess) -> None:
        self.page = page
        self.errors: list[str] = []
        self._console = console
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._logged)

    def _logged(self, message: Any) -> None:
        refused = "Content Security Policy" in message.text or "TrustedScript" in message.text
        if refused or (message.type == "error" and "Failed to load resource" not in message.text):
            self.errors.append(message.text)

    async def log_in(self) -> None:
        """Open the address that the console has printed."""
        await self.page.goto(f"{self._console.url}#token={self._console.token}")
        await self.page.locator("#app").wait_for()

    async def go(self, where: str) -> None:
        """Go to a fragment, such as `#/design/42`."""
        await self.page.goto(f"{self._console.url}{where}")

    async def open(self, thread: str) -> None:
        """Open a thread, and wait until it is live."""
        await self.go(f"#/{thread}")
        await self.locator("#scroller").wait_for()
        await self.live()

    def locator(self, selector: str) -> Locator:
        """Returns what is visible and fits."""
        return self.page.locator(f"{selector} >> visible=true")

    async def live(self, state: str = "live") -> None:
        """Wait until the page shows a state of its connection."""
        await self.page.locator(f"#live[data-state={state}]").wait_for(state="attached")

    def message(self, seq: int) -> Locator:
        """Returns the entry with a seq."""
        return self.page.locator(f"article[data-seq='{seq}']")

    async def seqs(self) -> list[int]:
        """Returns the seqs of the entries in the page, in order."""
        script = "nodes => nodes.map(node => Number(node.dataset.seq))"
        found: list[int] = await self.page.locator("#log article").evaluate_all(script)
        return found

    async def post(self, text: str) -> None:
        """Type a message, and post it."""
        await self.page.locator("#text").fill(text)
        await self.page.get_by_role("button", name="Post", exact=True).click()


async def is_whole(shown: Shown) -> list[int]:
    """Returns the seqs in the page. There may be no gap, and no more than MOST_ENTRIES."""
    seqs = await shown.seqs()
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    assert len(seqs) <= MOST_ENTRIES
    return seqs


@functools.cache
def axe() -> str:
    """Returns the source of axe-core."""
    return subprocess.run([needed("axe")], capture_output=True, text=True, check=True).stdout


async def violations(shown: Shown) -> list[Any]:
    """Returns what axe finds wrong, as the rule and the elements. The policy must be bypassed."""
    if not await shown.page.evaluate("'axe' in globalThis"):
        await shown.page.evaluate(axe())
    found = await shown.page.evaluate("axe.run()")
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found["violations"]
    ]
