"""`threadbus register` and `threadbus agents …`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

import bus_client
from bus_client import credentials
from bus_client.cli.documents import document
from bus_client.cli.groups import ListByDefault
from bus_client.cli.options import (
    agent_argument,
    as_option,
    seconds_option,
    timeout_option,
    yes_option,
)
from bus_client.cli.people import agent_lines
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe
from bus_client.cli.transcript import aligned, local_time
from threadbus.limits import MAX_GRACE

if TYPE_CHECKING:
    from bus_client import Agent, BusClient


@click.command()
@agent_argument
@click.option(
    "--human", is_flag=True, help="A person, not a program. Only operators register people."
)
@click.option(
    "--display-name",
    metavar="TEXT",
    default="",
    show_default=False,
    help="A name to show to people.",
)
@click.option(
    "--description",
    metavar="TEXT",
    default="",
    show_default=False,
    help="What the agent does.",
)
@click.option("--show-token", is_flag=True, help="Also print the agent's token, which is a secret.")
@timeout_option
@on_server
async def register(
    session: Session,
    name: str,
    human: bool,
    display_name: str,
    description: str,
    show_token: bool,
) -> None:
    """Register an agent, and print its name. Safe to repeat.

    Its token is stored in your data directory (threadbus/credentials.json), or in the file that
    THREADBUS_CREDENTIALS names, and used for --as NAME. An agent that you have registered before is
    left unchanged; `threadbus agents update` changes its display name and description. If the
    server requires tokens, an operator registers agents, with THREADBUS_TOKEN or --token-file. One
    that has no valid token gets one that permits it to post and read everywhere.

    \b
    Example:
      threadbus register reviewer --description "Reads diffs, finds bugs"
    """
    kinds = bus_client.AgentKind
    what: dict[str, Any] = {
        "kind": kinds.AGENT_KIND_HUMAN if human else kinds.AGENT_KIND_AGENT,
        "display_name": display_name,
        "description": description,
    }
    if session.token is None:
        async with dataclasses.replace(session, agent=name).connect(**what) as bus:
            agent = await bus.get_agent()
            token = await asyncio.to_thread(
                credentials.agent_token, credentials.default_path(), bus.server, name
            )
    else:
        async with session.connect() as bus:
            if bus.agent == name:
                agent, token = await bus.get_agent(), session.token
            else:
                agent, token = await register_with_token(bus, name, what)
    shown = document(agent, whole=True)
    if show_token:
        shown["token"] = token
    session.out.show(shown, [name, safe(token)] if show_token else [name])


async def register_with_token(
    bus: BusClient, name: str, what: dict[str, Any], *, server: str | None = None
) -> tuple[Agent, str]:
    """Register an agent as an operator. Returns the agent and its token.

    Uses the token that the credentials file has for the agent, or else stores a new one there. A
    new token is removed again if the server refuses the name.

    Args:
        bus: The operator's client.
        name: The agent.
        what: Further arguments of BusClient.register_agent().
        server: The address under which the token is kept. None = that of `bus`.

    Raises:
        AgentExists: The name is registered with another token or none.
        InvalidArgument: The name is not valid.
        CredentialsError: The token cannot be stored.
        BusError: The call failed.
    """
    from bus_client.identity import name_refused  # imported only when needed: --help must be fast

    path = credentials.default_path()
    kept = path, server or bus.server, name
    token, made = await asyncio.to_thread(credentials.obtain_token, *kept)
    try:
        return await bus.register_agent(name, token=token, **what)
    except bus_client.BusError as error:
        if made and name_refused(error):
            await asyncio.to_thread(credentials.forget_token, *kept, token)
        raise


_PRESENCES = ["waiting", "working", "idle", "awaiting-human", "lapsed", "offline"]


@click.group(cls=ListByDefault, subcommand_metavar="[VERB …]")
def agents() -> None:
    """List agents and their open waits; change an agent, end its session, or unregister it.

    Without a verb, lists the registered agents.

    \b
    Examples:
      threadbus agents
      threadbus agents --presence waiting --presence working --json
    """


@agents.command("list")
@click.option(
    "--presence",
    "presences",
    multiple=True,
    type=click.Choice(_PRESENCES),
    help="Only agents with this presence; may be repeated.",
)
@as_option
@timeout_option
@on_server
async def list_agents(session: Session, presences: Sequence[str]) -> None:
    """List the registered agents, by name.

    Shows each agent's name, kind, presence, display name, and what it is doing or else its
    description.

    \b
    Example:
      threadbus agents list --presence awaiting-human
    """
    wanted = [
        bus_client.Presence.Value(f"PRESENCE_{name.upper().replace('-', '_')}")
        for name in presences
    ]
    async with session.connect() as bus:
        found = [agent async for agent in bus.list_agents(presences=wanted)]
    documents = {"agents": [document(agent, whole=True) for agent in found]}
    session.out.show(documents, agent_lines(found))


@agents.command()
@click.option(
    "--of", "agent_name", metavar="NAME", default="", show_default=False, help="Only waits of NAME."
)
@click.option(
    "--thread", metavar="THREAD", default="", show_default=False, help="Only waits on THREAD."
)
@timeout_option
@on_server
async def waits(session: Session, agent_name: str, thread: str) -> None:
    """List the waits open on the server, longest first. Operators only.

    Shows who waits, since when, from which address, and on which threads. An agent with more waits
    than expected, but for those observing, may be running twice. Its processes then share one read
    position: messages that one of them reads may never reach the other. On the machine that a wait
    comes from, `ss -tnp` or `lsof -i` shows the process behind an address.

    \b
    Example:
      threadbus agents waits --token-file threadbus.db.operator-token
    """
    async with session.connect() as bus:
        found = [wait async for wait in bus.list_waits(agent=agent_name, thread=thread)]
    rows = [
        (
            safe(wait.agent),
            local_time(wait.start_time),
            safe(wait.peer),
            ", ".join(f"{safe(cursor.thread)} after #{cursor.after_seq}" for cursor in wait.threads)
            + (" (observing)" if wait.observe else ""),
        )
        for wait in found
    ]
    documents = {"waits": [document(wait, whole=True) for wait in found]}
    session.out.show(documents, aligned(rows) if rows else [])


@agents.command()
@click.option("--display-name", metavar="TEXT", help="A name to show to people.")
@click.option("--description", metavar="TEXT", help="What the agent does.")
@click.option(
    "--of",
    "other",
    metavar="NAME",
    default="",
    show_default=False,
    help="Operators only: the agent to change.",
)
@as_option
@timeout_option
@on_server
async def update(
    session: Session, display_name: str | None, description: str | None, other: str
) -> None:
    """Change an agent's display name or description.

    \b
    Example:
      threadbus agents update --description "Reads diffs" --as reviewer
    """
    if display_name is None and description is None:
        raise click.UsageError("Nothing to change: add --display-name or --description.")
    async with session.connect() as bus:
        agent = await bus.update_agent(other, display_name=display_name, description=description)
    session.out.show(document(agent, whole=True), agent_lines([agent]))


@agents.command()
@as_option
@timeout_option
@on_server
async def goodbye(session: Session) -> None:
    """End an agent's session.

    Others see the agent as offline, and its open waits end. Any later call of the agent starts a
    new session.

    \b
    Example:
      threadbus agents goodbye --as reviewer
    """
    if session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME.")
    async with session.connect() as bus:
        await bus.end_session()
        name = bus.agent
    session.out.show({"agent": name, "presence": "PRESENCE_OFFLINE"}, [f"{safe(name)} offline"])


@agents.command("rotate-token")
@seconds_option(
    "--grace",
    default=60.0,
    maximum=MAX_GRACE,
    help="How long the old token keeps working, at most 1h.",
)
@as_option
@timeout_option
@on_server
async def rotate_token(session: Session, grace: float) -> None:
    """Replace an agent's token with a new one.

    The new token is stored where the old one was. With THREADBUS_TOKEN or --token-file it is
    printed instead.

    \b
    Example:
      threadbus agents rotate-token --as reviewer
    """
    if session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME.")
    async with session.connect() as bus:
        token = await bus.rotate_token(grace=grace)
        name = bus.agent
    shown = {"agent": name} | ({"token": token} if session.token else {})
    session.out.show(shown, [safe(token) if session.token else f"{safe(name)} has a new token"])


@agents.command("reset-token")
@click.argument("name")
@yes_option("End all tokens of {name}, and give it a new one?")
@click.option("--show-token", is_flag=True, help="Also print the new token, which is a secret.")
@timeout_option
@on_server
async def reset_token(session: Session, name: str, show_token: bool) -> None:
    """Give an agent a new token in place of all that it has. Operators only.

    For an agent that has lost its token. The new one permits it to post and read everywhere,
    without end, whatever the old ones permitted: for less, use `threadbus token create` and
    `revoke`. It is stored in your data directory and used for --as NAME. To use it elsewhere, print
    it with --show-token, and store it there with `threadbus login`. The agent's open waits end.
    Asks for confirmation; without a terminal, add --yes.

    \b
    Example:
      threadbus agents reset-token reviewer --yes --token-file threadbus.db.operator-token
    """
    path = credentials.default_path()
    async with session.connect() as bus:
        token = await bus.reset_token(name)
        await asyncio.to_thread(credentials.keep_token, path, bus.server, name, token)
    shown = {"agent": name} | ({"token": token} if show_token else {})
    session.out.show(shown, [safe(token) if show_token else f"{safe(name)} has a new token"])


@agents.command()
@click.argument("name")
@timeout_option
@on_server
async def kick(session: Session, name: str) -> None:
    """End the session of an agent. Operators only.

    Others see it as offline, and its open waits end. Its token stays valid: any later call of the
    agent starts a new session. `agents reset-token` takes the token away, too.

    \b
    Example:
      threadbus agents kick reviewer --token-file threadbus.db.operator-token
    """
    async with session.connect() as bus:
        await bus.kick(name)
    session.out.show({"agent": name, "presence": "PRESENCE_OFFLINE"}, [f"{safe(name)} offline"])


@agents.command()
@click.argument("name")
@yes_option("Unregister {name}?")
@as_option
@timeout_option
@on_server
async def unregister(session: Session, name: str) -> None:
    """Unregister an agent.

    Its messages remain, and only an operator can register its name again. For the agent itself and
    operators. Asks for confirmation; without a terminal, add --yes.

    \b
    Example:
      threadbus agents unregister reviewer --yes --as reviewer
    """
    async with session.connect() as bus:
        await bus.unregister_agent(name)
    session.out.show({"agent": name, "unregistered": True}, [f"{safe(name)} unregistered"])
