"""Texts that are cut off: within the limit, and between what readers see as characters."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from bus_server.cutting import SLACK, cut

FAMILY, FLAG, KEYCAP = "👩‍👩‍👧‍👦", "🇩🇪", "1\ufe0f\u20e3"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
#: Characters that stand together, and parts of them that do not.
PIECES = [
    *("a", "é", "e\u0301", "語", "\r\n", "\r", "\n", FAMILY, FLAG, KEYCAP, ENGLAND, "👍🏽", "🇫"),
    *("각", "ᄀ", "ᅡ", "क्षि", "กำ", "\u0600", "\u200d", "\u0301", "\ufe0f", "\U0001f3ff"),
]
#: Also of few kinds: the same ones must follow one another often.
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).flatmap(
    lambda kinds: st.lists(st.sampled_from(kinds), max_size=80).map("".join)
)


@given(TEXTS | st.text(max_size=200), st.data())
def test_a_text_is_cut_within_the_limit_and_between_clusters(
    text: str, data: st.DataObject
) -> None:
    size = len(text.encode())
    limit = data.draw(st.integers(1, size + 1))
    found = cut(text, limit)
    assert text.startswith(found)
    if size <= limit:
        assert found == text
        return
    assert limit - SLACK <= len(found.encode()) <= limit
    ends = {0: "", **{cluster.end(): cluster[0] for cluster in regex.finditer(r"\X", text)}}
    if len(found) not in ends:
        split = next(cluster for end, cluster in ends.items() if end > len(found))
        assert len(split.encode()) > SLACK


@pytest.mark.parametrize(
    "cluster",
    [FAMILY, FLAG, KEYCAP, ENGLAND, "e\u0301", "👍🏽", "각", "क्षि", "\r\n", "語", "🎈"],
    ids=ascii,
)
def test_what_looks_like_one_character_is_kept_or_left_out_as_a_whole(cluster: str) -> None:
    text = f"{'x' * 100}{cluster}{cluster}y"
    size = len(cluster.encode())
    for kept in (0, 1):
        for part in range(size):
            assert cut(text, 100 + kept * size + part) == "x" * 100 + cluster * kept


@pytest.mark.parametrize("letters", [1_000, 1_001])
def test_flags_are_kept_whole_in_a_row_of_any_length(letters: int) -> None:
    text = "x" * (letters % 2) + FLAG * 1_000
    whole = cut(text, 4 * letters).removeprefix("x")
    assert whole == FLAG * (len(whole) // 2)


def test_only_a_cluster_of_more_than_64_bytes_is_split_and_only_between_code_points() -> None:
    longest = "e" + "\u0301" * 31 + "\u20e3"  # 66 bytes
    assert cut(longest * 2, 64) == ""
    assert cut(longest * 2, 65) == "e" + "\u0301" * 31
    assert cut(longest * 2, 130) == longest
    assert cut(longest * 2, 131) == longest + "e" + "\u0301" * 31
    assert cut("🎈", 1) == cut("🎈", 3) == ""
