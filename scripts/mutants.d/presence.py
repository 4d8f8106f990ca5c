"""Mutants: presence."""

from sabotage import Edit, Sabotage

_PRESENCE = "bus_server/presence/presence.py"
_RENEWED = "state.lease_end = max(state.lease_end, now + self._agent_timeout)\n"

SABOTAGES = [
    Sabotage(
        "a delivery does not count as work",
        [
            Edit(
                "bus_server/presence/participants.py",
                "            self._presence.delivered(agent, thread, upto)\n",
                "            pass\n",
            )
        ],
        ["tests/test_presence.py::test_a_delivery_is_work_until_it_is_read"],
    ),
    Sabotage(
        "an agent's own messages count as work",
        [
            Edit(
                "bus_server/follow/wakes.py",
                "own = row[0] == agent",
                "own = False",
            )
        ],
        ["tests/test_presence.py::test_a_delivery_of_its_own_messages_is_no_work"],
    ),
    Sabotage(
        "work ends with any read position of the thread",
        [
            Edit(
                _PRESENCE,
                "if state.pending_work.get(thread, math.inf) <= seq:",
                "if thread in state.pending_work:",
            )
        ],
        ["tests/test_presence.py::test_a_delivery_is_work_until_it_is_read"],
    ),
    Sabotage(
        "work ends with a wait on another thread",
        [
            Edit(
                _PRESENCE,
                "if threads is None else (UNKNOWN_THREAD, *threads)\n",
                "if True else ()\n",
            )
        ],
        ["tests/test_presence.py::test_work_on_one_thread_is_not_ended_by_another"],
    ),
    Sabotage(
        "a wait does not count as a sign of life",
        [
            Edit(
                "bus_server/presence/agent_state.py",
                "        if waits:\n",
                "        if waits and alive:\n",
            )
        ],
        [
            "tests/test_presence_timeouts.py::test_a_wait_outlasts_ten_timeouts_and_its_end_is_the_last_activity"
        ],
    ),
    Sabotage(
        "the end of a wait does not count as a sign of life",
        [
            Edit(
                _PRESENCE,
                "state.local, state.last_seen_time = True, self._clock.now()\n            if now",
                "state.local = True\n            if now",
            ),
            Edit(
                _PRESENCE,
                "            "
                + _RENEWED
                + "        self._publish(agent, state, now)\n\n    def add_remote",
                "        self._publish(agent, state, now)\n\n    def add_remote",
            ),
        ],
        [
            "tests/test_presence_timeouts.py::test_a_wait_outlasts_ten_timeouts_and_its_end_is_the_last_activity"
        ],
    ),
    Sabotage(
        "a heartbeat does not replace a lease",
        [
            Edit(
                _PRESENCE,
                "now + (self._agent_timeout if beat.lease is None else beat.lease)\n",
                "max(state.lease_end, now + (beat.lease or self._agent_timeout))\n",
            )
        ],
        [
            "tests/test_presence_timeouts.py::test_other_calls_do_not_shorten_a_lease_and_a_heartbeat_does"
        ],
    ),
    Sabotage(
        "other calls shorten a lease",
        [
            Edit(
                _PRESENCE,
                "        state = self._touch(agent, now)\n        "
                + _RENEWED
                + "        self._publish",
                "        state = self._touch(agent, now)\n"
                "        state.lease_end = now + self._agent_timeout\n"
                "        self._publish",
            )
        ],
        [
            "tests/test_presence_timeouts.py::test_other_calls_do_not_shorten_a_lease_and_a_heartbeat_does"
        ],
    ),
    Sabotage(
        "an agent that sends heartbeats may be silent during work",
        [Edit("bus_server/presence/agent_state.py", " or not self.sends_heartbeats", " or True")],
        [
            "tests/test_presence_timeouts.py::test_an_agent_that_sends_heartbeats_and_dies_before_the_next_one_lapses"
        ],
    ),
    Sabotage(
        "a heartbeat counts for later sessions",
        [Edit(_PRESENCE, "            state.sends_heartbeats = False\n", "")],
        [
            "tests/test_presence_timeouts.py::test_a_heartbeat_before_an_agent_lapsed_says_nothing_about_its_later_silence"
        ],
    ),
    Sabotage(
        "which agents send heartbeats is lost by a restart",
        [
            Edit(
                _PRESENCE,
                "        state.sends_heartbeats = row.sends_heartbeats\n        self._set_work",
                "        self._set_work",
            )
        ],
        [
            "tests/test_presence_restarts.py::test_an_agent_that_sent_heartbeats_and_died_at_work_lapses_after_a_restart"
        ],
        timeout=30,
    ),
    Sabotage(
        "EndSession does not make an agent offline",
        [
            Edit(
                _PRESENCE,
                "state.report(PRESENCE_OFFLINE, state.call_time)",
                "state.report(PRESENCE_UNSPECIFIED, state.call_time)",
            )
        ],
        ["tests/test_presence.py::test_an_ended_session_is_offline_until_the_next_call"],
    ),
    Sabotage(
        "a post on behalf of an agent ends its work",
        [Edit("bus_server/presence/participants.py", "if not for_another:", "if True:")],
        ["tests/test_presence.py::test_a_post_on_behalf_of_an_agent_does_not_end_its_work"],
    ),
    Sabotage(
        "after a restart all agents are lapsed",
        [
            Edit(
                _PRESENCE,
                "            state.lease_end = max(state.lease_end, extended)\n",
                "            state.lease_end = now\n",
            )
        ],
        ["tests/test_presence_restarts.py::test_presence_is_right_after_a_restart"],
        timeout=30,
    ),
    Sabotage(
        "work is lost by a restart",
        [
            Edit(
                _PRESENCE,
                "            if row.working_end_time:\n",
                "            if False:\n",
            ),
            Edit(
                _PRESENCE,
                "        self._set_work(state, row, now)\n        newest",
                "        newest",
            ),
        ],
        ["tests/test_presence_restarts.py::test_presence_is_right_after_a_restart"],
        timeout=30,
    ),
    Sabotage(
        "presence is written with every heartbeat",
        [
            Edit(
                "bus_server/presence/checkpointer.py",
                "await asyncio.sleep(interval)",
                "await asyncio.sleep(0)",
            )
        ],
        [
            "tests/test_presence_restarts.py::test_heartbeats_of_many_agents_cost_one_transaction_per_checkpoint_interval"
        ],
        timeout=60,
    ),
    Sabotage(
        "positions are lost when a checkpoint fails",
        [
            Edit(
                "bus_server/presence/checkpointer.py",
                "            self._positions.abort_save()\n",
                "",
            )
        ],
        ["tests/test_presence_checkpoints.py"],
    ),
    Sabotage(
        "presence is lost when a checkpoint fails",
        [
            Edit(
                "bus_server/presence/checkpointer.py",
                "            self._presence.abort_save(agents)\n",
                "",
            )
        ],
        ["tests/test_presence_checkpoints.py"],
    ),
    Sabotage(
        "presence from other servers is not read",
        [
            Edit(
                "bus_server/fallback.py",
                "        for agent in self._presence.merge(await store.presence_rows(since)):\n",
                "        for agent in ():\n",
            )
        ],
        ["tests/test_presence_restarts.py::test_another_server_on_the_file_learns_who_is_online"],
    ),
    Sabotage(
        "the states of lapsed agents stay in memory",
        [
            Edit(
                _PRESENCE,
                "                self._drop(name, state)\n",
                "                pass\n",
            )
        ],
        ["tests/test_presence_memory.py::test_an_agent_is_held_until_it_is_offline_and_saved"],
    ),
    Sabotage(
        "participants stay cached for threads without waits",
        [
            Edit(
                "bus_server/presence/participant_cache.py",
                "                if not entry.waiters:\n",
                "                if entry.waiters:\n",
            )
        ],
        ["tests/test_presence_memory.py"],
    ),
]
