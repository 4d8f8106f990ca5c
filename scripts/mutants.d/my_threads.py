"""Mutants of waits on all threads of an agent."""

from sabotage import Edit, Sabotage

_INDEX, _LOOP = "bus_server/memberships.py", "bus_server/follow/my_threads.py"
_TESTS, _PAIRS = "tests/test_my_threads.py", "tests/test_my_threads_servers.py"
_RACES = "tests/test_my_threads_races.py"

SABOTAGES = [
    Sabotage(
        "a wait on all threads does not notice that the agent joined one",
        [
            Edit(
                _INDEX,
                "        mine.moves.append((name, head))\n        return {mine}",
                "        return set()",
            )
        ],
        [f"{_TESTS}::test_a_thread_is_added_when_the_caller_comes_to_take_part"],
        timeout=90,
    ),
    Sabotage(
        "a wait on all threads goes on with one that the agent has left",
        [
            Edit(
                _INDEX,
                "                        told |= self._lose_one(mine, name)\n"
                "                    else:\n",
                "                        pass\n                    else:\n",
            )
        ],
        [f"{_TESTS}::test_a_thread_that_is_left_or_deleted_ends_nothing"],
        timeout=60,
    ),
    Sabotage(
        "an inbox is woken by every entry of its threads",
        [Edit(_INDEX, "if mine.agent in agents}", "}")],
        [f"{_RACES}::test_entries_for_others_do_not_reach_the_loop_of_an_inbox"],
    ),
    Sabotage(
        "a wait on all threads starts before what was read",
        [Edit(_INDEX, "        return read, head.epoch, 0\n", "        return 0, head.epoch, 0\n")],
        [f"{_TESTS}::test_it_starts_at_the_read_position_or_at_a_cursor"],
    ),
    Sabotage(
        "a token with prefixes waits on all threads of its agent",
        [
            Edit(
                _LOOP, "                if not mine.wants(thread):\n", "                if False:\n"
            )
        ],
        [f"{_TESTS}::test_a_token_with_prefixes_waits_on_its_threads"],
    ),
    Sabotage(
        "a wait on all threads is not told what other servers commit",
        [Edit("bus_server/relay.py", "self._memberships.look(changed)", "asyncio.sleep(0)")],
        [f"{_PAIRS}::test_a_hint_about_a_thread_is_enough"],
        timeout=60,
    ),
    Sabotage(
        "polls do not look at threads that were active",
        [
            Edit(
                "bus_server/fallback.py",
                "        await self._resources.memberships.look_at_active()\n",
                "",
            )
        ],
        [f"{_PAIRS}::test_a_post_at_the_other_server_reaches_it"],
    ),
    Sabotage(
        "what is committed while the threads of a wait are read is lost",
        [
            Edit(
                _INDEX,
                "        concerned = self._loading | self._all",
                "        concerned = self._all",
            )
        ],
        [f"{_RACES}::test_nothing_is_missed_while_its_threads_are_read"],
        timeout=60,
    ),
    Sabotage(
        "a new inbox starts before the last read positions are reported",
        [
            Edit(
                "bus_client/threads_reader.py",
                "            await self._heartbeats.flush()  # it starts",
                "            # it starts",
            )
        ],
        ["tests/test_sdk_inbox.py::test_what_was_read_is_not_delivered_again"],
    ),
    Sabotage(
        "a thread is added after what the agent has missed in it",
        [
            Edit(
                _LOOP,
                "added.to_proto(added.requested if added.resync else None)",
                "added.to_proto()",
            )
        ],
        ["tests/test_waiting_compacted.py"],
        timeout=30,
    ),
]
