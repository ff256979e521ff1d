"""`robustbench results`, and the options of `run` for scripts: a table per metric, closing lines, JSON, a model card."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.cells import cell_len

import robustbench_sgdm as rb
from robustbench_sgdm import tables
from robustbench_sgdm.cli import console
from robustbench_sgdm.cli.compare import _rows_that_fit
from robustbench_sgdm.robustness import bootstrap_intervals
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import Table
from tests.support.synthetic_runs import make_run, rewrite

LEVELS = {"gaussian_noise": [1, 2, 3, 4, 5], "elastic_transform": [1, 3]}


@pytest.fixture
def pair(tmp_path: Path) -> Run:
    return make_run(tmp_path, "pair", ["base", "base-module"], LEVELS, images=6, resamples=True)


@pytest.fixture
def many(tmp_path: Path) -> Run:
    run = make_run(tmp_path, "many", list("abcdefghij"), {"fog": [1, 3]}, images=6, resamples=True)
    return rewrite(run, models={name: {"baseline": None} for name in "abcdefghij"})


def test_a_run_is_a_table_per_metric_and_five_lines(pair: Run, command: Callable[..., str]) -> None:
    printed = command("results", str(pair.path))
    lines = printed.splitlines()
    assert [line for line in lines if line.endswith("its difference from base")] == [
        f"{metric} (%) of base, base-module and its difference from base" for metric in ("AP", "AP50", "AP_S")
    ]
    assert sum(line.startswith("clean ") for line in lines) == 3
    (terms,) = [line for line in lines if line.startswith("AP_S: AP of small objects")]
    assert "Holm's correction: raises p-values" in terms
    labels = [line.partition(" ")[0] for line in lines[-6:]]
    assert labels == ["P", "mPC", "rPC", "difference", "verdict", "results"]
    table = bootstrap_intervals(pair).table(["AP"])
    row = table[(table["statistic"] == "mPC") & (table["baseline"] == "base")].iloc[0]
    ends = f"{row['estimate']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
    assert ends in lines[-3] and "base-module scores higher than base" in lines[-2]


def test_a_run_without_intervals_says_why(pair: Run, command: Callable[..., str]) -> None:
    for folder in ("ground_truth", "statistics"):
        pair.files.remove_folder(folder)
    lines = command("results", str(pair.path), "--all").splitlines()
    (why,) = [line for line in lines if line.startswith("intervals ")]
    assert "ground_truth" in why and not any(line.startswith("verdict") for line in lines)
    assert not any("significant" in line or "95 % interval" in line for line in lines)
    (record, *_) = json.loads(command("results", str(pair.path), "--format", "json"))["metrics"]
    assert why.endswith(record["reason"]) and record["models"][0]["mPC"]["low"] is None


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tables_fit(
    pair: Run, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(console.out, "width", width)
    printed = command("results", str(pair.path)).partition("\nP  ")[0]
    tables = [line for line in printed.splitlines() if not line.startswith(("*:", "AP_S: ", "Differences "))]
    assert max(map(len, tables)) <= width
    ap = pair.results().set_index(["model", "corruption", "severity"])["AP"]
    for severity in LEVELS["gaussian_noise"]:
        assert f"{ap['base-module', 'gaussian_noise', severity]:.2f} +1.00" in printed


def test_many_models_are_ranked(many: Run, command: Callable[..., str]) -> None:
    lines = command("results", str(many.path)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Ranking by mPC of AP"))
    assert [line[0] for line in lines[start + 3 : start + 13]] == list("jihgfedcba")
    verdicts = [line for line in lines if line.startswith("verdict")]
    assert (
        len(verdicts) == 1 and "Any of j and i may be first of 10 under fog at severities 1, 3" in verdicts[0]
    )
    table = bootstrap_intervals(many).table(["AP"], pairs=[("i", "j")])
    means = table[(table["statistic"] == "mPC") & (table["over"] == "fog at 1, 3")]
    own, ahead = (
        means[(means["model"] == "j") & (means["baseline"] == baseline)].iloc[0] for baseline in ("", "i")
    )
    closing = {line.split()[0]: line for line in lines[-7:-2]}  # then two lines of standard error
    assert [*closing] == ["P", "mPC", "rPC", "difference", "verdict"]
    assert f"j {tables.format_interval(*own[['estimate', 'low', 'high']])}" in closing["mPC"]
    assert (
        "best of 10" in closing["mPC"] and " mPC, j minus i (interval not corrected" in closing["difference"]
    )
    ends = tables.format_interval(*ahead[["estimate", "low", "high"]], signed=True)
    assert ends in closing["difference"]


@pytest.mark.parametrize("baseline", [(), ("--baseline", "a")])
def test_a_comparison_of_many_fits_a_small_terminal(
    many: Run, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch, baseline: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(console.out, "width", 80)
    lines = command("compare", str(many.path), *baseline).splitlines()
    assert len(lines) < 60 and max(map(cell_len, lines)) <= 80
    said = " ".join(lines)
    assert "Any of j and i may be first of 10" in said
    assert ("verdicts" in said.partition("Not shown: ")[2]) == bool(baseline)
    every = command("compare", str(many.path), *baseline, "--all")
    assert all(f"{name} scores higher than a" in " ".join(every.split()) for name in "cdefghij")


def test_a_long_comparison_says_what_it_leaves_out(tmp_path: Path, command: Callable[..., str]) -> None:
    names = [f"corruption_{number}" for number in range(60)]
    run = make_run(tmp_path, "long", ["a", "b", "c"], {n: [3] for n in names}, images=6, resamples=True)
    printed = command("compare", str(run.path))
    assert len(printed.splitlines()) < 60 and "Not shown: AP (%), mean over severities" in printed
    ranking = [Table("t", ["model", "place"], [[f"m{number}", "1"] for number in range(300)], ["a note"])]
    assert _rows_that_fit(ranking, 50) == 50 - len(console.compact_lines([replace(ranking[0], rows=[])]))
    assert "corruption 59" in command("compare", str(run.path), "--all")


def test_json_has_the_numbers_of_the_table(pair: Run, command: Callable[..., str]) -> None:
    record = json.loads(command("results", str(pair.path), "--format", "json"))
    assert record["run"] == str(pair.path) and record["missing"] == []
    ap, *others = record["metrics"]
    assert [one["metric"] for one in others] == ["AP50", "AP_S"]
    table = bootstrap_intervals(pair).table(["AP"])
    first = table[table["over"] == table.loc[table["statistic"] == "mPC", "over"].iloc[0]]
    for model in ap["models"]:
        row = first[
            (first["model"] == model["model"]) & (first["baseline"] == "") & (first["statistic"] == "rPC")
        ]
        assert model["rPC"]["estimate"] == row["estimate"].item() and model["rPC"]["low"] == row["low"].item()
    (difference,) = ap["differences"]
    assert difference["outcome"] == "higher" and difference["mPC"]["significant"] is True


def test_a_model_card_states_the_results(pair: Run, command: Callable[..., str], tmp_path: Path) -> None:
    command("results", str(pair.path), "--format", "model-card", "--out", "card.yaml")
    (base, module) = yaml.safe_load((tmp_path / "card.yaml").read_text("utf-8"))["model-index"]
    assert base["name"] == "base" and module["name"] == "base-module"
    (result,) = module["results"]
    assert result["task"]["type"] == "object-detection" and result["dataset"]["name"] == "made"
    values = {one["type"]: one["value"] for one in result["metrics"]}
    assert values["P_AP"] == 46.0 and set(values) == {
        f"{statistic}_{metric}" for statistic in ("P", "mPC", "rPC") for metric in ("AP", "AP50", "AP_S")
    }


def test_a_model_card_hides_no_character(pair: Run) -> None:
    scores = rb.Run(pair).analysis().score_tables
    text = tables.model_index(scores, ["AP"], "d\u202e\x1b", "f")
    assert text.replace("\n", "").isprintable()


def test_documents_and_errors(pair: Run, command: Callable[..., str]) -> None:
    frame = pd.read_csv(pair.path / "results.csv")
    assert len(command("results", str(pair.path), "--format", "csv").splitlines()) == len(frame) + 1
    assert "| gaussian noise |" in command("results", str(pair.path), "--format", "markdown")
    text = command("results", str(pair.path), "--format", "latex", "--all")
    captions = re.findall(r"\\caption{(.+)}", text)
    for name in (
        *(
            "gaussian noise",
            "Means of AP",
            "AP by size",
            "Severity at which half",
            "Severity at which an object",
        ),
        *("Outcomes of the objects", "AP50 lost", "Calibration error", "Measures at the operating"),
    ):
        assert any(caption.startswith(name) for caption in captions), name
    assert "choose one of them" in command("results", str(pair.path), "--out", "x", code=2)
    assert "Holm" in command("results", str(pair.path), "--all")


def test_names_of_eighty_characters_and_wide_letters_fold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", 80)
    rows = [["a-very-long-label " * 4, "12.34", "56.78 +1.00"], ["検出器" * 4, "1.00", "2.00"]]
    console.print_compact([Table("t", ["corruption", "x" * 80, "検出" * 20], rows)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert re.sub(r"\s", "", "".join(lines)).count("x") >= 80


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with console.quiet():
        console.info("a note")
        console.warn("a warning")
    console.info("another note")
    assert capsys.readouterr().err == "a warning\nanother note\n"
