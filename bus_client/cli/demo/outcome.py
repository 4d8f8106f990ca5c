"""The claims of the demo, and whether they were true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bus_client.cli.demo.lines import KILLED_AT, POSTED, REFUSED_AT

if TYPE_CHECKING:
    from bus_client import Message
    from bus_client.cli.demo.processes import DemoProcess


def outcome(
    received: Sequence[Message],
    stored: Sequence[Message],
    agents: Mapping[str, DemoProcess],
    killed: DemoProcess,
) -> Iterator[tuple[str, str]]:
    """Yields each claim with the evidence against it, which is "" if the claim is true.

    Args:
        received: The messages that a follower received.
        stored: The messages in the store.
        agents: The agents' processes by name. The reviewer's is the restarted one.
        killed: The reviewer's process that was killed.
    """
    wanted = [(seq, line.who, line.text) for seq, line in enumerate(POSTED, start=1)]
    found = [[(m.seq, m.sender, m.content) for m in messages] for messages in (received, stored)]
    yield (
        f"{len(POSTED)} messages, each once and in order: nothing lost, nothing repeated",
        "" if found == [wanted, wanted] else f"the follower and the store have {found}",
    )

    others = [seq for seq, who, _ in wanted if who != "reviewer"]
    before = [seq for seq in others if seq <= KILLED_AT]
    after = [seq for seq in others if seq >= KILLED_AT]
    lives = [killed.values("read"), agents["reviewer"].values("read")]
    yield (
        f"the reviewer was killed while working on #{KILLED_AT}, and resumed with it",
        "" if lives == [before, after] else f"it read {lives[0]}, then {lives[1]}",
    )

    mentions = [seq for seq, line in enumerate(POSTED, start=1) if "tester" in line.mentions]
    woken = agents["tester"].values("read")
    yield (
        "the tester was woken once, by the message that mentions it",
        "" if woken == mentions else f"it got {woken}",
    )

    refused = [(name, seq) for name, agent in agents.items() for seq in agent.values("refused")]
    yield (
        f"two replied to #{REFUSED_AT} at once: one was refused, read on and reconsidered",
        "" if refused == [("reviewer", REFUSED_AT)] else f"the refused replies are {refused}",
    )
