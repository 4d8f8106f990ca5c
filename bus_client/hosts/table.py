"""The table of coding agents ("hosts"): the events, files, units and words of each.

Everything that ThreadBus knows about a particular host is here. Imports nothing heavy, as a hook
runs after each call of a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Event(StrEnum):
    """When a host runs a hook, in our words."""

    STOP = "stop"
    POST_TOOL = "post-tool"
    SESSION_START = "session-start"
    SESSION_END = "session-end"


class Layout(StrEnum):
    """How a host's file lists the hooks of an event.

    GROUPS: `{"hooks": {EVENT: [{"matcher": …, "hooks": [HOOK, …]}, …]}}`.
    FLAT: `{"hooks": {EVENT: [HOOK, …]}}`.
    """

    GROUPS = "groups"
    FLAT = "flat"


class Words(StrEnum):
    """How a host is told something, as JSON on a hook's stdout.

    BLOCK: `{"decision": "block", "reason": TEXT}`, and DENY with "deny" instead.
    NESTED_BLOCK: the same inside of `{"hookSpecificOutput": {"hookEventName": EVENT, …}}`.
    FOLLOWUP: `{"followup_message": TEXT}`.
    CONTEXT: `{"hookSpecificOutput": {"hookEventName": EVENT, "additionalContext": TEXT}}`.
    CAMEL_CONTEXT: `{"additionalContext": TEXT}`. SNAKE_CONTEXT: `{"additional_context": TEXT}`.
    """

    BLOCK = "block"
    DENY = "deny"
    NESTED_BLOCK = "nested-block"
    FOLLOWUP = "followup"
    CONTEXT = "context"
    CAMEL_CONTEXT = "camel-context"
    SNAKE_CONTEXT = "snake-context"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFile:
    """The JSON file in which a host looks for hooks, and its form.

    Attributes:
        project: Its path in a project. None = the host has none.
        user: Its path in the user's home directory. None = the host has none.
        layout: How hooks are listed in it.
        head: What the file must have beside its hooks.
        command_key: The key of a hook's command, a line for the shell.
        timeout_key: The key of a hook's time limit.
        timeout_unit: How many of its units are a second: 1, or 1,000 for milliseconds.
        hook: What each hook must have beside its command and time limit.
        stop_hook: What the hook of a stop must have beside that.
    """

    project: str | None
    user: str | None
    layout: Layout
    head: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    command_key: str = "command"
    timeout_key: str = "timeout"
    timeout_unit: int = 1
    hook: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    stop_hook: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class McpFile:
    """The JSON file in which a host that has no command for it looks for MCP servers.

    Attributes:
        project: Its path in a project.
        user: Its path in the user's home directory. None = the host has none, or one that depends
            on the system.
        key: The key of the object with a server for each name.
        one_list: Whether program and arguments are one list, `command`; else `command` and `args`.
        env_key: The key of the environment.
        server: What each server must have beside that.
    """

    project: str
    user: str | None
    key: str
    one_list: bool = False
    env_key: str = "env"
    server: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A coding agent that runs hooks, or an MCP server, or both.

    Attributes:
        name: Its name on our command line.
        title: Its name for people.
        tested: The version with which this row was tested. None = from its documentation.
        events: The host's names of the events that it has. Empty = it has no hooks.
        stop_words: How it is told to go on instead of stopping.
        context_words: How it is told something after a tool, or at the start of a session.
        hook_file: Where its hooks are. None = it has no hooks.
        mcp_add: The command that registers an MCP server, with `{env}`, `{program}` and
            `{arguments}` in place of ours. None = it has none, and `mcp_file` is changed.
        mcp_remove: The command that removes it.
        env_flag: The flag of `mcp_add` before each NAME=VALUE of `{env}`.
        mcp_file: The file that is changed if there is no `mcp_add`.
    """

    name: str
    title: str
    tested: str | None
    events: Mapping[Event, str] = field(default_factory=lambda: MappingProxyType({}))
    stop_words: Words = Words.BLOCK
    context_words: Words = Words.CONTEXT
    hook_file: HookFile | None = None
    mcp_add: str | None = None
    mcp_remove: str | None = None
    env_flag: str = "-e"
    mcp_file: McpFile | None = None

    def go_on(self, text: str) -> dict[str, object]:
        """Returns the output that keeps the agent from stopping, with `text` as the reason."""
        return _output(self.stop_words, self.events.get(Event.STOP, ""), text)

    def add(self, event: Event, text: str) -> dict[str, object]:
        """Returns the output of an event's hook that adds `text` to what the model is given."""
        return _output(self.context_words, self.events.get(event, ""), text)


def _output(words: Words, event: str, text: str) -> dict[str, object]:
    match words:
        case Words.BLOCK | Words.DENY:
            return {"decision": str(words), "reason": text}
        case Words.NESTED_BLOCK:
            said = {"hookEventName": event, "decision": "block", "reason": text}
            return {"hookSpecificOutput": said}
        case Words.FOLLOWUP:
            return {"followup_message": text}
        case Words.CONTEXT:
            return {"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}}
        case Words.CAMEL_CONTEXT:
            return {"additionalContext": text}
        case Words.SNAKE_CONTEXT:
            return {"additional_context": text}


def _events(stop: str, post_tool: str, start: str, end: str | None) -> Mapping[Event, str]:
    names = {Event.STOP: stop, Event.POST_TOOL: post_tool, Event.SESSION_START: start}
    return MappingProxyType(names | ({} if end is None else {Event.SESSION_END: end}))


_COMMAND = MappingProxyType({"type": "command"})
_VERSION_1 = MappingProxyType({"version": 1})

_HOSTS = (
    Host(
        name="claude-code",
        title="Claude Code",
        tested="2.1.197",
        events=_events("Stop", "PostToolUse", "SessionStart", "SessionEnd"),
        hook_file=HookFile(
            project=".claude/settings.json",
            user=".claude/settings.json",
            layout=Layout.GROUPS,
            hook=_COMMAND,
        ),
        mcp_add="claude mcp add threadbus {env} -- {program} mcp {arguments}",
        mcp_remove="claude mcp remove threadbus",
    ),
    Host(
        # It runs no hook that the user has not trusted, and does not say so: `/hooks` in its TUI.
        name="codex",
        title="Codex",
        tested="0.171",
        events=_events("Stop", "PostToolUse", "SessionStart", "SessionEnd"),
        hook_file=HookFile(
            project=".codex/hooks.json",
            user=".codex/hooks.json",
            layout=Layout.GROUPS,
            hook=_COMMAND,
        ),
        mcp_add="codex mcp add threadbus {env} -- {program} mcp {arguments}",
        mcp_remove="codex mcp remove threadbus",
        env_flag="--env",
    ),
    Host(
        name="gemini",
        title="Gemini CLI",
        tested="0.61",
        events=_events("AfterAgent", "AfterTool", "SessionStart", "SessionEnd"),
        stop_words=Words.DENY,
        hook_file=HookFile(
            project=".gemini/settings.json",
            user=".gemini/settings.json",
            layout=Layout.GROUPS,
            timeout_unit=1000,
            hook=_COMMAND,
        ),
        mcp_add="gemini mcp add -s user {env} threadbus {program} mcp -- {arguments}",
        mcp_remove="gemini mcp remove -s user threadbus",
    ),
    Host(
        name="copilot",
        title="GitHub Copilot CLI",
        tested="1.0.102",
        events=_events("agentStop", "postToolUse", "sessionStart", "sessionEnd"),
        context_words=Words.CAMEL_CONTEXT,
        hook_file=HookFile(
            project=".github/hooks/threadbus.json",
            user=".copilot/hooks/threadbus.json",
            layout=Layout.FLAT,
            head=_VERSION_1,
            command_key="bash",
            timeout_key="timeoutSec",
            hook=_COMMAND,
        ),
        mcp_add="copilot mcp add threadbus {env} -- {program} mcp {arguments}",
        mcp_remove="copilot mcp remove threadbus",
        env_flag="--env",
    ),
    Host(
        # SessionStart did not run in its non-interactive mode (`qwen -p`).
        name="qwen",
        title="Qwen Code",
        tested="0.15.10",
        events=_events("Stop", "PostToolUse", "SessionStart", "SessionEnd"),
        hook_file=HookFile(
            project=".qwen/settings.json",
            user=".qwen/settings.json",
            layout=Layout.GROUPS,
            timeout_unit=1000,
            hook=_COMMAND,
        ),
        mcp_add="qwen mcp add -s user {env} threadbus {program} mcp -- {arguments}",
        mcp_remove="qwen mcp remove -s user threadbus",
    ),
    Host(
        name="cursor",
        title="Cursor",
        tested=None,
        events=_events("stop", "postToolUse", "sessionStart", "sessionEnd"),
        stop_words=Words.FOLLOWUP,
        context_words=Words.SNAKE_CONTEXT,
        hook_file=HookFile(
            project=".cursor/hooks.json",
            user=".cursor/hooks.json",
            layout=Layout.FLAT,
            head=_VERSION_1,
            # By default it goes on at most 5 times in a row. Here each message counts once anyway.
            stop_hook=MappingProxyType({"loop_limit": None}),
        ),
        mcp_file=McpFile(project=".cursor/mcp.json", user=".cursor/mcp.json", key="mcpServers"),
    ),
    Host(
        # It also runs the hooks in the project's files of Claude Code and Copilot, with its own
        # names of events.
        name="vscode",
        title="VS Code",
        tested=None,
        events=_events("Stop", "PostToolUse", "SessionStart", None),
        stop_words=Words.NESTED_BLOCK,
        hook_file=HookFile(
            project=".github/hooks/threadbus-vscode.json",
            user=None,
            layout=Layout.FLAT,
            hook=_COMMAND,
        ),
        mcp_file=McpFile(
            project=".vscode/mcp.json",
            user=None,
            key="servers",
            server=MappingProxyType({"type": "stdio"}),
        ),
    ),
    Host(
        name="opencode",
        title="OpenCode",
        tested="1.18.33",
        mcp_file=McpFile(
            project="opencode.json",
            user=".config/opencode/opencode.json",
            key="mcp",
            one_list=True,
            env_key="environment",
            server=MappingProxyType({"type": "local", "enabled": True}),
        ),
    ),
)

#: The hosts, by name.
HOSTS: Mapping[str, Host] = MappingProxyType({host.name: host for host in _HOSTS})
