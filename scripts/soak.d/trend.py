"""What grows: a line through a series of samples, and the bound for its growth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation, linear_regression, mean, median

#: How many standard errors a growth must be above its bound to count.
ERRORS = 2.0
#: The share of a run that is not fitted: caches fill, allocators settle, and each thing that is
#: done to the server now and then is done for the first time.
WARM_UP = 0.2
#: Samples that a fit needs.
LEAST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much a figure may grow from the end of the warm-up to the end of the run."""

    #: The name of the figure.
    figure: str
    #: The largest growth, in the figure's unit; the larger of the two counts.
    growth: float
    #: The same, as a share of where the line begins.
    share: float = 0.0
    #: The largest value of any sample, warm-up included; None: any.
    most: float | None = None
    #: Whether only samples count during which other processes left the machine alone.
    quiet: bool = False
    #: Why this much, and no more.
    why: str

    def limit(self) -> str:
        """Returns the largest growth as text, such as `5 or 5 %`."""
        parts = [f"{self.growth:g}"] if self.growth else []
        parts += [f"{self.share * 100:g} %"] if self.share else []
        return " or ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A figure over a run, by the line of least squares, and the verdict."""

    bound: Bound
    #: Medians of the first and the last tenth of what was fitted.
    first: float
    last: float
    #: Per hour, with its standard error.
    slope: float
    error: float
    #: Growth over what was fitted, and what of it is uncertain (ERRORS standard errors).
    growth: float
    uncertain: float
    #: The largest growth allowed.
    allowed: float
    #: The largest sample.
    most: float
    #: What is wrong; empty if nothing.
    wrong: str

    @property
    def unclear(self) -> bool:
        """Whether a growth beyond the bound could hide in the error."""
        return not self.wrong and self.growth + self.uncertain > self.allowed


def judge(bound: Bound, times: Sequence[float], values: Sequence[float], *, begin: float) -> Trend:
    """Returns the trend of a series, in which NaN stands for what was not measured.

    Raises ValueError with fewer than LEAST samples after `begin`.

    Args:
        times: of the samples, in seconds.
        begin: the time up to which the run warms up.
    """
    known = [(t, v) for t, v in zip(times, values, strict=True) if not math.isnan(v)]
    fitted = [(t, v) for t, v in known if t >= begin]
    if len(fitted) < LEAST:
        raise ValueError(f"{bound.figure}: {len(fitted)} samples, and a fit needs {LEAST}")
    at, series = [t for t, _ in fitted], [v for _, v in fitted]
    slope, start, error = fit(at, series)
    span = at[-1] - at[0]
    growth, uncertain = slope * span, ERRORS * error * span
    allowed = max(bound.growth, bound.share * max(start + slope * at[0], 0.0))
    most = max(v for _, v in known)
    wrong = ""
    if growth - uncertain > allowed:
        wrong = "GROWS"
    elif bound.most is not None and most > bound.most:
        wrong = "TOO HIGH"
    tenth = max(len(series) // 10, 1)
    return Trend(
        bound=bound,
        first=median(series[:tenth]),
        last=median(series[-tenth:]),
        slope=slope * 3600,
        error=error * 3600,
        growth=growth,
        uncertain=uncertain,
        allowed=allowed,
        most=most,
        wrong=wrong,
    )


def fit(times: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Returns slope, intercept and the slope's standard error, by least squares.

    Samples that follow each other are alike: memory is returned late, a backup lasts for several
    samples. So the error is that of as many independent samples as the correlation of each
    residual with the next one leaves: n (1 - r) / (1 + r). Without that, a slow wave would count as
    growth.
    """
    slope, intercept = linear_regression(times, values)
    left = [v - intercept - slope * t for t, v in zip(times, values, strict=True)]
    try:
        alike = min(max(correlation(left[:-1], left[1:]), 0.0), 0.95)
    except StatisticsError:  # all are equal
        alike = 0.0
    center = mean(times)
    spread = sum((t - center) ** 2 for t in times)
    variance = sum(each**2 for each in left) / (len(left) - 2) / spread
    return slope, intercept, math.sqrt(variance * (1 + alike) / (1 - alike))


def percentile(values: Sequence[float], part: float) -> float:
    """Returns the value that `part` percent are not above; NaN of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * part / 100) - 1, 0)] if ordered else math.nan
