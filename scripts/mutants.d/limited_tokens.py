"""Mutants: what limited tokens permit, and how tokens of operators' making end."""

from sabotage import Edit, Sabotage

_DISPATCH = "bus_server/services/dispatch.py"
_DECISIONS = "bus_server/store/tokens.py"
_HIDDEN = "tests/test_permissions.py::test_other_threads_do_not_exist_for_a_token_with_prefixes"
_ENDING = "tests/test_tokens_ending.py::test_streams_end_with_their_token"
_ROTATION = "tests/test_tokens.py::test_rotation_keeps_id_and_permissions_and_extends_nothing"

SABOTAGES = [
    Sabotage(
        "unary calls reach every thread",
        [
            Edit(
                _DISPATCH,
                "                    needed.check_threads(caller.prefixes, names(request))\n",
                "                    pass\n",
            )
        ],
        [f"{_HIDDEN}[required-GetThread]"],
    ),
    Sabotage(
        "waits reach every thread",
        [
            Edit(
                _DISPATCH,
                "                rule.check_threads(caller.prefixes, names(request))\n",
                "                pass\n",
            )
        ],
        [f"{_HIDDEN}[required-WaitMessages]"],
    ),
    Sabotage(
        "batch posts reach every thread",
        [
            Edit(
                "bus_server/services/posting.py",
                "                RULE.check_threads(self._caller.prefixes, [request.thread])\n",
                "                pass\n",
            )
        ],
        [
            f"{_HIDDEN}[required-PostMessages]",
            "tests/test_token_threads.py::test_in_a_batch_only_posts_to_other_threads_are_refused",
        ],
    ),
    Sabotage(
        "a limited token creates any thread",
        [
            Edit(
                "bus_server/permissions.py",
                "        if hidden and self.threads is Threads.NEW:",
                "        if False:",
            )
        ],
        [f"{_HIDDEN}[required-CreateThread]"],
    ),
    Sabotage(
        "a limited token unregisters its agent",
        [
            Edit(
                "bus_server/permissions.py",
                "        if self.threads is Threads.ALL:",
                "        if False:",
            )
        ],
        ["tests/test_token_threads.py::test_a_limited_token_does_not_unregister_its_agent"],
    ),
    Sabotage(
        "lists show every thread",
        [
            Edit(
                "bus_server/services/thread_service.py",
                "prefixes=narrowed(prefix, caller.prefixes),",
                "prefixes=[prefix],",
            )
        ],
        ["tests/test_token_threads.py::test_threads_of_several_prefixes_are_listed_in_one_order"],
    ),
    Sabotage(
        "errors name hidden threads",
        [Edit(_DISPATCH, "refusal = refusal.seen_through(call.caller.prefixes)", "pass")],
        ["tests/test_token_threads.py::test_similar_names_of_other_threads_are_not_told"],
    ),
    Sabotage(
        "a heartbeat tells of every thread",
        [
            Edit(
                "bus_server/services/bus_service.py",
                "await self._bus.heartbeat(caller.own_name, beat, caller.prefixes)",
                "await self._bus.heartbeat(caller.own_name, beat)",
            )
        ],
        ["tests/test_token_threads.py::test_unread_and_read_positions_are_only_of_own_threads"],
    ),
    Sabotage(
        "a heartbeat moves positions in every thread",
        [
            Edit(
                "bus_server/services/bus_service.py",
                "if each[0].startswith(caller.prefixes))",
                "if each)",
            )
        ],
        ["tests/test_token_threads.py::test_unread_and_read_positions_are_only_of_own_threads"],
    ),
    Sabotage(
        "a rotated token loses its limits",
        [
            Edit(
                _DECISIONS,
                "        new = old._replace(expire_time=old.end_time)",
                "        new = agents_token(old.agent, command.new_hash)",
            )
        ],
        [_ROTATION],
    ),
    Sabotage(
        "a rotation extends the lifetime",
        [
            Edit(
                _DECISIONS,
                "        new = old._replace(expire_time=old.end_time)",
                "        new = old._replace(expire_time=0, end_time=0)",
            )
        ],
        [_ROTATION],
    ),
    Sabotage(
        "a rotation ends all tokens of the agent",
        [
            Edit(
                _DECISIONS,
                "        replaced = batch.tokens_with_id(old.token_id)",
                "        replaced = batch.tokens_of(old.agent)",
            ),
            Edit(
                "bus_server/store/sqlite/tokens.py",
                "    for agent in agents:",
                "    for agent in agents | {row[1] for row in rows}:",
            ),
        ],
        [_ROTATION],
    ),
    Sabotage(
        "a reset leaves other tokens valid",
        [
            Edit(
                _DECISIONS,
                "replaced, new = batch.tokens_of(agent), agents",
                "replaced, new = {}, agents",
            )
        ],
        ["tests/test_tokens.py::test_an_operators_reset_ends_every_token_of_the_agent"],
    ),
    Sabotage(
        "waits go on with a revoked token",
        [
            Edit(
                "bus_server/tokens.py",
                "        await self._expire(dict.fromkeys(revoked))\n",
                "",
            )
        ],
        [f"{_ENDING}[revoked-alone]"],
        timeout=30,
    ),
    Sabotage(
        "streams of posts go on with a token that ended",
        [
            Edit(
                "bus_server/tokens.py",
                "        self._post_streams.expire(expire_times)\n",
                "",
            )
        ],
        [f"{_ENDING}[revoked-alone]", f"{_ENDING}[reset-there]"],
        timeout=30,
    ),
    Sabotage(
        "streams of posts go on after their token's lifetime",
        [
            Edit(
                "bus_server/post_streams.py",
                "        stream.expire(expire_time)\n        try:",
                "        try:",
            )
        ],
        [f"{_ENDING}[lifetime-alone]"],
        timeout=30,
    ),
    Sabotage(
        "a wait that opens while its token ends goes on",
        [
            Edit(
                _DISPATCH,
                "            if not self._auth.is_current(caller):\n"
                "                caller = await self._admit(call, rule, active=False)\n",
                "",
            )
        ],
        [
            "tests/test_tokens_ending.py"
            "::test_a_stream_that_opens_while_its_token_ends_ends_too[WaitMessages-alone]"
        ],
        timeout=30,
    ),
    Sabotage(
        "an unknown token is looked up at every call",
        [Edit("bus_server/auth.py", "        if wait > 0:\n", "        if False:\n")],
        ["tests/test_fairness.py::test_an_unknown_token_is_looked_up_at_intervals"],
    ),
    Sabotage(
        "an operator's token with a lifetime is cut when the server starts",
        [
            Edit(
                "bus_server/store/sqlite/clock.py",
                " AND expire_time <> end_time",
                "",
            )
        ],
        ["tests/sqlite/test_store_clock.py::test_no_rotated_token_is_valid_for_more_than_an_hour"],
    ),
    Sabotage(
        "the last use of a token is not saved",
        [
            Edit(
                "bus_server/store/agents.py",
                "    batch.changes.token_uses |= command.token_uses\n",
                "",
            )
        ],
        ["tests/test_tokens.py::test_the_last_use_is_listed_to_the_minute"],
        timeout=30,
    ),
    Sabotage(
        "a call runs whose token ended while its request arrived",
        [
            Edit(
                _DISPATCH,
                "if not self._auth.is_current(caller):  # the request",
                "if False:  # the request",
            )
        ],
        ["tests/test_tokens.py::test_a_call_whose_request_arrives_late_is_refused[revoked]"],
    ),
    Sabotage(
        "a revocation whose client goes away is not whole",
        [
            Edit(
                _DISPATCH,
                "        return await asyncio.shield(task)",
                "        return await task",
            )
        ],
        [
            "tests/sqlite/test_token_ends.py"
            "::test_a_call_that_ends_a_token_does_so_though_it_is_cancelled[revoked]"
        ],
        timeout=30,
    ),
    Sabotage(
        "a lookup serves calls that begin after tokens ended",
        [
            Edit(
                "bus_server/auth.py",
                "self._known, self._lookups = {}, {}",
                "self._known = {}",
            )
        ],
        [
            "tests/test_identity_races.py"
            "::test_a_lookup_serves_no_call_that_begins_after_tokens_ended"
        ],
        timeout=30,
    ),
    Sabotage(
        "a revoked token in the server's file is added again",
        [
            Edit(
                _DECISIONS,
                "    if found is not None and found.expire_time == REVOKED:",
                "    if False:",
            )
        ],
        [
            "tests/sqlite/test_operator_file.py"
            "::test_operators_tokens_outlive_a_new_file_and_a_revoked_one_ends_for_good"
        ],
    ),
    Sabotage(
        "a new file ends all tokens of operators",
        [
            Edit(
                _DECISIONS,
                "                if token.token_id == _id_in_file(token_hash):",
                "                if token:",
            )
        ],
        [
            "tests/sqlite/test_operator_file.py"
            "::test_operators_tokens_outlive_a_new_file_and_a_revoked_one_ends_for_good"
        ],
    ),
    Sabotage(
        "a limited token ends all waits of its agent",
        [
            Edit(
                "bus_server/services/agent_service.py",
                'only = caller.token if limited else b""',
                'only = b""',
            )
        ],
        ["tests/test_token_threads.py::test_a_limited_token_ends_only_its_own_waits"],
    ),
]
