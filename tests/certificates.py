"""Certificates for tests, issued by a CA that is made once per process."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme

NAMES = ("localhost", "127.0.0.1", "::1")
LONG_AGO = datetime.now(UTC) - timedelta(days=30)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes

    def save(self, folder: Path, name: str = "server") -> PairFiles:
        """Write both to new files in a folder."""
        files = PairFiles(folder / f"{name}.pem", folder / f"{name}.key")
        for path, pem in ((files.certificate, self.certificate), (files.key, self.key)):
            path.write_bytes(pem)
            path.chmod(0o600)
        return files


@dataclass(frozen=True, slots=True)
class PairFiles:
    """The files of a pair."""

    certificate: Path
    key: Path

    @property
    def flags(self) -> list[str]:
        """The flags of a server that has this pair."""
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]

    def replace(self, *, certificate: bytes | None = None, key: bytes | None = None) -> None:
        """Replace one or both atomically, the key first."""
        for path, pem in ((self.key, key), (self.certificate, certificate)):
            if pem is not None:
                new = path.with_name(f"{path.name}.new")
                new.write_bytes(pem)
                os.chmod(new, 0o600)  # noqa: PTH101
                new.replace(path)


class Authority:
    """A CA."""

    def __init__(self) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, **options: Any) -> Pair:
        """Issue a certificate for names; for those of this machine if none is given."""
        options = {"key_type": trustme.KeyType.ECDSA} | options
        made = self._ca.issue_cert(*(names or NAMES), **options)
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        return Pair(chain, made.private_key_pem.bytes())

    def save(self, folder: Path, name: str = "ca.pem") -> Path:
        """Write the CA's certificate to a new file in a folder."""
        path = folder / name
        path.write_bytes(self.pem)
        return path


@functools.cache
def authority() -> Authority:
    """The CA of most tests."""
    return Authority()


@functools.cache
def other_authority() -> Authority:
    """A CA that the first one's clients do not trust."""
    return Authority()


@functools.cache
def pair() -> Pair:
    """A pair for this machine's names."""
    return authority().issue()


def credentials(client: Pair | None = None) -> grpc.ChannelCredentials:
    """Returns what gRPC's own clients need to trust the first CA."""
    if client is None:
        return grpc.ssl_channel_credentials(authority().pem)
    return grpc.ssl_channel_credentials(authority().pem, client.key, client.certificate)


def presented(address: str) -> bytes:
    """Returns the certificate that a server presents to a new connection."""
    host, _, port = address.rpartition(":")
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port)), timeout=10))


def presents(address: str, expected: Pair) -> Callable[[], bool]:
    """Returns a function that tells whether a server presents the certificate of a pair."""
    first = expected.certificate.decode("ascii")
    return lambda: presented(address) == ssl.PEM_cert_to_DER_cert(first)
