"""Mutants: backups, restores, and repairs of a store's files."""

from sabotage import Edit, Sabotage

_BACKUP = "bus_server/store/sqlite/backup.py"
_RESTORE = "bus_server/store/sqlite/restore.py"
_DUMP = "bus_server/store/postgres/dump.py"
_BACKUPS = "tests/sqlite/test_backup.py"
_RESTORES = "tests/sqlite/test_restore.py"
_GO_ON = f"{_RESTORES}::test_agents_go_on_at_an_empty_machine_where_the_backup_was_made"

SABOTAGES = [
    Sabotage(
        "restored threads keep their epochs",
        [Edit(_RESTORE, '            db.execute(_RENEW.replace("{empty}", empty))\n', "")],
        [_GO_ON],
        timeout=30,
    ),
    Sabotage(
        "a restored thread whose entries were all removed shares none of them",
        [Edit(_RESTORE, '"first_seq - 1" if', '"0" if')],
        [f"{_RESTORES}::test_a_thread_goes_on_after_the_entries_that_it_lost_before_the_backup"],
        timeout=30,
    ),
    Sabotage(
        "a backup of an older version must have first_seq",
        [Edit(_RESTORE, "_FIRST_SEQ_SINCE = 7, 12", "_FIRST_SEQ_SINCE = 7, 1")],
        [f"{_RESTORES}::test_a_backup_of_an_older_version_is_upgraded_at_the_next_start"],
        timeout=30,
    ),
    Sabotage(
        "a restored epoch shares nothing with the one before",
        [Edit(_RESTORE, "printf('%x', coalesce((", "printf('%x', 0 * coalesce((")],
        [_GO_ON],
        timeout=30,
    ),
    Sabotage(
        "a store that is served is replaced",
        [Edit(_RESTORE, "        if rescue.is_open(target):\n", "        if not target:\n")],
        [f"{_RESTORES}::test_a_store_is_replaced_only_with_force_and_never_while_it_is_served"],
        timeout=30,
    ),
    Sabotage(
        "a former store without its log can be served",
        [
            Edit(
                _RESTORE,
                "                rescue.record_incomplete(lock.descriptor, target, again)\n",
                "",
            )
        ],
        [f"{_RESTORES}::test_a_restore_that_was_killed_between_two_steps_is_refused_with_a_remedy"],
        timeout=30,
    ),
    Sabotage(
        "the checksum of a backup is not compared",
        [Edit(_RESTORE, "if digest and found != digest:", "if False:")],
        [f"{_RESTORES}::test_what_is_no_whole_backup_is_refused"],
        timeout=30,
    ),
    Sabotage(
        "a backup is not checked",
        [Edit(_BACKUP, 'if faults != ["ok"]:', "if False:")],
        [f"{_BACKUPS}::test_a_damaged_store_makes_no_backup"],
        timeout=30,
    ),
    Sabotage(
        "pg_dump is given the password as an argument",
        [Edit(_DUMP, 'given.pop("password", None)', 'given.get("password")')],
        ["tests/postgres/test_dump.py::test_passwords_are_in_no_list_of_processes"],
        timeout=30,
    ),
    Sabotage(
        "a store on PostgreSQL that is served is replaced",
        [
            Edit(
                _DUMP,
                "                await db.run((_ALONE, {}))\n",
                "                pass\n",
            )
        ],
        [
            "tests/postgres/test_dump.py"
            "::test_a_store_is_replaced_only_with_force_and_never_while_it_is_served"
        ],
        timeout=60,
    ),
    Sabotage(
        "leftovers of running programs are removed",
        [
            Edit(
                "bus_server/partial.py",
                "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
                "",
            )
        ],
        [f"{_BACKUPS}::test_a_backup_that_runs_keeps_its_file"],
        timeout=30,
    ),
]
