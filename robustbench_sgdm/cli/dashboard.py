"""`robustbench dashboard`: the Streamlit app on stored runs."""

from pathlib import Path
from typing import Annotated

import typer


def dashboard(
    project: Annotated[Path, typer.Option("--project", help="Folder that holds run directories.")] = Path(
        "runs/robustness"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on localhost.")] = 8501,
) -> None:
    """Browse stored runs: curves and tables. Listens on localhost only; Ctrl-C stops it."""
    import subprocess
    import sys

    from robustbench_sgdm import content

    settings = {
        "server.address": "localhost",
        "server.port": port,
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    words = [sys.executable, "-m", "streamlit", "run", str(content.root() / "app" / "results.py")]
    words += [f"--{key}={value}" for key, value in settings.items()]
    raise typer.Exit(subprocess.run([*words, "--", str(project)], check=False).returncode)
