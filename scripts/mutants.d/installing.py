"""Mutants: what an installation does to the files and programs of others."""

from sabotage import Edit, Sabotage

_JSON = "bus_client/hosts/install_json.py"
_EDITS = "bus_client/hosts/install_edits.py"
_COMMAND = "bus_client/hosts/install_command.py"
_INSTALL = "bus_client/hosts/install.py"
_FILES = "tests/test_install_files.py"
_PROGRAMS = "tests/test_install_programs.py"

SABOTAGES = [
    Sabotage(
        "a change of another program is overwritten",
        [
            Edit(
                _JSON,
                "        if _content(real) != before:\n            return False\n"
                "        beside.replace(real)",
                "        beside.replace(real)",
            )
        ],
        [f"{_FILES}::test_a_change_of_another_program_in_between_is_kept"],
    ),
    Sabotage(
        "installations do not wait for each other",
        [Edit(_JSON, "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "pass\n")],
        [f"{_FILES}::test_an_installation_waits_for_another"],
    ),
    Sabotage(
        "a symbolic link is replaced by a file",
        [Edit(_JSON, "        return path.resolve()", "        return path.absolute()")],
        [f"{_FILES}::test_a_symbolic_link_stays_and_its_target_is_changed"],
    ),
    Sabotage(
        "a file's mode is not kept",
        [Edit(_JSON, "                _copy_status(real, descriptor)\n", "                pass\n")],
        [f"{_FILES}::test_the_files_mode_and_owner_stay"],
    ),
    Sabotage(
        "a key that is there twice is lost",
        [Edit(_JSON, "if len(document) < len(pairs):", "if not pairs and document:")],
        [f"{_FILES}::test_what_json_has_not_is_left_alone"],
    ),
    Sabotage(
        "hooks of others count as ours",
        [Edit(_EDITS, "_OUR_COMMAND.search(command) is not None", "bool(command)")],
        [f"{_FILES}::test_what_is_not_ours_is_kept_in_its_order"],
    ),
    Sabotage(
        "another server of our name is replaced",
        [Edit(_EDITS, "if SERVER in section and not _is_bridge(there):", "if 0:")],
        [f"{_FILES}::test_another_server_of_our_name_is_left_alone"],
    ),
    Sabotage(
        "the host's program runs before the files were looked at",
        [
            Edit(
                _INSTALL,
                "_file_edits(setup, host))\n    steps = _look(wanted)",
                "_file_edits(setup, host))\n    steps: list[Step] = []",
            )
        ],
        [f"{_FILES}::test_a_file_that_is_not_understood_is_left_alone"],
    ),
    Sabotage(
        "a program that hangs is killed without its children",
        [Edit(_COMMAND, "os.killpg(process.pid, signal.SIGKILL)", "process.kill()")],
        [f"{_PROGRAMS}::test_a_program_that_hangs_is_killed_with_its_children"],
        timeout=30,  # it waits for the child
    ),
    Sabotage(
        "Claude Code may replace its own file",
        [Edit(_INSTALL, "            files.check_parses(path)\n", "            pass\n")],
        [f"{_PROGRAMS}::test_claude_code_would_replace_a_broken_file"],
    ),
    Sabotage(
        "a permission is written without being asked for",
        [Edit(_INSTALL, "    if setup.allow and host.permission:", "    if host.permission:")],
        ["tests/test_install.py::test_permissions_are_written_only_if_asked_for"],
    ),
    Sabotage(
        "a wait in Codex is longer than its scripts",
        [Edit("bus_client/hosts/table.py", '("--wait-max", "25")', "()")],
        ["tests/test_install.py::test_the_bridge_is_registered_by_the_hosts_own_command"],
    ),
]
