"""Fixtures: Chromium, and pages in it."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright

from tests.console.consoles import ConsoleProcess
from tests.console.page.pages import PATIENCE, Opened, Shown, needed


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium."""
    executable = needed("chromium")
    async with async_playwright() as playwright:
        # Chromium refuses to run as root with its sandbox.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        flags.append("--host-resolver-rules=MAP rebound.example 127.0.0.1")
        browser = await playwright.chromium.launch(executable_path=executable, args=flags)
        yield browser
        await browser.close()


@pytest.fixture
async def opened(chromium: Browser, console: ConsoleProcess) -> AsyncIterator[Opened]:
    """Opens pages, each in a context of its own. No error may have happened in them."""
    contexts = []
    pages = []

    async def open_page(
        thread: str = "", console: ConsoleProcess = console, **options: Any
    ) -> Shown:
        context = await chromium.new_context(**({"locale": "en-GB"} | options))
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        shown = Shown(await context.new_page(), console)
        pages.append(shown)
        await shown.log_in()
        if thread:
            await shown.open(thread)
        return shown

    yield open_page
    for context in contexts:
        await context.close()
    assert [error for shown in pages for error in shown.errors] == []
