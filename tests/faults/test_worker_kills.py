"""Runs whose workers store lose nothing, killed at random moments, and end as an undisturbed one, to the byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.harness import Tally

KILLS = int(os.environ.get("ROBUSTBENCH_KILLS", "0")) or 4


def test_workers_that_store(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.worker_kills", str(tmp_path), str(KILLS)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    tallies = [Tally(**row) for name, row in json.loads(done.stdout).items() if name != "seconds"]
    assert sum(tally.kills for tally in tallies) >= KILLS and all(tally.clean for tally in tallies), (
        done.stdout
    )
