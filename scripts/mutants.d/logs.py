"""Mutants: the log, files of settings, and their reloading."""

from sabotage import Edit, Sabotage

_LOGS, _RELOADING = "tests/test_logs.py", "tests/test_reloading.py"
_CONFIG = "tests/test_config_file.py"

SABOTAGES = [
    Sabotage(
        "texts in statements are logged",
        [
            Edit(
                "bus_server/store/sqlite/connections.py",
                "if isinstance(value, int) else type(value).__name__",
                "",
            )
        ],
        [f"{_LOGS}::test_no_content_and_no_token_is_logged_even_at_debug"],
    ),
    Sabotage(
        "tracebacks quote what callers sent",
        [Edit("bus_server/logs.py", "    return kind.__qualname__\n", "    return str(error)\n")],
        [f"{_LOGS}::test_tracebacks_do_not_quote_what_callers_sent"],
    ),
    Sabotage(
        "a message can have several lines",
        [Edit("bus_server/logs.py", "printable(record.getMessage())", "record.getMessage()")],
        [f"{_LOGS}::test_no_text_makes_a_line_of_its_own"],
    ),
    Sabotage(
        "every call that the server fails is a warning",
        [
            Edit(
                "bus_server/services/call_log.py",
                "return self._failures[reason] <= MAX_FAILURES",
                "return True",
            )
        ],
        [f"{_LOGS}::test_calls_that_the_server_fails_are_warnings_but_cannot_fill_the_log"],
    ),
    Sabotage(
        "a reload forgets how much was posted",
        [
            Edit(
                "bus_server/services/posting.py",
                "if self._rates is None or self._rates.per_minute != limit:",
                "if True:",
            )
        ],
        [f"{_RELOADING}::test_posts_are_limited_also_in_open_streams"],
    ),
    Sabotage(
        "a shorter time for requests waits for the longer one",
        [
            Edit(
                "bus_server/services/request_reader.py",
                "            self._deadline_timer.cancel()\n            self._abort_late()\n",
                "            pass\n",
            )
        ],
        [f"{_RELOADING}::test_how_long_a_request_may_take"],
    ),
    Sabotage(
        "the file overrules flags and variables",
        [
            Edit(
                "bus_server/configuration.py",
                "{**self.found, **self.given}",
                "{**self.given, **self.found}",
            )
        ],
        [f"{_CONFIG}::test_flags_overrule_variables_and_these_the_file"],
    ),
    Sabotage(
        "passwords are printed",
        [
            Edit(
                "bus_server/config_file.py",
                "            value = masked(value)\n",
                "",
            )
        ],
        [f"{_CONFIG}::test_passwords_are_masked"],
    ),
]
