"""Mutants: participants and recipients."""

from sabotage import Edit, Sabotage

_PARTICIPANTS = "bus_server/presence/participants.py"
_BATCH = "bus_server/store/batch.py"

SABOTAGES = [
    Sabotage(
        "read positions of agents that are no participants are recorded",
        [
            Edit(
                _PARTICIPANTS,
                "self._store.participations(agent, [cursor[0] for cursor in cursors])",
                "self._store.heads([cursor[0] for cursor in cursors])",
            )
        ],
        [
            "tests/test_own_entries.py::test_a_read_position_that_was_reported_by_no_participant_never_counts",
            "tests/test_presence.py::test_what_an_agent_that_is_no_participant_reports_as_read_is_ignored",
        ],
    ),
    Sabotage(
        "the sender is listed as a recipient",
        [
            Edit(
                _PARTICIPANTS,
                " for participant in found if participant.agent != post.sender]",
                " for participant in found]",
            )
        ],
        ["tests/test_posting_recipients.py::test_recipients_are_all_participants_but_the_sender"],
    ),
    Sabotage(
        "recipients omit waiting agents",
        [
            Edit(
                _PARTICIPANTS,
                "        first += sorted(waiting.keys() - {*addressed, post.sender})\n",
                "",
            )
        ],
        [
            "tests/test_posting_recipients.py::test_an_agent_that_waits_without_participating_is_a_recipient_too"
        ],
    ),
    Sabotage(
        "recipients are waiting whatever their filters",
        [
            Edit(
                _PARTICIPANTS,
                "            return wait.filter.wants(related)\n",
                "            return True\n",
            )
        ],
        [
            "tests/test_posting_recipients.py::test_waiting_means_that_the_waits_filter_matches_the_post"
        ],
    ),
    Sabotage(
        "recipients are shown as they are after the delivery",
        [
            Edit(
                _PARTICIPANTS,
                "before.get(participant.agent, participant.presence)",
                "participant.presence",
            ),
            Edit(
                "bus_server/bus.py",
                "        return done, await self.recipients(post, before)\n",
                "        await asyncio.sleep(0.05)  # the race is won\n"
                "        return done, await self.recipients(post, before)\n",
            ),
        ],
        ["tests/test_posting_recipients.py::test_each_recipient_has_its_presence_and_positions"],
    ),
    Sabotage(
        "participants frames miss a change of an agent",
        [
            Edit(
                "bus_server/presence/participant_cache.py",
                "if entry.thread in threads or entry.has_any(agents):",
                "if entry.thread in threads:",
            )
        ],
        ["tests/test_waiting_participants.py::test_ending_a_session_and_leaving_are_reported"],
    ),
    Sabotage(
        "participants frames miss agents that left",
        [
            Edit(
                "bus_server/presence/participant_cache.py",
                "left = [name for name in before if name not in now]",
                "left = list[str]()",
            )
        ],
        ["tests/test_waiting_participants.py::test_ending_a_session_and_leaving_are_reported"],
    ),
    Sabotage(
        "participants frames are sent at every change",
        [
            Edit(
                "bus_server/presence/participant_cache.py",
                "NOTIFY_INTERVAL = 1.0\n",
                "NOTIFY_INTERVAL = 0.0\n",
            )
        ],
        ["tests/test_waiting_participants.py::test_changes_are_reported_at_most_once_a_second"],
    ),
    Sabotage(
        "a read position survives leaving the thread",
        [Edit(_PARTICIPANTS, "        self._positions.forget(agent, thread)\n", "")],
        ["tests/test_threads_leaving.py::test_an_agent_back_without_joining_has_read_nothing"],
    ),
    Sabotage(
        "filtered-out messages count as delivered",
        [
            Edit(
                "bus_server/follow/loop.py",
                "        if not wanted:\n            return None\n",
                "        self._participants.listed(self._open.agent, p.name, p.head, p.after)\n"
                "        if not wanted:\n            return None\n",
            )
        ],
        ["tests/test_threads_participants.py::test_filtered_messages_do_not_count_as_delivered"],
    ),
    Sabotage(
        "a join uses the stored read position instead of the reported one",
        [
            Edit(
                "bus_server/bus.py",
                "{key: found}",
                "{}",
            )
        ],
        [
            "tests/test_threads_joining.py::test_a_heartbeat_raises_the_read_position_and_never_lowers_it"
        ],
    ),
    Sabotage(
        "own messages are unread",
        [Edit(_BATCH, "return max(read, seq) if read >= seq - 1 else read", "return read")],
        ["tests/test_own_entries.py::test_own_messages_are_read"],
    ),
    Sabotage(
        "a post marks all earlier messages as read",
        [Edit(_BATCH, "return max(read, seq) if read >= seq - 1 else read", "return seq")],
        ["tests/test_own_entries.py::test_messages_of_others_stay_unread"],
    ),
    Sabotage(
        "a read position just reported is ignored by a post",
        [
            Edit(
                "bus_server/bus.py",
                "        post.position = self._positions.unwritten("
                "post.sender, post.thread)\n"
                "        done =",
                "        done =",
            )
        ],
        ["tests/test_own_entries.py::test_a_read_position_just_reported_counts"],
    ),
    Sabotage(
        "a read position just reported is ignored in a batch",
        [
            Edit(
                "bus_server/bus.py",
                "            post.position = self._positions.unwritten("
                "post.sender, post.thread)\n"
                "        outcomes",
                "            pass\n        outcomes",
            )
        ],
        ["tests/test_own_entries.py::test_posts_of_a_batch_are_read_up_to_the_first_of_another"],
    ),
    Sabotage(
        "entries about a thread are unread for their own authors",
        [
            Edit(
                "bus_server/store/threads.py",
                "    batch.record_author(command.name, entry.sender, seq, read)\n",
                "",
            )
        ],
        [
            "tests/test_own_entries.py::test_entries_about_the_thread_are_read_by_the_agent_that_made_them"
        ],
    ),
    Sabotage(
        "an agent's wait_count is at most 1",
        [
            Edit(
                _PARTICIPANTS,
                "participant.wait_count, participant.waiting = count, count > 0",
                "participant.wait_count, participant.waiting = min(count, 1), count > 0",
            )
        ],
        ["tests/test_waiting_participants.py::test_a_participants_open_waits_are_counted"],
    ),
    Sabotage(
        "the address of a wait is not listed",
        [Edit("bus_server/services/bus_service.py", "            peer=peer,\n", "")],
        ["tests/test_waits_listing.py::test_a_wait_is_listed_with_its_address"],
    ),
]
