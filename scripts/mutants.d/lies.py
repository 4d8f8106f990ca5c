"""Mutants: the Python client with a server that breaks the contract or fails, or with a proxy."""

from sabotage import Edit, Sabotage

_RETRY = "bus_client/retry.py"
_CALLS = "bus_client/calls.py"
_RESPONSES = "bus_client/responses.py"
_STATUS = "bus_client/status.py"
_STREAM = "bus_client/stream.py"
_LIES = "tests/test_sdk_lies.py"
_CALLED = "tests/test_sdk_lies_calls.py"
_UNREADABLE = "tests/test_sdk_unreadable.py"
_PROXIES = "tests/test_sdk_proxies.py"
_SHELL = "tests/test_cli_lies.py"

SABOTAGES = [
    Sabotage(
        "repeated messages are returned twice",
        [Edit(_RESPONSES, "            if 1 <= seq <= here:\n", "            if False:\n")],
        [f"{_LIES}::test_repeated_messages_are_dropped"],
    ),
    Sabotage(
        "a message of another thread is returned",
        [
            Edit(
                _RESPONSES,
                "                raise _of_another_thread(message, thread)\n            if 1",
                "                pass\n            if 1",
            )
        ],
        [f"{_LIES}::test_frames_that_break_the_contract_are_an_error"],
    ),
    Sabotage(
        "a cursor of another thread is accepted",
        [Edit(_RESPONSES, "    if cursor.thread != thread:\n", "    if False:\n")],
        [f"{_LIES}::test_frames_that_break_the_contract_are_an_error"],
    ),
    Sabotage(
        "a negative cursor is sent back",
        [Edit(_RESPONSES, "not 0 <= cursor.after_seq <= _MAX_SEQ", "cursor.after_seq > _MAX_SEQ")],
        [f"{_LIES}::test_frames_that_break_the_contract_are_an_error"],
    ),
    Sabotage(
        "another epoch is accepted",
        [Edit(_RESPONSES, "if self.cursor.epoch and cursor.epoch != self.cursor.epoch:", "if 0:")],
        [f"{_LIES}::test_frames_that_break_the_contract_are_an_error"],
    ),
    Sabotage(
        "a frame out of order is returned",
        [Edit(_RESPONSES, "            if not last < seq <= upto:\n", "            if False:\n")],
        [f"{_LIES}::test_frames_that_break_the_contract_are_an_error"],
    ),
    Sabotage(
        "a gap without a filter is not noticed",
        [Edit(_RESPONSES, "if not self._filtered and following", "if False and following")],
        [f"{_LIES}::test_a_gap_without_a_filter_is_an_error"],
    ),
    Sabotage(
        "a cursor that goes back is accepted",
        [Edit(_RESPONSES, "if cursor.after_seq < self.cursor.after_seq:", "if False:")],
        [f"{_LIES}::test_a_cursor_that_goes_back_is_ignored"],
    ),
    Sabotage(
        "a follow ends with an ending that it did not request",
        [
            Edit(
                _STREAM,
                "if frame.ending.reason in final and",
                "if frame.ending.reason in range(1, 9) and",
            )
        ],
        [f"{_LIES}::test_a_follow_that_ends_without_reason_reconnects"],
    ),
    Sabotage(
        "a keepalive interval of 0 counts as silence",
        [
            Edit(
                _RESPONSES,
                "    return min(max(number, least), most) if number > 0 else default\n",
                "    return number\n",
            )
        ],
        [f"{_LIES}::test_an_invalid_keepalive_interval_is_not_taken_for_silence"],
        timeout=25,
    ),
    Sabotage(
        "keepalives extend a wait beyond its timeout",
        [
            Edit(_RETRY, "if self._frames > 1 and self._clock()", "if False and self._clock()"),
            Edit(
                _RETRY,
                "        if self._idle > _MAX_IDLE_FRAMES + threads:\n",
                "        if False:\n",
            ),
        ],
        [f"{_LIES}::test_keepalives_do_not_extend_a_wait"],
        timeout=25,
    ),
    Sabotage(
        "a started frame counts as progress",
        [Edit(_RETRY, "        if moved:\n", "        if True:\n")],
        [f"{_LIES}::test_pauses_grow_until_there_is_progress"],
        timeout=25,
    ),
    Sabotage(
        "a wait that could not read returns nothing",
        [Edit(_RETRY, "                raise failure\n", "                return\n")],
        [
            f"{_UNREADABLE}::test_a_wait_that_could_not_read_raises_an_error",
            f"{_UNREADABLE}::test_the_command_line_reports_the_error",
        ],
        timeout=25,
    ),
    Sabotage(
        "messages that wake nobody hide that a wait could not read",
        [
            Edit(
                "bus_client/stream.py",
                "all_count = request.count_all or not",
                "all_count = True or",
            )
        ],
        [f"{_UNREADABLE}::test_messages_that_wake_nobody_do_not_hide_that_a_wait_could_not_read"],
        timeout=25,
    ),
    Sabotage(
        "a wait forgets that there were newer messages",
        [Edit(_RETRY, "            self._caught_up &= ", "            _ = ")],
        [f"{_UNREADABLE}::test_a_wait_that_learns_of_more_messages_raises_an_error"],
        timeout=25,
    ),
    Sabotage(
        "a follow of a thread that cannot be read never raises",
        [Edit(_RETRY, ">= _MAX_FAILING:", "< 0:")],
        [f"{_UNREADABLE}::test_a_follower_that_fails_for_a_minute_raises_an_error"],
    ),
    Sabotage(
        "a follow gives up on an unreachable server",
        [Edit(_RETRY, "        if type(error) in _DISCONNECTIONS:\n", "        if False:\n")],
        [f"{_UNREADABLE}::test_an_unreachable_or_busy_server_is_waited_for"],
    ),
    Sabotage(
        "a retry_delay may be years",
        [Edit(_RESPONSES, "_MAX_RETRY_DELAY = 60.0", "_MAX_RETRY_DELAY = 1e12")],
        [f"{_CALLED}::test_invalid_numbers_are_zero_and_delays_are_bounded"],
    ),
    Sabotage(
        "a list without an end is read forever",
        [
            Edit(
                "bus_client/pages.py",
                'if token and (token in tokens or entries in (b"", before)):',
                "if False:",
            )
        ],
        [f"{_CALLED}::test_a_list_that_makes_no_progress_is_an_error"],
    ),
    Sabotage(
        "pages of messages without an end are read forever",
        [Edit(_RESPONSES, "        if not moved:\n", "        if False:\n")],
        [f"{_CALLED}::test_a_page_that_does_not_match_the_request_is_an_error"],
    ),
    Sabotage(
        "a page with missing messages is accepted",
        [Edit(_RESPONSES, "        _check_complete(page, request)\n", "        pass\n")],
        [f"{_CALLED}::test_a_gap_in_a_page_without_a_filter_is_an_error"],
    ),
    Sabotage(
        "an invalid token replaces the saved one",
        [Edit(_RESPONSES, "    if not TOKEN.fullmatch(token):\n", "    if False:\n")],
        [f"{_CALLED}::test_an_invalid_token_does_not_replace_the_stored_one"],
    ),
    Sabotage(
        "an empty response to a post is accepted",
        [Edit(_RESPONSES, "    if not 1 <= response.seq <= _MAX_SEQ:\n", "    if False:\n")],
        [
            f"{_CALLED}::test_a_post_with_an_invalid_response_has_an_unknown_outcome",
            f"{_CALLED}::test_post_many_with_invalid_results_has_an_unknown_outcome",
        ],
    ),
    Sabotage(
        "a refusal by a proxy counts as an unknown outcome",
        [Edit(_STATUS, "    if status >= 500:\n", "    if status >= 400:\n")],
        [f"{_PROXIES}::test_a_refusal_by_the_proxy_is_raised_at_once"],
    ),
    Sabotage(
        "a refusal by a proxy settles the outcome of an earlier attempt",
        [Edit(_CALLS, "                or refused_by_proxy(error)\n", "")],
        [f"{_PROXIES}::test_a_later_refusal_leaves_the_outcome_of_an_earlier_attempt_unknown"],
        timeout=25,
    ),
    Sabotage(
        "the command line fails on an invalid time",
        [
            Edit(
                "bus_client/cli/documents.py",
                "    except (Error, ValueError):\n",
                "    except OSError:\n",
            )
        ],
        [f"{_SHELL}::test_messages_with_an_invalid_time_are_read"],
    ),
    Sabotage(
        "doctor fails when a wait ends",
        [
            Edit(
                "bus_client/cli/doctor/server_checks.py",
                "    if await anext(messages, None) is None:\n",
                "    if await anext(messages) is None:\n",
            )
        ],
        [f"{_SHELL}::test_doctor_survives_an_odd_server"],
        timeout=25,
    ),
]
