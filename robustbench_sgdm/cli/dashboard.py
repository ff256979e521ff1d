"""`robustbench dashboard`: the Streamlit app on stored runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.types import TOKEN

if TYPE_CHECKING:
    import logging


def dashboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run directories to show; all of --project, the newest first, where none is given. "
            "Beside these, the images and weights that they name are read, and what a visitor gives the page Run."
        ),
    ] = None,
    project: Annotated[
        Path, typer.Option("--project", help="Folder of run directories; the page Run makes new ones in it.")
    ] = Path("runs/robustness"),
    training: Annotated[
        list[Path] | None,
        typer.Option(
            "--training", help="Folders of training runs for the page Training; may be repeated. [runs/train]"
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            help="Where to listen. Beyond this machine visitors need a token, printed at the start "
            f"or given as {TOKEN}; who has it can see the runs and start new ones.",
        ),
    ] = "localhost",
) -> None:
    """Browse stored runs, compare detections image by image, try a photograph, start a run.

    Prints its address, listens on this machine only unless told otherwise, and stops with Ctrl-C. Runs that
    were started from it go on.
    """
    import os
    import secrets
    import sys

    from robustbench_sgdm import content
    from robustbench_sgdm.cli.console import note

    if not _is_local(address):
        token = os.environ[TOKEN] = os.environ.get(TOKEN) or secrets.token_urlsafe(24)  # "" would let all in
        note(
            f"warning: {address} is reached from other machines, and what is sent is not encrypted. Visitors must know "
            f"the token {token}, and can then see the runs and start new ones. For yourself alone, leave out --address "
            f"and tunnel: ssh -L {port}:localhost:{port} HOST"
        )

    settings = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.maxUploadSize": 20,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "logger.level": "warning",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    start = f"from robustbench_sgdm.cli.dashboard import serve; serve(local={_is_local(address)})"
    words = [sys.executable, "-P", "-c", start, "run", str(content.root() / "app" / "main.py")]
    words += [f"--{key}={value}" for key, value in settings.items()]
    words += ["--", "--project", str(project)]
    words += [word for folder in training or [Path("runs/train")] for word in ("--training", str(folder))]
    words += ["--", *map(str, runs or [])]
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # gives back what it has read
    os.execv(sys.executable, words)  # whoever stops this process stops the app


def serve(*, local: bool) -> None:
    """Be Streamlit, on this process's command line."""
    import logging

    from streamlit import net_util
    from streamlit.web.cli import main

    import robustbench_sgdm.robustness  # noqa: F401 - before the address is printed, not while the first visitor waits

    # To check where a request comes from, Streamlit would ask Amazon and Google's name server for our address.
    net_util.get_external_ip = lambda: None
    if local:
        net_util.get_internal_ip = lambda: None
    logging.getLogger("uvicorn.error").addFilter(lambda record: not _is_farewell(record))
    main()


def _is_farewell(record: "logging.LogRecord") -> bool:
    """Whether all that happened is that a browser window was closed while Streamlit still had words for it."""
    return "once a close message has been sent" in str(record.exc_info and record.exc_info[1])


def _is_local(address: str) -> bool:
    """Whether only this machine can reach an address."""
    import ipaddress

    try:
        return address == "localhost" or ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False  # a name can stand for anything
