"""The certificate of a console, which is read again when its files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Never

logger = logging.getLogger(__name__)

_POLL = 0.5  # seconds between two looks at the files, as in the server


def load(certificate: Path, key: Path) -> ssl.SSLContext:
    """Returns a context for a server with a certificate and its key. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, _no_passphrase)
    return context


async def follow(context: ssl.SSLContext, certificate: Path, key: Path) -> Never:
    """Load a certificate and its key into a context whenever they change, until cancelled.

    New connections get them. Files that cannot be used leave what is in use: the log says why,
    once, unless they are in order at the next look, as while they are being replaced one after the
    other.
    """
    used: list[tuple[int, ...]] = []
    failure = warned = ""
    while True:
        await asyncio.sleep(_POLL)
        found = _look(certificate, key)
        if found == used and not failure:
            continue
        try:
            load(certificate, key)  # what cannot be used would spoil the context
            if _look(certificate, key) != found:
                continue
            context.load_cert_chain(certificate, key, _no_passphrase)
        except OSError as error:  # also ssl.SSLError
            why = error.strerror or str(error)
            if why == failure != warned:
                logger.warning(
                    "%s and %s cannot be used: %s. The console goes on with those it has.",
                    certificate,
                    key,
                    why,
                )
                warned = why
            failure, used = why, found
            continue
        if warned:
            logger.warning("new connections use the certificate in %s", certificate)
        used, failure, warned = found, "", ""


def _look(*files: Path) -> list[tuple[int, ...]]:
    """Returns what shows whether files have changed."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            found.append((error.errno or 0,))
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def _no_passphrase() -> str:
    return ""  # else OpenSSL would ask on the terminal
