"""Ways to break what ThreadBus promises, each with the tests that should see it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that is found once in a file, and what stands there instead."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A promise broken. `tests` are pytest's arguments, chosen so that it is quick."""

    name: str
    edits: Sequence[Edit]
    tests: Sequence[str]
    timeout: float = 10  # of one test, in seconds: what hangs is caught, too


#: Not a promise: shows that the servers which the tests start are those of the copy.
CONTROL = Sabotage(
    "the server does not start",
    [
        Edit(
            "bus_server/__main__.py",
            '    """Serve; answers the exit code."""\n',
            '    """Serve; answers the exit code."""\n    return 3\n',
        )
    ],
    ["tests/test_posting.py"],
)

SABOTAGES = [
    # ── Wake-ups ────────────────────────────────────────────────────────────────────────────────
    Sabotage(
        "a commit wakes nobody",
        [
            Edit(
                "bus_server/tail.py",
                "            tail.head = head\n            await tail.notify()\n",
                "            tail.head = head\n",
            )
        ],
        ["tests/test_waiting.py::test_history_and_what_comes_are_one_stream"],
    ),
    Sabotage(
        "a commit wakes one wait only",
        [Edit("bus_server/tail.py", "condition.notify_all()", "condition.notify(1)")],
        [
            "tests/test_waiting.py::test_two_waits_of_one_agent_both_get_every_message",
            "tests/test_waiting.py::test_waits_that_open_while_others_post_miss_nothing",
        ],
    ),
    Sabotage(
        "a commit wakes no wait on several threads",
        [
            Edit(
                "bus_server/tail.py",
                "for condition in (self.condition, *self.lent):",
                "for condition in (self.condition,):",
            )
        ],
        ["tests/test_waiting.py::test_several_threads_are_one_wait"],
    ),
    Sabotage(
        "a wait reads the heads before it joins the tails",
        [
            Edit(
                "bus_server/follow.py",
                "        while True:\n            with tails.watch(names) as watch:\n"
                "                heads = await self._store.heads(names)\n",
                "        while True:\n            heads = await self._store.heads(names)\n"
                "            with tails.watch(names) as watch:\n",
            )
        ],
        ["tests/test_wakeups.py::test_the_one_post_that_meets_a_wait_as_it_enters_wakes_it"],
    ),
    Sabotage(
        "waits are not told of a post whose caller is gone",
        [
            Edit(
                "bus_server/writer.py",
                "            batch = await self._next_batch()\n",
                "            self._batch = batch = await self._next_batch()\n",
            ),
            Edit(
                "bus_server/writer.py",
                "        await self._tell(commit)\n",
                "        if not all(answer.cancelled() for _, answer in self._batch):\n"
                "            await self._tell(commit)\n",
            ),
        ],
        [
            "tests/test_promises.py::test_a_post_that_was_taken_is_stored_and_told_although_its_caller_went_away"
        ],
    ),
    Sabotage(
        "waits are not told of draining",
        [
            Edit(
                "bus_server/tail.py",
                "        for tail in list(self._tails.values()):\n",
                "        for tail in list[Tail]():\n",
            )
        ],
        ["tests/test_drain.py::test_five_hundred_waits_end_with_draining_and_ok"],
    ),
    # ── Posts ───────────────────────────────────────────────────────────────────────────────────
    Sabotage(
        "a post is answered before its commit",
        [
            Edit(
                "bus_server/store/sqlite.py",
                "        return await _run(self._writer, self._commit, commands)\n",
                "        import asyncio\n\n"
                "        done = await _run(self._writer, self._commit, commands)\n"
                "        late = _run(self._writer, lambda db: db.in_transaction and db.commit())\n"
                "        self._late = asyncio.ensure_future(late)\n"
                "        return done\n",
            ),
            Edit(
                "bus_server/store/sqlite.py",
                '            db.execute("BEGIN IMMEDIATE")\n',
                "            if db.in_transaction:\n"
                "                db.commit()\n"
                '            db.execute("BEGIN IMMEDIATE")\n',
            ),
            Edit("bus_server/store/sqlite.py", '                db.execute("COMMIT")\n', ""),
        ],
        ["tests/test_promises.py::test_a_post_is_not_answered_before_it_would_outlive_kill_9"],
    ),
    Sabotage(
        "a commit is not synced to disk",
        [
            Edit(
                "bus_server/store/sqlite.py",
                "'FULL' if full_durability",
                "'OFF' if full_durability",
            )
        ],
        ["tests/test_durability.py::test_full_durability_syncs_the_log_before_each_answer"],
    ),
    Sabotage(
        "expected_last_seq is checked against a head read before the transaction",
        [
            Edit(
                "bus_server/store/writes.py",
                "if command.expected_last_seq is not None and command.expected",
                "if False and command.expected",
            ),
            Edit(
                "bus_server/bus.py",
                '        """Append a message to a thread."""\n',
                '        """Append a message to a thread."""\n'
                "        from bus_server.errors import SeqConflict\n\n"
                "        expected, name = post.expected_last_seq, post.message.thread\n"
                "        head = (await self._store.heads([name])).get(name)\n"
                "        if head and expected is not None and expected != head.seq:\n"
                "            raise SeqConflict(expected, head.seq)\n",
            ),
        ],
        [
            "tests/test_concurrency.py::test_of_two_posts_with_one_expectation_exactly_one_wins_a_thousand_times"
        ],
    ),
    Sabotage(
        "a request_id is looked up after what can change",
        [
            Edit(
                "bus_server/store/writes.py",
                "    if message.request_id:\n        earlier = _earlier(tx, head, message)\n",
                "    _check(tx, head, command)\n"
                "    if message.request_id:\n        earlier = _earlier(tx, head, message)\n",
            )
        ],
        ["tests/test_posting_request_id.py"],
    ),
    Sabotage(
        "a request_id is not looked up at all",
        [
            Edit(
                "bus_server/store/writes.py",
                "    if message.request_id:\n        earlier = _earlier(tx, head, message)\n",
                "    if False:\n        earlier = _earlier(tx, head, message)\n",
            ),
            Edit(
                "bus_server/store/writes.py",
                '"INSERT INTO request (thread_id',
                '"INSERT OR REPLACE INTO request (thread_id',
            ),
        ],
        ["tests/test_posting_request_id.py"],
    ),
    Sabotage(
        "a request_id may be used for another body",
        [
            Edit(
                "bus_server/store/writes.py",
                "    if _body(earlier) != _body(message):\n",
                "    if False:\n",
            )
        ],
        ["tests/test_posting_request_id.py"],
    ),
    Sabotage(
        "seqs are taken from memory",
        [
            Edit(
                "bus_server/store/writes.py",
                "        self._heads: dict[str, store.Head] = {}\n",
                "        self._heads = _REMEMBERED\n",
            ),
            Edit(
                "bus_server/store/writes.py",
                "class Transaction:\n",
                "_REMEMBERED: dict[str, store.Head] = {}\n\n\nclass Transaction:\n",
            ),
        ],
        ["tests/test_two_servers.py::test_posts_through_both_at_once_are_stored_once_without_gaps"],
    ),
    Sabotage(
        "one bad row fails its whole batch",
        [
            Edit(
                "bus_server/store/sqlite.py",
                "if isinstance(meaning, BusError) or len(commands) == 1:",
                "if True:",
            )
        ],
        ["tests/test_store_statements.py::test_a_post_that_cannot_be_stored_fails_alone"],
    ),
    Sabotage(
        "a post whose caller is gone is dropped",
        [
            Edit(
                "bus_server/writer.py",
                "            batch = await self._next_batch()\n",
                "            batch = []\n"
                "            for item in await self._next_batch():\n"
                "                if item[1].cancelled():\n"
                "                    self._bytes -= item[0].size\n"
                "                    self._queue.task_done()\n"
                "                else:\n"
                "                    batch.append(item)\n",
            )
        ],
        [
            "tests/test_promises.py::test_a_post_that_was_taken_is_stored_and_told_although_its_caller_went_away"
        ],
    ),
    Sabotage(
        "anyone posts on_behalf_of another",
        [
            Edit(
                "bus_server/services/bus_service.py",
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
                "bus_server/store/writes.py",
                "    if head.state != THREAD_STATE_OPEN:\n",
                "    if False:\n",
            )
        ],
        ["tests/test_posting.py::test_a_closed_thread_refuses_posts_until_it_is_opened"],
    ),
    Sabotage(
        "a batch tells of a thread that was deleted within it",
        [
            Edit(
                "bus_server/store/writes.py",
                "        self.commit.entries.pop(name, None)\n",
                "",
            )
        ],
        [
            "tests/test_promises.py::test_a_batch_tells_nothing_of_a_thread_that_was_deleted_within_it"
        ],
    ),
    Sabotage(
        "posts are not refused when the server is going away",
        [Edit("bus_server/server.py", "    road.draining = True\n", "")],
        ["tests/test_drain.py::test_posts_under_way_are_answered_and_what_is_new_is_refused"],
    ),
    # ── Waits ───────────────────────────────────────────────────────────────────────────────────
    Sabotage(
        "the cursor of a batch is one short",
        [
            Edit(
                "bus_server/follow.py",
                "batch = MessageBatch(cursor=p.cursor, messages=wanted)",
                "batch = MessageBatch(cursor=p.cursor, messages=wanted)\n"
                "            batch.cursor.after_seq -= 1",
            )
        ],
        ["tests/test_waiting_sizes.py::test_the_cursor_of_a_batch_is_at_its_last_message"],
    ),
    Sabotage(
        "a keepalive does not carry the cursors that moved",
        [
            Edit(
                "bus_server/follow.py",
                "moved = [p.tell() for p in self._positions if p.told != p.after]",
                "moved = []",
            )
        ],
        ["tests/test_waiting_keepalive.py"],
    ),
    Sabotage(
        "filtered-out messages do not move the cursor",
        [
            Edit(
                "bus_server/follow.py",
                "Cursor(thread=self.name, after_seq=self.after, epoch=self.head.epoch)",
                "Cursor(thread=self.name, after_seq=self.given, epoch=self.head.epoch)",
            ),
            Edit(
                "bus_server/follow.py",
                "            self.after = 0\n",
                "            self.after = 0\n        self.given = self.after\n",
            ),
            Edit(
                "bus_server/follow.py",
                "        if wanted:\n            p.told = p.after\n",
                "        if wanted:\n            p.told, p.given = p.after, wanted[-1].seq\n",
            ),
        ],
        ["tests/test_waiting_filters.py"],
    ),
    Sabotage(
        "resync is not sent",
        [
            Edit(
                "bus_server/follow.py",
                "                await self._send(WaitMessagesResponse(resync=frame))\n",
                "                pass\n",
            )
        ],
        ["tests/test_waiting_resync.py"],
    ),
    Sabotage(
        "max_wait discards what was committed and not yet sent",
        [
            Edit(
                "bus_server/follow.py",
                "                    p.limit = p.head.seq  #",
                "                    p.limit = p.after  #",
            )
        ],
        ["tests/test_waiting_deadlines.py::test_max_wait_bounds_the_waiting_never_the_delivery"],
    ),
    Sabotage(
        "a wait outlives the call's deadline",
        [
            Edit(
                "bus_server/follow.py",
                "            self._deadline = clock() + wait.time_remaining - margin\n",
                "            self._deadline = clock() + wait.time_remaining + 1\n",
            )
        ],
        ["tests/test_waiting_deadlines.py::test_a_wait_ends_with_ok_before_the_calls_deadline"],
    ),
    Sabotage(
        "a thread made anew has the epoch of the old one",
        [Edit("bus_server/store/writes.py", "secrets.token_hex(8)", '"the same as ever"')],
        ["tests/test_waiting_resync.py", "tests/test_threads.py"],
    ),
    Sabotage(
        "read positions go back",
        [
            Edit(
                "bus_server/store/writes.py",
                '" WHERE excluded.read_seq > read_seq"',
                '""',
            )
        ],
        ["tests/test_threads_joining.py"],
    ),
    Sabotage(
        "frames are not split",
        [
            Edit(
                "bus_server/follow.py",
                "FRAME_BYTES = 1024 * 1024\n",
                "FRAME_BYTES = 1024 * 1024 * 1024\n",
            )
        ],
        ["tests/test_waiting_sizes.py::test_frames_are_split_at_about_a_mebibyte"],
    ),
    Sabotage(
        "a heartbeat past the head counts",
        [
            Edit(
                "bus_server/bus.py",
                'cursor.epoch in ("", head.epoch) and cursor.after_seq <= head.seq:',
                'cursor.epoch in ("", head.epoch):',
            ),
        ],
        ["tests/test_threads_joining.py::test_a_heartbeat_past_the_head_is_ignored"],
    ),
    Sabotage(
        "waits that ended count as open",
        [Edit("bus_server/bus.py", "            self._waits[caller] -= 1\n", "")],
        ["tests/test_waiting_clients.py::test_a_wait_that_is_cancelled_makes_room_for_one"],
    ),
    Sabotage(
        "keepalive pings are answered whenever it may be",
        [Edit("bus_server/server.py", '        ("grpc.http2.ping_timeout_ms", timeout),\n', "")],
        ["tests/test_peers.py::test_a_client_that_hangs_is_found_out_by_keepalive_pings"],
        timeout=30,
    ),
    # ── Two servers on one file ─────────────────────────────────────────────────────────────────
    Sabotage(
        "the fallback never refreshes heads",
        [
            Edit(
                "bus_server/bus.py",
                "                if version == seen:\n",
                "                if version is not None:\n",
            )
        ],
        ["tests/test_two_servers.py::test_a_wait_sees_what_is_posted_through_the_other_server"],
    ),
    Sabotage(
        "the fallback remembers data_version before it has read the heads",
        [
            Edit(
                "bus_server/bus.py",
                "                if version == seen:\n                    continue\n",
                "                if version == seen:\n                    continue\n"
                "                seen = version\n",
            )
        ],
        [
            "tests/test_promises.py::test_what_others_wrote_is_found_although_the_look_for_it_failed_once"
        ],
    ),
    # ── The Python client ───────────────────────────────────────────────────────────────────────
    Sabotage(
        "a follow that comes again begins where it began",
        [
            Edit(
                "bus_client/stream.py",
                "                    request.threads[0].CopyFrom(cursor)\n",
                "                    pass\n",
            )
        ],
        ["tests/test_sdk_follow_restarts.py::test_connections_that_break_again_and_again"],
    ),
    Sabotage(
        "a message counts as read before the next is asked for",
        [
            Edit(
                "bus_client/reader.py",
                "                    for message in known(frame.messages.messages):\n",
                "                    if cursor_of(frame) is not None:\n"
                "                        self._read_to(cursor_of(frame), report=acknowledge)\n"
                "                    for message in known(frame.messages.messages):\n",
            )
        ],
        ["tests/test_sdk_follow.py::test_a_message_is_read_when_the_next_is_asked_for"],
    ),
    Sabotage(
        "each attempt of a post has a request_id of its own",
        [
            Edit(
                "bus_client/calls.py",
                "            left = min(deadline - loop.time(), _ATTEMPT)\n",
                "            left = min(deadline - loop.time(), _ATTEMPT)\n"
                "            if request_id:\n"
                "                request.request_id = f'{random.random()}'\n",
            )
        ],
        ["tests/test_sdk_post_outcome.py"],
    ),
]
