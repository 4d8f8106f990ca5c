"""Mutants: fairness between callers."""

from sabotage import Edit, Sabotage

_WRITER, _TESTS = "bus_server/writer.py", "tests/test_fairness.py"

SABOTAGES = [
    Sabotage(
        "posts are stored in order of arrival over all callers",
        [Edit(_WRITER, "self._queue.put(fair_queue.fairness_key.get(), ", 'self._queue.put("", ')],
        [
            f"{_TESTS}::test_posts_are_stored_in_turns_by_caller_and_in_order_for_each",
            f"{_TESTS}::test_a_post_does_not_wait_for_another_callers_large_batches",
        ],
    ),
    Sabotage(
        "a call has no fairness key",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "        fair_queue.fairness_key.set(caller.fairness_key)\n",
                "",
            )
        ],
        [f"{_TESTS}::test_an_agents_post_is_stored_before_another_callers_queue"],
    ),
    Sabotage(
        "a transaction takes the whole queue",
        [
            Edit(
                _WRITER,
                "while self._queue and (not batch or cost",
                "while self._queue and (True or cost",
            )
        ],
        [f"{_TESTS}::test_a_post_does_not_wait_for_another_callers_large_batches"],
    ),
    Sabotage(
        "posts wait for others even while there is processor time to spare",
        [
            Edit(
                _WRITER,
                "LINGER, MAX_LINGER, BUSY = 500e-6, 0.010, 0.65",
                "LINGER, MAX_LINGER, BUSY = 500e-6, 0.010, -1.0",
            )
        ],
        [f"{_TESTS}::test_the_writer_does_not_linger_while_the_event_loop_is_not_busy"],
    ),
    Sabotage(
        "posts never wait for others",
        [
            Edit(
                _WRITER,
                "LINGER, MAX_LINGER, BUSY = 500e-6, 0.010, 0.65",
                "LINGER, MAX_LINGER, BUSY = 500e-6, 0.010, 1e9",
            )
        ],
        [
            f"{_TESTS}::test_the_writer_lingers_for_all_that_were_pending_while_the_event_loop_is_busy"
        ],
    ),
    Sabotage(
        "one caller's full queue refuses all others",
        [
            Edit(
                _WRITER,
                "RESERVE, SMALL_SHARE = 1 / 4, 1 / 32",
                "RESERVE, SMALL_SHARE = -1.0, 1 / 32",
            )
        ],
        [f"{_TESTS}::test_one_caller_may_fill_the_queue_and_another_still_gets_in"],
    ),
    Sabotage(
        "the reserve for other callers has no limit",
        [
            Edit(
                _WRITER,
                "RESERVE, SMALL_SHARE = 1 / 4, 1 / 32",
                "RESERVE, SMALL_SHARE = 1e9, 1 / 32",
            )
        ],
        [f"{_TESTS}::test_the_reserve_for_other_callers_is_limited"],
    ),
    Sabotage(
        "heavy reads run in order of arrival over all callers",
        [
            Edit(
                "bus_server/fair_queue.py",
                "self._queue.put(fairness_key.get(), turn)",
                'self._queue.put("", turn)',
            )
        ],
        [f"{_TESTS}::test_callers_take_turns_in_heavy_reads"],
    ),
    Sabotage(
        "a cancelled waiter keeps the lock",
        [
            Edit(
                "bus_server/fair_queue.py",
                "            if not turn.done():  # else the task that waited was cancelled\n",
                "            if turn.cancelled():\n                return\n            if True:\n",
            )
        ],
        [f"{_TESTS}::test_callers_take_turns_in_heavy_reads"],
    ),
    Sabotage(
        "of many read positions only the first are written",
        [
            Edit(
                "bus_server/presence/checkpointer.py",
                "keys[batch] if k in",
                "keys[:BATCH] if not start and k in",
            )
        ],
        [f"{_TESTS}::test_many_read_positions_are_all_written"],
    ),
    Sabotage(
        "unknown tokens are refused without delay",
        [Edit("bus_server/auth.py", "            await self._delay_refusal()\n", "")],
        [f"{_TESTS}::test_unknown_tokens_are_refused_in_turns_and_delay_no_valid_one"],
    ),
    Sabotage(
        "a valid token is delayed by unknown ones",
        [
            Edit(
                "bus_server/auth.py",
                "        owner = await self._store.owner(hashed)\n",
                "        await self._delay_refusal()\n"
                "        owner = await self._store.owner(hashed)\n",
            ),
            Edit(
                "bus_server/auth.py",
                "            await self._delay_refusal()\n            raise",
                "            raise",
            ),
        ],
        [f"{_TESTS}::test_unknown_tokens_are_refused_in_turns_and_delay_no_valid_one"],
    ),
    Sabotage(
        "a refused token stays cached as unknown",
        [
            Edit(
                "bus_server/auth.py",
                "        owner = await self._store.owner(hashed)\n",
                "        if hashed in self.__dict__.setdefault('unknown', set()):\n"
                "            raise TokenInvalid('unknown')\n"
                "        owner = await self._store.owner(hashed)\n"
                "        if owner is None:\n"
                "            self.__dict__['unknown'].add(hashed)\n",
            )
        ],
        [f"{_TESTS}::test_a_refused_token_works_once_it_is_registered_at_either_server"],
    ),
]
