"""Mutants: the removal of old entries, and what readers learn of it."""

from sabotage import Edit, Sabotage

_DECISION, _COMMANDS = "bus_server/store/compact.py", "bus_server/store/compact_commands.py"
_BATCH, _CLEANER = "bus_server/store/batch.py", "bus_server/cleaner.py"
_FILE, _READS, _PARTICIPANTS = (
    f"bus_server/store/sqlite/{name}.py" for name in ("compact", "reads", "participants")
)
_POSITION, _BUS = "bus_server/follow/position.py", "tests/test_retention_waiting.py"
_REMOVED, _RELATED = "tests/store/test_compact.py", "tests/store/test_compact_related.py"
_ROWS = "tests/sqlite/test_compact.py"

SABOTAGES = [
    Sabotage(
        "the requests of removed messages stay open",
        [Edit(_DECISION, "if row.seq in asking:", "if False:")],
        [
            f"{_RELATED}::test_the_open_requests_of_a_removed_message_are_closed_with_a_notice_each",
        ],
    ),
    Sabotage(
        "closing the requests of removed messages appends any number of notices",
        [Edit(_DECISION, "if removed and notices >= MAX_NOTICES:", "if False:")],
        [f"{_RELATED}::test_a_step_appends_a_limited_number_of_notices"],
    ),
    Sabotage(
        "a request that is overdue gets a second notice when its message goes",
        [
            Edit(
                "bus_server/store/asked.py",
                "asked.has_notice(Notice.REASON_OVERDUE) or batch",
                "batch",
            )
        ],
        [f"{_RELATED}::test_a_request_that_had_its_overdue_notice_gets_no_other"],
    ),
    Sabotage(
        "bytes that were counted before others were removed count",
        [Edit(_DECISION, " and counted[:2] == (head.epoch, head.first_seq) else 0", " else 0")],
        [f"{_REMOVED}::test_bytes_go_by_what_was_counted_and_the_newest_entry_stays"],
    ),
    Sabotage(
        "the newest entry goes if it has too many bytes",
        [Edit(_COMMANDS, "self.max_bytes < size and seq < head_seq", "self.max_bytes < size")],
        [f"{_REMOVED}::test_bytes_go_by_what_was_counted_and_the_newest_entry_stays"],
    ),
    Sabotage(
        "a retention is added to the server's",
        [
            Edit(
                _COMMANDS,
                "        return Limits.of(thread.retention) if",
                "        return Limits(*map(max, Limits.of(thread.retention), self)) if",
            )
        ],
        [f"{_REMOVED}::test_the_retention_of_a_thread_replaces_the_default_whole"],
    ),
    Sabotage(
        "a message can be edited in the commit that removes it",
        [Edit(_BATCH, "if entry is None or seq < head.first_seq:", "if entry is None:")],
        [f"{_REMOVED}::test_posts_and_edits_of_the_same_commit_are_kept"],
    ),
    Sabotage(
        "a thread that is deleted in the commit that removed its entries has a head",
        [Edit(_BATCH, "        commit.compacted.pop(name, None)\n", "")],
        [f"{_REMOVED}::test_a_thread_deleted_in_the_same_commit_is_gone"],
    ),
    Sabotage(
        "the numbers of quiet entries begin again",
        [
            Edit(
                _FILE,
                "seq < (SELECT max(seq) FROM quiet",
                "seq <= (SELECT max(seq) FROM quiet",
            )
        ],
        [f"{_RELATED}::test_removing_entries_changes_nothing_of_what_is_unread_after_them"],
    ),
    Sabotage(
        "request_ids outlive their messages",
        [Edit(_FILE, "AND request_id = ? AND seq <= ?", "AND request_id = ? AND seq > ?")],
        [f"{_REMOVED}::test_request_ids_go_with_their_messages"],
    ),
    Sabotage(
        "a thread without entries begins again",
        [Edit(_READS, '" & 4294967295, t.first_seq - 1)"', '" & 4294967295, 0)"')],
        [f"{_REMOVED}::test_a_thread_without_entries_keeps_its_numbers_and_its_place"],
    ),
    Sabotage(
        "a thread without entries moves in the list",
        [Edit(_FILE, '" ELSE :time END', '" ELSE active_time END')],
        [f"{_REMOVED}::test_a_thread_without_entries_keeps_its_numbers_and_its_place"],
    ),
    Sabotage(
        "what follows removed entries is read as if it followed the ones before",
        [Edit(_READS, " AND first_seq <= ?) ORDER", " AND first_seq + ? > 0) ORDER")],
        [f"{_REMOVED}::test_removed_entries_cannot_be_read"],
    ),
    Sabotage(
        "the same on PostgreSQL",
        [
            Edit(
                "bus_server/store/postgres/reads.py",
                " AND t.first_seq <= %(after)s + 1\n",
                "\n",
            )
        ],
        [f"{_REMOVED}::test_removed_entries_cannot_be_read"],
        timeout=60,
    ),
    Sabotage(
        "an agent's entries are read as if none had been removed",
        [Edit(_PARTICIPANTS, "if thread is None or thread[0] > after + 1:", "if False:")],
        [f"{_REMOVED}::test_removed_entries_cannot_be_read"],
    ),
    Sabotage(
        "whom removed entries address is forgotten of the first agents only",
        [Edit(_DECISION, "    return following\n", '    return ""\n')],
        [f"{_ROWS}::test_whom_removed_entries_address_is_deleted_of_all_agents"],
    ),
    Sabotage(
        "removed entries that were not counted are taken off the count",
        [Edit(_CLEANER, "if self.upto < self.first_seq - 1:", "if False:")],
        ["tests/test_cleaner.py"],
        timeout=30,
    ),
    Sabotage(
        "an entry that gets too old stays until something is posted",
        [Edit(_CLEANER, "self._due = self._loop_time(due)", "self._due = None")],
        [
            "tests/test_cleaner.py::test_an_entry_goes_when_it_gets_too_old_though_nothing_else_happens"
        ],
        timeout=30,
    ),
    Sabotage(
        "entries over the defaults stay if there was no thread at the start",
        [Edit(_CLEANER, " or commit.retained or any(self._default):", " or commit.retained:")],
        ["tests/test_cleaner.py::test_the_first_thread_with_limits_is_found"],
        timeout=30,
    ),
    Sabotage(
        "whom removed entries address stays stored if the server is killed then",
        [Edit(_CLEANER, "if first_seq > 1:", "if first_seq != kept.first_seq:")],
        ["tests/test_cleaner.py::test_whom_removed_entries_address_is_forgotten_after_a_restart"],
        timeout=30,
    ),
    Sabotage(
        "entries are counted of a history that is lost",
        [
            Edit(
                _CLEANER,
                "(count.epoch, count.first_seq) != (kept.epoch, kept.first_seq)",
                "count.first_seq != kept.first_seq",
            )
        ],
        ["tests/test_cleaner.py::test_entries_of_another_history_are_counted_again"],
        timeout=30,
    ),
    Sabotage(
        "a wait that falls behind goes on without a word",
        [
            Edit(
                _POSITION,
                "            reason = WaitResync.REASON_COMPACTED\n"
                "            self.skip_removed()\n",
                "            self.skip_removed()\n            return None\n",
            )
        ],
        [f"{_BUS}::test_a_wait_that_falls_behind_as_nobody_reads_it_is_told_before_it_continues"],
        timeout=30,
    ),
]
