"""`threadbus register` and `threadbus agents`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

import bus_client
from bus_client import credentials
from bus_client.cli.documents import document
from bus_client.cli.options import as_option, timeout_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import agent_lines


@click.command()
@click.argument("name", envvar="THREADBUS_AGENT")
@click.option("--human", is_flag=True, help="A person, not a program.")
@click.option(
    "--display-name", metavar="TEXT", default="", show_default=False, help="A name for people."
)
@click.option("--description", metavar="TEXT", default="", show_default=False, help="What it does.")
@click.option("--show-token", is_flag=True, help="Print its token, too: a secret.")
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
    """Register an agent, or find it registered; prints its name.

    Its token is kept in your data directory (threadbus/credentials.json) and used wherever you
    say --as NAME. The options count when it is first registered. Where tokens are required, an
    operator registers: THREADBUS_TOKEN or --token-file.

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
            agent, token = await bus.get_agent(), _kept_token(session, name)
    else:
        async with session.connect() as bus:
            if bus.agent == name:
                agent, token = await bus.get_agent(), session.token
            else:
                agent, token = await bus.register_agent(
                    name, token=_kept_token(session, name), **what
                )
    shown = document(agent, whole=True)
    if show_token:
        shown["token"] = token
    session.out.show(shown, [name, token] if show_token else [name])


def _kept_token(session: Session, name: str) -> str:
    return credentials.agent_token(credentials.default_path(), session.server, name)


@click.command()
@as_option
@timeout_option
@on_server
async def agents(session: Session) -> None:
    """List the registered agents, by name.

    \b
    Example:
      threadbus agents --json
    """
    async with session.connect() as bus:
        found = [agent async for agent in bus.list_agents()]
    documents = {"agents": [document(agent, whole=True) for agent in found]}
    session.out.show(documents, agent_lines(found))
