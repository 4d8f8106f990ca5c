"""Names of agents, as the contract has them."""

from __future__ import annotations

import re

AGENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
AGENT_RULE = "1–63 of a-z 0-9 . _ -, first a letter or digit"
#: Nobody can be posted for under these; an operator's own messages it posts as itself.
RESERVED = ("anonymous", "system", "me", "all", "everyone", "here", "none")


def such_as(text: str) -> str:
    """ ", such as coder" for "Coder" or "@coder"; empty if no name can be made of the text."""
    name = re.sub("[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:63]
    return f", such as {name}" if AGENT.fullmatch(name) and name not in RESERVED else ""
