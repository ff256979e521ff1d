import copy
import json
import os
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, SegmentationModel

from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.detectors import load_detectors
from robustbench_sgdm.detectors.ultralytics import weights, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import tasks

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    return zoo.build_model("yolov5n-sgdm", 2, CLASSES).eval()


@pytest.fixture
def checkpoint(model: DetectionModel, tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    torch.save({"model": copy.deepcopy(model).half(), "ema": None, "license": "AGPL-3.0"}, path)
    return path


def config(model: DetectionModel) -> Any:
    return model.yaml


def run(model: nn.Module) -> torch.Tensor:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output: torch.Tensor = model.eval()(image)[0]
    return output


def test_written_and_read_again_is_the_same_model(model: DetectionModel, tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.safetensors"
    weights.write_weights(path, model.state_dict(), config(model), CLASSES, {"data": "scenes"}, half=False)
    found = weights.read_weights(path)
    assert (found.classes, found.meta, found.path) == (CLASSES, {"data": "scenes"}, path)
    torch.testing.assert_close(run(weights.copy_network(found)), run(model), rtol=0, atol=0)
    assert weights.hash_tensors(found.state) == weights.hash_tensors(model.state_dict())
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_half_halves_and_equal_content_gives_equal_bytes(model: DetectionModel, tmp_path: Path) -> None:
    sizes, hashes = [], []
    for half in (False, True, True):
        path = tmp_path / "m.safetensors"
        weights.write_weights(
            path, model.state_dict(), config(model), CLASSES, {"b": "2", "a": "1"}, half=half
        )
        sizes.append(path.stat().st_size)
        hashes.append(weights.read_weights(path).sha256)
    assert sizes[1] < 0.55 * sizes[0]
    assert hashes[0] != hashes[1] == hashes[2]
    assert all(t.dtype != torch.float16 for t in weights.read_weights(path).state.values())


def test_values_beyond_half_precision_survive(model: DetectionModel, tmp_path: Path) -> None:
    state = {**model.state_dict(), "model.0.bn.running_var": torch.full((16,), 1e6)}
    weights.write_weights(tmp_path / "m.safetensors", state, config(model), CLASSES)
    assert weights.read_weights(tmp_path / "m.safetensors").state["model.0.bn.running_var"].max() == 1e6


def test_a_failed_write_leaves_the_old_file(
    model: DetectionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RobustBenchError, match="disk full"):
        weights.write_weights(path, model.state_dict(), config(model), CLASSES)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_only_safetensors_are_written(model: DetectionModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written as \.safetensors"):
        weights.write_weights(tmp_path / "m.pt", model.state_dict(), config(model), CLASSES)


def test_a_checkpoint_is_read_as_data(model: DetectionModel, checkpoint: Path) -> None:
    found = weights.read_weights(checkpoint)
    assert (found.classes, found.meta) == (CLASSES, {"license": "AGPL-3.0"})
    assert {t.dtype for t in found.state.values()} == {torch.float32, torch.int64}
    expected = copy.deepcopy(model).half().float()
    torch.testing.assert_close(run(weights.copy_network(found)), run(expected), rtol=0, atol=0)


def test_the_average_is_preferred(model: DetectionModel, tmp_path: Path) -> None:
    average = copy.deepcopy(model)
    nn.init.constant_(average.get_parameter("model.0.conv.weight"), 0.5)
    torch.save({"model": model, "ema": average}, tmp_path / "last.pt")
    assert (weights.read_weights(tmp_path / "last.pt").state["model.0.conv.weight"] == 0.5).all()


def test_a_fused_checkpoint_is_unfused(tmp_path: Path) -> None:
    model = zoo.build_model("yolov8n", 2, CLASSES).eval()
    for name, tensor in model.state_dict().items():
        if ".bn." in name and tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
    expected = run(model)
    fused = copy.deepcopy(model).fuse(verbose=False)  # type: ignore[no-untyped-call]
    torch.save({"model": fused}, tmp_path / "fused.pt")
    found = weights.read_weights(tmp_path / "fused.pt")
    assert set(found.state) == set(model.state_dict())
    torch.testing.assert_close(run(weights.copy_network(found)), expected, rtol=1e-4, atol=1e-3)


def test_real_weights_rebuild_what_their_file_holds(coco_weights: Path) -> None:
    found = weights.read_weights(coco_weights)
    assert len(found.classes) == 80 and found.classes[:2] == ("person", "bicycle")
    pickled = torch.load(coco_weights, map_location="cpu", weights_only=False)["model"].float()
    torch.testing.assert_close(run(weights.copy_network(found)), run(pickled), rtol=0, atol=0)


class Malicious:
    """Unpickled, calls `function` with `argument`."""

    def __init__(self, function: Any, argument: str) -> None:
        self.call = (function, (argument,))

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("function", "named"), [(os.system, "system"), (eval, "eval")])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, model: DetectionModel, function: Any, named: str, nested: bool
) -> None:
    mark = tmp_path / "ran"
    bomb = Malicious(
        function, f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w').close()"
    )
    content: Any = bomb
    if nested:
        content = copy.deepcopy(model)
        content.names = bomb
    path = tmp_path / "bomb.pt"
    torch.save({"model": content}, path)
    with pytest.raises(DataError, match=rf"{named}.*--trust-weights"):
        weights.read_weights(path)
    assert not mark.exists()
    with pytest.raises(DataError):  # it runs, and then it is still no detector
        weights.read_weights(path, trust=True)
    assert mark.exists()


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Malicious(os.system, f"touch {mark}")))
    with pytest.raises(DataError):
        weights.read_weights(tmp_path / "bomb.pt")
    assert not mark.exists()


def test_code_in_a_checkpoints_config_is_refused(model: DetectionModel, tmp_path: Path) -> None:
    evil = copy.deepcopy(model)
    config(evil)["activation"] = f"open({str(tmp_path / 'ran')!r}, 'w')"
    torch.save({"model": evil}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match="activation"):
        weights.read_weights(tmp_path / "evil.pt")
    # The network that it holds, not one built from its config.
    weights.read_weights(tmp_path / "evil.pt", trust=True)
    assert not (tmp_path / "ran").exists()


class Foreign(DetectionModel):
    """A detector with code of its own, as a fork of Ultralytics has."""


def test_trust_reads_what_restricted_loading_refuses(model: DetectionModel, tmp_path: Path) -> None:
    foreign = copy.deepcopy(model)
    foreign.__class__ = Foreign
    path = tmp_path / "foreign.pt"
    torch.save({"model": foreign}, path)
    with pytest.raises(DataError, match="Foreign"):
        weights.read_weights(path)
    torch.testing.assert_close(run(weights.copy_network(weights.read_weights(path, trust=True))), run(model))


def bare(kind: type[nn.Module], yaml: str) -> nn.Module:
    """A model of another task, without its layers."""
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    vars(model).update(yaml=tasks.yaml_model_load(yaml), names={0: "cat"})
    return model


def torchscript() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]


DAMAGED = {
    **dict.fromkeys(("truncated", "empty", "bytes"), "not a PyTorch checkpoint"),
    "text": "git lfs pull",
    "tensor": "a single tensor",
    "state": "state dict",
    "linear": "Linear, which is not a detection model",
    "classifier": "ClassificationModel",
    "segmenter": "SegmentationModel",
    "torchscript": "TorchScript",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_detector_is_one_line(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.pt"
    objects: dict[str, Any] = {
        "tensor": lambda: torch.zeros(3),
        "state": lambda: nn.Linear(2, 2).state_dict(),
        "linear": lambda: {"model": nn.Linear(2, 2)},
        "classifier": lambda: {"model": bare(ClassificationModel, "yolov8n-cls.yaml")},
        "segmenter": lambda: {"model": bare(SegmentationModel, "yolov8n-seg.yaml")},
    }
    raw = {
        "truncated": checkpoint.read_bytes()[:100_000],
        "empty": b"",
        "bytes": bytes(range(256)) * 20,
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }
    if kind == "torchscript":
        torchscript().save(str(path))
    elif kind in raw:
        path.write_bytes(raw[kind])
    else:
        torch.save(objects[kind](), path)
    with pytest.raises(DataError, match=DAMAGED[kind]) as caught:
        weights.read_weights(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_and_an_odd_suffix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such weights file"):
        weights.read_weights(tmp_path / "none.pt")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(DataError, match=r"not '\.onnx'"):
        weights.read_weights(tmp_path / "m.onnx")


def test_safetensors_of_an_earlier_version_say_why_they_are_not_read(tmp_path: Path) -> None:
    header = '{"config": {}, "classes": ["cat"], "meta": {}}'
    safetensors.torch.save_file(
        {"a": torch.zeros(2)}, tmp_path / "m.safetensors", {"robustbench_sgdm": header}
    )
    with pytest.raises(DataError, match="earlier version") as caught:
        weights.read_weights(tmp_path / "m.safetensors")
    assert "damaged" not in str(caught.value) and ".pt" in str(caught.value)


@pytest.mark.parametrize(
    "header", [None, "{", "[]", '{"config": 1, "classes": [], "meta": {}, "layers": {}}', "{}"]
)
def test_safetensors_without_our_header(tmp_path: Path, header: str | None) -> None:
    path = tmp_path / "m.safetensors"
    metadata = None if header is None else {"robustbench_sgdm": header}
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata)
    with pytest.raises(
        DataError, match="does not say which model" if header is None else "header is damaged"
    ):
        weights.read_weights(path)


def test_damaged_safetensors(tmp_path: Path, model: DetectionModel) -> None:
    path = tmp_path / "m.safetensors"
    weights.write_weights(path, model.state_dict(), config(model), CLASSES)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="damaged"):
        weights.read_weights(path)


def test_tensors_that_do_not_fit_their_config(tmp_path: Path, model: DetectionModel) -> None:
    path = tmp_path / "m.safetensors"
    state = dict(model.state_dict())
    del state["model.0.conv.weight"]
    weights.write_weights(path, state, config(model), CLASSES)
    with pytest.raises(DataError, match=r"model\.0\.conv\.weight") as caught:
        weights.copy_network(weights.read_weights(path))
    assert "\n" not in str(caught.value)


def test_a_config_is_plain_json(model: DetectionModel, checkpoint: Path) -> None:
    assert json.loads(json.dumps(weights.read_weights(checkpoint).config))["nc"] == 2


def test_weights_that_are_not_embedded() -> None:
    assert weights.bundled_weights("yolov8n-sgdm[razor=0.25]") is None


def test_compressed_entries_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A kilobyte of them can stand for a gigabyte; torch.save stores plainly."""
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(DataError, match="compressed entries"):
        weights.read_weights(path)


def test_a_tensor_holds_what_it_claims(model: DetectionModel, tmp_path: Path) -> None:
    """One value, seen as a million million: a copy would fill the memory."""
    evil = copy.deepcopy(model)
    weight = evil.get_parameter("model.0.conv.weight")
    weight.data = torch.zeros(1, dtype=torch.float16).expand(10**12)
    torch.save({"model": evil}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match="claims a shape"):
        weights.read_weights(tmp_path / "evil.pt")


@pytest.mark.parametrize("part", ["names", "yaml"])
def test_shared_parts_are_not_written_out(model: DetectionModel, tmp_path: Path, part: str) -> None:
    evil = copy.deepcopy(model)
    value: Any = ["x"]
    for _ in range(60):
        value = [value, value]
    if part == "names":
        evil.names = {0: "cat", 1: value}
    else:
        config(evil)["more"] = value
    torch.save({"model": evil}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match="more than 1,000,000 values"):
        weights.read_weights(tmp_path / "evil.pt")


def test_no_other_file_is_looked_for(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics leaves out apostrophes and outer blanks, and asks GitHub for what it then does not find."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"network: {args}")

    monkeypatch.setattr("ultralytics.utils.downloads.get_github_assets", refuse)
    for name in ("it's.pt", " best.pt"):
        shutil.copy(checkpoint, tmp_path / name)
        assert weights.read_weights(tmp_path / name).classes == CLASSES


def test_a_card_decides_nothing(model: DetectionModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    weights.write_weights(path, model.state_dict(), config(model), CLASSES, {"imgsz": "9" * 5000})
    assert next(iter(load_detectors([str(path)]).values())).detector.imgsz == 640
