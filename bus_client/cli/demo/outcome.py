"""What the demo promised to show, and whether it was so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bus_client.cli.demo.lines import KILLED_OVER, SAID, STALE_AFTER

if TYPE_CHECKING:
    from bus_client import Message
    from bus_client.cli.demo.processes import Running


def outcome(
    heard: Sequence[Message],
    kept: Sequence[Message],
    agents: Mapping[str, Running],
    killed: Running,
) -> Iterator[tuple[str, str]]:
    """Each promise, and what speaks against it: empty if it was kept.

    Args:
        heard: What a follower was given.
        kept: What is in the store.
        agents: The agents, by name.
        killed: The reviewer that was killed; in `agents` is the one that went on.
    """
    wanted = [(seq, line.who, line.text) for seq, line in enumerate(SAID, start=1)]
    found = [[(m.seq, m.sender, m.content) for m in messages] for messages in (heard, kept)]
    yield (
        f"{len(SAID)} messages, each once and in order: nothing lost, nothing repeated",
        "" if found == [wanted, wanted] else f"the follower and the store have {found}",
    )

    others = [seq for seq, who, _ in wanted if who != "reviewer"]
    before = [seq for seq in others if seq <= KILLED_OVER]
    after = [seq for seq in others if seq >= KILLED_OVER]
    lives = [killed.told("read"), agents["reviewer"].told("read")]
    yield (
        f"the reviewer was killed over #{KILLED_OVER}, and went on with it",
        "" if lives == [before, after] else f"it read {lives[0]}, then {lives[1]}",
    )

    mentions = [seq for seq, line in enumerate(SAID, start=1) if "tester" in line.mentions]
    woken = agents["tester"].told("read")
    yield (
        "the tester was woken once, by the message that means it",
        "" if woken == mentions else f"it was handed {woken}",
    )

    refused = [(name, seq) for name, agent in agents.items() for seq in agent.told("refused")]
    yield (
        f"two answered #{STALE_AFTER} at once: one was refused, read on and thought again",
        "" if refused == [("reviewer", STALE_AFTER)] else f"refused were {refused}",
    )
