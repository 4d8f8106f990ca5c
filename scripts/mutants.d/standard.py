"""Mutants: health, reflection, and what gRPC logs."""

from sabotage import Edit, Sabotage

_FILE = "bus_server/services/standard.py"
_TESTS = "tests/test_standard_services.py"
_DESCRIPTORS = "bus_server/services/descriptors.py"
_REFLECTION = "bus_server/services/reflection.py"
_REFLECTION_TESTS = "tests/test_reflection.py"
_BROKEN = [Edit(_FILE, "    except DecodeError:\n", "    except LookupError:\n")]

SABOTAGES = [
    Sabotage(
        "health and reflection break on bytes that do not parse",
        _BROKEN,
        [f"{_TESTS}::test_bytes_that_do_not_parse_are_refused_and_not_logged"],
    ),
    Sabotage(
        "hostile calls break health and reflection",
        _BROKEN,
        ["tests/test_fuzz.py::test_hostile_calls_to_every_rpc_break_nothing"],
        timeout=60,
    ),
    Sabotage(
        "reflection returns unknown fields of a request",
        [Edit(_FILE, "    request.DiscardUnknownFields()\n", "")],
        [f"{_TESTS}::test_reflection_ignores_unknown_fields_of_a_request"],
    ),
    Sabotage(
        "health and reflection accept requests of any length",
        [Edit(_FILE, "    if len(data) > MAX_REQUEST_BYTES:\n", "    if not MAX_REQUEST_BYTES:\n")],
        [f"{_TESTS}::test_a_long_request_is_refused"],
    ),
    Sabotage(
        "clients that disconnect during a response fill the log",
        [Edit("bus_server/server.py", ".addFilter(_worth_logging)", "")],
        ["tests/test_log.py"],
        timeout=20,
    ),
    Sabotage(
        "calls that fail are not reported to the observer",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "if observer and observer.wants(failed=error is not None):",
                "if observer and error is None:",
            )
        ],
        ["tests/test_observer.py"],
    ),
    Sabotage(
        "streams of health and reflection are not counted",
        [
            Edit(
                "bus_server/services/standard.py",
                "if self._streams >= MAX_STREAMS:",
                "if False:",
            )
        ],
        ["tests/test_standard_services.py::test_the_open_streams_of_all_callers_are_counted"],
    ),
    Sabotage(
        "reflection knows no methods",
        [
            Edit(
                _DESCRIPTORS,
                '        yield from (f"{name}.{method.name}" for method in service.method)\n',
                "",
            )
        ],
        [f"{_REFLECTION_TESTS}::test_every_symbol_is_found_in_its_file"],
    ),
    Sabotage(
        "reflection looks for the values of an enum in the enum",
        [
            Edit(
                _DESCRIPTORS,
                "(_join(scope, value.name) for",
                "(_join(_join(scope, enum.name), value.name) for",
            )
        ],
        [f"{_REFLECTION_TESTS}::test_every_symbol_is_found_in_its_file"],
    ),
    Sabotage(
        "reflection leaves out extensions that are declared in messages",
        [
            Edit(
                _DESCRIPTORS,
                "        yield from _extensions(message.extension, message.nested_type)\n",
                "        yield from _extensions(message.extension, ())\n",
            )
        ],
        [f"{_REFLECTION_TESTS}::test_extensions_are_found_wherever_they_are_declared"],
    ),
    Sabotage(
        "reflection sends a file without what its imports import",
        [Edit(_DESCRIPTORS, "            queue += new\n", "")],
        [f"{_REFLECTION_TESTS}::test_files_are_found_by_name_with_their_imports"],
    ),
    Sabotage(
        "reflection sends a stream the same files again and again",
        [Edit(_REFLECTION, "            sent.add(each)\n", "")],
        [f"{_REFLECTION_TESTS}::test_a_stream_is_sent_each_import_once"],
    ),
    Sabotage(
        "reflection speaks the old version only",
        [Edit(_REFLECTION, '    "grpc.reflection.v1.ServerReflection",\n', "")],
        [f"{_REFLECTION_TESTS}::test_every_listed_service_is_served_with_all_its_methods"],
    ),
    Sabotage(
        "a proxy that pings every 5 s is disconnected",
        [Edit("bus_server/server.py", "MIN_PING_INTERVAL = 1_000", "MIN_PING_INTERVAL = 10_000")],
        ["tests/test_peers.py::test_a_peer_may_ping_every_few_seconds"],
        timeout=30,
    ),
    Sabotage(
        "a peer that floods with pings is not disconnected",
        [Edit("bus_server/server.py", "MIN_PING_INTERVAL = 1_000", "MIN_PING_INTERVAL = 0")],
        ["tests/test_peers.py::test_a_peer_that_floods_with_pings_is_disconnected"],
        timeout=30,
    ),
]
