"""What can be set, and what is fixed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs. Times are in seconds; each field is a flag of `threadbus serve`."""

    listen: str = "127.0.0.1:7420"
    """HOST:PORT, or unix:PATH. Port 0: any free one."""
    socket_mode: int = 0o600
    """Who may connect to a Unix socket, as file modes say it."""
    db: Path = Path("threadbus.db")
    """The database file; made when it is not there."""
    durability: str = "full"
    """`full`: an acknowledged post is on disk. `fast`: it may be lost with the machine."""
    auth: str = ""
    """`open`: calls without a token are `anonymous`'s, anyone may register. `required`: neither.
    Empty: `open` on loopback and Unix sockets, else `required`."""
    insecure: bool = False
    """Allow to listen beyond loopback without TLS."""
    fallback_interval: float = 1.0
    """How often to look for what other processes wrote to the file. 0: never."""
    busy_timeout: float = 5.0
    """How long to wait for another program that locks the file before posts are refused."""
    heartbeat_interval: float = 40.0
    """How often an agent is told to send heartbeats."""
    agent_timeout: float = 60.0
    """Without a sign of life for so long an agent is LAPSED."""
    working_timeout: float = 900.0
    """How long a delivery counts as work without any word from the agent."""
    checkpoint_interval: float = 2.0
    """How often what is known of agents is written to the store, when it changed."""
    drain_timeout: float = 10.0
    """How long a stopping server waits for posts it has taken."""
    max_content_bytes: int = 1024 * 1024
    """Bytes of a message's content."""
    max_queued_posts: int = 10_000
    """Posts that may wait for the disk; beyond it they are refused with STORE_BUSY."""
    max_queued_bytes: int = 64 * 1024 * 1024
    """Bytes of posts that may wait for the disk; beyond it they are refused with STORE_BUSY."""
    max_open_waits: int = 10_000
    """Open waits of one agent."""
    max_anonymous_waits: int = 20_000
    """Open waits of all callers without a name together."""
    max_streams: int = 1_000
    """Calls open at a time on one connection; the client's gRPC library queues further ones."""
    max_request_bytes: int = 128 * 1024 * 1024
    """Bytes of requests that are arriving or being handled, over all callers; beyond it, calls
    wait to be read."""
    max_frame_bytes: int = 64 * 1024 * 1024
    """Bytes of answers and frames that callers have not read, over all callers; beyond it, large
    ones wait to be sent."""
    request_timeout: float = 20.0
    """How long a request may take to arrive, and how long a call waits for room for its bytes."""
    json: bool = False
    """Announce the start as one JSON object."""
    keepalive_time: float = 30.0
    """Ping a connection after so long without anything from it."""
    keepalive_timeout: float = 10.0
    """Take a connection for dead when a ping is not answered for so long."""
