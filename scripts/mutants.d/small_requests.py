"""Mutants: small requests about large messages, and joins during posts."""

from sabotage import Edit, Sabotage

_BODIES = "tests/sqlite/test_store_bodies.py"
_JOINS = "tests/test_threads_joining_races.py"
_LEFTOVERS = "bus_server/store/sqlite/leftovers.py"
_PARTICIPANTS = "bus_server/store/sqlite/participants.py"
_POSTS = "bus_server/store/posts.py"
_SMALL = "tests/test_small_requests.py"
_UPGRADE = "bus_server/store/sqlite/upgrade-6.sql"
_UPGRADES = "tests/sqlite/test_store_upgrade.py"
_WRITES = "bus_server/store/sqlite/writes.py"

SABOTAGES = [
    Sabotage(
        "the hash of a post is not stored",
        [Edit(_WRITES, "(*key, request.seq, request.post_hash)", '(*key, request.seq, b"")')],
        [f"{_BODIES}::test_a_retry_is_recognised_without_reading_the_body"],
    ),
    Sabotage(
        "posts from before version 4 have no hash",
        [Edit(_UPGRADE, "WHERE post_hash IS NULL", "WHERE FALSE")],
        [f"{_UPGRADES}::test_an_upgraded_file_has_what_posts_are_checked_against"],
    ),
    Sabotage(
        "edits of large messages from before version 4 load them",
        [Edit(_UPGRADE, "WHERE length(body) > 16384", "WHERE FALSE")],
        [f"{_UPGRADES}::test_an_upgraded_file_has_what_posts_are_checked_against"],
    ),
    Sabotage(
        "the hash of a post depends on the order of its labels",
        [Edit("bus_server/store/post_hash.py", "sorted(m.labels.items())", "m.labels.items()")],
        ["tests/test_store_post_hash.py"],
    ),
    Sabotage(
        "a field of a post is not in its hash",
        [Edit("bus_server/store/post_hash.py", " {m.reply_to}", "")],
        ["tests/test_store_post_hash.py"],
    ),
    Sabotage(
        "an edit loads the message that it edits",
        [
            Edit(
                "bus_server/store/batch.py",
                "            self.changes.large[thread_id, seq] = edit_of\n",
                "            pass\n",
            )
        ],
        [f"{_BODIES}::test_an_edit_writes_only_the_edit_seq_of_its_message"],
    ),
    Sabotage(
        "a post that waits for the disk holds its content twice",
        [
            Edit(
                "bus_server/store/commands.py",
                "            header,\n            size=",
                "            message,\n            size=",
            )
        ],
        ["tests/test_plain_posts.py::test_a_post_that_waits_for_the_disk_holds_its_content_once"],
    ),
    Sabotage(
        "a deleted thread leaves its edits behind",
        [Edit(_LEFTOVERS, '    "DELETE FROM entry WHERE id BETWEEN :low AND :upto",\n', "")],
        [f"{_BODIES}::test_no_edit_survives_the_clearing_of_a_deleted_thread"],
    ),
    Sabotage(
        "an older edit_seq in the body overrides a newer one",
        [
            Edit(
                "bus_server/store/bodies.py",
                "body + Message(edit_seq=edit_seq).SerializeToString()",
                "Message(edit_seq=edit_seq).SerializeToString() + body",
            )
        ],
        [f"{_BODIES}::test_the_newest_edit_is_returned_though_the_body_names_an_older_one"],
    ),
    Sabotage(
        "a refusal within a batch keeps what was loaded for it",
        [Edit(_POSTS, "answers.append(refusal.without_traceback())", "answers.append(refusal)")],
        [f"{_BODIES}::test_a_retained_refusal_holds_no_reference_to_its_post"],
    ),
    Sabotage(
        "a refusal of a command keeps what was loaded for it",
        [
            Edit(
                "bus_server/store/decide.py",
                "outcome = refusal.without_traceback()",
                "outcome = refusal",
            )
        ],
        [f"{_BODIES}::test_a_retained_refusal_holds_no_reference_to_its_post"],
    ),
    Sabotage(
        "a refused batch is kept with its refusal",
        [
            Edit(
                "bus_server/writer.py",
                "[refusal.without_traceback()] * len(batch)",
                "[refusal] * len(batch)",
            )
        ],
        [f"{_SMALL}::test_a_batch_that_cannot_be_written_is_refused_and_its_memory_freed"],
    ),
    Sabotage(
        "a refused post of a stream is kept with its refusal",
        [
            Edit(
                "bus_server/services/posting.py",
                "            return refusal.without_traceback()\n",
                "            return refusal\n",
            )
        ],
        [f"{_SMALL}::test_large_posts_refused_one_after_the_other"],
    ),
    Sabotage(
        "a URL of any length is parsed",
        [
            Edit(
                "bus_server/services/validation.py",
                "    if len(url.encode()) > limits.MAX_URL_BYTES:",
                "    if urlsplit(url) and len(url.encode()) > limits.MAX_URL_BYTES:",
            )
        ],
        [f"{_SMALL}::test_urls_that_are_too_long_leave_nothing"],
    ),
    Sabotage(
        "the context of a join includes later posts",
        [Edit(_PARTICIPANTS, "before = joined.after_seq + 1", "before = 0")],
        [f"{_JOINS}::test_the_context_ends_at_the_head_at_the_join_whatever_was_posted_since"],
    ),
    Sabotage(
        "a join may return the context of a later thread of the same name",
        [
            Edit(
                _PARTICIPANTS,
                "if head is None or head.thread_id != joined.thread_id:",
                "if head is None:",
            )
        ],
        [f"{_JOINS}::test_a_thread_recreated_during_the_read_shows_nothing_of_the_old_one"],
    ),
    Sabotage(
        "a join delays posts",
        [
            Edit(
                _WRITES,
                "    batch = decide(commands, facts)\n",
                "    batch = decide(commands, facts)\n"
                "    for join in commands:\n"
                "        if isinstance(join, store.JoinThread):\n"
                "            reads.excerpt(db, join.thread.name, 0, 0, 10, 1_000, True)\n",
            )
        ],
        [f"{_BODIES}::test_joining_reads_no_message_body"],
    ),
    Sabotage(
        "a join misses positions that a checkpoint has just written",
        [
            Edit(
                "bus_server/presence/participants.py",
                "self._changes.read_consistently(self._store.entrance, join, joined)",
                "self._store.entrance(join, joined)",
            )
        ],
        ["tests/test_checkpoints.py::test_a_read_position_does_not_fall_for_a_caller_that_joins"],
    ),
]
