"""Mutants: the store on PostgreSQL."""

from sabotage import Edit, Sabotage

_STORE, _TESTS = "bus_server/store/postgres", "tests/postgres"
_GATHER, _WRITES = f"{_STORE}/gather.py", f"{_STORE}/writes.py"
_COMMITTER, _CONNECTION = f"{_STORE}/committer.py", f"{_STORE}/connection.py"
_LOST, _RACES, _LOCKS = (f"{_TESTS}/test_{name}.py" for name in ("lost_answers", "races", "locks"))
_HISTORY, _FAILOVER = f"{_STORE}/history.py", f"{_TESTS}/test_failover.py"
_RESYNC = f"{_FAILOVER}::test_followers_of_a_server_are_told_what_they_may_have_missed"

SABOTAGES = [
    Sabotage(
        "a batch whose answer was lost is run again although it was committed",
        [
            Edit(
                _COMMITTER,
                "if written is not None and self._committed == self._number:",
                "if False:",
            )
        ],
        [f"{_LOST}::test_a_batch_whose_answer_is_lost_is_stored_once"],
    ),
    Sabotage(
        "a batch whose answer was lost is taken for committed",
        [
            Edit(
                _COMMITTER,
                "if written is not None and self._committed == self._number:",
                "if written is not None:",
            )
        ],
        [f"{_LOST}::test_posts_survive_the_end_of_every_session"],
    ),
    Sabotage(
        "a retry of a batch whose outcome is unknown is answered as if nothing was done",
        [Edit(_COMMITTER, "if self._settled < self._number:", "if False:")],
        [f"{_LOST}::test_an_outcome_that_cannot_be_found_out_is_unknown"],
    ),
    Sabotage(
        "an earlier session is not ended before its outcome is looked up",
        [
            Edit(
                _COMMITTER,
                "if connection.warning is not None:\n            raise ConnectionLost(connection",
                "if False:\n            raise ConnectionLost(connection",
            )
        ],
        [f"{_LOST}::test_a_session_that_has_not_written_yet_may_still_commit_too"],
    ),
    Sabotage(
        "a commit that the standby did not confirm is acknowledged",
        [
            Edit(
                _COMMITTER,
                "if connection.warning is not None:\n            # The wait",
                "if False:\n            # The wait",
            )
        ],
        [f"{_LOST}::test_a_commit_that_no_standby_has_confirmed_is_looked_up"],
    ),
    Sabotage(
        "a lost answer is looked up although no standby confirms what is found",
        [
            Edit(
                _COMMITTER,
                "if connection.warning is not None:\n            raise ConnectionLost(connection",
                "if False:\n            raise ConnectionLost(connection",
            )
        ],
        [f"{_LOST}::test_a_commit_that_waits_for_a_standby_in_vain_is_not_acknowledged"],
    ),
    Sabotage(
        "a session that hangs is waited for",
        [Edit(_CONNECTION, "duplicate.shutdown(socket.SHUT_RDWR)", "pass")],
        [f"{_LOST}::test_a_session_that_hangs_is_given_up"],
    ),
    Sabotage(
        "a batch is refused once its session is given up",
        [Edit(_COMMITTER, "end, conflicts = math.inf, 0", "end, conflicts = loop.time(), 0")],
        [f"{_LOST}::test_a_session_that_hangs_is_given_up"],
    ),
    Sabotage(
        "a batch that was not committed is taken for a lost commit",
        [Edit(_COMMITTER, "lost := found < self._committed", "lost := found < self._settled")],
        [f"{_LOST}::test_a_batch_that_was_not_committed_is_no_lost_commit"],
    ),
    Sabotage(
        "a batch that is the victim of a deadlock is not run again",
        [Edit(_CONNECTION, '_CONFLICTS = ("40P01", ', "_CONFLICTS = (")],
        [f"{_LOCKS}::test_a_deadlock_only_delays_a_batch"],
    ),
    Sabotage(
        "an agent becomes a participant while it is unregistered",
        [Edit(_GATHER, "IS NULL FOR SHARE", "IS NULL")],
        [f"{_LOCKS}::test_an_agent_that_is_unregistered_is_no_participant"],
    ),
    Sabotage(
        "a thread's id does not say whether it is newer",
        [Edit(_GATHER, "for name in needs.created_or_deleted", "for name in ()")],
        [f"{_RACES}::test_a_newer_thread_has_a_greater_id"],
    ),
    Sabotage(
        "a rotation does not end the token of one at the same time",
        [
            Edit(
                _GATHER,
                "if needs.profiles or needs.tokens or needs.tokens_of or needs.token_ids:",
                "if False:",
            )
        ],
        [f"{_RACES}::test_a_rotation_ends_the_token_of_one_at_the_same_time"],
    ),
    Sabotage(
        "a server that is removed while it saves keeps some of its waits",
        [Edit(_GATHER, "ORDER BY name FOR UPDATE", "ORDER BY name")],
        [
            f"{_RACES}::test_a_server_that_saves_while_it_is_removed_is_stored_with_all_its_waits_or_none"
        ],
    ),
    Sabotage(
        "a post lowers a position that another server raises",
        [
            Edit(
                _WRITES,
                "SET read_seq = greatest(p.read_seq, n.read_seq)\n    FROM unnest",
                "SET read_seq = n.read_seq\n    FROM unnest",
            )
        ],
        [f"{_RACES}::test_a_post_lowers_no_position_that_another_server_raises"],
    ),
    Sabotage(
        "the state of a thread is not looked up in the list of threads",
        [Edit(f"{_STORE}/activity.py", "{_MATCHES} OFFSET 0", "{_MATCHES}")],
        [f"{_TESTS}/test_plans.py::test_every_statement_looks_up_whole_keys"],
    ),
    Sabotage(
        "a read whose caller is gone keeps its connection",
        [Edit(f"{_STORE}/readers.py", "self._idle.append(connection)", "pass")],
        [f"{_TESTS}/test_readers.py::test_reads_whose_callers_are_gone_cost_no_connection"],
    ),
    Sabotage(
        "a server that hears nothing does not connect again",
        [
            Edit(
                _CONNECTION,
                "async with asyncio.timeout(timeout):",
                "async with asyncio.timeout(None):",
            )
        ],
        [f"{_TESTS}/test_notify.py::test_a_server_that_does_not_hear_itself_connects_again"],
    ),
    Sabotage(
        "a standby that confirmed nothing takes over, and the threads keep their epochs",
        [Edit(_HISTORY, "moved and not (confirmed and taken_over)", "False")],
        [f"{_FAILOVER}::test_a_store_that_commits_nothing_notices_that_the_database_has_moved"],
    ),
    Sabotage(
        "a standby that confirmed everything takes over, and the threads get new epochs",
        [Edit(_HISTORY, "moved and not (confirmed and taken_over)", "moved")],
        [f"{_FAILOVER}::test_what_a_standby_confirmed_is_there_after_it_took_over"],
    ),
    Sabotage(
        "a server does not say that its own commits are missing",
        [Edit(_COMMITTER, "lost := found < self._committed", "lost := False")],
        [f"{_FAILOVER}::test_a_crash_without_fsync_that_loses_commits_is_noticed"],
    ),
    Sabotage(
        "a server with nothing to commit does not notice that the database has moved",
        [
            Edit(
                f"{_STORE}/store.py",
                "if await place(db) != self._committer.history.place:",
                "if False:",
            )
        ],
        [f"{_FAILOVER}::test_a_store_that_commits_nothing_notices_that_the_database_has_moved"],
    ),
    Sabotage(
        "new epochs are not seen by other servers",
        [
            Edit(
                f"{_STORE}/store.py",
                "    + (coalesce((SELECT history FROM meta), 0)::bigint << 40)\n",
                "",
            )
        ],
        [f"{_FAILOVER}::test_lost_commits_are_noticed_and_the_threads_get_new_epochs", _RESYNC],
    ),
    Sabotage(
        "a wait goes on in a new epoch as if nothing had happened",
        [
            Edit(
                "bus_server/follow/position.py",
                "max(min(cursor.after_seq, shared), head.first_seq - 1)",
                "cursor.after_seq",
            )
        ],
        [_RESYNC],
    ),
    Sabotage(
        "a reader gets CursorLost although what it has read is there",
        [
            Edit(
                "bus_client/stream.py",
                "if position.after_seq == requested.after_seq > 0:",
                "if False:",
            )
        ],
        [_RESYNC],
    ),
    Sabotage(
        "a head read before a thread got a new epoch is believed",
        [Edit("bus_server/tail.py", "shared_seq(known.epoch, head.epoch) is None", "True")],
        ["tests/test_tails.py::test_a_head_of_the_epoch_before_is_ignored"],
    ),
    Sabotage(
        "a cursor has the new epoch before the wait has followed it",
        [
            Edit(
                "bus_server/follow/position.py",
                "after_seq=self.after, epoch=self.epoch",
                "after_seq=self.after, epoch=self.head.epoch",
            )
        ],
        [
            f"{_TESTS}/test_history.py::test_the_ending_of_a_wait_that_finds_a_new_epoch_has_no_cursor_in_it"
        ],
    ),
    Sabotage(
        "a server whose row is missing does not say that commits are",
        [Edit(_COMMITTER, "self._committed if idle else 0", "self._committed")],
        [
            f"{_TESTS}/test_history.py::test_a_server_whose_row_is_lost_says_that_commits_are_missing"
        ],
    ),
    Sabotage(
        "a post with the epoch before is refused whatever it refers to",
        [Edit("bus_server/store/posts.py", "max(seqs) <= shared", "False")],
        [f"{_TESTS}/test_history.py::test_a_post_that_refers_to_what_two_epochs_share_is_stored"],
    ),
    Sabotage(
        "a wait that ends while the database is away says nothing new",
        [
            Edit(
                "bus_server/follow/loop.py",
                "            async with asyncio.timeout_at(self._cut or None):\n",
                "            if True:\n",
            )
        ],
        [
            "tests/postgres/test_outages.py"
            "::test_a_wait_that_ends_while_the_database_is_away_does_not_say_nothing_new"
        ],
        timeout=40,
    ),
    Sabotage(
        "a client says nothing new although the server does not know",
        [
            Edit(
                "bus_client/retry.py", "if isinstance(error, StoreBusy | StoreFailed):", "if False:"
            )
        ],
        ["tests/test_sdk_unreadable.py::test_a_wait_raises_that_the_server_no_longer_knows"],
    ),
    Sabotage(
        "nothing is logged while a session holds locks",
        [
            Edit(
                "bus_server/store/postgres/committer.py",
                '                self._faults.begin(_LOCKED, "pg_blocking_pids() names it")\n',
                "",
            )
        ],
        ["tests/postgres/test_locks.py::test_a_post_that_waits_for_too_long_is_not_stored"],
    ),
    Sabotage(
        "the end of a session is an outage",
        [
            Edit(
                "bus_server/store/postgres/store.py",
                "if ended and isinstance(error, ConnectionLost):",
                "if False:",
            )
        ],
        ["tests/postgres/test_health.py::test_the_end_of_sessions_is_no_fault"],
    ),
]
