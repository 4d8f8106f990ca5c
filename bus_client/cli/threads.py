"""`threadbus thread …`: create, list, show, update, leave, open, close, archive, delete."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.groups import VerbGroup
from bus_client.cli.options import (
    as_option,
    epoch_option,
    label_option,
    thread_argument,
    timeout_option,
    yes_option,
)
from bus_client.cli.people import participant_lines
from bus_client.cli.requests import request_documents, request_lines
from bus_client.cli.retention import retention_lines, retention_options
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe
from bus_client.cli.transcript import thread_lines, to_utc

if TYPE_CHECKING:
    from bus_client import SyncMode, Thread, ThreadState
    from bus_client.retention import NewRetention

_STATES = ["open", "closed", "archived"]


@click.group(cls=VerbGroup, subcommand_metavar="VERB …")
def thread() -> None:
    """Create, list, show, update, leave, open, close, archive and delete threads.

    \b
    Example:
      threadbus thread create design --topic "What to build next"
    """


@thread.command()
@click.argument("name")
@click.option(
    "--topic", metavar="TEXT", default="", show_default=False, help="What the thread is about."
)
@label_option
@click.option("--strict", is_flag=True, help="Agents must post with --expect; people need not.")
@retention_options
@as_option
@timeout_option
@on_server
async def create(
    session: Session,
    name: str,
    topic: str,
    labels: dict[str, str],
    strict: bool,
    retention: NewRetention,
) -> None:
    """Create a thread. Fails if there is one of this name (exit code 5).

    With --retain-…, its oldest messages are removed once they are over one of the limits. Without,
    they are kept as the server's own --retain-… say: by default without a limit.

    \b
    Examples:
      threadbus thread create design --topic "What to build next" --as coder
      threadbus thread create builds --retain-age 30d --retain-bytes 10MB --as coder
    """
    async with session.connect() as bus:
        created = await bus.create_thread(
            name,
            topic=topic,
            labels=labels,
            sync_mode=_sync_mode(strict),
            retention=retention,
        )
    _show(session, created)


@thread.command("list")
@click.option(
    "--prefix",
    metavar="TEXT",
    default="",
    show_default=False,
    help="Only threads whose names begin with TEXT.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only threads in this state; may be repeated.  [default: open, closed]",
)
@click.option(
    "--participant",
    metavar="NAME",
    default="",
    show_default=False,
    help="Only threads in which NAME is a participant.",
)
@as_option
@timeout_option
@on_server
async def list_threads(
    session: Session, prefix: str, states: Sequence[str], participant: str
) -> None:
    """List threads, most recently active first.

    Shows each thread's name, state, newest seq, the time of that entry, stage, [strict] if its mode
    is strict, and topic.

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
    """Show a thread, its participants, and its open requests.

    Shows the thread's name, state, newest seq, the time of that entry, stage, [strict] if its mode
    is strict, and topic; and for each participant its name, its presence, whether it waits on this
    thread, and how far it has read; and for each request that is not answered, the seq of the
    message that asks, who asks whom, how long ago, and when it is due. Also how long it keeps its
    messages, unless it keeps everything by default, and the oldest one if others were removed.

    \b
    Example:
      threadbus thread show design
    """
    async with session.connect() as bus:
        found = await bus.get_thread(thread)
        participants = [one async for one in bus.thread(thread).list_participants()]
        requests = [one async for one in bus.thread(thread).list_requests()]
        info = await bus.server_info()
    now = to_utc(info.server_time)
    shown = document(found, whole=True)
    shown["participants"] = [document(participant, whole=True) for participant in participants]
    shown["requests"] = request_documents(requests, now)
    lines = itertools.chain(
        thread_lines([found]),
        retention_lines(found, info.default_retention),
        participant_lines(participants, found),
        request_lines(requests, now),
    )
    session.out.show(shown, lines)


@thread.command()
@thread_argument
@click.option("--topic", metavar="TEXT", help="What the thread is about.")
@click.option("--stage", metavar="TEXT", help="The stage of the work, such as review.")
@label_option
@click.option("--no-labels", is_flag=True, help="Remove all labels.")
@click.option("--strict/--no-strict", default=None, help="Whether agents must post with --expect.")
@retention_options
@epoch_option
@as_option
@timeout_option
@on_server
async def update(
    session: Session,
    thread: str,
    topic: str | None,
    stage: str | None,
    labels: dict[str, str],
    no_labels: bool,
    strict: bool | None,
    retention: NewRetention,
    epoch: str,
) -> None:
    """Change a thread's topic, stage, labels, strict mode, or how long it keeps its messages.

    Labels given with --label replace all labels of the thread. So do the --retain-… given: a limit
    that is not given is none, and `--retain-messages 0` keeps everything. What is over the new
    limits is removed within seconds, and cannot be brought back. A change is also posted to the
    thread as an entry, which waiting agents receive. The thread's creator, people and operators may
    change all of it, its participants only its stage.

    \b
    Examples:
      threadbus thread update design --stage review --as coder
      threadbus thread update builds --retain-messages 1000 --as coder
    """
    given = (topic, stage, strict, retention)
    if not (labels or no_labels) and given == (None, None, None, None):
        raise click.UsageError(
            "Nothing to change: add --topic, --stage, --label, --no-labels, --strict or --retain-…."
        )
    if labels and no_labels:
        raise click.UsageError("Use --label or --no-labels, not both.")
    async with session.connect() as bus:
        changed = await bus.thread(thread).update(
            topic=topic,
            stage=stage,
            labels=labels if labels or no_labels else None,
            sync_mode=None if strict is None else _sync_mode(strict),
            retention=retention,
            epoch=epoch,
        )
    _show(session, changed)


_set = copy.copy(update)
_set.hidden = True
thread.add_command(_set, "set")


@thread.command()
@thread_argument
@as_option
@timeout_option
@on_server
async def leave(session: Session, thread: str) -> None:
    """Leave a thread.

    Your messages remain; your read position is dropped. Joining, posting, a mention or a handoff
    makes you a participant again.

    \b
    Example:
      threadbus thread leave design --as reviewer
    """
    if session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME.")
    async with session.connect() as bus:
        await bus.thread(thread).leave()
        name = bus.agent
    session.out.show({"thread": thread, "left": name}, [f"{safe(name)} left {safe(thread)}"])


@thread.command("open")
@thread_argument
@epoch_option
@as_option
@timeout_option
@on_server
async def open_thread(session: Session, thread: str, epoch: str) -> None:
    """Reopen a closed or archived thread for posts.

    For its creator, people and operators.

    \b
    Example:
      threadbus thread open design --as coder
    """
    await _set_state(session, thread, "open", epoch)


@thread.command()
@thread_argument
@epoch_option
@as_option
@timeout_option
@on_server
async def close(session: Session, thread: str, epoch: str) -> None:
    """Close a thread.

    It can still be read, but takes no posts. A wait ends when all of its threads are closed. For
    the thread's creator, people and operators.

    \b
    Example:
      threadbus thread close design --as coder
    """
    await _set_state(session, thread, "closed", epoch)


@thread.command()
@thread_argument
@epoch_option
@as_option
@timeout_option
@on_server
async def archive(session: Session, thread: str, epoch: str) -> None:
    """Close a thread, and omit it from lists.

    `threadbus thread list --state archived` still shows it. For the thread's creator, people and
    operators.

    \b
    Example:
      threadbus thread archive design --as coder
    """
    await _set_state(session, thread, "archived", epoch)


@thread.command()
@click.argument("name", metavar="THREAD")
@yes_option("Delete thread {name} and all of its messages?")
@epoch_option
@as_option
@timeout_option
@on_server
async def delete(session: Session, name: str, epoch: str) -> None:
    """Delete a thread and all of its messages.

    Asks for confirmation; without a terminal, add --yes. For the thread's creator, people and
    operators. If several callers pass the same --epoch, one deletes it.

    \b
    Example:
      threadbus thread delete design --yes --as coder
    """
    async with session.connect() as bus:
        await bus.thread(name).delete(epoch=epoch)
    session.out.show({"thread": name, "deleted": True}, [f"{safe(name)} deleted"])


async def _set_state(session: Session, name: str, state: str, epoch: str) -> None:
    async with session.connect() as bus:
        _show(session, await bus.thread(name).set_state(_state(state), epoch=epoch))


def _state(name: str) -> ThreadState.ValueType:
    return bus_client.ThreadState.Value(f"THREAD_STATE_{name.upper()}")


def _sync_mode(strict: bool) -> SyncMode.ValueType:
    modes = bus_client.SyncMode
    return modes.SYNC_MODE_STRICT if strict else modes.SYNC_MODE_OFF


def _show(session: Session, found: Thread) -> None:
    lines = itertools.chain(thread_lines([found]), retention_lines(found))
    session.out.show(document(found, whole=True), lines)
