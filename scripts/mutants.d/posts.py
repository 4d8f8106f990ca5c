"""Mutants: posts."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "a post is acknowledged before its commit",
        [
            Edit(
                "bus_server/store/sqlite/store.py",
                "        self._health.write_succeeded()\n        return commit\n",
                "        late = _run(self._writer, lambda db: db.in_transaction and db.commit())\n"
                "        self._late = asyncio.ensure_future(late)\n"
                "        return commit\n",
            ),
            Edit(
                "bus_server/store/sqlite/committer.py",
                '            db.execute("BEGIN IMMEDIATE")\n',
                "            if db.in_transaction:\n"
                "                db.commit()\n"
                '            db.execute("BEGIN IMMEDIATE")\n',
            ),
            Edit(
                "bus_server/store/sqlite/committer.py",
                '                db.execute("COMMIT")\n',
                "                pass\n",
            ),
        ],
        ["tests/test_promises.py::test_a_post_is_not_acknowledged_before_it_would_survive_kill_9"],
    ),
    Sabotage(
        "a commit is not synced to disk",
        [
            Edit(
                "bus_server/store/sqlite/connections.py",
                "'FULL' if full_durability",
                "'OFF' if full_durability",
            )
        ],
        [
            "tests/sqlite/test_durability.py::test_full_durability_syncs_the_log_before_each_acknowledgement"
        ],
    ),
    Sabotage(
        "expected_last_seq is checked against a head read before the transaction",
        [
            Edit(
                "bus_server/store/posts.py",
                "if post.expected_last_seq is not None and post.expected",
                "if False and post.expected",
            ),
            Edit(
                "bus_server/bus.py",
                "        done = await self._writer.submit(post)\n",
                "        from bus_server.errors import SeqConflict\n\n"
                "        expected, name = post.expected_last_seq, post.message.thread\n"
                "        head = (await self._store.heads([name])).get(name)\n"
                "        if head and expected is not None and expected != head.seq:\n"
                "            raise SeqConflict(expected, head.seq)\n"
                "        done = await self._writer.submit(post)\n",
            ),
        ],
        [
            "tests/test_concurrency.py::test_of_two_posts_with_one_expectation_exactly_one_wins_a_thousand_times"
        ],
    ),
    Sabotage(
        "a request_id is looked up after the other checks",
        [
            Edit(
                "bus_server/store/posts.py",
                "    if post.request_id:\n        earlier = _earlier(batch, head, post)\n",
                "    _check_post(head, post, post.sender_kind)\n"
                "    if post.request_id:\n        earlier = _earlier(batch, head, post)\n",
            )
        ],
        ["tests/test_posting_request_id.py"],
    ),
    Sabotage(
        "a request_id is not looked up at all",
        [
            Edit(
                "bus_server/store/posts.py",
                "    if post.request_id:\n        earlier = _earlier(batch, head, post)\n",
                "    if False:\n        earlier = _earlier(batch, head, post)\n",
            ),
            Edit(
                "bus_server/store/sqlite/writes.py",
                '"INSERT INTO request (thread_id',
                '"INSERT OR REPLACE INTO request (thread_id',
            ),
        ],
        ["tests/test_posting_request_id.py"],
    ),
    Sabotage(
        "a request_id may be used for a different post",
        [
            Edit(
                "bus_server/store/posts.py",
                "    if request.post_hash != post.post_hash:\n",
                "    if False:\n",
            )
        ],
        ["tests/test_posting_request_id.py"],
    ),
    Sabotage(
        "a plain post loses its other fields",
        [
            Edit(
                "bus_server/services/posting.py",
                "if not content or not plain or",
                "if not content or",
            )
        ],
        ["tests/test_plain_posts.py::test_a_post_with_any_other_field_is_not_plain"],
    ),
    Sabotage(
        "a plain post has another hash than the same message",
        [
            Edit(
                "bus_server/store/post_hash.py",
                '{len(content)} {content}"\n    return',
                '{content}"\n    return',
            )
        ],
        ["tests/test_plain_posts.py", "tests/test_store_post_hash.py"],
    ),
    Sabotage(
        "seqs are taken from memory",
        [
            Edit(
                "bus_server/store/batch.py",
                "        self.facts = facts\n",
                "        for name, head in facts.heads.items():\n"
                "            _REMEMBERED.setdefault(name, head)\n"
                "        facts.heads = _REMEMBERED\n"
                "        self.facts = facts\n",
            ),
            Edit(
                "bus_server/store/batch.py",
                "class Batch:\n",
                "_REMEMBERED: dict[str, Head] = {}\n\n\nclass Batch:\n",
            ),
        ],
        [
            "tests/test_two_servers.py::test_posts_through_both_concurrently_are_stored_once_without_gaps"
        ],
    ),
    Sabotage(
        "one bad row fails its whole batch",
        [
            Edit(
                "bus_server/store/sqlite/store.py",
                "if apart.is_one(commands) or apart.concerns_all(translated):",
                "if True:",
            )
        ],
        ["tests/sqlite/test_store_statements.py::test_a_post_that_cannot_be_stored_fails_alone"],
    ),
    Sabotage(
        "a post is dropped when its caller disconnects",
        [
            Edit(
                "bus_server/writer.py",
                "                await self._write(self._next_batch())\n",
                "                batch = []\n"
                "                for queued in self._next_batch():\n"
                "                    if queued.outcome.cancelled():\n"
                "                        self._bytes -= queued.size\n"
                "                        self._pending -= 1\n"
                "                    else:\n"
                "                        batch.append(queued)\n"
                "                await self._write(batch)\n",
            )
        ],
        [
            "tests/test_promises.py::test_a_received_post_is_stored_and_delivered_although_its_caller_disconnected"
        ],
    ),
    Sabotage(
        "anyone may post on_behalf_of another agent",
        [
            Edit(
                "bus_server/services/posting.py",
                "if request.on_behalf_of and not caller.operator:",
                "if False:",
            )
        ],
        ["tests/test_identity_operator.py"],
    ),
    Sabotage(
        "a closed thread takes posts",
        [
            Edit(
                "bus_server/store/posts.py",
                "    if head.state != THREAD_STATE_OPEN:\n",
                "    if False:\n",
            )
        ],
        ["tests/test_posting.py::test_a_closed_thread_refuses_posts_until_it_is_opened"],
    ),
    Sabotage(
        "a batch notifies waits of a thread that it deleted",
        [
            Edit(
                "bus_server/store/batch.py",
                "        commit.entries.pop(name, None)\n",
                "",
            )
        ],
        [
            "tests/test_promises.py::test_a_batch_wakes_no_wait_on_a_thread_that_was_deleted_within_it"
        ],
    ),
    Sabotage(
        "a draining server accepts posts",
        [Edit("bus_server/server.py", "    dispatcher.refusal = Draining\n", "")],
        ["tests/test_drain.py::test_posts_in_flight_are_acknowledged_and_new_ones_are_refused"],
    ),
    Sabotage(
        "threads whose names differ by case are not reported",
        [
            Edit(
                "bus_server/store/sqlite/reads.py",
                "name = ? COLLATE NOCASE AND name <> ?",
                "name = ? AND name <> ?",
            )
        ],
        [
            "tests/test_names_by_case.py::test_creating_a_thread_returns_those_that_differ_by_case",
            "tests/test_names_by_case.py::test_not_found_names_the_threads_that_differ_by_case",
        ],
    ),
    Sabotage(
        "names that differ by case are found by a table scan",
        [
            Edit(
                "bus_server/store/sqlite/schema.sql",
                "CREATE INDEX thread_name_nocase ON thread (name COLLATE NOCASE);\n",
                "",
            )
        ],
        [
            "tests/sqlite/test_store_plans.py::test_no_query_scans_a_table",
            "tests/sqlite/test_store_plans.py::test_no_command_scans_a_table",
        ],
    ),
]
