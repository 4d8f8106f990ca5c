"""Mutants: who may call what, and what operators do about tokens and sessions."""

from sabotage import Edit, Sabotage

_THREADS = "bus_server/store/threads.py"
_AGENTS = "bus_server/store/agents.py"
_SERVICE = "bus_server/services/agent_service.py"
_TABLE = "tests/test_permissions.py::test_calls_are_permitted_as_the_table_says"
_RIGHTS = "tests/store/test_threads.py::test_a_change_is_made_by_those_who_may"

SABOTAGES = [
    Sabotage(
        "scopes are not checked",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "        rule.check_scope(caller.scopes)\n        return caller",
                "        return caller",
            )
        ],
        [_TABLE],
    ),
    Sabotage(
        "anyone deletes any thread",
        [
            Edit(
                _THREADS,
                "    _check_conditions(batch, command)\n    batch.delete_thread(command.name)",
                "    batch.delete_thread(command.name)",
            )
        ],
        [_RIGHTS],
    ),
    Sabotage(
        "anyone closes any thread",
        [
            Edit(
                _THREADS,
                "    _check_conditions(batch, command)\n    thread = batch",
                "    thread = batch",
            )
        ],
        [_RIGHTS],
    ),
    Sabotage(
        "participants change all settings of a thread",
        [
            Edit(
                "bus_server/permissions.py",
                "    return allowed.pop() if len(allowed) == 1 else rule.who\n",
                "    return Who.PARTICIPANTS\n",
            )
        ],
        [_TABLE],
    ),
    Sabotage(
        "any agent sets the stage of a thread",
        [
            Edit(_THREADS, "if batch.read_seq(name, agent) is not None:", "if True:"),
        ],
        [_RIGHTS],
    ),
    Sabotage(
        "nobody but its creator changes a thread",
        [Edit(_THREADS, "kind == AGENT_KIND_HUMAN or ", "")],
        [_RIGHTS],
    ),
    Sabotage(
        "the epoch that a change names is not checked",
        [Edit(_THREADS, "if epoch and epoch != head.epoch:", "if False:")],
        ["tests/store/test_threads.py::test_a_change_may_name_the_epoch"],
    ),
    Sabotage(
        "--thread-rights everyone has no effect",
        [
            Edit(
                "bus_server/services/thread_service.py",
                "Who.ANYONE if self._everyone else who",
                "who",
            )
        ],
        [
            "tests/test_permissions.py"
            "::test_with_thread_rights_of_everyone_any_caller_changes_any_thread"
        ],
    ),
    Sabotage(
        "anyone registers people",
        [
            Edit(
                _AGENTS,
                "if created and command.agent.kind == AGENT_KIND_HUMAN and not command.operator:",
                "if False:",
            )
        ],
        ["tests/store/test_agents.py::test_only_an_operator_registers_people"],
    ),
    Sabotage(
        "anyone registers an unregistered name again",
        [Edit(_AGENTS, "batch.was_unregistered(name) and not command.operator", "False")],
        ["tests/store/test_agents.py::test_the_name_of_an_unregistered_agent_remains_taken"],
    ),
    Sabotage(
        "an unregistered name is given again in the batch that ends its tokens",
        [Edit(_AGENTS, "if name in batch.changes.unregistered:", "if False:")],
        ["tests/store/test_agents.py::test_an_operator_registers_an_unregistered_name_again"],
    ),
    Sabotage(
        "an agent replaces the tokens of another",
        [
            Edit(
                _SERVICE,
                "        if other:\n            _agent_to_change(caller, other)\n",
                "",
            )
        ],
        ["tests/test_identity_recovery.py::test_agents_may_only_name_themselves"],
    ),
    Sabotage(
        "an operator's own token is replaced",
        [
            Edit(
                _SERVICE,
                'if caller.name == OPERATOR_NAME and request.agent in ("", caller.name):',
                "if False:",
            )
        ],
        ["tests/test_identity_recovery.py::test_an_operator_does_not_reset_itself"],
    ),
    Sabotage(
        "the session of an unknown agent is ended",
        [Edit("bus_server/presence/agents.py", "        await self.get(agent)\n", "")],
        ["tests/test_identity_recovery.py::test_an_unknown_agent_is_an_error"],
    ),
    Sabotage(
        "the end of a session by an operator is a sign of life",
        [
            Edit(
                "bus_server/presence/agents.py",
                "        self._presence.kick(agent)\n",
                "        self._presence.end_session(agent)\n",
            )
        ],
        [
            "tests/test_identity_recovery.py"
            "::test_the_end_of_a_session_by_an_operator_is_no_sign_of_life"
        ],
    ),
    Sabotage(
        "a name that is registered again has the read positions of the old one",
        [Edit("bus_server/presence/agents.py", "        self._positions.forget_agent(name)\n", "")],
        [
            "tests/test_identity_recovery.py"
            "::test_a_name_that_is_registered_again_has_none_of_the_old_read_positions"
        ],
    ),
    Sabotage(
        "a new token is kept under one address only",
        [
            Edit(
                "bus_client/credentials.py",
                "            file.tokens.get(other, {}).pop(agent, None)\n",
                "            pass\n",
            )
        ],
        ["tests/test_cli_login.py::test_a_new_token_replaces_those_under_all_addresses"],
    ),
]
