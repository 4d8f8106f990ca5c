"""The credentials file: the tokens of this user's agents, as JSON, server → agent → token.

`localhost` and `127.0.0.1` count as one server, and so do the relative and absolute path of a Unix
socket. With TLS and without, an address counts as two: a token of one is never sent to the other.

Several processes may use it at once: an advisory lock on a file beside it serialises changes, and
each change replaces it atomically. Functions that change it block for a few file writes, and up to
10 s while another process holds the lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from bus_client.address import endpoint, host_of
from bus_client.errors import CredentialsError

_LOCK_TIMEOUT = 10.0  # seconds to wait for another process that holds the lock
_LOCK_POLL = 0.05  # seconds between two attempts to lock
_LOOPBACK = ("localhost", "127.0.0.1")

#: The lock file that this process is waiting for, or None; see awaited().
_awaited: Path | None = None


def default_path() -> Path:
    """Returns the path in the environment variable THREADBUS_CREDENTIALS.

    If it is not set, returns the path of `credentials.json` in the user's data directory.

    Raises:
        CredentialsError: HOME or XDG_DATA_HOME does not lead to an absolute path of that directory.
    """
    if named := os.environ.get("THREADBUS_CREDENTIALS"):
        return Path(named)
    variable = "XDG_DATA_HOME" if os.environ.get("XDG_DATA_HOME") else "HOME"
    folder = os.environ.get(variable)
    if folder is not None and not Path(folder).is_absolute():
        raise CredentialsError(
            f"The agent's token cannot be stored: {variable} is {folder!r}, which is not an "
            "absolute path."
        )
    with suppress(RuntimeError):
        path = platformdirs.user_data_path("threadbus") / "credentials.json"
        if path.is_absolute():
            return path
    raise CredentialsError(
        "The agent's token cannot be stored: neither HOME nor XDG_DATA_HOME is set."
    )


def agent_token(path: Path, server: str, agent: str) -> str:
    """Returns the token of `agent` at `server`; creates and saves one if there is none.

    Raises:
        CredentialsError: The file cannot be read or written, or is not safe.
    """
    return obtain_token(path, server, agent)[0]


def obtain_token(path: Path, server: str, agent: str) -> tuple[str, bool]:
    """Returns the same token as agent_token(), and whether this call created it.

    Raises:
        CredentialsError: As in agent_token().
    """
    kept = kept_token(path, server, agent)  # needs no write permission
    if kept is not None:
        return kept, False
    with _open(path) as file:
        address, token = _find(file.tokens, server, agent)
        if token is not None:
            return token, False
        token = new_token()
        file.tokens.setdefault(address, {})[agent] = token
        file.save()
    return token, True


def keep_token(path: Path, server: str, agent: str, token: str) -> None:
    """Save `token` for `agent` at `server`, replacing any earlier one.

    Raises:
        CredentialsError: The file cannot be read or written, or is not safe.
    """
    with _open(path) as file:
        address, _ = _find(file.tokens, server, agent)
        for other in addresses(server):
            file.tokens.get(other, {}).pop(agent, None)
        file.tokens.setdefault(address, {})[agent] = token
        file.save()


def forget_token(path: Path, server: str, agent: str, token: str) -> None:
    """Remove the token of `agent` at `server` if it equals `token`.

    Raises:
        CredentialsError: The file cannot be read or written, or is not safe.
    """
    with _open(path) as file:
        address, kept = _find(file.tokens, server, agent)
        if kept != token:
            return
        del file.tokens[address][agent]
        if not file.tokens[address]:
            del file.tokens[address]
        file.save()


def kept_token(path: Path, server: str, agent: str) -> str | None:
    """Returns the token of `agent` at `server`; None if there is none. Does not lock the file.

    Raises:
        CredentialsError: The file cannot be read, or is not safe.
    """
    with _errors(path):
        return _find(_load(_real(path)), server, agent)[1]


def kept_tokens(path: Path, server: str) -> dict[str, str]:
    """Returns the tokens of all agents at `server`, by agent. Does not lock the file.

    Raises:
        CredentialsError: As in kept_token().
    """
    found: dict[str, str] = {}
    with _errors(path):
        tokens = _load(_real(path))
        for address in reversed(addresses(server)):
            found |= tokens.get(address, {})
    return found


def given_token(file: str | os.PathLike[str] | None) -> str | None:
    """Returns the token in `file`, or if that is None, in THREADBUS_TOKEN; None if that is not set.

    Raises:
        CredentialsError: Other users can read or write the file.
        ValueError: The text is not a token.
        OSError: The file cannot be read.
    """
    if file is None:
        source, token = "THREADBUS_TOKEN", os.environ.get("THREADBUS_TOKEN", "")
    else:
        _check_token_file(Path(file))
        source = f"--token-file {file}"
        token = Path(file).read_text("utf-8", "replace").strip()
    if (file or token) and not re.fullmatch("[!-~]+", token):
        raise ValueError(f"{source} is not a token: printable ASCII without spaces")
    return token or None


def _check_token_file(file: Path) -> None:
    """Raise CredentialsError if others have any permission on the file, as ssh does for keys.

    Accepts any file that is not regular, or that the user does not own or cannot write.
    """
    status = file.stat()
    changeable = status.st_uid == os.geteuid() and os.access(file, os.W_OK)
    if not stat.S_ISREG(status.st_mode) or not changeable:
        return  # a pipe, or a mounted secret, whose mode its readers cannot change
    if stat.S_IMODE(status.st_mode) & 0o077:
        error = CredentialsError(f"Other users can read or write the token in {file}.")
        error.hint = f"chmod 600 {file}"
        raise error


def new_token() -> str:
    """Returns a new token: 256 random bits, in characters that every server accepts."""
    return secrets.token_urlsafe(32)


def awaited() -> Path | None:
    """Returns the lock file that this process is waiting for; None if it waits for none."""
    return _awaited


def addresses(server: str) -> list[str]:
    """Returns the addresses under which tokens of `server` may be, the one for new tokens first."""
    scheme, _, path = server.partition("unix:")
    if not scheme and path:
        return list(dict.fromkeys([f"unix:{Path(path).absolute()}", server]))
    host = host_of(server).lower()
    if host not in _LOOPBACK:
        return [server]
    where = endpoint(server)
    scheme, port = server.removesuffix(where), where.rpartition(":")[2]
    return list(dict.fromkeys(f"{scheme}{each}:{port}" for each in (host, *_LOOPBACK)))


def _find(tokens: dict[str, dict[str, str]], server: str, agent: str) -> tuple[str, str | None]:
    """Returns the address under which an agent's token is or would be, and the token if any."""
    possible = addresses(server)
    for address in possible:
        token = tokens.get(address, {}).get(agent)
        if token is not None:
            return address, token
    return possible[0], None


class _File:
    """The locked credentials file. Change `tokens`, then save()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tokens = _load(path)

    def save(self) -> None:
        """Replace the file atomically and durably. Raises OSError."""
        path = self._path
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self.tokens, file, indent=2, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # so that the rename survives a crash
        finally:
            os.close(directory)


@contextmanager
def _open(path: Path) -> Iterator[_File]:
    """Context manager that locks the file, for a change. Raises CredentialsError."""
    with _errors(path):
        path = _real(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            yield _File(path)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Context manager that raises CredentialsError for an OSError, or for a NUL in the path."""
    try:
        yield
    except OSError as error:
        raise CredentialsError(
            f"The agent's token cannot be kept in {path}: {error.strerror or error}."
        ) from error
    except ValueError as error:  # a NUL in the path
        raise CredentialsError(f"{str(path)!r} is not a path: {error}.") from None


def _real(path: Path) -> Path:
    """Returns the path with symbolic links resolved, such as those of dotfile managers.

    Raises:
        CredentialsError: It is a symbolic link of another user, and the process is not root's.
        OSError: Symbolic links form a loop.
    """
    if path.is_symlink() and os.geteuid() not in (path.lstat().st_uid, 0):
        raise CredentialsError(f"{path} is a symbolic link of another user. Remove it.")
    try:
        return path.resolve()
    except RuntimeError:  # an OSError from Python 3.13 on
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    global _awaited
    # A separate file: a lock on the credentials file would be lost when that file is replaced.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        end = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise CredentialsError(
                        f"Another process has held {path} locked for {_LOCK_TIMEOUT:g} s."
                    ) from None
            _awaited = path
            time.sleep(_LOCK_POLL)
        _awaited = None
        yield
    finally:
        _awaited = None
        os.close(descriptor)


def _load(path: Path) -> dict[str, dict[str, str]]:
    try:
        # O_NONBLOCK: opening a FIFO must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    with os.fdopen(descriptor, "rb") as file:
        _check_status(path, os.fstat(descriptor))
        content = file.read()
    try:
        tokens = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise CredentialsError(f"{path} is not JSON ({why}). Fix it, or move it away.") from error
    if not isinstance(tokens, dict) or not all(
        isinstance(kept, dict) and all(isinstance(token, str) for token in kept.values())
        for kept in tokens.values()
    ):
        raise CredentialsError(
            f"{path} must map servers to agents, and agents to tokens. Fix it, or move it away."
        )
    return tokens


def _check_status(path: Path, status: os.stat_result) -> None:
    """Raises CredentialsError unless the file is a regular file that is safe, as ssh does for keys.

    Safe: the user owns it, and no one else may access it. Of the files of other users, only those
    of root are safe; to root, all are.
    """
    user, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise CredentialsError(f"{path} is not a regular file.")
    if user not in (status.st_uid, 0) and status.st_uid != 0:
        raise CredentialsError(f"{path} belongs to another user. Move it away.")
    # Users cannot change the mode of a file that root owns, such as a mounted secret.
    if status.st_uid == user and mode & 0o077:
        raise CredentialsError(
            f"Others may read or write the tokens in {path} (mode {mode:04o}): chmod 600 {path}"
        )
