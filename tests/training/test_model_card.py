"""The card beside a trained file: Markdown in which every name of the data is text."""

import json
from pathlib import Path
from typing import Any

from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.training import model_card


def test_a_card_shows_names_as_text() -> None:
    hostile = ["![x](http://away.invalid/x.png)", "a|b", "<img src=x>", "two\nlines", "\u202ecat", "`"]
    data = {
        "name": "`![d](http://away.invalid)`",
        "training images": 1,
        "validation images": 1,
        "classes": hostile,
    }
    meta = {
        "model": "# [m](http://away.invalid)",
        "start": "<b>",
        "recipe": "r|r",
        "licence": "L",
        "seconds": "60",
    }
    meta |= {"best_epoch": "1", "data": json.dumps(data), "versions": json.dumps({"<v>": "1|2"})}
    meta |= {"arguments": json.dumps({"epochs": 1, "device": "cpu", "seed": 0, "imgsz": 64})}
    weights: Any = type("Read", (), {"meta": meta, "sha256": "0", "path": Path("x")})
    scores = Scores(dict.fromkeys(METRICS, 1.0), dict.fromkeys(hostile, 50.0))
    card = model_card.model_card_text(weights, {64: scores}, ["<script>"])
    assert not set(card) & set("\u202e")
    assert "`![x](http://away.invalid/x.png)`" in card and "``` `![d]" not in card and "`` `![d](http" in card
    for forged in ("\n<img", " <img", "<script>", " <b>", "| a|b |", "# [m]", "<v>"):
        assert forged not in card.replace("\\<", "&lt;").replace("\\|", "&#124;").replace("\\[", "&#91;")
    rows = [line for line in card.replace("\\|", "").splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {3}
