"""Mutants: what servers on one file know of each other's waits."""

from sabotage import Edit, Sabotage

_SERVERS, _REMOTE = "bus_server/presence/servers.py", "bus_server/presence/remote_waits.py"
_PRESENCE, _WRITER = "bus_server/presence/presence.py", "bus_server/writer.py"
_TESTS, _STORE = "tests/test_servers.py", "tests/store/test_servers.py"

SABOTAGES = [
    Sabotage(
        "a server that is running does not tell a new one which waits it has",
        [Edit(_SERVERS, "self._changes.unsaved.set()  # it must", "pass  # it must")],
        [f"{_TESTS}::test_a_server_that_comes_later_learns_of_older_waits_and_leaves_nothing"],
    ),
    Sabotage(
        "a server that is alone writes its waits",
        [
            Edit(
                _SERVERS,
                'dict(self._waits.find("", "", 0)) if self._others else {}',
                'dict(self._waits.find("", "", 0))',
            )
        ],
        [f"{_TESTS}::test_a_server_that_comes_later_learns_of_older_waits_and_leaves_nothing"],
    ),
    Sabotage(
        "a server that stops stays in the store",
        [Edit(_SERVERS, "await self._writer.submit(RemoveServers([self.name]))", "pass")],
        [f"{_TESTS}::test_a_server_that_comes_later_learns_of_older_waits_and_leaves_nothing"],
    ),
    Sabotage(
        "a dead server is believed for ever",
        [Edit(_SERVERS, "if end < now:", "if end < 0:")],
        [f"{_TESTS}::test_the_waits_of_a_killed_server_expire"],
    ),
    Sabotage(
        "a dead server is not removed from the store",
        [Edit(_SERVERS, "                        self._dead[name] = renew_time\n", "")],
        [f"{_TESTS}::test_the_waits_of_a_killed_server_expire"],
    ),
    Sabotage(
        "a server does not renew its lease",
        [Edit(_SERVERS, "            self._renew_soon()\n", "")],
        [f"{_TESTS}::test_servers_that_do_nothing_stay_alive"],
    ),
    Sabotage(
        "a server whose waits were removed does not write them again",
        [Edit(_SERVERS, "                self._written.clear()\n", "")],
        [f"{_TESTS}::test_a_server_that_was_stopped_for_longer_than_its_lease_is_believed_again"],
    ),
    Sabotage(
        "waits of anonymous callers are not written when they begin",
        [
            Edit(
                "bus_server/presence/changes.py",
                "if self.several_servers:",
                "if not self.several_servers:",
            )
        ],
        [f"{_TESTS}::test_both_list_all_waits_the_longest_open_first"],
    ),
    Sabotage(
        "a wait that has ended at another server counts for ever",
        [
            Edit(
                _REMOTE,
                "for number in waits.keys() - numbers]",
                "for number in waits.keys() - waits.keys()]",
            )
        ],
        [f"{_TESTS}::test_an_agent_that_waits_at_one_server_is_waiting_for_the_other"],
    ),
    Sabotage(
        "an agent that only waits at another server lapses",
        [Edit(_PRESENCE, "            state.remote_waits = count\n", "")],
        [f"{_TESTS}::test_it_does_not_lapse_for_the_other"],
    ),
    Sabotage(
        "a state that is read from the store forgets the waits at other servers",
        [Edit(_PRESENCE, "state.remote_waits = self._remote_waits.get(row.agent, 0)", "pass")],
        [f"{_TESTS}::test_it_does_not_lapse_for_the_other"],
    ),
    Sabotage(
        "an agent of which only the store knows is LAPSED although it waits",
        [Edit(_PRESENCE, "return PRESENCE_WAITING if waits else stored", "return stored")],
        [f"{_TESTS}::test_an_agent_of_which_only_the_store_knows_is_waiting_at_another_server"],
    ),
    Sabotage(
        "a checkpoint sends no hint",
        [Edit(_WRITER, "if commit.agents_changed:", "if not commit:")],
        [f"{_TESTS}::test_an_agent_that_waits_at_one_server_is_waiting_for_the_other"],
    ),
    Sabotage(
        "a save that changes the lease only does not renew it",
        [
            Edit(
                "bus_server/store/sqlite/servers.py",
                "max(renew_time + 1, excluded.renew_time)",
                "renew_time",
            )
        ],
        [f"{_STORE}::test_each_save_renews_the_lease"],
    ),
    Sabotage(
        "a removed server's waits stay",
        [
            Edit(
                "bus_server/store/sqlite/servers.py",
                '        db.execute("DELETE FROM wait WHERE server = ?", (name,))\n',
                "",
            )
        ],
        [f"{_STORE}::test_a_removed_server_leaves_no_waits"],
    ),
    Sabotage(
        "work that was delivered by one server is not ended by a post through another",
        [
            Edit(
                _PRESENCE,
                "                    ours.pending_work.clear()\n",
                "                    pass\n",
            )
        ],
        [f"{_TESTS}::test_work_delivered_by_one_server_ends_with_a_post_through_another"],
    ),
    Sabotage(
        "work that another server delivered is not ended by a post here",
        [
            Edit(
                _PRESENCE,
                "if row.state in SETTABLE and row.state != PRESENCE_WORKING:",
                "if row.state in SETTABLE:",
            )
        ],
        [f"{_TESTS}::test_work_delivered_by_one_server_ends_with_a_post_through_another"],
    ),
    Sabotage(
        "a row that was written again with the same last sign of life is ignored",
        [
            Edit(
                "bus_server/presence/agent_state.py",
                "return not self.local and self.row != row",
                "return False",
            )
        ],
        [
            "tests/test_two_servers_ends.py::test_a_session_ended_through_another_server_ends_the_agents_waits"
        ],
    ),
    Sabotage(
        "a delivery is no newer than the sign of life before it",
        [
            Edit(
                _PRESENCE,
                "state.last_seen_time = self._clock.now()  # as it has",
                "pass  # as it has",
            )
        ],
        [f"{_TESTS}::test_work_delivered_by_one_server_ends_with_a_post_through_another"],
    ),
]
