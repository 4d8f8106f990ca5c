"""`scripts/failover`: the most telling scenes, with whole servers and few posts."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def failover(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/failover", *arguments], capture_output=True, text=True, check=False
    )


def played(scene: str) -> dict[str, float]:
    """Returns the figures of a scene, which holds."""
    done = failover("--posts", "400", scene)
    head, line, total = done.stdout.splitlines()
    assert re.match(r"1 ok, 0 FAILED", total), done.stdout + done.stderr
    assert done.returncode == 0
    names = re.findall(r"\S+(?: ms)?", head)[1:]
    name, *figures = line.split()[: len(names) + 1]
    assert name == scene
    return dict(zip(names, map(float, figures), strict=True))


# Each starts databases of its own; the fixture is here because it skips where there is none.
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize("scene", ["synchronous", "cancelled-commit"])
def test_what_a_standby_confirmed_is_neither_lost_nor_doubled(scene: str) -> None:
    figures = played(scene)
    assert figures["posts"] > 100
    assert (figures["lost"], figures["doubled"], figures["resyncs"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("postgres")
def test_what_an_asynchronous_standby_lacks_is_lost_once_and_readers_are_told() -> None:
    figures = played("asynchronous")
    assert figures["lost"] >= 50
    assert figures["resyncs"] > 0
    assert figures["doubled"] == 0


@pytest.mark.slow
def test_the_scenes_are_listed() -> None:
    listed = failover("--list")
    assert listed.returncode == 0, listed.stderr
    names = {line.split()[0] for line in listed.stdout.splitlines()}
    assert {"synchronous", "asynchronous", "hung"} <= names


@pytest.mark.slow
def test_an_unknown_scene_is_reported_with_the_known_ones() -> None:
    unknown = failover("nonsense")
    assert unknown.returncode == 2
    assert "asynchronous" in unknown.stderr
