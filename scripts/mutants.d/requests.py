"""Mutants: requests, and the notices about them."""

from sabotage import Edit, Sabotage

_ASKED = "bus_server/store/asked.py"
_NOTICES = "bus_server/notices.py"
_POSTS = "bus_server/store/posts.py"
_THREADS = "bus_server/store/threads.py"
_SQLITE = "bus_server/store/sqlite/asked.py"
_REQUESTS = "tests/test_requests.py"

SABOTAGES = [
    Sabotage(
        "a reply to an edit of a question answers nothing",
        [Edit(_ASKED, "seqs.append(batch.entry(name, reply_to).edit_of)", "pass")],
        [f"{_REQUESTS}::test_a_reply_to_the_message_or_to_an_edit_answers"],
    ),
    Sabotage(
        "a reply that wakes nobody answers",
        [Edit(_POSTS, "if header.reply_to and wakes != WAKE_NOBODY:", "if header.reply_to:")],
        [f"{_REQUESTS}::test_what_answers_nothing"],
    ),
    Sabotage(
        "a second reply becomes the answer",
        [Edit(_ASKED, "asked is not None and asked.state == REQUEST_STATE_OPEN:", "asked:")],
        [f"{_REQUESTS}::test_a_second_reply_is_not_the_answer"],
    ),
    Sabotage(
        "requests stay open in a closed thread",
        [Edit(_THREADS, "            close_requests(batch, command.name)\n", "            pass\n")],
        [f"{_REQUESTS}::test_closing_a_thread_closes_its_open_requests"],
    ),
    Sabotage(
        "anybody withdraws a question",
        [Edit(_ASKED, "if command.agent != asker and not command.operator:", "if False:")],
        [f"{_REQUESTS}::test_only_the_asker_withdraws_its_question"],
    ),
    Sabotage(
        "an answered request is withdrawn",
        [
            Edit(
                _ASKED,
                "still_open = sorted(key for key, asked in found.items()"
                " if asked.state == REQUEST_STATE_OPEN)",
                "still_open = sorted(found)",
            )
        ],
        [f"{_REQUESTS}::test_the_asker_withdraws_a_question"],
    ),
    Sabotage(
        "an agent may leave without a notice",
        [Edit(_THREADS, "        leave(batch, command.name, command.agent)\n", "        pass\n")],
        [f"{_REQUESTS}::test_an_agent_that_leaves_is_noticed"],
    ),
    Sabotage(
        "an agent may ask itself",
        [Edit("bus_server/services/posting.py", "if sender in agents:", "if False:")],
        [f"{_REQUESTS}::test_nobody_asks_itself_or_agents_that_do_not_exist"],
    ),
    Sabotage(
        "a request is overdue at once",
        [
            Edit(
                _ASKED,
                "return 0 < asked.due <= batch.facts.store_now",
                "return asked.due > 0",
            ),
            Edit(_NOTICES, "self._loop_time(stored.due)", "-math.inf"),
        ],
        ["tests/test_clock_notices.py"],
    ),
    Sabotage(
        "nobody notices that a request is overdue",
        [Edit(_NOTICES, "        if stored.due:\n", "        if False:\n")],
        [f"{_REQUESTS}::test_a_question_is_overdue_once"],
    ),
    Sabotage(
        "an agent that has not read the question is idle about it",
        [Edit(_NOTICES, "return read >= request.key.seq", "return True")],
        ["tests/test_notices.py"],
    ),
    Sabotage(
        "an agent that was gone when it was asked is noticed",
        [Edit(_NOTICES, "not stored.was_gone\n", "True\n")],
        ["tests/test_notices.py"],
    ),
    Sabotage(
        "a notice does not look at what other servers know",
        [Edit(_ASKED, "stored.last_seen_time <= evidence.last_seen_time", "True")],
        ["tests/store/test_asked.py"],
    ),
    Sabotage(
        "a notice is written again",
        [Edit(_ASKED, "        or asked.has_notice(reason)\n", "")],
        ["tests/store/test_asked.py"],
    ),
    Sabotage(
        "the requests of deleted threads are left",
        [
            Edit(
                "bus_server/store/sqlite/leftovers.py",
                "DELETE FROM asked WHERE (",
                "DELETE FROM asked WHERE 0 AND (",
            )
        ],
        ["tests/test_threads_deletion.py::test_what_a_deleted_thread_asked_is_cleared"],
    ),
    Sabotage(
        "pages of requests overlap",
        [Edit(_SQLITE, "a.agent) < (:time", "a.agent) <= (:time")],
        ["tests/store/test_asked.py"],
    ),
    Sabotage(
        "an agent has any number of open requests",
        [Edit(_ASKED, ">= MAX_OPEN_REQUESTS:", ">= 10 * MAX_OPEN_REQUESTS:")],
        [
            "tests/store/test_asked.py"
            "::test_an_agent_has_a_thousand_open_requests_in_a_thread_at_most"
        ],
    ),
    Sabotage(
        "an edit that repeats the text wakes",
        [Edit(_POSTS, "if edit_of and _changes_nothing(batch, header, post.body):", "if False:")],
        ["tests/test_wakes_waiting.py::test_an_edit_that_repeats_the_text_wakes_nobody"],
    ),
]
