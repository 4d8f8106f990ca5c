"""Mutants: tokens, and the end of sessions."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "a rotated token stays cached as valid",
        [
            Edit(
                "bus_server/tokens.py",
                "        self._clear_cache()\n        await self._expire({**ends})",
                "        await self._expire({**ends})",
            )
        ],
        ["tests/test_identity_rotation.py::test_the_new_token_works_and_the_old_one_ends_at_once"],
    ),
    Sabotage(
        "a rotated token works after its grace period",
        [
            Edit(
                "bus_server/auth.py",
                "        self._check_expiry(caller)\n        self._uses",
                "        self._uses",
            )
        ],
        ["tests/test_identity_rotation.py::test_the_old_token_ends_with_the_grace_period"],
    ),
    Sabotage(
        "waits opened with a rotated token continue",
        [
            Edit(
                "bus_server/tokens.py",
                "        await self._expire({**ends})\n",
                "",
            )
        ],
        [
            "tests/test_identity_rotation.py::test_waits_opened_with_the_old_token_end_with_it_and_others_go_on"
        ],
    ),
    Sabotage(
        "one token is rotated twice",
        [
            Edit("bus_server/store/tokens.py", "        check_expiry(batch, old)\n", ""),
        ],
        [
            "tests/store/test_agents.py::test_an_expired_token_is_told_from_an_unknown_one",
            "tests/test_identity_rotation.py::test_of_concurrent_rotations_without_a_grace_period_one_wins",
        ],
    ),
    Sabotage(
        "a token that another server ended stays cached as valid",
        [
            Edit(
                "bus_server/tokens.py",
                "        self._clear_cache()\n        in_use =",
                "        in_use =",
            )
        ],
        ["tests/test_two_servers_ends.py::test_a_token_that_ends_at_one_server_ends_at_the_other"],
    ),
    Sabotage(
        "what a client has open ends with its rotated token",
        [
            Edit(
                "bus_client/status.py",
                'error.reason in ("TOKEN_INVALID", "TOKEN_EXPIRED")',
                'error.reason in ("TOKEN_INVALID",)',
            )
        ],
        [
            "tests/test_sdk_rotation.py"
            "::test_followers_of_both_clients_get_each_message_once_when_the_old_token_expires"
        ],
        timeout=60,
    ),
    Sabotage(
        "a client looks for no newer token in its credentials file",
        [
            Edit(
                "bus_client/calls.py",
                "if stored is not None and _bearer(stored) != self._metadata:",
                "if False:",
            )
        ],
        [
            "tests/test_sdk_unknown_tokens.py"
            "::test_a_wait_goes_on_with_a_token_rotated_by_another_process[expired]"
        ],
        timeout=60,
    ),
    Sabotage(
        "a client registers its agent again with an expired token",
        [
            Edit(
                "bus_client/calls.py",
                "if not register or isinstance(refused, TokenExpired):",
                "if not register:",
            )
        ],
        [
            "tests/test_sdk_unknown_tokens.py"
            "::test_an_expired_token_without_a_newer_one_causes_no_registration"
        ],
        timeout=60,
    ),
    Sabotage(
        "a call goes on with only one newer token",
        [
            Edit(
                "bus_client/calls.py",
                'register = register and why == "replaced"',
                "reauthenticate = False",
            )
        ],
        [
            "tests/test_sdk_unknown_tokens.py"
            "::test_a_call_is_repeated_as_often_as_its_token_was_replaced[PostMessage]"
        ],
        timeout=60,
    ),
    Sabotage(
        "the name of an unregistered agent can be registered again",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                '"UPDATE agent SET unregister_time = ? WHERE name = ?"',
                '"DELETE FROM agent WHERE ? AND name = ?"',
            )
        ],
        [
            "tests/test_identity_unregistering.py::test_only_an_operator_registers_an_unregistered_name_again"
        ],
    ),
    Sabotage(
        "the waits of an unregistered agent continue",
        [
            Edit(
                "bus_server/tokens.py",
                "        await self._waits.end(error, agent=agent)\n",
                "",
            )
        ],
        [
            "tests/test_identity_unregistering.py::test_an_unregistered_agents_waits_end_and_those_of_others_go_on"
        ],
    ),
    Sabotage(
        "EndSession does not end waits",
        [
            Edit(
                "bus_server/presence/agents.py",
                "await self._waits.end_session(agent, only)",
                "pass",
            )
        ],
        [
            "tests/test_identity_sessions.py::test_an_agents_waits_end_with_its_session_and_carry_all_cursors"
        ],
    ),
]
