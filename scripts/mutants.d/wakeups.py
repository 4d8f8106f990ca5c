"""Mutants: wake-ups, and commits of other servers."""

from sabotage import Edit, Sabotage

#: A control: shows that the tests start servers from the copy.
CONTROL = Sabotage(
    "the server does not start",
    [
        Edit(
            "bus_server/__main__.py",
            '    os.environ.setdefault("GRPC_VERBOSITY"',
            '    return 3\n    os.environ.setdefault("GRPC_VERBOSITY"',
        )
    ],
    ["tests/test_posting.py"],
)

SABOTAGES = [
    Sabotage(
        "a commit wakes no wait",
        [
            Edit(
                "bus_server/tail.py",
                "                await tail.notify()  # no wait that sleeps is behind first_seq\n",
                "                pass\n",
            )
        ],
        ["tests/test_waiting.py::test_history_and_live_messages_are_one_stream"],
    ),
    Sabotage(
        "a commit wakes one wait only",
        [
            Edit(
                "bus_server/tail.py",
                "            async with condition:\n                condition.notify_all()\n",
                "            async with condition:\n                condition.notify(1)\n",
            )
        ],
        [
            "tests/test_waiting.py::test_two_waits_of_one_agent_both_get_every_message",
            "tests/test_waiting.py::test_waits_opened_while_others_post_miss_nothing",
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
        ["tests/test_waiting.py::test_one_wait_can_follow_several_threads"],
    ),
    Sabotage(
        "a wait reads the heads before it joins the tails",
        [
            Edit(
                "bus_server/follow/loop.py",
                "                waiter = resources.tails.watch(self._open.threads)\n",
                "                heads = await shared.store.heads(self._open.threads)\n"
                "                waiter = resources.tails.watch(self._open.threads)\n",
            ),
            Edit(
                "bus_server/follow/loop.py",
                "self._enter(waiter):",
                "self._enter(waiter, heads):",
            ),
            Edit(
                "bus_server/follow/loop.py",
                "def _enter(self, waiter: Waiter) -> bool:",
                "def _enter(self, waiter: Waiter, heads: dict) -> bool:",
            ),
            Edit(
                "bus_server/follow/loop.py",
                "        heads = await store.heads(waiter.names)\n",
                "",
            ),
        ],
        ["tests/test_wakeups.py::test_a_single_post_wakes_a_wait_that_is_just_opening"],
    ),
    Sabotage(
        "a post whose caller disconnected wakes no wait",
        [
            Edit(
                "bus_server/writer.py",
                "                await self._write(self._next_batch())\n",
                "                self._batch = self._next_batch()\n"
                "                await self._write(self._batch)\n",
            ),
            Edit(
                "bus_server/writer.py",
                "        await self._notify(commit)\n",
                "        if not all(queued.outcome.cancelled() for queued in self._batch):\n"
                "            await self._notify(commit)\n",
            ),
        ],
        [
            "tests/test_promises.py::test_a_received_post_is_stored_and_delivered_although_its_caller_disconnected"
        ],
    ),
    Sabotage(
        "draining does not end waits",
        [
            Edit(
                "bus_server/tail.py",
                "        for tail in list(self._tails.values()):\n",
                "        for tail in list[Tail]():\n",
            )
        ],
        ["tests/test_drain.py::test_five_hundred_waits_end_with_draining_and_ok"],
    ),
    Sabotage(
        "a wait that was once woken misses its next deadline",
        [
            Edit(
                "bus_server/tail.py",
                "            self._set_alarm(self._deadline)\n",
                "            self._alarm = Alarm(0, self)\n",
            )
        ],
        ["tests/test_waiter.py::test_it_ends_at_the_deadline_whatever_the_one_before_was"],
    ),
    Sabotage(
        "a wait's deadline is that of an earlier message",
        [
            Edit(
                "bus_server/tail.py",
                "if self._deadline > asyncio.get_running_loop().time():",
                "if False:",
            )
        ],
        ["tests/test_waiter.py::test_an_alarm_of_an_earlier_call_ends_no_later_one"],
    ),
    Sabotage(
        "a wait's alarm is never set earlier",
        [
            Edit(
                "bus_server/tail.py",
                "if self._alarm is None or deadline < self._alarm.at:",
                "if self._alarm is None:",
            )
        ],
        ["tests/test_waiter.py::test_it_ends_at_the_deadline_whatever_the_one_before_was"],
    ),
    Sabotage(
        "a wait that is cancelled as its alarm rings goes on",
        [
            Edit(
                "bus_server/tail.py",
                "if not self._rang or (self._task is not None and self._task.uncancel()):",
                "if not self._rang or (self._task is not None and self._task.uncancel() > 9):",
            )
        ],
        [
            "tests/test_waiter.py::test_a_task_that_is_cancelled_while_the_alarm_rings_stays_cancelled"
        ],
    ),
    Sabotage(
        "the fallback never refreshes heads",
        [
            Edit(
                "bus_server/fallback.py",
                "if version != seen and await self._refresh():",
                "if version is None and await self._refresh():",
            )
        ],
        ["tests/sqlite/test_hints.py::test_without_hints_the_fallback_still_sees_everything"],
    ),
    Sabotage(
        "the fallback remembers data_version before it has read the heads",
        [
            Edit(
                "bus_server/fallback.py",
                "                if version != seen and await self._refresh():\n"
                "                    seen = version\n",
                "                if version != seen:\n"
                "                    seen = version\n"
                "                    await self._refresh()\n",
            )
        ],
        [
            "tests/test_promises.py::test_messages_of_others_are_found_although_a_check_for_them_failed"
        ],
    ),
]
