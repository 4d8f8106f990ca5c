"""Breaks rules in a copy of the server, and checks that the right cells of the matrix fail."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tests.conformance.__main__ import buildable, conform
from tests.conformance.cases import load

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Break:
    """A rule that is broken in the server.

    `edits` are (file, text found once in it, replacement). The cases of `red` must fail in every
    language; those of `perhaps` may fail, depending on timing; all others must pass.
    """

    rule: str
    edits: Sequence[tuple[str, str, str]]
    red: frozenset[str]
    perhaps: frozenset[str] = frozenset()


BREAKS = [
    Break(
        "order",
        [
            (
                "bus_server/follow/loop.py",
                "[rows[index][1] for index in wanted]",
                "[rows[index][1] for index in reversed(wanted)]",
            ),
        ],
        red=frozenset(
            {
                *("order", "replay", "finite", "resync-ahead", "sizes", "notices", "inbox-read"),
                *("removed", "removed-away", "inbox-behind"),
            }
        ),
        # Depends on whether several messages came in one frame.
        perhaps=frozenset(
            {
                *("resume-cut", "resume-kill", "resume-read", "own", "closed"),
                *("drain", "resync-epoch", "inbox-all", "inbox-cut", "inbox-removed"),
                *("ask", "ask-edit", "ask-two", "ask-given-up", "ask-closed", "ask-removed"),
            }
        ),
    ),
    Break(
        "dedup",
        [
            (
                "bus_server/store/posts.py",
                "        earlier = _earlier(batch, head, post)\n",
                "        earlier = None\n",
            ),
            (
                "bus_server/store/posts.py",
                "        batch.save_request(head.thread_id, post, seq)\n",
                "        pass\n",
            ),
        ],
        red=frozenset({"dedup", "lost-answer", "many", "removed"}),
        perhaps=frozenset({"unknown-outcome"}),  # if the server received the first one
    ),
    Break(
        "ending",
        [
            (
                "bus_server/follow/loop.py",
                "        await self._send(frame)\n",
                "        pass\n",
            ),
        ],
        red=frozenset(
            {
                *("finite", "deadline-wait", "drain", "closed", "session-elsewhere"),
                *("resync-ahead", "int64", "close-away", "sizes", "removed"),  # finite waits
            }
        ),
    ),
    Break(
        "resync",
        [
            (
                "bus_server/follow/loop.py",
                "            await self._send(WaitMessagesResponse(resync=resync))\n",
                "            pass\n",
            ),
        ],
        red=frozenset(
            {
                *("resync-ahead", "resync-epoch", "int64"),
                *("removed", "removed-away", "inbox-behind", "ask-removed"),
            }
        ),
    ),
    Break(
        "removed messages",
        [
            (
                "bus_server/follow/position.py",
                "        elif requested_after < head.first_seq - 1:\n"
                "            self.resync = WaitResync.REASON_COMPACTED\n",
                "",
            ),
            (
                "bus_server/follow/position.py",
                "            reason = WaitResync.REASON_COMPACTED\n"
                "            self.skip_removed()\n",
                "            self.skip_removed()\n            return None\n",
            ),
        ],
        red=frozenset({"removed", "removed-away", "inbox-behind", "ask-removed"}),
    ),
    Break(
        "error details",
        [
            (
                "bus_server/status.py",
                "    for detail in _details(error, reason):\n",
                "    for detail in ():\n",
            ),
        ],
        # All that check an error's reason or details.
        red=frozenset(
            {
                *("errors", "dedup", "refused-after-doubt", "race", "explicit-zero"),
                *("many", "large", "int64", "token", "token-after-doubt", "resync-epoch", "poison"),
                *("tls-token", "ask-refused", "removed", "ask-removed"),
            }
        ),
    ),
    Break(
        "hidden messages",
        [
            (
                "bus_server/follow/loop.py",
                "cursor = p.name, p.after, p.epoch, p.hidden\n",
                "cursor = p.name, p.after, p.epoch, 0\n",
            ),
        ],
        red=frozenset({"inbox-read"}),
    ),
    Break(
        "sizes",
        [
            (
                "bus_server/trim.py",
                "            message.content = cut(message.content, self.max_content_bytes)\n",
                "            message.content = cut(message.content, self.max_content_bytes)\n"
                "            message.content_size = len(message.content.encode())\n",
            ),
        ],
        red=frozenset({"sizes"}),
    ),
    Break(
        "notices",
        [
            (
                "bus_server/store/asked.py",
                "Notice(reason=reason, request_seq=key.seq, agent=key.agent)",
                "Notice(reason=reason, request_seq=key.seq + 1, agent=key.agent)",
            ),
        ],
        red=frozenset(
            {
                *("ask-left", "ask-overdue", "ask-given-up", "ask-withdrawn", "ask-removed"),
                "notices",
            }
        ),
    ),
    Break(
        "closed requests",
        [
            (
                "bus_server/store/asked.py",
                "_save(batch, name, key, asked._replace(state=REQUEST_STATE_CLOSED))",
                "_save(batch, name, key, asked)",
            ),
        ],
        red=frozenset({"ask-closed"}),
    ),
]


def broken_tree(broken: Break, folder: Path) -> Path:
    """Return a copy of the server that breaks the rule. ValueError if a text is not found once."""
    shutil.copytree(ROOT / "bus_server", folder / "bus_server", dirs_exist_ok=True)
    for name, text, instead in broken.edits:
        file = folder / name
        before = file.read_text("utf-8")
        if before.count(text) != 1:
            raise ValueError(
                f"“{broken.rule}”: {text!r} is in {name} {before.count(text)} times, not once"
            )
        file.write_text(before.replace(text, instead), "utf-8")
    return folder


@click.command()
@click.option("--language", "wanted", multiple=True, help="Only this one; repeat for several.")
@click.option("--rule", "rules", multiple=True, help="Only this rule; repeat for several.")
def main(wanted: Sequence[str], rules: Sequence[str]) -> None:
    """Break one rule of the server after the other, and check that the right cells fail."""
    cases, wrong = load(), 0
    known = [broken.rule for broken in BREAKS]
    if strangers := set(rules) - set(known):
        raise click.UsageError(f"no rule {', '.join(strangers)}; there are {', '.join(known)}")
    here, failing = buildable(wanted)
    for broken in BREAKS:
        if rules and broken.rule not in rules:
            continue
        with tempfile.TemporaryDirectory(prefix="broken-") as folder:
            tree = broken_tree(broken, Path(folder))
            for language in here:
                cells = asyncio.run(conform(language, cases, tree))
                red = {cell.case for cell in cells if cell.problem}
                green_instead = broken.red - red
                red_instead = red - broken.red - broken.perhaps
                verdict = "as it should" if not green_instead | red_instead else "WRONG"
                wrong += verdict == "WRONG"
                click.echo(f"{broken.rule}: {language.name}: {verdict}: red {sorted(red)}")
                if green_instead:
                    click.echo(f"  stayed green: {sorted(green_instead)}")
                if red_instead:
                    click.echo(f"  turned red, too: {sorted(red_instead)}")
    sys.exit(1 if wrong or failing or not here else 0)


if __name__ == "__main__":
    main(prog_name="scripts/conformance breaks")
