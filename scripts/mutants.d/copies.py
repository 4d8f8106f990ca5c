"""Mutants: copies of stores."""

from sabotage import Edit, Sabotage

_COPIER = "bus_server/copy/copier.py"
_FILE, _SCHEMA = (f"bus_server/store/{engine}/copies.py" for engine in ("sqlite", "postgres"))
_COPIES, _REFUSALS, _INTERRUPTIONS = (
    f"tests/copying/test_{name}.py" for name in ("copies", "refusals", "interruptions")
)
_SERVED = (
    f"{_REFUSALS}::test_a_store_that_is_served_is_not_copied_and_one_that_is_copied_is_not_served"
)
_UNFINISHED = (
    f"{_REFUSALS}::test_an_unfinished_copy_is_neither_served_nor_copied_and_can_be_finished"
)

SABOTAGES = [
    Sabotage(
        "a copy does not know what threads have lost",
        [
            Edit(
                _FILE,
                "(?1, ?2, ?3, ?4, ?5, ?8, ?9, ?10, ?11)",
                "(?1, ?2, ?3, ?4, ?5, ?8, 1, ?10, ?11)",
            )
        ],
        [f"{_COPIES}::test_a_server_on_a_copy_shows_what_one_on_the_store_did"],
        timeout=60,
    ),
    Sabotage(
        "a thread without entries loses its head when it is copied",
        [Edit(_FILE, "{_HEAD}), first_seq - 1)", "{_HEAD}), 0)")],
        [f"{_COPIES}::test_a_server_on_a_copy_shows_what_one_on_the_store_did"],
        timeout=60,
    ),
    Sabotage(
        "a thread that lost all entries in PostgreSQL is older in a copy to a file",
        [
            Edit(
                "bus_server/store/postgres/compact.py",
                "WHEN n.upto = last_seq THEN last_time ELSE",
                "WHEN n.upto = 0 THEN last_time ELSE",
            )
        ],
        [f"{_COPIES}::test_a_server_on_a_copy_shows_what_one_on_the_store_did"],
        timeout=60,
    ),
    Sabotage(
        "a copy is not compared with the store",
        [Edit(_COPIER, "    if found == expected:\n", "    if True:\n")],
        [f"{_REFUSALS}::test_a_copy_that_something_else_changes_is_not_finished"],
        timeout=60,
    ),
    Sabotage(
        "a copy goes on though the store was written to since",
        [
            Edit(
                _COPIER,
                "target.mark is not None and target.mark.fingerprint == fingerprint",
                "target.mark is not None",
            )
        ],
        [f"{_INTERRUPTIONS}::test_a_copy_starts_over_if_the_store_was_written_to_since"],
        timeout=60,
    ),
    Sabotage(
        "a copy that goes on begins a table at its first row",
        [Edit(_COPIER, "read(table, target.last_key(table))", "read(table)")],
        [f"{_INTERRUPTIONS}::test_a_copy_goes_on_after_the_last_step"],
        timeout=60,
    ),
    Sabotage(
        "times of another clock are copied as they are",
        [Edit(_COPIER, "return 0 if abs(shift) < SAME_CLOCK else shift", "return 0")],
        [f"{_COPIES}::test_times_of_another_clock_are_moved_to_that_of_the_copy"],
        timeout=60,
    ),
    Sabotage(
        "order times are copied to PostgreSQL",
        [Edit(_COPIER, ", order_times=target.has_order_times", "")],
        [f"{_COPIES}::test_order_times_become_times_of_the_wall_clock"],
        timeout=60,
    ),
    Sabotage(
        "rows of deleted threads are copied from a file",
        [Edit(_FILE, "NOT IN (SELECT thread_id FROM purge)", "IS NOT NULL")],
        [f"{_COPIES}::test_rows_of_deleted_threads_are_left_out_and_their_ids_stay_used"],
        timeout=60,
    ),
    Sabotage(
        "a file that is served is copied",
        [Edit(_FILE, "            if rescue.is_open(path):\n", "            if False:\n")],
        [f"{_SERVED}[sqlite-postgresql]"],
        timeout=60,
    ),
    Sabotage(
        "a server starts on a database that is copied",
        [Edit("bus_server/store/postgres/serving.py", "if not shared:", "if False:")],
        [f"{_SERVED}[postgresql-sqlite]"],
        timeout=60,
    ),
    Sabotage(
        "a server starts on an unfinished copy in a database",
        [
            Edit(
                "bus_server/store/postgres/schema.py",
                "        raise StoreRefused(_UNFINISHED)\n    for",
                "        compatible = version\n    for",
            )
        ],
        [f"{_UNFINISHED}[postgresql]"],
        timeout=60,
    ),
    Sabotage(
        "an unfinished copy in a file is marked as a store",
        [
            Edit(
                _FILE,
                "file.create(path, file.UNFINISHED_ID",
                "file.create(path, file.APPLICATION_ID",
            )
        ],
        [f"{_UNFINISHED}[sqlite]"],
        timeout=60,
    ),
    Sabotage(
        "ids of threads are given again in a copy",
        [
            Edit(
                _FILE, "VALUES ('thread', ?)\", (last_thread_id,)", "VALUES ('thread', ?)\", (0,)"
            ),
            Edit(_SCHEMA, "            if last_thread_id:\n", "            if False:\n"),
        ],
        [f"{_COPIES}::test_rows_of_deleted_threads_are_left_out_and_their_ids_stay_used"],
        timeout=60,
    ),
]
