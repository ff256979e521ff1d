"""Writes `run_directory.md`, beside this file, from `robustbench_sgdm.store.schema`.

python docs/run_directory.py
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from robustbench_sgdm.store import schema
from robustbench_sgdm.store.runs import IMAGE_QUALITY, LATENCY, RESULTS

RECORDS = (
    *("Manifest", "RecordedConfig", "ModelInfo", "DatasetInfo", "CorruptionInfo", "Settings", "Cell"),
    *("CellScores", "ErrorAnalysis", "TrainingResult", "Recipe", "ComparisonRecipe", "DashboardJob"),
)

HEAD = f"""# Files of a run directory

Written by `docs/run_directory.py` from `robustbench_sgdm/store/schema.py`, which checks every json and YAML file when
it is read. Nothing but pandas and json is needed to read a run:

    import json, pandas as pd
    results = pd.read_csv("runs/robustness/r/results.csv")
    manifest = json.load(open("runs/robustness/r/manifest.json"))
    baselines = {{name: model["baseline"] for name, model in manifest["models"].items()}}

| file | holds |
|---|---|
| `manifest.json` | everything needed to do the run again, and its cells; `schema` is {schema.SCHEMA} |
| `results.csv` | a row for each complete cell: {", ".join(RESULTS)} |
| `latency.csv` | a row for each model: {", ".join(LATENCY)} |
| `image_quality.csv` | PSNR and SSIM of corrupted images: {", ".join(IMAGE_QUALITY)} |
| `cells/<model>/<corruption>/<severity>/` | `detections.parquet` (boxes in px) and `scores.json` |
| `ground_truth/` | `images.parquet`, `annotations.parquet`, `categories.parquet`, as they were scored |
| `statistics/`, `images/`, `figures/` | what was computed and drawn from the cells, and can be made again |
| `report.html`, `report.pdf` | the report |
| `dashboard.json`, `dashboard.log` | of a run that a dashboard started |

A directory of another schema is refused in one line. A field that this version does not know is kept and not used:
later versions add fields that readers can do without, and raise the number for any other change. Directories of
schema {schema.SCHEMA - 1} (`{schema.FIRST_MANIFEST}`) get a manifest from `robustbench run --exist-ok`, which keeps
their cells.
"""


def page() -> str:
    """The page's text."""
    return HEAD + "".join(_section(getattr(schema, name)) for name in RECORDS)


def _section(record: type) -> str:
    about, _, _ = (inspect.getdoc(record) or "").partition("\n")
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in attributes(record))
    return f"\n## {record.__name__}\n\n{about}\n\n| field | what it is |\n|---|---|\n{rows}"


def attributes(record: type) -> Iterator[tuple[str, str]]:
    """The fields that a record's docstring lists, and what it says of each."""
    _, _, listed = (inspect.getdoc(record) or "").partition("Attributes:\n")
    for match in re.finditer(r"^    (\w+): (.+(?:\n {8}.+)*)", listed, re.MULTILINE):
        yield match[1], " ".join(match[2].split())


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), "utf-8")
