"""Texts that try to become a part of the page, or to stall it."""

import pytest

from bus_client import Attachment, BusClient, Post, Presence
from tests.console.consoles import PERSON
from tests.console.page.pages import Opened, Shown, expect

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]

#: What tries to run. Whatever does calls boo().
MARKUP = [
    "<script>boo()</script>",
    "<img src=x onerror=boo()>",
    "<svg onload=boo()><script>boo()</script></svg>",
    "<math><mi xlink:href='javascript:boo()'>x</mi></math>",
    "<iframe srcdoc='<script>parent.boo()</script>'></iframe>",
    "<style>*{display:none}</style><link rel=stylesheet href=//evil.example/x.css>",
    "<form action=javascript:boo()><button>go</button></form>",
    "<details open ontoggle=boo()>",
    "<a href=javascript:boo()>x</a>",
    "<base href=//evil.example/><meta http-equiv=refresh content=0;url=//evil.example>",
    "[x](javascript:boo())",
    "[x](JaVaScRiPt:boo())",
    "[x](java\nscript:boo())",
    "[x](\x01javascript:boo())",
    "[x](&#106;avascript:boo())",
    "[x](vbscript:boo()) [x](data:text/html,<script>boo()</script>)",
    "<javascript:boo()> <data:text/html,boo>",
    "![x](https://evil.example/pixel.png)",
    '[x](https://evil.example/"onmouseover="boo())',
    "[<img src=x onerror=boo()>](https://evil.example/)",
    "https://evil.example/'onclick='boo()'",
    "https://bank.example@evil.example/ [bank](https://bank.example:x@evil.example/)",
    '```html"><script>boo()</script>\n<script>boo()</script>\n```\n~~~\n</code></pre><img src=x>',
    "| <img src=x onerror=boo()> | b |\n|---|---|\n| <script>boo()</script> | ` |",
    "# <h1 onclick=boo()>\n> <blockquote onclick=boo()>\n- <li onclick=boo()>",
    '@<script>boo()</script> #<script>boo()</script> #1"onclick=boo()',
    "__proto__ constructor @constructor @__proto__ @hasownproperty",
    "<svg><animate onbegin=boo() attributeName=x dur=1s><set onbegin=boo()></svg>",
    "<svg><a xlink:href=javascript:boo()><text>x</a><foreignObject><img src=x onerror=boo()>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload=boo()></svg>#x'/></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=boo()>'>",
    "<math href=javascript:boo()>x<maction actiontype=statusline xlink:href=javascript:boo()>",
    "<noscript><p title='</noscript><img src=x onerror=boo()>'><template><script>boo()</script>",
    "<object data=javascript:boo()><embed src=javascript:boo()><video><source onerror=boo()>",
    "<input autofocus onfocus=boo()><x contenteditable onblur=boo()><marquee onstart=boo()>",
    "<a id=log name=log>x</a><form id=app><input name=hidden></form><img name=getElementById>",
    "[x](java\tscript:boo()) [x](javascript&colon;boo()) [x]( javascript:boo())",
    "[x](\x00javascript:boo())",
    "[x](javascript\u2028:boo()) [x](\uff4aavascript:boo()) [x](java\u200bscript:boo())",
    "[x](feed:javascript:boo()) [x](view-source:javascript:boo()) [x](blob:https://evil.example/x)",
    "[x](file:///etc/passwd) [x](ws://evil.example/) [x](intent://x#Intent;end) [x](mailto:a@b)",
    "[x](//evil.example/) [x](\\\\evil.example) [x](/api/me) [x](api/me) [x](#token=stolen)",
    "[x](https:javascript:boo()) [x](https:///javascript:boo()) [x](https://evil.example:boo())",
    "[x](https://evil.example/%0d%0aSet-Cookie:a=b) [x](https://evil.example/ 'onclick=boo()')",
    "[x]: javascript:boo()\n\n[x] [x][x] [![x](javascript:boo())](javascript:boo())",
    "{{boo()}} ${boo()} <%= boo() %> `${boo()}` javascript:boo()",
]
#: The same for what is no message: names that are shown, topics, labels and what agents say of
#: themselves.
FIELD = '<img src=x onerror=boo()>"><svg/onload=boo()>\u202e\u0000\n</title>'
#: What tries to take long, or to fill the page.
LARGE = [
    ">" * 10_000,
    "> " * 10_000 + "deep",
    "[" * 20_000,
    "*" * 20_000,
    "`" + "``a" * 6_000,
    "_a" * 10_000,
    "**a " * 5_000,
    "[x](https://" * 1_500,
    "@a" * 10_000,
    "- " * 10_000,
    "\n".join(" " * at + "- x" for at in range(190)),
    "|" * 20_000 + "\n" + "|-" * 10_000,
    "| a | b |\n|---|---|\n" + "| x | y |\n" * 2_000,
    "# \n" * 6_000,
    " " * 20_000,
    "\n" * 20_000,
    "https://" + "a." * 9_000,
    "x" * 1_000_000,
    "e" + "\u0301" * 9_000,
    " ".join("`" * (1 + at % 16) + "a" for at in range(2_000)),
    "> - " * 5_000,
    ("> " * 5 + "- a\n") * 1_500,
    "~~~\n```\n" * 2_500,
    ("|a" * 24 + "\n" + "|-" * 24 + "\n") * 200,
    "|" + "a|" * 9_000 + "\n|" + "-|" * 900,
    "* " * 9_999 + "x",
    "https://x.example/" + "(" * 9_000 + ")" * 9_000,
    "https://x.example/" + "." * 18_000 + "x",
    "\u202e" * 6_600,
    "\U0001f468\u200d" * 2_800,
]

CONTENT = """
() => {
  const found = [...document.body.querySelectorAll("*")];
  const names = new Set(found.map((node) => node.localName));
  const attributes = new Set(found.flatMap((node) => node.getAttributeNames()));
  const anchors = found.filter((node) => node.localName === "a");
  const links = anchors.map((node) => node.getAttribute("href"));
  return { names: [...names], attributes: [...attributes], links, ran: globalThis.ran ?? 0 };
}
"""
NAMES = {
    *["a", "article", "aside", "b", "blockquote", "button", "code", "dd", "details", "dialog"],
    *["div", "dl", "dt", "em", "form", "h1", "h2", "h3", "header", "hr", "input", "kbd", "label"],
    *[
        "li",
        "main",
        "nav",
        "noscript",
        "ol",
        "option",
        "p",
        "pre",
        "s",
        "section",
        "select",
        "span",
    ],
    *["strong", "summary", "table", "tbody", "td", "textarea", "th", "thead", "time", "tr", "ul"],
}


async def has_only_its_own(shown: Shown) -> None:
    """Check that nothing of a text has run, or has become a part of the page."""
    content = await shown.page.evaluate(CONTENT)
    assert content["ran"] == 0
    assert set(content["names"]) <= NAMES
    assert not [each for each in content["attributes"] if each.startswith("on")]
    assert {"src", "srcdoc", "action", "formaction", "xlink:href"}.isdisjoint(content["attributes"])
    for link in content["links"]:
        assert link.startswith(("#", "api/threads/", "https://evil.example/")), link
        assert "token" not in link


async def watched(shown: Shown) -> list[str]:
    """Returns the list of requests to strangers that the page will make, and defines boo()."""
    script = "globalThis.boo = () => { globalThis.ran = 1; }; globalThis.ran = 0;"
    await shown.page.evaluate(f"() => {{ {script} }}")
    requests: list[str] = []
    shown.page.on("request", lambda request: requests.append(request.url))
    return requests


async def test_nothing_of_a_text_runs_or_becomes_a_part_of_the_page(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name, topic=FIELD)
    await thread.update(stage=FIELD[:40])
    async for _ in thread.post_many([Post(text) for text in MARKUP]):
        pass
    first, last = 2, len(MARKUP) + 1
    file = Attachment(filename=f"{FIELD}.exe".replace("/", "").replace("\0", ""), raw=b"<script>")
    link = Attachment(filename="x", media_type="text/html;<b>", url="https://evil.example/x")
    labels = {FIELD[:50]: FIELD, "__proto__": "x"}
    await thread.post(MARKUP[0], reply_to=first, labels=labels, attachments=[file, link])
    await thread.post(MARKUP[1], edit_of=first)
    await thread.post(FIELD, mentions=[PERSON], ask=True)
    await bus.heartbeat(state=Presence.PRESENCE_AWAITING_HUMAN, status_text=FIELD)
    shown = await opened()
    requests = await watched(shown)
    await shown.page.get_by_role("listitem").filter(has_text="\\u202e").first.wait_for()
    await has_only_its_own(shown)
    await shown.open(name)
    await shown.message(last + 3).wait_for()
    await thread.post("last")
    await shown.message(last + 4).wait_for()
    await has_only_its_own(shown)
    await expect(shown.page.locator("#topic")).to_contain_text("<img src=x onerror=boo()>")
    await expect(shown.message(last + 1).locator(".quote")).to_contain_text("<img src=x")
    await shown.message(first).get_by_role("group").click()  # the first wording
    await shown.page.get_by_role("button", name="More").click()
    await shown.page.get_by_role("menuitem", name="Topic and stage").click()
    await has_only_its_own(shown)
    await shown.page.keyboard.press("Escape")
    await shown.message(last + 3).get_by_role("button", name="Answer").click()
    await shown.page.get_by_label("Message", exact=True).press_sequentially(f"@{bus.agent[:9]}")
    await shown.page.get_by_role("listbox").get_by_role("option", name=bus.agent).wait_for()
    await shown.page.get_by_role("button", name="Find").click()
    await shown.page.keyboard.type("<img src=x")
    await expect(shown.page.get_by_role("search")).to_contain_text(" of ")
    await has_only_its_own(shown)
    await shown.page.get_by_role("complementary").get_by_role("button", name=bus.agent).click()
    dialog = shown.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("<img src=x onerror=boo()>")
    await has_only_its_own(shown)
    await shown.page.keyboard.press("Escape")
    assert not [url for url in requests if "evil" in url]


async def test_a_file_is_saved_whatever_it_is(opened: Opened, bus: BusClient, name: str) -> None:
    thread = await bus.join(name)
    script = b"<script>boo()</script>"
    kinds = ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "x/y"]
    files = [
        Attachment(filename=f"\u202e{at}.html", media_type=kind, raw=script)
        for at, kind in enumerate(kinds)
    ]
    await thread.post("files", attachments=files)
    shown = await opened(name)
    links = shown.message(1).get_by_role("listitem").get_by_role("link")
    await expect(links).to_have_count(len(kinds))
    for at in range(len(kinds)):
        async with shown.page.expect_download() as download:
            await links.nth(at).click()
        saved = await download.value
        assert (await saved.path()).read_bytes() == script
        assert saved.suggested_filename.isascii()
        address = await links.nth(at).evaluate("node => node.href")
        async with shown.page.expect_download():  # nor is it shown by its address
            await shown.page.evaluate("(address) => { location.href = address; }", address)
        headers = (await shown.page.context.request.get(address)).headers
        assert headers["content-type"] == "application/octet-stream"
        assert headers["x-content-type-options"] == "nosniff"


async def test_no_text_stalls_the_page(opened: Opened, bus: BusClient, name: str) -> None:
    thread = await bus.join(name)
    shown = await opened(name)
    for number, text in enumerate(LARGE, 1):
        script = """
        (text) => import("./md.js").then(({ render }) => {
          const start = performance.now();
          const nodes = render(text.slice(0, 20_000), new Map(), "me", "t");
          const count = document.createTreeWalker(nodes).root.querySelectorAll("*").length;
          return [performance.now() - start, count];
        })
        """
        took, count = await shown.page.evaluate(script, text)
        assert took < 2_000, (number, took)
        assert count <= 9_100, (number, count)
        await thread.post(text if text.strip() else f".{text}.")
    await shown.message(len(LARGE)).wait_for(state="attached")
    await shown.post(f"Still here, @{PERSON}.")
    await expect(shown.locator("#posted")).to_contain_text("Posted #")
