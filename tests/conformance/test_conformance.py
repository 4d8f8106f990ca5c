"""Every case, in every language that can be built here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.breaks import BREAKS, broken_tree
from tests.conformance.cases import Case, load
from tests.conformance.driver import SharedDriver, driver
from tests.conformance.languages import Language, built, languages
from tests.conformance.matrix import PAGE, TITLES, rows
from tests.conformance.mixed import POSTS, mix
from tests.conformance.stage import stage
from tests.conformance.steps import play
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first run builds the clients


#: One language shows how a server on PostgreSQL responds; the others would receive the same.
LANGUAGES = [
    pytest.param(each, id=each.name, marks=[pytest.mark.sqlite] * ("python" not in each.name))
    for each in languages()
]


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> Language:
    """A language, built."""
    found: Language = request.param
    return built(found)


@pytest.fixture(scope="module")
async def shared_driver(language: Language) -> AsyncIterator[SharedDriver]:
    """The language's driver."""
    async with SharedDriver(language.name) as shared:
        yield shared


CASES = [pytest.param(case, id=case.name, marks=[pytest.mark.soak] * case.soak) for case in load()]


@pytest.mark.parametrize("case", CASES)
async def test_a_client_sees_what_the_case_says(
    language: Language, shared_driver: SharedDriver, case: Case, server: ServerProcess
) -> None:
    if language.name in case.without:
        pytest.skip("it cannot happen there")
    async with shared_driver.case() as running, stage(case, running, server) as ready:
        await play(ready, case.steps)


async def test_a_driver_exits_cleanly_at_the_end_of_its_input(
    language: Language, server: ServerProcess, thread: str
) -> None:
    async with driver(language.name) as running:  # which checks its exit code
        await running.ask("open", address=server.address)
        await running.ask("register", agent=thread, token=thread * 4)
        await running.ask("post", request={"thread": thread, "content": "x"})
        following = await running.give("follow", cursor={"thread": thread}, own=True)
        assert "message" in await following.next()


@pytest.mark.soak
@pytest.mark.usefixtures("chosen_store")
async def test_agents_in_all_languages_agree_though_their_server_is_killed() -> None:
    here = [language for language in languages() if not language.missing()]
    for each in here:
        each.build()
    assert await mix([each.name for each in here]) == POSTS * len(here)


def test_the_page_has_every_case_in_every_language_and_all_pass() -> None:
    table = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    titles = [TITLES[language.name] for language in languages()]
    assert table[0] == f"| | | {' | '.join(titles)} |"
    without = {case.name: case.without for case in load()}
    for line, (name, title) in zip(table[2:], rows(load()), strict=True):
        marks = ["–" if each.name in without.get(name, ()) else "✓" for each in languages()]
        assert line == f"| `{name}` | {title} | {' | '.join(marks)} |"


def test_every_edit_of_a_broken_rule_applies_to_the_server(tmp_path: Path) -> None:
    known = {case.name for case in load()}
    for broken in BREAKS:
        broken_tree(broken, tmp_path / broken.rule)
        assert broken.red | broken.perhaps <= known
