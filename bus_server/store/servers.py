"""Decides the commands about the servers on the store, and their open waits.

Each function decides one command. The command's docstring in server_commands.py is its
contract.
"""

from bus_server.store.batch import Batch
from bus_server.store.server_commands import RemoveServers, SaveServer


def save_server(batch: Batch, command: SaveServer) -> bool:
    was_stored = command.server in batch.facts.servers
    batch.save_server(command.server, command.lease, command.opened, command.closed)
    return was_stored


def remove_servers(batch: Batch, command: RemoveServers) -> None:
    for name, renew_time in command.servers.items():
        if renew_time in (None, batch.facts.servers.get(name)):
            batch.remove_server(name)
