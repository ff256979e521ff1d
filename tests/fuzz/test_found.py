"""What fuzzing found, each as it was found or nearly so: refused in one line since."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import RobustBenchError

readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made: Path = readers.folder(tmp_path / "root")
    return made


def test_a_number_of_a_model_yaml_beyond_any_float(root: Path) -> None:
    """OverflowError: a whole number of 400 digits among a layer's arguments."""
    config = copy.deepcopy(readers.MINI)
    config["backbone"][0][3][0] = 10**400
    header = {"config": config, "classes": readers.CLASSES, "meta": {}, "layers": {}}
    tensors = dict(readers.mini().state_dict())
    safetensors.torch.save_file(tensors, root / "m.safetensors", {"robustbench_sgdm": json.dumps(header)})
    with pytest.raises(RobustBenchError, match="which no layer is built from"):
        readers.use_weights(root / "m.safetensors")


def test_a_number_of_classes_that_is_a_novel(root: Path) -> None:
    """A message as long as the file."""
    config = copy.deepcopy(readers.MINI) | {"nc": "a" * 5000}
    header = {"config": config, "classes": readers.CLASSES, "meta": {}, "layers": {}}
    safetensors.torch.save_file(
        dict(readers.mini().state_dict()), root / "m.safetensors", {"robustbench_sgdm": json.dumps(header)}
    )
    with pytest.raises(RobustBenchError, match="whole number from 1") as caught:
        readers.use_weights(root / "m.safetensors")
    assert len(str(caught.value)) < 1000


def test_a_root_longer_than_a_files_name(root: Path) -> None:
    """OSError: File name too long."""
    (root / "data.yaml").write_bytes(readers.yaml_of({**readers.YOLO, "path": "1" * 5000}))
    with pytest.raises(RobustBenchError, match="is not a folder") as caught:
        readers.use_dataset(root / "data.yaml")
    assert len(str(caught.value)) < 1000


def test_a_score_beyond_any_float(root: Path) -> None:
    """OverflowError: a whole number of 400 digits for an AP."""
    (root / "nested.json").write_text(json.dumps({"fog": {1: {"bbox": {"AP": 10**400}}}}))
    with pytest.raises(RobustBenchError, match="does not have mmdetection's results"):
        readers.use_nested(root / "nested.json")


def test_brackets_that_keep_a_parser_busy(root: Path) -> None:
    """Over ten seconds for a hundred thousand of them, longer by the square for more."""
    (root / "nested.json").write_text("[" * 1_000_000)
    with pytest.raises(RobustBenchError, match=r"maximum nesting depth|nested deeper"):
        readers.use_nested(root / "nested.json")


@pytest.mark.parametrize("content", [{"fog": {1: {"bbox": {"AP": "a" * 5000}}}}, {"fog": {"a" * 5000: {}}}])
def test_a_message_as_long_as_the_file(root: Path, content: Any) -> None:
    (root / "nested.json").write_text(json.dumps(content))
    with pytest.raises(RobustBenchError) as caught:
        readers.use_nested(root / "nested.json")
    assert len(str(caught.value)) < 1000
