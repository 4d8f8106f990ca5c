"""Mutants: what a store remembers from one commit to the next."""

from sabotage import Edit, Sabotage

_BATCHES = ["tests/sqlite/test_store_batches.py"]
_REMEMBERED = "bus_server/store/sqlite/remembered.py"

SABOTAGES = [
    Sabotage(
        "heads are remembered though another server wrote",
        [Edit(_REMEMBERED, "if version != self._version or", "if")],
        [
            "tests/test_two_servers.py::test_posts_through_both_concurrently_are_stored_once_without_gaps"
        ],
    ),
    Sabotage(
        "heads are remembered of a transaction that failed",
        [Edit("bus_server/store/sqlite/store.py", "            self._remembered.forget()\n", "")],
        [
            "tests/sqlite/test_store_faults.py::test_a_transaction_that_fails_after_its_writes_leaves_no_gap"
        ],
    ),
    Sabotage(
        "the head of a deleted thread is remembered",
        [
            Edit(
                _REMEMBERED,
                "                self.heads.pop(name, None)\n",
                "                pass\n",
            )
        ],
        _BATCHES,
    ),
    Sabotage(
        "an agent that left is remembered as a participant",
        [Edit(_REMEMBERED, "            self.read_seqs.pop(key, None)\n", "            pass\n")],
        _BATCHES,
    ),
    Sabotage(
        "an unregistered agent is remembered as a participant",
        [Edit(_REMEMBERED, " or changes.unregistered", "")],
        _BATCHES,
    ),
    Sabotage(
        "a read position that a checkpoint raised is remembered as it was",
        [Edit(_REMEMBERED, "changes.positions or ", "")],
        _BATCHES,
    ),
    Sabotage(
        "a read position that a post raised is remembered as it was",
        [Edit(_REMEMBERED, " | changes.raised", "")],
        _BATCHES,
    ),
]
