"""Generates calls, each of which depends only on the seed and its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import wire
from cast import Cast
from google.protobuf.message import DecodeError, Message
from methods import Method
from requests import build, enlarge
from values import Values

#: Seconds after which a call that should have ended counts as hanging. On a busy machine, calls
#: with megabytes are slow.
PATIENCE = 20.0
#: Deadline in seconds of a call that may stay open forever.
OPEN = 0.3

#: The largest request that gRPC accepts, and sizes of large requests, around each limit.
LARGEST = 4 * 1024 * 1024
_SIZES = (
    *(10_000, 65_536, 300_000, 1_048_576, 1_048_577, 1_100_000, 3_145_000, 3_145_728, 3_145_729),
    *(4_000_000, LARGEST - 100, LARGEST - 5, LARGEST, LARGEST + 1, LARGEST + 1_000),
)

MetadataItems = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call: its content and how to send it."""

    number: int
    method: Method
    requests: Sequence[bytes]
    #: The caller's name, for output; `metadata` has the token.
    caller: str
    metadata: MetadataItems
    timeout: float
    gzip: bool
    #: Seconds after which the caller cancels the call.
    cancel_after: float | None
    #: Whether the caller half-closes the stream.
    half_close: bool
    #: Whether it is sent as a stream of requests, even if the method is unary.
    streamed: bool
    #: Whether the server must end it well before PATIENCE is over.
    must_end: bool

    @property
    def wrong_cardinality(self) -> bool:
        """Whether a method that takes one request gets none, or several."""
        return self.streamed and not self.method.client_streaming

    def __str__(self) -> str:
        data = b"".join(self.requests)
        notes = [
            f"by {self.caller}",
            f"{len(self.metadata)} headers" if len(self.metadata) > 1 else "",
            f"within {self.timeout:.3f} s",
            "gzip" if self.gzip else "",
            "" if self.cancel_after is None else f"cancelled after {self.cancel_after:.3f} s",
            "" if self.half_close else "not half-closed",
            "as a stream" if self.wrong_cardinality else "",
            f"requests of {[len(request) for request in self.requests]} bytes",
        ]
        shown = data[:96].hex() + (" …" if len(data) > 96 else "")
        said = ", ".join(note for note in notes if note)
        return f"call {self.number} {self.method.path} ({said})\n    {shown or 'no bytes'}"


def plan(seed: int, number: int, method: Method, cast: Cast) -> Call:
    """Returns the call with this number."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - to be reproducible, not secret
    streamed = method.client_streaming or rng.random() < 0.01
    count = 1
    if method.client_streaming:
        count = rng.choice((0, 1, 1, 1, 2, 3, 5))
    elif streamed:
        count = rng.choice((0, 2, 3))
    hostility = rng.choice((0.0, 0.0, 0.02, 0.05, 0.2, 1.0))
    caller, metadata = _caller(rng, cast, method)
    values = Values(rng, cast, method, caller=_own_name(caller, cast), hostility=hostility)
    requests = [_request(rng, method, cast, values) for _ in range(count)]
    if rng.random() < 0.05:
        metadata = [*metadata, *_headers(rng)]
    half_close = not streamed or rng.random() < 0.9
    must_end = half_close and all(_ends(method, data) for data in requests)
    timeout = PATIENCE if must_end else OPEN
    cancel_after = None
    if rng.random() < (0.03 if must_end else 0.5):
        cancel_after = rng.choice((0.0, rng.uniform(0, 0.005), rng.uniform(0, OPEN)))
    elif rng.random() < 0.03:
        timeout, must_end = rng.choice((0.0, rng.uniform(0, 0.005), rng.uniform(0, 0.05))), False
    return Call(
        number=number,
        method=method,
        requests=requests,
        caller=caller,
        metadata=metadata,
        timeout=timeout,
        gzip=rng.random() < 0.1,
        cancel_after=cancel_after,
        half_close=half_close,
        streamed=streamed,
        must_end=must_end and cancel_after is None,
    )


def _own_name(caller: str, cast: Cast) -> str:
    return caller if caller in cast.agents else ""


def _request(rng: Random, method: Method, cast: Cast, values: Values) -> bytes:
    if rng.random() < 0.03:
        return wire.garbage(rng)
    request = method.request_type()
    build(request, rng, values)
    if rng.random() < 0.004:
        return _large(rng, request, cast)
    data = request.SerializeToString(deterministic=True)
    return wire.damage(data, rng) if rng.random() < 0.25 else data


def _large(rng: Random, request: Message, cast: Cast) -> bytes:
    size = rng.choice(_SIZES)
    if "thread" in request.DESCRIPTOR.fields_by_name:
        request.thread = cast.large_thread  # type: ignore[attr-defined]
    if not enlarge(request, rng, size) or rng.random() < 0.1:
        request.Clear()
        data = wire.unknown_bytes(size)
        return data[: size - 3] if rng.random() < 0.2 else data
    if request.ByteSize() > LARGEST * 2:
        request.Clear()
    return request.SerializeToString(deterministic=True)


def _ends(method: Method, data: bytes) -> bool:
    """Returns whether the server should soon end a call with this request."""
    if not method.server_streaming or method.client_streaming:
        return True
    try:
        request = method.request_type.FromString(data)
    except DecodeError:
        return True
    if "max_wait" not in method.request_type.DESCRIPTOR.fields_by_name:
        return False
    wait = request.max_wait  # type: ignore[attr-defined]
    return request.HasField("max_wait") and wait.seconds + wait.nanos / 1e9 <= 1


def _caller(rng: Random, cast: Cast, method: Method) -> tuple[str, MetadataItems]:
    """Returns a caller and its metadata."""
    name = cast.an_agent(rng, destructive=method.destructive)
    tokens: Sequence[tuple[str, str]] = (
        (f"{name} with a wrong token", f"Bearer {rng.randbytes(32).hex()}"),
        ("a caller with half a header", rng.choice(("Bearer", "Bearer ", "", " ", "bearer "))),
        ("a caller with another scheme", "Basic YTpi"),
        (f"{name} oddly", f"  BEARER   {cast.token(name)}  "),
        ("a caller with a long token", f"Bearer {'a' * rng.choice((129, 5_000))}"),
        ("a caller with an odd token", f"Bearer {rng.choice(('~', '!!', 'a b', '%00', ','))}"),
    )
    shares = (30, 50, 60 if method.for_operators else 10, 9, 1)
    match rng.choices(("none", "agent", "operator", "bad", "binary"), shares)[0]:
        case "none":
            return "anonymous", []
        case "agent":
            return name, [("authorization", f"Bearer {cast.token(name)}")]
        case "operator" if cast.operator_token:
            return "the operator", [("authorization", f"Bearer {cast.operator_token}")]
        case "binary":
            return "anonymous", [("authorization-bin", rng.randbytes(rng.randrange(50)))]
    caller, header = rng.choice(tokens)
    return caller, [("authorization", header)]


def _headers(rng: Random) -> MetadataItems:
    """Returns headers that the server should ignore."""
    match rng.randrange(5):
        case 0:
            return [("x-bin", rng.randbytes(rng.choice((0, 1, 100, 5_000))))]
        case 1:
            return [(f"x-{at}", "v") for at in range(rng.choice((10, 100, 400)))]
        case 2:
            return [("x-long", "v" * rng.choice((1_000, 7_000, 9_000, 15_000, 17_000, 60_000)))]
        case 3:
            return [("authorization", f"Bearer {rng.randbytes(32).hex()}")]
    return [("x-trace", "~!@#$%^&*() {}"), ("x-trace", ""), ("x-empty-bin", b"")]
