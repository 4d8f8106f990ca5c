"""How databases and libpq's errors are shown."""

import pytest

from bus_server.store.postgres.connection import ConnectionLost, Database


def database(url: str) -> Database:
    return Database(url, "full", 1)


async def failure(url: str) -> str:
    """Returns why no connection to this database can be made."""
    with pytest.raises(ConnectionLost) as raised:
        await database(url).connect()
    return str(raised.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://user:secret@host:5433/bus", "postgresql://host:5433/bus"),
        ("host=h1,h2 dbname=bus user=u password=secret", "postgresql://h1,h2/bus"),
        ("postgresql://h1:1,h2:2/bus?user=u", "postgresql://h1:1,h2:2/bus"),
        ("postgresql://h1,h2/bus?port=5433", "postgresql://h1:5433,h2:5433/bus"),
        ("postgresql://[::1]:5433/bus", "postgresql://[::1]:5433/bus"),
        ("postgresql:///bus", "postgresql:///bus"),
        ("postgresql:///bus?host=/run/a,/run/b", "postgresql:///bus?host=/run/a,/run/b"),
        ("postgresql:///bus?host=/run/a&port=5433", "postgresql:///bus?host=/run/a&port=5433"),
        ("postgresql://?service=team", "postgresql:///?service=team"),
        ("postgresql:///bus?service=team", "postgresql:///bus?service=team"),
        ("postgresql://bus@host", "postgresql://host/bus"),
        ("postgresql://host/bus?options=-csearch_path%3Dother", "postgresql://host/bus"),
    ],
)
def test_a_database_is_named_without_user_and_password(url: str, name: str) -> None:
    assert str(database(url)) == name


def test_what_the_environment_says_is_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"HOST": "db", "PORT": "5433", "PASSWORD": "secret"}.items():
        monkeypatch.setenv(f"PG{variable}", value)
    assert str(database("postgresql:///bus")) == "postgresql://db:5433/bus"
    assert str(database("postgresql://other:1/bus")) == "postgresql://other:1/bus"
    assert str(database("postgresql:///bus?service=team")) == "postgresql:///bus?service=team"


async def test_a_reason_is_given_once_however_many_addresses_were_tried() -> None:
    assert await failure("postgresql://127.0.0.1:1/bus") == "Connection refused"
    assert await failure("postgresql://127.0.0.1:1,127.0.0.2:1/bus") == "Connection refused"
    assert await failure("postgresql:///bus?host=/nowhere") == "No such file or directory"


async def test_different_reasons_are_given_with_their_hosts_on_one_line() -> None:
    assert await failure("postgresql:///bus?host=/nowhere,127.0.0.1,127.0.0.2&port=1") == (
        "/nowhere:1: No such file or directory; 127.0.0.1:1, 127.0.0.2:1: Connection refused"
    )


async def test_a_host_that_cannot_be_resolved_is_reported() -> None:
    assert await failure("postgresql://no..host/bus") == "the name of its host is not valid"
    reason = await failure("postgresql://nowhere.invalid/bus")
    assert "nowhere.invalid" in reason
    assert "\n" not in reason
