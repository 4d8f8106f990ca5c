"""Writes the table of permissions in docs/security.md; see scripts/security."""

import sys
from collections.abc import Iterator
from pathlib import Path

from bus_server.permissions import RULES, Rule, Threads, Who

PAGE = Path(__file__).parents[2] / "docs/security.md"
BEGIN, END = "<!-- permissions -->\n", "<!-- end of permissions -->\n"
CALLERS = ("anonymous", "agent", "participant", "owner", "person", "operator")
#: Which callers may do something. An operator may do everything.
MAY = {
    Who.ANYONE: CALLERS,
    Who.ITSELF: ("owner",),
    Who.OWNERS: ("owner", "person"),
    Who.PARTICIPANTS: ("participant", "owner", "person"),
    Who.SENDER: ("owner",),
    Who.OPERATORS: (),
}
#: What a call about other threads than those of its token's prefixes gets.
OTHERS = {
    Threads.NONE: "",
    Threads.EXISTING: "not found",
    Threads.NEW: "denied",
    Threads.LISTED: "left out",
    Threads.ALL: "always denied",
}


def table() -> Iterator[str]:
    yield f"| call | scope | other threads | {' | '.join(CALLERS)} |\n"
    yield f"| --- | --- | --- |{' --- |' * len(CALLERS)}\n"
    for method, rule in RULES.items():
        yield _row(method.partition(".")[2], rule)
        for name, more in rule.fields.items():
            yield _row(f"{method.partition('.')[2]} with `{name}`", more)


def _row(call: str, rule: Rule) -> str:
    cells = (_cell(caller, rule) for caller in CALLERS)
    return f"| {call} | {rule.scope} | {OTHERS[rule.threads]} | {' | '.join(cells)} |\n"


def _cell(caller: str, rule: Rule) -> str:
    if caller == "operator":
        return "yes"
    required = rule.who_if_required or rule.who
    in_open_mode, else_too = (caller in MAY[who] for who in (rule.who, required))
    if caller == "anonymous":
        in_open_mode = in_open_mode or rule.open_here
        else_too = not rule.scope and rule.who is Who.ANYONE
    return "yes" if else_too else "open" if in_open_mode else "no"


def main() -> None:
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    updated = before + BEGIN + "".join(table()) + END + after
    if updated == page:
        return
    if "--check" in sys.argv:
        sys.exit("security: docs/security.md is not up to date: run scripts/security")
    PAGE.write_text(updated, "utf-8")


main()
