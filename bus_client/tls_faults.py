"""Finds out why a connection fails that gRPC only reports as unavailable.

A server that another client can use may refuse this one, or be refused by it, for its certificate
or for speaking TLS at all. Whoever retries then does so in vain.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bus_client.address import endpoint, host_of, is_encrypted, is_local, whole_address
from bus_client.errors import InvalidArgument, TlsFailed
from bus_client.tls import Tls

_TIMEOUT = 5.0  # seconds for all connections of one search
_HOST_MISMATCHES = (62, 63, 64)  # X509_V_ERR_HOSTNAME_, EMAIL_ and IP_ADDRESS_MISMATCH
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # gRPC connects through them

# The connection preface of HTTP/2, with empty settings. A server answers with its own.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_FRAME_HEADER, _SETTINGS = 9, 4

# Records of TLS, and messages of a handshake, which begin with a type and three bytes of size.
_RECORD_HEADER, _HANDSHAKE = 5, 22
_CERTIFICATE_REQUEST, _SERVER_HELLO_DONE = 13, 14

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def tls_fault(address: str, tls: Tls) -> TlsFailed | None:
    """Returns why no connection to a whole address can succeed with these files, if TLS is why.

    None: the connection may succeed later, or the reason is not known. Connects up to three times,
    within 5 s, and sends no call and no token.
    """
    if address.startswith("unix:"):
        return None
    if not is_local(address) and any(os.environ.get(name) for name in _PROXIES):
        return None
    # An SSLError is an OSError; a host name that is none, a ValueError.
    with suppress(OSError, TimeoutError, EOFError, ValueError, InvalidArgument):
        async with asyncio.timeout(_TIMEOUT):
            if is_encrypted(address):
                return await _fault_of_tls(address, tls)
            return await _fault_of_plaintext(address)
    return None


async def _fault_of_plaintext(address: str) -> TlsFailed | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with _connected(address, context):
            pass
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):  # an alert is TLS, too
            return None
    where = endpoint(address)
    return TlsFailed(
        f"{where} uses TLS, and this client connects without it.",
        hint=f"Use the address {whole_address(f'tls://{where}')}.",
    )


async def _fault_of_tls(address: str, tls: Tls) -> TlsFailed | None:
    where = endpoint(address)
    try:
        async with _connected(address, tls.context()) as streams:
            if await _first_frame(streams):
                return None
    except ssl.SSLCertVerificationError as error:
        return await _fault_of_certificate(address, tls, error)
    except (ssl.SSLError, ConnectionError):
        async with _connected(address, None) as streams:
            frame = await _first_frame(streams)
        if frame[3:4] != bytes([_SETTINGS]):
            return None
        plain = f"Use the address {whole_address(f'plaintext://{where}')}"
        if not is_local(address):
            plain += " if you trust the network, which can then read tokens"
        return TlsFailed(
            f"{where} does not use TLS, and this client requires it.",
            hint=f"{plain}; or give the server a certificate (--tls-cert, --tls-key).",
        )
    # The server closed the connection: perhaps as it requires another client certificate. Then it
    # asks for one, and fails the handshake of TLS 1.2; that of TLS 1.3 ends before it has checked.
    context = tls.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if not await _asks_for_certificate(address, context):
        return None
    try:
        async with _connected(address, context):
            return None
    except (ssl.SSLError, ConnectionResetError):
        pass
    if tls.client_cert is None:
        return TlsFailed(
            f"{where} requires a client certificate, and this client has none.",
            hint="Name one from the server's operator, with its key: client_cert= and client_key=, "
            "--client-cert and --client-key, or THREADBUS_CLIENT_CERT and THREADBUS_CLIENT_KEY.",
        )
    return TlsFailed(
        f"{where} does not accept the client certificate in {tls.client_cert}.",
        hint="It may have expired, or be from a CA that the server does not trust: get one from "
        "the server's operator.",
    )


async def _fault_of_certificate(
    address: str, tls: Tls, error: ssl.SSLCertVerificationError
) -> TlsFailed:
    where = endpoint(address)
    if error.verify_code in _HOST_MISMATCHES:
        names = await _names(address, tls)
        return TlsFailed(
            f"The certificate of {where} is for {names}, not for {host_of(address)}.",
            hint="Use an address with a name that the certificate has, or have the server's "
            "operator get one with this name.",
        )
    if error.verify_code == _EXPIRED:
        return TlsFailed(
            f"The certificate of {where} has expired.",
            hint="Have the server's operator renew it; or set this machine's clock, if it is "
            "wrong.",
        )
    if error.verify_code == _NOT_YET_VALID:
        return TlsFailed(
            f"The certificate of {where} is not valid yet.",
            hint="Set this machine's clock, if it is wrong; or ask the server's operator.",
        )
    trusted = f"a CA in {tls.ca_file}" if tls.ca_file else "a public CA"
    return TlsFailed(
        f"The certificate of {where} is not from {trusted} ({error.verify_message}).",
        hint="Name the certificate of its CA, from the server's operator: ca_file=, --ca-file, or "
        "THREADBUS_CA_FILE.",
    )


async def _asks_for_certificate(address: str, context: ssl.SSLContext) -> bool:
    """Returns whether a server asks clients for a certificate, which TLS 1.2 does not encrypt.

    Args:
        address: A whole address.
        context: One for TLS 1.2.
    """
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=host_of(address)).do_handshake()
    async with _connected(address, None) as (reader, writer):
        writer.write(hello.read())
        received = b""
        while True:
            kind, _, _, *size = await reader.readexactly(_RECORD_HEADER)
            if kind != _HANDSHAKE:
                return False
            received += await reader.readexactly(int.from_bytes(size, "big"))
            while len(received) >= (end := 4 + int.from_bytes(received[1:4], "big")):
                if received[0] in (_CERTIFICATE_REQUEST, _SERVER_HELLO_DONE):
                    return received[0] == _CERTIFICATE_REQUEST
                received = received[end:]


async def _names(address: str, tls: Tls) -> str:
    """Returns the names in the certificate of a server, which is trusted."""
    context = tls.context()
    context.check_hostname = False
    async with _connected(address, context) as (_, writer):
        certificate = writer.get_extra_info("peercert") or {}
    names = [value for _, value in certificate.get("subjectAltName", ())]
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "") if names else "no host"


@asynccontextmanager
async def _connected(address: str, context: ssl.SSLContext | None) -> AsyncIterator[_Streams]:
    """Yields a connection to a whole address, with TLS if there is a context for it."""
    host = host_of(address)
    # As in open_channel(): `localhost` is 127.0.0.1.
    target = "127.0.0.1" if host.lower() == "localhost" else host
    reader, writer = await asyncio.open_connection(
        target,
        int(address.rpartition(":")[2]),
        ssl=context,
        server_hostname=host if context else None,
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _first_frame(streams: _Streams) -> bytes:
    """Returns the beginning of the first frame of HTTP/2; b"" if the connection is closed."""
    reader, writer = streams
    writer.write(_PREFACE)
    try:
        return await reader.readexactly(_FRAME_HEADER)
    except (asyncio.IncompleteReadError, ssl.SSLError, ConnectionError):
        return b""
