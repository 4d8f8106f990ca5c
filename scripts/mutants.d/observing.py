"""Mutants: waits that observe."""

from sabotage import Edit, Sabotage

_DISPATCH = "bus_server/services/dispatch.py"
_LOOP = "bus_server/follow/loop.py"
_PARTICIPANTS = "bus_server/presence/participants.py"
_WAITS = "bus_server/waits.py"
_SDK = "tests/test_sdk_observing.py"
_TESTS = "tests/test_observing.py"

SABOTAGES = [
    Sabotage(
        "the call of a wait that observes is a sign of life",
        [Edit(_DISPATCH, ' and not getattr(request, "observe", False)', "")],
        [f"{_TESTS}::test_an_agent_that_was_never_seen_stays_so"],
    ),
    Sabotage(
        "the call of any wait counts before it is read",
        [Edit(_DISPATCH, "            if active:\n    ", "            if True:\n    ")],
        [f"{_TESTS}::test_an_agent_that_was_never_seen_stays_so"],
    ),
    Sabotage(
        "opening a wait that observes is a sign of life",
        [
            Edit(
                _PARTICIPANTS,
                "if wait.agent and not wait.observe:\n            self._presence.wait_opened(",
                "if wait.agent:\n            self._presence.wait_opened(",
            )
        ],
        [f"{_TESTS}::test_an_agent_at_work_stays_at_work"],
    ),
    Sabotage(
        "the end of a wait that observes ends one that waits",
        [
            Edit(
                _PARTICIPANTS,
                "if wait.agent and not wait.observe:\n            self._presence.wait_closed(",
                "if wait.agent:\n            self._presence.wait_closed(",
            )
        ],
        [f"{_TESTS}::test_a_wait_outlasts_one_that_observes"],
    ),
    Sabotage(
        "what is sent to a wait that observes is delivered to its agent",
        [Edit(_LOOP, "        if not request.observe:\n", "        if True:\n")],
        [f"{_TESTS}::test_a_participant_is_not_waiting_and_was_delivered_nothing"],
    ),
    Sabotage(
        "an agent that observes a thread waits on it",
        [Edit(_WAITS, " if wait.agent and not wait.observe)", " if wait.agent)")],
        [f"{_TESTS}::test_a_participant_is_not_waiting_and_was_delivered_nothing"],
    ),
    Sabotage(
        "an agent that observes all its threads waits on them",
        [
            Edit(
                _WAITS,
                "if wait.all_my_threads and not wait.observe:\n            self._on_all.setdefault",
                "if wait.all_my_threads:\n            self._on_all.setdefault",
            ),
            Edit(
                _WAITS,
                "if wait.all_my_threads and not wait.observe:\n            self._on_all[",
                "if wait.all_my_threads:\n            self._on_all[",
            ),
        ],
        [f"{_TESTS}::test_a_participant_is_not_waiting_and_was_delivered_nothing"],
    ),
    Sabotage(
        "an agent that observes all its threads is taken for one that waits",
        [Edit(_PARTICIPANTS, "filter(self._waits.on_all, ", "filter(None, ")],
        [f"{_TESTS}::test_an_agent_that_was_never_seen_is_a_recipient_that_was_never_seen"],
    ),
    Sabotage(
        "an agent that observes at another server waits there",
        [
            Edit(
                "bus_server/presence/remote_waits.py",
                "if wait.agent == ANONYMOUS or wait.observe:",
                "if wait.agent == ANONYMOUS:",
            )
        ],
        [
            "tests/test_servers.py::test_an_agent_that_observes_at_one_server_is_not_waiting_for_the_other"
        ],
    ),
    Sabotage(
        "the end of a session ends waits that observe",
        [Edit(_WAITS, "if each.agent == agent and not each.observe]", "if each.agent == agent]")],
        [
            f"{_TESTS}::test_it_goes_on_when_the_session_is_ended_and_begins_none",
            f"{_TESTS}::test_a_limited_token_ends_the_session_of_an_agent_that_only_observes",
        ],
    ),
    Sabotage(
        "an SDK that observes reports what was read",
        [
            Edit(
                "bus_client/threads_reader.py",
                "= acknowledge and not request.observe\n        request.threads",
                "= acknowledge\n        request.threads",
            )
        ],
        [f"{_SDK}::test_others_see_nothing_of_it"],
    ),
    Sabotage(
        "an SDK that observes begins a session",
        [
            Edit(
                "bus_client/threads_reader.py",
                "            if not request.observe:\n                await self.acknowledge()",
                "            if True:\n                await self.acknowledge()",
            )
        ],
        [f"{_SDK}::test_it_begins_no_session"],
    ),
    Sabotage(
        "an SDK that observes stops with the session",
        [Edit("bus_client/stream.py", " and not request.observe:", ":")],
        [f"{_SDK}::test_it_outlasts_the_session_and_reconnects"],
    ),
    Sabotage(
        "wait --peek and wait --cursor are seen as waits of the agent",
        [
            Edit("bus_client/cli/waiting.py", "                observe=observe,\n", ""),
            Edit("bus_client/cli/waiting.py", "observe=peek, **how", "acknowledge=not peek, **how"),
        ],
        [
            "tests/test_cli_presence.py::test_a_script_beside_an_agent_changes_nothing_that_others_see"
        ],
    ),
]
