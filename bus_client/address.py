"""Addresses of servers, as people and programs write them."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

#: Where a server listens that was not told otherwise.
PORT = 7420

# A name or an IPv4 address, or an IPv6 one in brackets; perhaps a port.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:\[\]]+)(?::(\d{1,5}))?")


def whole_address(address: str) -> str:
    """The address with its port, 7420 if it has none. `unix:PATH` stays as it is.

    Raises:
        ValueError: It is neither `HOST`, `HOST:PORT` nor `unix:PATH`.
    """
    if re.fullmatch(r"unix:.+", address):
        return address
    try:
        return f"[{IPv6Address(address)}]:{PORT}"
    except ValueError:
        found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2] or PORT) < 65_536:
        raise ValueError(f"{address!r} is neither HOST, HOST:PORT nor unix:PATH")
    return f"{found[1]}:{found[2] or PORT}"
