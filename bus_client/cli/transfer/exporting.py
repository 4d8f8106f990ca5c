"""The verb `threadbus export`."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.failures import NOTHING_NEW
from bus_client.cli.options import as_option, names_or_all, timeout_option
from bus_client.cli.output import Output
from bus_client.cli.progress import progress
from bus_client.cli.removed import report_removed
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import count, safe
from bus_client.cli.transfer.format import Format

if TYPE_CHECKING:
    from bus_client import BusClient, Thread

_NAMED = 3  # threads in a note
_MAX_LISTINGS = 10  # attempts to list all threads while entries change their order


@click.command()
@click.argument("threads", metavar="[THREAD…]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All threads, including archived ones.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "markdown"]),
    default="jsonl",
    help="A line of JSON for each message, or a Markdown transcript for people.",
)
@click.option(
    "--fields",
    metavar="NAME,…",
    help="Only these fields of each message, in this order.  [default: all fields that are set]",
)
@click.option(
    "--out",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; replaced when the export is complete.  [default: standard output]",
)
@click.option("--no-files", is_flag=True, help="JSON lines: leave out the bytes of files.")
@click.option(
    "--with-files",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Markdown: save attached files in DIR, which is created if needed; no file is replaced.",
)
@as_option
@timeout_option
@on_server
async def export(
    session: Session,
    threads: Sequence[str],
    everything: bool,
    form: str,
    fields: str | None,
    file: Path | None,
    no_files: bool,
    folder: Path | None,
) -> int | None:
    """Write the messages of threads: a line of JSON for each message, or Markdown.

    Threads are written one after the other, with --all in the order of their creation. Each is
    exported up to its newest message at the start of the export. An edited message has its latest
    content; edits and entries about changes of the thread are omitted. JSON lines omit notices,
    too; Markdown shows them, and where the messages that ask for replies were answered. `threadbus
    import` reads the JSON lines, but not those of messages whose files were left out.

    Messages that are not kept any more are reported on stderr. How long a thread keeps its messages
    is not exported.

    JSON lines are UTF-8. Only what JSON requires is escaped; on a terminal, unsafe characters are
    escaped, too. In Markdown, control and invisible characters are always shown as codes such as
    \\x1b.

    Exit code 3: there are no messages.

    \b
    Examples:
      threadbus export design > design.jsonl
      threadbus export --all --fields thread,sender,content --out talk.jsonl
      threadbus export design --format markdown --out design.md
    """
    names = names_or_all(threads, everything)
    if folder is not None and form != "markdown":
        raise click.UsageError("--with-files is for --format markdown: JSON lines hold the files.")
    if folder is not None and no_files:
        raise click.UsageError("Use --no-files or --with-files, not both.")
    if file is not None and not file.parent.is_dir():
        raise click.UsageError(f"{file.parent} is not a folder: create it, or choose another FILE.")
    on_terminal = file is None and sys.stdout.isatty()
    written = Format(form, fields=fields, folder=folder, no_files=no_files, on_terminal=on_terminal)
    counts = {"messages": 0, "threads": 0}
    async with session.connect() as bus:
        found = await _find(bus, names)
        _report_shortened(session.out, found)
        removed = functools.partial(report_removed, session.out)
        length = sum(thread.head_seq - thread.first_seq + 1 for thread in found)
        with (
            progress(session.out, "Exporting", length=length, shown=not on_terminal) as step,
            _output(file) as write,
        ):
            for thread in found:
                first = True
                try:
                    async for lines in written.lines(bus, thread, step, removed):
                        for line in lines:
                            write(f"{line}\n")
                        counts["messages"] += 1
                        counts["threads"] += first
                        first = False
                except bus_client.ThreadNotFound:
                    if not everything:
                        raise  # with --all, a thread deleted during the export is skipped
    if not counts["messages"]:
        session.out.note("There is nothing to export.")
        return NOTHING_NEW
    if file is not None:
        line = f"{count(counts['messages'], 'message')} of {count(counts['threads'], 'thread')}"
        session.out.show({"file": str(file), **counts}, [safe(f"{line} written to {file}")])
    return None


async def _find(bus: BusClient, names: Sequence[str]) -> list[Thread]:
    """Returns the threads of these names; without names all threads, the oldest first.

    A thread to which an entry is appended while the list is read moves to the front of the list,
    and may be missing. So the front is read again, up to the first thread that has not moved, until
    none has, at most 10 times.

    Raises:
        ThreadNotFound: A named thread does not exist.
        BusError: A call failed.
    """
    if names:
        return [await bus.get_thread(name) for name in names]
    states = [state for state in bus_client.ThreadState.values() if state]
    found: dict[str, Thread] = {}
    for _ in range(_MAX_LISTINGS):
        moved = False
        async for thread in bus.list_threads(states=states):
            known = found.get(thread.name)
            if known is not None and _end(known) == _end(thread):
                break  # those after it have not moved either: none of them is missing
            found[thread.name], moved = thread, True
        if not moved:
            break
    return sorted(found.values(), key=_creation)


def _report_shortened(out: Output, threads: Sequence[Thread]) -> None:
    """Say on stderr which threads do not have their first messages any more."""
    shortened = [thread for thread in threads if thread.first_seq > 1]
    if len(shortened) == 1:
        report_removed(out, shortened[0].name, 0, shortened[0].first_seq)
    elif shortened:
        named = ", ".join(f"{each.name} (from #{each.first_seq})" for each in shortened[:_NAMED])
        more = f" and {len(shortened) - _NAMED:,} more" if len(shortened) > _NAMED else ""
        out.note(f"The first messages of these are not kept any more: {named}{more}.")


def _end(thread: Thread) -> tuple[str, int]:
    return thread.epoch, thread.head_seq


def _creation(thread: Thread) -> tuple[int, int, str]:
    # Not ToNanoseconds(), which raises ValueError for invalid times from a server.
    return thread.create_time.seconds, thread.create_time.nanos, thread.name


@contextmanager
def _output(file: Path | None) -> Iterator[Callable[[str], object]]:
    """Yields a function that writes text to the file, or to stdout if `file` is None.

    A regular file is replaced atomically at the end, unless nothing was written or an error is
    raised; other files, such as pipes, are written directly.

    Raises:
        OSError: The file or stdout cannot be written.
    """
    if file is None:
        # JSON lines are UTF-8, whatever the locale is.
        binary = sys.stdout.buffer
        yield sys.stdout.write if sys.stdout.isatty() else lambda text: binary.write(text.encode())
        sys.stdout.flush()
    elif file.exists() and not file.is_file():  # a pipe or a device
        with file.open("wb") as stream:
            yield lambda text: stream.write(text.encode())
    else:
        file = file.resolve()
        part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            with part.open("xb") as stream:
                yield lambda text: stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
                written = stream.tell()
            if written:
                if file.exists():
                    shutil.copymode(file, part)  # a private file stays private
                part.replace(file)
        finally:
            part.unlink(missing_ok=True)
