"""`threadbus certs`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from bus_client.cli.options import json_option
from bus_client.cli.output import Output
from bus_client.cli.session import run_verb
from bus_client.cli.text import safe
from threadbus.extras import install_command

_HOSTS = ("localhost", "127.0.0.1", "::1")
_DAYS = 365
# In the subject of each certificate.
_ORGANIZATION, _UNIT = "ThreadBus test certificates", "not for production"


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Another host name or IP address of the server; may be repeated.",
)
@json_option
def certs(folder: Path, hosts: tuple[str, ...], as_json: bool) -> int:
    """Make certificates to try TLS with. Not for production.

    Writes the certificate of a new CA (ca.pem), a certificate for the server with its key
    (server.pem, server.key) and one for clients (client.pem, client.key). The server's is for
    localhost, 127.0.0.1, ::1 and each --host. They expire after a year. The CA's key is not kept,
    so that nothing else can be issued. Overwrites nothing.

    \b
    Example:
      threadbus certs try-tls --host bus.example
    """
    out = Output(as_json)
    return run_verb(out, lambda: _make(folder, [*dict.fromkeys([*_HOSTS, *hosts])], out))


def _make(folder: Path, hosts: Sequence[str], out: Output) -> int:
    files = _issue(hosts)
    paths = {name: folder / name for name in files}
    for path in paths.values():
        if path.exists() or path.is_symlink():
            raise click.ClickException(f"{path} exists: remove it, or choose another folder.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, path in paths.items():
        _write(path, files[name], mode=0o600 if name.endswith(".key") else 0o644)
    serve = f"threadbus serve --tls-cert {_quoted(paths['server.pem'])} "
    serve += f"--tls-key {_quoted(paths['server.key'])}"
    client = f"threadbus whoami --server tls://localhost --ca-file {_quoted(paths['ca.pem'])}"
    shown = {
        "files": [str(path) for path in paths.values()],
        "hosts": list(hosts),
        "production": False,
        "try": [serve, client],
    }
    lines = [*(str(path) for path in paths.values()), serve, client]
    out.note(f"Test certificates, not for production, for {', '.join(hosts)}:")
    out.show(shown, map(safe, lines))
    return 0


def _issue(hosts: Sequence[str]) -> dict[str, bytes]:
    """Returns the contents of the files, by name."""
    try:
        import trustme
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"This needs {error.name}, which comes with the extra `certs`: "
            f"run {install_command('certs')}"
        ) from None
    ca = trustme.CA(organization_name=_ORGANIZATION, organization_unit_name=_UNIT)
    expires = datetime.now(UTC) + timedelta(days=_DAYS)

    def issue(*names: str, common_name: str) -> trustme.LeafCert:
        return ca.issue_cert(
            *names,
            common_name=common_name,
            organization_name=_ORGANIZATION,
            organization_unit_name=_UNIT,
            not_after=expires,
        )

    try:
        server = issue(*hosts, common_name="server")
    except ValueError as error:
        raise click.UsageError(f"--host: {error}.") from None
    client = issue("client.invalid", common_name="client")
    files = {"ca.pem": ca.cert_pem.bytes()}
    for name, made in (("server", server), ("client", client)):
        files[f"{name}.pem"] = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        files[f"{name}.key"] = _pkcs8(made.private_key_pem.bytes())
    return files


def _pkcs8(key: bytes) -> bytes:
    """Returns a private key in PKCS #8, the only format that all clients read."""
    # A dependency of trustme, imported only when needed.
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key, password=None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
