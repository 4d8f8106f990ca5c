"""The cases, as data: what a client in any language must be able to rely on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.tls import Tls

FOLDER = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    """A case of a file in `cases/`; README.md describes the format."""

    name: str
    title: str
    steps: Sequence[dict[str, Any]]
    #: Flags of a server of its own. None = the shared server.
    server: Sequence[str] | None = None
    #: The server uses TLS, and is one of its own.
    tls: Tls | None = None
    #: The client reaches the server through a relay that can be cut.
    relay: bool = False
    #: The name of a scripted server to use instead of a real one.
    script: str = ""
    #: It takes a minute.
    soak: bool = False
    #: Languages that it does not apply to.
    without: Sequence[str] = ()


class _Loader(yaml.SafeLoader):
    """Loads YAML with `!repeat [text, times]` for long texts."""


def _repeat(loader: yaml.Loader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.SequenceNode)
    text, times = loader.construct_sequence(node)
    return str(text) * int(times)


_Loader.add_constructor("!repeat", _repeat)


def load() -> list[Case]:
    """Return all cases, in the order of the files and within them."""
    return [
        Case(**case | ({"tls": Tls(**case["tls"])} if "tls" in case else {}))
        for file in sorted(FOLDER.glob("*.yaml"))
        for case in yaml.load(file.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    ]
