"""Fixtures: a shared server process, a channel to it, and fresh names and threads."""

import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from pathlib import Path

import grpc
import pytest

from tests import serving
from tests.postgres import cluster, skipping
from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run the tests that take long")
    parser.addoption(
        "--store",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="what the servers of the tests keep their store in",
    )


def pytest_configure() -> None:
    # Children inherit an ignored SIGINT (a shell's background job has one) or SIGHUP (nohup), and
    # tests send them both. They do not inherit a handler.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--store") != "sqlite":
        chosen = [item for item in items if _uses_chosen_store(item) and not _on_sqlite_only(item)]
        config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
        items[:] = chosen
    if not config.getoption("--soak"):
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="takes long: run with --soak"))

    # Workers begin with equal shares of the tests, and steal from the ends of each other's. Begun
    # with the slow ones, no worker is left alone with one in the end.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if workers:
        share = -(-len(items) // workers)
        shares = [items[at : at + share] for at in range(0, len(items), share)]
        items[:] = [
            item
            for each in shares
            for item in sorted(each, key=lambda item: not item.get_closest_marker("slow"))
        ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    serving.declared = _uses_chosen_store(item) or _on_sqlite_only(item)
    return (yield)


def _uses_chosen_store(item: pytest.Item) -> bool:
    """Whether a test depends on --store. With postgresql, no others are run."""
    return isinstance(item, pytest.Function) and "chosen_store" in item.fixturenames


def _on_sqlite_only(item: pytest.Item) -> bool:
    """Whether a test is about the file of a store, or about what no store changes."""
    folder = Path(__file__).parent / "sqlite"
    return item.path.is_relative_to(folder) or item.get_closest_marker("sqlite") is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three workers per CPU: tests wait more than half of the time."""
    return 3 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether tests may take long: those that repeat something then do so more often."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def shared_server(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """This worker's server with default flags."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db") as running:
        started = running.process
        yield running
        assert running.process is started, "a test that stops the server needs the mark own_server"
        assert running.stop() == 0


@pytest.fixture(scope="session")
def small_server(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """This worker's server of tests that list all that it holds, which is little."""
    with ServerProcess(tmp_path_factory.mktemp("small") / "bus.db") as running:
        yield running


@pytest.fixture(scope="session")
def asking_server(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """This worker's server of tests that ask for replies: notices may come at any time."""
    with ServerProcess(tmp_path_factory.mktemp("asking") / "bus.db") as running:
        yield running


@pytest.fixture
def server(
    request: pytest.FixtureRequest, tmp_path: Path, chosen_store: None
) -> Iterator[ServerProcess]:
    """A server with default flags.

    Tests share it: they take names from `name`, do not count what listings hold, and do not stop
    it. One that does is marked `own_server`, and has it for itself. Those that list everything
    again and again are marked `small_server`, and share one that others leave alone. Those that
    ask for replies are marked `asking_server`, and share another one.
    """
    if request.node.get_closest_marker("own_server"):
        with ServerProcess(tmp_path / "bus.db") as running:
            yield running
    elif request.node.get_closest_marker("small_server"):
        yield request.getfixturevalue("small_server")
    elif request.node.get_closest_marker("asking_server"):
        yield request.getfixturevalue("asking_server")
    else:
        yield request.getfixturevalue("shared_server")


@pytest.fixture(scope="session")
def postgres() -> Iterator[cluster.Cluster]:
    """This worker's PostgreSQL server."""
    with skipping.running() as running:
        yield running


@pytest.fixture(scope="session")
def chosen_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Servers keep their store as --store says.

    With postgresql: in a schema for each file that they are given.
    """
    if request.config.getoption("--store") == "sqlite":
        yield
        return
    postgres: cluster.Cluster = request.getfixturevalue("postgres")
    with contextlib.ExitStack() as schemas:
        urls = dict[Path, str]()

        def database_of(db: Path) -> str:
            if db not in urls:
                urls[db] = schemas.enter_context(postgres.schema())
            return urls[db]

        serving.database_of = database_of
        yield
        serving.database_of = None


@pytest.fixture
def postgres_url(postgres: cluster.Cluster) -> Iterator[str]:
    """The URL of an empty schema, for a store."""
    with postgres.schema() as url:
        yield url


StartServer = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path, chosen_store: None) -> Iterator[StartServer]:
    """Starts servers for one test: `start_server(*flags, db=…, listen=…, …)`."""
    with contextlib.ExitStack() as running:

        def start(
            *flags: str,
            db: Path | None = None,
            listen: str = "",
            environment: Mapping[str, str] | None = None,
            fresh: bool = False,
        ) -> ServerProcess:
            db = db or tmp_path / "bus.db"
            server = ServerProcess(db, *flags, listen=listen, environment=environment, fresh=fresh)
            return running.enter_context(server)

        yield start


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the server."""
    async with grpc.aio.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture
def bus(channel: grpc.aio.Channel) -> BusStub:
    return BusServiceStub(channel)


@pytest.fixture
def threads(channel: grpc.aio.Channel) -> ThreadStub:
    return ThreadServiceStub(channel)


@pytest.fixture
def agents(channel: grpc.aio.Channel) -> AgentStub:
    return AgentServiceStub(channel)


@pytest.fixture
def admin(channel: grpc.aio.Channel) -> AdminStub:
    return AdminServiceStub(channel)


@pytest.fixture
def name() -> str:
    """A name that is not in use, valid for a thread and for an agent."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def thread(threads: ThreadStub, name: str) -> str:
    """The name of a fresh thread."""
    await threads.CreateThread(CreateThreadRequest(thread=name))
    return name
