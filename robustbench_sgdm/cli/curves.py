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
    """Draw box, cls and dfl loss against the epoch: a line per model, its seeds as a band."""
    from robustbench_sgdm import figures
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.errors import unknown
    from robustbench_sgdm.store import read_logs

    if split not in ("train", "val"):
        raise unknown("split", split, ("train", "val"))
    figures.save(figures.loss_curves(read_logs(runs, split), split, smooth), out)
    note(f"curves  {out}")
