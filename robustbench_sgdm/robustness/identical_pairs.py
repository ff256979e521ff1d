"""Finds models with the same outputs as their baseline, so that there is nothing to compare."""

from collections.abc import Iterable, Sequence

from robustbench_sgdm.store import Cell, Run

_CHECKED_CELLS = 2  # whose detections are compared, if the scores of all cells are equal

Source = tuple[Run, str]
"""A model: its run, and its name there."""


def find_identical_pairs(
    run: Run, pairs: Sequence[tuple[str, str]] | None = None
) -> dict[tuple[str, str], str]:
    """The pairs whose models have the same scores in every cell and the same detections; with the reason, in words.

    Args:
        run: to search.
        pairs: (baseline, model), names of `Run.groups`; by default the run's.
    """
    reasons = {}
    for pair in run.baseline_pairs if pairs is None else pairs:
        if why := why_identical([((run, one), (run, two)) for one, two in run.match_trainings(*pair)]):
            reasons[pair] = why
    return reasons


def why_identical(trainings: Iterable[tuple[Source, Source]]) -> str:
    """Why all pairs (baseline, model) of trainings have the same outputs; empty if one does not.

    Args:
        trainings: of runs over the same images.
    """
    pairs = list(trainings)
    if not pairs or not all(_have_same_outputs(*pair) for pair in pairs):
        return ""
    modules = [run.manifest.models[name].module for run, name in pairs[0]]
    return "module untrained" if modules[1] and modules[1] != modules[0] else "same outputs"


def _have_same_outputs(baseline: Source, model: Source) -> bool:
    theirs, own = _complete_cells(*baseline), _complete_cells(*model)
    shared = [(theirs[at], own[at]) for at in own if at in theirs]
    stores = baseline[0].store, model[0].store
    scores = ([store.read_scores(cell) for store, cell in zip(stores, pair, strict=True)] for pair in shared)
    if not shared or any(one.metrics != two.metrics for one, two in scores):
        return False
    checked = [
        pair
        for pair in shared
        if all(store.has_detections(cell) for store, cell in zip(stores, pair, strict=True))
    ][:_CHECKED_CELLS]
    return bool(checked) and all(
        stores[0].read_detections(one).equals(stores[1].read_detections(two)) for one, two in checked
    )


def _complete_cells(run: Run, model: str) -> dict[tuple[str, float], Cell]:
    return {(c.corruption, c.severity): c for c in run.cells if c.model == model and run.store.is_complete(c)}
