"""`threadbus token …`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bus_client.cli.documents import document
from bus_client.cli.groups import ListByDefault
from bus_client.cli.options import Duration, check_agent, timeout_option, yes_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe
from bus_client.cli.transcript import aligned, local_time
from threadbus.limits import MAX_LIFETIME

if TYPE_CHECKING:
    from bus_client import Token

_SCOPES = ["post", "read", "admin"]


@click.group(cls=ListByDefault, subcommand_metavar="[VERB …]")
def token() -> None:
    """Create, list and revoke tokens. Operators only.

    A token permits calls as an agent: all of them, or only reading, only some threads, only for
    some time. Without a verb, lists the tokens that are valid.

    \b
    Examples:
      umask 077
      threadbus token create ann --scope read --token-file threadbus.db.operator-token > ann.token
      threadbus token --token-file threadbus.db.operator-token
      threadbus token revoke 3f5a90c1d2e47b68 --token-file threadbus.db.operator-token
    """


@token.command()
@click.argument("name", required=False, callback=check_agent)
@click.option("--operator", is_flag=True, help="For an operator, not for an agent.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    help="What it permits; may be repeated. By default post and read, with --operator everything.",
)
@click.option(
    "--thread-prefix",
    "prefixes",
    metavar="TEXT",
    multiple=True,
    help="Only threads whose names begin so; may be repeated. By default all threads.",
)
@click.option(
    "--lifetime",
    metavar="TIME",
    type=Duration(minimum=1.0, maximum=MAX_LIFETIME),
    show_default=False,
    help="How long it is valid. By default it does not expire.",
)
@timeout_option
@on_server
async def create(
    session: Session,
    name: str | None,
    operator: bool,
    scopes: Sequence[str],
    prefixes: Sequence[str],
    lifetime: float | None,
) -> None:
    """Create a token for the agent NAME, and print it.

    The agent is registered if it is new; its other tokens stay valid. The token is a secret, and is
    printed only now: give it to the program or person that calls as the agent, who stores it with
    `threadbus login`. What it permits cannot be changed later.

    \b
    Examples:
      umask 077; threadbus token create reviewer > reviewer.token
      threadbus token create dashboard --scope read --thread-prefix team-a. --lifetime 30d
      threadbus token create --operator
    """
    if (name is None) is not operator:
        raise click.UsageError("Name an agent, or use --operator.")
    if operator and not scopes:
        scopes = _SCOPES
    async with session.connect() as bus:
        created, secret = await bus.create_token(
            name or "", scopes=scopes, thread_prefixes=prefixes, lifetime=lifetime
        )
    shown = {"token": document(created, whole=True), "secret": secret}
    session.out.show(shown, [safe(secret)])
    session.out.note(f"token {created.token_id} of {_owner(created)}: {', '.join(_what(created))}")


@token.command("list")
@click.option(
    "--agent",
    "of",
    metavar="NAME",
    default="",
    show_default=False,
    callback=lambda ctx, option, name: name and check_agent(ctx, option, name),
    help="Only tokens of this agent; `operator`: of operators.",
)
@timeout_option
@on_server
async def list_(session: Session, of: str) -> int:
    """List the tokens that are valid, newest first, without their secrets.

    When a token was used last is known to the minute.

    Exit code 3: there is none.

    \b
    Example:
      threadbus token list --agent reviewer --json
    """
    async with session.connect() as bus:
        found = [each async for each in bus.list_tokens(agent=of)]
    rows = [(safe(each.token_id), _owner(each), *_what(each)) for each in found]
    session.out.show({"tokens": [document(each, whole=True) for each in found]}, aligned(rows))
    return 0 if found else 3


@token.command()
@click.argument("name", metavar="ID")
@yes_option("Revoke the token {name}?")
@timeout_option
@on_server
async def revoke(session: Session, name: str) -> None:
    """Revoke the token with this ID, as `threadbus token` lists it.

    Its calls fail at once, and its waits end within a second. Asks for confirmation; without a
    terminal, add --yes.

    \b
    Example:
      threadbus token revoke 3f5a90c1d2e47b68 --yes
    """
    async with session.connect() as bus:
        await bus.revoke_token(name)
    session.out.show({"token_id": name, "revoked": True}, [f"{safe(name)} revoked"])


def _owner(found: Token) -> str:
    return safe(found.agent) or "(operator)"


def _what(found: Token) -> tuple[str, ...]:
    """Returns what a token permits, where, until when, and when it was last used."""
    prefixes = ", ".join(f"{safe(prefix)}*" for prefix in found.thread_prefixes)
    expires, used = found.HasField("expire_time"), found.HasField("last_use_time")
    return (
        ", ".join(map(safe, found.scopes)),
        f"threads {prefixes}" if prefixes else "all threads",
        f"until {local_time(found.expire_time)}" if expires else "does not expire",
        f"used {local_time(found.last_use_time)}" if used else "not used",
    )
