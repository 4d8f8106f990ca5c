"""Mutants: the hooks of coding agents."""

from sabotage import Edit, Sabotage

_EVENTS = "bus_client/hosts/events.py"
_NEWS = "bus_client/hosts/news.py"
_PROGRAM = "bus_client/hosts/program.py"
_NOTIFIED = "bus_client/hosts/notified.py"
_WORDS = "bus_client/hosts/words.py"
_INPUT = "tests/test_hook_input.py"
_NOTICES = "tests/test_hook_notices.py"
_WAIT = "tests/test_hook_wait.py"

SABOTAGES = [
    Sabotage(
        "an agent is notified of its own messages",
        [Edit(_NEWS, "message.sender != calls.agent and ", "")],
        ["tests/test_hooks.py::test_senders_and_what_is_for_the_agent_are_counted"],
    ),
    Sabotage(
        "an agent is notified of messages that wake nobody",
        [Edit(_NEWS, "if wakes and ", "if ")],
        ["tests/test_hooks.py::test_what_does_not_wake_the_agent_is_not_told"],
    ),
    Sabotage(
        "a quiet reply to the agent is not told",
        [Edit(_NEWS, "or authors.get(message.reply_to) == calls.agent", "")],
        ["tests/test_hooks.py::test_what_does_not_wake_the_agent_is_not_told"],
    ),
    Sabotage(
        "a request that was withdrawn is told as one",
        [Edit(_NEWS, "entry.asks and (news.thread", "entry.asks or (news.thread")],
        ["tests/test_hooks.py::test_a_withdrawn_request_is_not_told_as_one"],
    ),
    Sabotage(
        "what was notified of a thread counts for the next one of its name",
        [Edit(_NEWS, "if notified_epoch == thread.epoch else each.read_seq", "")],
        ["tests/test_hooks.py::test_a_deleted_and_recreated_thread_is_told_again"],
    ),
    Sabotage(
        "hooks look at messages with ListMessages",
        [
            Edit(
                _NEWS,
                "        response = await calls.call(calls.bus.GetMessage, request)\n",
                "        response = await calls.call(calls.bus.GetMessage, request)\n"
                "        from threadbus.v1.bus_service_pb2 import ListMessagesRequest\n"
                "        listed = ListMessagesRequest(thread=thread)\n"
                "        await calls.call(calls.bus.ListMessages, listed)\n",
            )
        ],
        ["tests/test_hooks.py::test_positions_stay_and_the_agent_is_shown_as_it_is"],
    ),
    Sabotage(
        "a sender's name from the server is not checked",
        [Edit(_NEWS, " and AGENT.fullmatch(message.sender)", "")],
        [f"{_NOTICES}::test_a_server_cannot_make_it_tell_anything_else"],
    ),
    Sabotage(
        "a thread's name from the server is not checked",
        [
            Edit(_NEWS, "seqs and THREAD.fullmatch(unread.thread) is not None", "seqs"),
            Edit(_NEWS, "if THREAD.fullmatch(each.name)\n        and 0", "if 0"),
        ],
        [f"{_NOTICES}::test_a_server_cannot_make_it_tell_anything_else"],
    ),
    Sabotage(
        "what another hook has told meanwhile is told again",
        [Edit(_EVENTS, "item.after(notified) for item in news", "item for item in news")],
        ["tests/test_hook_faults.py::test_of_hooks_that_run_at_once_one_tells"],
    ),
    Sabotage(
        "a new session is not notified of what the one before was told",
        [
            Edit(
                _EVENTS,
                "{} if self._event is Event.SESSION_START else self._notified",
                "self._notified",
            )
        ],
        ["tests/test_hooks.py::test_a_new_session_is_told_about_all_that_is_unread"],
    ),
    Sabotage(
        "what cannot be recorded is told all the same",
        [
            Edit(
                _EVENTS,
                "        self._notified.update(change,",
                "        with suppress(OSError):\n            self._notified.update(change,",
            )
        ],
        [f"{_INPUT}::test_a_state_file_that_cannot_be_replaced_tells_nothing"],
    ),
    Sabotage(
        "an agent that goes on is shown as idle",
        [Edit(_EVENTS, "HeartbeatRequest(state=PRESENCE_WORKING)", "HeartbeatRequest()")],
        ["tests/test_hooks.py::test_positions_stay_and_the_agent_is_shown_as_it_is"],
    ),
    Sabotage(
        "an agent whose context is compacted is shown as idle",
        [Edit(_EVENTS, 'self.given.get("source") == "compact"', "False")],
        ["tests/test_hooks.py::test_a_session_that_is_compacted_during_a_turn_stays_at_work"],
    ),
    Sabotage(
        "an agent whose context is cleared is shown as gone",
        [Edit(_EVENTS, 'self.given.get("reason") == "clear"', "False")],
        ["tests/test_hooks.py::test_an_agent_whose_context_is_cleared_stays"],
    ),
    Sabotage(
        "an agent that goes on lapses after a minute",
        [Edit(_EVENTS, "                working.lease.FromSeconds(_TURN)\n", "")],
        [f"{_NOTICES}::test_an_agent_in_the_midst_of_a_turn_may_think_for_minutes"],
    ),
    Sabotage(
        "a subagent takes the notice",
        [Edit(_EVENTS, 'bool(self.given.get("agent_id"))', "False")],
        ["tests/test_hooks.py::test_a_subagent_is_told_nothing_and_does_not_stop_the_agent"],
    ),
    Sabotage(
        "a hook waits as the agent",
        [Edit(_EVENTS, "        observe=True,\n", "")],
        [f"{_WAIT}::test_a_message_wakes_the_agent"],
    ),
    Sabotage(
        "a hook whose host is gone waits on",
        [Edit(_EVENTS, " and not self._run.abandoned()", "")],
        [f"{_WAIT}::test_it_ends_when_nobody_reads_its_output"],
        timeout=60,
    ),
    Sabotage(
        "a signal ends a hook as it ends any program",
        [Edit(_PROGRAM, "signal.signal(number, stop)", "signal.getsignal(number)")],
        [f"{_WAIT}::test_a_signal_ends_it_with_an_empty_object"],
    ),
    Sabotage(
        "a hook has no time limit",
        [Edit(_PROGRAM, "        _thread.start_new_thread(watch, ())\n", "")],
        [f"{_INPUT}::test_what_blocks_for_ever_ends_in_time"],
    ),
    Sabotage(
        "stdin is read to its end",
        [
            Edit(
                _PROGRAM,
                "while (left := end - time.monotonic()) > 0",
                "left = 3600.0\n        while left",
            )
        ],
        [f"{_INPUT}::test_stdin_that_never_ends_is_not_waited_for"],
    ),
    Sabotage(
        "what is printed goes to stdout, beside the object",
        [Edit(_PROGRAM, "        os.dup2(2, 1)\n", "")],
        [f"{_INPUT}::test_nothing_but_the_object_is_printed_to_stdout"],
    ),
    Sabotage(
        "hooks import gRPC before they know that there is a server",
        [Edit(_PROGRAM, "import _thread\n", "import _thread\nimport grpc\n")],
        [f"{_INPUT}::test_without_a_server_grpc_is_not_imported"],
    ),
    Sabotage(
        "a state file that is not JSON ends the hook",
        [Edit(_NOTIFIED, "except (OSError, ValueError, RecursionError):", "except OSError:")],
        [f"{_INPUT}::test_a_damaged_state_file_is_replaced"],
    ),
    Sabotage(
        "the state file is not locked",
        [
            Edit(
                _NOTIFIED,
                "                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
                "",
            )
        ],
        [f"{_INPUT}::test_a_lock_is_waited_for_in_time_only"],
    ),
    Sabotage(
        "every thread is named in a notice",
        [Edit(_WORDS, "[:_MOST_THREADS]", "")],
        ["tests/test_hooks.py::test_the_output_stays_short_with_a_hundred_threads"],
    ),
]
