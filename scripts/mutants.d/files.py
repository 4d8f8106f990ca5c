"""Mutants: lost files and failing disks."""

from sabotage import Edit, Sabotage

_STORE = "bus_server/store/sqlite/store.py"
_HEALTH = "bus_server/store/sqlite/health.py"
_LOST = "tests/sqlite/test_lost_files.py"
_DISK = "tests/sqlite/test_disk_faults.py"
_FAULTS = "tests/sqlite/test_store_faults.py"
_STOPS = f"{_LOST}::test_a_server_whose_files_were_removed_or_replaced_stops_and_saves_its_data"

SABOTAGES = [
    Sabotage(
        "files are not checked before a commit",
        [
            Edit(
                "bus_server/store/sqlite/committer.py",
                "                self._files.check()\n                result",
                "                result",
            )
        ],
        [_STOPS],
    ),
    Sabotage(
        "an idle server does not check its files",
        [
            Edit(
                _HEALTH,
                "            self._files.check()\n            self._reopen",
                "            self._reopen",
            )
        ],
        [f"{_LOST}::test_an_idle_server_notices_that_its_file_was_removed"],
    ),
    Sabotage(
        "a file that was replaced is not noticed",
        [
            Edit(
                "bus_server/store/sqlite/monitor.py",
                "if not os.path.samestat(found, known):",
                "if False:",
            )
        ],
        [_STOPS],
    ),
    Sabotage(
        "a truncated write-ahead log is not noticed",
        [
            Edit(
                "bus_server/store/sqlite/monitor.py",
                "            cut = str(self.log)\n",
                "            pass\n",
            )
        ],
        [_STOPS],
    ),
    Sabotage(
        "a truncated database is not noticed",
        [Edit("bus_server/store/sqlite/monitor.py", "elif size < needed:", "elif False:")],
        [f"{_LOST}::test_a_truncated_file_stops_the_server"],
    ),
    Sabotage(
        "a database that a checkpoint of another program shrinks counts as truncated",
        [
            Edit(
                "bus_server/store/sqlite/monitor.py",
                "elif (salt, checkpointed) == self._checkpoint:",
                "else:",
            )
        ],
        [f"{_LOST}::test_a_file_that_shrinks_and_grows_between_two_checks_is_no_loss"],
    ),
    Sabotage(
        "an earlier rescued file is reported instead of the last one",
        [
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "return max(found, key",
                "return min(found, key",
            )
        ],
        [f"{_LOST}::test_the_last_copy_saved_is_named_though_there_are_others"],
    ),
    Sabotage(
        "nothing is rescued if the folder was removed",
        [
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)\n",
                "",
            )
        ],
        [f"{_LOST}::test_data_is_saved_though_the_folder_was_removed"],
    ),
    Sabotage(
        "an unusable lock file is an unhandled error",
        [
            Edit(
                _HEALTH,
                "except OSError as error:  # SQLite's own lock",
                "except KeyError as error:  #",
            )
        ],
        [f"{_LOST}::test_an_unusable_lock_file_is_reported_and_delays_nothing"],
    ),
    Sabotage(
        "a full disk refuses a batch as a whole, with the repeated posts in it",
        [
            Edit(
                "bus_server/store/apart.py",
                "isinstance(error, BusError) and not isinstance(error, StorageFull)",
                "isinstance(error, BusError)",
            )
        ],
        [
            f"{_FAULTS}::test_on_a_full_disk_repeated_posts_succeed_and_what_fits_is_stored",
            f"{_FAULTS}::test_posts_of_several_callers_in_a_batch_on_a_full_disk_have_their_own_outcomes",
        ],
    ),
    Sabotage(
        "errors of commands that were run alone are not reported as faults",
        [
            Edit(
                _STORE,
                "            self._health.write_failed(failure)\n        if not failures:\n",
                "            pass\n        if True:\n",
            )
        ],
        [
            f"{_FAULTS}::test_posts_of_several_callers_in_a_batch_on_a_full_disk_have_their_own_outcomes"
        ],
    ),
    Sabotage(
        "commands are run alone after an error that concerns all of them",
        [
            Edit(
                _STORE,
                "            if failures and apart.concerns_all(failures[-1]):\n",
                "            if False:\n",
            )
        ],
        [
            f"{_DISK}::test_posts_run_alone_on_a_full_disk_are_not_tried_after_one_whose_outcome_is_unknown"
        ],
    ),
    Sabotage(
        "an intermittent fault is logged each time",
        [Edit("bus_server/store/faults.py", "QUIET = 60.0", "QUIET = 0.0")],
        [f"{_DISK}::test_an_intermittent_fault_is_logged_once"],
    ),
    Sabotage(
        "a failing stat ends the task that checks the files",
        [
            Edit(
                "bus_server/store/sqlite/monitor.py",
                "        with contextlib.suppress(OSError):\n            return os.lseek",
                "        with contextlib.suppress(KeyError):\n            return os.lseek",
            )
        ],
        [
            f"{_DISK}::test_a_server_that_cannot_examine_its_files_resumes_once_it_can",
        ],
    ),
    Sabotage(
        "a lost store rescues nothing",
        [
            Edit(
                _STORE,
                "saved, sound = await _run(self._writer, rescue.save, files)",
                "saved, sound = None, False",
            )
        ],
        [_STOPS],
    ),
    Sabotage(
        "the write-ahead log of a lost store is not set aside",
        [
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "        if monitor.owns_log() and (saved or os.path.lexists(path)):\n"
                "            _try_to_set_aside(path)\n",
                "",
            )
        ],
        [f"{_LOST}::test_a_backup_moved_over_the_file_is_served_by_the_next_start"],
    ),
    Sabotage(
        "the log of a killed server is replayed into any file",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "if rescue.is_log_of_another(path):",
                "if False:",
            )
        ],
        [f"{_LOST}::test_the_log_of_a_killed_server_is_not_replayed_into_a_backup"],
    ),
    Sabotage(
        "a log without its database is set aside and a new store created",
        [
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "        there\n        and kind",
                "        kind",
            ),
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "    except OSError:\n        return False\n    return (",
                "    except OSError:\n        pass\n    return (",
            ),
        ],
        [f"{_LOST}::test_a_killed_servers_log_without_its_file_is_kept_and_no_new_file_created"],
    ),
    Sabotage(
        "a log is set aside before the owners of the files are checked",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "            _check_files(path, os.geteuid())  # before",
                "            # before",
            )
        ],
        ["tests/test_starting_files.py::test_a_log_record_written_by_another_user_moves_nothing"],
    ),
    Sabotage(
        "files that cannot be checked stop the server",
        [Edit(_HEALTH, "if isinstance(translated, OSError):", "if False:")],
        [
            "tests/sqlite/test_store_faults.py::test_posts_are_refused_while_the_files_cannot_be_examined"
        ],
    ),
    Sabotage(
        "a lock file is closed before the new one is open",
        [
            Edit(
                "bus_server/store/sqlite/write_lock.py",
                "        opened = self._open()\n",
                "        self.close()\n        opened = self._open()\n",
            )
        ],
        ["tests/sqlite/test_store_faults.py::test_a_lock_file_that_cannot_be_reopened_stays_open"],
    ),
    Sabotage(
        "the oldest rescued file is reported",
        [Edit("bus_server/store/sqlite/rescue.py", "return max(found", "return min(found")],
        [f"{_LOST}::test_of_several_saved_copies_the_newest_is_named"],
    ),
    Sabotage(
        "an incomplete rescued file has the name of a complete one",
        [
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "    draft = filesystem.draft_of(filesystem.beside(path, _RESCUED))\n",
                "    draft = filesystem.beside(path, _RESCUED)\n",
            )
        ],
        [f"{_LOST}::test_a_copy_in_progress_is_not_taken_for_a_complete_one"],
    ),
    Sabotage(
        "a log that is in use is set aside",
        [Edit("bus_server/store/sqlite/rescue.py", "        and not is_open(path)\n", "")],
        [f"{_LOST}::test_a_log_in_use_is_not_moved_though_its_inode_was_recorded_for_another"],
    ),
    Sabotage(
        "a lost store whose log cannot be set aside is not reported",
        [
            Edit(
                "bus_server/store/sqlite/rescue.py",
                "    with contextlib.suppress(OSError):\n        set_aside(path)",
                "    set_aside(path)",
            )
        ],
        [f"{_LOST}::test_a_server_that_can_save_nothing_says_so"],
    ),
    Sabotage(
        "a file that lacks acknowledged messages is served",
        [Edit("bus_server/store/sqlite/file.py", "    rescue.check_complete(path)\n", "")],
        [f"{_LOST}::test_a_truncated_file_is_not_served_as_if_it_were_whole"],
    ),
    Sabotage(
        "a new store is created where one was lost",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "elif saved := rescue.rescued(path):",
                "elif not (saved := path):",
            )
        ],
        [f"{_LOST}::test_a_removed_file_is_not_recreated_beside_a_saved_copy"],
    ),
    Sabotage(
        "a commit with an unknown outcome is reported as not done",
        [
            Edit(
                "bus_server/store/sqlite/committer.py",
                "                self.unresolved = True\n"
                "                raise OutcomeUnknown(str(error)) from error\n"
                "            self.stored",
                "                raise error\n            self.stored",
            )
        ],
        [f"{_DISK}::test_while_a_posts_outcome_is_unknown_no_reply_says_it_was_not_stored"],
    ),
    Sabotage(
        "a disk fault lasts until the next post",
        [
            Edit(
                _HEALTH,
                "            if self._faults:\n                touch",
                "            if False:\n                touch",
            )
        ],
        [f"{_DISK}::test_while_a_posts_outcome_is_unknown_no_reply_says_it_was_not_stored"],
    ),
    Sabotage(
        "health is SERVING whatever the disk does",
        [
            Edit(
                "bus_server/server.py",
                "health.set_serving(not store.failing)",
                "health.set_serving(True)",
            )
        ],
        [f"{_DISK}::test_data_that_cannot_be_read_is_an_error_for_its_readers_until_it_can_be"],
    ),
    Sabotage(
        "a read error of the disk counts as a damaged file",
        [
            Edit(
                "bus_server/store/sqlite/damage.py",
                'raise StoreFailed(f"it cannot be read ({error.strerror})") from error',
                "pass",
            )
        ],
        [f"{_DISK}::test_data_that_cannot_be_read_is_an_error_for_its_readers_until_it_can_be"],
    ),
    Sabotage(
        "a write-ahead log that has grown is not truncated",
        [
            Edit(
                "bus_server/store/sqlite/connections.py",
                "journal_size_limit = {LOG_LIMIT}",
                "journal_size_limit = -1",
            )
        ],
        [f"{_DISK}::test_a_log_that_grows_because_of_a_long_read_is_reported_and_shrinks_again"],
    ),
    Sabotage(
        "a repeated internal error is logged each time",
        [
            Edit(
                "bus_server/status.py",
                "    if known is not None and now < known.log_again_at:\n",
                "    if False:\n",
            )
        ],
        ["tests/sqlite/test_store_statements.py"],
    ),
]
