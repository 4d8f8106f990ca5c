"""What is checked with each host: the bridge and its tools, the hooks, and a conversation."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass, field

from hosts import HostError
from stage import LONGEST, Bus, Place, Tail, until

from bus_client import BusError, Presence
from bus_client.hosts.table import HOSTS, Event
from tests.hosts.model import Call, Model, Say, Step
from tests.hosts.prompts import Prompt

#: The instructions that the bridge gives a host begin like this.
INSTRUCTIONS = "ThreadBus: threads of messages"
#: The cell of a check that failed.
FAILED = "✗"
TOOLS = ("bus_join", "bus_post", "bus_wait", "bus_read", "bus_who")
#: A text of a peer, which no hook may show.
_PEERS_WORDS = "xyzzy-4711"
_HOOK_WAIT = 8  # seconds that the hook of a stop waits for a message
#: What wakes the agent: one message, and then another one.
_FIRST, _SECOND = "You have been woken.", "And once more."


@dataclass(slots=True)
class Report:
    """What was found out about a host.

    Attributes:
        name: The host's name.
        version: Its version; empty: it is not installed.
        cells: The outcome of each check, by row; see `report.ROWS`.
        faults: What is wrong, in sentences.
    """

    name: str
    version: str
    cells: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, row: str, fine: bool, fault: str, shown: str = "✓") -> None:
        """Record the outcome of a check: what to show if it is fine, and else the fault."""
        self.cells[row] = shown if fine else FAILED
        if not fine and fault:
            self.faults.append(f"{row}: {fault}")


def result_of(prompt: Prompt, tool: str) -> str:
    """Returns the newest result of a tool in a prompt; empty if there is none."""
    found, called = "", False
    for piece in prompt.pieces:
        if piece.role == "call":
            called = tool in piece.text
        elif piece.role == "tool" and called:
            found = piece.text
    return found


def check_bridge(place: Place, bus: Bus, report: Report) -> None:
    """Run the host once: it calls all five tools, and is woken by a message."""
    thread = f"{place.agent}-tools"
    bus.post(thread, "The first message.")

    def wait_for(text: str) -> Step:
        def wait(_: Prompt) -> Call:
            post = (bus, place.agent, thread, text)
            threading.Thread(target=_post_to_waiting, args=post, daemon=True).start()
            return Call("bus_wait", until=text)

        return wait

    hello = f"Hello from {place.runner.name}."
    script: list[Step] = [
        Call("bus_join", {"thread": thread}),
        Call("bus_post", {"text": hello}),
        wait_for(_FIRST),
        wait_for(_SECOND),
        Call("bus_read"),
        Call("bus_who"),
        Say("I am done."),
    ]
    with Model(script) as model:
        place.configure(model.url)
        fault = _run(place, model)
    last = model.prompts[-1] if model.prompts else Prompt("", "", False, (), ())
    results = {tool: result_of(last, tool) for tool in TOOLS}
    stored = [message.content for message in bus.messages(thread)]
    wanted = {
        "bus_join": "The first message." in results["bus_join"],
        "bus_post": "posted" in results["bus_post"] and hello in stored,
        "bus_wait": _SECOND in results["bus_wait"],
        "bus_read": hello in results["bus_read"],
        "bus_who": "peer" in results["bus_who"],
    }
    if not place.called("threadbus mcp"):
        report.check("bridge", False, "the host did not start it")
    else:
        missing = ", ".join(dict.fromkeys(model.missing))
        report.check("bridge", not missing, f"the host offers no {missing}")
    if fault:
        report.faults.append(fault)
    wrong = [f"{tool} returned {results[tool][:200]!r}" for tool in TOOLS if not wanted[tool]]
    report.check("tools", not wrong, "; ".join(wrong), _way(last))
    report.check("woken", wanted["bus_wait"], "")
    once = wanted["bus_wait"] and _FIRST not in results["bus_wait"]
    report.check("read", once, f"the second bus_wait returned {results['bus_wait'][:200]!r}")
    roles = last.roles(INSTRUCTIONS)
    report.cells["instructions"] = roles[0] if roles else "not shown"
    _check_goodbye(place, bus, report)


def _way(prompt: Prompt) -> str:
    """Returns how the model calls tools in this host."""
    called = {piece.text.split()[0] for piece in prompt.pieces if piece.role == "call"}
    ways = {"exec": "by a script", "ToolSearch": "after a search", "tool_search": "after a search"}
    return next((way for name, way in ways.items() if name in called), "directly")


def _post_to_waiting(bus: Bus, agent: str, thread: str, text: str) -> None:
    bus.wait_for(agent, Presence.PRESENCE_WAITING)
    bus.post(thread, text)


def _run(place: Place, model: Model) -> str:
    """Run the host. Returns what went wrong; empty if nothing did."""
    try:
        place.run(model)
    except HostError as error:
        return str(error)
    return "" if model.over else f"{place.runner.title} ended before its model did"


def _check_goodbye(place: Place, bus: Bus, report: Report) -> None:
    fault = ""
    try:
        until("the bridge ends with the host", lambda: not place.left())
        if report.cells["bridge"] == FAILED:
            fault = "there was no bridge"
        elif not place.runner.kills_bridge:
            bus.wait_for(place.agent, Presence.PRESENCE_OFFLINE)
    except HostError as error:
        fault = str(error)
    place.clean_up()
    report.check("goodbye", not fault, fault, "not always" if place.runner.kills_bridge else "✓")


def check_hooks(place: Place, bus: Bus, report: Report) -> None:
    """Run the host once with hooks, and with an unread message whenever one runs."""
    host = HOSTS[place.runner.name]
    moments = {*host.events, "wait"}
    threads = {moment: f"{place.agent}-at-{moment}" for moment in moments}

    def unread(moment: str) -> None:
        bus.post(threads[moment], f"{_PEERS_WORDS} Please look.", to=place.agent)

    def before_tool(_: Prompt) -> Call:
        unread(Event.POST_TOOL)
        return Call("bus_who")

    def before_stop(_: Prompt) -> Say:
        unread(Event.STOP)
        return Say("I stop.")

    def before_waiting(_: Prompt) -> Say:
        threading.Thread(target=while_it_waits, daemon=True).start()
        return Say("I stop again.")

    def while_it_waits() -> None:
        until("the hook runs again", lambda: place.called("threadbus-hook stop") == 2)
        time.sleep(1)  # it finds nothing at first, and waits
        unread("wait")

    script: list[Step] = [before_tool, before_stop, before_waiting, Say("Now I really stop.")]
    place.threadbus("register", place.agent, "--server", bus.address)
    with Model(script) as model:
        place.configure(model.url, "--hooks", "--wait", f"{_HOOK_WAIT}")
        unread(Event.SESSION_START)
        fault = _run(place, model)
    if fault:
        report.faults.append(fault)
    for moment in sorted(moments):
        roles = [role for prompt in model.prompts for role in prompt.roles(threads[moment])]
        event = Event.STOP if moment == "wait" else moment
        ran = place.succeeded(event)
        if not place.called(f"threadbus-hook {event}") and event in place.runner.interactive:
            report.cells[moment] = "not here"
        elif moment == Event.SESSION_END:
            report.check(moment, ran, "the hook did not succeed")
            if ran:
                bus.wait_for(place.agent, Presence.PRESENCE_OFFLINE)
        else:
            why = "the model was shown no notice" if ran else "the hook did not succeed"
            report.check(moment, bool(roles), why, roles[0] if roles else "")
    often = f"it was kept from stopping {model.surplus} times too often"
    report.check("once", model.over and not model.surplus, often if model.surplus else "")
    if any(prompt.roles(_PEERS_WORDS) for prompt in model.prompts):
        report.faults.append("a hook showed the model the words of a peer")
    place.clean_up()


def check_conversation(
    first: Place, second: Place, bus: Bus, reports: tuple[Report, Report]
) -> None:
    """Run two hosts at once: the first asks, the second is woken, and so on to the end."""
    thread = f"{first.agent}-{second.agent}"
    ask, finding, fixed, end = "Please review it.", "Line 12 is wrong.", "It is fixed.", "Approved."

    def post(text: str, to: Place) -> Call:
        return Call("bus_post", {"text": text, "mentions": [to.agent]})

    join = Call("bus_join", {"thread": thread})
    asking: list[Step] = [join, post(ask, second), Call("bus_wait", until=finding)]
    asking += [post(fixed, second), Call("bus_wait", until=end), Say("It is approved.")]
    answering: list[Step] = [join, Call("bus_wait", until=ask), post(finding, first)]
    answering += [Call("bus_wait", until=fixed), post(end, first), Say("I have approved it.")]
    wanted = [
        (first.agent, ask),
        (second.agent, finding),
        (first.agent, fixed),
        (second.agent, end),
    ]
    fault = ""
    with Model(asking) as asks, Model(answering) as answers:
        try:
            first.configure(asks.url)
            second.configure(answers.url)
            _converse(first, asks, second, answers, bus)
            found = [(message.sender, message.content) for message in bus.messages(thread)]
            if found != wanted:
                fault = f"the thread has {found}"
        except (HostError, BusError) as error:
            fault = str(error)
    for place, report, other in zip((first, second), reports, (second, first), strict=True):
        report.check("talks", not fault, fault, f"with {other.runner.title}")
        place.clean_up()


def _converse(first: Place, asks: Model, second: Place, answers: Model, bus: Bus) -> None:
    """Run two hosts, the second one first. Raises HostError if one fails."""
    waiting = Presence.PRESENCE_WAITING
    with second.running(answers) as process:
        said = Tail(process.stdout)
        ready = f"{second.agent} waits"
        until(ready, lambda: bus.presence(second.agent) == waiting or process.poll() is not None)
        if process.poll() is None:
            first.run(asks)
            try:
                process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                raise HostError(f"{second.runner.title} did not end") from None
        if process.returncode or not (asks.over and answers.over):
            raise HostError(f"{second.runner.title} ended too early: {said.text()}")
