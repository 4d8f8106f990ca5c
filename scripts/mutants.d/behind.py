"""Mutants: clients that read threads which have lost their oldest entries."""

from sabotage import Edit, Sabotage

_RESPONSES = "bus_client/responses.py"
_READER = "bus_client/reader.py"
_ASKING = "bus_client/asking.py"
_LIES = "tests/test_sdk_lies_compacted.py"
_SDK = "tests/test_sdk_retention.py"
_ASK = "tests/test_sdk_ask_retention.py"
_SHELL = "tests/test_cli_retention.py"
_SHELL_LIES = "tests/test_cli_retention_lies.py"

SABOTAGES = [
    Sabotage(
        "a client believes any resync to the oldest message",
        [Edit(_RESPONSES, "            self._check_compacted(resync)\n", "            pass\n")],
        [f"{_LIES}::test_a_false_resync_is_an_error"],
    ),
    Sabotage(
        "a resync may skip messages that are kept",
        [Edit(_RESPONSES, "after == position.first_seq - 1 and ", "")],
        [f"{_LIES}::test_a_false_resync_is_an_error"],
    ),
    Sabotage(
        "a resync may begin anywhere",
        [Edit(_RESPONSES, "if not (begins and before < after", "if not (before < after")],
        [f"{_LIES}::test_a_false_resync_is_an_error"],
    ),
    Sabotage(
        "an inbox that starts again reports what it has read",
        [Edit(_RESPONSES, 'case "resync" if self._was_delivered(frame.resync):', 'case "x":')],
        [f"{_LIES}::test_a_server_that_starts_at_the_read_position_again_skips_only_what_is_new"],
    ),
    Sabotage(
        "what is gone is reported again and again",
        [
            Edit(
                _READER,
                "if lost is None or lost.reason == COMPACTED:\n            # Of",
                "if lost is None:\n            # Of",
            )
        ],
        [f"{_SDK}::test_a_reader_of_an_emptied_thread_is_told_once"],
    ),
    Sabotage(
        "a resync moves an acknowledged position back",
        [
            Edit(
                _READER,
                "        if lost is None or lost.reason != COMPACTED:\n",
                "        if True:\n",
            )
        ],
        [f"{_LIES}::test_a_resync_does_not_move_an_acknowledged_position_back"],
    ),
    Sabotage(
        "inboxes do not say that what is gone was told",
        [
            Edit(
                "bus_client/threads_reader.py",
                "        if lost is None or lost.reason == COMPACTED:\n",
                "        if lost is None:\n",
            )
        ],
        [f"{_SDK}::test_an_agent_that_was_told_is_not_told_again"],
    ),
    Sabotage(
        "a question that is removed is taken for one that is overdue",
        [
            Edit(
                _ASKING,
                "return ours and (notice.reason, notice.request_seq)",
                "return False and (notice.reason, notice.request_seq)",
            )
        ],
        [f"{_ASK}::test_a_question_that_is_not_kept_is_closed"],
    ),
    Sabotage(
        "a reply among what was removed is waited for",
        [Edit(_ASKING, "reply := await self._look_up()", "reply := None")],
        [f"{_ASK}::test_a_reply_that_is_kept_is_returned"],
    ),
    Sabotage(
        "the shortest age is no limit",
        [Edit("bus_client/retention.py", "math.ceil(age * 1e9)", "round(age * 1e9)")],
        [f"{_SDK}::test_the_shortest_age_is_a_limit"],
    ),
    Sabotage(
        "a page of a list has a gap",
        [
            Edit(
                "bus_server/history.py",
                "if not newest and part.head.first_seq > low + 1:",
                "if False:",
            )
        ],
        ["tests/store/test_compact_pages.py::test_a_page_ends_before_the_gap"],
    ),
    Sabotage(
        "a resync names what was the oldest entry before",
        [Edit("bus_server/follow/loop.py", "            p.skip_removed()", "            p")],
        [
            "tests/test_waiting_compacted_race.py"
            "::test_the_resync_names_the_oldest_entry_of_its_time"
        ],
    ),
    Sabotage(
        "wait says nothing of what is gone",
        [Edit("bus_client/cli/removed.py", "            report_lost(out, lost)\n", "")],
        [f"{_SHELL}::test_wait_goes_on_and_says_so_once"],
    ),
    Sabotage(
        "an export ends where messages were removed",
        [
            Edit(
                "bus_client/cli/transfer/format.py",
                "            if first > after + 1:\n",
                "            if False:\n",
            )
        ],
        [f"{_SHELL_LIES}::test_an_export_of_a_thread_that_is_emptied"],
    ),
]
