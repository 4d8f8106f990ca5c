"""The contract's rules for names, tokens and traceparents, shared by server and client.

Match patterns with `fullmatch`. Each *_RULE states its pattern in words, for error messages.
"""

import re

#: The name of a thread.
THREAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
THREAD_RULE = "1–128 characters of A-Z a-z 0-9 . _ -, the first a letter or digit"

#: The name of an agent, or a reserved name.
AGENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
AGENT_RULE = "1–63 characters of a-z 0-9 . _ -, the first a letter or digit"

#: Names that no agent can register.
RESERVED = frozenset(("anonymous", "system", "operator", "me", "all", "everyone", "here", "none"))

#: An agent's token, or the operator's.
TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")
TOKEN_RULE = "32–128 characters of A-Z a-z 0-9 _ -"  # noqa: S105 - no password

#: A `traceparent` of the version 00: the ids of a trace and of a span in it, and flags.
#: https://www.w3.org/TR/trace-context/#traceparent-header
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
