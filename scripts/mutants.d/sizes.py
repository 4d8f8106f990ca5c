"""Mutants: sizes of messages, texts cut off, files left out, and limits in bytes."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "messages of older servers are read without sizes",
        [
            Edit(
                "bus_server/store/bodies.py",
                "    if body[0] != FIRST:\n",
                "    if not body:\n",
            )
        ],
        ["tests/store/test_reads.py"],
    ),
    Sabotage(
        "an attachment keeps the size that a post gave it",
        [
            Edit(
                "bus_server/store/bodies.py",
                "        file.size = len(file.raw)\n",
                "        file.size = file.size or len(file.raw)\n",
            ),
            Edit("bus_server/services/posting.py", 'file.ClearField("size")', "pass"),
        ],
        ["tests/test_reading_sizes.py"],
    ),
    Sabotage(
        "a text is cut off within the last character of the limit",
        [
            Edit(
                "bus_server/cutting.py",
                "    whole = beginning[: start + last.start()]\n",
                "    whole = beginning\n",
            )
        ],
        ["tests/test_cutting.py"],
    ),
    Sabotage(
        "the letters of a long row of flags are paired from where the search begins",
        [Edit("bus_server/cutting.py", "[0]) % 2:\n", "[0]) % 2 > 2:\n")],
        ["tests/test_cutting.py"],
    ),
    Sabotage(
        "a line end of two characters is split",
        [
            Edit(
                "bus_server/cutting.py",
                'return beginning.removesuffix("\\r") if encoded[end] == 0x0A else beginning',
                "return beginning",
            )
        ],
        ["tests/test_cutting.py"],
    ),
    Sabotage(
        "a wait delivers the message that is too much for max_bytes",
        [
            Edit(
                "bus_server/follow/loop.py",
                "                return bodies[:count]\n",
                "                return bodies[: count + 1]\n",
            )
        ],
        ["tests/test_waiting_budgets.py"],
    ),
    Sabotage(
        "the cursor of a wait that max_bytes ends is past what was not delivered",
        [
            Edit(
                "bus_server/follow/loop.py",
                "            count = wanted[-1] + 1 if wanted else 0\n",
                "            count = wanted[-1] + 1 if wanted else len(rows)\n",
            )
        ],
        ["tests/test_waiting_budgets.py"],
    ),
    Sabotage(
        "a page skips the message that is too much for max_bytes",
        [
            Edit(
                "bus_server/history.py",
                "seen = indices if spent or len(indices) == left",
                "seen = indices if len(indices) == left",
            )
        ],
        ["tests/test_reading_sizes.py"],
    ),
    Sabotage(
        "max_bytes counts the bytes that are left out",
        [
            Edit(
                "bus_server/follow/loop.py",
                "            bodies = self._resources.encoder.shorten(bodies, request.trim)\n"
                "        if request.max_bytes:\n"
                "            bodies = self._within_max_bytes(bodies)\n",
                "            whole = bodies\n"
                "            bodies = self._resources.encoder.shorten(bodies, request.trim)\n"
                "        if request.max_bytes:\n"
                "            bodies = bodies[: len(self._within_max_bytes(whole))]\n",
            )
        ],
        ["tests/test_waiting_budgets.py"],
    ),
    Sabotage(
        "waits that shorten messages replace the frame of those that do not",
        [
            Edit(
                "bus_server/encoding.py",
                "        last = self._last.get(trim)\n",
                "        last = self._last[None]\n",
            )
        ],
        ["tests/test_encoding.py"],
    ),
    Sabotage(
        "a client does not tell the server what is left of max_bytes",
        [
            Edit(
                "bus_client/long_poll.py",
                "        request.max_bytes = self._budget.left\n",
                "",
            )
        ],
        ["tests/test_sdk_sizes.py"],
    ),
    Sabotage(
        "a client returns more than max_bytes if the server sends it",
        [Edit("bus_client/byte_budget.py", "                break\n", "")],
        ["tests/test_sdk_sizes.py"],
    ),
    Sabotage(
        "a saved file replaces one of its name",
        [Edit("bus_client/cli/files.py", 'path.open("xb")', 'path.open("wb")')],
        ["tests/test_cli_sizes.py"],
    ),
    Sabotage(
        "a file is saved where its name leads to",
        [
            Edit(
                "bus_client/cli/files.py",
                're.sub(r"[/\\\\]", "_", replace_unsafe(name, "_"))',
                "name",
            )
        ],
        ["tests/test_cli_sizes.py::test_no_server_can_have_a_file_saved_elsewhere"],
    ),
    Sabotage(
        "an edited message is exported with the size of its first text",
        [
            Edit(
                "bus_client/cli/transfer/format.py",
                "message.content, message.content_size = edit.content, edit.content_size",
                "message.content = edit.content",
            )
        ],
        ["tests/test_cli_sizes.py"],
    ),
    Sabotage(
        "frames of every way to shorten messages are kept",
        [
            Edit(
                "bus_server/encoding.py",
                "            if len(self._last) > MAX_TRIMS:\n",
                "            if False:\n",
            )
        ],
        ["tests/test_encoding.py"],
    ),
]
