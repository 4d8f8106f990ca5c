"""Server addresses: their forms, the default port, and which of them are encrypted.

`tls://HOST[:PORT]` and `plaintext://HOST[:PORT]` say whether connections are encrypted. Without a
scheme, they are, except to this machine: `localhost`, 127.0.0.0/8 and `::1`, as spelled, and Unix
sockets.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

#: The default port, of addresses and of the server.
PORT = 7420

_TLS, _PLAINTEXT = "tls://", "plaintext://"
# A name or IPv4 address, or an IPv6 address in brackets; optionally a port.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:\[\]]+)(?::(\d{1,5}))?")


def whole_address(address: str) -> str:
    """Returns the address with a port: 7420 if it has none. `unix:PATH` is returned unchanged.

    The address that is returned has a scheme only if it would mean something else without it, so
    that each way to reach a server has one address.

    Raises:
        ValueError: The address is neither `HOST`, `HOST:PORT` nor `unix:PATH`, or the port is not
            in 1–65535.
    """
    if re.fullmatch(r"unix:.+", address):
        return address
    scheme, rest = _split(address)
    try:
        host, port = f"[{IPv6Address(rest)}]", ""
    except ValueError:
        found = _ADDRESS.fullmatch(rest)
        host, port = found.groups(default="") if found else ("", "")
    if not host or not 0 < int(port or PORT) < 65_536:
        other, separator, _ = address.partition("://")
        hint = ", with a PORT from 1 to 65535"
        if separator and not scheme:
            hint = f": leave out {other}://"
        raise ValueError(f"{address!r} is neither HOST, HOST:PORT nor unix:PATH{hint}")
    if scheme == (_PLAINTEXT if _is_this_machine(host) else _TLS):
        scheme = ""
    return f"{scheme}{host}:{port or PORT}"


def endpoint(address: str) -> str:
    """Returns a whole address without its scheme: `HOST:PORT` or `unix:PATH`."""
    return _split(address)[1]


def host_of(address: str) -> str:
    """Returns the host of a whole address, without brackets; "" for a Unix socket."""
    where = endpoint(address)
    return "" if where.startswith("unix:") else where.rpartition(":")[0].strip("[]")


def is_local(address: str) -> bool:
    """Returns whether a whole address is one of this machine, as it is spelled."""
    return not (host := host_of(address)) or _is_this_machine(host)


def is_encrypted(address: str) -> bool:
    """Returns whether connections to a whole address use TLS."""
    scheme, _ = _split(address)
    return scheme == _TLS or (not scheme and not is_local(address))


def _split(address: str) -> tuple[str, str]:
    """Returns the scheme of an address, "" if it has none, and the rest."""
    scheme = next((each for each in (_TLS, _PLAINTEXT) if address.startswith(each)), "")
    return scheme, address.removeprefix(scheme)


def _is_this_machine(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    for kind in (IPv4Address, IPv6Address):
        try:
            return kind(host.strip("[]")).is_loopback
        except ValueError:
            continue
    return False
