"""A server's address: whether it is free, who can reach it, and who may connect."""

import contextlib
import errno
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bus_server import filesystem
from bus_server.settings import Settings

logger = logging.getLogger(__name__)

#: Maximum bytes of a Unix socket's path: the system's limit without the NUL.
MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107


#: The flags that turn TLS on together.
_PAIR = ("--tls-cert", "--tls-key")


class ServeError(Exception):
    """The server cannot start, or cannot go on. The message says why."""


def resolve(settings: Settings) -> tuple[Settings, str]:
    """Returns the settings with `auth` resolved, and who can reach the address.

    The latter is "unix socket", "loopback", or if other machines can reach it, "tls" or "insecure".
    With TLS on loopback it is "loopback, tls"; with TLS but without tokens, "insecure, tls".

    Raises:
        ServeError: the address is not valid; other machines can reach it, there is no TLS or no
            token is required, and `insecure` is not set; the settings of TLS do not go together; or
            the heartbeat interval is too long for the agent timeout.
    """
    tls = _has_tls(settings)
    if settings.listen.startswith("unix:"):
        reach, auth = "unix socket", settings.auth or "open"
        if tls:
            raise ServeError(
                f"--listen {settings.listen}: there is no TLS on a Unix socket, which only this "
                "machine can reach; leave out --tls-cert and --tls-key"
            )
    elif is_loopback(settings.listen):
        reach, auth = "loopback", settings.auth or "open"
    else:
        auth = settings.auth or "required"
        reach = "tls" if tls and auth == "required" else "insecure"
        if reach == "insecure" and not settings.insecure:
            raise ServeError(_unsafe(settings, tls=tls))
    if tls and reach != "tls":
        reach += ", tls"
    if bool(settings.console) != bool(settings.console_as):
        raise ServeError("--console and --console-as go together: say for whom the console acts")
    if settings.heartbeat_interval > settings.agent_timeout * 2 / 3:
        raise ServeError(
            f"--heartbeat-interval {settings.heartbeat_interval:g} is more than two thirds of "
            f"--agent-timeout {settings.agent_timeout:g}: agents would lapse when one heartbeat is "
            "late; raise the timeout, or lower the interval"
        )
    return replace(settings, auth=auth), reach


def _has_tls(settings: Settings) -> bool:
    """Returns whether the settings ask for TLS. Raises ServeError if they do so in part."""
    given = [settings.tls_cert, settings.tls_key]
    if None not in given:
        return True
    if given == [None, None] and settings.tls_client_ca is None:
        return False
    missing = [flag for flag, path in zip(_PAIR, given, strict=True) if path is None]
    present = next((flag for flag in _PAIR if flag not in missing), "--tls-client-ca")
    raise ServeError(f"{present} is given without {' and '.join(missing)}: TLS needs both files")


def _unsafe(settings: Settings, *, tls: bool) -> str:
    """Returns why the server does not listen beyond this machine, and what to do."""
    reach = f"{settings.listen} can be reached from other machines"
    if tls:
        return (
            f"{reach}, and --auth open lets anyone there read and post: use --auth required, or "
            "set --insecure if you trust the network"
        )
    return (
        f"{reach}, and there is no TLS: listen on 127.0.0.1, give --tls-cert and --tls-key, or set "
        "--insecure if you trust the network"
    )


def is_loopback(listen: str) -> bool:
    """Returns whether only this machine can reach an address.

    Raises ServeError if it is not HOST:PORT.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ServeError(f"--listen {listen}: use HOST:PORT or unix:PATH, such as 127.0.0.1:7421")
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def listen(settings: Settings, add_port: Callable[[str], int]) -> Iterator[int]:
    """Listen on the settings' address (context manager). Yields the port, or 1 for a Unix socket.

    Removes the Unix socket on exit, unless it was replaced: gRPC leaves it behind if its server was
    never started.

    Args:
        add_port: gRPC's `add_insecure_port`, or its `add_secure_port` with credentials.

    Raises:
        ServeError: the address is in use, or this process cannot listen on it for another reason.
    """
    if not settings.listen.startswith("unix:"):
        _check_free(settings)
        try:
            port = add_port(settings.listen)
        except RuntimeError as error:
            raise ServeError(_permission_error(settings) or _address_in_use(settings)) from error
        yield port
        return
    path = Path(settings.listen.removeprefix("unix:"))
    try:
        with _umask_for(settings.socket_mode), filesystem.lock_folder(_folder(settings, path)):
            _remove_stale_socket(path)
            port = add_port(settings.listen)
        made = path.lstat()
        if stat.S_IMODE(made.st_mode) != settings.socket_mode:
            path.chmod(settings.socket_mode)  # the folder's default ACL overrides the umask
    except RuntimeError as error:
        raise ServeError(_address_in_use(settings)) from error
    except OSError as error:
        reason = error.strerror or error
        raise ServeError(f"cannot listen on {settings.listen}: {reason}") from error
    try:
        yield port
    finally:
        with contextlib.suppress(OSError):
            now = path.lstat()
            if (now.st_ino, now.st_mtime_ns) == (made.st_ino, made.st_mtime_ns):
                path.unlink()


def risks(settings: Settings) -> list[str]:
    """Returns what other users could do to a Unix socket, in one sentence each; empty for TCP.

    Raises OSError if its folder cannot be read.
    """
    if not settings.listen.startswith("unix:"):
        return []
    folder = Path(settings.listen.removeprefix("unix:")).parent
    risk = filesystem.replaceable(folder, os.geteuid())
    return [risk] if risk else []


@contextlib.contextmanager
def _umask_for(mode: int) -> Iterator[None]:
    """Set the umask so that sockets are created with this mode (context manager)."""
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


def _folder(settings: Settings, path: Path) -> Path:
    """Returns the folder of a Unix socket. Raises ServeError if no socket can be created there."""
    size = len(os.fsencode(settings.listen.removeprefix("unix:")))
    if not path.name:
        raise ServeError(f"--listen {settings.listen} names no file: use one such as unix:bus.sock")
    if size > MAX_SOCKET_PATH:
        raise ServeError(
            f"--listen: the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes, and this "
            f"one has {size}: choose a shorter one, such as one relative to the current folder"
        )
    folder = path.parent
    if not folder.is_dir():
        raise ServeError(f"{folder} is not a folder: create it, or choose another --listen")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ServeError(
            f"{folder} is read-only: the socket needs a folder that the server can write to"
        )
    return folder


def _remove_stale_socket(path: Path) -> None:
    """Remove a socket that no process listens on. Does nothing if the path does not exist.

    Raises:
        ServeError: a process may be listening on it, or it is not a socket.
        OSError: it cannot be removed.
    """
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        what = "a file" if stat.S_ISREG(there.st_mode) else filesystem.kind_of(there)
        raise ServeError(f"{path} is {what}, not a socket: remove it, or choose another --listen")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        code = probe.connect_ex(str(path))
    if code != errno.ECONNREFUSED:
        raise ServeError(
            f"cannot listen on unix:{path}: it is taken (by another threadbus?); choose another "
            "--listen"
        )
    path.unlink()
    logger.info("removed the socket %s, which no process listened on", path)


def _check_free(settings: Settings) -> None:
    """Check that no process accepts connections on the port. Raises ServeError.

    gRPC would not fail: it would listen on those addresses of a host name that are free.
    """
    for family, address in _addresses(settings):
        with socket.socket(family) as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(address) == 0:
                raise ServeError(_address_in_use(settings))


def _addresses(settings: Settings) -> list[tuple[int, Any]]:
    """Returns the socket families and addresses to listen on.

    Empty for port 0, and if the host name cannot be resolved.
    """
    host, _, port = settings.listen.rpartition(":")
    if port == "0":
        return []
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return []  # gRPC will fail to bind it
    return [(family, address) for family, _, _, _, address in found]


def _permission_error(settings: Settings) -> str:
    """Returns an error message if this user may not listen on the port, else "".

    gRPC does not report the reason.
    """
    for family, address in _addresses(settings):
        with socket.socket(family) as probe:
            try:
                probe.bind(address)
            except PermissionError:
                return (
                    f"cannot listen on {settings.listen}: this user may not listen on port "
                    f"{address[1]}; choose 1024 or a higher one"
                )
            except OSError:
                continue  # it failed for another reason
    return ""


def _address_in_use(settings: Settings) -> str:
    return (
        f"cannot listen on {settings.listen}: it is taken (by another threadbus?) or not an "
        "address of this machine; choose another --listen"
    )
