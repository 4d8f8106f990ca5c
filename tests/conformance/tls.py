"""The certificates of a case with TLS."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.certificates import Pair, authority, credentials, other_authority


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a case's server; cases give the fields as `tls: {…}`."""

    #: The names in its certificate. Empty = localhost, 127.0.0.1 and ::1.
    names: Sequence[str] = ()
    #: It requires client certificates.
    client_ca: bool = False


class TlsFiles:
    """The files of such a server and its clients."""

    def __init__(self, tls: Tls, folder: Path) -> None:
        self._pair = authority().issue(*tls.names).save(folder)
        ca_file = authority().save(folder)
        #: The server's flags.
        self.flags = [
            *self._pair.flags,
            *(["--tls-client-ca", str(ca_file)] if tls.client_ca else []),
        ]
        client, other = (
            _in_pkcs8(each.issue("client.test")) for each in (authority(), other_authority())
        )
        #: What the runner's own calls use, and the name that they expect.
        self.name = tls.names[0] if tls.names else "localhost"
        self.credentials: grpc.ChannelCredentials = credentials(client)
        files, other_files = client.save(folder, "client"), other.save(folder, "other-client")
        empty_file = folder / "empty.pem"
        empty_file.touch()
        cut_file = folder / "cut.pem"
        cut_file.write_bytes(ca_file.read_bytes()[:200])
        #: The paths of the files, as the cases name them.
        self.paths = {
            "ca_file": str(ca_file),
            "other_ca_file": str(other_authority().save(folder, "other-ca.pem")),
            "client_cert": str(files.certificate),
            "client_key": str(files.key),
            "other_client_cert": str(other_files.certificate),
            "other_client_key": str(other_files.key),
            "empty_file": str(empty_file),
            "cut_file": str(cut_file),
            "missing_file": str(folder / "missing.pem"),
        }

    def change_ca(self) -> None:
        """Replace the server's certificate by one from a CA that clients do not trust."""
        pair = other_authority().issue()
        self._pair.replace(certificate=pair.certificate, key=pair.key)


def _in_pkcs8(pair: Pair) -> Pair:
    """Returns the pair with its key in the only format that grpc-java reads."""
    key = load_pem_private_key(pair.key, None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(pair.certificate, pem)
