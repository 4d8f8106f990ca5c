"""Checks and suggestions for agent names on the command line."""

from __future__ import annotations

import re

from threadbus.names import AGENT, RESERVED

#: Senders whose messages cannot be imported. Those of the operator are posted as its own.
NOT_SENDERS = RESERVED - {"operator"}


def suggestion(text: str) -> str:
    """Returns ", such as coder" for "Coder" or "@coder"; "" if the text suggests no valid name."""
    name = AGENT.match(re.sub("[^a-z0-9._-]+", "-", text.lower()).strip("._-"))
    return f", such as {name[0]}" if name and name[0] not in NOT_SENDERS else ""
