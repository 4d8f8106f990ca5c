"""`threadbus login` and `threadbus whoami`."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from pathlib import Path

import click

import bus_client
from bus_client import credentials
from bus_client.address import whole_address
from bus_client.cli.options import as_option, check_agent, timeout_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe
from bus_client.cli.transcript import local_time


@click.command()
@click.argument("name", required=False, callback=check_agent)
@click.option(
    "--same-as",
    metavar="ADDRESS",
    default="",
    show_default=False,
    help="An earlier address of this server: take over the tokens that are stored for it.",
)
@timeout_option
@on_server
async def login(session: Session, name: str | None, same_as: str) -> int:
    """Store a token for this server, and print the agent's name.

    The token is the one in THREADBUS_TOKEN or --token-file, or with --same-as, those that are
    stored for another address of the same server. It is checked, stored in your data directory, and
    used for --as NAME from then on. If NAME is given, it must be the token's.

    \b
    Examples:
      threadbus login --token-file reviewer.token
      threadbus login --same-as oldhost:7420 --server newhost:7420
    """
    path = credentials.default_path()
    if not same_as:
        if session.token is None:
            raise click.UsageError("Missing token: add --token-file FILE, or set THREADBUS_TOKEN.")
        found = await _store(session, path, name, session.token)
        session.out.show({"agents": [found]}, [safe(found)])
        return 0
    if session.token is not None:
        raise click.UsageError("Use --same-as without THREADBUS_TOKEN and --token-file.")
    try:
        tokens = credentials.kept_tokens(path, whole_address(same_as))
    except ValueError as error:
        raise click.UsageError(f"--same-as: {error}.") from None
    if name is not None:
        tokens = {agent: token for agent, token in tokens.items() if agent == name}
    if not tokens:
        raise click.ClickException(f"No token is stored for {name or 'any agent'} at {same_as}.")
    stored: list[str] = []
    for agent, token in tokens.items():
        try:
            if not await _works(
                session, agent, credentials.kept_token(path, session.server, agent)
            ):
                await _store(session, path, agent, token)
            stored.append(agent)
        except bus_client.Unauthenticated as error:
            session.out.note(f"{safe(agent)}: {safe(error.message)}")
    session.out.show({"agents": stored}, list(map(safe, stored)))
    return 0 if len(stored) == len(tokens) else 1


async def _works(session: Session, name: str, token: str | None) -> bool:
    """Returns whether an agent has a token here that is valid."""
    if token is not None:
        with suppress(bus_client.Unauthenticated):
            async with dataclasses.replace(session, agent=name, token=token).connect():
                return True
    return False


async def _store(session: Session, path: Path, name: str | None, token: str) -> str:
    """Check a token and store it. Returns the agent's name."""
    async with dataclasses.replace(session, agent=name, token=token).connect() as bus:
        agent = bus.agent
        if agent == "operator":
            raise click.UsageError(
                "This is an operator's token, which is not stored: pass it with --token-file."
            )
        await asyncio.to_thread(credentials.keep_token, path, bus.server, agent, token)
    return agent


@click.command()
@as_option
@timeout_option
@on_server
async def whoami(session: Session) -> int:
    """Show your name at the server, and what you may do there.

    Registers nobody: fails if no token is stored for --as NAME.

    \b
    Example:
      threadbus whoami --as reviewer
    """
    if session.agent is not None and session.token is None:
        path = credentials.default_path()
        token = credentials.kept_token(path, session.server, session.agent)
        if token is None:
            raise click.ClickException(
                f"No token of {session.agent} for {session.server} is stored in {path}."
            )
        session = dataclasses.replace(session, token=token)
    async with session.connect() as bus:
        info = await bus.server_info()
    shown: dict[str, object] = {
        "agent": info.agent,
        "server": session.server,
        "scopes": list(info.scopes),
        "auth": info.auth,
        "thread_rights": info.thread_rights,
    }
    line = f"{safe(info.agent)} at {safe(session.server)} may: "
    line += ", ".join(map(safe, info.scopes)) or "nothing"
    if info.thread_prefixes:
        shown["thread_prefixes"] = list(info.thread_prefixes)
        line += f"; only threads {', '.join(f'{safe(prefix)}*' for prefix in info.thread_prefixes)}"
    if info.HasField("token_expire_time"):
        shown["token_expire_time"] = info.token_expire_time.ToJsonString()
        line += f"; until {local_time(info.token_expire_time)}"
    session.out.show(shown, [line])
    return 0
