"""Texts that try to become a part of the page, or to stall it."""

import pytest

from bus_client import Attachment, BusClient
from tests.console.consoles import PERSON
from tests.console.page.pages import Opened, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

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
]
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
]

CONTENT = """
() => {
  const found = [...document.querySelectorAll("#log *")];
  const names = new Set(found.map((node) => node.localName));
  const attributes = new Set(found.flatMap((node) => node.getAttributeNames()));
  const anchors = found.filter((node) => node.localName === "a");
  const links = anchors.map((node) => node.getAttribute("href"));
  return { names: [...names], attributes: [...attributes], links, ran: globalThis.ran ?? 0 };
}
"""
NAMES = set(
    [
        "article",
        "span",
        "div",
        "b",
        "time",
        "button",
        "a",
        "p",
        "strong",
        "em",
        "s",
        "code",
        "pre",
        "blockquote",
        "ul",
        "ol",
        "li",
        "hr",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
    ]
)


async def test_nothing_of_a_text_runs_or_becomes_a_part_of_the_page(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name, topic="<img src=x onerror=boo()> \u202etxt.exe")
    for text in MARKUP:
        await thread.post(text)
    file = Attachment(
        filename="<b>\u202egpj.exe", media_type="text/html", url="https://evil.example/x"
    )
    await thread.post("file", attachments=[file], labels={"k": "<script>boo()</script>"})
    shown = await opened()
    await shown.page.evaluate("() => { globalThis.boo = () => { globalThis.ran = 1; }; }")
    requests: list[str] = []
    shown.page.on("request", lambda request: requests.append(request.url))
    await shown.open(name)
    await shown.message(len(MARKUP) + 1).wait_for()
    await thread.post("last")
    await shown.message(len(MARKUP) + 2).wait_for()
    content = await shown.page.evaluate(CONTENT)
    assert content["ran"] == 0
    assert set(content["names"]) <= NAMES
    assert not [each for each in content["attributes"] if each.startswith("on")]
    assert {"src", "srcdoc", "style", "action"}.isdisjoint(content["attributes"])
    for link in content["links"]:
        assert link.startswith((f"#/{name}/", "https://evil.example/")), link
    assert not [url for url in requests if "evil" in url]
    await expect(shown.locator("#topic")).to_contain_text("\\u202etxt.exe")
    await expect(shown.message(len(MARKUP) + 1)).to_contain_text("<b>\\u202egpj.exe")


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
