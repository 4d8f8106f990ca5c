"""ThreadBus for programs without asyncio: the classes of bus_client, with methods that block.

    from bus_client.sync import BusClient

    with BusClient(agent="reviewer") as bus:
        thread = bus.join("design")
        for message in thread.follow():
            thread.post("Looks good.", reply_to=message.seq)

Each method hands the async one's coroutine to the event loop of one background thread, and waits
for its result: what bus_client says of a method holds here too, and so do its exceptions. The
thread starts with the first client of the process and is shared by all of them. So heartbeats go
on while the program works or sleeps, unless it holds Python's global lock.

- Any thread may use a client, also several at once; of a ThreadHandle see bus_client.ThreadHandle.
- Ctrl-C cancels the call that it interrupts, and client and process stay usable. Whether a post
  was stored then is unknown: repeat it with its request_id.
- The process ends without waiting for clients that were not closed. What they read within the last
  second may come again.
- gRPC cannot be forked: after os.fork() in a process with a client the child is refused, and may
  even crash. Start processes with the method `spawn`, or fork before the first client connects.
- gRPC works best with one event loop in a process: if it can be avoided, do not use an async client
  of bus_client beside this one.
"""

from __future__ import annotations

from bus_client.sync.client import BusClient
from bus_client.sync.thread import ThreadHandle

__all__ = ["BusClient", "ThreadHandle"]
