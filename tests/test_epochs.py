"""Which entries two epochs of a thread share."""

import pytest

from bus_server.store.epochs import shared_seq

_OLD = "0123456789abcdef"


@pytest.mark.parametrize(
    ("epoch", "former", "shared"),
    [
        ("fedcba98.1f.01234567", _OLD, 31),
        ("fedcba98.0.01234567", _OLD, 0),
        ("aaaaaaaa.2.fedcba98", "fedcba98.1f.01234567", 2),
        ("aaaaaaaa.2.fedcba98", _OLD, None),
        ("fedcba98.1f.01234567", "fedcba98.1f.01234567", None),
        ("fedcba98.1f.01234567", "89abcdef01234567", None),
        ("fedcba98.1f.01234567", "", None),
        (_OLD, "fedcba98.1f.01234567", None),
        ("", "", None),
    ],
)
def test_an_epoch_names_what_it_shares_with_the_one_before(
    epoch: str, former: str, shared: int | None
) -> None:
    assert shared_seq(epoch, former) == shared
