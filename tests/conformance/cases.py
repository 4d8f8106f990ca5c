"""The cases: what a bus must do for a client in any language, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    """A case of a file in `cases/`; its README says how one is written."""

    name: str
    title: str
    steps: Sequence[dict[str, Any]]
    #: Flags of a server of its own. None = the one that is there for all.
    server: Sequence[str] | None = None
    #: The client reaches the server through a relay that can be cut.
    relay: bool = False
    #: A server that plays a part, in place of a real one.
    script: str = ""
    #: It takes a minute.
    soak: bool = False
    #: Languages in which it cannot happen.
    without: Sequence[str] = ()


class _Loader(yaml.SafeLoader):
    """YAML, and `!repeat [text, times]` for long texts."""


def _repeat(loader: yaml.Loader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.SequenceNode)
    text, times = loader.construct_sequence(node)
    return str(text) * int(times)


_Loader.add_constructor("!repeat", _repeat)


def load() -> list[Case]:
    """All cases, in the order of the files and in them."""
    return [
        Case(**case)
        for file in sorted(FOLDER.glob("*.yaml"))
        for case in yaml.load(file.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    ]
