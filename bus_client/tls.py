"""How a client speaks TLS: which CAs it trusts, and the certificate that it presents."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from bus_client.address import is_encrypted
from bus_client.requests import refuse


@dataclass(frozen=True, slots=True)
class Tls:
    """The files for TLS. They are read when a client connects.

    Attributes:
        ca_file: CA certificates in PEM format. None = those that gRPC comes with.
        client_cert: The client's certificate, for servers that require one. None = none.
        client_key: The key of `client_cert`. Both are given, or neither.
    """

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns gRPC's credentials.

        Raises:
            InvalidArgument: A file cannot be read, or does not have what it should.
        """
        roots = _read("ca_file", self.ca_file) if self.ca_file else None
        certificate = _read("client_cert", self.client_cert) if self.client_cert else None
        key = _read("client_key", self.client_key) if self.client_key else None
        self._context(roots)  # gRPC does not say what is wrong with the files
        return grpc.ssl_channel_credentials(roots, key, certificate)

    def credentials_for(self, address: str) -> grpc.ChannelCredentials | None:
        """Returns credentials() for a whole address that is encrypted, else None."""
        return self.credentials() if is_encrypted(address) else None

    def context(self) -> ssl.SSLContext:
        """Returns a context of the standard library with the same files.

        Raises:
            InvalidArgument: As in credentials().
        """
        return self._context(_read("ca_file", self.ca_file) if self.ca_file else _default_roots())

    def _context(self, roots: bytes | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        try:
            if roots is not None:
                context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):  # ValueError: it is empty
            refuse("ca_file", f"{self.ca_file} has no CA certificate in PEM format, or is cut off")
        try:
            if self.client_cert and self.client_key:
                context.load_cert_chain(self.client_cert, self.client_key, lambda: "")
        except OSError:
            refuse(
                "client_key",
                f"{self.client_cert} and {self.client_key} are not a certificate and its key in "
                "PEM format, without a passphrase",
            )
        return context


def tls_files(
    ca_file: str | os.PathLike[str] | None,
    client_cert: str | os.PathLike[str] | None,
    client_key: str | os.PathLike[str] | None,
) -> Tls:
    """Returns the files that BusClient was given, or that the environment names.

    Raises:
        InvalidArgument: One is not a path, or only one of certificate and key is given.
    """
    given = {"ca_file": ca_file, "client_cert": client_cert, "client_key": client_key}
    paths = {name: _path(name, value) for name, value in given.items()}
    for name, other in (("client_cert", "client_key"), ("client_key", "client_cert")):
        if paths[name] and not paths[other]:
            refuse(other, f"must be given with {name}: a client needs both files")
    return Tls(**paths)


def _path(name: str, value: str | os.PathLike[str] | None) -> Path | None:
    if value is None:
        value = os.environ.get(f"THREADBUS_{name.upper()}") or None
    try:
        return None if value is None else Path(value)
    except TypeError:
        refuse(name, f"must be a path, not {type(value).__name__}")


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        refuse(name, f"cannot read {path}: {getattr(error, 'strerror', None) or error}")


def _default_roots() -> bytes:
    """Returns the certificates that gRPC trusts if it is given none."""
    if named := os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        return _read("ca_file", Path(named))
    from importlib import resources  # takes a while to import, and is needed only after a failure

    return (resources.files("grpc") / "_cython/_credentials/roots.pem").read_bytes()
