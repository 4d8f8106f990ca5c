"""Mutants: waits."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "the cursor of a batch is one short",
        [
            Edit(
                "bus_server/follow/loop.py",
                "cursor = p.name, p.after, p.epoch",
                "cursor = p.name, p.after - 1, p.epoch",
            ),
        ],
        ["tests/test_waiting_sizes.py::test_the_cursor_of_a_batch_is_at_its_last_message"],
    ),
    Sabotage(
        "a keepalive does not carry the cursors that moved",
        [
            Edit(
                "bus_server/follow/loop.py",
                "positions = [p.to_proto() for p in self._positions if p.sent_after != p.after]",
                "positions = []",
            )
        ],
        ["tests/test_waiting_keepalive.py"],
    ),
    Sabotage(
        "filtered-out messages do not move the cursor",
        [
            Edit(
                "bus_server/follow/loop.py",
                "cursor = p.name, p.after, p.epoch",
                "cursor = p.name, upto, p.epoch",
            ),
            Edit(
                "bus_server/follow/loop.py",
                "        p.sent_after = p.after\n",
                "        p.sent_after = p.after\n        p.given = start + wanted[-1]\n",
            ),
            Edit(
                "bus_server/follow/position.py",
                "after_seq=self.after, epoch=self.epoch",
                "after_seq=self.given, epoch=self.epoch",
            ),
            Edit(
                "bus_server/follow/position.py",
                "            self._go_to(_shared(self.requested, head), head)\n",
                "            self._go_to(_shared(self.requested, head), head)\n"
                "        self.given = self.after\n",
            ),
            Edit(
                "bus_server/follow/position.py",
                '        *("after", "cached",',
                '        *("given", "after", "cached",',
            ),
        ],
        ["tests/test_waiting_filters.py"],
    ),
    Sabotage(
        "resync is not sent",
        [
            Edit(
                "bus_server/follow/loop.py",
                "            await self._send(WaitMessagesResponse(resync=resync))\n",
                "            pass\n",
            )
        ],
        ["tests/test_waiting_resync.py"],
    ),
    Sabotage(
        "max_wait discards committed messages that were not sent",
        [
            Edit(
                "bus_server/follow/loop.py",
                "                p.limit = p.start_seq\n",
                "                p.limit = p.after\n",
            ),
            Edit(
                "bus_server/follow/loop.py",
                "            p.limit = heads[p.name].seq\n",
                "            p.limit = p.after\n",
            ),
        ],
        ["tests/test_waiting_deadlines.py::test_max_wait_limits_the_waiting_and_not_the_delivery"],
    ),
    Sabotage(
        "a wait outlives the call's deadline",
        [
            Edit(
                "bus_server/follow/loop.py",
                "            self._deadline = clock() + request.time_remaining - margin\n",
                "            self._deadline = clock() + request.time_remaining + 1\n",
            )
        ],
        ["tests/test_waiting_deadlines.py::test_a_wait_ends_with_ok_before_the_calls_deadline"],
    ),
    Sabotage(
        "a thread created again has the old epoch",
        [Edit("bus_server/store/batch.py", "secrets.token_hex(8)", '"the same as ever"')],
        ["tests/test_waiting_resync.py", "tests/test_threads.py"],
    ),
    Sabotage(
        "read positions go back",
        [
            Edit(
                "bus_server/store/batch.py",
                "with_own(max(before, known), seq)",
                "with_own(known, seq)",
            ),
            Edit("bus_server/store/batch.py", "if read > before:", "if read != before:"),
        ],
        ["tests/test_threads_joining.py"],
    ),
    Sabotage(
        "frames are not split",
        [
            Edit(
                "bus_server/follow/limits.py",
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
                "bus_server/presence/participants.py",
                'epoch in ("", head.epoch) and seq <= head.seq:',
                'epoch in ("", head.epoch):',
            ),
        ],
        ["tests/test_threads_joining.py::test_a_heartbeat_past_the_head_is_ignored"],
    ),
    Sabotage(
        "ended waits count as open",
        [Edit("bus_server/waits.py", "        self._counts[wait.agent] -= 1\n", "")],
        ["tests/test_waiting_clients.py::test_a_cancelled_wait_makes_room_for_another"],
    ),
    Sabotage(
        "keepalive pings have the timeout of gRPC, not of the settings",
        [Edit("bus_server/server.py", '        ("grpc.http2.ping_timeout_ms", timeout),\n', "")],
        ["tests/test_peers.py::test_a_client_that_hangs_is_detected_by_keepalive_pings"],
        timeout=30,
    ),
    Sabotage(
        "a replay from the store exceeds max_messages",
        [
            Edit(
                "bus_server/follow/loop.py",
                "            wanted = wanted[: request.max_messages - self._delivered]\n",
                "            pass\n",
            )
        ],
        ["tests/test_waiting_stored.py"],
    ),
    Sabotage(
        "a replay from the store repeats the last message of a frame",
        [
            Edit(
                "bus_server/follow/loop.py",
                "        count = len(rows)\n",
                "        count = max(len(rows) - 1, 1)\n",
            )
        ],
        ["tests/test_waiting_stored.py"],
    ),
    Sabotage(
        "a replay from the store does not count as work",
        [
            Edit(
                "bus_server/follow/loop.py",
                "work = await self._count(",
                "work = False and await self._count(",
            )
        ],
        ["tests/test_waiting_stored.py"],
    ),
    Sabotage(
        "a gap in the cached recent messages is hidden",
        [
            Edit(
                "bus_server/recent.py",
                "cached.update(rows)",
                "cached.update(zip(range(min(rows), min(rows) + len(rows)), rows.values()))",
            )
        ],
        ["tests/test_recent.py"],
    ),
    Sabotage(
        "dropped recent messages stay in memory",
        [
            Edit(
                "bus_server/recent.py",
                "rows.pop(seq) for seq in seqs if seq in rows",
                "rows[seq] for seq in seqs if seq in rows",
            )
        ],
        ["tests/test_recent.py"],
    ),
    Sabotage(
        "a cached frame is reused for other messages",
        [Edit("bus_server/encoding.py", " or bodies != last.bodies:", ":")],
        ["tests/test_encoding.py"],
    ),
    Sabotage(
        "a cached frame is reused for a wait at another position",
        [Edit("bus_server/encoding.py", "if cursor != last.cursor or ", "if ")],
        ["tests/test_encoding.py"],
    ),
]
