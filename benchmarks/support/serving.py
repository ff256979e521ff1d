"""The dashboard as a process, and how a browser is started to look at it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
"""Of Chromium."""


class Serving:
    """The dashboard on a free port: its address and its process, stopped at the end."""

    def __init__(self, project: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        self.address = f"http://localhost:{port}"
        command = [sys.executable, "-m", "robustbench_sgdm.cli", "dashboard", "--project", str(project)]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *words],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> tuple[str, "subprocess.Popen[bytes]"]:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=5).read()
                return self.address, self.process
            except urllib.error.HTTPError:  # it asks for a token first
                return self.address, self.process
            except OSError:
                time.sleep(0.2)
                if self.process.poll() is not None:
                    break
        raise RuntimeError(f"the dashboard did not start: {self.words()}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def words(self) -> str:
        """What it printed."""
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")
