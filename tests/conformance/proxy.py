"""A proxy that responds to calls itself, over HTTP, as those in front of servers do."""

import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator

from tests.http_proxy import HttpError, http_proxy
from threadbus.v1.bus_service_pb2 import PostMessageResponse

_REQUESTED = re.compile(rb"(http|h2)((?:-\d{3})+)")
_PAGE = b"<html><head><title>No</title></head><body>no</body></html>"


class _Proxy:
    """Responds to a call whose request contains `http-503-413` with these statuses in turn, and
    then with OK, as to all other calls. `h2-413` stands for a response without a page of HTML.

    OK comes with an empty message, which every method's response may be, or a post's.
    """

    def __init__(self) -> None:
        self._calls: Counter[bytes] = Counter()

    def respond(self, request: bytes) -> PostMessageResponse | HttpError:
        requested = _REQUESTED.search(request)
        if requested is None:
            return PostMessageResponse()
        statuses = [int(status) for status in requested[2].split(b"-")[1:]]
        attempt = self._calls[request]
        self._calls[request] += 1
        if attempt < len(statuses):
            return HttpError(statuses[attempt], b"" if requested[1] == b"h2" else _PAGE)
        return PostMessageResponse(seq=1)


@contextlib.asynccontextmanager
async def proxy() -> AsyncIterator[str]:
    """Run one on a free port; yields its address."""
    async with http_proxy(_Proxy().respond) as address:
        yield address
