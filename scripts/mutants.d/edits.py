"""Mutants: edits and strict threads."""

from sabotage import Edit, Sabotage

_POSTS = "bus_server/store/posts.py"

SABOTAGES = [
    Sabotage(
        "bytes that edits add to cached recent messages are not counted",
        [Edit("bus_server/recent.py", "self._bytes += len(edited) - len(body)", "pass")],
        ["tests/test_recent.py::test_bytes_that_edits_add_count_and_evict_the_oldest"],
    ),
    Sabotage(
        "an agent may edit another agent's message",
        [
            Edit(
                _POSTS,
                "if entry.sender != message.sender or message.sender == ANONYMOUS:",
                "if message.sender == ANONYMOUS:",
            )
        ],
        ["tests/test_posting_edits_refused.py::test_no_agent_edits_anothers_message"],
    ),
    Sabotage(
        "anonymous callers may edit anonymous messages",
        [Edit(_POSTS, " or message.sender == ANONYMOUS:\n        raise", ":\n        raise")],
        ["tests/test_posting_edits_refused.py::test_messages_of_anonymous_cannot_be_edited"],
    ),
    Sabotage(
        "an edit may be of a message in another thread",
        [
            Edit(
                "bus_server/store/sqlite/gather.py",
                "if head is None or seq > head.seq:",
                "if head is None:",
            )
        ],
        ["tests/test_posting_edits_refused.py::test_no_number_edits_a_message_of_another_thread"],
    ),
    Sabotage(
        "edit_seq is stale in cached recent messages",
        [
            Edit(
                "bus_server/writer.py",
                "            self._recent.edit(head.epoch, commit.edited.get(name, {}))\n",
                "",
            )
        ],
        [
            "tests/test_posting_edits.py::test_a_message_has_the_seq_of_its_newest_edit_wherever_it_is_read"
        ],
    ),
    Sabotage(
        "edit_seq is not stored",
        [
            Edit(
                "bus_server/store/sqlite/writes.py",
                "            [(thread_id << 32 | seq, edit_seq) for",
                "            [(thread_id << 32 | seq, 0) for",
            )
        ],
        [
            "tests/test_posting_edits.py::test_a_message_has_the_seq_of_its_newest_edit_after_a_restart"
        ],
    ),
    Sabotage(
        "cached recent messages miss edits made through another server",
        [Edit("bus_server/fallback.py", "        self._resources.recent.clear()\n", "")],
        [
            "tests/test_posting_edits.py::test_an_edit_through_another_server_reaches_cached_messages"
        ],
    ),
    Sabotage(
        "an edited message no longer matches its request_id",
        [Edit("bus_server/store/post_hash.py", "{m.edit_of}", "{m.edit_of} {m.edit_seq}")],
        [
            "tests/sqlite/test_store_upgrade.py::test_edits_of_an_older_file_are_kept_and_can_be_edited_again"
        ],
    ),
    Sabotage(
        "the strict mode is checked before the request_id",
        [
            Edit(
                _POSTS,
                "    if post.request_id:\n        earlier = _earlier(batch, head, post)\n",
                "    if head.sync_mode == SYNC_MODE_STRICT and post.expected_last_seq is None:\n"
                "        raise ExpectedSeqRequired(post.thread, head.seq)\n"
                "    if post.request_id:\n        earlier = _earlier(batch, head, post)\n",
            )
        ],
        ["tests/test_threads_strict.py::test_a_retry_is_recognised_before_the_mode_is_checked"],
    ),
    Sabotage(
        "the strict mode has no effect",
        [Edit(_POSTS, "    if strict and post", "    if False and post")],
        [
            "tests/test_threads_strict.py::test_a_strict_thread_takes_only_posts_that_name_the_seq_they_follow"
        ],
    ),
    Sabotage(
        "the strict mode applies to people, too",
        [Edit(_POSTS, " and sender_kind != AGENT_KIND_HUMAN\n", "\n")],
        ["tests/test_threads_strict.py::test_humans_need_not_name_it"],
    ),
    Sabotage(
        "a change of the mode takes effect after its transaction only",
        [
            Edit(
                "bus_server/store/batch.py",
                "        self.facts.heads[thread.name] = self.commit.heads[thread.name] = head\n",
                "        self.commit.heads[thread.name] = head\n",
            )
        ],
        ["tests/test_threads_strict.py::test_a_post_of_the_same_transaction_is_checked_too"],
    ),
    Sabotage(
        "a change of settings leaves no entry",
        [
            Edit(
                "bus_server/store/threads.py",
                "batch.append(command.name, entry.sender, message_body(entry), None, WAKE_NOBODY)",
                "head.seq",
            )
        ],
        ["tests/test_threads_settings.py::test_a_change_adds_an_entry_that_says_who_changed_what"],
    ),
]
