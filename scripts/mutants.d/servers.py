"""Mutants: what servers on one store know of each other's agents and waits."""

from sabotage import Edit, Sabotage

_SERVERS, _REMOTE = "bus_server/presence/servers.py", "bus_server/presence/remote_waits.py"
_PRESENCE, _STATE = "bus_server/presence/presence.py", "bus_server/presence/agent_state.py"
_WRITES, _ROWS = "bus_server/store/sqlite/writes.py", "bus_server/store/sqlite/servers.py"
_TESTS, _LEASES = "tests/test_servers.py", "tests/test_servers_leases.py"
_STORE = "tests/store/test_servers.py"
_LATER = f"{_LEASES}::test_a_server_that_comes_later_learns_of_older_waits_and_leaves_nothing"
_WORK = f"{_TESTS}::test_work_delivered_by_one_server_ends_with_a_post_through_another"

SABOTAGES = [
    Sabotage(
        "a server that is running does not tell a new one which waits it has",
        [Edit(_SERVERS, "self._changes.unsaved.set()  # it must", "pass  # it must")],
        [_LATER],
    ),
    Sabotage(
        "a server that is alone writes its waits",
        [
            Edit(
                _SERVERS,
                'self._waits.find("", "", 0)) if self._others else {}',
                'self._waits.find("", "", 0))',
            )
        ],
        [_LATER],
    ),
    Sabotage(
        "a server that stops stays in the store",
        [Edit(_SERVERS, "await self._writer.submit(RemoveServers({self.name: None}))", "pass")],
        [_LATER],
    ),
    Sabotage(
        "a dead server is believed forever",
        [Edit(_SERVERS, "if end <= now:", "if end <= 0:")],
        [f"{_LEASES}::test_the_waits_of_a_killed_server_expire"],
    ),
    Sabotage(
        "a server is believed for as long as one's own lease",
        [Edit(_SERVERS, "min(renew_at, self._next_end())", "renew_at")],
        [
            f"{_LEASES}::test_an_agent_that_waited_at_a_killed_server_waits_no_longer_than_the_server_is_believed"
        ],
        timeout=30,
    ),
    Sabotage(
        "a dead server is not removed from the store",
        [Edit(_SERVERS, "                    self._dead[name] = renew_time\n", "")],
        [f"{_LEASES}::test_the_waits_of_a_killed_server_expire"],
    ),
    Sabotage(
        "a server does not renew its lease",
        [
            Edit(
                _SERVERS,
                "                if self._others:\n                    self._renew_soon()\n",
                "",
            )
        ],
        [f"{_LEASES}::test_servers_that_do_nothing_stay_alive"],
    ),
    Sabotage(
        "a server that finds its row gone only writes it when it renews its lease",
        [
            Edit(
                _SERVERS,
                "self._renew_soon()  # another",
                "pass  # another",
            )
        ],
        [f"{_LEASES}::test_a_server_whose_row_is_gone_writes_its_waits_again"],
    ),
    Sabotage(
        "a wait whose commit failed is forgotten",
        [Edit(_SERVERS, "            self._uncertain |= bodies.keys()\n", "")],
        [f"{_LEASES}::test_a_wait_whose_commit_may_have_failed_does_not_stay_in_the_store"],
    ),
    Sabotage(
        "waits of anonymous callers are not written when they begin",
        [Edit("bus_server/presence/changes.py", "if self.several_servers:", "if False:")],
        [f"{_TESTS}::test_waits_of_anonymous_callers_are_listed_at_both"],
    ),
    Sabotage(
        "a wait that has ended at another server counts forever",
        [Edit(_REMOTE, "[*(waits.keys() - numbers), *(", "[*(")],
        [f"{_TESTS}::test_an_agent_that_waits_at_one_server_is_waiting_for_the_other"],
    ),
    Sabotage(
        "an agent that calls one server and waits at another is IDLE",
        [Edit(_PRESENCE, "            state.remote_waits = count\n", "            pass\n")],
        [f"{_TESTS}::test_an_agent_that_calls_one_server_and_waits_at_another_is_waiting"],
    ),
    Sabotage(
        "an agent of which only the store knows is LAPSED although it waits",
        [Edit(_PRESENCE, "return PRESENCE_WAITING if waits else stored", "return stored")],
        [f"{_TESTS}::test_an_agent_of_which_only_the_store_knows_is_waiting_at_another_server"],
    ),
    Sabotage(
        "a checkpoint sends no hint",
        [Edit("bus_server/writer.py", "if commit.agents_changed:", "if not commit:")],
        [f"{_TESTS}::test_an_agent_that_waits_at_one_server_is_waiting_for_the_other"],
    ),
    Sabotage(
        "a save does not renew the lease",
        [Edit(_ROWS, "max(renew_time + 1, excluded.renew_time)", "renew_time")],
        [f"{_STORE}::test_each_save_renews_the_lease"],
    ),
    Sabotage(
        "a removed server's waits stay",
        [Edit(_ROWS, '        db.execute("DELETE FROM wait WHERE server = ?", (name,))\n', "")],
        [f"{_STORE}::test_a_removed_server_leaves_no_waits"],
    ),
    Sabotage(
        "a server that has renewed its lease is removed",
        [
            Edit(
                "bus_server/store/servers.py",
                "if renew_time in (None, batch.facts.servers.get(name)):",
                "if True:",
            )
        ],
        [f"{_STORE}::test_a_server_that_has_renewed_its_lease_is_not_removed"],
    ),
    Sabotage(
        "work that one server delivered is not ended by a post through another",
        [Edit(_PRESENCE, "if state.work_time < row.work_time <= latest:", "if False:")],
        [_WORK],
    ),
    Sabotage(
        "a post says nothing about work that another server has just delivered",
        [Edit(_PRESENCE, "elif state.state_time and not state.reported:", "elif False:")],
        [f"{_TESTS}::test_a_post_ends_work_that_the_server_does_not_know_of_yet"],
    ),
    Sabotage(
        "a delivery revives an agent that has ended its session",
        [
            Edit(
                _PRESENCE,
                "        state.working_end = now + self._working_timeout\n",
                "        state.working_end = now + self._working_timeout\n"
                "        state.state_time = state.work_time\n",
            )
        ],
        [
            f"{_TESTS}::test_a_session_that_was_ended_is_not_revived_by_a_delivery_at_the_other_server"
        ],
    ),
    Sabotage(
        "another server does not learn which agents send heartbeats",
        [
            Edit(
                _PRESENCE,
                "                state.report(row.reported, row.state_time)\n"
                "                state.sends_heartbeats = row.sends_heartbeats\n",
                "                state.report(row.reported, row.state_time)\n",
            ),
            Edit(
                _PRESENCE,
                "        state.sends_heartbeats = row.sends_heartbeats\n        self._set_work",
                "        self._set_work",
            ),
        ],
        [f"{_TESTS}::test_an_agent_that_sends_heartbeats_and_dies_at_work_lapses_at_both"],
    ),
    Sabotage(
        "a call does not end a session's end at another server",
        [
            Edit(
                _PRESENCE,
                "row.reported == PRESENCE_OFFLINE and row.state_time < state.call_time",
                "False",
            )
        ],
        [f"{_TESTS}::test_a_call_ends_the_offline_of_a_session_that_was_ended_elsewhere"],
        timeout=30,
    ),
    Sabotage(
        "what an agent reports at one server does not count where it waits",
        [
            Edit(
                _PRESENCE,
                "                state.report(row.reported, row.state_time)\n",
                "                pass\n",
            )
        ],
        [f"{_TESTS}::test_what_an_agent_reports_at_one_server_counts_where_it_waits"],
    ),
    Sabotage(
        "an older part of a presence replaces the stored one",
        [Edit(_WRITES, 'f"excluded.{time} >= {time} OR {time} > :now"', '"true"')],
        ["tests/store/test_participants.py::test_of_each_part_of_a_presence_the_newest_is_kept"],
    ),
    Sabotage(
        "a report outranks a later delivery",
        [
            Edit(
                _STATE,
                "if alive and self.reported and self.state_time >= self.work_time:",
                "if alive and self.reported:",
            )
        ],
        [f"{_TESTS}::test_what_an_agent_reports_at_one_server_counts_where_it_waits"],
    ),
]
