"""Hints between the servers on one database file, as Unix datagrams.

Each server has a socket in the folder FILE-hints, beside the file.
"""

import asyncio
import contextlib
import errno
import json
import logging
import os
import secrets
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from bus_server import filesystem
from bus_server.store import hints
from bus_server.store.interface import OnHint

logger = logging.getLogger(__name__)

#: Maximum number of threads in a datagram, and of bytes that these can take.
THREADS, MAX_BYTES = 200, 65_536
#: Maximum number of datagrams to receive before other tasks get a turn.
PER_TURN = 10
#: Seconds after which a hint is sent again for which another server's queue had no room. Doubled
#: each time, up to MAX_RETRY_DELAY. Linux has room for ten datagrams by default.
RETRY_DELAY, MAX_RETRY_DELAY = 0.005, 1.0
#: Seconds between checks of whether this server's socket can be reached, or created at last.
CHECK_INTERVAL = 5.0
#: Seconds after a change of the folder in which further changes may not show in its mtime.
MTIME_RESOLUTION = 1.0

_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)


class _Peer:
    """The connection to another server's socket, and the hints for it that are not sent yet."""

    __slots__ = ("delay", "pending", "socket", "timer")

    def __init__(self, path: str) -> None:
        """Connect to the socket at `path`. Raises OSError."""
        # One socket for each peer: what a stopped peer does not read fills the sender's buffer.
        self.socket = _new_socket()
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        #: As in `Waker.publish`, of several commits.
        self.pending: dict[str, int] = {}
        self.delay = RETRY_DELAY
        #: Set while `pending` waits to be sent again.
        self.timer: asyncio.TimerHandle | None = None

    def add(self, changed: Mapping[str, int]) -> None:
        """Add a hint to `pending`."""
        hints.merge(self.pending, changed)

    def send(self) -> None:
        """Send what is pending; again later, if the peer's queue is full. Raises OSError."""
        self.timer = None
        try:
            while self.pending:
                part = hints.first(self.pending, THREADS)
                self.socket.send(json.dumps(part).encode())
                self.delay = RETRY_DELAY
                for thread in part:
                    del self.pending[thread]
        except OSError as error:
            if error.errno not in _FULL:
                raise

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.socket.close()


class DatagramWaker:
    """A Waker over Unix datagrams. Use it on the event loop only."""

    def __init__(self, db: Path) -> None:
        """`db`: the database file."""
        self._folder = filesystem.beside(db, "-hints")
        self._name = ""
        #: None while there is no socket. The descriptor is that of the open folder.
        self._socket: socket.socket | None = None
        self._descriptor = -1
        #: By the names of their sockets.
        self._peers: dict[str, _Peer] = {}
        #: The folder's mtime when it was last listed, and until when, on the event loop's clock, it
        #: must be listed although its mtime is the same.
        self._listed_mtime = 0
        self._list_until = 0.0
        #: Whether a datagram has arrived since the last check.
        self._heard = False

    def publish(self, changed: Mapping[str, int]) -> None:
        if self._socket is None or not changed:
            return
        self._list_peers()
        for name, peer in list(self._peers.items()):
            peer.add(changed)
            if peer.timer is None:
                self._send(name, peer)

    async def run(self, on_hint: OnHint) -> None:
        warned = False
        try:
            while True:
                try:
                    self._open(on_hint)
                except OSError as error:
                    if not warned:
                        logger.warning(
                            "%s cannot be used (%s): what other servers write is only seen at "
                            "the next --fallback-interval",
                            self._folder,
                            error.strerror or error,
                        )
                    warned = True
                    await asyncio.sleep(CHECK_INTERVAL)
                else:
                    warned = False
                    await self._until_unreachable()
                self._close()
        finally:
            self._close()

    # ── Private ─────────────────────────────────────────────────────────────────────────────────

    def _open(self, on_hint: OnHint) -> None:
        """Create a socket, and the folder if there is none. Raises OSError."""
        try:
            self._bind()
        except FileNotFoundError:  # another server, which stopped, has just removed the folder
            self._close()
            self._bind()
        self._send_to_itself()
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._socket, self._receive, self._socket, on_hint)
        self._list_peers()  # to remove the sockets of servers that were killed

    def _bind(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
            self._folder.chmod(0o700)  # whatever the umask
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._folder, flags)
        status = os.fstat(self._descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            # Whoever can make a socket there learns the names of threads.
            raise PermissionError(errno.EPERM, "another user can write to it")
        # A new name each time: something that cannot be removed may have the old one.
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._socket = _new_socket()
        self._socket.bind(self._path(self._name))

    def _close(self) -> None:
        """Remove the socket, and the folder if no other server uses it."""
        for peer in self._peers.values():
            peer.close()
        self._peers = {}
        self._listed_mtime = 0
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._remove(self._name)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _remove(self, name: str) -> None:
        """Remove a socket from the folder, but nothing else."""
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISSOCK(found.st_mode):
                os.unlink(name, dir_fd=self._descriptor)

    def _path(self, name: str) -> str:
        """Returns a path of a socket in the folder. A socket's address has at most 107 bytes."""
        path = f"/proc/self/fd/{self._descriptor}"
        return f"{path if os.path.isdir(path) else self._folder}/{name}"  # noqa: PTH112

    def _list_peers(self) -> None:
        """Update `_peers` with the sockets in the folder, if it may have changed."""
        now, mtime = asyncio.get_running_loop().time(), os.fstat(self._descriptor).st_mtime_ns
        if mtime != self._listed_mtime:
            self._listed_mtime, self._list_until = mtime, now + MTIME_RESOLUTION
        elif now >= self._list_until:
            return
        try:
            names = set(os.listdir(self._descriptor)) - {self._name}  # noqa: PTH208
            for name in names - self._peers.keys():
                self._connect(name)
        except OSError:  # there are no more file descriptors: try again next time
            self._listed_mtime = 0
            return
        for name in self._peers.keys() - names:
            self._peers.pop(name).close()

    def _connect(self, name: str) -> None:
        """Add a peer. Raises OSError if there are no more file descriptors."""
        try:
            self._peers[name] = _Peer(self._path(name))
        except ConnectionRefusedError:  # its server was killed, or it is no socket
            self._remove(name)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise

    def _send(self, name: str, peer: _Peer) -> None:
        try:
            peer.send()
        except OSError as error:
            self._peers.pop(name, None)
            peer.close()
            if isinstance(error, ConnectionRefusedError):  # its server was killed
                self._remove(name)
            return
        if peer.pending:
            loop = asyncio.get_running_loop()
            peer.timer = loop.call_later(peer.delay, self._send, name, peer)
            peer.delay = min(2 * peer.delay, MAX_RETRY_DELAY)

    def _receive(self, own: socket.socket, on_hint: OnHint) -> None:
        for _ in range(PER_TURN):
            try:
                data = own.recv(MAX_BYTES)
            except OSError:
                return  # there are no more
            self._heard = True
            if changed := hints.parse(data):
                on_hint(changed)

    async def _until_unreachable(self) -> None:
        """Check every CHECK_INTERVAL whether other servers can reach this one; return if not.

        Its socket, or the folder, was removed or replaced then.
        """
        reachable = True
        while reachable:
            self._heard = False
            try:
                self._send_to_itself()
            except OSError:
                reachable = False
            await asyncio.sleep(CHECK_INTERVAL)
            reachable = reachable and self._heard

    def _send_to_itself(self) -> None:
        """Send an empty hint to this server, as another would. Raises OSError."""
        if not os.path.samestat(self._folder.stat(), os.fstat(self._descriptor)):
            raise FileNotFoundError(errno.ENOENT, "the folder was replaced")
        try:
            if self._socket is not None:
                self._socket.sendto(b"{}", self._path(self._name))
        except OSError as error:
            if error.errno not in _FULL:
                raise


def _new_socket() -> socket.socket:
    """Returns a socket for datagrams that does not block. Raises OSError."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.setblocking(False)
    return opened
