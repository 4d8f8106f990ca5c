"""The server's certificate and key: read, checked, and taken up again when their files change.

Checked with the standard library: the key fits the certificate, both can serve a TLS connection,
and the certificate is valid now. One that has expired, or is not valid yet, is refused like any
other that does not work. At start, that ends the server: unlike nginx, which starts with it, as no
client that checks certificates could connect. While the server runs, the pair in use is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import ssl
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from bus_server import filesystem, logs
from bus_server.listening import ServeError
from bus_server.settings import Settings

logger = logging.getLogger(__name__)

#: Maximum bytes of a file.
MAX_BYTES = 1024 * 1024

#: Seconds between two looks at the files.
CHECK_INTERVAL = 0.5

#: X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which `ssl` has no name for.
_NO_CHECK_TIME = 0x200000
#: How public keys begin that gRPC's own TLS library does not accept.
_NOT_FOR_GRPC = {
    bytes.fromhex("302a300506032b6570032100"): "Ed25519",
    bytes.fromhex("3043300506032b6571033a00"): "Ed448",
    bytes.fromhex("06072a8648ce3d020106052b81040023"): "ECDSA with the curve P-521",
}
#: What OpenSSL says of a key that belongs to another certificate.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class _Unusable(Exception):
    """The files cannot be used. The message names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A certificate and key that were checked, as PEM, and the CA of clients, if any.

    `expires`: when the certificate expires, in seconds since the epoch.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires: float

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)], self.client_ca
        )


class Certificates:
    """The certificate, key and client CA of a server, in files that may change.

    gRPC calls `_fetch` in threads of its own, once for each new connection.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Read the files. Raises ServeError if they cannot be used; the message says why."""
        self._files = (certificate, key, *([client_ca] if client_ca else []))
        self._state = self._look()
        try:
            self._loaded = self._load()
        except _Unusable as error:
            raise ServeError(str(error)) from error
        self._failure = self._warned = ""
        #: What gRPC does not have yet; None: it has what is in use.
        self._fresh: grpc.ServerCertificateConfiguration | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Returns credentials for a port. Its next connections get what watch_forever() loads."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded.configuration(),
            self._fetch,  # type: ignore[arg-type]  # which may return None, says gRPC
            require_client_authentication=self._loaded.client_ca is not None,
        )

    async def watch_forever(self) -> None:
        """Take up the files when they change, and log it; runs until cancelled.

        Files that cannot be used leave what is in use: the log says why, once, unless they are in
        order at the next look, as while they are being replaced one after the other.
        """
        expired = False
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if not expired and time.time() > self._loaded.expires:
                expired = True
                logger.warning(
                    "the certificate in %s has expired: put a new one in its place, with its key",
                    self._files[0],
                )
            state = self._look()
            if state == self._state and not self._failure:
                continue
            self._state = state
            try:
                loaded = await asyncio.to_thread(self._load)
            except _Unusable as error:
                failure = str(error)
                if failure == self._failure != self._warned:
                    logger.warning("%s. The server goes on with those it has", failure)
                    self._warned = failure
                self._failure = failure
                continue
            if self._warned or loaded != self._loaded:
                until = time.gmtime(loaded.expires)
                logs.event(
                    logger,
                    logging.INFO,
                    "certificate_reloaded",
                    "new connections use the certificate in %s, which is valid until %s",
                    self._files[0],
                    time.strftime("%Y-%m-%d %H:%M:%S UTC", until),
                    file=self._files[0],
                    expire_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", until),
                )
            self._failure = self._warned = ""
            self._loaded, self._fresh, expired = loaded, loaded.configuration(), False

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns what new connections use from now on; None: what they used before."""
        fresh, self._fresh = self._fresh, None
        return fresh

    def _look(self) -> list[tuple[int, ...]]:
        """Returns what shows whether the files have changed."""
        return [_status(path) for path in self._files]

    def _load(self) -> _Loaded:
        """Returns what is in the files. Raises _Unusable."""
        certificate_file, key_file = self._files[:2]
        before = self._look()
        certificate, key = _read(certificate_file), _read(key_file)
        client = _trusting(certificate_file, certificate, "a certificate")
        expires = _check_pair(certificate_file, key_file, key, client)
        client_ca = None
        for path in self._files[2:]:
            client_ca = _read(path)
            _check_ca(path, client_ca)
        # OpenSSL has read the files again: what it checked must be what was read.
        if self._look() != before:
            raise _Unusable(f"{certificate_file} or {key_file} was changed while it was read")
        return _Loaded(certificate, key, client_ca, expires)


def certificates(settings: Settings) -> Certificates | None:
    """Returns the certificates of the settings; None: the server has no TLS. Raises ServeError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def risks(settings: Settings) -> list[str]:
    """Returns how other users could read or replace the key, in one sentence each.

    A key that its group may read counts as meant.
    """
    if settings.tls_key is None:
        return []
    key, uid, found = settings.tls_key.resolve(), os.geteuid(), []
    try:
        status, folder = key.stat(), filesystem.replaceable(key.parent, uid)
    except OSError as error:
        return [f"cannot examine {key}: {error.strerror or error}"]
    if status.st_mode & stat.S_IRWXO:
        found.append(f"any user of this machine can read or change the key {key}: chmod o= {key}")
    if status.st_uid not in (0, uid):
        found.append(f"the key {key} belongs to {filesystem.user(status.st_uid)}, who can use it")
    return [*found, folder] if folder else found


def _status(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: Path) -> bytes:
    """Returns what is in a file. Raises _Unusable."""
    try:
        # NONBLOCK: opening a named pipe would hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                kind = filesystem.kind_of(status)
                raise _Unusable(f"{path} is {kind}: name a file in PEM format")
            found = os.read(handle, MAX_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        advice = "check the path" if error.errno == errno.ENOENT else "check its permissions"
        raise _Unusable(f"cannot read {path}: {error.strerror or error}; {advice}") from error
    if len(found) > MAX_BYTES:
        raise _Unusable(f"{path} is larger than 1 MiB: name a file in PEM format")
    if not found.strip():
        raise _Unusable(f"{path} is empty: put what it should contain into it, in PEM format")
    return found


def _trusting(path: Path, pem: bytes, what: str) -> ssl.SSLContext:
    """Returns a context that trusts the certificates in a file. Raises _Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise _Unusable(
            f"{path} is not {what} in PEM format, or it is cut off or damaged: put a whole one in "
            "its place"
        ) from error
    return context


def _check_ca(path: Path, pem: bytes) -> None:
    """Check that a file has CA certificates of which one is valid. Raises _Unusable."""
    found = _trusting(path, pem, "a CA certificate").get_ca_certs()
    if not found:
        raise _Unusable(
            f"{path} has no certificate of a CA: name the one that has issued those of the clients"
        )
    now = time.time()
    if all(ssl.cert_time_to_seconds(str(each["notAfter"])) < now for each in found):
        raise _Unusable(f"the CA certificate in {path} has expired: put a new one in its place")


def _check_pair(
    certificate_file: Path, key_file: Path, key: bytes, client: ssl.SSLContext
) -> float:
    """Check that a key fits its certificate, and that `client`, which trusts it, can connect now.

    Returns when the certificate expires, in seconds since the epoch. Raises _Unusable.
    """
    encrypted = False

    def passphrase() -> str:
        nonlocal encrypted
        encrypted = True
        return ""

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate_file, key_file, passphrase)
    except ssl.SSLError as error:
        if encrypted:
            why = (
                "is encrypted, and the server has no passphrase for it: decrypt it with "
                f"openssl pkey -in {key_file} -out FILE, and name that file"
            )
        elif error.reason in _MISMATCHES:
            why = f"does not belong to the certificate in {certificate_file}: name a pair that fits"
        elif b"PRIVATE KEY-----" not in key:
            why = "has no private key in PEM format: name the file of the certificate's key"
        else:
            why = "cannot be used, as it is cut off or damaged: put the whole key in its place"
            if error.reason and "TOO_SMALL" in error.reason:
                why = "is too short to be safe: make a new pair"
        raise _Unusable(f"the key in {key_file} {why}") from error
    except OSError as error:  # it was removed since it was read
        raise _Unusable(f"cannot read {key_file}: {error.strerror or error}") from error
    begins, expires = _validity(certificate_file, client, server)
    now = time.time()
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(expires if now > expires else begins))
    if now > expires:
        raise _Unusable(
            f"the certificate in {certificate_file} expired on {when}: put a new one in its place, "
            "with its key"
        )
    if now < begins:
        raise _Unusable(
            f"the certificate in {certificate_file} is not valid before {when}: check this "
            "machine's clock, or put another one in its place, with its key"
        )
    return expires


def _validity(path: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[float, float]:
    """Returns from when to when a server's certificate is valid, in seconds since the epoch.

    `client`, which trusts the certificate, connects to `server` in memory: the standard library
    decodes only certificates that it has verified. Raises _Unusable if that fails.
    """
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    try:
        for side in 3 * sides:
            _advance(side.do_handshake)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or error
        raise _Unusable(
            f"the certificate in {path} cannot serve TLS ({why}): name one made for servers"
        ) from error
    encoded = sides[0].getpeercert(binary_form=True) or b""
    for beginning, kind in _NOT_FOR_GRPC.items():
        if beginning in encoded:
            raise _Unusable(
                f"the certificate in {path} has a key of {kind}, with which gRPC cannot connect: "
                "name one with a key of ECDSA (P-256) or RSA"
            )
    found = sides[0].getpeercert() or {}
    times = (str(found["notBefore"]), str(found["notAfter"]))
    begins, expires = (float(ssl.cert_time_to_seconds(each)) for each in times)
    return begins, expires


def _advance(handshake: Callable[[], None]) -> None:
    """Run a handshake until it needs what the other side has not sent yet."""
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake()
