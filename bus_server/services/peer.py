"""The address of a call's connection."""

import functools
import urllib.parse
from ipaddress import ip_address


@functools.lru_cache(maxsize=1_024)  # the waits of a connection share the string
def peer_address(peer: str) -> str:
    """Returns a connection's address as users write it; gRPC's is `ipv6:%5B::1%5D:40312`."""
    kind, _, address = urllib.parse.unquote(peer).partition(":")
    return kind if kind == "unix" else address


def is_here(peer: str) -> bool:
    """Returns whether a connection is over loopback or a Unix socket. `peer`: as gRPC writes it."""
    address = peer_address(peer)
    if address == "unix":
        return True
    try:
        return ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError:
        return False
