"""The SGDM paper's tables, recomputed: pure functions of `tables.yaml` and the zoo."""

from robustbench_sgdm.paper.printed_numbers import Judgement, PrintedNumber, judge_number, paper_data
from robustbench_sgdm.paper.recomputation import (
    LATENCY,
    TABLES,
    latency_models,
    latency_numbers,
    measure_times,
    recompute,
)
from robustbench_sgdm.paper.rendering import to_csv, to_table

__all__ = [
    "LATENCY",
    "TABLES",
    "Judgement",
    "PrintedNumber",
    "judge_number",
    "latency_models",
    "latency_numbers",
    "measure_times",
    "paper_data",
    "recompute",
    "to_csv",
    "to_table",
]
