"""Generates values of single fields: ordinary ones and hostile ones."""

import base64
import struct
from random import Random

from cast import SCENE, Cast
from google.protobuf.descriptor import FieldDescriptor
from methods import Method

_AGENT_FIELDS = {
    *("agent", "agents", "sender", "senders", "mentions", "handoff_to", "participant"),
    "on_behalf_of",
}
_SYMBOLS = ("threadbus.v1.BusService", "threadbus.v1.Message", "grpc.health.v1.Health", "nothing")
_FILES = ("threadbus/v1/message.proto", "google/protobuf/duration.proto", "nothing.proto")

_HOSTILE_TEXTS = (
    *("", " ", "\0", "a\0b", "\n", "\r\n", "-", ".", "..", "../../etc/passwd", "a/b", "a\\b"),
    *("'; DROP TABLE messages; --", '"', "\\", "\x1b[31m", "\x7f", "\x80", "\u0085", "%s%n"),
    *("\u202e\u2066", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "e\u0301", "\u2028"),
    *("\U0001f9d1\u200d\U0001f680", "é" * 64, "İ", "ſ", "ß", "Ａ", "а", "١", "²", "\u00ad"),
    *("a" * 63, "a" * 64, "A" * 128, "A" * 129, "a" * 256, "a" * 257, "a" * 1_025, "\x01" * 500),
    *("é" * 128, "\U0001f600" * 64, "9" * 19, "9" * 20, "9" * 5_000, "null", "NaN", "0", "-1"),
    *("anonymous", "system", "operator", "me", "all", "everyone", "here", "none", "*", "%", "_"),
    *("[", "http://[", "http://[::1", "a:", "http://a:99999/", "//a", "javascript:0"),
    *("http://" + "a" * 2_041, "http://" + "a" * 2_042, "\ud7ff\ue000", "A" * 32),
    *("text/plain", "text/", "/", "a/b; c=d", "ab==", "AA=", "===="),
)
_HOSTILE_NUMBERS = (
    *(-(2**63), -(2**62), -(2**32), -(2**31) - 1, -(2**31), -(2**31) + 1, -1_001, -2, -1, 0, 1, 2),
    *(31, 32, 33, 100, 101, 999, 1_000, 1_001, 65_535, 65_536, 2**31 - 2, 2**31 - 1, 2**31),
    *(2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**62, 2**63 - 2, 2**63 - 1, 2**64 - 1),
)
_HOSTILE_SECONDS = (
    *(-(2**63), 2**63 - 1, -315_576_000_001, 315_576_000_000, 315_576_000_001, -1, 0, 1, 59, 3_601),
    *(2**31, 253_402_300_799, 253_402_300_800, -62_135_596_801, 9_223_372_036, 9_223_372_037),
)
_HOSTILE_NANOS = (-(2**31), 2**31 - 1, -1_000_000_000, -999_999_999, -1, 0, 1, 10**9 - 1, 10**9)
_HOSTILE_FLOATS = (float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 5e-324, -1.0)

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


class Values:
    """Values for the fields of the requests of one call."""

    def __init__(
        self, rng: Random, cast: Cast, method: Method, *, caller: str, hostility: float
    ) -> None:
        """
        Args:
            caller: name of the agent that calls, or empty.
            hostility: probability of a value that no correct client would send.
        """
        self._rng = rng
        self._cast = cast
        self._method = method
        self._caller = caller
        self.hostility = hostility

    @property
    def _settable(self) -> list[FieldDescriptor]:
        """Returns the fields that an update_mask may name."""
        fields = list(self._method.request_type.DESCRIPTOR.fields)
        return [f for f in fields if f.name not in ("thread", "agent", "update_mask")] or fields

    def hostile(self) -> bool:
        """Returns whether the next value or decision should be hostile."""
        return self._rng.random() < self.hostility

    def scalar(self, field: FieldDescriptor) -> str | bytes | int | float | bool:
        """Returns a value for a field that is not a message."""
        rng = self._rng
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return rng.randbytes(rng.choice((0, 1, 3, 100)))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._hostile_text() if self.hostile() else self._text(field.name)
            case FieldDescriptor.CPPTYPE_BOOL:
                return rng.random() < 0.5
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return rng.choice(_HOSTILE_FLOATS) if self.hostile() else rng.random()
            case FieldDescriptor.CPPTYPE_ENUM if not self.hostile():
                return int(rng.choice(field.enum_type.values).number)
        least, most = _RANGES[field.cpp_type]
        if self.hostile():
            return min(max(rng.choice(_HOSTILE_NUMBERS), least), most)
        return rng.randrange(8)

    def time(self, field: FieldDescriptor) -> tuple[int, int]:
        """Returns seconds and nanoseconds for a Duration or a Timestamp."""
        rng = self._rng
        if self.hostile():
            return rng.choice(_HOSTILE_SECONDS), rng.choice(_HOSTILE_NANOS)
        if field.name == "max_wait":
            return 0, rng.choice((0, 1, rng.randrange(200_000_000)))
        return rng.randrange(60), rng.randrange(10**9)

    def count(self) -> int:
        """Returns the number of entries for a repeated field."""
        if self._rng.random() < self.hostility / 4:
            return self._rng.choice((16, 17, 32, 33, 100, 101, 1_000, 1_001))
        return self._rng.choice((0, 1, 1, 1, 2, 3))

    def _text(self, field: str) -> str:
        rng, cast = self._rng, self._cast
        match field:
            case "thread" | "agent" if self._method.creates and rng.random() < 0.5:
                return f"{cast.agents[0]}-{rng.randrange(SCENE)}"
            case "agent" if self._caller and rng.random() < 0.5:
                return self._caller
            case "thread":
                return cast.a_thread(rng)
            case _ if field in _AGENT_FIELDS:
                return cast.an_agent(rng, destructive=self._method.destructive)
            case "request_id":
                return f"r{rng.randrange(30)}"
            case "epoch":
                return rng.choice(cast.epochs)
            case "page_token":
                return rng.choice(cast.page_tokens) if rng.random() < 0.5 else self._page_token()
            case "token":
                return cast.token(cast.an_agent(rng, destructive=self._method.destructive))
            case "prefix":
                return cast.threads[0][: rng.randrange(6)]
            case "paths":
                return rng.choice(self._settable).name
            case "url":
                return "https://example.com/a"
            case "media_type":
                return "text/plain"
            case "service":
                return rng.choice(("", *_SYMBOLS))
            case "file_by_filename":
                return rng.choice(_FILES)
            case _ if "symbol" in field or field.endswith("_type"):
                return rng.choice(_SYMBOLS)
        return f"text {rng.randrange(1_000)}"

    def _page_token(self) -> str:
        """Returns a page token that the server has not issued, usually a well-formed one."""
        rng = self._rng
        numbers = [rng.choice(_HOSTILE_NUMBERS[:-1]) for _ in range(4)]
        packed = struct.pack(">4q", *numbers)[: rng.choice((24, 24, 24, 0, 7, 16, 32))]
        encoded = base64.urlsafe_b64encode(packed).decode()
        return rng.choice((encoded, encoded, encoded[:-1], str(abs(numbers[0]))))

    def _hostile_text(self) -> str:
        rng = self._rng
        text = rng.choice(_HOSTILE_TEXTS)
        match rng.randrange(8):
            case 0:
                text = self._cast.a_thread(rng) + text
            case 1:
                text += self._cast.an_agent(rng, destructive=self._method.destructive)
            case 2:
                text = "".join(chr(rng.choice(_CHARACTERS)) for _ in range(rng.randrange(40)))
        return text


#: Code points of one to four bytes, without surrogates.
_CHARACTERS = (*range(0x300), *range(0x2000, 0x2070), *range(0xFE00, 0x10000), 0x1F600, 0x10FFFF)
