"""Tables from results: pure functions of frames, for the terminal, the report and documents alike."""

from robustbench_sgdm.tables.comparison import (
    comparison_rows,
    comparison_tables,
    flip_table,
    half_life_table,
    to_json,
)
from robustbench_sgdm.tables.damage import damage_table
from robustbench_sgdm.tables.results import (
    METRICS_SHOWN,
    calibration_table,
    class_table,
    corruption_tables,
    error_table,
    means_table,
    sizes_table,
)
from robustbench_sgdm.tables.table import Table, interval, number, p_text, split, to_markdown, words
from robustbench_sgdm.tables.training import training_table

__all__ = [
    "METRICS_SHOWN",
    "Table",
    "calibration_table",
    "class_table",
    "comparison_rows",
    "comparison_tables",
    "corruption_tables",
    "damage_table",
    "error_table",
    "flip_table",
    "half_life_table",
    "interval",
    "means_table",
    "number",
    "p_text",
    "sizes_table",
    "split",
    "to_json",
    "to_markdown",
    "training_table",
    "words",
]
