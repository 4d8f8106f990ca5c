"""Takes the pictures of the console. See scripts/screenshots."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pictures import PICTURES, compress, take
from playwright.async_api import Browser, async_playwright
from scene import scene

from tests.callers import operator_token_file
from tests.clocks import WallClock
from tests.console.consoles import ConsoleProcess
from tests.programs import program
from tests.serving import ServerProcess

ROOT = Path(__file__).parent.parent.parent
_FONT_FOLDER = ROOT / ".tools/inter"
#: The system's fonts, and Inter instead of the plainest of them, if it is here.
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>{folder}</dir>
  <cachedir>{cache}</cachedir>
  <match target="pattern">
    <test name="family" qual="first"><string>DejaVu Sans</string></test>
    <edit name="family" mode="prepend_first" binding="strong"><string>Inter</string></edit>
  </match>
</fontconfig>
"""


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        prog="scripts/screenshots",
        description="Takes pictures of the console: starts a server with a conversation of several "
        "agents and a person, opens the console in Chromium, and writes "
        f"{', '.join(PICTURES)}. The clocks of the server and of the browser stand: the pictures "
        "change only with the page, the fonts and Chromium.",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=ROOT / "docs/images",
        help="where to write them (default: docs/images)",
    )
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(_run(out))
    except pytest.skip.Exception as missing:
        sys.exit(f"screenshots: {missing}")
    try:
        compress(str(program("pngquant")), [out / name for name in PICTURES])
    except pytest.skip.Exception as missing:
        print(f"screenshots: the pictures are not compressed: {missing}", file=sys.stderr)


async def _run(out: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wall = WallClock(folder)
        server = ServerProcess(folder / "bus.db", environment=wall.environment)
        server.start()
        try:
            async with (
                _chromium(folder) as browser,
                scene(server, wall, folder) as token,
                contextlib.AsyncExitStack() as pages,
            ):
                boss = operator_token_file(server.db)
                with (
                    ConsoleProcess(
                        server.address, folder / "p", "--token-file", str(token)
                    ) as persons,
                    ConsoleProcess(
                        server.address, folder / "o", "--token-file", str(boss)
                    ) as operators,
                ):
                    for name, picture in PICTURES.items():
                        console = operators if picture.operator else persons
                        await take(name, browser, console, out, pages)
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def _chromium(folder: Path) -> AsyncIterator[Browser]:
    fonts = folder / "fonts.conf"
    fonts.write_text(_FONTS.format(folder=_FONT_FOLDER, cache=folder / "cache"), "utf-8")
    async with async_playwright() as playwright:
        # Chromium refuses to run as root with its sandbox.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(
            executable_path=program("chromium"),
            args=flags,
            env={**os.environ, "FONTCONFIG_FILE": str(fonts)},
        )
        yield browser
        await browser.close()


if __name__ == "__main__":
    main()
