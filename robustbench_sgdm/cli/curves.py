"""`robustbench curves`: loss curves of training runs."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.config import LossSplit


def curves(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of trainings or of comparisons, ours or Ultralytics', or results.csv files."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .svg, .png or .pdf.")] = Path(
        "curves.png"
    ),
    split: Annotated[LossSplit, typer.Option("--split", help="Losses of this split.")] = "train",
    smooth: Annotated[
        float,
        typer.Option("--smooth", min=0, max=1, help="Width of the smoothing window, share of the epochs."),
    ] = 0.02,
) -> None:
    """Draw box, cls and dfl loss by epoch: a line per training, its seeds as a band.

    Runs are seeds of one training if their records (recipe.yaml or args.yaml beside results.csv) have the same model,
    data, classes, recipe, epochs and initial weights. Others get their own lines, labelled by what differs or by folder.
    """
    from robustbench_sgdm import api, figures
    from robustbench_sgdm.cli.console import info

    figures.check_suffix(out)
    figures.save_figure(api.loss_curves(list(runs), split=split, smooth=smooth), out)
    info(f"curves  {out}")
