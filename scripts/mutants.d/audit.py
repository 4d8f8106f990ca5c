"""Mutants: the audit log."""

from sabotage import Edit, Sabotage

_TEST = "tests/test_audit.py::test_every_event_has_a_line_and_no_line_a_secret"

SABOTAGES = [
    Sabotage(
        "refusals are not in the audit log",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "if isinstance(error, AUDITED):",
                "if False:",
            )
        ],
        [_TEST],
    ),
    Sabotage(
        "posts of a batch on behalf of agents are not in the audit log",
        [
            Edit(
                "bus_server/services/posting.py",
                "                if self._caller.operator:\n",
                "                if False:\n",
            )
        ],
        [_TEST],
    ),
    Sabotage(
        "the audit log has topics",
        [
            Edit(
                "bus_server/services/audited.py",
                '"thread_updated", thread=request.thread,',
                '"thread_updated", thread=request.thread, topic=request.topic,',
            )
        ],
        [_TEST],
    ),
    Sabotage(
        "callers can fill the audit log",
        [
            Edit(
                "bus_server/audit.py",
                "if count <= _limit(event) and self._all <= MAX_ALL:",
                "if True:",
            )
        ],
        ["tests/test_audit.py::test_callers_cannot_fill_the_log"],
    ),
]
