"""Failures as exceptions: one for each reason of the contract, and those without a reason."""

import dataclasses

import grpc
import pytest

import bus_client
from bus_client import (
    AgentExists,
    AlreadyExists,
    BusClient,
    BusError,
    Draining,
    InternalError,
    InvalidArgument,
    MessageNotFound,
    MessageTooLarge,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RequestIdReused,
    SeqConflict,
    StoreBusy,
    StoreFailed,
    ThreadExists,
    ThreadNotFound,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from tests.refusals import CONTRACT
from tests.script import Failure, scripted
from threadbus.v1.errors_pb2 import ErrorReason

_Code = grpc.StatusCode
MUCH_LATER = 60.0
REASONS = [name.removeprefix("ERROR_REASON_") for name, number in ErrorReason.items() if number]
#: The reasons whose exceptions have another name.
RENAMED = {
    "VALIDATION_FAILED": "InvalidArgument",
    "TOKEN_INVALID": "Unauthenticated",
    "INTERNAL": "InternalError",
}


async def failing(failure: Failure) -> BusError:
    """Returns what a call raises that fails like this."""
    async with scripted() as script, BusClient(script.address) as bus:
        # No call is retried if the server asks for a delay beyond the deadline.
        script.answer("GetThread", dataclasses.replace(failure, retry_delay=MUCH_LATER))
        with pytest.raises(BusError) as raised:
            await bus.get_thread("x")
    return raised.value


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_of_the_contract_has_an_exception_of_its_own(reason: str) -> None:
    code, keys = CONTRACT[reason]
    metadata = {key: f"{number}" for number, key in enumerate(sorted(keys), start=7)}
    error = await failing(Failure(code, reason, metadata, fields=["a.b"]))
    named = RENAMED.get(reason) or reason.title().replace("_", "")
    assert type(error) is getattr(bus_client, named)
    assert (error.code, error.reason, error.metadata) == (code.name, reason, metadata)
    assert (error.message, str(error)) == ("as scripted", "as scripted")
    assert error.field_violations == [("a.b", "wrong")]
    assert error.retryable == (code == _Code.UNAVAILABLE or reason == "RATE_LIMITED")
    assert error.retry_delay == MUCH_LATER
    assert error.hint


def test_no_two_reasons_share_an_exception() -> None:
    assert len(REASONS) == len(CONTRACT) >= 18
    names = {RENAMED.get(reason) or reason.title().replace("_", "") for reason in REASONS}
    assert len(names) == len(REASONS)
    assert names <= set(bus_client.__all__)


@pytest.mark.parametrize(
    ("family", "members"),
    [
        (NotFound, [ThreadNotFound, MessageNotFound, bus_client.AgentNotFound]),
        (AlreadyExists, [ThreadExists, AgentExists, RequestIdReused]),
        (Unavailable, [Draining, StoreBusy, StoreFailed, RateLimited, Unreachable]),
        (Unauthenticated, [bus_client.TokenExpired]),
    ],
)
def test_families_can_be_caught_together(
    family: type[BusError], members: list[type[BusError]]
) -> None:
    assert set(family.__subclasses__()) == set(members)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (_Code.INVALID_ARGUMENT, InvalidArgument),
        (_Code.UNAUTHENTICATED, Unauthenticated),
        (_Code.PERMISSION_DENIED, bus_client.AccessDenied),
        (_Code.NOT_FOUND, NotFound),
        (_Code.ALREADY_EXISTS, AlreadyExists),
        (_Code.INTERNAL, InternalError),
        (_Code.UNKNOWN, InternalError),
        (_Code.UNAVAILABLE, Unreachable),
        (_Code.CANCELLED, Unreachable),
        (_Code.DEADLINE_EXCEEDED, Unreachable),
        (_Code.RESOURCE_EXHAUSTED, MessageTooLarge),
        (_Code.UNIMPLEMENTED, BusError),
        (_Code.DATA_LOSS, BusError),
    ],
    ids=str,
)
@pytest.mark.parametrize("foreign", [False, True])
async def test_a_status_without_a_known_domain_is_mapped_by_its_code(
    code: grpc.StatusCode, expected: type[BusError], foreign: bool
) -> None:
    error = await failing(
        Failure(code, "THREAD_NOT_FOUND" if foreign else "", domain="proxy.example")
    )
    assert type(error) is expected
    assert (error.code, error.reason) == (code.name, "")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (_Code.NOT_FOUND, NotFound),
        (_Code.INVALID_ARGUMENT, InvalidArgument),
        (_Code.UNAVAILABLE, Unavailable),
        (_Code.ABORTED, BusError),
        (_Code.RESOURCE_EXHAUSTED, BusError),
    ],
    ids=str,
)
async def test_a_reason_newer_than_the_client_is_mapped_by_its_code(
    code: grpc.StatusCode, expected: type[BusError]
) -> None:
    error = await failing(Failure(code, "WEATHER_BAD", {"wind": "strong"}))
    assert type(error) is expected
    assert (error.reason, error.metadata) == ("WEATHER_BAD", {"wind": "strong"})


async def test_without_a_retry_hint_there_is_no_delay() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("GetThread", Failure(_Code.NOT_FOUND, "THREAD_NOT_FOUND"))
        with pytest.raises(ThreadNotFound) as raised:
            await bus.get_thread("x")
    assert raised.value.retry_delay is None
    assert raised.value.field_violations == []


async def test_missing_numbers_are_zero() -> None:
    conflict = await failing(Failure(_Code.ABORTED, "SEQ_CONFLICT"))
    assert isinstance(conflict, SeqConflict)
    assert (conflict.expected, conflict.last_seq) == (0, 0)
    reused = await failing(Failure(_Code.ALREADY_EXISTS, "REQUEST_ID_REUSED", {"seq": "12"}))
    assert isinstance(reused, RequestIdReused)
    assert reused.seq == 12


async def test_an_exceeded_quota_is_not_retried() -> None:
    error = await failing(Failure(_Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", {"limit": "3"}))
    assert isinstance(error, QuotaExceeded)
    assert not error.retryable
