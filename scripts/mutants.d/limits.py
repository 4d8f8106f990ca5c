"""Mutants: refused secrets, rates and quotas."""

from sabotage import Edit, Sabotage

_FORMATS, _RATES = "bus_server/services/key_formats.py", "bus_server/rates.py"
_POSTING, _STREAM = "bus_server/services/posting.py", "bus_client/post_stream.py"
_SECRETS, _LIMITS = "tests/test_secrets_refused.py", "tests/test_rates.py"
_QUOTAS, _SDK = "tests/test_quotas.py", "tests/test_sdk_rates.py"

SABOTAGES = [
    Sabotage(
        "plain posts are not searched for keys",
        [
            Edit(
                _POSTING,
                "    if settings.refuse_secrets:",
                "    if settings.refuse_secrets and request.labels:",
            )
        ],
        [f"{_SECRETS}::test_keys_are_refused_by_rule_wherever_they_stand"],
    ),
    Sabotage(
        "names of labels are not searched for keys",
        [
            Edit(
                _FORMATS, '        refuse_keys("labels", name)', '        refuse_keys("labels", "")'
            )
        ],
        [f"{_SECRETS}::test_a_key_is_refused_in_every_field_that_others_read"],
    ),
    Sabotage(
        "keys within longer words are refused",
        [Edit(_FORMATS, "if self.prefix[0].isalnum() else", "if not self.prefix else")],
        [f"{_SECRETS}::test_text_about_keys_is_stored"],
    ),
    Sabotage(
        "the posts of a batch are admitted at different times",
        [
            Edit(
                _POSTING,
                "[self._post(post, now) for post",
                "[self._post(post, time.monotonic_ns()) for post",
            )
        ],
        [f"{_LIMITS}::test_in_a_batch_the_posts_for_which_there_is_no_room_are_the_last"],
    ),
    Sabotage(
        "full buckets are kept",
        [Edit(_RATES, "            del full_at[first]\n", "            return\n")],
        [f"{_LIMITS}::test_callers_and_threads_that_have_been_quiet_are_forgotten"],
    ),
    Sabotage(
        "a repeated post counts",
        [
            Edit(
                "bus_server/services/bus_service.py",
                "if done.deduplicated:",
                "if False:",
            )
        ],
        [f"{_LIMITS}::test_a_repeated_post_counts_once"],
    ),
    Sabotage(
        "a thread takes any number of posts",
        [
            Edit(
                _RATES,
                "to_thread = self._threads.wait_time(thread, now)",
                "to_thread = 0",
            )
        ],
        [f"{_LIMITS}::test_a_thread_takes_posts_of_all_agents_together"],
    ),
    Sabotage(
        "a thread that exists is not joined once the quota is used up",
        [
            Edit(
                "bus_server/services/thread_service.py",
                "            return await bus.join_thread(replace(join, create=False))",
                "            raise ThreadNotFound([])",
            )
        ],
        [f"{_QUOTAS}::test_an_agent_that_has_created_its_threads_can_only_join_others"],
    ),
    Sabotage(
        "what was registered before counts",
        [
            Edit(
                "bus_server/services/agent_service.py",
                "    if not registered.created:\n        quota.give_back(caller.name)",
                "        del created",
            )
        ],
        [f"{_QUOTAS}::test_what_was_not_created_does_not_count"],
    ),
    Sabotage(
        "post_many goes on with later posts when some were refused for their rate",
        [
            Edit(
                _STREAM,
                "room = len(self._unanswered) < self._max_batches and not self._held",
                "room = len(self._unanswered) < _MAX_BATCHES",
            )
        ],
        [
            f"{_SDK}::test_many_posts_are_stored_once_and_in_order_though_they_are_limited",
            f"{_SDK}::test_several_clients_that_share_the_room_of_a_thread_keep_their_orders",
        ],
    ),
    Sabotage(
        "post_many never gives up posts that are refused for their rate",
        [Edit(_STREAM, "if now + pause >= self._limited_since + self._timeout:", "if False:")],
        [f"{_SDK}::test_posts_that_would_have_to_wait_too_long_have_that_as_their_result"],
    ),
]
