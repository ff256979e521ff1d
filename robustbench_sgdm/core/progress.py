"""Progress of what takes long, and how durations are written."""

import threading
from collections.abc import Callable

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
