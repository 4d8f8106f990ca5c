"""Mutants: whom entries address and wake."""

from sabotage import Edit, Sabotage

_ADDRESSED = "tests/store/test_addressed.py"
_BATCH = "bus_server/store/batch.py"
_POSTS = "bus_server/store/posts.py"

_LOOP = "bus_server/follow/loop.py"
_WAKES = "bus_server/follow/wakes.py"
_WAITING = "tests/test_wakes_waiting.py"
_SDK = "tests/test_sdk_wakes.py"
_LONG_POLL = "bus_client/long_poll.py"

SABOTAGES = [
    Sabotage(
        "every message counts in min_messages",
        [Edit(_LOOP, "len(rows) if request.count_all else woken", "len(rows)")],
        [_WAITING],
    ),
    Sabotage(
        "count_all is ignored",
        [Edit(_LOOP, "len(rows) if request.count_all else woken", "woken")],
        [f"{_WAITING}::test_with_count_all_everything_counts"],
    ),
    Sabotage(
        "no entry is quiet once it was edited",
        [
            Edit(
                "bus_server/store/commands.py",
                "body.find(_WAKES, -10)",
                "body.find(_WAKES, -3)",
            )
        ],
        [f"{_WAITING}::test_an_edit_of_a_quiet_message_ends_no_long_poll"],
    ),
    Sabotage(
        "a reply that wakes those it addresses does not wake the author",
        [
            Edit(
                _WAKES,
                "return bool(await replies_to(store, thread_id, agent, [message]))",
                "return False",
            )
        ],
        [f"{_WAITING}::test_an_addressed_entry_wakes_those_it_addresses_and_nobody_else"],
    ),
    Sabotage(
        "a message that mentions its sender wakes it",
        [Edit(_WAKES, 'agent in ("", sender)', 'agent in ("",)')],
        [f"{_WAITING}::test_an_addressed_entry_wakes_those_it_addresses_and_nobody_else"],
    ),
    Sabotage(
        "a wait that ends with quiet messages returns them",
        [
            Edit(
                _LONG_POLL,
                "        if not self.found or not self._least or self._counted or full:\n",
                "        if True:\n",
            )
        ],
        [_SDK],
    ),
    Sabotage(
        "quiet messages that came in vain are skipped by the next wait",
        [
            Edit(
                _LONG_POLL,
                "ReadPosition.at(end.epoch, message.seq - 1, ",
                "ReadPosition.at(end.epoch, self.found[-1].seq, ",
            )
        ],
        [_SDK],
    ),
    Sabotage(
        "a quiet message before a disconnect counts as the one that was waited for",
        [Edit(_LONG_POLL, "count_all or each.wakes != WAKE_NOBODY", "True")],
        [_SDK],
    ),
    Sabotage(
        "a message for another agent ends a wait at its timeout",
        [Edit(_LONG_POLL, "REASON_MAX_WAIT and self._least == 1", "REASON_MAX_WAIT and False")],
        [_SDK],
    ),
    Sabotage(
        "an edit wakes everybody, whatever its message does",
        [Edit(_POSTS, "batch.entry(post.thread, edit_of) if edit_of else header", "header")],
        [f"{_ADDRESSED}::test_an_edit_wakes_as_its_message"],
    ),
    Sabotage(
        "an edit of a large message wakes everybody",
        [
            Edit(
                "bus_server/store/sqlite/gather.py",
                "wakes=Wake.ValueType(wakes or WAKE_ALL)",
                "wakes=WAKE_ALL",
            )
        ],
        [f"{_ADDRESSED}::test_an_edit_wakes_as_its_message"],
    ),
    Sabotage(
        "a message addresses its sender",
        [Edit(_POSTS, '{*addressed, author} - {post.sender, ""}', '{*addressed, author} - {""}')],
        [f"{_ADDRESSED}::test_an_entry_addresses_those_it_mentions_hands_off_to_and_replies_to"],
    ),
    Sabotage(
        "a reply to a message of the same batch addresses nobody",
        [Edit(_BATCH, "appended[seq][0] if seq in appended else self.facts", "self.facts")],
        [f"{_ADDRESSED}::test_an_entry_addresses_those_it_mentions_hands_off_to_and_replies_to"],
    ),
    Sabotage(
        "a mention that wakes nobody is unread",
        [Edit(_BATCH, "wakes != WAKE_NOBODY\n", "True\n")],
        [f"{_ADDRESSED}::test_what_wakes_nobody_is_not_unread"],
    ),
    Sabotage(
        "quiet entries before the read position count as if they came after it",
        [
            Edit(
                "bus_server/store/sqlite/participants.py",
                " > {_QUIET} - {_QUIET_READ} OR",
                " > {_QUIET} OR",
            )
        ],
        [f"{_ADDRESSED}::test_what_is_unread_is_what_wakes_after_the_read_position"],
    ),
    Sabotage(
        "the quiet entries of a batch have one number",
        [
            Edit(
                "bus_server/store/postgres/writes.py",
                "row_number() OVER (PARTITION BY thread_id ORDER BY seq) + ",
                "1 + ",
            )
        ],
        [f"{_ADDRESSED}::test_what_is_unread_is_what_wakes_after_the_read_position"],
    ),
    Sabotage(
        "what an agent has read since the last checkpoint is unread",
        [Edit("bus_server/presence/participants.py", "if unsaved > thread.read_seq:", "if False:")],
        ["tests/test_wakes_unread.py::test_what_an_agent_has_just_read_is_taken_into_account"],
    ),
    Sabotage(
        "whom a post wakes is not compared when it is repeated",
        [
            Edit(
                "bus_server/store/post_hash.py",
                "m.wakes not in (WAKE_UNSPECIFIED, WAKE_ALL)",
                "False",
            )
        ],
        ["tests/test_posting_request_id.py"],
    ),
]
