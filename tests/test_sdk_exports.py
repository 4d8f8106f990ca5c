"""The public namespaces of bus_client and threadbus."""

import inspect
import subprocess
import sys
from importlib import metadata

import pytest

import bus_client
import threadbus

EXCEPTIONS = {
    "AccessDenied",
    "AgentExists",
    "AgentNotFound",
    "AlreadyExists",
    "BusError",
    "ContentBlocked",
    "CredentialsError",
    "CursorInvalid",
    "CursorLost",
    "Draining",
    "ExpectedSeqRequired",
    "InternalError",
    "InvalidArgument",
    "MessageNotFound",
    "MessageTooLarge",
    "NotFound",
    "OutcomeUnknown",
    "ProtocolError",
    "QuotaExceeded",
    "RateLimited",
    "RequestIdReused",
    "SeqConflict",
    "StorageFull",
    "StoreBusy",
    "StoreFailed",
    "ThreadClosed",
    "ThreadExists",
    "ThreadNotFound",
    "TlsFailed",
    "TokenExpired",
    "Unanswered",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
}
PROTO_TYPES = {
    "Agent",
    "AgentKind",
    "Attachment",
    "Cursor",
    "Message",
    "MessageFilter",
    "MessageKind",
    "Notice",
    "Participant",
    "ParticipantUpdate",
    "Presence",
    "Priority",
    "Request",
    "RequestState",
    "SyncMode",
    "Thread",
    "ThreadState",
    "Token",
    "Wait",
    "Wake",
}


def test_these_names_are_public_and_no_others() -> None:
    assert len(bus_client.__all__) == len(set(bus_client.__all__))
    own = {"BusClient", "Post", "Retention", "ThreadHandle", "continue_trace"}
    assert set(bus_client.__all__) == own | EXCEPTIONS | PROTO_TYPES
    assert set(dir(bus_client)) == set(bus_client.__all__)


def test_the_installed_package_has_the_same_names() -> None:
    assert set(dir(threadbus)) == set(bus_client.__all__)
    assert all(getattr(threadbus, name) is getattr(bus_client, name) for name in dir(threadbus))
    taken: dict[str, object] = {}
    exec("from threadbus import *", taken)  # noqa: S102 - a function cannot say that itself
    assert set(bus_client.__all__) <= set(taken)
    misspelt = "Bus_Client"
    with pytest.raises(AttributeError, match=misspelt):
        getattr(threadbus, misspelt)


def test_version_is_the_packages() -> None:
    assert bus_client.__version__ == threadbus.__version__ == metadata.version("threadbus")


@pytest.mark.parametrize("name", bus_client.__all__)
def test_every_public_name_can_be_imported_and_has_that_name(name: str) -> None:
    exported = getattr(bus_client, name)
    called = exported.DESCRIPTOR.name if name in PROTO_TYPES else exported.__name__
    assert called == name


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_every_exception_is_a_bus_error_with_a_docstring(name: str) -> None:
    exception = getattr(bus_client, name)
    assert issubclass(exception, bus_client.BusError)
    assert exception.__doc__


def test_every_exception_is_exported() -> None:
    from bus_client import errors

    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, bus_client.BusError)
    }
    assert defined == EXCEPTIONS


@pytest.mark.parametrize("owner", ["BusClient", "ThreadHandle"])
def test_everything_public_has_a_docstring_and_options_are_keyword_only(owner: str) -> None:
    public = {
        name: member
        for name, member in inspect.getmembers(getattr(bus_client, owner))
        if not name.startswith("_")
    }
    assert public
    for name, member in public.items():
        assert inspect.getdoc(member), name
        if inspect.isfunction(member):
            for parameter in inspect.signature(member).parameters.values():
                named = parameter.kind is inspect.Parameter.KEYWORD_ONLY
                # The subject of a call may be positional: a thread, agent, seq, state or text.
                assert named or parameter.name in {
                    *("self", "thread", "threads", "name", "content", "posts", "seq", "state"),
                    *("agent", "token_id"),
                }, f"{name}({parameter.name})"


def test_a_missing_name_is_an_attribute_error() -> None:
    misspelt = "Bus_Client"
    with pytest.raises(AttributeError, match=misspelt):
        getattr(bus_client, misspelt)


@pytest.mark.slow
def test_importing_it_loads_neither_grpc_nor_protobuf() -> None:
    program = (
        "import sys, bus_client, threadbus; dir(bus_client); dir(threadbus); "
        "print(*(m for m in ('grpc', 'google.protobuf', 'threadbus.v1') if m in sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert loaded.stdout == "\n"
