"""What the documentation gives to copy can at least be read by what it is for."""

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[1] / "docs/cluster"


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
