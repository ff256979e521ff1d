"""Latency in words: one rule for when two latencies differ, and one way to write it."""

import pandas as pd

from robustbench_sgdm.tables.table import format_interval


def are_distinguishable(low: float, high: float) -> bool:
    """Whether a ratio of two times differs from 1: its 95 % interval excludes 1."""
    return low > 1 or high < 1


def format_time_ratio(ratio: float, low: float, high: float, first: str = "") -> str:
    """A ratio of two times with its interval, or that they are not distinguishable.

    Args:
        ratio: of a model's time over that of the first model.
        low, high: its interval.
        first: that model's name, if the context does not say it.

    >>> format_time_ratio(1.2, 1.1, 1.31), format_time_ratio(1.02, 0.97, 1.05, "yolov8n")
    ('1.20 [1.10, 1.31]', 'not distinguishable from yolov8n: 1.02 [0.97, 1.05]')
    """
    text = format_interval(ratio, low, high)
    if are_distinguishable(low, high):
        return f"{text} of {first}'s time" if first else text
    return f"not distinguishable{f' from {first}' if first else ''}: {text}"


def latency_summary(latency: pd.DataFrame) -> list[str]:
    """The time per image of each model, a line each, compared with the first model's.

    Args:
        latency: as of `Run.read_latency`.
    """
    lines = []
    for number, row in enumerate(latency.to_dict("records")):
        text = f"{row['model']} {row['milliseconds']:,.1f} ms"
        first = str(latency["model"].iloc[0])
        lines.append(
            f"{text}, {format_time_ratio(row['ratio'], row['low'], row['high'], first)}" if number else text
        )
    return lines
