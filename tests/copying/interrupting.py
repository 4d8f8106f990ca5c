"""Copies that are interrupted after a step."""

from pathlib import Path

from bus_server.copy import copier
from bus_server.copy.copier import Copied, Progress
from bus_server.store.opening import open_copy
from tests.copying.stores import Place


class Interrupted(Exception):
    """Raised where a copy is interrupted."""


def opened(place: Place) -> str | Path:
    """Returns the place as the command passes it on."""
    return place.url or place.db


def copy(source: Place, target: Place, *, steps: int = 1 << 30) -> Copied:
    """Copy a store in this process. Raises Interrupted after so many steps."""
    left = steps

    def report(_: Progress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Interrupted

    with open_copy(opened(source), opened(target)) as (from_, to):
        return copier.copy(from_, to, report)
