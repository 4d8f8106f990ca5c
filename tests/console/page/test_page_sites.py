"""What pages of other sites, other names and forged cookies get of a console: nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.async_api import Browser

from bus_client import BusClient
from tests.console.consoles import ConsoleProcess
from tests.console.page.pages import Opened, Shown, expect

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]

#: Tries to read and to write as the page of a console at `url`. Returns what came of it.
ATTACK = """
async ([url, thread]) => {
  const came = {};
  const made = (tag, props) => new Promise((resolve) => {
    const node = Object.assign(document.createElement(tag), props);
    node.onload = () => resolve("loaded");
    node.onerror = () => resolve("refused");
    document.body.append(node);
  });
  const body = JSON.stringify({ thread, text: "forged" });
  const asked = (path, options) => fetch(url + path, { credentials: "include", ...options })
    .then((response) => response.text(), () => "refused");
  came.read = await asked("api/me");
  came.opaque = await asked("api/agents", { mode: "no-cors" });
  for (const type of ["application/json", "text/plain"]) {
    const headers = { "Content-Type": type };
    came[type] = await asked("api/post", { method: "POST", body, headers });
  }
  came.blind = await asked("api/post", { method: "POST", body, mode: "no-cors" });
  came.script = await made("script", { src: `${url}api/agents` });
  came.code = await made("script", { src: `${url}app.js` });
  came.image = await made("img", { src: `${url}api/threads/${thread}/1/0` });
  came.style = await made("link", { rel: "stylesheet", href: `${url}app.css` });
  came.events = await new Promise((resolve) => {
    const source = new EventSource(`${url}api/events?thread=${thread}`, { withCredentials: true });
    source.onmessage = source.onopen = () => resolve("loaded");
    source.onerror = () => (source.close(), resolve("refused"));
  });
  await made("iframe", { src: url });
  const sink = await made("iframe", { name: "sink", srcdoc: "" });
  const form = document.createElement("form");
  const action = `${url}api/post`;
  Object.assign(form, { action, method: "POST", enctype: "text/plain", target: "sink" });
  const field = { name: body.slice(0, -1) + ',"x":"', value: '"}' };
  form.append(Object.assign(document.createElement("input"), field));
  document.body.append(form);
  form.submit();
  await new Promise((resolve) => (document.querySelector("[name=sink]").onload = resolve));
  const opened = open(url);
  await new Promise((resolve) => setTimeout(resolve, 500));
  try {
    came.window = opened.closed ? "refused" : opened.document.title;
  } catch {
    came.window = "refused";
  }
  return came;
}
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def another_site() -> Iterator[str]:
    """Yields the address of an empty page, at another port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


async def test_a_page_of_another_port_of_the_host_gets_nothing(
    opened: Opened, console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("secret")
    shown = await opened(name)  # the same host: the browser sends the cookie along
    page = await shown.page.context.new_page()
    with another_site() as site:
        await page.goto(site)
        came = await page.evaluate(ATTACK, [console.url, name])
        framed = [frame.url for frame in page.frames if frame.url.startswith(console.url)]
    assert came.pop("opaque") in ("", "refused")
    assert came.pop("blind") in ("", "refused")
    assert set(came.values()) == {"refused"}, came
    assert framed == []
    assert [each.content for each in await thread.messages()] == ["secret"]


async def test_a_name_that_resolves_to_this_machine_is_refused(
    chromium: Browser, console: ConsoleProcess
) -> None:
    context = await chromium.new_context()
    page = await context.new_page()
    address = console.url.replace("127.0.0.1", "rebound.example")
    response = await page.goto(f"{address}#token={console.token}")
    assert response is not None
    assert response.status == 403
    await expect(page.locator("body")).to_contain_text("This console has another address.")
    await context.close()


async def test_a_forged_cookie_does_not_open_the_page(
    opened: Opened, console: ConsoleProcess
) -> None:
    shown = await opened()
    context = shown.page.context
    (cookie,) = await context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert await shown.page.evaluate("document.cookie") == ""
    expires, _, signature = (cookie.get("value") or "").partition(".")
    for forged in (
        f"{int(expires) + 1}.{signature}",
        f"{expires}.{'0' * 64}",
        "",
        "x",
        f"{expires}.",
    ):
        await context.clear_cookies()
        name = cookie.get("name") or ""
        await context.add_cookies([{"name": name, "value": forged, "url": console.url}])
        other = Shown(await context.new_page(), console)
        await other.page.goto(console.url)
        await expect(other.page.get_by_role("status").first).to_have_text("You are signed out.")
        await expect(other.page.get_by_role("navigation")).to_have_count(0)
        await other.page.goto(f"{console.url}#token=wrong-{console.token}")
        await expect(other.page.get_by_role("main")).to_contain_text("signed out")
