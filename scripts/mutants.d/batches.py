"""Mutants: many posts through one stream, and lists of threads."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "rows after the last full multi-row statement are not written",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                "    db.executemany(one, rows[whole:])\n",
                "    db.executemany(one, rows[whole:-1] if whole else rows)\n",
            )
        ],
        ["tests/test_waiting_stored.py"],
    ),
    Sabotage(
        "a page of threads takes indexed activity times for exact",
        [
            Edit(
                "bus_server/store/sqlite/activity.py",
                "first[0].active >= active_time + GRANULARITY",
                "first[0].active >= active_time",
            )
        ],
        ["tests/test_threads_listing.py"],
    ),
    Sabotage(
        "a page of threads begins with the last one of the page before",
        [
            Edit(
                "bus_server/store/sqlite/activity.py",
                "        if key < start:\n",
                "        if key <= start:\n",
            )
        ],
        ["tests/test_threads_listing.py::test_pages_hold_each_thread_once"],
    ),
    Sabotage(
        "an export leaves out threads that get posts while they are listed",
        [Edit("bus_client/cli/transfer/exporting.py", "_MAX_LISTINGS = 10", "_MAX_LISTINGS = 2")],
        ["tests/test_cli_export.py::test_threads_missing_from_some_listings_are_exported"],
    ),
    Sabotage(
        "a thread's activity time is set once and never updated",
        [
            Edit(
                "bus_server/store/sqlite/activity.py",
                " AND active_time NOT BETWEEN ? AND ?",
                " AND active_time = 0 AND ? AND ?",
            )
        ],
        ["tests/test_threads_listing.py", "tests/sqlite/test_store_activity.py"],
    ),
    Sabotage(
        "a refused post stops its batch",
        [
            Edit(
                "bus_server/store/posts.py",
                "        except BusError as refusal:\n"
                "            answers.append(refusal.without_traceback())\n",
                "        except BusError as refusal:\n"
                "            return answers + [refusal] * (len(command.posts) - len(answers))\n",
            )
        ],
        ["tests/test_posting_many.py::test_a_refused_post_stops_no_other_and_carries_its_reason"],
    ),
    Sabotage(
        "a stream outlives its token",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "        await self._admit()\n        self._size = len(data)\n",
                "        self._size = len(data)\n",
            )
        ],
        ["tests/test_posting_many.py::test_a_stream_whose_token_expired_ends"],
    ),
    Sabotage(
        "an idle stream of posts delays the shutdown",
        [
            Edit(
                "bus_server/bus.py",
                "        self.post_streams.drain()\n",
                "",
            )
        ],
        [
            "tests/test_posting_many.py::test_a_draining_server_returns_results_for_received_batches_and_ends_idle_streams"
        ],
    ),
    Sabotage(
        "a message of the same transaction cannot be edited",
        [
            Edit(
                "bus_server/store/batch.py",
                "        row = self.commit.entries.get(name, {}).get(seq)\n",
                "        row = None\n",
            )
        ],
        ["tests/test_posting_many.py::test_a_message_is_edited_in_the_batch_it_came_in"],
    ),
    Sabotage(
        "a full queue refuses posts of a stream instead of delaying them",
        [
            Edit(
                "bus_server/bus.py",
                "        await self._writer.wait_for_capacity(command.size)\n",
                "",
            ),
            Edit(
                "bus_server/bus.py",
                "        outcomes = self._writer.enqueue(command)\n",
                "        outcomes = asyncio.ensure_future(self._writer.submit(command))\n",
            ),
        ],
        ["tests/test_posting_many.py::test_a_full_queue_slows_a_stream_down_and_refuses_nothing"],
    ),
    Sabotage(
        "post_many drops posts without a result when the stream breaks",
        [
            Edit(
                "bus_client/post_stream.py",
                "                for batch in list(self._unanswered):\n"
                "                    if batch.request.posts:\n"
                "                        await call.write(batch.request)\n",
                "                self._unanswered.clear()\n",
            )
        ],
        [
            "tests/test_sdk_post_many.py::test_posts_are_stored_once_and_in_order_though_the_server_is_killed"
        ],
    ),
    Sabotage(
        "post_many does not learn that a write failed",
        [
            Edit(
                "bus_client/post_stream.py",
                "        finally:\n            self._closing = True\n",
                "        finally:\n",
            )
        ],
        [
            "tests/test_sdk_post_many.py::test_a_stream_may_break_while_a_batch_with_results_is_still_sent"
        ],
    ),
    Sabotage(
        "post_many looks for posts to send again only after the next post of its input",
        [
            Edit(
                "bus_client/post_stream.py",
                "        return room and bool(self._again or self._ready or self._all_taken)\n",
                "        return room and bool(self._ready or self._all_taken)\n",
            )
        ],
        [
            "tests/test_sdk_rates.py::test_a_post_is_sent_again_though_the_input_waits_for_its_result"
        ],
    ),
]
