"""Runs the commands of a batch that failed apart, each in a transaction of its own.

So only those fail that must. A repeated post writes nothing, and succeeds on a full disk: a refusal
would say that the first attempt was not stored.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from bus_server.errors import BusError, StorageFull
from bus_server.store.commands import AppendMany, Command, Commit


def is_one(commands: Sequence[Command[Any]]) -> bool:
    """Returns whether a batch cannot be run apart: it is one command, and one of one post."""
    return len(commands) == 1 and not isinstance(commands[0], AppendMany)


def concerns_all(error: Exception) -> bool:
    """Returns whether an error of one command, as translated, is also that of any other."""
    return isinstance(error, BusError) and not isinstance(error, StorageFull)


def singles(commands: Iterable[Command[Any]]) -> list[Command[Any]]:
    """Returns the commands to run one by one. An AppendMany is several, one for each post."""
    return [
        single
        for command in commands
        for single in (command.posts if isinstance(command, AppendMany) else (command,))
    ]


def merged(commands: Iterable[Command[Any]], results: Iterable[Commit | Exception]) -> Commit:
    """Returns the Commit of commands that were run one by one.

    `results`: of each of `singles`, its Commit, or its error, which becomes its outcome.
    """
    whole, outcomes = Commit(), []
    for result in results:
        if isinstance(result, Exception):
            outcomes.append(result.without_traceback() if isinstance(result, BusError) else result)
            continue
        outcomes += result.outcomes
        result.outcomes.clear()
        whole.add(result)
    rest = iter(outcomes)
    for command in commands:
        if isinstance(command, AppendMany):
            whole.outcomes.append([next(rest) for _ in command.posts])
        else:
            whole.outcomes.append(next(rest))
    return whole
