"""scripts/soak: what grows is recognised, and a short run finds nothing."""

import importlib
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bus_client import Message

SCRIPT = Path(__file__).parents[1] / "scripts/soak.d"
#: Figures that other work on the machine raises, too.
OF_THE_MACHINE = {"cpu %", "post p50 ms", "post p99 ms", "wake p50 ms", "wake p99 ms"}
#: A sample every 5 s, for half an hour.
TIMES = [5.0 * n for n in range(360)]
BEGIN = 360.0


@pytest.fixture(scope="module")
def modules() -> Iterator[Callable[[str], Any]]:
    """Imports a module of the script. No other test finds it by that name."""
    before, path = set(sys.modules), [*sys.path]
    sys.path.insert(0, str(SCRIPT))
    yield importlib.import_module
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(SCRIPT.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def judged(modules: Callable[[str], Any]) -> Callable[..., Any]:
    """Judges a series of samples by a bound of 5, or by others."""

    def judge(values: list[float], **bound: Any) -> Any:
        trend = modules("trend")
        fields = {"figure": "memory MB", "growth": 5.0, "why": ""} | bound
        return trend.judge(trend.Bound(**fields), TIMES, values, begin=BEGIN)

    return judge


def noise(size: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)  # noqa: S311
    return [chance.gauss(0, size) for _ in TIMES]


def ramp(by: float, size: float) -> list[float]:
    """A line that begins at 80, with noise."""
    wave = zip(TIMES, noise(size), strict=True)
    return [80 + by * t / TIMES[-1] + each for t, each in wave]


def wander(size: float, seed: int) -> list[float]:
    """Noise in which each sample is much like the one before, around a fixed level."""
    at, found = 0.0, []
    for step in noise(size, seed):
        at = 0.9 * at + step
        found.append(at)
    return found


# ── What grows ────────────────────────────────────────────────────────────────────────────────────


def test_a_line_is_found_with_its_error(modules: Callable[[str], Any]) -> None:
    exact = [3 + 0.5 * t for t in TIMES]
    assert modules("trend").fit(TIMES, exact) == pytest.approx((0.5, 3, 0), abs=1e-9)
    # In closed form: noise / sqrt(sum of squared distances from the mean time).
    spread = 5 * math.sqrt(360 * (360**2 - 1) / 12)
    slope, _, error = modules("trend").fit(TIMES, noise(2.0))
    assert error == pytest.approx(2 / spread, rel=0.2)
    assert abs(slope) < 3 * error


def test_samples_that_are_alike_make_the_error_larger(modules: Callable[[str], Any]) -> None:
    fit = modules("trend").fit
    found = [fit(TIMES, wander(1.0, seed)) for seed in range(40)]
    # Without growth, two standard errors hold in 95 of 100 series; 3 of 40 outside are few enough.
    assert sum(abs(slope) > 2 * error for slope, _, error in found) <= 5


def test_what_stays_as_it_is_passes(judged: Callable[..., Any]) -> None:
    for seed in range(20):
        trend = judged([80 + each for each in noise(1.0, seed)])
        assert not trend.wrong
        assert not trend.unclear
        assert trend.first == pytest.approx(80, abs=1)


def test_what_grows_in_the_warm_up_only_passes(judged: Callable[..., Any]) -> None:
    assert not judged([min(t, BEGIN) / 10 for t in TIMES]).wrong


@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
def test_what_grows_beyond_its_bound_fails(judged: Callable[..., Any], size: float) -> None:
    trend = judged(ramp(10, size))
    assert trend.wrong == "GROWS"
    assert trend.growth == pytest.approx(8, abs=2)
    assert trend.slope == pytest.approx(10 / TIMES[-1] * 3600, rel=0.2)


def test_steps_are_found(judged: Callable[..., Any]) -> None:
    """Memory that is not returned after each backup."""
    assert judged([80.0 + 2 * (t // 225) for t in TIMES]).wrong == "GROWS"


def test_what_grows_less_than_its_bound_passes(judged: Callable[..., Any]) -> None:
    trend = judged(ramp(4, 0.1))
    assert (trend.wrong, trend.unclear) == ("", False)


def test_a_bound_may_be_a_share_of_the_level(judged: Callable[..., Any]) -> None:
    double = [4 + 4 * t / TIMES[-1] for t in TIMES]
    assert judged(double, growth=0.0, share=0.5).wrong == "GROWS"
    assert not judged(double, growth=0.0, share=1.0).wrong


def test_noise_in_which_growth_could_hide_is_unclear(judged: Callable[..., Any]) -> None:
    trend = judged([80 + each for each in noise(60.0)])
    assert (trend.wrong, trend.unclear) == ("", True)


def test_a_single_sample_may_be_too_high(judged: Callable[..., Any]) -> None:
    values = [4.0] * len(TIMES)
    values[3] = 100.0
    assert not judged(values, growth=1.0).wrong
    assert judged(values, growth=1.0, most=64.0).wrong == "TOO HIGH"


def test_what_was_not_measured_is_left_out(judged: Callable[..., Any]) -> None:
    assert not judged([math.nan if n % 3 else 5.0 for n in range(len(TIMES))]).wrong
    with pytest.raises(ValueError, match="0 samples"):
        judged([math.nan] * len(TIMES))


def test_samples_that_others_disturbed_are_left_out(modules: Callable[[str], Any]) -> None:
    samples = modules("samples")
    taken = [{"cpu %": 20.0, "others": 0.1}, {"cpu %": 50.0, "others": 0.9}]
    quiet = samples.Sampler.quiet(SimpleNamespace(samples=taken), "cpu %")
    assert quiet == [20.0, pytest.approx(math.nan, nan_ok=True)]
    assert {bound.figure for bound in samples.BOUNDS if bound.quiet} == OF_THE_MACHINE


def test_percentiles(modules: Callable[[str], Any]) -> None:
    percentile = modules("trend").percentile
    assert [percentile(range(1, 101), part) for part in (50, 99, 100)] == [50, 99, 100]
    assert percentile([7.0], 1) == 7.0
    assert math.isnan(percentile([], 50))


# ── What must hold at the end ─────────────────────────────────────────────────────────────────────


def stored(*numbers: str) -> list[Message]:
    return [
        Message(thread="red", seq=seq, sender="ann", content=f"{number} 7 …", request_id=number)
        for seq, number in enumerate(numbers, 1)
    ]


ACKNOWLEDGED = [("red", 1, "a/1"), ("red", 2, "a/2"), ("blue", 1, "a/3")]


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        (["a/1", "a/2"], ""),
        (["a/1", "a/2", "of an agent that was killed"], ""),
        (["a/1"], "1 acknowledged posts are lost, such as (2, 'a/2')"),
        (["a/2", "a/1"], "2 acknowledged posts are lost"),
        (["a/1", "a/2", "a/1"], "1 posts are stored twice"),
    ],
)
def test_posts_that_are_lost_or_stored_twice_are_found(
    modules: Callable[[str], Any], numbers: list[str], problem: str
) -> None:
    problems = modules("checks").posts("red", stored(*numbers), ACKNOWLEDGED)
    assert problem in "".join(problems)
    assert bool(problems) is bool(problem)


def test_a_gap_is_found(modules: Callable[[str], Any]) -> None:
    first, _, third = stored("a/1", "a/2", "a/3")
    assert modules("checks").posts("red", [first, third], []) == ["red: the seqs have gaps"]


def test_a_follower_that_received_something_else_is_found(modules: Callable[[str], Any]) -> None:
    following, checks, report = modules("following"), modules("checks"), modules("reporting")
    messages = stored("a/1", "a/2")
    for received, right in (
        (messages, True),
        (messages[:1], False),
        ([messages[0], *stored("a/1", "a/9")[1:]], False),
    ):
        follower = following.Follower("fay", "", ["red"], measured=False)
        for message in received:
            follower.take(message, report.Report())
        problems = checks.followers({"fay": follower.received()}, {"red": messages})
        assert (problems == []) is right


@pytest.mark.parametrize("order", [[2], [1, 1], [1, 3]])
def test_a_follower_tells_of_a_message_that_is_not_the_next_one(
    modules: Callable[[str], Any], order: list[int]
) -> None:
    report, messages = modules("reporting").Report(), stored("a/1", "a/2", "a/3")
    follower = modules("following").Follower("fay", "", ["red"], measured=False)
    for seq in order:
        follower.take(messages[seq - 1], report)
    (problem,) = report.problems
    assert "was due" in problem


def test_a_backup_has_what_was_stored_before_it_and_perhaps_more(
    modules: Callable[[str], Any],
) -> None:
    messages, restored = stored("a/1", "a/2", "a/3"), modules("checks").restored
    assert restored("b", messages[:2], messages, head=2) == []
    assert restored("b", messages, messages, head=2) == []
    assert "has 1 messages" in "".join(restored("b", messages[:1], messages, head=2))
    other = stored("a/1", "a/9", "a/3")
    assert "seq 2" in "".join(restored("b", other, messages, head=2))
    assert "seq 2" in "".join(restored("b", other, messages, head=1))
    notice = Message(thread="red", seq=3, sender="ann")
    notice.notice.SetInParent()
    assert restored("b", [*messages[:2], notice], messages, head=2) == []
    assert restored("b", [*messages[:2], notice], messages, head=3) != []


# ── Runs ──────────────────────────────────────────────────────────────────────────────────────────


def run(tmp_path: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the script for some seconds. Returns its exit code, its figures, and what it printed."""
    file = tmp_path / "figures.json"
    # So that agents that were killed soon count as gone.
    flags = ("--agent-timeout", "3", "--heartbeat-interval", "1", "--working-timeout", "3")
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPT / "run.py"), "--minutes=0.25", f"--json={file}"),
            *(*options, "--", *flags),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert file.exists(), shown
    return done.returncode, json.loads(file.read_text("utf-8")), shown


def growing(figures: dict[str, Any]) -> set[str]:
    return {trend["bound"]["figure"] for trend in figures["trends"] if trend["wrong"]}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    code, figures, shown = run(tmp_path)
    assert figures["problems"] == [], shown
    # A disk that gets busy meanwhile is not noticed, and posts take longer.
    assert growing(figures) <= OF_THE_MACHINE, shown
    assert code == bool(growing(figures))
    for event in ("backups", "reloads", "kills of the sibling", "visits", "threads deleted"):
        assert figures["events"][event] > 0


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_connections_that_are_never_closed_are_found(tmp_path: Path) -> None:
    code, figures, shown = run(tmp_path, "--control", "leak")
    assert code == 1, shown
    assert growing(figures) >= {"descriptors"}, shown
    assert "GROWS" in shown
    assert "SOMETHING IS WRONG" in shown


@pytest.mark.slow
def test_wrong_usage_is_refused() -> None:
    for options in (["--minutes", "0"], ["--minutes", "x"], ["--control", "none"]):
        done = subprocess.run(
            [sys.executable, SCRIPT / "run.py", *options], capture_output=True, check=False
        )
        assert done.returncode == 2
