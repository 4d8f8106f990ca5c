"""Mutants: the start and end of a server: its files, its socket, its signals."""

from sabotage import Edit, Sabotage

_FILES = "tests/test_starting_files.py"
_SOCKETS = "tests/test_listening_sockets.py"
_TOKEN = f"{_FILES}::test_an_operators_token_that_others_may_know_is_refused"

SABOTAGES = [
    Sabotage(
        "a failed restore prints a traceback",
        [
            Edit(
                "bus_server/server.py",
                "        parts.presence.restore(await store.presence_rows(0))\n        if",
                "        if",
            ),
            Edit(
                "bus_server/server.py",
                "    dispatcher, health, users = _add_services(",
                "    parts.presence.restore(await store.presence_rows(0))\n"
                "    dispatcher, health, users = _add_services(",
            ),
        ],
        ["tests/test_starting.py::test_a_store_that_cannot_be_set_up_is_refused_in_one_line"],
    ),
    Sabotage(
        "a server whose background task ended exits with 0",
        [Edit("bus_server/server.py", "    if failed:\n", "    if False:\n")],
        ["tests/test_drain.py::test_a_server_whose_background_task_ended_drains_and_exits_with_1"],
    ),
    Sabotage(
        "a path of a Unix socket may be longer than macOS allows",
        [Edit("bus_server/listening.py", '103 if sys.platform == "darwin" else 107', "107")],
        [f"{_SOCKETS}::test_the_length_of_a_socket_path_is_limited_as_by_the_system"],
    ),
    Sabotage(
        "a link to a database is not followed",
        [
            Edit(
                "bus_server/store/opening.py",
                "replace(settings, db=file.locate(settings.db))",
                "settings",
            )
        ],
        [f"{_FILES}::test_servers_given_one_file_by_two_names_share_all_of_it"],
    ),
    Sabotage(
        "a named pipe given as --db is opened",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "    if not stat.S_ISREG(status.st_mode):\n        raise StoreRefused(\n"
                '            f"{file} is {filesystem.kind_of(status)}, not a regular',
                "    if False:\n        raise StoreRefused(\n"
                '            f"{file} is {filesystem.kind_of(status)}, not a regular',
            )
        ],
        [f"{_FILES}::test_a_path_that_is_no_regular_file_is_refused"],
        timeout=15,
    ),
    Sabotage(
        "a symbolic link is accepted as the operator token",
        [Edit("bus_server/operator_token.py", "os.O_NOFOLLOW | ", "")],
        [f"{_TOKEN}[link]"],
    ),
    Sabotage(
        "a file of another user is accepted as the operator token",
        [Edit("bus_server/operator_token.py", "if status.st_uid != uid:", "if False:")],
        [f"{_TOKEN}[somebody_elses]"],
    ),
    Sabotage(
        "an operator token with a hard link is accepted",
        [Edit("bus_server/operator_token.py", "if status.st_nlink > 1:", "if False:")],
        [f"{_TOKEN}[a_second_name]"],
    ),
    Sabotage(
        "a store that anyone can write to is served",
        [Edit("bus_server/store/sqlite/file.py", "if status.st_mode & stat.S_IWOTH:", "if False:")],
        [f"{_FILES}::test_files_that_others_can_write_to_are_refused"],
    ),
    Sabotage(
        "a store of another user is served",
        [Edit("bus_server/store/sqlite/file.py", "if status.st_uid not in trusted:", "if False:")],
        [f"{_FILES}::test_files_that_others_can_write_to_are_refused"],
    ),
    Sabotage(
        "a database with a hard link is served",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "if status.st_nlink > 1 + sum(draft.samefile(file) for draft in drafts):",
                "if False:",
            )
        ],
        [f"{_FILES}::test_a_database_with_a_second_hard_link_is_refused"],
    ),
    Sabotage(
        "files of killed starts are not removed",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "            filesystem.remove_drafts(path)\n",
                "",
            )
        ],
        [f"{_FILES}::test_leftovers_of_killed_starts_are_removed_and_nothing_else"],
    ),
    Sabotage(
        "files of a start in progress are removed",
        [
            Edit(
                "bus_server/store/sqlite/file.py",
                "with filesystem.lock_folder(folder):",
                "if folder:",
            )
        ],
        [f"{_FILES}::test_drafts_of_another_start_in_progress_stay"],
    ),
    Sabotage(
        "the mode of a socket depends on the umask",
        [
            Edit("bus_server/listening.py", "os.umask(0o777 & ~mode)", "os.umask(0o022)"),
            Edit("bus_server/listening.py", "path.chmod(settings.socket_mode)", "pass"),
        ],
        [f"{_SOCKETS}::test_a_socket_is_accessible_to_its_owner_only_by_default"],
    ),
    Sabotage(
        "a socket is private only some time after it was created",
        [Edit("bus_server/listening.py", "os.umask(0o777 & ~mode)", "os.umask(0)")],
        [f"{_SOCKETS}::test_a_socket_is_private_from_its_first_moment_on"],
    ),
    Sabotage(
        "a refused start leaves its socket",
        [
            Edit(
                "bus_server/listening.py",
                "                path.unlink()\n",
                "                pass\n",
            )
        ],
        [f"{_SOCKETS}::test_a_start_that_is_refused_leaves_no_socket"],
    ),
    Sabotage(
        "servers that start at the same time take the socket from each other",
        [
            Edit(
                "bus_server/listening.py",
                "filesystem.lock_folder(_folder(settings, path)):",
                "contextlib.nullcontext(_folder(settings, path)):",
            )
        ],
        [f"{_SOCKETS}::test_a_start_waits_for_another_one_in_the_sockets_folder"],
    ),
    Sabotage(
        "a terminal that closes kills the server",
        [Edit("bus_server/server.py", "signal.SIGINT, signal.SIGHUP):", "signal.SIGINT):")],
        ["tests/test_drain.py::test_when_the_terminal_closes_waits_end_with_draining"],
    ),
    Sabotage(
        "a server under nohup ends with its terminal",
        [
            Edit(
                "bus_server/server.py",
                "if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:",
                "if number:",
            )
        ],
        ["tests/test_drain.py::test_a_server_under_nohup_outlives_its_terminal"],
    ),
    Sabotage(
        "sockets reuse the descriptors of closed standard streams",
        [Edit("bus_server/__main__.py", "    _open_standard_streams()\n", "")],
        [
            "tests/test_starting.py::"
            "test_a_server_runs_and_stops_with_any_standard_stream_closed_or_full"
        ],
    ),
    Sabotage(
        "settings have no environment variables",
        [Edit("bus_server/flags.py", "envvar=setting.variable", "envvar=None")],
        ["tests/test_settings.py::test_each_setting_but_json_has_a_variable"],
    ),
    Sabotage(
        "a setting that may be 0 may be negative",
        [Edit("bus_server/settings.py", '("seconds", 0, _DAY)]', '("seconds", -1, _DAY)]')],
        ["tests/test_settings.py::test_an_invalid_setting_is_refused_by_name"],
    ),
    Sabotage(
        "a server does not raise its soft limit of descriptors",
        [Edit("bus_server/server.py", "    fd_limit.raise_limit()\n", "")],
        ["tests/test_fd_limit.py::test_a_server_raises_its_soft_limit_to_the_hard_one"],
    ),
    Sabotage(
        "running out of file descriptors is not logged",
        [Edit("bus_server/fd_limit.py", "if error.errno == errno.EMFILE:", "if False:")],
        ["tests/test_fd_limit.py"],
        timeout=30,
    ),
    Sabotage(
        "the log names the server's limit of descriptors when the machine has none left",
        [
            Edit(
                "bus_server/fd_limit.py",
                "if error.errno == errno.EMFILE:",
                "if error.errno in (errno.EMFILE, errno.ENFILE):",
            )
        ],
        [
            "tests/test_fd_limit.py::test_the_log_says_that_the_machine_is_out_of_descriptors_not_the_server"
        ],
        timeout=30,
    ),
    Sabotage(
        "gRPC logs that it runs out of descriptors, too",
        [
            Edit(
                "bus_server/__main__.py",
                'os.environ.setdefault("GRPC_VERBOSITY", "NONE")',
                "pass",
            )
        ],
        ["tests/test_fd_limit.py"],
        timeout=30,
    ),
    Sabotage(
        "of two tokens the last one is used",
        [
            Edit(
                "bus_server/services/call_metadata.py",
                "if found is not None and value != found:",
                "if False:",
            )
        ],
        ["tests/test_identity.py::test_two_different_tokens_are_refused"],
    ),
    Sabotage(
        "an unknown method is not explained",
        [
            Edit(
                "bus_server/services/dispatch.py", "return self._unimplemented(path)", "return None"
            )
        ],
        ["tests/test_bad_input_bytes.py::test_an_unknown_method_is_unimplemented"],
    ),
]
