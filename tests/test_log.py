"""Callers cannot fill the log."""

import pytest

from tests.conftest import StartServer
from tests.polling import until
from tests.raw_connection import RawConnection


@pytest.mark.slow
async def test_callers_that_disconnect_during_a_response_are_not_logged(
    start_server: StartServer,
) -> None:
    server = start_server()
    # The response waits for a window that the caller does not open.
    async with RawConnection(server.address, window=0) as connection:
        for _ in range(3):
            stream = connection.call("/threadbus.v1.BusService/GetServerInfo", b"")
            await until(lambda stream=stream: stream in connection.answered)  # type: ignore[misc]
            connection.cancel(stream)
    assert server.stop() == 0
    assert server.problems == []
