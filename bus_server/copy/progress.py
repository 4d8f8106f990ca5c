"""Shows on standard error how far a copy is."""

import sys
from time import monotonic

from bus_server.copy.copier import Progress

#: Seconds before the first line and between two; on a terminal, between two changes of the line.
INTERVAL, TERMINAL_INTERVAL = 5.0, 0.2


class ProgressLine:
    """A line that is replaced on a terminal; elsewhere, a new line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._interval = TERMINAL_INTERVAL if self._terminal else INTERVAL
        self._start = monotonic()
        self._next = self._start if self._terminal else self._start + INTERVAL
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Show how far the copy is, unless that was shown just now."""
        if monotonic() < self._next:
            return
        self._next = monotonic() + self._interval
        text = line(progress)
        if self._terminal:
            sys.stderr.write(f"\r{text:{self._width}}")
            self._width = len(text)
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    @property
    def elapsed(self) -> float:
        """Seconds since it was created."""
        return monotonic() - self._start

    def end(self) -> None:
        """End the line."""
        if self._width:
            sys.stderr.write("\n")
            self._width = 0


def line(progress: Progress) -> str:
    """Returns how far a copy is, in a line."""
    share = 100 * progress.done // progress.total if progress.total else 100
    parts = [f"{progress.phase}: {share}%", f"{progress.messages:,} messages"]
    parts += [f"{progress.bytes / 1e6:,.0f} MB"]
    if progress.elapsed > 0.5:
        rate = (progress.done - progress.resumed) / progress.elapsed
        parts.append(f"{rate:,.0f} rows/s")
        if progress.seconds_left is not None:
            parts.append(f"{duration(progress.seconds_left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Returns a time in words, such as "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
