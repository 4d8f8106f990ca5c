"""Mutants: what readers get of threads that have lost their oldest entries."""

from sabotage import Edit, Sabotage

_UNREAD = "tests/test_retention_unread.py"
_WAITING = "tests/test_retention_waiting.py"

SABOTAGES = [
    Sabotage(
        "an answer to a message that is gone is addressed to nobody",
        [
            Edit(
                "bus_server/filter.py",
                "sender is None and await store.addressed(agent, thread_id, seq - 1, seq, 1)",
                "False",
            )
        ],
        [
            "tests/test_retention_requests.py"
            "::test_an_answer_to_a_message_that_is_gone_is_still_addressed_to_its_author"
        ],
    ),
    Sabotage(
        "a wait that begins behind is not told",
        [
            Edit(
                "bus_server/follow/position.py",
                "elif requested_after < head.first_seq - 1:",
                "elif requested_after < 0:",
            )
        ],
        [f"{_WAITING}::test_a_wait_that_begins_behind_is_told_once"],
    ),
    Sabotage(
        "entries that are gone are unread",
        [
            Edit(
                "bus_server/store/sqlite/participants.py",
                "max(read_seq, first_seq - 1) AS gone",
                "read_seq AS gone",
            )
        ],
        [f"{_UNREAD}::test_quiet_entries_alone_are_not_unread_after_others_have_gone"],
    ),
    Sabotage(
        "who joins at the first message joins at what is gone",
        [
            Edit(
                "bus_server/store/threads.py",
                "after = head.first_seq - 1 if command.from_first else head.seq",
                "after = 0 if command.from_first else head.seq",
            )
        ],
        ["tests/test_retention.py::test_a_newcomer_starts_at_the_oldest_message_that_is_kept"],
    ),
    Sabotage(
        "a resync names what was hidden among what is gone",
        [
            Edit(
                "bus_server/follow/position.py",
                "if not head.first_seq <= self.hidden <= after:",
                "if self.hidden > after:",
            )
        ],
        [
            f"{_WAITING}"
            "::test_a_cursor_that_is_not_valid_is_told_as_before_and_continued_at_the_oldest"
        ],
    ),
]
