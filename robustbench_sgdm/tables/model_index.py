"""Results as the `model-index` of a model card on Hugging Face.

The fields are those of https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.tables.score_tables import ScoreTables
from robustbench_sgdm.tables.verdict import describe_set


def model_index(score_tables: ScoreTables, metrics: Sequence[str], data: str, fingerprint: str) -> str:
    """P, mPC and rPC of every model as YAML, to be put into the front matter of its card.

    Args:
        score_tables: of a run.
        metrics: to state.
        data: name of the data set.
        fingerprint: of its images and ground truth.
    """
    corruption_set = next(iter(score_tables.sets), None)
    under = describe_set(corruption_set) if corruption_set else ""
    words = {"P": "{} on clean images", "mPC": f"mean {{}} under {under}", "rPC": "mPC of {} in percent of P"}
    records = {metric: score_tables.record(metric)["models"] for metric in metrics}
    models = []
    for number, name in enumerate(score_tables.models):
        stated = []
        for metric, by_model in records.items():
            for statistic, meaning in words.items():
                if value := by_model[number].get(statistic):
                    stated.append(
                        _metric(metric, statistic, meaning.format(metric), value, score_tables.level)
                    )
        result = {
            "task": {"type": "object-detection", "name": "Object detection"},
            "dataset": {"type": data, "name": data, "args": {"fingerprint": fingerprint}},
            "metrics": stated,
        }
        models.append({"name": name, "results": [result]})
    text: str = yaml.safe_dump({"model-index": models}, sort_keys=False, allow_unicode=True, width=110)
    return escape_control_chars(text, "\n")


def _metric(metric: str, statistic: str, text: str, value: dict[str, Any], level: float) -> dict[str, Any]:
    stated = {"type": f"{statistic}_{metric}", "name": text, "value": round(float(value["estimate"]), 2)}
    if value["low"] is not None:
        ends = [round(float(value[end]), 2) for end in ("low", "high")]
        stated["args"] = {"interval": ends, "level": level}
    return stated
