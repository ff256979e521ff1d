"""`robustbench dashboard`: options to the dashboard's server."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.core.constants import TOKEN_VARIABLE


def dashboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run directories to show; default: all in --project, newest first. "
            "The dashboard also reads the images and weights that they name, and the files that a visitor enters on the "
            "page Start."
        ),
    ] = None,
    project: Annotated[
        Path,
        typer.Option("--project", help="Folder of run directories; the page Start creates new ones in it."),
    ] = Path("runs/robustness"),
    training: Annotated[
        list[Path] | None,
        typer.Option(
            "--training", help="Folders of training runs for the page Training; repeatable. [runs/train]"
        ),
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--inputs",
            help="Folders of weights and data sets that the page Start may use; repeatable. [.]",
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            help="Address to listen on. If other machines can reach it, visitors need a token, with which they can see "
            "the runs and start new ones.",
        ),
    ] = "localhost",
    token: Annotated[
        bool,
        typer.Option(
            "--token",
            help="Ask for a token on this machine too, where other users and programs can reach the dashboard. "
            f"It is printed at the start; set ${TOKEN_VARIABLE} to choose your own.",
        ),
    ] = False,
) -> None:
    """Browse stored runs, compare detections image by image, try a photograph, start a run.

    Prints its address, listens on this machine only unless told otherwise, and stops with Ctrl-C. Runs that
    were started from it continue.
    """
    from robustbench_sgdm.cli.console import info
    from robustbench_sgdm.dashboard import server
    from robustbench_sgdm.dashboard.access import is_loopback
    from robustbench_sgdm.dashboard.sources import Sources

    address = address.strip("[]")  # of IPv6, as in a browser
    is_local = is_loopback(address)
    secret = server.make_token(required=token or not is_local)
    if secret and is_local:
        info(
            f"Visitors need the token {secret}; with it they can see the runs and start new ones. If your browser does "
            f"not find the address below, use http://localhost:{port}."
        )
    elif secret:
        info(
            f"warning: other machines can reach {address}, and the connection is not encrypted. Visitors need the token "
            f"{secret}; with it they can see the runs and start new ones. If only you need the dashboard, leave out "
            f"--address and use a tunnel: ssh -L {port}:localhost:{port} HOST"
        )
    folders = Sources(
        tuple(runs or ()), project, tuple(training or [Path("runs/train")]), tuple(inputs or ())
    )
    server.start(folders, address=address, port=port, token=secret)
