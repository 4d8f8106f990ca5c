"""Server addresses: their forms, and the default port."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

#: The default port, of addresses and of the server.
PORT = 7420

# A name or IPv4 address, or an IPv6 address in brackets; optionally a port.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:\[\]]+)(?::(\d{1,5}))?")


def whole_address(address: str) -> str:
    """Returns the address with a port: 7420 if it has none. `unix:PATH` is returned unchanged.

    Raises:
        ValueError: The address is neither `HOST`, `HOST:PORT` nor `unix:PATH`, or the port is not
            in 1–65535.
    """
    if re.fullmatch(r"unix:.+", address):
        return address
    try:
        return f"[{IPv6Address(address)}]:{PORT}"
    except ValueError:
        found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2] or PORT) < 65_536:
        scheme, separator, _ = address.partition("://")
        hint = f": leave out {scheme}://" if separator else ", with a PORT from 1 to 65535"
        raise ValueError(f"{address!r} is neither HOST, HOST:PORT nor unix:PATH{hint}")
    return f"{found[1]}:{found[2] or PORT}"
