"""Mutants: a wall clock that is set."""

from sabotage import Edit, Sabotage

_CLOCK, _STORED = "bus_server/store/clock.py", "bus_server/store/sqlite/clock.py"
_PRESENCE = "bus_server/presence/presence.py"
_PRESENCE_TESTS = "tests/test_clock_presence.py::test_"
_GRACES = "tests/test_clock_tokens.py::test_"
_FUTURE = f"{_PRESENCE_TESTS}stored_times_in_the_future_count_as_now_and_hide_no_later_activity"

SABOTAGES = [
    Sabotage(
        "the store's clock is the wall clock",
        [
            Edit(
                _CLOCK,
                "        return self.base + _monotonic()\n",
                "        return wall_time()\n",
            )
        ],
        [
            f"{_GRACES}the_grace_period_ends_on_time_whatever_the_clock_does",
            f"{_PRESENCE_TESTS}an_ended_session_stays_ended_though_the_clock_was_set_before_it",
        ],
        timeout=30,
    ),
    Sabotage(
        "each start sets the store's clock from the wall clock",
        [Edit(_STORED, "if clock is None or (not boot and", "if boot or (not boot and")],
        [
            f"{_GRACES}the_grace_period_continues_over_a_restart_though_the_clock_was_set",
            f"{_PRESENCE_TESTS}a_killed_agent_lapses_after_a_restart_though_the_clock_was_set",
        ],
        timeout=30,
    ),
    Sabotage(
        "after a boot the store's clock may start before stored times",
        [Edit(_STORED, "max(wall_time(), newest)", "wall_time()")],
        [
            f"{_GRACES}no_grace_period_starts_again_after_a_boot_with_a_clock_that_went_back",
        ],
        timeout=30,
    ),
    Sabotage(
        "a token in the file may expire at any time",
        [Edit(_STORED, "WHERE expire_time > :latest", "WHERE expire_time < 0 * :latest")],
        [f"{_GRACES}a_stored_token_ends_within_an_hour"],
        timeout=30,
    ),
    Sabotage(
        "after a boot the clock of the earlier boot continues",
        [Edit(_STORED, "FROM clock WHERE boot = ?", "FROM clock WHERE boot > '' OR boot = ?")],
        ["tests/sqlite/test_store_clock.py"],
        timeout=30,
    ),
    Sabotage(
        "responses contain times of the store's clock",
        [Edit(_CLOCK, "        return moment + self._ahead\n", "        return moment\n")],
        [f"{_PRESENCE_TESTS}times_are_shown_as_the_wall_clock_has_them"],
    ),
    Sabotage(
        "a token ends its waits by the wall clock",
        [
            Edit(
                "bus_server/follow/loop.py",
                "(self._open.expire_time - self._resources.store.clock.now()) / 1e6",
                "self._open.expire_time / 1e6 - __import__('time').time()",
            )
        ],
        [f"{_GRACES}the_grace_period_ends_on_time_whatever_the_clock_does"],
        timeout=30,
    ),
    Sabotage(
        "a token that is registered again expires by the wall clock",
        [
            Edit(
                "bus_server/store/tokens.py",
                "0 < token.expire_time <= batch.facts.store_now:",
                "0 < token.expire_time <= batch.facts.now:",
            )
        ],
        [f"{_GRACES}what_a_token_may_do_in_its_grace_period_does_not_depend_on_the_clock"],
        timeout=30,
    ),
    Sabotage(
        "tokens within their grace period are deleted by the wall clock",
        [
            Edit(
                "bus_server/store/tokens.py",
                "token.expire_time <= batch.facts.store_now - round(",
                "token.expire_time <= batch.facts.now - round(",
            )
        ],
        [f"{_GRACES}what_a_token_may_do_in_its_grace_period_does_not_depend_on_the_clock"],
        timeout=30,
    ),
    Sabotage(
        "a stored time in the future blocks newer ones",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                " OR {time} > :now",
                " OR 0 > :now",
            )
        ],
        [_FUTURE],
        timeout=30,
    ),
    Sabotage(
        "a stored time in the future stays in the file",
        [
            Edit(
                _PRESENCE,
                "            state.local = True\n            state.last_seen_time = min",
                "            state.last_seen_time = min",
            )
        ],
        [_FUTURE],
        timeout=30,
    ),
    Sabotage(
        "last_seen_time may be in the future",
        [Edit(_PRESENCE, "self._clock.wall(min(seen, now))", "self._clock.wall(seen)")],
        [_FUTURE],
        timeout=30,
    ),
    Sabotage(
        "a lease in the file may have any length",
        [
            Edit(
                _PRESENCE,
                "return now + min(remaining, max(self._agent_timeout",
                "return now + max(remaining, max(self._agent_timeout",
            )
        ],
        [f"{_PRESENCE_TESTS}a_stored_lease_is_cut_to_the_longest_allowed"],
        timeout=30,
    ),
    Sabotage(
        "agents lapse by the wall clock",
        [
            Edit(
                "bus_server/store/sqlite/reads.py",
                "p.lease_end_time <= :now THEN",
                "p.lease_end_time + 0 * :now < strftime('%s') * 1000000 THEN",
            )
        ],
        [f"{_PRESENCE_TESTS}an_agent_seen_at_another_server_only_lapses_though_the_clock_was_set"],
        timeout=30,
    ),
    Sabotage(
        "a thread active after the clock went back is listed below older ones",
        [
            Edit(
                "bus_server/store/sqlite/order.py",
                "            back += BACK\n",
                "            pass\n",
            )
        ],
        ["tests/test_clock_listing.py"],
        timeout=30,
    ),
    Sabotage(
        "a server forgets at its start how often the clock went back",
        [
            Edit(
                "bus_server/store/sqlite/order.py",
                "        self.unsure = True\n",
                "        self.unsure = False\n",
            )
        ],
        ["tests/test_clock_listing.py::test_threads_are_listed_last_active_first"],
        timeout=30,
    ),
    Sabotage(
        "a server does not learn that the clock went back for another server",
        [
            Edit(
                "bus_server/store/sqlite/store.py",
                "self._foreign_version, self._order.unsure = version, True",
                "self._foreign_version = version",
            )
        ],
        ["tests/test_clock_listing.py::test_servers_on_a_file_agree_on_the_order"],
        timeout=30,
    ),
    Sabotage(
        "a retried post returns an order time as its create_time",
        [
            Edit(
                "bus_server/store/sqlite/gather.py",
                "Request(seq, time & WALL, post_hash)",
                "Request(seq, time & ~0, post_hash)",
            )
        ],
        ["tests/test_clock_waits.py::test_posts_stay_in_order_and_carry_the_wall_clocks_time"],
        timeout=30,
    ),
    Sabotage(
        "a thread's update_time is an order time",
        [
            Edit(
                "bus_server/store/sqlite/reads.py",
                "t.active_time, NULL)) & {WALL}",
                "t.active_time, NULL)) & {-1}",
            )
        ],
        ["tests/test_clock_listing.py::test_times_are_shown_as_the_wall_clock_had_them"],
        timeout=30,
    ),
]
