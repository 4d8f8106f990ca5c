"""Where a console listens, and under which addresses browsers know it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

_ALL = ("0.0.0.0", "::")  # noqa: S104 - compared with what the user asks for


class Listen(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The type of an option HOST:PORT. Its value is the host and the port."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})", str(value))
        if found is None or int(found[2]) > 65_535:
            self.fail(f"{value!r} is not HOST:PORT, such as 127.0.0.1:7480.", param, ctx)
        return found[1].strip("[]"), int(found[2])


@dataclass(frozen=True, slots=True)
class Site:
    """Where a console listens, and how browsers know it.

    Attributes:
        listen: The host and the port; 0 = any free one.
        certificate, key: The files for HTTPS. None = HTTP.
        public_url: The address in browsers, which ends in a slash. None = as it listens.
    """

    listen: tuple[str, int]
    certificate: Path | None
    key: Path | None
    public_url: str | None

    @classmethod
    def of(
        cls,
        listen: tuple[str, int],
        certificate: Path | None,
        key: Path | None,
        url: str | None,
        *,
        insecure: bool,
    ) -> Site:
        """Returns the site of the options.

        Raises:
            click.UsageError: They do not go together, the URL is none, or other machines could
                reach the site by HTTP, and it is not `insecure`.
        """
        if (certificate is None) != (key is None):
            raise click.UsageError("--tls-cert and --tls-key go together.")
        if certificate is None and not insecure and not _is_this_machine(listen[0]):
            raise click.UsageError(
                f"{listen[0]} can be reached from other machines: add --tls-cert and --tls-key, or "
                "--insecure."
            )
        return cls(listen, certificate, key, None if url is None else _checked(url))

    @property
    def any_address(self) -> bool:
        """Whether browsers may know it by any IP address of this machine."""
        return self.public_url is None and self.listen[0] in _ALL

    def urls(self, port: int) -> list[str]:
        """Returns the addresses under which browsers know the console, the one to print first."""
        if self.public_url is not None:
            return [self.public_url]
        host = self.listen[0]
        if host in _ALL:
            names = [socket.gethostname(), "localhost"]
        elif _is_this_machine(host):
            names = [f"[{host}]" if ":" in host else host, "localhost"]
        else:
            names = [f"[{host}]" if ":" in host else host]
        scheme = "http" if self.certificate is None else "https"
        return [f"{scheme}://{name}:{port}/" for name in names]


def _is_this_machine(host: str) -> bool:
    """Returns whether only this machine reaches a host: `localhost`, or an address of loopback."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(url: str) -> str:
    """Returns an address of a web page, with a slash at its end. Raises click.UsageError."""
    try:
        parts = urlsplit(url)
        site = parts.netloc.lower().encode("idna").decode()  # as browsers send it
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        # The path is one of a cookie, too.
        valid = valid and re.fullmatch("[!-:<-~]*", parts.path) is not None
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or "@" in parts.netloc:
        raise click.UsageError(
            f"--public-url {url} is not the address of a page, such as https://bus.example.org/."
        )
    return f"{parts.scheme}://{site}{parts.path.rstrip('/')}/"
