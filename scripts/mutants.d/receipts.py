"""Mutants: what filters hide, and what counts as read."""

from sabotage import Edit, Sabotage

_PASSED_OVER = "tests/test_passed_over.py"
_BATCH = "bus_server/store/batch.py"
_FILTERS = "tests/test_waiting_filters.py"
_POSITION = "bus_server/follow/position.py"
_READER = "bus_client/reader.py"

SABOTAGES = [
    Sabotage(
        "a reported cursor covers what a filter hid",
        [
            Edit(
                "bus_server/presence/participants.py",
                "(hidden - 1, seq) if hidden else (seq, 0)",
                "(seq, seq) if hidden else (seq, 0)",
            )
        ],
        [_PASSED_OVER],
    ),
    Sabotage(
        "own entries are hidden",
        [
            Edit(
                "bus_server/filter.py",
                "index not in shown and sender != self._caller",
                "index not in shown",
            )
        ],
        [f"{_PASSED_OVER}::test_own_entries_are_not_hidden"],
    ),
    Sabotage(
        "the last entry that a filter hid counts, not the first",
        [
            Edit(
                _POSITION,
                "self.hidden = self.hidden or hidden",
                "self.hidden = hidden or self.hidden",
            )
        ],
        [_PASSED_OVER],
    ),
    Sabotage(
        "a wait forgets what was hidden before its cursor",
        [Edit(_POSITION, "        self.hidden = hidden\n", "        self.hidden = 0\n")],
        [f"{_PASSED_OVER}::test_a_wait_from_a_cursor_remembers_what_was_hidden_before_it"],
    ),
    Sabotage(
        "a wait in a new epoch keeps what was hidden in the old one",
        [Edit(_POSITION, "if not head.first_seq <= self.hidden <= after:", "if False:")],
        [f"{_PASSED_OVER}::test_a_resync_forgets_what_was_hidden_in_the_epoch_before"],
    ),
    Sabotage(
        "a wait with a filter starts at read_seq",
        [Edit(_READER, "filtered=filtered)", "filtered=False)")],
        [_PASSED_OVER],
    ),
    Sabotage(
        "acknowledge() covers what the filter hid",
        [
            Edit(
                _READER,
                "ReadPosition.at(here.epoch, seq, self._hidden)",
                "ReadPosition.at(here.epoch, seq)",
            )
        ],
        [
            f"{_PASSED_OVER}::test_acknowledging_a_message_does_not_cover_what_the_filter_hid_before_it"
        ],
    ),
    Sabotage(
        "passed_over is lost with the server",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                "passed_over = max(participant.passed_over, new.passed_over)",
                "passed_over = participant.passed_over",
            )
        ],
        ["tests/test_presence_restarts.py::test_positions_survive_a_restart"],
    ),
    Sabotage(
        "an edit passes a filter by itself alone",
        [Edit("bus_server/filter.py", " or message.edit_of in edits", "")],
        [f"{_FILTERS}::test_an_edit_is_wanted_if_the_message_that_it_edits_is"],
    ),
    Sabotage(
        "an edit passes a filter only within sight of the message that it edits",
        [Edit("bus_server/filter.py", "for seq in sorted(elsewhere)", "for seq in ()")],
        [f"{_FILTERS}::test_an_edit_is_wanted_if_the_message_that_it_edits_is"],
    ),
    Sabotage(
        "recipients do not wait for edits of what they wait for",
        [
            Edit(
                "bus_server/presence/participants.py",
                "        if message.edit_of:",
                "        if False:",
            )
        ],
        [
            "tests/test_posting_recipients.py::test_an_edit_of_an_addressed_message_matches_a_wait_for_addressed_ones"
        ],
    ),
    Sabotage(
        "registering an agent is no sign of life",
        [
            Edit(
                "bus_server/services/agent_service.py",
                'caller.agent in ("", agent.name)',
                "caller.agent == agent.name",
            )
        ],
        ["tests/test_presence.py"],
    ),
    Sabotage(
        "an operator that registers an agent is taken for it",
        [
            Edit(
                "bus_server/services/agent_service.py",
                "if not caller.operator and caller.agent in",
                "if caller.agent in",
            )
        ],
        ["tests/test_presence.py"],
    ),
    Sabotage(
        "a slower process moves a named cursor back",
        [
            Edit(
                "bus_client/cli/cursors.py",
                "if here is not None and same and",
                "if here is None and",
            )
        ],
        ["tests/test_cli_cursors.py"],
    ),
    Sabotage(
        "processes move a named cursor at the same time",
        [Edit("bus_client/cli/cursors.py", "fcntl.flock(descriptor, fcntl.LOCK_EX)", "pass")],
        ["tests/test_cli_cursors.py"],
    ),
    Sabotage(
        "a peek marks messages as read",
        [Edit("bus_client/cli/waiting.py", "after is None and not observe", "after is None")],
        ["tests/test_cli_waiting.py::test_a_peek_marks_nothing_as_read"],
    ),
    Sabotage(
        "an agent that was mentioned starts at the first message",
        [Edit(_BATCH, "if before == NOT_STARTED:", "if False:")],
        ["tests/test_threads_joining.py"],
    ),
    Sabotage(
        "a delivery makes a mentioned agent start at the first message",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                "iif(new.read_seq > 0, new.read_seq, -1)",
                "new.read_seq",
            )
        ],
        [
            "tests/test_threads_joining.py::test_a_mentioned_agent_that_only_waited_is_a_newcomer_after_a_restart_too"
        ],
    ),
]
