"""The parts of a server: builds them, and starts their background loops."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus_server.bus import Bus
from bus_server.cleaner import Cleaner
from bus_server.encoding import BatchEncoder
from bus_server.fallback import Fallback
from bus_server.follow.resources import WaitResources
from bus_server.memberships import Memberships
from bus_server.notices import Notices
from bus_server.post_streams import PostStreams
from bus_server.presence.agents import Agents
from bus_server.presence.changes import Changes
from bus_server.presence.checkpointer import Checkpointer
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.participants import Participants
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.presence.remote_waits import RemoteWaits
from bus_server.presence.servers import Servers
from bus_server.presence.token_uses import TokenUses
from bus_server.recent import Recent
from bus_server.relay import Relay
from bus_server.settings import Settings
from bus_server.statistics import Statistics
from bus_server.store.interface import Store
from bus_server.tail import Tails
from bus_server.tokens import Tokens
from bus_server.waits import Waits
from bus_server.writer import Writer

if TYPE_CHECKING:
    from bus_server.tracing import Tracing

#: Maximum bytes of recent messages kept in memory, over all threads.
RECENT_BYTES = 32 * 1024 * 1024
#: Seconds from a checkpoint of another server to when this one knows of it: a poll after a hint.
HINT_DELAY = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server that its services call, and those with background loops."""

    bus: Bus
    agents: Agents
    presence: Presence
    waits: Waits
    writer: Writer
    resources: WaitResources
    checkpointer: Checkpointer
    notices: Notices
    servers: Servers
    remote: RemoteWaits
    relay: Relay
    fallback: Fallback
    tokens: Tokens
    uses: TokenUses
    statistics: Statistics
    cleaner: Cleaner

    def start(self, settings: Settings) -> list[asyncio.Task[None]]:
        """Start the background loops. Returns their tasks, which run until they are cancelled."""
        loops = [
            self.writer.run(),
            self.checkpointer.run(settings.checkpoint_interval),
            self.resources.cache.run(),
            self.bus.purge_forever(),
            self.cleaner.run(),
            self.notices.run(),
            self.statistics.run(),
        ]
        if settings.hints == "on":
            loops += [self.relay.run(), self.resources.store.waker.run(self.fallback.hint)]
        if settings.fallback_interval:
            loops += [self.fallback.run(settings.fallback_interval), self.servers.run()]
        return [asyncio.create_task(loop) for loop in loops]


def build(
    store: Store,
    settings: Settings,
    clear_tokens: Callable[[], None] = lambda: None,
    tracing: "Tracing | None" = None,
) -> Parts:
    """Returns the parts of a server over a store, not started. Call it on the event loop.

    Args:
        clear_tokens: empties the cache of callers; see Tokens.
        tracing: makes spans of commits and deliveries. None: nothing does.
    """
    tails, recent, changes = Tails(), Recent(RECENT_BYTES), Changes()
    memberships, statistics = Memberships(store), Statistics()
    writer = Writer(
        store,
        tails,
        recent,
        memberships,
        statistics,
        tracing,
        max_commands=settings.max_queued_posts,
        max_bytes=settings.max_queued_bytes,
    )
    presence = Presence(
        changes,
        store.clock,
        agent_timeout=settings.agent_timeout,
        working_timeout=settings.working_timeout,
    )
    waits = Waits(store.clock, settings.max_open_waits, settings.max_anonymous_waits)
    positions = UnsavedPositions(changes)
    remote = RemoteWaits(presence, changes)
    lease = max(settings.server_lease, 5 * settings.checkpoint_interval)
    servers = Servers(store, writer, waits, remote, changes, lease=lease)
    participants = Participants(store, presence, positions, waits, remote, changes, memberships)
    cache = ParticipantCache(changes)
    resources = WaitResources(
        *(store, tails, recent, BatchEncoder(), participants, cache, memberships, statistics),
        tracing,
    )
    uses = TokenUses(changes, store.clock)
    checkpointer = Checkpointer(writer, presence, positions, servers, uses, changes)
    relay = Relay(store, tails, recent, memberships, statistics)
    notices = Notices(
        store,
        writer,
        presence,
        positions,
        changes,
        agent_timeout=settings.agent_timeout,
        server_delay=settings.checkpoint_interval + settings.fallback_interval + HINT_DELAY,
    )
    streams = PostStreams(store.clock)
    cleaner = Cleaner(store, writer, servers, settings)
    tokens = Tokens(store, writer, waits, streams, clear_tokens)
    return Parts(
        bus=Bus(resources, writer, presence, positions, checkpointer, streams),
        agents=Agents(store, writer, presence, positions, waits, tokens, changes),
        presence=presence,
        waits=waits,
        writer=writer,
        resources=resources,
        checkpointer=checkpointer,
        notices=notices,
        servers=servers,
        remote=remote,
        relay=relay,
        fallback=Fallback(resources, presence, servers, waits, tokens, relay, notices, cleaner),
        tokens=tokens,
        uses=uses,
        statistics=statistics,
        cleaner=cleaner,
    )
