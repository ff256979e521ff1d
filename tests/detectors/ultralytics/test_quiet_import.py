import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ultralytics.utils import SETTINGS

from robustbench_sgdm.detectors.ultralytics import quiet_import

# Runs apart: what counts is the first import in a process. Any look-up or connection raises.
PROBE = """
import os, socket
def refuse(*args, **kwargs):
    raise SystemExit(f"network: {args}")
socket.getaddrinfo = socket.socket.connect = refuse
import torch
threads = torch.get_num_threads()
from robustbench_sgdm.detectors.ultralytics import zoo
import logging, numpy as np
from ultralytics.utils import checks, events
zoo.model_config("yolov5n", 2)
assert not checks.AUTOINSTALL and not checks.ONLINE
assert not events.Events().enabled
assert not logging.getLogger("ultralytics").isEnabledFor(logging.WARNING)
assert torch.get_num_threads() == threads and "OMP_NUM_THREADS" not in os.environ
assert np.get_printoptions()["linewidth"] == 75
"""


def test_first_import_is_silent_offline_and_leaves_the_settings_alone(tmp_path: Path) -> None:
    settings = tmp_path / "Ultralytics" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({**SETTINGS.defaults, "sync": True}))
    before = settings.read_bytes()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO", "PYTEST", "OMP"))}
    environment |= {"YOLO_CONFIG_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    run = [sys.executable, "-c", PROBE]
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert settings.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Ultralytics"]


def test_variables_of_the_user_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_OFFLINE", "false")
    monkeypatch.delenv("YOLO_VERBOSE", raising=False)
    quiet_import.import_ultralytics()
    assert os.environ["YOLO_OFFLINE"] == "false"
    assert os.environ["YOLO_VERBOSE"] == quiet_import.DEFAULTS["YOLO_VERBOSE"]
