"""The contract's limits, name rules and defaults: the comments in the protos state the same."""

import re
from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from google.protobuf import descriptor_pb2

from bus_server.settings import Settings
from tests.doc_examples import ROOT, page
from threadbus import limits, names

MIB = 1024 * 1024
_DEFAULTS = Settings()

#: By message or field: the numbers that its comment must state.
STATED: dict[str, list[float]] = {
    "Message": [limits.SEQ_LIMIT.bit_length() - 1],
    "Message.content": [_DEFAULTS.max_content_bytes // MIB],
    "Message.labels": [
        limits.MAX_LABELS,
        limits.MAX_LABEL_KEY_BYTES,
        limits.MAX_LABEL_VALUE_BYTES,
    ],
    "Message.attachments": [limits.MAX_ATTACHMENTS],
    "Attachment.filename": [limits.MAX_FILENAME_BYTES],
    "Attachment.raw": [limits.MAX_MESSAGE_BYTES // MIB, limits.MAX_CALL_BYTES // MIB],
    "MessageFilter.senders": [limits.MAX_FILTER_VALUES],
    "MessageFilter.kinds": [limits.MAX_FILTER_VALUES],
    "Thread.epoch": [limits.MAX_EPOCH_BYTES],
    "Thread.stage": [limits.MAX_STAGE_BYTES],
    "Thread.topic": [limits.MAX_TOPIC_BYTES],
    "Agent.display_name": [limits.MAX_DISPLAY_NAME_BYTES],
    "Agent.description": [limits.MAX_DESCRIPTION_BYTES],
    "Agent.status_text": [limits.MAX_STATUS_TEXT_BYTES],
    "PostMessageRequest.content": [_DEFAULTS.max_content_bytes // MIB],
    "PostMessageRequest.mentions": [limits.MAX_MENTIONS],
    "PostMessageRequest.attachments": [limits.MAX_ATTACHMENTS, limits.MAX_MESSAGE_BYTES // MIB],
    "PostMessagesRequest.posts": [limits.MAX_BATCH_POSTS, limits.MAX_CALL_BYTES // MIB],
    "WaitMessagesRequest.threads": [limits.MAX_WAIT_THREADS],
    "HeartbeatRequest.status_text": [limits.MAX_STATUS_TEXT_BYTES],
    "HeartbeatRequest.read_cursors": [limits.MAX_WAIT_THREADS],
    "HeartbeatRequest.lease": [limits.MAX_LEASE // 3_600],
    "HeartbeatResponse.heartbeat_interval": [_DEFAULTS.heartbeat_interval],
    "HeartbeatResponse.agent_timeout": [_DEFAULTS.agent_timeout],
    "GetServerInfoResponse.working_timeout": [_DEFAULTS.working_timeout // 60],
    "RotateTokenRequest.grace": [limits.MAX_GRACE // 3_600],
    "ListMessagesRequest.limit": [limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE],
    "ListThreadsRequest.page_size": [limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE],
    "ListThreadsRequest.states": [limits.MAX_FILTER_VALUES],
    "ListParticipantsRequest.page_size": [limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE],
    "ListAgentsRequest.page_size": [limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE],
    "ListAgentsRequest.presences": [limits.MAX_FILTER_VALUES],
    "ListWaitsRequest.page_size": [limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE],
}

#: By field: the rule that its comment must state.
RULED = {
    "Thread.name": names.THREAD_RULE,
    "Agent.name": names.AGENT_RULE,
    "RegisterAgentRequest.token": names.TOKEN_RULE,
}


def _paths(
    messages: Sequence[descriptor_pb2.DescriptorProto], prefix: tuple[int, ...] = (4,)
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yields each message and field with its path in the file, as in SourceCodeInfo."""
    for at, message in enumerate(messages):
        yield (*prefix, at), message.name
        for number, field in enumerate(message.field):
            yield (*prefix, at, 2, number), f"{message.name}.{field.name}"


@cache
def _comments() -> dict[str, str]:
    """Returns the comments of messages and fields; that of Message includes its file's."""
    content = (ROOT / "protos/threadbus/v1/descriptor_set.binpb").read_bytes()
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        if file.package != "threadbus.v1":
            continue
        known = {
            tuple(location.path): location.leading_comments + location.trailing_comments
            for location in file.source_code_info.location
        }
        found |= {name: known.get(path, "") for path, name in _paths(file.message_type)}
    source = (ROOT / "protos/threadbus/v1/message.proto").read_text("utf-8")
    found["Message"] += source.partition("syntax =")[0]
    return found


@pytest.mark.parametrize("name", STATED)
def test_the_comments_state_the_limits(name: str) -> None:
    numbers = re.findall(r"\d[\d,]*", _comments()[name])
    missing = {f"{limit:,.0f}" for limit in STATED[name]} - {each.rstrip(",") for each in numbers}
    assert not missing, _comments()[name]


@pytest.mark.parametrize("name", RULED)
def test_the_comments_state_the_rules_of_names(name: str) -> None:
    words = " ".join(_comments()[name].replace("`", "").split())
    assert RULED[name] in words


def test_the_docs_state_the_rule_of_tokens() -> None:
    assert names.TOKEN_RULE in page("docs/running.md").replace("`", "")


def test_the_comments_state_the_reserved_names() -> None:
    assert set(re.findall("`([a-z]+)`", _comments()["Agent.name"])) >= names.RESERVED


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        (names.THREAD, names.THREAD_RULE),
        (names.AGENT, names.AGENT_RULE),
        (names.TOKEN, names.TOKEN_RULE),
    ],
)
def test_the_rules_in_words_match_the_patterns(pattern: "re.Pattern[str]", rule: str) -> None:
    found = re.match(r"(\d+)–(\d+)( characters)? of", rule)
    assert found
    least, most = int(found[1]), int(found[2])
    matched = [length for length in range(200) if pattern.fullmatch("a" * length)]
    assert matched == list(range(least, most + 1))
    allowed = {chr(code) for code in range(0x180) if pattern.fullmatch("a" * least + chr(code))}
    words = rule[found.end() :].partition(",")[0].split()
    said = {chr(code) for word in words for code in range(ord(word[0]), ord(word[-1]) + 1)}
    assert allowed == said
    if "the first a letter or digit" in rule:
        first = {chr(code) for code in range(0x180) if pattern.fullmatch(chr(code) + "a" * least)}
        assert first == {char for char in said if char.isalnum()}
