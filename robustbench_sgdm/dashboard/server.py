"""Streamlit's server behind `AccessControl`: how its process starts, and with which settings."""

import contextlib
import importlib
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import TOKEN_VARIABLE
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.dashboard.access import (
    MAX_MESSAGE_MEGABYTES,
    MAX_UPLOAD_MEGABYTES,
    UPLOAD_FORM_BYTES,
    AccessControl,
    is_loopback,
)
from robustbench_sgdm.dashboard.base_address import BaseAddress
from robustbench_sgdm.dashboard.sources import Sources

MIN_TOKEN = 16
"""Characters of a token of the user's own: a shorter one can be guessed, however slowly."""


def make_token(*, required: bool) -> str:
    """The token that visitors must know, "" for none: the user's own from the environment, or a new one if required.

    It is removed from the environment, which runs would inherit.

    Raises:
        UsageError: the user's own is too short.
    """
    own = os.environ.pop(TOKEN_VARIABLE, "").strip()
    if own and len(own) < MIN_TOKEN:
        raise UsageError(
            f"the token in {TOKEN_VARIABLE} has {len(own)} characters and could be guessed; use {MIN_TOKEN} or more, "
            "or unset "
            "the variable to get a generated token"
        )
    return own or (secrets.token_urlsafe(24) if required else "")


def start(sources: Sources, *, address: str, port: int, token: str) -> NoReturn:
    """Replace this process by the server, so that whoever stops this process stops the dashboard.

    Args:
        sources: what the pages may read.
        address: to listen on.
        port: to listen on.
        token: that visitors must know; "" for none.
    """
    settings = {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.corsAllowedOrigins": [],
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.maxUploadSize": MAX_UPLOAD_MEGABYTES,
        "server.maxWidgetStateSize": MAX_MESSAGE_MEGABYTES,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "logger.level": "warning",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    # Through a pipe: other users of the machine can read command lines, and started runs the environment.
    pipe = _make_pipe(token) if token else None
    code = f"from robustbench_sgdm.dashboard.server import serve; serve({settings!r}, token={pipe})"
    words = [
        sys.executable,
        "-P",
        "-c",
        code,
        str(resources.root() / "app" / "main.py"),
        *sources.to_arguments(),
    ]
    # A program on this machine is not a proxy to be trusted with the visitor's address, unless the user says so.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # returns memory after reading
    os.execv(sys.executable, words)


def _make_pipe(text: str) -> int:
    """The descriptor of a pipe that holds a short text and survives `exec`."""
    source, sink = os.pipe()
    os.write(sink, text.encode())
    os.close(sink)
    os.set_inheritable(source, True)
    return source


def serve(settings: Mapping[str, Any], token: int | None) -> None:
    """Run Streamlit behind `AccessControl`, with the arguments of this process's command line.

    Args:
        settings: Streamlit's.
        token: descriptor of a pipe that holds the token; None for no token.
    """
    secret = ""
    own: dict[str, Any] = {"secrets.files": []}
    if ":" in settings["server.address"]:
        own["browser.serverAddress"] = (
            f"[{settings['server.address']}]"  # else the printed address is invalid
        )
    if token is not None:
        with os.fdopen(token, "rb") as pipe:  # closed, so that no child process inherits it
            secret = pipe.read().decode()
        if settings["server.address"] in ("localhost", "127.0.0.1"):
            # Browsers send a cookie to every port of a host name, and so to servers of other users. Under a random
            # name it stays here. The name is made here, as everybody can read command lines.
            own["browser.serverAddress"] = f"{secrets.token_hex(6)}.localhost"
    from streamlit import config, file_util, net_util

    # Slow: now, not while the first visitor waits.
    for name in ("altair", "robustbench_sgdm.robustness", "robustbench_sgdm.figures.confusion"):
        importlib.import_module(name)

    # To print its address, Streamlit would ask servers of Amazon and Google for it.
    net_util.get_external_ip = lambda: None
    if is_loopback(str(settings["server.address"])):
        net_util.get_internal_ip = lambda: None
    sys.argv = sys.argv[1:]
    script = Path(sys.argv[0])
    # Settings of the user and ours only, not those of the current directory.
    config.get_config_files = lambda file_name: [
        file_util.get_streamlit_file_path(file_name),
        str(script.parent / ".streamlit" / file_name),
    ]
    keep_upload_urls()
    drop_requests_of_left_pages()
    # Streamlit would tell the user to restart it, because it has read its files before it gets our settings.
    logging.getLogger("streamlit.config").addFilter(lambda record: "[server]" not in record.getMessage())
    logging.getLogger("uvicorn.error").addFilter(lambda record: not _is_disconnect(record))
    app = protected_app(script, secret)
    with contextlib.suppress(KeyboardInterrupt):
        app.run(config={**settings, **own})


def keep_upload_urls() -> None:
    """Let a script run that starts not drop the answer to a browser that asked where to send a file.

    Streamlit empties its queue of messages then, except for those that it lists, and the answer is none of those. Under
    load it waits there long enough to be lost: the browser waits for it without end, and the upload never begins.
    """
    with contextlib.suppress(ImportError, AttributeError):  # another version, which may do better
        from streamlit.runtime import forward_msg_queue

        queues: Any = forward_msg_queue.ForwardMsgQueue
        clear = queues.clear

        def clear_except_urls(queue: Any, *args: Any, **kwargs: Any) -> None:
            waiting = getattr(queue, "_queue", ())
            answers = [one for one in waiting if one.WhichOneof("type") == "file_urls_response"]
            clear(queue, *args, **kwargs)
            if answers:
                queue._queue += [one for one in answers if one not in queue._queue]

        queues.clear = clear_except_urls


def drop_requests_of_left_pages() -> None:
    """Let a part of a page that the visitor is leaving not run again on, or instead of, the next page.

    Such a request is under way when a picture comes, or a control moves, just as the visitor clicks a link. Streamlit
    would run it after the next page, which the browser then empties since it takes the run for a change of page; or merge
    it with the click into a run of the page that is left.
    """
    with contextlib.suppress(ImportError, AttributeError):  # another version, which may do better
        from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
        from streamlit.runtime.scriptrunner_utils import script_requests

        requests: Any = script_requests.ScriptRequests
        runner: Any = ScriptRunner
        request, run = requests._request_rerun_locked, runner._run_script

        # Private names of Streamlit, read at each request: a version without one runs the request as it would.
        def request_unless_left(self: Any, new: Any) -> bool:
            is_left = False
            with contextlib.suppress(AttributeError):
                if new.fragment_id and self._state == script_requests.ScriptRequestType.RERUN:
                    waiting = self._rerun_data
                    is_left = (
                        waiting.page_script_hash != new.page_script_hash and not waiting.fragment_id_queue
                    )
            return True if is_left else request(self, new)

        def run_unless_left(self: Any, data: Any) -> None:
            is_left = False
            with contextlib.suppress(AttributeError):
                page = self._pages_manager.current_page_script_hash
                is_left = bool(data.fragment_id_queue) and data.page_script_hash not in ("", page)
            if not is_left:
                run(self, data)

        requests._request_rerun_locked = request_unless_left
        runner._run_script = run_unless_left


def protected_app(script: Path, token: str) -> Any:
    """The app behind `AccessControl`; exits if this version of Streamlit does not allow that."""
    import streamlit

    try:
        from starlette.formparsers import MultiPartParser
        from starlette.middleware import Middleware
        from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
        from streamlit.web.server.starlette import starlette_server

        sender: Any = starlette_server
        MemoryUploadedFileManager("").file_storage.items()
        # By default a visitor's message may have 200 MB, like those to visitors, before it is rejected.
        sender.get_max_message_size_bytes()
        sender.get_max_message_size_bytes = lambda: MAX_MESSAGE_MEGABYTES * 2**20
        # By default an upload of more than a megabyte goes to a temporary file.
        MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, UPLOAD_FORM_BYTES)
        pages = [file.stem for file in (script.parent / "views").glob("[!_]*.py")]
        return streamlit.App(
            script,
            middleware=[
                Middleware(AccessControl, token=token, uploads=_count_uploads),
                Middleware(BaseAddress, pages=pages),
            ],
        )
    except (ImportError, AttributeError, TypeError) as error:
        sys.exit(
            f"error: Streamlit {streamlit.__version__} cannot be protected ({error}), so the dashboard does not "
            f"start. Install the oldest supported version: pip install 'streamlit=={_oldest_streamlit()}.*'"
        )


def _oldest_streamlit() -> str:
    """The version that this package requires at least, such as 1.67."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    required = [Requirement(text) for text in requires("robustbench-sgdm") or []]
    return next(spec.version for one in required if one.name == "streamlit" for spec in one.specifier)


def _count_uploads() -> dict[str, int]:
    """How many files Streamlit holds in each session."""
    from streamlit import runtime

    files: Any = runtime.get_instance().uploaded_file_mgr
    return {session: len(held) for session, held in list(files.file_storage.items())}


def _is_disconnect(record: logging.LogRecord) -> bool:
    """Whether a logged error only says that a browser window was closed while Streamlit was sending."""
    return "once a close message has been sent" in str(record.exc_info and record.exc_info[1])
