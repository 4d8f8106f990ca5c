"""What the models of all frameworks do."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the tool `ask`."""

    agent: str
    question: str


def turn(prompts: Sequence[str], result: str | None, arguments: Iterable[str]) -> Call | str:
    """Returns what the model does next: it calls the tool, or answers.

    Args:
        prompts: What the program gave the framework's agent; the last one now, the others before.
        result: What the tool has returned since the last one; None = it was not called.
        arguments: The names of the tool's arguments, as the model is told them.
    """
    assert set(arguments) == {"agent", "question"}
    if result is not None:
        return f"I asked, and was told: {result}"
    if found := re.search(r"Please ask (\S+): (.+)", prompts[-1]):
        return Call(found[1], found[2])
    earlier = f"After {len(prompts) - 1} others, " if len(prompts) > 1 else ""
    return f"{earlier}I was told: {prompts[-1]}"
