"""Programs that the documentation gives to copy: of Python, for Ray and for Slurm."""

import json
import os
import re
import signal
import subprocess
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from robustbench_sgdm import evaluation
from robustbench_sgdm.sweep import measure_latency
from tests.support.doc_pages import DOCS

CLUSTER = DOCS / "cluster"


def test_the_program_for_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A latency is of no interest here.
    monkeypatch.setattr(evaluation, "measure_latency", partial(measure_latency, rounds=6))
    blocks = re.findall(r"```python\n(.+?)```", (DOCS / "how-to/python.md").read_text("utf-8"), re.DOTALL)
    exec(compile("\n".join(blocks), "python.md", "exec"), {"__name__": "program"})
    assert {"severity.svg", "runs"} == {path.name for path in tmp_path.iterdir()}
    runs = tmp_path / "runs/robustness"
    assert {"first", "second", "mine"} == {path.name for path in runs.iterdir()}
    assert {"report.html", "report.pdf", "results.csv"} < {path.name for path in (runs / "first").iterdir()}


def test_the_cluster_is_one_to_ray() -> None:
    config = yaml.safe_load((CLUSTER / "ray.yaml").read_text("utf-8"))
    assert {"cluster_name", "provider", "auth", "setup_commands"} <= set(config)
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        pytest.skip("Ray (the extra [ray]) is not installed")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(spec.origin).parent / "autoscaler/ray-schema.json").read_text("utf-8"))
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "setup_commands": "one"}, schema)


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sh")], check=True)


def test_the_slurm_script_stops_the_run_and_waits_for_it(tmp_path: Path) -> None:
    """Slurm, Ray and the run are stand-ins here: the script's own part is who is started with what, and stopped when."""
    stand_ins = {
        "env/bin/ray": 'echo "ray $*" >> calls; [ "$1" = status ] || exec sleep 30',
        "env/bin/robustbench": 'echo "run $*" >> calls; trap "sleep 0.3; echo kept >> calls; exit 130" TERM; '
        "echo on > started; while :; do sleep 0.05; done",
        "bin/srun": 'while [ "${1#-}" != "$1" ]; do [ "$1" = -w ] && shift; shift; done; exec "$@"',
        "bin/scontrol": "echo node1; echo node2",
    }
    for name, script in stand_ins.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", str(CLUSTER / "slurm.sh"), "--model", "yolov8n"],
        cwd=tmp_path,
        env=os.environ | slurm | {"PATH": path, "ROBUSTBENCH_ENV": str(tmp_path / "env")},
    ) as job:
        until = time.monotonic() + 120
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(120) == 130
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "run run --model yolov8n --executor ray --address node1:20007" in calls and calls[-1] == "kept"
    starts = [call for call in calls if call.startswith("ray start")]
    assert sorted("--head" in call for call in starts) == [False, True]
