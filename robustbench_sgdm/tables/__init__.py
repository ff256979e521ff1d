"""Tables from results: pure functions of frames, for the terminal, the report and documents alike."""

from robustbench_sgdm.tables.comparison import (
    comparison_rows,
    comparison_tables,
    flip_table,
    half_life_table,
    to_json,
)
from robustbench_sgdm.tables.damage import damage_table
from robustbench_sgdm.tables.latency import are_distinguishable, latency_lines, time_ratio
from robustbench_sgdm.tables.results import (
    METRICS_SHOWN,
    calibration_table,
    class_table,
    corruption_tables,
    error_table,
    means_table,
    object_table,
    sizes_table,
)
from robustbench_sgdm.tables.table import Table, interval, number, p_text, split, starred, to_markdown, words
from robustbench_sgdm.tables.training import training_table
from robustbench_sgdm.tables.verdict import Verdict, identical_words, named, verdicts

__all__ = [
    "METRICS_SHOWN",
    "Table",
    "Verdict",
    "are_distinguishable",
    "calibration_table",
    "class_table",
    "comparison_rows",
    "comparison_tables",
    "corruption_tables",
    "damage_table",
    "error_table",
    "flip_table",
    "half_life_table",
    "identical_words",
    "interval",
    "latency_lines",
    "means_table",
    "named",
    "number",
    "object_table",
    "p_text",
    "sizes_table",
    "split",
    "starred",
    "time_ratio",
    "to_json",
    "to_markdown",
    "training_table",
    "verdicts",
    "words",
]
