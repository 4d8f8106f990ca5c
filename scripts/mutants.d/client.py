"""Mutants: the Python client and the command line."""

from sabotage import Edit, Sabotage

_BEATS = "bus_client/heartbeats.py"
_CONNECTIONS = "bus_client/connections.py"

SABOTAGES = [
    Sabotage(
        "a report replaces a later one that is not sent yet",
        [Edit(_BEATS, "self._unsent.get(thread, position).up_to(position)", "position")],
        ["tests/test_sdk_reader.py"],
    ),
    Sabotage(
        "a message that is marked as read takes back a later acknowledgement",
        [
            Edit(
                "bus_client/reader.py",
                "return position.up_to(read)",
                "return read",
            ),
            Edit(
                "bus_client/reader.py",
                "if self._position is not None and self._position.covers(position):",
                "if self._position is None:",
            ),
        ],
        ["tests/test_sdk_reader.py"],
    ),
    Sabotage(
        "heartbeats stop at the first failure",
        [
            Edit(
                _BEATS,
                "                        pause += next(pauses)\n",
                "                        return\n",
            )
        ],
        ["tests/test_sdk_heartbeats.py::test_a_failed_heartbeat_is_soon_retried"],
        timeout=30,  # it gives up by itself
    ),
    Sabotage(
        "calls are retried whatever their idempotency level",
        [
            Edit(
                "bus_client/idempotency.py",
                "return request.DESCRIPTOR.full_name in _IDEMPOTENT",
                "return True",
            )
        ],
        [
            "tests/test_sdk_calls.py"
            "::test_calls_that_must_not_be_made_twice_end_with_an_unknown_outcome[UpdateThread-UNAVAILABLE]"
        ],
    ),
    Sabotage(
        "an import reads a pipe twice",
        [
            Edit(
                "bus_client/cli/transfer/importing.py",
                "    if stat.S_ISREG(os",
                "    if True or stat.S_ISREG(os",
            )
        ],
        ["tests/test_cli_import.py::test_lines_appended_to_a_file_are_posted_by_the_next_run"],
    ),
    Sabotage(
        "a heartbeat of the client clears the status text",
        [Edit(_BEATS, "            status_text=self._status_text,\n", "")],
        ["tests/test_sdk_heartbeats.py::test_each_heartbeat_repeats_the_last_reported_state"],
    ),
    Sabotage(
        "a heartbeat of the client shortens a long lease",
        [Edit(_BEATS, "if not lease and left > self._agent_timeout:", "if False:")],
        ["tests/test_sdk_heartbeats.py::test_automatic_heartbeats_repeat_the_state_too"],
    ),
    Sabotage(
        "a heartbeat starts a session again after EndSession",
        [
            Edit(
                _BEATS,
                "        self._paused, self._needed, self._due = True, False, math.inf\n",
                "        pass\n",
            )
        ],
        [
            "tests/test_sdk_agents.py::test_heartbeats_pause_after_the_session_until_the_agent_is_back"
        ],
    ),
    Sabotage(
        "a delivery triggers no heartbeat",
        [
            Edit(
                _BEATS,
                "            self._needed = self._automatic and not self._paused\n"
                "            self._wake()\n",
                "            self._wake()\n",
            )
        ],
        [
            "tests/test_sdk_heartbeats.py::test_a_delivery_is_followed_by_a_heartbeat_before_anything_is_read"
        ],
    ),
    Sabotage(
        "read positions are lost when a heartbeat fails",
        [Edit(_BEATS, "_retriable(batch, error).items()", "[]")],
        ["tests/test_sdk_reporting.py::test_acknowledge_raises_if_the_report_failed_and_keeps_it"],
    ),
    Sabotage(
        "a read position that the server refuses is sent forever",
        [Edit(_BEATS, "if name not in refused}", "}")],
        [
            "tests/test_sdk_reporting.py::test_a_position_that_the_server_refuses_is_not_sent_again_and_the_others_are"
        ],
    ),
    Sabotage(
        "a follow that pauses reconnects after EndSession",
        [Edit("bus_client/stream.py", "if generation != current", "if False")],
        [
            "tests/test_sdk_agents.py::test_a_follow_in_a_retry_pause_does_not_resume_an_ended_session"
        ],
    ),
    Sabotage(
        "EndSession overtakes a wait that was sent before it",
        [Edit("bus_client/session_generation.py", "        self._all_answered.clear()\n", "")],
        ["tests/test_sdk_agents.py::test_a_session_ends_after_the_waits_sent_before_it_are_open"],
    ),
    Sabotage(
        "waits share the connection of the unary calls",
        [Edit(_CONNECTIONS, "count(1))", "count(0))")],
        [
            "tests/test_sdk_connections.py::test_without_a_stream_there_is_one_connection_and_with_one_there_are_two"
        ],
    ),
    Sabotage(
        "all waits use one connection",
        [Edit(_CONNECTIONS, "if _streams[self._server, number] < self._max_streams", "if True")],
        [
            "tests/test_sdk_connections.py::test_more_waits_than_a_connection_allows_starve_nobody",
            "tests/test_sdk_connections.py::test_a_disconnect_under_many_waits_loses_and_repeats_nothing",
        ],
        timeout=120,
    ),
    Sabotage(
        "a client does not ask for the server's max_streams",
        [
            Edit(
                _CONNECTIONS,
                "            if clock() < self._ask_again:\n",
                "            if True:\n",
            )
        ],
        [
            "tests/test_sdk_connections.py::test_more_waits_than_a_connection_allows_starve_nobody",
        ],
        timeout=120,
    ),
    Sabotage(
        "an import drops true repeats",
        [
            Edit(
                "bus_client/cli/transfer/importing.py",
                '-{equal_lines[digest.digest()]}"',
                '"',
            )
        ],
        ["tests/test_cli_import.py::test_repeated_lines_are_kept_and_a_second_run_posts_nothing"],
    ),
    Sabotage(
        "an import that is run again posts again",
        [
            Edit(
                "bus_client/cli/transfer/importing.py",
                'return f"{_REQUEST_ID}',
                'return f"{id(entry)}-',
            )
        ],
        ["tests/test_cli_import.py::test_repeated_lines_are_kept_and_a_second_run_posts_nothing"],
    ),
    Sabotage(
        "an export has the old content of edited messages",
        [
            Edit(
                "bus_client/cli/transfer/format.py",
                "    if message.edit_seq:\n",
                "    if False:\n",
            )
        ],
        ["tests/test_cli_export.py::test_an_edited_message_is_exported_with_its_current_content"],
    ),
    Sabotage(
        "an export mixes two threads that had the same name",
        [
            Edit(
                "bus_client/cli/transfer/format.py",
                "if now.epoch != thread.epoch:",
                "if False:",
            )
        ],
        ["tests/test_cli_export.py::test_a_thread_recreated_during_the_export_is_an_error"],
    ),
    Sabotage(
        "a token file that others can read is used",
        [Edit("bus_client/credentials.py", "        _check_token_file(Path(file))\n", "")],
        ["tests/test_cli_agents.py::test_a_token_file_that_others_can_read_is_refused"],
    ),
    Sabotage(
        "wait --after takes no lease",
        [
            Edit(
                "bus_client/cli/waiting.py",
                "        if messages and not observe:\n",
                "        if messages and after is None and not observe:\n",
            )
        ],
        ["tests/test_cli_presence.py::test_wait_takes_a_lease_of_the_given_duration[after]"],
        timeout=60,  # it gives up by itself
    ),
    Sabotage(
        "tail ends with the session of its agent",
        [Edit("bus_client/cli/tailing.py", "                observe=True,\n", "")],
        ["tests/test_cli_tail.py::test_tail_outlasts_the_agents_session_and_begins_none"],
        timeout=60,
    ),
    Sabotage(
        "a handle whose session ended says that its thread is closed",
        [
            Edit(
                "bus_client/reader.py",
                "closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED",
                'closed = frame.HasField("ending")',
            )
        ],
        ["tests/test_sdk_follow.py::test_a_follow_ends_with_the_session_though_the_thread_is_open"],
        timeout=60,
    ),
    Sabotage(
        "tail does not notice that the connection is lost",
        [
            Edit(
                "bus_client/cli/tailing.py",
                "            await channel.channel_ready()\n            while",
                "            return\n            while",
            )
        ],
        [
            "tests/test_cli_tail.py::test_tail_reports_when_the_connection_is_lost_and_restored",
        ],
        timeout=60,
    ),
    Sabotage(
        "doctor leaves its thread behind",
        [
            Edit(
                "bus_client/cli/doctor/server_checks.py",
                "        await thread.delete()\n",
                "        pass\n",
            )
        ],
        ["tests/test_cli_doctor.py::test_doctor_leaves_no_thread_behind"],
    ),
    Sabotage(
        "a client does not limit the concurrent calls on its connection",
        [
            Edit(
                "bus_client/connections.py",
                "self._unary_slots = asyncio.Semaphore(_MAX_STREAMS)",
                "self._unary_slots = asyncio.Semaphore(1 << 20)",
            )
        ],
        ["tests/test_sdk_connections.py::test_any_number_of_calls_may_be_made_concurrently"],
    ),
    Sabotage(
        "a mention in another case is not found",
        [
            Edit(
                "bus_client/cli/mentions.py",
                "typed.setdefault(as_typed.lower(), as_typed)",
                "typed.setdefault(as_typed, as_typed)",
            )
        ],
        ["tests/test_cli_posting.py::test_names_in_the_text_are_found_case_insensitively"],
    ),
    Sabotage(
        "names in inline code are mentions",
        [Edit("bus_client/cli/mentions.py", "if end is not None:", "if False:")],
        ["tests/test_cli_posting.py::test_names_in_code_are_not_mentions"],
    ),
    Sabotage(
        "names in fenced code are mentions",
        [Edit("bus_client/cli/mentions.py", '_FENCED.sub("\\n\\n", text)', "text")],
        ["tests/test_cli_posting.py::test_names_in_code_are_not_mentions"],
    ),
    Sabotage(
        "post and join do not report a new thread",
        [
            Edit(
                "bus_client/cli/posting.py",
                "    if handle.created:\n        session",
                "    if False:\n        session",
            )
        ],
        ["tests/test_names_by_case.py::test_post_and_join_print_that_a_thread_is_new"],
    ),
    Sabotage(
        "commands do not report a new agent",
        [Edit("bus_client/client.py", "self._created = calls.created", "pass")],
        [
            "tests/test_names_by_case.py::test_registering_prints_whether_the_agent_is_new",
        ],
    ),
    Sabotage(
        "equal lines of two sources are one message",
        [
            Edit(
                "bus_client/cli/transfer/importing.py",
                'source = f"{self._source}\\0" if self._source else ""',
                'source = ""',
            )
        ],
        ["tests/test_cli_import.py::test_the_same_lines_from_another_source_are_other_messages"],
    ),
    Sabotage(
        "an import does not report lines that another file had",
        [
            Edit(
                "bus_client/cli/transfer/importing.py",
                "if self._posted or seq <= last:",
                "if seq <= last:",
            )
        ],
        ["tests/test_cli_import.py::test_lines_already_imported_from_another_file_are_reported"],
    ),
    Sabotage(
        "importing the contract loads the SDK",
        [Edit("protos/threadbus/__init__.py", "else:\n", "else:\n    import bus_client.client\n")],
        ["tests/test_sdk_exports.py::test_importing_it_loads_neither_grpc_nor_protobuf"],
    ),
    Sabotage(
        "a follow reconnects at its first cursor",
        [
            Edit(
                "bus_client/stream.py",
                "            position.resume(request)\n",
                "",
            )
        ],
        ["tests/test_sdk_stream.py::test_a_follower_reconnects_and_resumes"],
    ),
    Sabotage(
        "a message counts as read before the next one is requested",
        [
            Edit(
                "bus_client/reader.py",
                '                    if frame.HasField("messages"):\n',
                "                    if cursor_of(frame) is not None:\n"
                "                        self._mark_read(cursor_of(frame), report=acknowledge)\n"
                '                    if frame.HasField("messages"):\n',
            )
        ],
        ["tests/test_sdk_follow.py::test_a_message_counts_as_read_when_the_next_is_requested"],
    ),
    Sabotage(
        "each attempt of a post has a new request_id",
        [
            Edit(
                "bus_client/calls.py",
                "            left = min(deadline - loop.time(), _ATTEMPT_TIMEOUT)\n",
                "            left = min(deadline - loop.time(), _ATTEMPT_TIMEOUT)\n"
                "            if request_id:\n"
                "                request.request_id = f'{loop.time()}'\n",
            )
        ],
        ["tests/test_sdk_post_outcome.py"],
    ),
    Sabotage(
        "an exception keeps its stream open",
        [
            Edit(
                "bus_client/errors.py",
                "    error.__traceback__ = error.__context__ = error.__cause__ = None\n",
                "",
            )
        ],
        ["tests/test_sdk_connections.py::test_an_error_keeps_no_connection_of_a_closed_client"],
        timeout=60,
    ),
    Sabotage(
        "posts that may be stored are called refused if the agent cannot be registered again",
        [
            Edit(
                "bus_client/post_stream.py",
                "raise (self._unknown(failure) if self._in_doubt else failure) from None",
                "raise failure",
            )
        ],
        [
            "tests/test_sdk_unknown_tokens.py::test_posts_stay_unknown_though_the_agent_cannot_be_registered_again"
        ],
    ),
]
