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


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of a host.

    Attributes:
        path: Its path in its folder.
        user_folder: The folder, in the user's home directory. Empty = the project's folder.
        variable: The environment variable that can name another folder for the user. Empty = none.
    """

    path: str
    user_folder: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFile:
    """The JSON file in which a host looks for hooks, and its form.

    Attributes:
        file: Where it is.
        layout: How hooks are listed in it.
        head: What the file must have beside its hooks.
        command_key: The key of a hook's command, a line for the shell.
        timeout_key: The key of a hook's time limit.
        timeout_unit: How many of its units are a second: 1, or 1,000 for milliseconds.
        hook: What each hook must have beside its command and time limit.
        hook_of: What the hook of an event must have beside that, or instead.
    """

    file: ConfigFile
    layout: Layout
    head: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    command_key: str = "command"
    timeout_key: str = "timeout"
    timeout_unit: int = 1
    hook: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    hook_of: Mapping[Event, Mapping[str, object]] = field(
        default_factory=lambda: MappingProxyType({})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class McpFile:
    """The JSON file in which a host looks for MCP servers, and its form.

    Attributes:
        file: Where it is.
        key: The key of the object with a server for each name.
        one_list: Whether program and arguments are one list, `command`; else `command` and `args`.
        env_key: The key of the environment.
        server: What each server must have beside that.
        allow: What a server also has if its tools may be used without asking.
    """

    file: ConfigFile
    key: str = "mcpServers"
    one_list: bool = False
    env_key: str = "env"
    server: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    allow: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class McpCommand:
    """A host's own command for MCP servers.

    Attributes:
        program: The host's program.
        package: How to install it.
        add: The arguments that register a server. Its environment, `--`, its program and arguments
            follow.
        remove: The arguments that remove it. Fails without harm if there is none.
        show: The arguments that print it as JSON. Empty = there are none.
        env_flag: The flag before each NAME=VALUE.
        by_hand: A file in which the host also looks for servers: TOML if it is called so, else
            JSON.
        server: What a server in that file must have beside program, arguments and environment.
        replaced: A JSON file that the command replaces if it does not parse. None = there is none.
    """

    program: str
    package: str
    add: tuple[str, ...]
    remove: tuple[str, ...]
    show: tuple[str, ...] = ()
    env_flag: str = "--env"
    by_hand: ConfigFile
    server: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    replaced: ConfigFile | None = None


@dataclass(frozen=True, slots=True)
class Permission:
    """A rule that lets an agent use the tools of ThreadBus without asking.

    Attributes:
        file: The JSON file with `{"permissions": {"allow": [RULE, …]}}`.
        rule: The rule.
    """

    file: ConfigFile
    rule: str


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
        mcp: How an MCP server is registered with it.
        bridge_options: Options of `threadbus mcp` that it needs.
        permission: What is written to let its tools be used without asking. None = see `mcp`.
        allow_by_hand: What the user has to do instead where nothing can be written. Empty =
            nothing: it does not ask.
        by_hand: What the user has to do after an installation.
        hooks_by_hand: The same, after an installation of hooks.
    """

    name: str
    title: str
    tested: str | None
    events: Mapping[Event, str] = field(default_factory=lambda: MappingProxyType({}))
    stop_words: Words = Words.BLOCK
    context_words: Words = Words.CONTEXT
    hook_file: HookFile | None = None
    mcp: McpCommand | McpFile
    bridge_options: tuple[str, ...] = ()
    permission: Permission | None = None
    allow_by_hand: str = ""
    by_hand: str = ""
    hooks_by_hand: str = ""

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
_TRUST = MappingProxyType({"trust": True})
_ONE_FOR_ALL = (
    "{title} has one configuration for all folders: sessions that run at the same time share the "
    "name {agent}, and take messages from each other."
)

_HOSTS = (
    Host(
        # Not in settings.json, which projects share: paths and names are of this user.
        name="claude-code",
        title="Claude Code",
        tested="2.1.332",
        events=_events("Stop", "PostToolUse", "SessionStart", "SessionEnd"),
        hook_file=HookFile(
            file=ConfigFile(".claude/settings.local.json"),
            layout=Layout.GROUPS,
            hook=_COMMAND,
        ),
        mcp=McpCommand(
            program="claude",
            package="npm install -g @anthropic-ai/claude-code",
            add=("mcp", "add", "-s", "local", "threadbus"),
            remove=("mcp", "remove", "-s", "local", "threadbus"),
            env_flag="-e",
            by_hand=ConfigFile(".mcp.json"),
            replaced=ConfigFile(".claude.json", ".", "CLAUDE_CONFIG_DIR"),
        ),
        permission=Permission(ConfigFile(".claude/settings.local.json"), "mcp__threadbus"),
        by_hand="Restart {title} in this folder; there, `claude mcp list` shows threadbus.",
    ),
    Host(
        # It runs no hook that the user has not trusted; `codex exec` does not say so. Its command
        # for MCP servers drops keys of a server that it replaces, such as tool_timeout_sec.
        name="codex",
        title="Codex",
        tested="0.171",
        events=_events("Stop", "PostToolUse", "SessionStart", "SessionEnd"),
        hook_file=HookFile(
            file=ConfigFile("hooks.json", ".codex", "CODEX_HOME"),
            layout=Layout.GROUPS,
            hook=_COMMAND,
            # It warns at each start if this is longer.
            hook_of=MappingProxyType({Event.SESSION_END: {"timeout": 3}}),
        ),
        mcp=McpCommand(
            program="codex",
            package="npm install -g @openai/codex",
            add=("mcp", "add", "threadbus"),
            remove=("mcp", "remove", "threadbus"),
            show=("mcp", "get", "threadbus", "--json"),
            by_hand=ConfigFile("config.toml", ".codex", "CODEX_HOME"),
        ),
        # Its default model calls tools by scripts. One that takes 30 s goes on in the background: a
        # model that does not come back to it never sees what the wait returned.
        bridge_options=("--wait-max", "25"),
        by_hand=_ONE_FOR_ALL,
        hooks_by_hand="{title} runs only hooks that you have trusted: start codex, which asks you; "
        "/hooks shows them. `codex exec` skips others silently.",
    ),
    Host(
        # Its own `gemini mcp add` in a folder that is not trusted deletes all else in the project's
        # settings.
        name="gemini",
        title="Gemini CLI",
        tested="0.61",
        events=_events("AfterAgent", "AfterTool", "SessionStart", "SessionEnd"),
        stop_words=Words.DENY,
        hook_file=HookFile(
            file=ConfigFile(".gemini/settings.json"),
            layout=Layout.GROUPS,
            timeout_unit=1000,
            hook=_COMMAND,
        ),
        mcp=McpFile(file=ConfigFile(".gemini/settings.json"), allow=_TRUST),
        by_hand="{title} uses this only in a folder that you trust: in another, `gemini mcp list` "
        "shows threadbus as Disabled.",
    ),
    Host(
        name="copilot",
        title="GitHub Copilot CLI",
        tested="1.0.102",
        events=_events("agentStop", "postToolUse", "sessionStart", "sessionEnd"),
        context_words=Words.CAMEL_CONTEXT,
        hook_file=HookFile(
            file=ConfigFile("hooks/threadbus.json", ".copilot", "COPILOT_HOME"),
            layout=Layout.FLAT,
            head=_VERSION_1,
            command_key="bash",
            timeout_key="timeoutSec",
            hook=_COMMAND,
        ),
        mcp=McpCommand(
            program="copilot",
            package="npm install -g @github/copilot",
            add=("mcp", "add", "threadbus"),
            remove=("mcp", "remove", "threadbus"),
            show=("mcp", "get", "threadbus", "--json", "--show-secrets"),
            by_hand=ConfigFile("mcp-config.json", ".copilot", "COPILOT_HOME"),
            server=MappingProxyType({"type": "local", "tools": ["*"]}),
        ),
        allow_by_hand="start it with `copilot --allow-tool threadbus`",
        by_hand=_ONE_FOR_ALL,
    ),
    Host(
        # In the user's file: servers of a project wait for the user's approval from 0.24 on. Its
        # own command for MCP servers replaces symbolic links by files, and that of 0.15 removes no
        # server if there is another one.
        name="qwen",
        title="Qwen Code",
        tested="0.24.4",
        events=_events("Stop", "PostToolUse", "SessionStart", "SessionEnd"),
        hook_file=HookFile(
            file=ConfigFile("settings.json", ".qwen", "QWEN_HOME"),
            layout=Layout.GROUPS,
            timeout_unit=1000,
            hook=_COMMAND,
        ),
        mcp=McpFile(file=ConfigFile("settings.json", ".qwen", "QWEN_HOME"), allow=_TRUST),
        by_hand=_ONE_FOR_ALL,
    ),
    Host(
        name="cursor",
        title="Cursor",
        tested=None,
        events=_events("stop", "postToolUse", "sessionStart", "sessionEnd"),
        stop_words=Words.FOLLOWUP,
        context_words=Words.SNAKE_CONTEXT,
        hook_file=HookFile(
            file=ConfigFile(".cursor/hooks.json"),
            layout=Layout.FLAT,
            head=_VERSION_1,
            # By default it goes on at most 5 times in a row. Here each message counts once anyway.
            hook_of=MappingProxyType({Event.STOP: {"loop_limit": None}}),
        ),
        mcp=McpFile(file=ConfigFile(".cursor/mcp.json")),
        allow_by_hand="add the tools of threadbus to the MCP allowlist in its settings",
        by_hand="Switch threadbus on in the MCP servers of {title}'s settings.",
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
            file=ConfigFile(".github/hooks/threadbus-vscode.json"),
            layout=Layout.FLAT,
            hook=_COMMAND,
        ),
        mcp=McpFile(
            file=ConfigFile(".vscode/mcp.json"),
            key="servers",
            server=MappingProxyType({"type": "stdio"}),
        ),
        allow_by_hand="choose to always allow the tools of threadbus when it asks",
        by_hand="Start threadbus with the command `MCP: List Servers` of {title}, and trust it.",
        hooks_by_hand="{title} also runs the hooks that Claude Code has in this folder: do not "
        "install hooks in both.",
    ),
    Host(
        name="opencode",
        title="OpenCode",
        tested="1.18.33",
        mcp=McpFile(
            file=ConfigFile("opencode.json"),
            key="mcp",
            one_list=True,
            env_key="environment",
            server=MappingProxyType({"type": "local", "enabled": True}),
        ),
        by_hand="Restart {title} in this folder; there, `opencode mcp list` shows threadbus.",
    ),
)

#: The hosts, by name.
HOSTS: Mapping[str, Host] = MappingProxyType({host.name: host for host in _HOSTS})
