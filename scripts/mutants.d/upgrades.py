"""Mutants: files of older versions, and updates of threads and agents."""

from sabotage import Edit, Sabotage

_UPGRADE, _SCRIPT = "bus_server/store/sqlite/upgrade.py", "bus_server/store/sqlite/upgrade-6.sql"
_TESTS = "tests/sqlite/test_store_upgrade.py::test_"

SABOTAGES = [
    Sabotage(
        "the upgrade of a file is not one transaction",
        [
            Edit(
                _UPGRADE,
                "                db.execute(statement)\n",
                "                db.execute(statement)\n"
                '                db.execute("COMMIT")\n'
                '                db.execute("BEGIN IMMEDIATE")\n',
            )
        ],
        [f"{_TESTS}an_upgrade_that_fails_half_way_changes_nothing"],
    ),
    Sabotage(
        "an upgrade loses the ids of threads",
        [
            Edit(
                _SCRIPT,
                "SELECT 'thread', seq FROM sqlite_sequence",
                "SELECT 'other', 1 FROM sqlite_sequence",
            )
        ],
        [f"{_TESTS}no_thread_gets_the_leftovers_of_one_deleted_in_an_older_file"],
    ),
    Sabotage(
        "an upgrade loses the labels of threads",
        [Edit(_UPGRADE, "labels=json.loads(labels), creator", "labels={}, creator")],
        [f"{_TESTS}the_settings_of_threads_and_agents_survive_an_upgrade"],
    ),
    Sabotage(
        "an upgrade uses an order time as the time of a thread",
        [Edit(_SCRIPT, "create_time & 9007199254740991", "create_time")],
        [f"{_TESTS}the_settings_of_threads_and_agents_survive_an_upgrade"],
    ),
    Sabotage(
        "an update changes fields outside its mask",
        [
            Edit(
                "bus_server/store/threads.py",
                "FieldMask(paths=command.fields)",
                'FieldMask(paths=["topic", "stage", "labels", "sync_mode"])',
            )
        ],
        ["tests/test_threads_settings.py"],
    ),
    Sabotage(
        "labels cannot be removed",
        [
            Edit(
                "bus_server/store/agents.py",
                "replace_repeated_field=True",
                "replace_repeated_field=False",
            )
        ],
        ["tests/test_identity_settings.py"],
    ),
]
