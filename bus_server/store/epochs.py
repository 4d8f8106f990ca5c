"""The epochs of a thread, and which entries two of them share.

An epoch is opaque to clients. If a thread gets a new one because its history may have changed, the
new one names what it shares with the one before: `ID.SEQ.FORMER`. The entries up to SEQ, in
hexadecimal digits, are the same in both; FORMER is how the epoch before began. Epochs differ in
their first ID_SIZE characters.
"""

ID_SIZE = 8


def shared_seq(epoch: str, former: str) -> int | None:
    """Returns the last seq up to which an epoch has the entries of the one before it.

    None if `former` is not the epoch before.
    """
    _, *rest = epoch.split(".")
    if len(rest) != 2 or rest[1] != former[:ID_SIZE]:
        return None
    return int(rest[0], 16)
