"""The direction of imports, and which module may import what."""

import ast
import graphlib
from pathlib import Path

from threadbus import names

ROOT = Path(__file__).parent.parent

#: From the outside in: a module imports only from rows below its own, or from its own package.
LAYERS = [
    ["bus_server.__main__"],
    ["bus_server.server"],
    ["bus_server.extras"],
    ["bus_server.tls", "bus_server.console", "bus_server.exporter", "bus_server.reloading"],
    ["bus_server.configuration"],
    ["bus_server.config_file"],
    ["bus_server.copy"],
    ["bus_server.flags", "bus_server.listening", "bus_server.operator_token"],
    ["bus_server.services"],
    ["bus_server.server_status", "bus_server.metrics"],
    ["bus_server.parts"],
    ["bus_server.audit"],
    ["bus_server.status", "bus_server.auth"],
    ["bus_server.bus"],
    ["bus_server.fallback"],
    ["bus_server.relay", "bus_server.notices", "bus_server.cleaner"],
    ["bus_server.follow", "bus_server.history"],
    ["bus_server.presence"],
    ["bus_server.tokens"],
    ["bus_server.waits", "bus_server.post_streams"],
    ["bus_server.writer", "bus_server.filter"],
    ["bus_server.memberships"],
    ["bus_server.tail", "bus_server.recent", "bus_server.encoding"],
    ["bus_server.statistics", "bus_server.tracing"],
    ["bus_server.trim"],
    ["bus_server.cutting"],
    ["bus_server.store"],
    ["bus_server.partial"],
    [
        "bus_server.budget",
        "bus_server.memory",
        "bus_server.filesystem",
        "bus_server.fd_limit",
        "bus_server.permissions",
        "bus_server.rates",
    ],
    [
        "bus_server.errors",
        "bus_server.settings",
        "bus_server.fair_queue",
        "bus_server.alarms",
        "bus_server.load",
        "bus_server.histogram",
        "bus_server.logs",
        "bus_server.trace_context",
    ],
]


def _modules(package: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def _imports(path: Path, *, inside_functions: bool = True) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if inside_functions else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _packages(path: Path, *, inside_functions: bool = True) -> set[str]:
    return {name.split(".")[0] for name in _imports(path, inside_functions=inside_functions)}


def _room(module: str) -> tuple[int, str] | None:
    for row, rooms in enumerate(LAYERS):
        for room in rooms:
            if f"{module}.".startswith(f"{room}."):
                return row, room
    return None


def test_the_servers_imports_point_one_way() -> None:
    modules = _modules("bus_server")
    del modules["bus_server.__init__"]
    homeless = [module for module in modules if _room(module) is None]
    assert not homeless, "give them a place in LAYERS"
    against = [
        f"{module} imports {imported}"
        for module, path in modules.items()
        for imported in _imports(path)
        if (own := _room(module)) and (other := _room(imported))
        if other != own and other[0] <= own[0]
    ]
    assert not against


def test_no_imports_form_a_circle() -> None:
    """Within a package, too. Imports inside functions do not count."""
    modules = {
        module.removesuffix(".__init__"): path
        for package in ("bus_server", "bus_client")
        for module, path in _modules(package).items()
    }
    graph = {
        module: (_imports(path, inside_functions=False) & modules.keys()) - {module}
        for module, path in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_only_the_outer_layers_import_grpc() -> None:
    rooms = tuple(f"bus_server.{name}" for name in ("services", "status", "server", "auth", "tls"))
    knowing = {name for name, path in _modules("bus_server").items() if "grpc" in _packages(path)}
    assert knowing
    assert not {name for name in knowing if not name.startswith(rooms)}


def test_only_the_store_imports_its_engine() -> None:
    modules = _modules("bus_server")
    aiosqlite = {name for name, path in modules.items() if "aiosqlite" in _packages(path)}
    sqlite = {name for name, path in modules.items() if "sqlite3" in _packages(path)}
    assert aiosqlite == {"bus_server.store.sqlite.store"}
    assert all(name.startswith("bus_server.store.sqlite.") for name in sqlite)
    psycopg = {name for name, path in modules.items() if "psycopg" in _packages(path)}
    assert psycopg
    assert all(name.startswith("bus_server.store.postgres.") for name in psycopg)


def test_only_the_opening_of_a_store_imports_an_engine() -> None:
    modules = _modules("bus_server")
    for engine in ("bus_server.store.sqlite", "bus_server.store.postgres"):
        others = {name: path for name, path in modules.items() if not name.startswith(f"{engine}.")}
        assert len(others) < len(modules)
        knowing = {
            name
            for name, path in others.items()
            if any(imported.startswith(engine) for imported in _imports(path))
        }
        assert knowing <= {"bus_server.store.opening"}


def test_the_contracts_limits_and_names_import_nothing_heavy() -> None:
    for name in ("limits", "names"):
        assert _imports(ROOT / f"protos/threadbus/{name}.py") <= {"re"}, name


def test_name_rules_are_defined_once() -> None:
    rules = [names.THREAD.pattern, names.AGENT.pattern, names.TOKEN.pattern]
    rules += [names.THREAD_RULE, names.AGENT_RULE, names.TOKEN_RULE, names.TRACEPARENT.pattern]
    for module, path in (_modules("bus_server") | _modules("bus_client")).items():
        text = path.read_text("utf-8")
        assert not [rule for rule in rules if rule in text], module


def test_the_client_imports_the_server_only_to_serve() -> None:
    for module, path in _modules("bus_client").items():
        assert "bus_server" not in _packages(path, inside_functions=False), module
        assert "bus_server" not in _packages(path) or module.startswith("bus_client.cli."), module


def test_files_stay_short() -> None:
    modules = _modules("bus_server") | _modules("bus_client")
    long = {
        name: lines
        for name, path in modules.items()
        if (lines := len(path.read_text("utf-8").splitlines())) > 500
        and not name.startswith("bus_client.sync.")  # generated, from files that are short
    }
    assert not long, "split them"
