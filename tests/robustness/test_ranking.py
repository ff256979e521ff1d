"""Ranks with intervals: every two networks are compared, p is corrected over all pairs."""

import itertools

import numpy as np
import pytest

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness import BootstrapSamples, CorruptionSet, Intervals, holm, rank_networks

FOG = CorruptionSet.from_product(["fog"], [1, 3])


def intervals(
    levels: dict[str, float], noise: float = 1.0, groups: dict[str, list[str]] | None = None
) -> Intervals:
    """Networks of independent resamples about a level: a difference has twice the variance of each."""
    rng = np.random.default_rng(0)

    def samples(level: float) -> BootstrapSamples:
        draws = rng.normal(0, noise, (1000, 1))
        return BootstrapSamples(np.array([level]), level + draws - draws.mean(), level + draws[:200] / 100)

    cells = {
        name: {cell: samples(level) for cell in [(CLEAN, 0.0), *FOG.cells]} for name, level in levels.items()
    }
    return Intervals(cells, {FOG: ""}, [], groups or {name: [name] for name in levels}, metrics=["AP"])


def test_ranks_are_bounded_by_what_is_significant() -> None:
    made = intervals({"low": 20.0, "middle": 30.0, "near": 30.5, "top": 40.0})
    ranks = rank_networks(made, "AP", FOG).set_index("model")
    assert ranks.index.tolist() == ["top", "near", "middle", "low"]
    assert ranks["place"].tolist() == [1, 2, 2, 4]
    assert ranks["first"].tolist() == [1, 2, 2, 4] and ranks["last"].tolist() == [1, 3, 3, 4]
    assert ranks["estimate"].tolist() == [40.0, 30.5, 30.0, 20.0]


def test_p_is_corrected_over_all_pairs_and_is_that_of_the_table() -> None:
    levels = {name: 30.0 + 0.9 * number for number, name in enumerate("abcdef")}
    made = intervals(levels)
    pairs = list(itertools.combinations(levels, 2))
    table = made.table(pairs=pairs)
    rows = table[(table["statistic"] == "mPC") & (table["baseline"] != "")]
    by_pair = dict(zip(zip(rows["baseline"], rows["model"], strict=True), rows["p"], strict=True))
    p = np.array([by_pair[pair] for pair in pairs])
    compared = made.compare_all("AP", FOG)
    assert [compared[pair] for pair in pairs] == pytest.approx(p.tolist(), rel=1e-12)
    significant = dict(zip(pairs, holm(p) < 0.05, strict=True))
    for rank in rank_networks(made, "AP", FOG).to_dict("records"):
        better = sum(significant[rank["model"], other] for other in levels if other > rank["model"])
        worse = sum(significant[other, rank["model"]] for other in levels if other < rank["model"])
        assert [rank["first"], rank["last"]] == [1 + better, len(levels) - worse]
    assert 0 < sum(significant.values()) < len(pairs)


def test_pairs_are_compared_as_in_the_table_where_samples_lack_or_never_vary() -> None:
    """Each pair of two kinds of samples: as many as usual, fewer, with gaps, of one image, none, and constant ones."""
    rng = np.random.default_rng(1)

    def samples(resamples: int, images: int, noise: float, gap: float) -> BootstrapSamples:
        draws = 30 + noise * rng.normal(size=(resamples, 1))
        draws[:1] += gap
        return BootstrapSamples(np.array([30.0]), draws, np.full((images, 1), 30.0))

    usual = [(50, 9, 1.0, 0.0), (50, 9, 1.0, 0.0), (40, 9, 1.0, 0.0), (50, 1, 1.0, 0.0), (0, 0, 1.0, 0.0)]
    kinds = [*usual, (50, 9, 0.0, 0.0), (50, 9, 0.0, 0.0), (50, 9, 1.0, np.nan)]
    cells = {f"m{n}": {(CLEAN, 0.0): samples(*kind)} for n, kind in enumerate(kinds)}
    cells["m6"][CLEAN, 0.0].estimate[:] = 31.0
    cells["m6"][CLEAN, 0.0].resamples[:] = 31.0
    made = Intervals(cells, {}, [], {name: [name] for name in cells}, metrics=["AP"])
    table = made.table(pairs=list(itertools.combinations(cells, 2)), sets=[])
    rows = table[(table["statistic"] == "P") & (table["baseline"] != "")]
    compared = [
        made.compare_all("AP", None)[pair] for pair in zip(rows["baseline"], rows["model"], strict=True)
    ]
    assert compared == pytest.approx(rows["p"].tolist(), rel=1e-12, nan_ok=True)
    assert len(rows) == 28 and 5 < rows["p"].isna().sum() < 28


def test_neighbours_that_overlap_share_a_place_as_a_chain() -> None:
    """a and c differ, and neither differs from b: no place is between them."""
    made = intervals({"a": 30.0, "b": 32.0, "c": 34.0})
    ranks = rank_networks(made, "AP", FOG).set_index("model")
    assert ranks.loc["a", "first"] == 2 and ranks.loc["c", "last"] == 2
    assert ranks["place"].tolist() == [1, 1, 1]


def test_networks_without_the_mean_are_left_out_and_clean_scores_rank_too() -> None:
    made = intervals({"a": 30.0, "b": 40.0})
    del made.cells["b"]["fog", 3.0]  # type: ignore[attr-defined]
    assert rank_networks(made, "AP", FOG)["model"].tolist() == ["a"]
    assert rank_networks(made, "AP", None)["model"].tolist() == ["b", "a"]


@pytest.mark.parametrize("spread", [0.1, 8.0])
def test_the_variance_between_trainings_counts(spread: float) -> None:
    levels = {"x0": 30.0 - spread, "x1": 30.0 + spread, "y0": 38.0 - spread, "y1": 38.0 + spread}
    made = intervals(levels, 0.2, {"x": ["x0", "x1"], "y": ["y0", "y1"]})
    ranks = rank_networks(made, "AP", FOG)
    assert ranks["model"].tolist() == ["y", "x"]
    assert ranks["last"].tolist() == ([1, 2] if spread < 1 else [2, 2])
