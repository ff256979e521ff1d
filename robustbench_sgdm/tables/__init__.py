"""Tables from results: pure functions of frames, for the terminal, the report and documents alike."""

from robustbench_sgdm.tables.comparison import (
    class_interval_table,
    comparison_rows,
    comparison_tables,
    confidence_table,
    first_failure_tables,
    flip_table,
    half_severity_table,
    to_json,
    to_json_text,
)
from robustbench_sgdm.tables.csv_text import to_csv
from robustbench_sgdm.tables.document import to_document
from robustbench_sgdm.tables.image_quality import image_quality_table
from robustbench_sgdm.tables.latency import are_distinguishable, format_time_ratio, latency_summary
from robustbench_sgdm.tables.model_index import model_index
from robustbench_sgdm.tables.results import (
    METRICS_SHOWN,
    calibration_table,
    corruption_tables,
    error_table,
    means_table,
    measures_table,
    object_table,
    sizes_table,
)
from robustbench_sgdm.tables.score_tables import ScoreTables
from robustbench_sgdm.tables.shift import shift_tables
from robustbench_sgdm.tables.summary import (
    FLIPPED_IMAGES,
    CorruptionValue,
    FlippedImage,
    ModelCost,
    Ranking,
    Summary,
    curve_scope,
    flipped_images,
    model_costs,
    summarize,
    summary_tables,
)
from robustbench_sgdm.tables.table import (
    Table,
    format_interval,
    format_number,
    format_p_value,
    humanize,
    notes_once,
    split_columns,
    starred,
    to_latex,
    to_markdown,
)
from robustbench_sgdm.tables.training import training_table
from robustbench_sgdm.tables.verdict import (
    Verdict,
    describe_set,
    identical_sentence,
    ranking_verdict,
    verdicts,
)

__all__ = [
    "FLIPPED_IMAGES",
    "METRICS_SHOWN",
    "CorruptionValue",
    "FlippedImage",
    "ModelCost",
    "Ranking",
    "ScoreTables",
    "Summary",
    "Table",
    "Verdict",
    "are_distinguishable",
    "calibration_table",
    "class_interval_table",
    "comparison_rows",
    "comparison_tables",
    "confidence_table",
    "corruption_tables",
    "curve_scope",
    "describe_set",
    "error_table",
    "first_failure_tables",
    "flip_table",
    "flipped_images",
    "format_interval",
    "format_number",
    "format_p_value",
    "format_time_ratio",
    "half_severity_table",
    "humanize",
    "identical_sentence",
    "image_quality_table",
    "latency_summary",
    "means_table",
    "measures_table",
    "model_costs",
    "model_index",
    "notes_once",
    "object_table",
    "ranking_verdict",
    "shift_tables",
    "sizes_table",
    "split_columns",
    "starred",
    "summarize",
    "summary_tables",
    "to_csv",
    "to_document",
    "to_json",
    "to_json_text",
    "to_latex",
    "to_markdown",
    "training_table",
    "verdicts",
]
