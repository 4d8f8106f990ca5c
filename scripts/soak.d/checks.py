"""What must hold at the end: nothing is lost or repeated, and backups can be restored."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from events import Backup, command
from following import line_of
from reporting import number_of

from bus_client import BusClient, Message
from tests.serving import ServerProcess

_PAGE = 1_000
_BUG = re.compile(r"\b(?:CRITICAL|ERROR)\b|\bincident\b|Traceback|Task .* was |never (?:awaited)")

#: Of a post: thread, seq and number.
Acknowledged = tuple[str, int, str]


async def read(bus: BusClient, thread: str) -> list[Message]:
    """Returns all messages of a thread."""
    found: list[Message] = []
    handle = bus.thread(thread)
    while page := await handle.messages(after_seq=found[-1].seq if found else 0, limit=_PAGE):
        found += page
    return found


def posts(
    thread: str, stored: Sequence[Message], acknowledged: Iterable[Acknowledged]
) -> list[str]:
    """Returns what is wrong with a thread: each acknowledged post is there once, at its seq."""
    problems = []
    if [message.seq for message in stored] != list(range(1, len(stored) + 1)):
        problems.append(f"{thread}: the seqs have gaps")
    numbers = [number_of(message.content) for message in stored]
    # A reply has the number of its question, by another agent; notices have no request_id.
    twice = Counter(
        (message.sender, message.reply_to, number)
        for message, number in zip(stored, numbers, strict=True)
        if message.request_id
    )
    repeated = [key for key, n in twice.items() if n > 1]
    if repeated:
        problems.append(f"{thread}: {len(repeated)} posts are stored twice, such as {repeated[0]}")
    lost = [
        (seq, number)
        for name, seq, number in acknowledged
        if name == thread and (seq > len(stored) or numbers[seq - 1] != number)
    ]
    if lost:
        problems.append(f"{thread}: {len(lost)} acknowledged posts are lost, such as {lost[0]}")
    return problems


def followers(
    received: Mapping[str, Mapping[str, tuple[int, str]]], stored: Mapping[str, Sequence[Message]]
) -> list[str]:
    """Returns which followers received something else than what is stored."""
    wanted = {}
    for thread, messages in stored.items():
        digest = hashlib.sha256(b"".join(line_of(message) for message in messages))
        wanted[thread] = [len(messages), digest.hexdigest()]
    return [
        f"{name} received {got[0]} messages of {thread}, which are not the {wanted[thread][0]}"
        for name, threads in received.items()
        for thread, got in threads.items()
        if list(got) != wanted[thread]
    ]


async def backup(made: Backup, stored: Mapping[str, Sequence[Message]], folder: Path) -> list[str]:
    """Restore a backup into a folder, start a server on it, and let doctor look at it.

    Returns what is wrong: each message that was there before the backup began must be in it.
    """
    name, db = made.file.name, folder / f"{made.file.stem}.db"
    done = await command("restore", made.file, "--db", db)
    if done.code:
        return [f"{name} was not restored: {done.output}"]
    problems = []
    with ServerProcess(db, fresh=True) as server:
        done = await command("doctor", "--db", db, "--deep", "--server", server.address)
        if done.code:
            problems.append(f"doctor says of {name}: {done.output}")
        async with BusClient(server.address) as bus:
            for thread, messages in stored.items():
                problems += restored(
                    name, await read(bus, thread), messages, head=made.heads.get(thread, 0)
                )
    return problems


def restored(
    name: str, found: Sequence[Message], stored: Sequence[Message], *, head: int
) -> list[str]:
    """Returns what is wrong with a thread of a backup. `head`: its last seq before the backup."""
    if len(found) < head:
        return [f"{name} has {len(found)} messages of a thread that had {head}"]
    for there, here in zip(found, stored, strict=False):
        if line_of(there) != line_of(here):
            # The server on the backup notices what became of its own open requests.
            if there.seq > head and there.HasField("notice"):
                return []
            return [f"{name} has another message than {here.thread} at seq {here.seq}"]
    return []


def logs(servers: Mapping[str, ServerProcess]) -> list[str]:
    """Returns lines of the servers' logs that tell of a bug, a few of each."""
    return [
        f"the {name} logged: {line.strip()}"
        for name, server in servers.items()
        for line in [line for line in server.log if _BUG.search(line)][:3]
    ]
