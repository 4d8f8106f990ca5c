"""Mutants: what a server counts, GetStatus, and the metrics."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "history that a wait reads counts as wake-ups",
        [
            Edit(
                "bus_server/follow/loop.py",
                "place = (p.epoch, before) if self._is_live(p) else None",
                "place = (p.epoch, before)",
            )
        ],
        ["tests/test_status.py::test_history_that_a_wait_reads_is_no_wake_up"],
    ),
    Sabotage(
        "waits on all threads of an agent are not counted as woken",
        [
            Edit(
                "bus_server/writer.py",
                "return self._tails.is_watched(thread) or self._memberships.any()",
                "return self._tails.is_watched(thread)",
            )
        ],
        ["tests/test_status.py::test_a_wait_on_all_threads_of_an_agent_is_woken"],
    ),
    Sabotage(
        "the window never ends",
        [
            Edit(
                "bus_server/statistics.py",
                "if start.time <= now.time - seconds:",
                "if start.time <= now.time - seconds - 1_000:",
            )
        ],
        ["tests/test_status.py::test_a_window_forgets_what_was_before_it"],
    ),
    Sabotage(
        "agents in memory count twice",
        [Edit("bus_server/store/figures.py", "counts[before] -= count", "pass")],
        [
            "tests/store/test_figures.py"
            "::test_registered_agents_are_counted_by_what_is_known_of_their_presence"
        ],
    ),
    Sabotage(
        "anyone may see the status in open mode",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "if rule.open_here and not self._auth.required and is_here(peer):",
                "if rule.open_here and not self._auth.required:",
            )
        ],
        ["tests/test_status.py::test_from_another_machine_it_needs_a_token"],
    ),
    Sabotage(
        "unknown methods are in the metrics",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "streaming=True), self._statistics.unknown)",
                'streaming=True), self._statistics.method(path + "//", "unary"))',
            )
        ],
        ["tests/test_metrics.py::test_no_name_or_address_is_in_the_metrics"],
    ),
    Sabotage(
        "refused posts of a batch are not counted",
        [Edit("bus_server/services/posting.py", "self._rejected(reason)", "pass")],
        ["tests/test_metrics.py::test_refusals_are_counted_by_reason_and_code"],
    ),
    Sabotage(
        "slow clients of the metrics keep their connections",
        [Edit("bus_server/exporter.py", "_end(oldest)", "pass")],
        ["tests/test_metrics.py::test_slow_clients_hold_up_neither_scrapes_nor_the_bus"],
    ),
]
