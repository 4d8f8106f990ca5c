"""Every case, in every language that can be built here."""

import os

import pytest

from tests.conformance.cases import Case, load
from tests.conformance.driver import driver
from tests.conformance.languages import Language, languages
from tests.conformance.stage import stage
from tests.conformance.steps import play
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first builds what it tests


@pytest.fixture(scope="module", params=languages(), ids=lambda language: language.name)
def language(request: pytest.FixtureRequest) -> Language:
    """A language, built."""
    found: Language = request.param
    if missing := found.missing():
        assert os.environ.get("CI") != "true", missing
        pytest.skip(missing)
    found.build()
    return found


@pytest.mark.parametrize("case", load(), ids=lambda case: case.name)
async def test_a_client_sees_what_the_case_says(
    language: Language, case: Case, server: ServerProcess
) -> None:
    async with driver(language.name) as running, stage(case, running, server) as ready:
        await play(ready, case.steps)
