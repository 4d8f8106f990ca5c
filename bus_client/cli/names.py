"""Checks and suggestions for agent names on the command line."""

from __future__ import annotations

import re

from threadbus.names import AGENT, RESERVED

#: Senders on whose behalf an import cannot post. The operator posts its own messages as itself.
NOT_SENDERS = RESERVED - {"operator"}


def suggestion(text: str) -> str:
    """Returns ", such as coder" for "Coder" or "@coder"; "" if no name can be derived from it."""
    name = AGENT.match(re.sub("[^a-z0-9._-]+", "-", text.lower()).strip("._-"))
    return f", such as {name[0]}" if name and name[0] not in NOT_SENDERS else ""
