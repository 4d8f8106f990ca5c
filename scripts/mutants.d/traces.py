"""Mutants: the trace context of calls and messages."""

from sabotage import Edit, Sabotage

_CONTEXT, _BODIES = "bus_server/trace_context.py", "bus_server/store/bodies.py"
_ASKED, _HASH = "bus_server/store/asked.py", "bus_server/store/post_hash.py"
_SDK, _BACKGROUND = "bus_client/traces.py", "bus_client/sync/background.py"
_SERVER, _STORE = "tests/test_traceparents.py", "tests/store/test_asked.py"
_TASKS = "tests/test_sdk_traces.py"
_TRACING, _SPANS = "bus_server/tracing.py", "bus_client/spans.py"
_TREE = "tests/test_tracing.py::test_a_request_its_deliveries_and_the_reply_form_one_trace"
_BEGUN = "tests/test_tracing.py::test_a_post_of_no_trace_begins_one"

SABOTAGES = [
    Sabotage(
        "any traceparent of 55 characters is stored",
        [Edit(_CONTEXT, "TRACEPARENT.fullmatch(value):", "len(value) == 55:")],
        [f"{_SERVER}::test_one_that_is_not_valid_is_ignored"],
    ),
    Sabotage(
        "a traceparent is found only if the content is short",
        [Edit(_BODIES, "0, 6 + len(_TRACEPARENT))", "0, 4 + len(_TRACEPARENT))")],
        [f"{_STORE}::test_a_notice_has_the_traceparent_of_the_message_that_asks"],
    ),
    Sabotage(
        "a question that is withdrawn in its own batch has no traceparent",
        [Edit(_ASKED, "    if message.traceparent:", "    if False:")],
        [f"{_STORE}::test_a_notice_has_the_traceparent_of_the_message_that_asks"],
    ),
    Sabotage(
        "a retry must have the same traceparent",
        [
            Edit(
                _HASH,
                "    hashed = hashlib.sha256(text.encode())\n",
                "    hashed = hashlib.sha256((text + m.traceparent).encode())\n",
            )
        ],
        ["tests/test_store_post_hash.py"],
    ),
    Sabotage(
        "a message of no trace leaves the trace of the one before",
        [
            Edit(
                _SDK,
                '    traceparent = ""\n    for message',
                "    traceparent = _received.get().traceparent\n    for message",
            ),
            Edit(
                _SDK,
                'message.traceparent if valid else ""\n        if',
                "message.traceparent if valid else traceparent\n        if",
            ),
        ],
        [f"{_TASKS}::test_a_post_continues_the_trace_of_the_message_that_is_handled"],
    ),
    Sabotage(
        "a blocking wait continues no trace",
        [Edit(_BACKGROUND, "            adopt(context)\n", "")],
        [f"{_TASKS}::test_the_blocking_client_does_the_same"],
    ),
    Sabotage(
        "a message that is received counts more than continue_trace",
        [
            Edit(
                _SDK, "last.traceparent if chosen is None else chosen", "last.traceparent or chosen"
            )
        ],
        [f"{_TASKS}::test_within_continue_trace_only_that_counts"],
    ),
    Sabotage(
        "strangers make spans",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "if tracing and span and call.caller and call.caller.scopes:",
                "if tracing and span and call.caller:",
            )
        ],
        ["tests/test_tracing.py::test_where_tokens_are_required_strangers_make_no_spans"],
    ),
    Sabotage(
        "callers name spans",
        [
            Edit(
                "bus_server/services/dispatch.py",
                "if tracing and span and call.caller and call.caller.scopes:",
                "if tracing and span:",
            ),
            Edit(
                "bus_server/services/dispatch.py",
                "tracing.end(span, call.caller.name, code.name, reason)",
                'tracing.end(span, "", code.name, reason)',
            ),
        ],
        ["tests/test_tracing.py::test_a_caller_cannot_name_spans"],
    ),
    Sabotage(
        "a switched-off SDK leaves traceparents that are not valid",
        [
            Edit(
                _TRACING,
                'return carrier.get("traceparent", "")',
                'return carrier.get("traceparent", f"00-{0:032x}-{0:016x}-00")',
            )
        ],
        ["tests/test_tracing.py::test_a_switched_off_sdk_leaves_messages_without_a_trace"],
    ),
    Sabotage(
        "a stop waits for the collector",
        [Edit(_TRACING, "        sending.join(FLUSH_TIMEOUT)\n", "        sending.join()\n")],
        ["tests/test_tracing.py::test_a_collector_that_never_answers_holds_up_no_stop"],
    ),
    Sabotage(
        "each of any number of waits has a span",
        [Edit(_TRACING, "MAX_DELIVERIES = 100\n", "MAX_DELIVERIES = 10_000\n")],
        ["tests/test_tracing.py::test_of_many_waits_a_hundred_have_spans"],
    ),
    Sabotage(
        "a trace that the server begins is not stored",
        [
            Edit(
                _TRACING,
                "        if not traceparent:\n",
                "        if False:\n",
            )
        ],
        [_BEGUN],
    ),
    Sabotage(
        "a commit is not below its call",
        [Edit(_TRACING, "set_span_in_context(span, Context())", "Context()")],
        [_BEGUN],
    ),
    Sabotage(
        "spans have contents",
        [
            Edit(
                _TRACING,
                '        "messaging.system": "threadbus",\n',
                '        "messaging.system": "a secret text",\n',
            )
        ],
        [_BEGUN],
    ),
    Sabotage(
        "what an agent posts is not below what it has received",
        [
            Edit(
                _SPANS,
                "    return _traceparent(span)\n\n\n@",
                "    return message.traceparent\n\n\n@",
            )
        ],
        [_TREE],
    ),
    Sabotage(
        "what instruments gRPC does not see the span of a post",
        [Edit("bus_client/calls.py", "with sent.current():", "if True:")],
        [f"{_TASKS}::test_a_program_that_instruments_grpc_continues_the_trace"],
    ),
    Sabotage(
        "what instruments gRPC does not see the span of a stream of posts",
        [
            Edit(
                "bus_client/post_stream.py",
                "with self._calls.stream_errors(), self._trace.current():",
                "with self._calls.stream_errors():",
            )
        ],
        [f"{_TASKS}::test_a_program_that_instruments_grpc_continues_the_trace"],
    ),
    Sabotage(
        "a span that was begun after a message does not count",
        [Edit(_SDK, "spans.current_id() in (0, last.within)", "True")],
        [_TREE],
    ),
    Sabotage(
        "spans that are begun in continue_trace belong to no trace",
        [
            Edit(
                _SDK, "with spans.within(valid) if spans else nullcontext():", "with nullcontext():"
            )
        ],
        [_TREE],
    ),
]
