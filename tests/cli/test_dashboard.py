"""Where the dashboard listens, and what it asks of visitors from elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustbench_sgdm import cli
from robustbench_sgdm.types import TOKEN


class Started(Exception):
    """Instead of becoming Streamlit."""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the command; gives the words that Streamlit would be started with."""

    def go(*words: str) -> list[str]:
        found: list[str] = []

        def become(program: str, arguments: list[str]) -> None:
            found.extend(arguments)
            raise Started

        monkeypatch.setattr(os, "execv", become)
        monkeypatch.setattr(sys, "argv", ["robustbench", "dashboard", *words])
        with pytest.raises(Started):
            cli.main()
        return found

    monkeypatch.setenv(TOKEN, "")  # so that what the command sets is taken away again
    monkeypatch.delenv(TOKEN)
    return go


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1", "[::1]", "127.8.8.8"])
def test_this_machine_alone_needs_no_token(
    start: Any, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    words = start(*(() if address == "localhost" else ("--address", address)))
    assert f"--server.address={address}" in words and TOKEN not in os.environ
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "example"])
def test_other_machines_need_one(start: Any, capsys: pytest.CaptureFixture[str], address: str) -> None:
    words = start("--address", address, "--port", "8600")
    token = os.environ[TOKEN]
    said = capsys.readouterr().err
    assert "8600:localhost:8600" in said.replace("\n", "")
    assert len(token) >= 32 and "warning" in said and token in said.replace("\n", "")
    assert not any(token in word for word in words), "the command line is seen by everybody on the machine"


def test_a_token_of_the_users_own_is_kept(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "mine")
    start("--address", "0.0.0.0")
    assert os.environ[TOKEN] == "mine"


def test_an_empty_token_is_none(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "")
    start("--address", "0.0.0.0")
    assert len(os.environ[TOKEN]) >= 32


def test_no_code_of_the_current_folder_is_run(start: Any, tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("import pathlib; pathlib.Path('RAN').touch()")
    words = start()
    before = words[: words.index("run")]
    done = subprocess.run([*before, "version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Streamlit, version" in done.stdout and not (tmp_path / "RAN").exists(), done.stderr


def test_streamlit_is_told_what_keeps_it_safe(start: Any) -> None:
    words = start()
    for setting in (
        "server.enableXsrfProtection=true",
        "server.enableCORS=true",
        "browser.gatherUsageStats=false",
        "client.showErrorDetails=none",
        "server.maxUploadSize=20",
    ):
        assert f"--{setting}" in words


def test_a_closed_window_is_no_failure_in_the_log() -> None:
    """Through uvicorn's own settings, which come after ours; any other failure is told."""
    code = """
import logging
from streamlit.web import cli
def main():
    import uvicorn
    from starlette.websockets import WebSocketDisconnected
    uvicorn.Config(lambda: None)
    for error in (
        WebSocketDisconnected('Cannot call "send" once a close message has been sent.'), ValueError("other")
    ):
        try:
            raise error
        except Exception:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
cli.main = main
from robustbench_sgdm.cli.dashboard import serve
serve(local=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: other" in done.stderr and "close message" not in done.stderr
