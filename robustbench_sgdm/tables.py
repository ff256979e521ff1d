"""Tables from results: pure functions of a results frame, for the terminal and the report alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from robustbench_sgdm.types import CLEAN

METRICS_SHOWN = ("AP", "AP50", "AP_S")


@dataclass(frozen=True)
class Table:
    """A titled table of text cells; the first column labels the rows, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)


def number(value: float | None, *, signed: bool = False) -> str:
    """Two decimals, or a dash for what is absent.

    >>> number(42.978), number(1.7, signed=True), number(float("nan"))
    ('42.98', '+1.70', '–')
    """
    if value is None or pd.isna(value):
        return "–"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def corruption_tables(
    results: pd.DataFrame, pairs: Sequence[tuple[str, str]], metrics: Sequence[str] = METRICS_SHOWN
) -> list[Table]:
    """One table per corruption: a row per severity; per metric a column for each model and difference.

    Args:
        results: rows as in `results.csv`, metrics in percent.
        pairs: (baseline, model) whose difference model - baseline gets a column.
        metrics: columns of `results` to show.
    """
    if results.empty:
        return []
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN] or [CLEAN]
    return [_corruption_table(results, name, pairs, metrics) for name in corruptions]


def _corruption_table(
    results: pd.DataFrame, corruption: str, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> Table:
    chosen = results[results["corruption"].isin([CLEAN, corruption])]
    models = list(dict.fromkeys(results["model"]))
    values = {
        metric: chosen.pivot(index="severity", columns="model", values=metric).reindex(columns=models)
        for metric in metrics
    }
    columns = ["severity"]
    for metric in metrics:
        columns += [f"{metric} {m}" for m in models] + [f"{metric} {_delta(pair, pairs)}" for pair in pairs]
    rows = []
    for severity in sorted(chosen["severity"].unique()):
        row = ["0 (clean)" if severity == 0 else f"{severity:g}"]
        for metric in metrics:
            at = values[metric].loc[severity]
            row += [number(at[m]) for m in models]
            row += [number(at[model] - at[baseline], signed=True) for baseline, model in pairs]
        rows.append(row)
    return Table(corruption, columns, rows)


def _delta(pair: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> str:
    return "Δ" if len(pairs) == 1 else f"Δ {pair[1]}"


def damage_table(measured: Mapping[str, Sequence[tuple[float, float]]], where: str) -> Table:
    """A row per corruption, a column per severity.

    Args:
        measured: name -> (PSNR in dB, SSIM) at severities 1 to 5.
        where: the images, in words.
    """
    rows = [
        [name, *(f"{psnr:.1f} {ssim:.2f}".replace(" 0.", " .") for psnr, ssim in scores)]
        for name, scores in measured.items()
    ]
    columns = ["corruption", *(f"severity {severity}" for severity in range(1, 6))]
    return Table(
        "Damage", columns, rows, [f"PSNR in dB and SSIM against the clean image, means over {where}."]
    )
