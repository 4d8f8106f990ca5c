"""The bytes of attachments: left out of what a verb prints, or saved in a folder."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bus_client.cli.text import replace_unsafe

if TYPE_CHECKING:
    from bus_client import Message

#: Bytes of a file name that a number may be added to, as names have at most 255; and of an ending
#: such as .txt, before which the number is added.
_LONGEST_NAME, _LONGEST_SUFFIX = 240, 20


def take_files(
    messages: Iterable[Message], folder: Path | None
) -> dict[tuple[str, int], list[str]]:
    """Remove the bytes of all attachments, and save them in `folder` unless it is None.

    Returns the paths of the files, by thread and seq: one for each attachment, empty if it has no
    bytes. The folder is created if needed. A file of the sender's name gets a number if there is
    another one; no file is replaced.

    Raises:
        OSError: A file cannot be written.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for message in messages:
        for file in message.attachments:
            if folder is not None:
                has_bytes = file.WhichOneof("content") == "raw"
                path = _save(folder, file.filename, file.raw) if has_bytes else ""
                found.setdefault((message.thread, message.seq), []).append(path)
            file.ClearField("raw")
    return found


def _save(folder: Path, name: str, data: bytes) -> str:
    """Save a file under a safe name. Returns its path, also if it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in _paths(folder, name):
        try:
            stream = path.open("xb")  # does not follow a link
        except FileExistsError:
            if _holds(path, data):
                return str(path)
            continue
        try:
            with stream:
                stream.write(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return str(path)
    raise AssertionError("there is always another path")


def _holds(path: Path, data: bytes) -> bool:
    """Returns whether `path` is a file with these bytes."""
    same_size = path.is_file() and path.stat().st_size == len(data)
    return same_size and path.read_bytes() == data


def _paths(folder: Path, name: str) -> Iterator[Path]:
    """Yields paths for a file that was sent with this name: a.txt, a-2.txt, a-3.txt, …

    None is outside the folder, hidden, or taken for an option; none has invisible characters.
    """
    name = re.sub(r"[/\\]", "_", replace_unsafe(name, "_")) or "file"
    if name[0] in ".-":
        name = f"_{name}"
    whole = Path(name)
    suffix = whole.suffix if len(whole.suffix.encode()) <= _LONGEST_SUFFIX else ""
    stem = name.removesuffix(suffix).encode()[: _LONGEST_NAME - len(suffix.encode())]
    beginning = stem.decode(errors="ignore")
    yield folder / f"{beginning}{suffix}"
    for number in itertools.count(2):
        yield folder / f"{beginning}-{number}{suffix}"
