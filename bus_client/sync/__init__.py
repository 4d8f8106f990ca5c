"""ThreadBus for programs without asyncio: the classes of bus_client, with methods that block.

    from bus_client.sync import BusClient

    with BusClient(agent="reviewer") as bus:
        thread = bus.join("design")
        for message in thread.follow():
            thread.post("Looks good.", reply_to=message.seq)

Each method runs the async one in the event loop of a background thread, and blocks until it
returns. So it behaves as bus_client describes it, and raises the same exceptions. The background
thread starts with the first client that connects, and all clients of the process share it.
Heartbeats continue while the program works or sleeps, unless it holds Python's global interpreter
lock.

- Several threads of the program may use a client at once. For a ThreadHandle see
  bus_client.ThreadHandle.
- Ctrl-C cancels the call that it interrupts; client and process remain usable. It is unknown then
  whether a post was stored: repeat it with its request_id.
- The process exits without waiting for clients that were not closed. What they read within the last
  second may be delivered again.
- gRPC does not survive os.fork(): in the child of a process with a client, calls raise
  RuntimeError. Start processes with the method `spawn`, or fork before the first client connects.
- gRPC works best with one event loop per process: avoid async clients of bus_client in the same
process.
"""

from __future__ import annotations

from bus_client.sync.client import BusClient
from bus_client.sync.thread import ThreadHandle

__all__ = ["BusClient", "ThreadHandle"]
