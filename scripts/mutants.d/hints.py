"""Mutants: hints between the servers on a file."""

from sabotage import Edit, Sabotage

_WRITER, _RELAY, _TESTS = (
    "bus_server/writer.py",
    "bus_server/relay.py",
    "tests/sqlite/test_hints.py",
)
_DATAGRAMS = "bus_server/store/sqlite/datagrams.py"

SABOTAGES = [
    Sabotage(
        "other servers get no hint of a post",
        [Edit(_WRITER, "name: head.seq for name, head", "name: 1 for name, head")],
        [f"{_TESTS}::test_a_post_through_one_server_wakes_a_wait_at_the_other"],
    ),
    Sabotage(
        "other servers get no hint of a deletion",
        [Edit(_WRITER, "changed |= {name: 0 for name, _ in commit.deleted}", "pass")],
        [f"{_TESTS}::test_a_wait_ends_at_once_when_another_server_deletes_its_thread"],
    ),
    Sabotage(
        "each wait reads what another server has committed",
        [Edit(_RELAY, "await self._remember(known[name], head)", "pass")],
        [f"{_TESTS}::test_a_thousand_waits_on_a_thread_cost_one_read"],
    ),
    Sabotage(
        "a message that is edited while it is read is kept as it was",
        [Edit(_RELAY, "if self._recent.changes == changes:", "if changes >= 0:")],
        [f"{_TESTS}::test_a_message_that_is_edited_while_it_is_read_is_not_kept_as_it_was"],
    ),
    Sabotage(
        "a hint that finds no room is dropped",
        [
            Edit(
                _DATAGRAMS,
                "            if error.errno not in _FULL:\n                raise\n\n    def close",
                "            self.pending.clear()\n\n    def close",
            )
        ],
        [
            f"{_TESTS}::test_a_server_that_was_stopped_for_a_while_misses_nothing",
            f"{_TESTS}::test_hints_that_find_no_room_are_merged_and_sent_again",
        ],
    ),
    Sabotage(
        "a later post hides the deletion of the thread before",
        [
            Edit(
                "bus_server/store/hints.py",
                "max(seq, known) if seq and known else 0",
                "max(seq, known)",
            )
        ],
        [f"{_TESTS}::test_a_deletion_is_not_hidden_by_a_post_to_the_next_thread_of_the_name"],
    ),
    Sabotage(
        "a server does not notice that its socket was replaced",
        [Edit(_DATAGRAMS, "reachable = reachable and self._heard", "pass")],
        [f"{_TESTS}::test_a_server_that_others_cannot_reach_makes_a_new_socket"],
    ),
    Sabotage(
        "a server makes its new socket under the same name",
        [Edit(_DATAGRAMS, "        self._name = f", "        self._name = self._name or f")],
        [f"{_TESTS}::test_a_server_that_others_cannot_reach_makes_a_new_socket"],
    ),
    Sabotage(
        "a folder that another user owns or can write to is used",
        [
            Edit(
                _DATAGRAMS,
                "if status.st_uid != os.geteuid() or status.st_mode & 0o022:",
                "if not status:",
            )
        ],
        [f"{_TESTS}::test_a_folder_that_cannot_be_used_is_reported_and_the_fallback_works"],
    ),
    Sabotage(
        "a post fails while there are no file descriptors left",
        [
            Edit(
                _DATAGRAMS,
                "except OSError:  # there are no more file descriptors",
                "except TypeError:  #",
            )
        ],
        [f"{_TESTS}::test_posts_are_answered_while_there_are_no_file_descriptors_left"],
    ),
    Sabotage(
        "the sockets of killed servers stay",
        [Edit(_DATAGRAMS, "if stat.S_ISSOCK(found.st_mode):", "if not found:")],
        [f"{_TESTS}::test_a_killed_servers_socket_is_removed_and_a_stopped_one_removes_its_own"],
    ),
    Sabotage(
        "any file in the folder is removed",
        [Edit(_DATAGRAMS, "if stat.S_ISSOCK(found.st_mode):", "if found:")],
        [f"{_TESTS}::test_only_sockets_are_removed_from_the_folder"],
    ),
    Sabotage(
        "a server that starts in the same instant as another is not seen",
        [Edit(_DATAGRAMS, "MTIME_RESOLUTION = 1.0", "MTIME_RESOLUTION = 0.0")],
        [f"{_TESTS}::test_a_server_is_seen_although_the_folders_time_does_not_show_it"],
    ),
]
