"""Mutants: the traces that commands and coding agents continue."""

from sabotage import Edit, Sabotage

_BRIDGE, _SEEN = "bus_client/cli/mcp/bridge.py", "bus_client/cli/mcp/seen.py"
_WIRE, _IMPORT = "bus_client/cli/mcp/wire.py", "bus_client/cli/transfer/importing.py"
_TRACES = "bus_client/cli/traces.py"
_COMMANDS, _MODELS = "tests/test_cli_traces.py", "tests/mcp/test_traces.py"

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
            f"{_MODELS}::test_that_of_the_environment_comes_last",
        ],
    ),
    Sabotage(
        "a model's reply continues the trace of what it was shown last",
        [Edit(_SEEN, "return self._traceparents.get((thread, reply_to), last)", "return last")],
        [f"{_MODELS}::test_a_reply_continues_the_trace_of_the_message_that_it_answers"],
    ),
    Sabotage(
        "a message that a host has dropped counts as shown",
        [
            Edit(
                _SEEN,
                "other._traceparents = dict(self._traceparents)",
                "other._traceparents = self._traceparents",
            )
        ],
        [f"{_MODELS}::test_a_message_that_the_host_has_dropped_was_not_shown"],
    ),
    Sabotage(
        "a call's trace that is not valid hides that of a message",
        [
            Edit(
                _WIRE,
                "isinstance(trace, str) and TRACEPARENT.fullmatch(trace)",
                "isinstance(trace, str)",
            )
        ],
        [f"{_MODELS}::test_the_trace_of_the_call_comes_before_that_of_a_message"],
    ),
    Sabotage(
        "a message counts more than the call",
        [Edit(_BRIDGE, "traceparent or shown or", "shown or traceparent or")],
        [f"{_MODELS}::test_the_trace_of_the_call_comes_before_that_of_a_message"],
    ),
]
