"""Whether a model puts out the same as its baseline, so that there is nothing to compare."""

from collections.abc import Sequence

from robustbench_sgdm.store import Cell, Run

_LOOKED_AT = 2  # cells whose detections are compared, where the scores of all are equal


def identical(run: Run, pairs: Sequence[tuple[str, str]] | None = None) -> dict[tuple[str, str], str]:
    """The pairs whose models score the same in every cell and detect the same; why, in words.

    Args:
        run: whose cells are looked at.
        pairs: (baseline, model), names of `Run.groups`; by default the run's.
    """
    found = {}
    cells = {(c.model, c.corruption, c.severity): c for c in run.cells if run.store.complete(c)}
    for pair in run.pairs if pairs is None else pairs:
        trained = run.trainings(*pair)
        if all(_same(run, cells, *both) for both in trained):
            modules = [run.plan["models"][name].get("module") for name in trained[0]]
            found[pair] = "module untrained" if modules[1] and modules[1] != modules[0] else "same outputs"
    return found


def _same(run: Run, cells: dict[tuple[str, str, float], Cell], baseline: str, model: str) -> bool:
    both = [
        (cell, cells[baseline, corruption, severity])
        for (name, corruption, severity), cell in cells.items()
        if name == model and (baseline, corruption, severity) in cells
    ]
    scores = ([run.store.scores(cell) for cell in pair] for pair in both)
    if not both or any(one["metrics"] != two["metrics"] for one, two in scores):
        return False
    looked = [pair for pair in both if all(map(run.store.has_detections, pair))][:_LOOKED_AT]
    return bool(looked) and all(
        run.store.detections(one).equals(run.store.detections(two)) for one, two in looked
    )
