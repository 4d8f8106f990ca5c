"""Broken promises of two servers on one file, and of the Python client."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "the fallback never refreshes heads",
        [
            Edit(
                "bus_server/fallback.py",
                "if version != seen and await self._refresh():",
                "if version is None and await self._refresh():",
            )
        ],
        ["tests/test_two_servers.py::test_a_wait_sees_what_is_posted_through_the_other_server"],
    ),
    Sabotage(
        "the fallback remembers data_version before it has read the heads",
        [
            Edit(
                "bus_server/fallback.py",
                "                if version != seen and await self._refresh():\n"
                "                    seen = version\n",
                "                if version != seen:\n"
                "                    seen = version\n"
                "                    await self._refresh()\n",
            )
        ],
        [
            "tests/test_promises.py::test_what_others_wrote_is_found_although_the_look_for_it_failed_once"
        ],
    ),
    Sabotage(
        "a follow that comes again begins where it began",
        [
            Edit(
                "bus_client/stream.py",
                "                request.threads[0].CopyFrom(position.cursor)\n",
                "                pass\n",
            )
        ],
        ["tests/test_sdk_stream.py::test_a_follower_comes_again_and_resumes"],
    ),
    Sabotage(
        "a message counts as read before the next is asked for",
        [
            Edit(
                "bus_client/reader.py",
                "                    for message in known_kinds(frame.messages.messages):\n",
                "                    if cursor_of(frame) is not None:\n"
                "                        self._mark_read(cursor_of(frame), report=acknowledge)\n"
                "                    for message in known_kinds(frame.messages.messages):\n",
            )
        ],
        ["tests/test_sdk_follow.py::test_a_message_is_read_when_the_next_is_asked_for"],
    ),
    Sabotage(
        "each attempt of a post has a request_id of its own",
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
        "errors that are kept keep the stream",
        [
            Edit(
                "bus_client/errors.py",
                "    error.__traceback__ = error.__context__ = error.__cause__ = None\n",
                "",
            )
        ],
        [
            "tests/test_sdk_connections.py"
            "::test_an_error_keeps_no_connection_of_a_client_that_is_closed"
        ],
        timeout=60,
    ),
]
