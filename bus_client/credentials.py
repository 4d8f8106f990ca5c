"""The tokens of this user's agents: one JSON file, server → agent → token."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def default_path() -> Path:
    """`credentials.json` in the user's data directory (XDG_DATA_HOME counts)."""
    return platformdirs.user_data_path("threadbus") / "credentials.json"


def agent_token(path: Path, server: str, agent: str) -> str:
    """The token kept for `agent` at `server`; a new one, already saved, when there is none.

    Safe for several processes at once: they get the same token. It blocks for a few file writes.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_name(f"{path.name}.lock")):
        tokens = _load(path)
        token = tokens.get(server, {}).get(agent)
        if token is None:
            token = new_token()
            tokens.setdefault(server, {})[agent] = token
            _save(path, tokens)
    return token


def keep_token(path: Path, server: str, agent: str, token: str) -> None:
    """Keeps `token` for `agent` at `server` in place of the one before. It blocks as above."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_name(f"{path.name}.lock")):
        tokens = _load(path)
        tokens.setdefault(server, {})[agent] = token
        _save(path, tokens)


def kept_token(path: Path, server: str, agent: str) -> str | None:
    """The token kept for `agent` at `server`, if there is one. ValueError if the file is broken."""
    return _load(path).get(server, {}).get(agent)


def new_token() -> str:
    """A fresh token: 256 random bits, in characters that every server takes."""
    return secrets.token_urlsafe(32)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # A file of its own: a lock on the credentials themselves would be lost when they are replaced.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _load(path: Path) -> dict[str, dict[str, str]]:
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). Mend it, or move it away.") from error
    if not isinstance(tokens, dict) or not all(isinstance(kept, dict) for kept in tokens.values()):
        raise ValueError(f"{path} is not server → agent → token. Mend it, or move it away.")
    return tokens


def _save(path: Path, tokens: dict[str, dict[str, str]]) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(tokens, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename, too, has to outlive a crash
    finally:
        os.close(directory)
