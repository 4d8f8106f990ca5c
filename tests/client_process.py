"""A client in a process of its own, which tests can stop or kill.

`python -m tests.client_process` opens a wait on the given thread, and prints the kind of each
frame.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import grpc

from tests.open_wait import wait_request
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub


@contextlib.contextmanager
def waiting_client(address: str, thread: str, token: str) -> Iterator[subprocess.Popen[str]]:
    """A process that waits on a thread as the token's agent; its wait is open."""
    command = [sys.executable, "-m", "tests.client_process", address, thread, token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


async def main(address: str, thread: str, token: str) -> None:
    """Wait until the server ends the wait."""
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        call = BusServiceStub(channel).WaitMessages(wait_request([thread]), metadata=metadata)
        async for frame in call:
            sys.stdout.write(f"{frame.WhichOneof('frame')}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
