"""`robustbench dashboard`: the Streamlit app on stored runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_sgdm.core.constants import TOKEN_VARIABLE

if TYPE_CHECKING:
    import logging

SHORTEST_TOKEN = 16
"""Characters of a token of the user's own: what is shorter can be guessed, however slowly."""


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
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--inputs",
            help="Folders of weights and data sets that the page Run may use; may be repeated. [.]",
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            help="Where to listen. Beyond this machine visitors need a token; who has it can see the runs and "
            "start new ones.",
        ),
    ] = "localhost",
    token: Annotated[
        bool,
        typer.Option(
            "--token",
            help="Ask visitors for a token on this machine too: other users and programs of it can reach the "
            f"dashboard. It is printed at the start; ${TOKEN_VARIABLE} gives one of your own.",
        ),
    ] = False,
) -> None:
    """Browse stored runs, compare detections image by image, try a photograph, start a run.

    Prints its address, listens on this machine only unless told otherwise, and stops with Ctrl-C. Runs that
    were started from it go on.
    """
    import os
    import sys

    from robustbench_sgdm.cli.access import MESSAGE_MEGABYTES, UPLOAD_MEGABYTES, is_loopback
    from robustbench_sgdm.core import resources

    address = address.strip("[]")  # of IPv6, as in a browser
    local = is_loopback(address)
    secret = _token(needed=token or not local)
    if secret:
        _announce(secret, address, port, local=local)
    settings = {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.corsAllowedOrigins": [],
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.maxUploadSize": UPLOAD_MEGABYTES,
        "server.maxWidgetStateSize": MESSAGE_MEGABYTES,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "logger.level": "warning",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    pipe = _pipe(secret) if secret else None  # not the command line or the environment: others read those
    start = f"from robustbench_sgdm.cli.dashboard import serve; serve({settings!r}, token={pipe})"
    words = [sys.executable, "-P", "-c", start, str(resources.root() / "app" / "main.py")]
    words += ["--project", str(project)]
    words += [word for folder in training or [Path("runs/train")] for word in ("--training", str(folder))]
    words += [word for folder in inputs or [] for word in ("--inputs", str(folder))]
    words += ["--", *map(str, runs or [])]
    # A program of this machine is no proxy whose word for a visitor's address counts, unless the user says so.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # gives back what it has read
    os.execv(sys.executable, words)  # whoever stops this process stops the app


def _token(*, needed: bool) -> str:
    """What visitors must know, taken out of the environment, which runs would inherit; "" for nothing.

    Raises:
        UsageError: the user's own is too short.
    """
    import os
    import secrets

    from robustbench_sgdm.core.errors import UsageError

    own = os.environ.pop(TOKEN_VARIABLE, "").strip()
    if own and len(own) < SHORTEST_TOKEN:
        raise UsageError(
            f"the token in {TOKEN_VARIABLE} has {len(own)} characters and could be guessed; give it {SHORTEST_TOKEN} or "
            "more, or unset the variable and one is made"
        )
    return own or (secrets.token_urlsafe(24) if needed else "")


def _announce(token: str, address: str, port: int, *, local: bool) -> None:
    from robustbench_sgdm.cli.console import info

    if local:
        info(
            f"Visitors must know the token {token}, and can then see the runs and start new ones. A browser that does "
            f"not find the address below finds http://localhost:{port}."
        )
        return
    info(
        f"warning: {address} is reached from other machines, and what is sent is not encrypted. Visitors must know "
        f"the token {token}, and can then see the runs and start new ones. For yourself alone, leave out --address "
        f"and tunnel: ssh -L {port}:localhost:{port} HOST"
    )


def _pipe(text: str) -> int:
    """A pipe that holds a short text, for the program that this process becomes: its descriptor."""
    import os

    source, sink = os.pipe()
    os.write(sink, text.encode())
    os.close(sink)
    os.set_inheritable(source, True)
    return source


def serve(settings: Mapping[str, Any], token: int | None) -> None:
    """Be Streamlit behind `AccessControl`, on this process's command line.

    Args:
        settings: Streamlit's.
        token: descriptor of a pipe that holds what visitors must know; None for nothing.
    """
    import contextlib
    import logging
    import os
    import secrets
    import sys

    secret = ""
    own: dict[str, Any] = {"secrets.files": []}
    if ":" in settings["server.address"]:
        own["browser.serverAddress"] = f"[{settings['server.address']}]"  # else it is printed as no address
    if token is not None:
        with os.fdopen(token, "rb") as pipe:  # closed, so that nothing that is started inherits it
            secret = pipe.read().decode()
        if settings["server.address"] in ("localhost", "127.0.0.1"):
            # Browsers send a cookie to every port of a name, so to servers of other users. Under a name that they
            # do not know it stays here; it is made here, as everybody sees command lines.
            own["browser.serverAddress"] = f"{secrets.token_hex(6)}.localhost"
    from streamlit import config, file_util, net_util

    import robustbench_sgdm.robustness  # noqa: F401 - before the address is printed, not while the first visitor waits
    from robustbench_sgdm.cli.access import is_loopback

    # To say where it can be reached, Streamlit would ask Amazon and Google's name server for our address.
    net_util.get_external_ip = lambda: None
    if is_loopback(str(settings["server.address"])):
        net_util.get_internal_ip = lambda: None
    sys.argv = sys.argv[1:]
    script = Path(sys.argv[0])
    # The user's settings and ours alone, not those of a folder that the dashboard happens to be started in.
    config.get_config_files = lambda file_name: [
        file_util.get_streamlit_file_path(file_name),
        str(script.parent / ".streamlit" / file_name),
    ]
    logging.getLogger("uvicorn.error").addFilter(lambda record: not _is_farewell(record))
    app = _app(script, secret)
    with contextlib.suppress(KeyboardInterrupt):
        app.run(config={**settings, **own})


def _app(script: Path, token: str) -> Any:
    """The app behind `AccessControl`; where this Streamlit cannot have it, the end rather than an open door."""
    import sys

    import streamlit

    from robustbench_sgdm.cli.access import LONGEST_UPLOAD, MESSAGE_MEGABYTES, AccessControl

    try:
        from starlette.formparsers import MultiPartParser
        from starlette.middleware import Middleware
        from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
        from streamlit.web.server.starlette import starlette_server

        sender: Any = starlette_server
        MemoryUploadedFileManager("").file_storage.items()
        # Else a visitor's message may be as large as those to visitors, 200 MB, until it is whole and refused.
        sender.get_max_message_size_bytes()
        sender.get_max_message_size_bytes = lambda: MESSAGE_MEGABYTES * 2**20
        # Else what arrives would lie in a temporary file from a megabyte on.
        MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, LONGEST_UPLOAD)
        return streamlit.App(script, middleware=[Middleware(AccessControl, token=token, uploads=_uploads)])
    except (ImportError, AttributeError, TypeError) as error:
        sys.exit(
            f"error: Streamlit {streamlit.__version__} cannot be guarded ({error}), so the dashboard does not "
            "start. Install a release that this version was made for: pip install 'streamlit==1.67.*'"
        )


def _uploads() -> dict[str, int]:
    """How many files Streamlit holds of each visit."""
    from streamlit import runtime

    files: Any = runtime.get_instance().uploaded_file_mgr
    return {visit: len(held) for visit, held in list(files.file_storage.items())}


def _is_farewell(record: "logging.LogRecord") -> bool:
    """Whether all that happened is that a browser window was closed while Streamlit still had words for it."""
    return "once a close message has been sent" in str(record.exc_info and record.exc_info[1])
