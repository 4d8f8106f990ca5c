"""Named cursors of `threadbus wait`, kept in a folder beside the credentials, a file for each."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import bus_client
from bus_client import credentials
from bus_client.errors import CredentialsError

if TYPE_CHECKING:
    from bus_client import Cursor


@dataclass(frozen=True, slots=True)
class NamedCursor:
    """A cursor of an agent in a thread of a server. Any number of processes may use it.

    Its methods raise CredentialsError if its file cannot be used, and OSError.

    Attributes:
        server: The server's address. Addresses that share tokens share cursors.
        agent: The agent's name, or `anonymous`.
        thread: The thread's name.
        name: The cursor's name.
    """

    server: str
    agent: str
    thread: str
    name: str

    def read(self) -> Cursor | None:
        """Returns where the cursor is; None if it was never moved."""
        path = self._path()
        try:
            kept = json.loads(path.read_text("utf-8"))
            return bus_client.Cursor(
                thread=self.thread, after_seq=kept["after_seq"], epoch=kept["epoch"]
            )
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise CredentialsError(f"{path} is not a cursor. Remove it.") from error

    def move(self, cursor: Cursor, *, back: bool = False) -> None:
        """Move the cursor on, and not back in one epoch unless `back`."""
        path = self._path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            here = self.read()
            same = here is not None and here.epoch == cursor.epoch
            if here is not None and same and here.after_seq >= cursor.after_seq and not back:
                return
            kept = {
                **{"server": self.server, "agent": self.agent, "thread": self.thread},
                **{"name": self.name, "after_seq": cursor.after_seq, "epoch": cursor.epoch},
            }
            descriptor, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(kept, file)
            Path(temporary).replace(path)

    def _path(self) -> Path:
        beside = credentials.default_path()
        address = min(credentials.addresses(self.server))
        key = json.dumps([address, self.agent, self.thread, self.name])
        folder = beside.with_name(f"{beside.stem}.cursors")
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Context manager that keeps other processes from moving a cursor in the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
