"""Atheris, guided by what the damaged bytes reach: one reader for a moment, or every one at length."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustbench_sgdm.core import resources

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))

TARGETS = [
    "dataset_jsons",
    "dataset_yamls",
    "pixel_manifests",
    "predictions",
    "pickled_predictions",
    "pictures",
    "manifests",
    "checkpoints",
    "onnx_models",
    "model_yamls",
]


@pytest.mark.parametrize("target", TARGETS if harness.COUNT else ["dataset_yamls"])
def test_guided(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="pip install atheris, which is there for Linux")
    program = Path(__file__).with_name("guided.py")
    command = [sys.executable, str(program), target, f"-runs={harness.COUNT or 300}"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]  # the traceback, then the input
    print(f"atheris {target}: {done.stderr.splitlines()[-1]}")
