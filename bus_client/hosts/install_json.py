"""Changes to JSON files of other programs: what is not ours stays, whatever happens.

A file that is not understood is left alone: one that does not parse, has comments or a key twice,
is large, or is not a regular file.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: A JSON object. Its values are not checked.
Document = dict[str, Any]

_LARGEST = 1024 * 1024  # bytes
_LOCK_TIMEOUT = 10.0  # seconds to wait for another process that changes a file of the folder
_LOCK_POLL = 0.02  # seconds between two attempts to lock
_ATTEMPTS = 10  # to change a file that another program keeps changing


class InstallError(Exception):
    """Something is not as an installation needs it. The message is a sentence for the user.

    Attributes:
        paste: What the user can add to a file by hand instead. Empty = nothing.
    """

    def __init__(self, message: str, *, paste: str = "") -> None:
        super().__init__(message)
        self.paste = paste


class NotUnderstood(InstallError):
    """A file holds something that we might destroy if we changed it. The message is what."""


def real_path(path: Path) -> Path:
    """Returns the absolute path of a file that need not exist, with symbolic links resolved.

    Raises:
        InstallError: Symbolic links form a loop, or a folder cannot be searched.
    """
    try:
        return path.resolve()
    except RuntimeError:  # a loop; an OSError from Python 3.13 on
        raise InstallError(f"{path}: {os.strerror(errno.ELOOP)}.") from None
    except OSError as error:
        raise InstallError(f"{path}: {error.strerror}.") from None


def read(path: Path) -> Document:
    """Returns the object in a file; an empty one if there is no file, or nothing in it.

    Raises:
        InstallError: The file cannot be read.
        NotUnderstood: It is not a JSON object as we write it.
    """
    return _parse(_content(path) or b"")


def check_parses(path: Path) -> None:
    """Check that a file of any size is JSON, or is not there.

    Raises:
        InstallError: It cannot be read.
        NotUnderstood: It is not JSON.
    """
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InstallError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise NotUnderstood("it is not JSON") from None


def check_writable(path: Path) -> None:
    """Check that a file can be replaced, or created with its folders, as far as can be told.

    Raises:
        InstallError: It cannot.
    """
    real = real_path(path)
    if real.exists() and not os.access(real, os.W_OK):
        raise InstallError(f"{path} cannot be written; it was left alone.")
    folder = real.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InstallError(f"{path} cannot be written: {folder} is not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InstallError(f"{path} cannot be written: {folder} does not permit it.")


def change(path: Path, edit: Callable[[Document], Document]) -> bool:
    """Replace the object in a file by `edit(object)`, atomically. Returns whether it has changed.

    Creates the file, with its folders, if there is none. Removes it if the new object is empty, and
    the old one was not. The file keeps its mode, owner, indentation and line ends; if it is a
    symbolic link, so does the file that it leads to. Other processes that call this for a file in
    the same folder wait. If another program changes the file in the meantime, `edit` is called
    again, with what it holds then; so `edit` must not change its argument.

    Raises:
        InstallError: The file cannot be read or written, or another program keeps changing it.
        NotUnderstood: See read(). `edit` may raise it, too.
    """
    real = real_path(path)
    try:
        if not real.parent.exists():
            if not edit({}):
                return False
            real.parent.mkdir(parents=True, exist_ok=True)
        with _locked(real.parent):
            for _ in range(_ATTEMPTS):
                before = _content(path)
                document = _parse(before or b"")
                wanted = edit(document)
                if wanted == document:
                    return False
                if _replace(real, before, _format(wanted, before or b"") if wanted else None):
                    return True
    except OSError as error:
        raise InstallError(f"{path} cannot be written: {error.strerror or error}.") from None
    raise InstallError(f"Another program keeps changing {path}. Try again.")


def _content(path: Path) -> bytes | None:
    """Returns the bytes of a file; None if there is none."""
    real = real_path(path)
    try:
        # O_NONBLOCK: opening a FIFO must not block.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotUnderstood("it is not a regular file")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise InstallError(f"{path} cannot be read: {error.strerror}.") from None
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST:
        raise NotUnderstood("it is larger than 1 MiB")
    return content


def _parse(content: bytes) -> Document:
    if not content.strip():
        return {}
    try:
        document = json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_float=_number,
            parse_constant=_number,
        )
    except json.JSONDecodeError as error:
        where = f"{error.msg}, line {error.lineno} column {error.colno}"
        raise NotUnderstood(f"it is not plain JSON, without comments ({where})") from None
    except UnicodeDecodeError:
        raise NotUnderstood("it is not UTF-8") from None
    except RecursionError:
        raise NotUnderstood("it is nested too deeply") from None
    except ValueError as error:  # of ours, or a number with too many digits
        raise NotUnderstood(str(error)) from None
    if not isinstance(document, dict):
        raise NotUnderstood("it is not a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> Document:
    """Returns an object; writing one that has a key twice would lose a value."""
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {twice!r} twice")
    return document


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it has the number {text}")
    return number


def _format(document: Document, like: bytes) -> bytes:
    """Returns the text of a document, indented as `like`, and with its line ends."""
    found = re.search(rb'\n([ \t]+)["}\]]', like)
    indent = found[1].decode() if found else "  "
    try:
        content = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can express
        content = json.dumps(document, indent=indent).encode()
    if not like.strip() or like.endswith(b"\n"):
        content += b"\n"
    return content.replace(b"\n", b"\r\n") if b"\r\n" in like else content


def _replace(real: Path, before: bytes | None, after: bytes | None) -> bool:
    """Replace a file's bytes, or remove it if `after` is None.

    Returns False, and does nothing, if it does not hold `before` any more.

    Raises:
        OSError: The file cannot be written.
    """
    if after is None:
        if _content(real) != before:
            return False
        real.unlink(missing_ok=True)
        return True
    beside = real.with_name(f".{real.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o666 if before is None else 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            file.flush()
            if before is not None:
                _copy_status(real, descriptor)
            os.fsync(descriptor)
        if _content(real) != before:
            return False
        beside.replace(real)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(real.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the rename survives a crash
    finally:
        os.close(folder)
    return True


def _copy_status(path: Path, descriptor: int) -> None:
    """Copy a file's owner, if permitted, and mode. No-op if it has gone."""
    with suppress(FileNotFoundError):
        status = path.stat()
        with suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Context manager that locks a folder against others that use it, which leaves no lock file.

    Raises:
        InstallError: Another process has held the lock for 10 s.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise InstallError(
                        f"Another process has held {folder} locked for {_LOCK_TIMEOUT:g} s."
                    ) from None
            except OSError:  # a file system that does not lock folders
                break
            time.sleep(_LOCK_POLL)
        yield
    finally:
        os.close(descriptor)
