"""Mutants: the console."""

from sabotage import Edit, Sabotage

_CONSOLE = "bus_client/cli/console"
_ATTACKS = "tests/console/test_attacks.py"
_EVENTS = "tests/console/test_events.py"
_TLS = "tests/console/test_tls.py"

SABOTAGES = [
    Sabotage(
        "an event stream outlives its login",
        [Edit(f"{_CONSOLE}/hub.py", "            if left <= 0:\n", "            if False:\n")],
        [f"{_EVENTS}::test_a_stream_ends_with_the_login"],
    ),
    Sabotage(
        "the overview is sent whole at each change",
        [
            Edit(
                f"{_CONSOLE}/overview.py",
                "if version and version == self.version - 1:",
                "if False:",
            )
        ],
        [f"{_EVENTS}::test_of_the_overview_only_changes_are_sent"],
    ),
    Sabotage(
        "an agent's console waits as the agent",
        [Edit(f"{_CONSOLE}/feed.py", '=self._connection.kind == "agent"', "=False")],
        [f"{_EVENTS}::test_a_console_of_an_agent_only_watches"],
    ),
    Sabotage(
        "an agent's console reads for the agent",
        [Edit(f"{_CONSOLE}/api.py", 'if self._connection.kind == "agent":', "if False:")],
        [f"{_EVENTS}::test_a_console_of_an_agent_only_watches"],
    ),
    Sabotage(
        "an export that breaks off looks whole",
        [
            Edit(
                f"{_CONSOLE}/api.py",
                "safe(error.message))\n",
                'safe(error.message))\n            await send({"type": "http.response.body"})\n',
            )
        ],
        ["tests/console/test_breaks.py::test_an_export_that_breaks_midway_does_not_look_whole"],
    ),
    Sabotage(
        "of several cookies of one name only the last counts",
        [Edit(f"{_CONSOLE}/gate.py", "values[:_MOST_COOKIES]", "values[-1:]")],
        ["tests/console/test_gate.py::test_cookies_of_other_paths_of_the_host_do_no_harm"],
    ),
    Sabotage(
        "connections without a request stay open",
        [
            Edit(
                f"{_CONSOLE}/http.py",
                "        super().connection_made(transport)\n        self._wait()\n",
                "        super().connection_made(transport)\n",
            )
        ],
        [f"{_ATTACKS}::test_those_that_ask_for_nothing_are_cut_off"],
    ),
    Sabotage(
        "idle connections keep others out",
        [Edit(f"{_CONSOLE}/http.py", "if len(self.connections) < (", "if 0 < (")],
        [f"{_ATTACKS}::test_any_number_of_idle_connections_holds_up_nobody"],
    ),
    Sabotage(
        "a length beside chunks is accepted",
        [
            Edit(
                f"{_CONSOLE}/web.py",
                'if "transfer-encoding" in headers and "content-length" in headers:',
                "if False:",
            )
        ],
        [f"{_ATTACKS}::test_what_proxies_could_read_in_another_way_is_refused"],
    ),
    Sabotage(
        "a console's certificate that does not fit its key is loaded",
        [
            Edit(
                f"{_CONSOLE}/certificate.py",
                "            load(certificate, key)  # what",
                "            # what",
            )
        ],
        [f"{_TLS}::test_the_console_speaks_https_and_takes_up_a_new_certificate"],
    ),
]
