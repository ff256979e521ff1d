"""`robustbench leaderboard`: a static page that ranks the models of any number of runs."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.shared_options import ResamplesOption


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the site; its index.html is the page.")
    ] = Path("leaderboard"),
    resamples: ResamplesOption = 1000,
) -> None:
    """Write a leaderboard of runs as a static site: ranks with intervals, links to the reports.

    Models are ranked together if data, corruptions, severities, engine and seed are the same; others have tables of
    their own. Tables can be sorted and filtered. The page needs no server, and is readable without scripts. Reports are
    copied into the folder.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import info, progress_bars, warn

    with progress_bars() as progress:
        page, reasons = api.write_leaderboard(runs, out, resamples=resamples, progress=progress)
    for reason in reasons:
        warn(f"warning: {reason}")
    info(f"leaderboard {page}")
