"""Mutants: what `threadbus mcp` does with lines that hosts should not write, and does not read."""

from sabotage import Edit, Sabotage

_LINES, _WIRE = "bus_client/cli/mcp/lines.py", "bus_client/cli/mcp/wire.py"
_TOOLS = "bus_client/cli/mcp/tools.py"
_HOSTILE, _PIPES = "tests/mcp/test_hostile_lines.py", "tests/mcp/test_pipes.py"
_ANY = "tests/mcp/test_any_lines.py"

SABOTAGES = [
    Sabotage(
        "messages of a wait that was cancelled too late are lost",
        [Edit(_WIRE, "            self._tools.discard(call)\n", "            return\n")],
        ["tests/mcp/test_reading.py"],
    ),
    Sabotage(
        "a client that cancels every call is given all messages again",
        [
            Edit(
                _WIRE, '_ABORT_ANSWERED, _ABORTED = {"opencode"}', "_ABORT_ANSWERED, _ABORTED = {0}"
            )
        ],
        ["tests/mcp/test_aborts.py"],
    ),
    Sabotage(
        "messages of a wait that took too long for OpenCode are lost",
        [Edit(_WIRE, " and isinstance(reason, str) and reason.startswith(_ABORTED)", "")],
        ["tests/mcp/test_aborts.py"],
    ),
    Sabotage(
        "answers that a host does not read are kept without limit",
        [Edit(_WIRE, "            await self._writer.drain()\n", "")],
        [f"{_PIPES}::test_a_host_that_does_not_read_costs_little_memory_and_hinders_no_goodbye"],
        timeout=60,
    ),
    Sabotage(
        "the end waits for a host that does not read",
        [Edit(_WIRE, "_LAST_LINES = 1.0", "_LAST_LINES = 1e6")],
        [f"{_PIPES}::test_a_host_that_does_not_read_costs_little_memory_and_hinders_no_goodbye"],
        timeout=60,
    ),
    Sabotage(
        "a bridge outlives the host that read from it",
        [Edit(_LINES, "        self.broken.set()\n", "")],
        [f"{_PIPES}::test_it_ends_with_a_goodbye_if_nobody_can_read_what_it_writes"],
        timeout=60,
    ),
    Sabotage(
        "a line without an end is kept whole",
        [Edit(_LINES, "part[: MAX_LINE + 1 - len(line)]", "part")],
        [f"{_PIPES}::test_a_line_that_never_ends_costs_little_memory"],
    ),
    Sabotage(
        "input that ends in the midst of a line is waited for",
        [
            Edit(
                _LINES,
                "            self._pass_on(None)\n",
                "            threading.Event().wait()\n",
            )
        ],
        [f"{_PIPES}::test_input_that_ends_in_the_midst_of_a_line_ends_it_with_a_goodbye"],
    ),
    Sabotage(
        "responses are answered",
        [Edit(_WIRE, '("result" in message or "error" in message)', '"result" in message')],
        [_HOSTILE],
    ),
    Sabotage(
        "an object is taken as an id",
        [
            Edit(
                _WIRE,
                "or not isinstance(call, str | int)):\n            raise",
                "):\n            raise",
            )
        ],
        [_HOSTILE],
    ),
    Sabotage(
        "deep nesting ends the bridge",
        [Edit(_WIRE, "suppress(ValueError, RecursionError)", "suppress(ValueError)")],
        [_HOSTILE],
    ),
    Sabotage(
        "a list is taken for params",
        [Edit(_WIRE, "        if not isinstance(params, dict):\n", "        if False:\n")],
        [_HOSTILE],
    ),
    Sabotage(
        "a number that no float can hold ends a call",
        [Edit(_TOOLS, "0 <= value < 2**53", "0 <= float(value) < 2**53")],
        [_HOSTILE],
    ),
    Sabotage(
        "an id that is in use is used twice",
        [Edit(_WIRE, "        if call in self._calls:", "        if False:")],
        [_ANY],
        timeout=60,
    ),
]
