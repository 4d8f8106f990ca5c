"""Mutants: the traces that commands continue."""

from sabotage import Edit, Sabotage

_IMPORT, _TRACES = "bus_client/cli/transfer/importing.py", "bus_client/cli/traces.py"
_COMMANDS = "tests/test_cli_traces.py"

SABOTAGES = [
    Sabotage(
        "an import continues the trace of its environment",
        [Edit(_IMPORT, 'bus_client.continue_trace(""),', "suppress(),")],
        [f"{_COMMANDS}::test_an_import_keeps_the_traceparents_of_the_file"],
    ),
    Sabotage(
        "commands continue no trace",
        [Edit(_TRACES, 'os.environ.get("TRACEPARENT", "")', '""')],
        [
            f"{_COMMANDS}::test_whatever_a_command_appends_has_the_traceparent_of_its_environment",
        ],
    ),
]
