"""Mutants: shortcuts in gathering facts, deciding on them, and writing what changes."""

from sabotage import Edit, Sabotage

_BATCH = "bus_server/store/batch.py"
_GATHER = "bus_server/store/sqlite/gather.py"
_DECISIONS = "tests/test_store_decisions.py"
_STORE = "tests/store"

SABOTAGES = [
    Sabotage(
        "a read position that a post raised is not written",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                "    if changes.raised:\n",
                "    if changes.raised and changes.added:\n",
            )
        ],
        [f"{_STORE}/test_participants.py::test_own_messages_are_read_up_to_the_first_of_another"],
    ),
    Sabotage(
        "entries of a deleted thread are written into the new one of its name",
        [Edit(_BATCH, "        commit.entries.pop(name, None)\n", "")],
        [f"{_STORE}/test_commits.py::test_a_thread_is_made_anew_within_a_commit"],
    ),
    Sabotage(
        "two threads that a batch creates get the same id",
        [
            Edit(
                _BATCH,
                "self.facts.thread_ids.popleft()",
                "min(self.changes.created_threads, default=0) or self.facts.thread_ids.popleft()",
            )
        ],
        [
            f"{_DECISIONS}::test_each_new_thread_has_an_id_of_its_own_even_if_it_is_deleted_at_once",
            f"{_STORE}/test_commits.py::test_a_thread_is_made_anew_within_a_commit",
        ],
    ),
    Sabotage(
        "of many participants and request_ids only the first are gathered",
        [Edit(_GATHER, "(json.dumps(keys),)", "(json.dumps(keys[:FEW]),)")],
        [
            f"{_STORE}/test_posts.py::test_any_number_of_posts_is_recognised_in_one_commit",
            f"{_STORE}/test_participants.py::test_a_hundred_agents_become_participants_in_one_commit",
        ],
    ),
    Sabotage(
        "a position outlives leaving a thread and joining it again within a batch",
        [
            Edit(
                _BATCH,
                "            self.changes.positions.pop((agent, name, head.epoch), None)\n",
                "",
            )
        ],
        [f"{_STORE}/test_participants.py::test_what_one_had_read_does_not_outlive_its_leaving"],
    ),
    Sabotage(
        "a checkpoint does not count for the rest of its batch",
        [
            Edit(
                _BATCH,
                "return read if position is None else max(read, position.read or NOT_STARTED)",
                "return read",
            )
        ],
        [f"{_STORE}/test_participants.py::test_a_checkpoint_counts_for_the_rest_of_its_commit"],
    ),
    Sabotage(
        "of the tokens of an agent only the rotated one expires",
        [
            Edit(
                "bus_server/store/sqlite/tokens.py",
                "    if needs.rotation:\n",
                "    if False:\n",
            )
        ],
        [f"{_STORE}/test_agents.py::test_after_a_rotation_only_the_new_token_lasts"],
    ),
    Sabotage(
        "a refused post on behalf of an agent registers it",
        [
            Edit(
                "bus_server/store/posts.py",
                "    _check_post(head, post, kind)\n",
                "    if post.register_sender and batch.known(post.sender) is None:\n"
                "        batch.register(Agent(name=post.sender, kind=AGENT_KIND_AGENT))\n"
                "    _check_post(head, post, kind)\n",
            )
        ],
        [
            f"{_STORE}/test_posts.py::test_a_refused_post_on_behalf_registers_nobody",
            f"{_DECISIONS}::test_a_post_is_refused_for_the_first_thing_that_is_wrong",
        ],
    ),
]
