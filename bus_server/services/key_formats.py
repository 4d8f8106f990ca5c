"""Well-known formats of keys and tokens, which a server refuses to store with --refuse-secrets.

The formats are those that vendors document: a fixed prefix, then a minimum number of characters of
one alphabet. Text that looks like one of them is hardly ever anything else. There are no rules for
passwords, for random-looking strings, or for JSON Web Tokens, which are also sent as data; and
ThreadBus's own tokens cannot be told from other text.

A search blocks the event loop, so it takes time in proportion to the text, whatever that contains:
it looks for prefixes first, and no pattern has a repetition without a bound, or one in another.

Why no library: detect-secrets 1.5.0 (of 2024) takes 12 s for 64 KiB that consist of `sk-`, because
its patterns backtrack, and imports an HTTP client. The engines that do not backtrack (Kingfisher,
Betterleaks) are native libraries of 36 and 23 MB; Kingfisher's takes 4.6 s to start. Their hundreds
of rules change with each version, while what a server refuses must be a list that its users can
read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bus_server.errors import ContentBlocked
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Attachment

#: Ten equal characters, as in ghp_xxxxxxxxxx…, are a placeholder and not a key.
_NO_PLACEHOLDER = r"(?!(.)\1{9})"


@dataclass(frozen=True, slots=True)
class _Format:
    """A format of keys.

    Attributes:
        rule: Its name, for the error.
        prefix: What each key begins with.
        rest: A regular expression for what follows the prefix.
        hint: A part of the prefix that other formats share. A text without it has no such key.
    """

    rule: str
    prefix: str
    rest: str
    hint: str

    def pattern(self) -> re.Pattern[str]:
        """Returns the pattern of a whole key."""
        # The condition on the character before the key stands behind the prefix: `re` searches
        # fast only for patterns that begin with plain text.
        prefix = re.escape(self.prefix)
        boundary = f"(?<![A-Za-z0-9]{prefix})" if self.prefix[0].isalnum() else ""
        return re.compile(f"{prefix}{boundary}{_NO_PLACEHOLDER}{self.rest}")


def _formats(rule: str, prefixes: str, rest: str, hint: str = "") -> Iterator[_Format]:
    return (_Format(rule, prefix, rest, hint or prefix) for prefix in prefixes.split())


#: Between the first line of a private key and its first data, also in a string literal or a quote.
_BREAK = r"[^A-Za-z0-9]{1,20}+(?:[nr]\\?){0,2}+[^A-Za-z0-9]{0,20}+"
#: The first data of a private key, or the header of an encrypted one.
_KEY_DATA = rf"{_BREAK}(?:[A-Za-z0-9+/]{{32}}|Proc-Type: |Version: |Comment: )"

#: By rule, with where the format is documented.
_FORMATS = [
    # docs.aws.amazon.com/IAM, "Unique identifiers": AKIA long-term, ASIA temporary. The keys of
    # AWS's own examples end in EXAMPLE.
    *_formats(
        "aws-access-key-id", "AKIA ASIA", r"[A-Z2-7]{9}(?!EXAMPLE)[A-Z2-7]{7}(?![A-Za-z0-9])"
    ),
    # docs.github.com, "GitHub's token formats".
    *_formats("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", "[A-Za-z0-9]{36}"),
    *_formats("github-token", "github_pat_", "[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    # docs.gitlab.com, "Token overview: token prefixes": personal access, deploy, runner, trigger.
    *_formats("gitlab-token", "glpat- gldt- glrt- glptt-", "[A-Za-z0-9_-]{20}"),
    # api.slack.com/authentication/token-types: bot, user, workspace; app-level; refresh tokens.
    *_formats(
        "slack-token", "xoxb- xoxp- xoxa- xoxr- xoxs-", "[0-9]{8,15}-[A-Za-z0-9-]{16}", "xox"
    ),
    *_formats("slack-token", "xapp-", "[0-9]-[A-Z0-9]{8,15}-[0-9]{8,15}-[a-f0-9]{32}"),
    *_formats("slack-token", "xoxe-", "[0-9]-[A-Za-z0-9]{40}", "xox"),
    # api.slack.com/messaging/webhooks: the URL suffices to post.
    *_formats(
        "slack-webhook",
        "hooks.slack.com/services/",
        "T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/[A-Za-z0-9]{24}",
    ),
    # docs.stripe.com/keys: secret and restricted keys of live mode.
    *_formats("stripe-key", "sk_live_ rk_live_", "[A-Za-z0-9]{24}", "k_live_"),
    # cloud.google.com/docs/authentication/api-keys; and client secrets of OAuth.
    *_formats("google-api-key", "AIza", "[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    *_formats("google-oauth-client-secret", "GOCSPX-", "[A-Za-z0-9_-]{28}(?![A-Za-z0-9_-])"),
    # platform.openai.com/docs/api-reference/authentication: keys of projects, service accounts and
    # administrators; older keys have "OpenAI" in base64 in the middle.
    *_formats("openai-key", "sk-proj- sk-svcacct- sk-admin-", "[A-Za-z0-9_-]{40}", "sk-"),
    *_formats("openai-key", "sk-", "[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    # docs.anthropic.com/en/api: keys of the API, of administrators, and OAuth tokens.
    *_formats("anthropic-key", "sk-ant-", "[a-z]{3,8}[0-9]{2}-[A-Za-z0-9_-]{80}", "sk-"),
    # huggingface.co/docs/hub/security-tokens.
    *_formats("huggingface-token", "hf_", "[A-Za-z0-9]{34}(?![A-Za-z0-9])"),
    # docs.npmjs.com/about-access-tokens.
    *_formats("npm-token", "npm_", "[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    # pypi.org/help/#apitoken: base64 that begins with the name of the index.
    *_formats(
        "pypi-token",
        "pypi-AgEIcHlwaS5vcmc pypi-AgENdGVzdC5weXBpLm9yZ",
        "[A-Za-z0-9_-]{50}",
        "pypi-AgE",
    ),
    # docs.docker.com/security/access-tokens.
    *_formats("docker-hub-token", "dckr_pat_", "[A-Za-z0-9_-]{27}"),
    # docs.digitalocean.com/reference/api: personal access tokens.
    *_formats("digitalocean-token", "dop_v1_", "[a-f0-9]{64}"),
    # www.twilio.com/docs/sendgrid, "API keys".
    *_formats("sendgrid-key", "SG.", r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    # learn.microsoft.com, "Configure Azure Storage connection strings": 64 bytes in base64.
    *_formats("azure-storage-key", "AccountKey=", "[A-Za-z0-9+/]{86}=="),
    # RFC 7468, RFC 4716 and OpenSSH; RFC 9580 for OpenPGP. Only with the beginning of the key: the
    # first line alone is often quoted, and no secret.
    *(
        _Format("private-key", f"-----BEGIN {kind}PRIVATE KEY-----", _KEY_DATA, "PRIVATE KEY")
        for kind in ("", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ")
    ),
    _Format("private-key", "-----BEGIN PGP PRIVATE KEY BLOCK-----", _KEY_DATA, "PRIVATE KEY"),
]

#: By hint, the patterns to search for, each with its rule.
_PATTERNS = {
    hint: [(each.pattern(), each.rule) for each in _FORMATS if each.hint == hint]
    for hint in dict.fromkeys(each.hint for each in _FORMATS)
}

#: The names of all rules.
RULES = frozenset(each.rule for each in _FORMATS)


def refuse_keys(field: str, text: str) -> None:
    """Raises ContentBlocked if a text contains a key. `field`: its path, for the error."""
    for hint, patterns in _PATTERNS.items():
        if hint in text:
            for pattern, rule in patterns:
                if pattern.search(text):
                    raise ContentBlocked(rule, field)


def refuse_keys_in_labels(labels: Mapping[str, str]) -> None:
    """As `refuse_keys`, for the names and values of the field `labels`."""
    for name, value in labels.items():
        refuse_keys("labels", name)  # not labels["…"]: the name could be the key
        refuse_keys("labels", value)


def refuse_keys_in_post(post: PostMessageRequest) -> None:
    """As `refuse_keys`, for the content, labels and attachments of a post or an edit."""
    refuse_keys("content", post.content)
    if post.labels:
        refuse_keys_in_labels(post.labels)
    if post.attachments:
        _refuse_keys_in_attachments(post.attachments)


def _refuse_keys_in_attachments(files: Iterable[Attachment]) -> None:
    for at, file in enumerate(files):
        refuse_keys(f"attachments[{at}].filename", file.filename)
        refuse_keys(f"attachments[{at}].url", file.url)
        # All formats are ASCII, which Latin-1 shows as it is, in any bytes.
        refuse_keys(f"attachments[{at}].raw", file.raw.decode("latin-1"))
