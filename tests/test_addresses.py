"""Server addresses: which are encrypted, and that each way to reach a server has one spelling."""

import pytest

from bus_client.address import endpoint, host_of, is_encrypted, is_local, whole_address


@pytest.mark.parametrize(
    ("given", "whole", "encrypted"),
    [
        ("localhost", "localhost:7420", False),
        ("LocalHost:1", "LocalHost:1", False),
        ("127.0.0.1", "127.0.0.1:7420", False),
        ("127.255.0.9:80", "127.255.0.9:80", False),
        ("::1", "[::1]:7420", False),
        ("[::1]:80", "[::1]:80", False),
        ("unix:bus.sock", "unix:bus.sock", False),
        ("bus.example", "bus.example:7420", True),
        ("bus.example:1", "bus.example:1", True),
        ("192.0.2.1", "192.0.2.1:7420", True),
        ("2001:db8::1", "[2001:db8::1]:7420", True),
        # Names that only look like this machine's.
        ("127.0.0.1.example", "127.0.0.1.example:7420", True),
        ("localhost.example:1", "localhost.example:1", True),
        ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", True),
        # A scheme is kept only if it makes a difference.
        ("tls://bus.example", "bus.example:7420", True),
        ("tls://localhost", "tls://localhost:7420", True),
        ("tls://[::1]:1", "tls://[::1]:1", True),
        ("tls://::1", "tls://[::1]:7420", True),
        ("plaintext://bus.example:1", "plaintext://bus.example:1", False),
        ("plaintext://2001:db8::1", "plaintext://[2001:db8::1]:7420", False),
        ("plaintext://127.0.0.1:1", "127.0.0.1:1", False),
    ],
)
def test_an_address_says_whether_it_is_encrypted(given: str, whole: str, encrypted: bool) -> None:
    assert whole_address(given) == whole
    assert whole_address(whole) == whole
    assert is_encrypted(whole) == encrypted


@pytest.mark.parametrize(
    "address",
    ["", ":1", "tls://", "tls://:1", "host:0", "host:65536", "host:x", "a b", "tls://unix:a.sock"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="neither HOST, HOST:PORT nor unix:PATH"):
        whole_address(address)


def test_another_scheme_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="leave out https://"):
        whole_address("https://bus.example")


def test_the_parts_of_an_address() -> None:
    assert endpoint("tls://localhost:1") == "localhost:1"
    assert host_of("plaintext://[2001:db8::1]:1") == "2001:db8::1"
    assert host_of("unix:bus.sock") == ""
    assert is_local("unix:bus.sock")
    assert is_local("tls://localhost:1")
    assert not is_local("plaintext://bus.example:1")
