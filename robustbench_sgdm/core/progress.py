"""Progress of what takes long, and how durations are written."""

import threading
import time
from collections.abc import Callable, Mapping

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total), from any thread."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


def make_counter(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Turns counts of what was just done, from any thread, into calls of `progress`."""
    lock, done = threading.Lock(), 0

    def update(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(stage, done, total)

    return update


class JobClock:
    """How long a job of several parts, one after the other, still takes; a `Progress` for all of them.

    A stage that is called as a part begins it, and ends those before; any other stage belongs to the current part. Where
    a part counts what is done, its rate decides; the others take what was expected of them, times how much slower or
    faster than expected the job has been so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._part, self._began, self._done, self._total = "", self._start, 0, 0
        self.stage, self.counts = "", ""  # what is being done, and how much of it is

    def expect(self, parts: Mapping[str, float]) -> None:
        """Say how many seconds the parts take that are still to come, in order."""
        with self._lock:
            self._expected, self._took, self._part = dict(parts), {}, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """As `Progress`."""
        with self._lock:
            if stage in self._expected and stage != self._part:
                now = self._clock()
                if self._part:
                    self._took[self._part] = now - self._began
                self._part, self._began, self._done, self._total = stage, now, 0, 0
            if stage == self._part:
                self._done, self._total = done, total
            self.stage, self.counts = stage, f"{done:,}/{total:,}" if total > 1 else ""

    def elapsed(self) -> float:
        """Seconds since the job began."""
        return self._clock() - self._start

    def remaining(self) -> float | None:
        """Seconds that the job still takes; None where nothing is known yet."""
        with self._lock:
            if not self._part:
                return None
            spent, share = self._clock() - self._began, self._done / max(self._total, 1)
            part = self._expected[self._part]
            # What was expected counts as some seconds of the job, so that a short first part decides little.
            doubt = _DOUBT * sum(self._expected.values())
            before = doubt + sum(self._took.values())
            planned = doubt + sum(self._expected[name] for name in self._took)
            # The first of a part is slower than the rest, or quicker: its rate is trusted by and by.
            trust = min(share / _SURE, 1.0) if self._total > 1 else 0.0
            whole = part * _bounded(before / max(planned, _TINY))
            whole = max((1 - trust) * whole + (trust * spent / share if trust else 0.0), spent)
            pace = _bounded((before + trust * whole) / max(planned + trust * part, _TINY))
            names = list(self._expected)
            later = sum(self._expected[name] for name in names[names.index(self._part) + 1 :])
            return max(whole - spent, 0.0) + pace * later

    @property
    def share(self) -> float:
        """How much of the job's time is over, from 0 to 1."""
        remaining, elapsed = self.remaining(), self.elapsed()
        return 0.0 if remaining is None else elapsed / max(elapsed + remaining, _TINY)


_SURE = 0.1  # of a part is done when its rate alone counts
_DOUBT = 0.1  # of the expected seconds: how much they count beside what parts really took
_MOST_PACE = 4.0  # times slower or faster than expected that the rest of a job is thought to be
_TINY = 1e-9


def _bounded(pace: float) -> float:
    return min(max(pace, 1 / _MOST_PACE), _MOST_PACE)


def format_clock(seconds: float) -> str:
    """A time that runs, in hours, minutes and seconds.

    >>> format_clock(9), format_clock(185.6), format_clock(7300)
    ('0:09', '3:06', '2:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> format_duration(42), format_duration(185), format_duration(7300)
    ('42 s', '3 min', '2.0 h')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_duration_range(low: float, high: float) -> str:
    """A span of seconds as people say it.

    >>> format_duration_range(42, 185), format_duration_range(185, 310), format_duration_range(20, 20.4)
    ('42 s to 3 min', '3 to 5 min', 'about 20 s')
    """
    first, last = format_duration(low), format_duration(high)
    number, _, unit = first.partition(" ")
    if first == last:
        return f"about {first}"
    return f"{number if last.endswith(f' {unit}') else first} to {last}"
