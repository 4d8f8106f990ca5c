"""Texts that try to pass for something else, to hide a part, or to reach what is beside them."""

import re
from random import Random

import pytest
from playwright.async_api import Locator

from bus_client import Attachment, BusClient, Post
from tests.console.page.pages import Opened, expect

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(180)]

#: Links, and what is shown of each after it: the host that a browser would go to.
LINKS = {
    "[https://bank.example](https://evil.example/login)": "evil.example",
    "[\u05d0\u05d1\u05d2](https://evil.example/1)": "evil.example",
    "https://b\u0430nk.example/": "xn--bnk-6cd.example",  # a Cyrillic letter
    "https://b\u0430nk.example/?//xn--bnk-6cd.example": "xn--bnk-6cd.example",
    "https://bank.example\u2044login.evil.example/": "bank.xn--examplelogin-xk0g.evil.example",
    "https://bank.example\u3002evil.example/": "bank.example.evil.example",
    "https://\uff42ank.example/": "bank.example",
    "https://0x7f000001/": "127.0.0.1",
    "https://bank.example\\.evil.example/": "bank.example",
    "https://bank.example\u200b.evil.example/": "bank.example",
    "https://bank.example:8443/": "",
    "https://BANK.example/a?b#c": "",
}
#: Pieces of Markdown. A text of them has words between.
PIECES = [
    *["*", "**", "_", "~~", "`", "``", "```", "~~~", "\n```\n", "\n~~~ ", "\n\n", "\n", " "],
    *[
        "# ",
        "\n## ",
        "\n> ",
        "\n- ",
        "\n1. ",
        "\n  - ",
        "\n---\n",
        "|",
        "\n|-|-|\n",
        "\n| ",
        "[ ] ",
    ],
    *[
        "|",
        "[",
        "](",
        ")",
        "](https://x.example/ ",
        "\\",
        "@",
        "#",
        "<b>",
        "<!--",
        "-->",
        "&lt;",
        "\t",
    ],
]
WORDS = """
(texts) => import("./md.js").then(({ render }) =>
  texts.map((text) => render(text, new Map(), "me", "t").textContent.match(/w\\d+w/g).join()))
"""


async def follows(second: Locator, first: Locator) -> bool:
    """Returns whether something is shown to the right of something else."""
    left, right = await first.bounding_box(), await second.bounding_box()
    assert left is not None
    assert right is not None
    return left["x"] + left["width"] <= right["x"] + 1


async def test_links_say_where_they_lead(opened: Opened, bus: BusClient, name: str) -> None:
    thread = await bus.join(name)
    async for _ in thread.post_many([Post(text) for text in LINKS]):
        pass
    shown = await opened(name)
    for seq, host in enumerate(LINKS.values(), 1):
        link = shown.message(seq).locator(".body").get_by_role("link")
        assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
        href = await link.get_attribute("href") or ""
        assert await link.get_attribute("title") == href
        assert href.isascii()
        if host:
            assert href.startswith(f"https://{host}")
            await expect(shown.message(seq)).to_contain_text(f" ({host})")
        else:
            await expect(shown.message(seq).locator(".body")).not_to_contain_text("(")


async def test_no_markup_hides_a_part_of_a_text(opened: Opened) -> None:
    chosen = Random(7)  # noqa: S311
    texts = [
        "# " + "w1w " * 400,
        "|a|b|\n|-|-|\n|1|2|w1w|w2w|",
        "```w1w w2w\nw3w\n``` w4w",
        "~~~ w1w",
    ]
    texts += ["|".join("a" * 40) + "\n" + "|".join("-" * 40) + "\n" + "|".join(["w1w"] * 60)]
    for _ in range(3_000):
        pieces = [chosen.choice(PIECES) + f"w{at}w" for at in range(chosen.randrange(2, 20))]
        texts.append("".join(pieces))
    shown = await opened()
    for text, words in zip(texts, await shown.page.evaluate(WORDS, texts), strict=True):
        said = [word for word in text.replace("w", " w ").split() if word.isdigit()]
        assert words.replace("w", "").split(",") == said, text


async def test_characters_that_one_does_not_see_are_shown(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    texts = {
        "zero\u200bwidth \u202eltr \u2066x \u0644\u0627 \U0001f468\u200d\U0001f469": (
            "zero\\u200bwidth \\u202eltr \\u2066x \u0644\u0627 \U0001f468\u200d\U0001f469"
        ),
        f"@{name[:6]}\u200b{name[6:]}-a": f"@{name[:6]}\\u200b{name[6:]}-a",
        "tags \U000e0041\U000e0042": "tags \\U000e0041\\U000e0042",
        "\u3164\uffa0\u115f\u2800": "\\u3164\\uffa0\\u115f\u2800",
        "`\u202e` \r \x1b[2J \x07": "\\u202e \\x0d \\x1b[2J \\x07",
        "z" + "\u0301" * 100 + "!": "z" + "\u0301" * 8 + "\u2026!",
    }
    async for _ in thread.post_many([Post(text) for text in texts]):
        pass
    shown = await opened(name)
    for seq, said in enumerate(texts.values(), 1):
        await expect(shown.message(seq).locator(".body")).to_have_text(said)
    box = shown.page.get_by_label("Message", exact=True)
    await box.press_sequentially(f"@{bus.agent}\u200b, are you there?")
    await box.press("Control+Enter")
    await expect(shown.message(len(texts) + 1)).to_contain_text(f"@{bus.agent}\\u200b, are")
    assert list((await thread.message(len(texts) + 1)).mentions) == []


async def test_what_strangers_name_does_not_pass_for_what_the_bus_says(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    labels = {"person": "", "posted by": "ann"} | {f"key-{at:02}": "" for at in range(10)}
    names = ["invoice.pdf" + "x" * 150 + ".exe", "a.pdf" + " " * 50 + ".exe", "a\nb\u2028c.svg"]
    files = [Attachment(filename=each, raw=b"x" * 5000) for each in names]
    urls = ["javascript:alert(1)", "data:text/html,x", "https://ann@evil.example/x"]
    files += [Attachment(filename="bank.example", url=url) for url in urls]
    files += [Attachment(filename="bank.example", url="https://b\u0430nk.example/x")]
    await thread.post("x", labels=labels, attachments=files)
    shown = await opened(name)
    entry = shown.message(1)
    await expect(entry.get_by_text("person", exact=True)).to_have_count(0)
    await expect(entry.get_by_text("posted by ann", exact=True)).to_have_count(0)
    await expect(entry.get_by_title("Label")).to_have_count(8)
    await expect(entry).to_contain_text("+ 4 labels")
    items = entry.get_by_role("listitem")
    await expect(items.nth(0)).to_contain_text(".exe 5 kB")
    await expect(items.nth(1)).to_contain_text("a.pdf .exe 5 kB")
    await expect(items.nth(2)).to_contain_text("a b c.svg")
    for at in range(3, 6):
        await expect(items.nth(at).get_by_role("link")).to_have_count(0)
        await expect(items.nth(at)).to_contain_text("at another address")
    await expect(items.nth(6)).to_contain_text("at xn--bnk-6cd.example")
    await shown.go("#/%3Cimg%20src=x%3E%E2%80%AEgpj.exe")
    said = "<img src=x>\\u202egpj.exe"
    # Before it, there may be how much other tests want of the person.
    await expect(shown.page).to_have_title(re.compile(rf"{re.escape(said)} · ThreadBus$"))
    await expect(shown.page.get_by_role("heading", level=1)).to_have_text(said)


async def test_no_text_turns_around_what_is_beside_it(
    opened: Opened, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    hebrew = "\u05d0\u05d1\u05d2"
    await thread.update(stage=hebrew)
    await thread.post(f"[{hebrew}](https://1.example/)", labels={hebrew: "1"})
    await thread.post("x", attachments=[Attachment(filename=hebrew, raw=b"x" * 5000)])
    await thread.post(f"{hebrew} is Hebrew\n\nEnglish")
    shown = await opened(name)
    notice, link, file = shown.message(1), shown.message(2), shown.message(3)
    await shown.message(4).wait_for()
    said = notice.get_by_text(hebrew)
    assert await follows(notice.locator("time"), said)
    assert await follows(notice.get_by_role("link", name="#1"), notice.locator("time"))
    assert await follows(link.get_by_text("(1.example)"), link.get_by_role("link", name=hebrew))
    assert await follows(file.get_by_text("5 kB"), file.get_by_role("link", name=hebrew))
