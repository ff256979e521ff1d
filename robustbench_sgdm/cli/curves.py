"""`robustbench curves`: loss curves of training runs."""

from pathlib import Path
from typing import Annotated

import typer


def curves(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of training runs or of comparisons, ours or Ultralytics', or results.csv files."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File to write; its ending decides: .svg, .png or .pdf.")
    ] = Path("curves.png"),
    split: Annotated[str, typer.Option("--split", help="Whose losses: train or val.")] = "train",
    smooth: Annotated[
        float,
        typer.Option("--smooth", min=0, max=1, help="Width of the smoothing window, share of the epochs."),
    ] = 0.02,
) -> None:
    """Draw box, cls and dfl loss against the epoch: a line per training, its seeds as a band.

    Runs are seeds of one training where their records (recipe.yaml or args.yaml beside results.csv) say the same model,
    data, classes, recipe, epochs and initial weights. Others get lines of their own, named by what differs or by folder.
    """
    from robustbench_sgdm import figures
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.core.errors import unknown_name_error
    from robustbench_sgdm.core.untrusted_input import short_list
    from robustbench_sgdm.store import read_logs, unrecorded

    if split not in ("train", "val"):
        raise unknown_name_error("split", split, ("train", "val"))
    logs = read_logs(runs, split)
    figures.save(figures.loss_curves(logs, split, smooth), out)
    if absent := unrecorded(logs):
        note(
            f"warning: no recipe.yaml or args.yaml lies beside {short_list(map(str, absent), 3)}: nothing says which are "
            "seeds of one training, so each has its own line"
        )
    note(f"curves  {out}")
