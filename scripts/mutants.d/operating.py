"""Mutants: what shows operators how a server does."""

from sabotage import Edit, Sabotage

_LINES = "bus_client/cli/status_lines.py"
_SCREEN = "bus_client/cli/screen.py"
_TOP = "bus_client/cli/top.py"
_STATUS_TESTS = "tests/test_cli_status.py"
_TOP_TESTS = "tests/test_cli_top.py"

SABOTAGES = [
    Sabotage(
        "top leaves a terminal that does not echo",
        [Edit(_SCREEN, "termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)", "pass")],
        [f"{_TOP_TESTS}::test_ctrl_c_leaves_and_colours_can_be_turned_off"],
    ),
    Sabotage(
        "top keeps the terminal while it is stopped",
        [
            Edit(
                _SCREEN,
                "    def _suspend(self) -> None:\n        self._give_back()\n",
                "    def _suspend(self) -> None:\n",
            )
        ],
        [f"{_TOP_TESTS}::test_ctrl_z_gives_the_terminal_back_until_top_is_continued"],
    ),
    Sabotage(
        "top ends when the server is away",
        [Edit(_TOP, "pass  # the server may be back soon", "raise  # the server may be back soon")],
        [f"{_TOP_TESTS}::test_top_goes_on_through_a_restart"],
        timeout=30,
    ),
    Sabotage(
        "figures that do not fit are cut off",
        [Edit(_LINES, "if width and used > indent", "if False and used > indent")],
        [f"{_TOP_TESTS}::test_top_is_live_fits_any_size_and_leaves_with_q"],
        timeout=30,
    ),
    Sabotage(
        "the name of a thread reaches the terminal as it is",
        [Edit(_LINES, "{safe(thread.thread)}", "{thread.thread}")],
        [f"{_STATUS_TESTS}::test_a_status_of_a_failing_store_is_exit_code_4_and_safe_to_show"],
    ),
    Sabotage(
        "a store that fails is exit code 0",
        [Edit("bus_client/cli/status.py", "UNREACHABLE if found.store_failing else 0", "0")],
        [f"{_STATUS_TESTS}::test_a_status_of_a_failing_store_is_exit_code_4_and_safe_to_show"],
    ),
]
