"""Who may use a console: the checks of Host, Origin and cookie that each request passes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

_LIFETIME = 30 * 86_400  # seconds for which a login lasts
_MOST_COOKIES = 20  # of one name that are looked at
_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """A request is refused.

    Attributes:
        status: The HTTP status: 401 if the browser has to log in.
        message: Why, in a sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Gate:
    """The checks of one console.

    A browser logs in with a secret that is in the fragment of the printed address, which browsers
    do not send, and gets a cookie. The cookie is signed with a key that outlives the process, so a
    console that restarts needs no new login.

    Attributes:
        secret: What a browser logs in with. A new one for each process.
        cookie: The cookie's name. Cookies are shared by all ports of a host: it has the port.
    """

    def __init__(
        self, *, urls: list[str], any_address: bool, port: int, key: bytes, identity: str
    ) -> None:
        """Args:
        urls: The addresses under which browsers know the console, such as
            `http://127.0.0.1:7480/`.
        any_address: Whether the host may also be any IP address. No page of another site can have
            a name that is one.
        port: The port at which it listens.
        key: The key that signs cookies.
        identity: Whom the console acts for, and where. A cookie is valid for one identity.
        """
        self.secret = secrets.token_urlsafe(24)
        self.cookie = f"threadbus-{port}"
        self._scheme = urlsplit(urls[0]).scheme
        self._sites = {self._site(urlsplit(url).netloc) for url in urls}
        self._ports = {port for _, port in self._sites}
        self._any_address = any_address
        self._key = key
        self._identity = identity

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raises Refused for a host name that is not the console's.

        This stops pages of other names that resolve to this address (DNS rebinding).
        """
        site = self._site(headers.get("host", ""))
        known = site in self._sites or (
            self._any_address and site[1] in self._ports and _is_address(site[0])
        )
        if not known:
            raise Refused(403, "This console has another address.")

    def check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises Refused for a request that a page of another site has made."""
        origin = headers.get("origin")
        if origin is not None:
            scheme, _, site = origin.lower().partition("://")
            if scheme != self._scheme or self._site(site) != self._site(headers.get("host", "")):
                raise Refused(403, "Another site may not use this console.")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "Another site may not use this console.")
        if method == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":  # what forms of other sites cannot send
                raise Refused(403, "The content type must be application/json.")

    def check_cookies(self, headers: Sequence[str]) -> int:
        """Returns when the login ends that a request's Cookie headers show.

        In seconds since the epoch. Browsers send several cookies of one name if other paths of the
        host have set some, such as another console. Raises Refused if none is of log_in().
        """
        cookies = [each.strip().partition("=") for line in headers for each in line.split(";")]
        values = [value for name, _, value in cookies if name == self.cookie]
        end = max((self._end(value) for value in values[:_MOST_COOKIES]), default=0)
        if end <= time.time():
            raise Refused(401, "Open the address that threadbus console has printed.")
        return end

    def _end(self, value: str) -> int:
        """Returns when a cookie expires; 0 if it is not of log_in()."""
        expires, _, signature = value.partition(".")
        valid = hmac.compare_digest(_encode(signature), _encode(self._signature(expires)))
        return int(expires) if valid else 0

    def log_in(self, secret: str) -> tuple[str, int]:
        """Returns the value of the cookie, and its lifetime in seconds.

        Raises Refused if the secret is wrong.
        """
        if not hmac.compare_digest(_encode(secret), _encode(self.secret)):
            raise Refused(401, "The address is that of another run of threadbus console.")
        expires = str(int(time.time()) + _LIFETIME)
        return f"{expires}.{self._signature(expires)}", _LIFETIME

    def _signature(self, expires: str) -> str:
        text = _encode(f"{expires} {self._identity}")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def _site(self, netloc: str) -> tuple[str, int]:
        """Returns the host and the port of `HOST` or `HOST:PORT`; port -1 if it is neither."""
        try:
            parts = urlsplit(f"//{netloc}")
            valid = parts.netloc == netloc and parts.username is None and parts.hostname
            return (parts.hostname or "", parts.port or _PORTS[self._scheme] if valid else -1)
        except ValueError:
            return "", -1


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _encode(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
