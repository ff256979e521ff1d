"""Whether a model puts out the same as its baseline, so that there is nothing to compare."""

from collections.abc import Iterable, Sequence

from robustbench_sgdm.store import Cell, Run

_LOOKED_AT = 2  # cells whose detections are compared, where the scores of all are equal

Source = tuple[Run, str]
"""A model: its run, and its name there."""


def identical(run: Run, pairs: Sequence[tuple[str, str]] | None = None) -> dict[tuple[str, str], str]:
    """The pairs whose models score the same in every cell and detect the same; why, in words.

    Args:
        run: whose cells are looked at.
        pairs: (baseline, model), names of `Run.groups`; by default the run's.
    """
    found = {}
    for pair in run.baseline_pairs if pairs is None else pairs:
        if why := why_identical([((run, one), (run, two)) for one, two in run.match_trainings(*pair)]):
            found[pair] = why
    return found


def why_identical(trainings: Iterable[tuple[Source, Source]]) -> str:
    """Why all pairs (baseline, model) of trainings put out the same; empty where one does not.

    Args:
        trainings: of runs over the same images.
    """
    both = list(trainings)
    if not both or not all(_same(*pair) for pair in both):
        return ""
    modules = [run.manifest.models[name].module for run, name in both[0]]
    return "module untrained" if modules[1] and modules[1] != modules[0] else "same outputs"


def _same(baseline: Source, model: Source) -> bool:
    cells, others = _complete(*baseline), _complete(*model)
    both = [(cells[at], others[at]) for at in others if at in cells]
    stores = baseline[0].store, model[0].store
    scores = ([store.read_scores(cell) for store, cell in zip(stores, pair, strict=True)] for pair in both)
    if not both or any(one.metrics != two.metrics for one, two in scores):
        return False
    looked = [
        pair
        for pair in both
        if all(store.has_detections(cell) for store, cell in zip(stores, pair, strict=True))
    ][:_LOOKED_AT]
    return bool(looked) and all(
        stores[0].read_detections(one).equals(stores[1].read_detections(two)) for one, two in looked
    )


def _complete(run: Run, model: str) -> dict[tuple[str, float], Cell]:
    return {(c.corruption, c.severity): c for c in run.cells if c.model == model and run.store.is_complete(c)}
