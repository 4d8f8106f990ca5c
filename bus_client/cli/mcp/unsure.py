"""Posts of which it is unknown whether they were stored."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

_KEPT = 600.0  # seconds; a model that posts the same later means another message
_MOST = 16  # posts; each may be large


class UnsurePosts:
    """The request_ids of posts that ended without an answer: repeated, they are stored once.

    That is a post whose response was lost, or which the host cancelled.
    """

    def __init__(self) -> None:
        #: By thread and arguments: the request_id, the mentions, and until when these are kept.
        self._posts: dict[tuple[str, str], tuple[str, list[str], float]] = {}

    def as_before(
        self, thread: str, given: Mapping[str, Any], mentions: list[str]
    ) -> tuple[str, list[str]]:
        """Returns the request_id and the mentions of a post: those of an equal one that is unsure.

        Otherwise a new request_id, and `mentions`. Agents that the text mentions may have
        registered since: with their names, it would be another post.
        """
        request_id, before, until = self._posts.get(_key(thread, given), ("", [], 0.0))
        if time.monotonic() < until:
            return request_id, before
        return secrets.token_hex(16), mentions

    def add(
        self, thread: str, given: Mapping[str, Any], request_id: str, mentions: list[str]
    ) -> None:
        """It is unknown whether the post was stored. Forgets the oldest of more than 16."""
        self.remove(thread, given)
        self._posts[_key(thread, given)] = request_id, mentions, time.monotonic() + _KEPT
        if len(self._posts) > _MOST:
            del self._posts[next(iter(self._posts))]

    def remove(self, thread: str, given: Mapping[str, Any]) -> None:
        """It is known now whether the post was stored. No-op if it was not unsure."""
        self._posts.pop(_key(thread, given), None)


def _key(thread: str, given: Mapping[str, Any]) -> tuple[str, str]:
    # With the default thread, the arguments may name it or not.
    return thread, json.dumps({**given, "thread": thread}, sort_keys=True)
