"""What an installation does to documents of any shape."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bus_client.hosts import install_edits as edits
from bus_client.hosts.install_json import Document, NotUnderstood
from bus_client.hosts.table import HOSTS, McpFile

_KEYS = ["hooks", "Stop", "AfterAgent", "mcpServers", "threadbus", "permissions", "allow", "x"]
_KEYS += ["command", "bash", "matcher", "version"]
_TEXTS = ["threadbus", "threadbus-hook stop", "/a/threadbus hook stop", "mcp", "mine", ""]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(_TEXTS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(_KEYS), json_values, max_size=5)

Edit = Callable[[Document], Document]

_FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

pytestmark = pytest.mark.slow


def pairs(name: str) -> list[tuple[Edit, Edit]]:
    """Return each edit of a host, with the one that takes it back."""
    host = HOSTS[name]
    found: list[tuple[Edit, Edit]] = []
    if file := host.hook_file:
        hook = {**file.hook, file.command_key: "/bin/threadbus-hook stop", file.timeout_key: 15}
        add = partial(
            edits.with_hooks, host=host, file=file, hooks=dict.fromkeys(host.events, hook)
        )
        found.append((add, partial(edits.without_hooks, file=file)))
    if isinstance(host.mcp, McpFile):
        words = ["/bin/threadbus", "mcp"]
        program = (
            {"command": words} if host.mcp.one_list else {"command": words[0], "args": ["mcp"]}
        )
        add = partial(edits.with_server, file=host.mcp, server=program)
        found.append((add, partial(edits.without_server, file=host.mcp)))
    if host.permission:
        add = partial(edits.with_permission, permission=host.permission)
        found.append((add, partial(edits.without_permission, permission=host.permission)))
    return found


def pruned(value: Any) -> Any:
    """Return a value without what is empty in it, as a removal leaves nothing empty behind."""
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := pruned(each)) not in ({}, [])}
    if isinstance(value, list):
        return [kept for each in value if (kept := pruned(each)) not in ({}, [])]
    return value


@pytest.mark.parametrize("name", HOSTS)
@_FEW
@given(document=documents)
@example(document={"hooks": {"Stop": [{"hooks": []}, {}, "x", None]}})
@example(document={"hooks": {}, "mcpServers": {}, "permissions": {"allow": []}})
def test_any_document_is_edited_and_restored(name: str, document: Document) -> None:
    if file := HOSTS[name].hook_file:
        assert edits.hook_lines(edits.without_hooks(document, file), file) == []
    for add, remove in pairs(name):
        before = copy.deepcopy(document)
        clean = remove(document)
        assert remove(clean) == clean
        try:
            added = add(document)
        except NotUnderstood:
            continue
        assert add(added) == added
        restored = remove(added)
        head = dict(file.head) if (file := HOSTS[name].hook_file) else {}
        assert pruned({**head, **restored}) == pruned({**head, **clean})
        assert document == before


@pytest.mark.parametrize("name", HOSTS)
@_FEW
@given(document=documents)
def test_a_removal_changes_nothing_where_nothing_is_ours(name: str, document: Document) -> None:
    if "threadbus" in str(document):
        return
    for _, remove in pairs(name):
        assert remove(document) == document
