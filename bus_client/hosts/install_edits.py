"""What an installation changes in the documents of a host: hooks, MCP servers and permissions.

Each function returns a new document and leaves its argument as it is. What is not ours is kept, in
its order. A NotUnderstood of an installation's names the place at fault; a removal raises none, as
there is nothing of ours where we would not have written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bus_client.hosts.install_json import Document, NotUnderstood
from bus_client.hosts.table import Event, HookFile, Host, Layout, McpFile, Permission

#: The name under which hosts know the bridge. Tools and permissions are named after it.
SERVER = "threadbus"

#: In a command of our hooks. The program's path may be in quotes.
_OUR_COMMAND = re.compile(r"""threadbus(-hook|['"]? hook)""")


def with_hooks(
    document: Document, host: Host, file: HookFile, hooks: Mapping[Event, Document]
) -> Document:
    """Returns the document of `host` with a hook for each event.

    A hook of ours that is there is replaced in place, and a second one removed.

    Args:
        hooks: By event, the object that the host's file holds for a hook.
    """
    section = _object(document, "hooks", "hooks")
    changed = dict(section)
    for event, hook in hooks.items():
        name = host.events[event]
        entries = section.get(name, [])
        if not isinstance(entries, list):
            raise NotUnderstood(f"hooks.{name} is not a list")
        merged, found = _put(entries, file, hook)
        if not found:
            merged = [*merged, {"hooks": [hook]} if file.layout is Layout.GROUPS else hook]
        changed[name] = merged
    head = {key: value for key, value in file.head.items() if key not in document}
    return {**head, **document, "hooks": changed}


def without_hooks(document: Document, file: HookFile) -> Document:
    """Returns the document without hooks of ours, and without what is empty without them."""
    section = document.get("hooks")
    if not isinstance(section, dict):
        return document
    changed: Document = {}
    for name, entries in section.items():
        merged = _put(entries, file, None)[0] if isinstance(entries, list) else entries
        if merged or merged == entries:
            changed[name] = merged
    rest = _with(document, "hooks", changed, before=section)
    return {} if rest == file.head and rest != document else rest


def hook_lines(document: Document, file: HookFile) -> list[str]:
    """Returns the commands of the hooks of ours."""
    section = document.get("hooks")
    found: list[Any] = []
    for entries in section.values() if isinstance(section, dict) else ():
        for entry in entries if isinstance(entries, list) else ():
            groups = file.layout is Layout.GROUPS
            hooks = entry.get("hooks") if groups and isinstance(entry, dict) else [entry]
            found += hooks if isinstance(hooks, list) else []
    return [hook[file.command_key] for hook in found if _is_hook(hook, file)]


def with_server(document: Document, file: McpFile, server: Document) -> Document:
    """Returns the document with `server` as our MCP server.

    Of one that is there, the keys that `server` does not have are kept, but not the environment.
    """
    section = _object(document, file.key, file.key)
    there = section.get(SERVER, {})
    if SERVER in section and not _is_bridge(there):
        raise NotUnderstood(f"{file.key}.{SERVER} is another program's")
    kept = {key: value for key, value in there.items() if key != file.env_key}
    return {**document, file.key: {**section, SERVER: {**kept, **server}}}


def without_server(document: Document, file: McpFile) -> Document:
    """Returns the document without our MCP server, and without what is empty without it."""
    section = document.get(file.key)
    if not isinstance(section, dict) or not _is_bridge(section.get(SERVER)):
        return document
    changed = {name: server for name, server in section.items() if name != SERVER}
    return _with(document, file.key, changed, before=section)


def with_permission(document: Document, permission: Permission) -> Document:
    """Returns the document with our rule in a list of `permissions`."""
    section = _object(document, "permissions", "permissions")
    rules = section.get("allow", [])
    if not isinstance(rules, list):
        raise NotUnderstood("permissions.allow is not a list")
    if permission.rule in rules:
        return document
    return {**document, "permissions": {**section, "allow": [*rules, permission.rule]}}


def without_permission(document: Document, permission: Permission) -> Document:
    """Returns the document without our rule, and without what is empty without it."""
    section = document.get("permissions")
    if not isinstance(section, dict) or not isinstance(section.get("allow"), list):
        return document
    rules = [rule for rule in section["allow"] if rule != permission.rule]
    changed = _with(section, "allow", rules, before=section["allow"])
    return _with(document, "permissions", changed, before=section)


def _object(document: Document, key: str, name: str) -> Document:
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise NotUnderstood(f"{name} is not an object")
    return found


def _with(document: Document, key: str, value: Any, *, before: Any) -> Document:
    """Returns the document with another value of `key`, or without it if it has become empty."""
    if value == before:
        return document
    if value:
        return {**document, key: value}
    return {name: kept for name, kept in document.items() if name != key}


def _put(entries: Sequence[Any], file: HookFile, hook: Document | None) -> tuple[list[Any], bool]:
    """Returns the entries of an event with `hook` in place of ours, and whether there was one.

    Only the first is replaced. None = all are removed, with groups that have nothing else.
    """
    if file.layout is Layout.FLAT:
        return _replace(entries, file, hook)
    merged: list[Any] = []
    found = False
    for group in entries:
        hooks = group.get("hooks") if isinstance(group, dict) else None
        if not isinstance(hooks, list):
            merged.append(group)
            continue
        kept, here = _replace(hooks, file, None if found else hook)
        found |= here
        if kept or not hooks:
            merged.append({**group, "hooks": kept})
    return merged, found


def _replace(hooks: Sequence[Any], file: HookFile, hook: Document | None) -> tuple[list[Any], bool]:
    kept: list[Any] = []
    found = False
    for each in hooks:
        if not _is_hook(each, file):
            kept.append(each)
        elif not found:
            found = True
            if hook is not None:
                kept.append(hook)
    return kept, found


def _is_hook(hook: Any, file: HookFile) -> bool:
    command = hook.get(file.command_key) if isinstance(hook, dict) else None
    return isinstance(command, str) and _OUR_COMMAND.search(command) is not None


def _is_bridge(server: Any) -> bool:
    """Returns whether an MCP server of a host is `threadbus mcp`."""
    if not isinstance(server, dict):
        return False
    command, arguments = server.get("command"), server.get("args", [])
    words = command if isinstance(command, list) else [command]
    words = [*words, *arguments] if isinstance(arguments, list) else words
    named = [word for word in words if isinstance(word, str)]
    return any(word.rpartition("/")[2] == SERVER for word in named) and "mcp" in named
