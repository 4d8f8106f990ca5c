"""The page when its login is over."""

import time
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.console.consoles import ConsoleProcess, cookie_until
from tests.console.page.pages import Opened, expect
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]


async def test_a_page_says_that_its_login_is_over(
    opened: Opened,
    console: ConsoleProcess,
    server: ServerProcess,
    home: Path,
    bus: BusClient,
    name: str,
) -> None:
    await bus.join(name)
    shown = await opened(name)
    cookie, value = cookie_until(time.time() + 10, console, home, server)
    cookies = shown.page.context
    await cookies.add_cookies([{"name": cookie, "value": value, "url": console.url}])
    await shown.page.reload()
    await shown.live()
    await expect(shown.locator("#gate")).to_contain_text("You are signed out.")
