"""Mutants: the checks of arguments, the credentials file, and output."""

from sabotage import Edit, Sabotage

_REQUESTS = "bus_client/requests.py"
_CREDENTIALS = "bus_client/credentials.py"
_IDENTITY = "bus_client/identity.py"
_TEXT = "bus_client/cli/text.py"
_INPUT = "tests/test_sdk_input.py"
_FILE = "tests/test_sdk_credentials_file.py"

SABOTAGES = [
    Sabotage(
        "half a surrogate pair is left to protobuf",
        [Edit(_REQUESTS, "    if not value.isascii():\n", "    if False:\n")],
        [
            f"{_INPUT}::test_a_post_that_cannot_be_sent_is_refused_with_its_field",
            f"{_INPUT}::test_every_call_names_the_field_that_it_cannot_send",
        ],
    ),
    Sabotage(
        "a string counts as a list of characters",
        [Edit(_REQUESTS, "    if isinstance(value, str | bytes) or not", "    if not")],
        [f"{_INPUT}::test_a_post_that_cannot_be_sent_is_refused_with_its_field"],
    ),
    Sabotage(
        "None counts as unset in a field that needs a value",
        [Edit(_REQUESTS, "if value is not unset:", "if value is not unset and value is not None:")],
        [f"{_INPUT}::test_a_post_that_cannot_be_sent_is_refused_with_its_field"],
    ),
    Sabotage(
        "a number out of range is left to protobuf",
        [Edit(_REQUESTS, "    if not least <= number <= most:\n", "    if False:\n")],
        [f"{_INPUT}::test_a_post_that_cannot_be_sent_is_refused_with_its_field"],
    ),
    Sabotage(
        "a timeout that is not a number means no timeout",
        [Edit(_REQUESTS, "    if math.isnan(value):\n", "    if False:\n")],
        [f"{_INPUT}::test_every_call_names_the_field_that_it_cannot_send"],
        timeout=60,
    ),
    Sabotage(
        "a post that cannot be sent ends post_many",
        [
            Edit(
                "bus_client/post.py",
                "        return refused.with_traceback(None)\n",
                "        raise\n",
            )
        ],
        [f"{_INPUT}::test_a_post_that_cannot_be_sent_stops_no_other_of_post_many"],
    ),
    Sabotage(
        "posts that cannot be sent are returned before the others of their batch",
        [
            Edit(
                "bus_client/post_stream.py",
                "        self.places.append(None)\n",
                "        self.places.insert(0, None)\n",
            )
        ],
        [f"{_INPUT}::test_a_post_that_cannot_be_sent_stops_no_other_of_post_many"],
    ),
    Sabotage(
        "an empty batch waits for a response",
        [
            Edit(
                "bus_client/post_stream.py",
                "await self._response(call) if batch.request.posts else None",
                "await self._response(call)",
            )
        ],
        [f"{_INPUT}::test_if_no_post_can_be_sent_each_gets_an_error_without_a_server"],
        timeout=60,
    ),
    Sabotage(
        "a forked process opens a channel",
        [
            Edit(
                "bus_client/channel.py",
                "    return _process not in (None, os.getpid())\n",
                "    return False\n",
            )
        ],
        [
            "tests/test_sdk_forks.py::test_no_client_connects_after_a_fork_though_all_were_closed_before"
        ],
        timeout=120,
    ),
    Sabotage(
        "a client inherited across a fork makes calls",
        [
            Edit(
                "bus_client/connections.py",
                "        refuse_fork()\n        try:\n",
                "        try:\n",
            )
        ],
        [
            "tests/test_sdk_forks.py::test_an_inherited_client_makes_no_call_and_closing_it_does_not_affect_the_parent"
        ],
        timeout=120,
    ),
    Sabotage(
        "the credentials file is looked for although no saved token is needed",
        [
            Edit(
                "bus_client/identity.py",
                "    if credentials is None:\n        return None\n",
                "    if credentials is None:\n"
                "        from bus_client.credentials import default_path\n\n"
                "        return default_path()\n",
            )
        ],
        [f"{_FILE}::test_without_a_home_folder_only_a_stored_token_is_missing"],
    ),
    Sabotage(
        "tokens that others can read are used",
        [Edit(_CREDENTIALS, "if status.st_uid == user and mode & 0o077:", "if False:")],
        [f"{_FILE}::test_a_file_that_others_may_read_is_refused_as_ssh_does"],
    ),
    Sabotage(
        "the lock of the credentials file follows a symbolic link",
        [Edit(_CREDENTIALS, "os.O_CREAT | os.O_NOFOLLOW", "os.O_CREAT")],
        [f"{_FILE}::test_a_lock_file_that_is_a_link_is_not_followed"],
    ),
    Sabotage(
        "a symbolic link to the credentials file is replaced by a file",
        [Edit(_CREDENTIALS, "        return path.resolve()\n", "        return path\n")],
        [f"{_FILE}::test_a_link_to_the_file_stays_one"],
    ),
    Sabotage(
        "the wait for the lock of the credentials file has no timeout",
        [Edit(_CREDENTIALS, "if time.monotonic() > end:", "if False:")],
        [f"{_FILE}::test_a_lock_held_for_too_long_is_an_error_that_names_it"],
        timeout=60,
    ),
    Sabotage(
        "a refused registration leaves its token in the file",
        [Edit(_IDENTITY, "self._new_token = token if created else None", "self._new_token = None")],
        [f"{_FILE}::test_a_token_made_for_a_taken_name_is_not_stored"],
    ),
    Sabotage(
        "a refused registration deletes a token that was there before",
        [
            Edit(
                _IDENTITY, "self._new_token = token if created else None", "self._new_token = token"
            )
        ],
        [f"{_FILE}::test_an_earlier_token_stays_though_the_name_is_taken_on_this_server"],
    ),
    Sabotage(
        "any refusal of a field deletes the token",
        [Edit(_IDENTITY, ' and names == ["agent"]\n', "\n")],
        [f"{_FILE}::test_a_token_that_may_be_the_agents_stays"],
    ),
    Sabotage(
        "a token that another process replaced is lost",
        [Edit(_CREDENTIALS, "if kept != token:", "if kept is None:")],
        [f"{_FILE}::test_a_token_replaced_by_another_process_stays"],
    ),
    Sabotage(
        "zero-width characters reach the terminal",
        [Edit(_TEXT, "\\u200b-\\u200f", "\\u200e\\u200f")],
        [
            "tests/test_cli_text.py::test_characters_that_hide_or_harm_are_made_visible_and_preserved_in_json"
        ],
    ),
    Sabotage(
        "joiners are printed anywhere",
        [Edit(_TEXT, '(?<=[{_JOINED}])[\\u200c\\u200d])"', '[\\u200c\\u200d])"')],
        [
            "tests/test_cli_text.py::test_characters_that_hide_or_harm_are_made_visible_and_preserved_in_json"
        ],
    ),
    Sabotage(
        "emoji sequences are escaped",
        [Edit(_TEXT, '    f"|(?<=[{_SYMBOL}])[\\ufe0e\\ufe0f]"\n', "")],
        ["tests/test_cli_text.py::test_ordinary_text_of_any_script_stays_as_it_is"],
    ),
    Sabotage(
        "notes on stderr are not escaped",
        [Edit("bus_client/cli/output.py", "print_stderr(safe(text))", "print_stderr(text)")],
        ["tests/test_cli_hostile_server.py::test_control_characters_in_responses_are_made_visible"],
        timeout=120,
    ),
    Sabotage(
        "an export is not escaped on a terminal",
        [
            Edit(
                "bus_client/cli/transfer/format.py",
                "dumps if on_terminal else functools",
                "functools",
            )
        ],
        ["tests/test_cli_terminal.py::test_an_export_is_safe_on_a_terminal"],
    ),
    Sabotage(
        "the descriptor of a closed standard stream is reused",
        [Edit("bus_client/cli/streams.py", "for descriptor in range(3):", "for descriptor in ():")],
        ["tests/test_cli_failures.py::test_closed_descriptors_are_reopened_before_anything_else"],
    ),
    Sabotage(
        "a failed write to stderr changes the exit code",
        [Edit("bus_client/cli/streams.py", "        _discard(sys.stderr)\n", "        raise\n")],
        [
            "tests/test_cli_failures.py::test_the_exit_code_is_the_same_whatever_streams_are_closed",
        ],
        timeout=120,
    ),
    Sabotage(
        "minutes count as seconds",
        [Edit("bus_client/cli/options.py", '"m": 60', '"m": 1')],
        ["tests/test_cli_input.py::test_units_have_their_usual_meaning"],
    ),
    Sabotage(
        "the command line accepts times that the server lowers",
        [Edit("bus_client/cli/options.py", "Duration(maximum=maximum)", "Duration()")],
        [
            "tests/test_cli_input.py"
            "::test_a_duration_that_the_server_would_shorten_is_wrong_usage[grace]",
        ],
    ),
    Sabotage(
        "post_many of bus_client.sync accepts a string as posts",
        [Edit("bus_client/sync/thread.py", "checked_several(posts)", "posts")],
        [f"{_INPUT}::test_the_sync_client_refuses_the_same"],
    ),
    Sabotage(
        "a handle reads another thread",
        [Edit("bus_client/reader.py", "if position.thread != self._thread:", "if False:")],
        [f"{_INPUT}::test_a_handle_refuses_an_invalid_name_and_position"],
    ),
    Sabotage(
        "subclasses of known exceptions have no exit code",
        [Edit("bus_client/cli/failures.py", " if name in _MEANINGS)", ")")],
        ["tests/test_cli_failures.py::test_a_server_that_is_unavailable_is_exit_code_4"],
        timeout=60,
    ),
]
