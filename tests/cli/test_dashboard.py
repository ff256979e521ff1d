"""Where the dashboard listens, what it asks of visitors, and what its process inherits."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit
from streamlit.proto.Common_pb2 import FileURLsResponse
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests

from robustbench_sgdm import cli
from robustbench_sgdm.core.constants import TOKEN_VARIABLE
from robustbench_sgdm.dashboard import server

OWN = "a token of my own"


class Started(Exception):
    """Instead of becoming Streamlit."""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the command; gives the words of the process that it would become, and the token that this would read."""

    def go(*words: str) -> tuple[list[str], str]:
        found: list[str] = []

        def become(program: str, arguments: list[str]) -> None:
            found.extend(arguments)
            raise Started

        monkeypatch.setattr(os, "execv", become)
        monkeypatch.setattr(sys, "argv", ["robustbench", "dashboard", *words])
        with pytest.raises(Started):
            cli.main()
        assert TOKEN_VARIABLE not in os.environ, "what is started would inherit it"
        pipe = call(found)[1]
        if pipe is None:
            return found, ""
        with os.fdopen(pipe, "rb") as source:
            return found, source.read().decode()

    monkeypatch.setenv(TOKEN_VARIABLE, "")  # so that what is taken away comes back
    monkeypatch.delenv(TOKEN_VARIABLE)
    return go


def call(words: list[str]) -> tuple[dict[str, Any], int | None]:
    """The settings and the descriptor in the code that a process is started with."""
    code = words[words.index("-c") + 1]
    made: Any = ast.parse(code).body[-1]
    return ast.literal_eval(made.value.args[0]), ast.literal_eval(made.value.keywords[0].value)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1", "[::1]", "127.8.8.8"])
def test_this_machine_alone_needs_no_token(
    start: Any, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    words, token = start(*(() if address == "localhost" else ("--address", address)))
    assert call(words)[0]["server.address"] == address.strip("[]") and token == ""
    assert "token" not in capsys.readouterr().err


@pytest.mark.parametrize("address", ["localhost", "0.0.0.0", "::", "192.168.1.5", "example"])
def test_other_machines_need_one(start: Any, capsys: pytest.CaptureFixture[str], address: str) -> None:
    """And so does this machine, if that is asked for."""
    words, token = start("--address", address, "--port", "8600", "--token")
    said = capsys.readouterr().err.replace("\n", "")
    assert len(token) >= 32 and token in said
    assert ("8600:localhost:8600" in said and "warning" in said) == (address != "localhost")
    assert not any(token in word for word in words), "the command line is seen by everybody on the machine"


@pytest.mark.parametrize("words", [(), ("--address", "0.0.0.0")])
def test_a_token_of_the_users_own_is_kept(
    start: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, OWN)
    started, token = start(*words)
    assert token == OWN and not any(OWN in word for word in started)


def test_an_empty_token_is_none(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, " ")
    assert len(start("--address", "0.0.0.0")[1]) >= 32


def test_a_token_that_can_be_guessed_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "swordfish")
    monkeypatch.setattr(sys, "argv", ["robustbench", "dashboard"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "9 characters" in said and "swordfish" not in said


def test_no_code_of_the_current_folder_is_run(start: Any, tmp_path: Path) -> None:
    """Nor are Streamlit's settings and secrets of it read."""
    (tmp_path / "yaml.py").write_text("import pathlib; pathlib.Path('RAN').touch()")
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit/config.toml").write_text('[theme]\nbase = "dark"\n')
    words, _ = start()
    code = (
        "import streamlit\n"
        "def run(self, config):\n"
        "    streamlit.config.get_config_options(force_reparse=True, options_from_flags=config)\n"
        "    print(*map(streamlit.config.get_option, ('theme.base', 'theme.baseRadius', 'secrets.files')))\n"
        "streamlit.App.run = run\n"
    )
    place = words.index("-c") + 1
    words[place] = code + words[place].replace("; ", "\n", 1)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "None 0.6rem []" in done.stdout and not (tmp_path / "RAN").exists(), done.stderr


def test_streamlit_is_told_what_keeps_it_safe(start: Any) -> None:
    settings, _ = call(start()[0])
    expected = {
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.enableAgentApi": False,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "server.maxUploadSize": 10,
    }
    assert settings | expected == settings


@pytest.mark.parametrize("lack", ["App", "middleware"])
def test_a_streamlit_that_cannot_be_guarded_is_not_started(
    monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    if lack == "App":
        monkeypatch.delattr(streamlit, "App")
    else:
        monkeypatch.setattr(streamlit, "App", lambda script: None)
    with pytest.raises(SystemExit, match=r"cannot be protected .* 'streamlit==1\.\d+\.\*'"):
        server.protected_app(Path("main.py"), OWN)


def test_a_closed_window_is_no_failure_in_the_log() -> None:
    """Through uvicorn's own settings, which come after ours; any other failure is told."""
    code = """
import logging
import sys
import streamlit
def run(self, config):
    import uvicorn
    print(config)
    from starlette.websockets import WebSocketDisconnected
    uvicorn.Config(lambda: None)
    for error in (
        WebSocketDisconnected('Cannot call "send" once a close message has been sent.'), ValueError("other")
    ):
        try:
            raise error
        except Exception:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
streamlit.App.run = run
from robustbench_sgdm.dashboard.server import serve
sys.argv = ["-c", "main.py"]
serve({"server.address": "::1"}, token=None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: other" in done.stderr and "close message" not in done.stderr
    assert "'browser.serverAddress': '[::1]'" in done.stdout, "what is printed is an address for browsers"


def test_a_run_that_starts_drops_no_answer_to_an_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser would wait for it without end; other messages of the last run do go."""
    monkeypatch.setattr(ForwardMsgQueue, "clear", ForwardMsgQueue.clear)
    server.keep_upload_urls()
    queue = ForwardMsgQueue()
    for message in (
        ForwardMsg(delta=Delta()),
        ForwardMsg(file_urls_response=FileURLsResponse(response_id="a")),
    ):
        queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=None)
    assert [one.WhichOneof("type") for one in queue.flush()] == ["file_urls_response"]


def test_a_part_of_a_page_that_is_left_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run instead of the page that was asked for, or empty it."""
    ran: list[str] = []
    monkeypatch.setattr(ScriptRequests, "_request_rerun_locked", ScriptRequests._request_rerun_locked)
    monkeypatch.setattr(ScriptRunner, "_run_script", lambda _, data: ran.append(data.page_script_hash))
    server.drop_requests_of_left_pages()
    requests = ScriptRequests()
    requests.request_rerun(RerunData(page_script_hash="next"))
    requests.request_rerun(RerunData(page_script_hash="left", fragment_id="part"))
    asked = requests.on_scriptrunner_ready().rerun_data
    assert asked.page_script_hash == "next" and not asked.fragment_id_queue
    runner: Any = SimpleNamespace(_pages_manager=SimpleNamespace(current_page_script_hash="next"))
    for page, parts in (("left", ["part"]), ("next", ["part"]), ("left", [])):
        ScriptRunner._run_script(runner, RerunData(page_script_hash=page, fragment_id_queue=parts))
    assert ran == ["next", "left"]


def test_a_streamlit_without_these_private_names_runs_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(ScriptRequests, "_request_rerun_locked", lambda _, new: ran.append(new))
    monkeypatch.setattr(ScriptRunner, "_run_script", lambda _, data: ran.append(data))
    monkeypatch.setattr(ForwardMsgQueue, "clear", lambda _: ran.append("cleared"))
    server.drop_requests_of_left_pages()
    server.keep_upload_urls()
    other: Any = SimpleNamespace()
    ScriptRequests._request_rerun_locked(other, RerunData(fragment_id="part"))
    ScriptRunner._run_script(other, RerunData(page_script_hash="left", fragment_id_queue=["part"]))
    ForwardMsgQueue.clear(other)
    assert len(ran) == 3
