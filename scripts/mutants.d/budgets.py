"""Mutants: what the server buffers for callers: requests, responses, frames."""

from sabotage import Edit, Sabotage

_ARRIVING = "tests/test_arriving.py"
_UNREAD = "tests/test_unread.py"

SABOTAGES = [
    Sabotage(
        "a connection may have any number of calls open",
        [
            Edit(
                "bus_server/server.py",
                '        ("grpc.max_concurrent_streams", settings.max_streams),\n',
                "",
            )
        ],
        [f"{_ARRIVING}::test_a_connection_that_opens_and_resets_calls_fills_no_memory"],
    ),
    Sabotage(
        "gRPC buffers more of a request on a faster connection",
        [Edit("bus_server/server.py", '        ("grpc.http2.bdp_probe", 0),\n', "")],
        [f"{_ARRIVING}::test_requests_that_wait_to_be_read_are_held_back"],
    ),
    Sabotage(
        "the request is read before the caller is authenticated",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "            caller = await self._admit(call, rule, token_needed)\n"
                "            request = parse(await call.reader(caller.fairness_key).receive())\n",
                "            request = parse(await call.reader(call.context.peer()).receive())\n"
                "            caller = await self._admit(call, rule, token_needed)\n",
            )
        ],
        [f"{_ARRIVING}::test_a_call_without_a_token_is_refused_before_its_request_is_sent"],
    ),
    Sabotage(
        "requests that arrive are not counted",
        [
            Edit(
                "bus_server/services/request_reader.py",
                "        if not budget.take_now(self.caller, MAX_CALL_BYTES):\n",
                "        budget.change(self.caller, MAX_CALL_BYTES)\n        if False:\n",
            )
        ],
        [
            f"{_ARRIVING}::test_requests_that_are_never_finished_do_not_fill_the_memory_nor_stop_others"
        ],
    ),
    Sabotage(
        "a request may take any time to arrive",
        [
            Edit(
                "bus_server/services/request_reader.py",
                "        if self._deadline_timer is None:\n",
                "        if False:\n",
            )
        ],
        [f"{_ARRIVING}::test_a_request_that_does_not_arrive_in_time_is_refused"],
    ),
    Sabotage(
        "no request is evicted for a new caller",
        [
            Edit(
                "bus_server/services/request_reader.py",
                "slow[0] if slow else None",
                "None",
            )
        ],
        [
            f"{_ARRIVING}::test_the_caller_with_most_unfinished_requests_makes_room_for_one_without_any"
        ],
    ),
    Sabotage(
        "an idle stream is refused as if its request came late",
        [
            Edit(
                "bus_server/services/request_reader.py",
                "if reader.stream or reader.refusal:",
                "if reader.refusal:",
            )
        ],
        [f"{_ARRIVING}::test_a_stream_of_posts_may_be_idle_for_longer_than_a_request_may_take"],
    ),
    Sabotage(
        "one caller may use up the whole budget",
        [Edit("bus_server/budget.py", "self._reserve = max_bytes // 4", "self._reserve = 0")],
        ["tests/test_budget.py"],
    ),
    Sabotage(
        "budget waiters are served in order instead of by caller",
        [
            Edit(
                "bus_server/budget.py",
                "                if queue:  # at the end, so that the other callers are next\n"
                "                    self._waiting[caller] = queue\n",
                "                if queue:\n"
                "                    self._waiting = {caller: queue} | self._waiting\n",
            )
        ],
        ["tests/test_budget.py::test_waiters_are_served_in_turns_by_caller"],
    ),
    Sabotage(
        "a claim for a response that is owed is refused when many wait",
        [Edit("bus_server/budget.py", "if refusable and self._refusable", "if self._refusable")],
        ["tests/test_budget.py::test_a_claim_without_a_time_limit_is_never_refused"],
    ),
    Sabotage(
        "a claim for a response that is owed makes room for another",
        [
            Edit(
                "bus_server/budget.py",
                "next(claim for claim in reversed(queue) if claim.refusable)",
                "queue[-1]",
            )
        ],
        ["tests/test_budget.py::test_a_claim_without_a_time_limit_is_never_refused"],
    ),
    Sabotage(
        "unread frames are not counted",
        [
            Edit(
                "bus_server/services/frame_writer.py",
                "        if size > SMALL and not self._reserved:\n",
                "        if False:\n",
            )
        ],
        [f"{_UNREAD}::test_unread_responses_do_not_fill_the_memory_and_others_are_served"],
    ),
    Sabotage(
        "unread responses are not counted",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "size = len(response) if len(response) > SMALL else 0",
                "size = 0",
            )
        ],
        [f"{_UNREAD}::test_unread_responses_do_not_fill_the_memory_and_others_are_served"],
    ),
    Sabotage(
        "the bytes of a response are never released",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "        self._unread.give(caller, size)\n",
                "        pass\n",
            )
        ],
        [f"{_UNREAD}::test_unread_responses_do_not_fill_the_memory_and_others_are_served"],
    ),
    Sabotage(
        "the response to a batch has no size limit",
        [
            Edit(
                "bus_server/services/posting.py",
                "EXTRA_BYTES = 3 * 1024 * 1024\n",
                "EXTRA_BYTES = 1 << 40\n",
            )
        ],
        [
            f"{_UNREAD}::test_a_batchs_response_fits_every_client_however_many_recipients",
            f"{_UNREAD}::test_a_batchs_response_fits_every_client_however_each_post_is_refused",
        ],
    ),
    Sabotage(
        "anonymous waits are not counted",
        [
            Edit(
                "bus_server/waits.py",
                "        if not wait.agent and count >= self._max_anonymous_waits:\n",
                "        if False:\n",
            )
        ],
        [f"{_UNREAD}::test_waits_of_anonymous_callers_are_counted_together"],
    ),
    Sabotage(
        "free memory is not returned to the system",
        [
            Edit(
                "bus_server/memory.py",
                "                await loop.run_in_executor(None, _trim)",
                "                pass",
            )
        ],
        [f"{_ARRIVING}::test_freed_memory_goes_back_to_the_system"],
    ),
    Sabotage(
        "a caller's only request is never evicted",
        [
            Edit(
                "bus_server/services/request_reader.py",
                "or reader.since < now - MAX_AGE",
                "or False",
            )
        ],
        [f"{_ARRIVING}::test_requests_of_many_connections_make_room_for_one_more"],
    ),
]
