"""A server under random use, with crashes, checked against a model in plain lists and dicts."""

from collections.abc import Iterator, Sequence

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as AnyMessage
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    MultipleResults,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.blocking_bus import CALL_SECONDS, BlockingBus
from tests.model.checked import Answer
from tests.model.clients import Clients
from tests.model.follower import Follower
from tests.model.frames import expected_frames
from tests.model.history import ANONYMOUS, Refusal
from tests.model.model import Model
from tests.model.moves import (
    Filter,
    Move,
    Place,
    SetState,
    callers,
    epoch,
    epochs,
    filters,
    moves,
    offsets,
    places,
    rarely,
    seq,
    threads,
)
from tests.model.retention import SHORT, clean_all_the_time
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import (
    GetThreadRequest,
)

Asked = tuple[AnyMessage, str]


class Use(Clients):
    """Clients act, read and wait, while the server is stopped and killed at times."""

    def __init__(self, server: ServerProcess, bus: BlockingBus) -> None:
        super().__init__(bus)
        self.server = server
        self.restarts = 0

    # ── Reads ───────────────────────────────────────────────────────────────────────────────────

    @rule(
        target=Clients.cursors,
        caller=callers,
        asked=st.lists(Clients.cursors | places, max_size=3),
        wanted=filters,
        max_messages=st.sampled_from([0, 0, 1, 2, 5]),
        min_messages=st.sampled_from([0, 0, 1, 3]),
        count_all=rarely(False, st.just(True)),
        twice=rarely(False, st.just(True)),
    )
    def wait(
        self,
        caller: str,
        asked: list[Cursor | Place],
        wanted: Filter,
        max_messages: int,
        min_messages: int,
        count_all: bool,
        twice: bool,
    ) -> MultipleResults[Cursor]:
        caller = self.model.agent(caller)
        cursors = [self.cursor(place) for place in asked]
        if not twice:  # each thread once, as required
            cursors = list({cursor.thread: cursor for cursor in cursors}.values())
        request = WaitMessagesRequest(
            threads=cursors,
            filter=wanted.wish(self.model),
            max_wait=Duration(),
            max_messages=max_messages,
            min_messages=min_messages,
            count_all=count_all,
        )
        frames = list(self.bus.wait(request, caller, timeout=CALL_SECONDS))
        expected = expected_frames(self.model, request, caller)
        self.record_wait(request, caller, expected)
        if isinstance(expected, Refusal):
            assert frames == [expected]
            return multiple(*request.threads)
        assert frames == expected
        return multiple(*(position.cursor for position in expected[-1].ending.threads))

    @rule(
        waits=st.lists(
            st.tuples(
                callers,
                st.dictionaries(threads, offsets.filter(lambda n: n < 1), min_size=1),
                filters,
            ),
            min_size=1,
            max_size=4,
        )
    )
    def follow(self, waits: list[tuple[str, dict[str, int], Filter]]) -> None:
        """Open a wait that stays open."""
        for caller, asked, wanted in waits:
            cursors = [
                history.at(max(0, history.head + asked[thread]))
                for thread in asked
                if (history := self.model.threads.get(self.model.name(thread)))
            ]
            refused = wanted.addressed_to_me and caller == ANONYMOUS
            if cursors and not refused and len(self.followers) < 4:
                request = WaitMessagesRequest(threads=cursors, filter=wanted.wish(self.model))
                agent = self.model.agent(caller)
                self.followers.append(Follower(self.bus, self.model, request, agent))
                self.settle()

    @rule(which=st.integers(0, 9))
    def unfollow(self, which: int) -> None:
        for follower in self.followers[which : which + 1]:
            follower.close()
            self.followers.remove(follower)
            self.parted.add(follower.caller)

    @rule(
        caller=callers,
        thread=threads,
        after=offsets,
        before=st.none() | offsets,
        limit=st.sampled_from([1, 2, 5, 100]),
        newest=st.booleans(),
        wanted=filters,
        which=epochs,
    )
    def page(
        self,
        caller: str,
        thread: str,
        after: int,
        before: int | None,
        limit: int,
        newest: bool,
        wanted: Filter,
        which: str,
    ) -> None:
        name = self.model.name(thread)
        request = ListMessagesRequest(
            thread=name,
            after_seq=seq(self.model, name, after),
            before_seq=0 if before is None else seq(self.model, name, before),
            limit=limit,
            newest=newest,
            filter=wanted.wish(self.model),
            epoch=epoch(self.model, name, which),
        )
        self.ask(request, self.model.agent(caller))

    @rule(caller=callers, thread=threads, offset=offsets)
    def look(self, caller: str, thread: str, offset: int) -> None:
        """Read the thread and one of its messages."""
        name, caller = self.model.name(thread), self.model.agent(caller)
        self.ask(GetThreadRequest(thread=name), caller)
        self.ask(GetMessageRequest(thread=name, seq=seq(self.model, name, offset) or 1), caller)

    # ── Restarts ────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.restarts == 0 and len(self.sent) > 10)
    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        """Stop the server cleanly or kill it, and start it again."""
        self.restarts += 1
        self.certain = False
        if killed:
            self.server.kill()
            self.model.unsaved.clear()
        else:
            assert self.server.stop() == 0
            self.model.save_positions()
        for follower in self.followers:
            (follower.broken if killed else follower.drained)(self.model)
        self.server.start()
        for name in self.model.threads:
            assert self.log_equals(self.model, name)
        self.followers = [follower for follower in self.followers if not follower.ended]
        for follower in self.followers:
            follower.open(self.model)
        self.settle()

    def teardown(self) -> None:
        for follower in self.followers:
            follower.close()
        for name in self.model.threads:
            assert self.log_equals(self.model, name)


class UseAtOnce(Use):
    """As `Use`, with concurrent calls: the server commits them together."""

    @rule(
        thread=threads,
        moves=st.lists(st.tuples(callers, moves), min_size=2, max_size=5),
        repeat_first=st.booleans(),
        short=st.sampled_from([None] * 5 + [*SHORT]),
    )
    def at_once(
        self,
        thread: str,
        moves: list[tuple[str, Move]],
        repeat_first: bool,
        short: tuple[Retention, int] | None,
    ) -> None:
        """Make calls concurrently: some order of them must explain all responses.

        `short`: what the thread keeps meanwhile.
        """
        name = self.model.name(thread)
        if short is not None and name in self.model.threads:
            self.retain(name, *short)
        asked: list[Asked] = [
            (move.request(self.model, name), self.model.agent(caller)) for caller, move in moves
        ]
        if short is not None:
            for request, _ in asked:
                if isinstance(request, PostMessageRequest):
                    request.reply_to = 0  # it may be gone, or not yet
        asked += asked[:1] if repeat_first else []
        answers = self.bus.ask_at_once(asked)
        explained = _explanations(self.model, list(zip(asked, answers, strict=True)))
        model = next((model for model in explained if self.log_equals(model, name)), None)
        assert model is not None, f"no order explains {answers} to {asked}"
        self.model = model
        self.certain = False
        closed_meanwhile = any(isinstance(move, SetState) for _, move in moves)
        self.settle(closed_meanwhile=closed_meanwhile, at_once=True)
        history = self.model.threads.get(name)
        if history is not None and history.keeps is not None:
            self.retain_everything(name)
            self.read_kept(name)


def _explanations(model: Model, done: Sequence[tuple[Asked, Answer]]) -> Iterator[Model]:
    """Returns the model after these calls, for each order that explains every response."""
    if not done:
        yield model
    for at, ((request, caller), answer) in enumerate(done):
        then = model.copy()
        if then.answer(request, caller, answer) == answer:
            yield from _explanations(then, [*done[:at], *done[at + 1 :]])


SETTINGS = settings(
    phases=[Phase.generate, Phase.shrink],
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server that saves read positions only when it must: a kill loses the others.

    What threads do not keep, it removes at once.
    """
    db = tmp_path_factory.mktemp("server") / "bus.db"
    flags = ("--checkpoint-interval", "3600")
    with ServerProcess(db, *flags, prepare=clean_all_the_time) as running:
        yield running


# Without concurrency, failures shrink well; concurrent calls never have the same outcome twice.
@pytest.mark.slow
@pytest.mark.timeout(400)  # a failure is shrunk before it is reported
@pytest.mark.parametrize(
    ("use", "examples"),
    [pytest.param(Use, 25, id="in_turn"), pytest.param(UseAtOnce, 12, id="at_once")],
)
def test_a_server_responds_as_the_model_whatever_clients_do_and_however_it_stops(
    server: ServerProcess, use: type[Use], examples: int, soak: bool
) -> None:
    examples *= 4 if soak else 1
    with BlockingBus(server.address, server.db) as bus:

        class Here(use):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__(server, bus)

        run_state_machine_as_test(Here, settings=settings(SETTINGS, max_examples=examples))
