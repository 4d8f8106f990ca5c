"""`threadbus thread …`: create, list, show, open, close, archive, delete."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.options import as_option, label_option, thread_argument, timeout_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe
from bus_client.cli.transcript import thread_lines

if TYPE_CHECKING:
    from bus_client import Thread, ThreadState

_STATES = ["open", "closed", "archived"]


@click.group(subcommand_metavar="VERB …")
def thread() -> None:
    """Create, list, show, close, open, archive and delete threads.

    \b
    Example:
      threadbus thread create design --topic "What to build next"
    """


@thread.command()
@click.argument("name")
@click.option("--topic", metavar="TEXT", default="", show_default=False, help="What it is about.")
@label_option
@as_option
@timeout_option
@on_server
async def create(session: Session, name: str, topic: str, labels: dict[str, str]) -> None:
    """Create a thread; an error if it is there.

    \b
    Example:
      threadbus thread create design --topic "What to build next" --as coder
    """
    async with session.connect() as bus:
        _show(session, await bus.create_thread(name, topic=topic, labels=labels))


@thread.command("list")
@click.option(
    "--prefix", metavar="TEXT", default="", show_default=False, help="Only names that begin so."
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only in this state; may be repeated.  [default: open, closed]",
)
@click.option(
    "--participant",
    metavar="NAME",
    default="",
    show_default=False,
    help="Only those NAME takes part in.",
)
@as_option
@timeout_option
@on_server
async def list_threads(
    session: Session, prefix: str, states: Sequence[str], participant: str
) -> None:
    """List threads, last active first.

    \b
    Example:
      threadbus thread list --participant coder
    """
    wanted = [_state(name) for name in states]
    async with session.connect() as bus:
        listing = bus.list_threads(prefix=prefix, states=wanted, participant=participant)
        threads = [found async for found in listing]
    documents = {"threads": [document(found, whole=True) for found in threads]}
    session.out.show(documents, thread_lines(threads))


@thread.command()
@thread_argument
@as_option
@timeout_option
@on_server
async def show(session: Session, thread: str) -> None:
    """Show a thread: name, state, newest seq, when, topic.

    \b
    Example:
      threadbus thread show design
    """
    async with session.connect() as bus:
        _show(session, await bus.get_thread(thread))


@thread.command("open")
@thread_argument
@as_option
@timeout_option
@on_server
async def open_thread(session: Session, thread: str) -> None:
    """Open a closed or archived thread, for posts again.

    \b
    Example:
      threadbus thread open design --as coder
    """
    await _set_state(session, thread, "open")


@thread.command()
@thread_argument
@as_option
@timeout_option
@on_server
async def close(session: Session, thread: str) -> None:
    """Close a thread. It can be read, but takes no posts; who waits on it is told.

    \b
    Example:
      threadbus thread close design --as coder
    """
    await _set_state(session, thread, "closed")


@thread.command()
@thread_argument
@as_option
@timeout_option
@on_server
async def archive(session: Session, thread: str) -> None:
    """Archive a thread: closed, and left out of lists.

    \b
    Example:
      threadbus thread archive design --as coder
    """
    await _set_state(session, thread, "archived")


def _confirm(context: click.Context, _: click.Parameter, yes: bool) -> bool:
    """Asks, before anything is connected."""
    name = context.params.get("thread")
    if not yes and name is not None:
        if not sys.stdin.isatty():
            raise click.UsageError("Say --yes to delete without being asked.", context)
        if not click.confirm(f"Delete thread {safe(name)} and all it holds?", err=True):
            raise click.ClickException("Nothing was deleted.")
    return yes


@thread.command()
@click.argument("thread")
@click.option("--yes", is_flag=True, callback=_confirm, expose_value=False, help="Do not ask.")
@as_option
@timeout_option
@on_server
async def delete(session: Session, thread: str) -> None:
    """Delete a thread and all it holds. Asks first; without a terminal it needs --yes.

    \b
    Example:
      threadbus thread delete design --yes --as coder
    """
    async with session.connect() as bus:
        await bus.thread(thread).delete()
    session.out.show({"thread": thread, "deleted": True}, [f"{thread} deleted"])


async def _set_state(session: Session, name: str, state: str) -> None:
    async with session.connect() as bus:
        _show(session, await bus.thread(name).set_state(_state(state)))


def _state(name: str) -> ThreadState.ValueType:
    return bus_client.ThreadState.Value(f"THREAD_STATE_{name.upper()}")


def _show(session: Session, found: Thread) -> None:
    session.out.show(document(found, whole=True), thread_lines([found]))
