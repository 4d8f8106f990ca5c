"""The notice for a model. It has no words of a peer: only numbers, and names that were checked."""

from __future__ import annotations

from collections.abc import Sequence

from bus_client.hosts.news import News

_MOST_THREADS, _MOST_SENDERS, _MOST_REQUESTS = 5, 3, 3


def notice(news: Sequence[News]) -> str:
    """Returns the notice of unread messages for a model. `news` is not empty."""
    first = sorted(news, key=_importance)[:_MOST_THREADS]
    parts = [_of_thread(each) for each in first]
    if len(news) > len(first):
        parts.append(f"more in {_count(len(news) - len(first), 'other thread')}")
    asking = [
        f"{entry.sender} asked you for a reply: {each.thread} #{entry.seq}."
        for each in first
        for entry in reversed(each.entries)
        if entry.asks
    ]
    return " ".join(
        [
            f"ThreadBus: {'; '.join(parts)}.",
            *asking[:_MOST_REQUESTS],
            "Call bus_wait to read; decide yourself whether they concern your task.",
        ]
    )


def _importance(news: News) -> tuple[bool, bool]:
    """Returns a key that sorts requests first, then what is addressed to the agent."""
    return not any(e.asks for e in news.entries), not any(e.addressed for e in news.entries)


def _of_thread(news: News) -> str:
    number = len(news.entries)
    how_many = str(number) if news.complete else f"{number} or more" if number else "some"
    text = f"{how_many} unread in thread {news.thread}"
    senders = list(dict.fromkeys(entry.sender for entry in reversed(news.entries)))
    named = senders[:_MOST_SENDERS]
    if len(senders) > len(named):
        named.append(_count(len(senders) - len(named), "other"))
    if named:
        text += f" from {', '.join(named)}"
    if addressed := sum(entry.addressed for entry in news.entries):
        text += f", {addressed} of them for you"
    if news.removed:
        text += " (older ones are not kept any more)"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
