"""`--model torchvision:NAME` and `hf:FOLDER`: the boxes of a direct call; files are data; refusals in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model_builder

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.datasets import image_decoding, load_dataset
from robustbench_sgdm.detectors import load_detectors, load_library_model
from tests.detectors.adapters.conftest import CLASSES, TORCHVISION, save_torchvision, save_transformers

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLOS, an RT-DETR and an SSDlite."""
    root = tmp_path_factory.mktemp("models")
    save_transformers(root / "yolos")
    save_transformers(root / "rt", kind="rt_detr")
    save_torchvision(root / "ssd.pth")
    return root


def direct(folder: Path, image: np.ndarray[Any, Any]) -> dict[str, dict[str, torch.Tensor]]:
    """What the libraries themselves find."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    with torch.inference_mode():
        network = get_model_builder(TORCHVISION)(
            weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1
        ).eval()
        network.load_state_dict(torch.load(folder / "ssd.pth", weights_only=True)["model"])
        found = {TORCHVISION: network([tensor.float() / 255])[0]}
        for name in ("yolos", "rt"):
            model = transformers.AutoModelForObjectDetection.from_pretrained(folder / name)
            processor = transformers.AutoImageProcessor.from_pretrained(folder / name)
            outputs = model(**processor(images=image, return_tensors="pt"))
            (found[name],) = processor.post_process_object_detection(
                outputs, threshold=0.0, target_sizes=[image.shape[:2]]
            )
    return found


def test_the_command_gives_the_boxes_of_a_direct_call(
    folder: Path, tiny_coco: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    name = f"torchvision:{TORCHVISION}"
    models = f"{name},hf:{folder / 'yolos'},hf:{folder / 'rt'}"
    settings = [
        "--data",
        str(tiny_coco),
        "--noise",
        "gaussian",
        "--severity",
        "0",
        "--project",
        "runs",
        "--no-report",
    ]
    command("run", "--model", models, "--weights", f"{name}={folder / 'ssd.pth'}", *settings, "--name", "r")
    dataset = load_dataset(str(tiny_coco))
    ids = {c["name"]: c["id"] for c in dataset.categories}
    looked = 0
    for file in (tmp_path / "runs/r").rglob("*.parquet"):
        model = next((m for m in (TORCHVISION, "yolos", "rt") if m in file.parts), None)
        if model is None or "score" not in (frame := pd.read_parquet(file)).columns:
            continue
        for image in dataset.images:
            expected = direct(folder, image_decoding.read_image(image))[model]
            rows = frame[frame["image_id"] == image.id]
            offset = int(model == TORCHVISION)  # its background
            labels = np.array([ids[CLASSES[k - offset]] for k in expected["labels"].tolist()])
            keep = expected["scores"].numpy() >= 0.001
            order = np.argsort(-expected["scores"].numpy()[keep], kind="stable")
            boxes = np.clip(expected["boxes"].numpy()[keep][order], 0, [image.width, image.height] * 2)
            assert len(rows) == len(boxes) > 0 and (rows["category_id"] == labels[keep][order]).all()
            assert np.abs(rows[["x1", "y1", "x2", "y2"]].to_numpy() - boxes).max() < 1e-3
            looked += 1
    assert looked >= 3 * len(dataset.images)
    assert f"torchvision:{TORCHVISION}" in (tmp_path / "runs/r/manifest.json").read_text("utf-8")


def test_labels_of_coco_have_gaps(folder: Path, tmp_path: Path) -> None:
    save_torchvision(tmp_path / "coco.pth", labels=91)
    found = load_library_model(f"torchvision:{TORCHVISION}", weights=tmp_path / "coco.pth")
    assert len(found.classes) == 80 and found.classes[0] == "person" and "N/A" not in found.classes
    assert found.label_index[90] == 79 and found.label_index[12] == found.label_index[0] == -1


@pytest.mark.slow
def test_weights_without_names(folder: Path, tmp_path: Path) -> None:
    """A user's own: the head says how many classes there are, the user what they are called."""
    model, state = f"torchvision:{TORCHVISION}", torch.load(folder / "ssd.pth", weights_only=True)["model"]
    torch.save(state, tmp_path / "bare.pth")
    save_file(state, tmp_path / "bare.safetensors")
    for file in ("bare.pth", "bare.safetensors"):
        with pytest.raises(
            UsageError, match=r"has 2 classes, and the weights do not name them; give 2 with --classes"
        ):
            load_library_model(model, weights=tmp_path / file)
        one = load_library_model(model, weights=tmp_path / file, classes=["a", "b"])
        assert one.classes == ("a", "b")
    for given in ("a,b", ["a", "b"], "background,a,b", ["__background__", "a", "b"]):
        option = InferenceConfig(classes=given)
        assert load_library_model(model, option, weights=tmp_path / "bare.pth").classes == ("a", "b")
    with pytest.raises(UsageError, match="has 2 classes, and 3 class names are given; give 2"):
        load_library_model(model, InferenceConfig(classes="a,b,c"), weights=tmp_path / "bare.pth")
    save_file(state, tmp_path / "named.safetensors", {"classes": json.dumps(["x", "y"])})
    named = load_library_model(model, weights=tmp_path / "named.safetensors")
    assert named.classes == ("x", "y")


@pytest.mark.slow
def test_names_of_a_run_are_for_what_has_as_many(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`--classes` is of all models of a run: others keep their own names, which is said."""
    model = f"torchvision:{TORCHVISION}"
    for one, weights in ((model, folder / "ssd.pth"), (f"hf:{folder / 'yolos'}", None)):
        assert load_library_model(one, InferenceConfig(classes="x,y"), weights=weights).classes == ("x", "y")
        assert not caplog.records
        kept = load_library_model(one, InferenceConfig(classes="x,y,z"), weights=weights)
        assert kept.classes == CLASSES and "keeps the names of its 2 classes: --classes has 3" in caplog.text
        caplog.clear()
        with pytest.raises(UsageError, match="2 classes, and 3 class names are given"):
            load_library_model(one, weights=weights, classes=["x", "y", "z"])
    save_torchvision(tmp_path / "coco.pth", labels=91)
    for count in (80, 90):  # without COCO's gaps, or of somebody with 90 classes
        names = [f"c{k}" for k in range(count)]
        found = load_library_model(model, weights=tmp_path / "coco.pth", classes=names)
        assert found.classes == tuple(names) and found.label_index[1] == 0


def test_state_dicts_as_they_are_saved(folder: Path, tmp_path: Path) -> None:
    """Under the usual keys of a checkpoint, and behind what wrappers put before every name."""
    state = torch.load(folder / "ssd.pth", weights_only=True)["model"]
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    model, option = f"torchvision:{TORCHVISION}", InferenceConfig(classes="a,b")
    wanted = load_library_model(model, option, weights=folder / "ssd.pth").predict([image])[0]
    for content in (
        {"model_state_dict": state, "epoch": 3, "optimizer_state_dict": {"param_groups": []}},
        {f"module.{key}": value for key, value in state.items()},
        {"state_dict": {f"model.{key}": value for key, value in state.items()}, "hyper_parameters": {}},
    ):
        torch.save(content, tmp_path / "w.ckpt")
        found = load_library_model(model, option, weights=tmp_path / "w.ckpt").predict([image])[0]
        assert np.array_equal(found.xyxy, wanted.xyxy) and np.array_equal(found.scores, wanted.scores)


def test_nothing_is_fetched_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UsageError, match=r"--weights torchvision:.*=FILE\), or --download"):
        load_library_model(f"torchvision:{TORCHVISION}")
    with pytest.raises(UsageError, match=r"no such folder, and not in the hub's cache.*--download"):
        load_library_model("hf:nobody/no-such-model")
    with pytest.raises(UsageError, match="did you mean ssd300_vgg16"):
        load_library_model("torchvision:ssd300_vgg")


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (f"torchvision:{TORCHVISION}", {"imgsz": 640}, "takes 320 px only"),
        (f"torchvision:{TORCHVISION}", {"half": True}, "--half is for detectors of Ultralytics"),
        (f"torchvision:{TORCHVISION}", {"end2end": True}, "--end2end is for detectors of Ultralytics"),
        (
            f"torchvision:{TORCHVISION}",
            {"runtime": "onnx"},
            "--runtime onnx is for checkpoints of Ultralytics.*computed by PyTorch alone",
        ),
    ],
)
def test_settings_that_do_not_go_with_it(
    folder: Path, model: str, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        load_library_model(model, InferenceConfig(**settings), weights=folder / "ssd.pth")


def test_other_weights_and_damaged_ones(folder: Path, tmp_path: Path) -> None:
    model = f"torchvision:{TORCHVISION}"
    with pytest.raises(DataError, match=r"not the weights of torchvision:ssd300_vgg16"):
        load_library_model("torchvision:ssd300_vgg16", weights=folder / "ssd.pth")
    content = (folder / "ssd.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.safetensors").write_bytes(content[:100])
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "code.pth")
    torch.save({"head": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("cut.pth", "cut.safetensors", "code.pth", "other.pth", "missing.pth"):
        with pytest.raises(DataError, match=name):
            load_library_model(model, weights=tmp_path / name)


def test_scores_and_counts_are_limited(folder: Path) -> None:
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    model, weights = f"torchvision:{TORCHVISION}", folder / "ssd.pth"
    whole, few = (
        load_library_model(model, InferenceConfig(max_det=most), weights=weights).predict([image])[0]
        for most in (300, 5)
    )
    assert len(few) == 5 < len(whole) and np.array_equal(few.xyxy, whole.xyxy[:5])
    limit = float(np.median(whole.scores))
    cut = load_library_model(model, InferenceConfig(conf=limit), weights=weights).predict([image])[0]
    assert 0 < len(cut) < len(whole) and cut.scores.min() >= limit


def edit(folder: Path, to: Path, name: str = "config.json", **changes: Any) -> Path:
    shutil.copytree(folder, to)
    path = to / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return to


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', which is not an object detection model"),
        ({"model_type": None}, "model_type is None"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' is 1000000000; the limit is"),
        ({"num_hidden_layers": 3}, "lack .* tensors of the config's network"),
        ({"num_labels": 10**8}, "'num_labels' is 100000000; the limit is 100,000"),
        ({"hidden_size": 90_000}, "parameters, and the files hold"),
        ({"auto_map": {"AutoConfig": "evil.Config"}}, "auto_map, which runs further code"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes"}},
            "quantization_config, which runs further code",
        ),
        ({"attn_implementation": "kernels-community/evil"}, "attn_implementation, which runs further code"),
        ({"backbone": "hf-hub:evil/model"}, "its backbone is .*not a plain name"),
        ({"id2label": {"0": "a", "7": "b"}}, "yolos: its class names have the labels"),
        ({"id2label": {"0": "a" * 9999, "1": "b"}}, "yolos: among its class names"),
        ({"hidden_size": "x"}, "transformers cannot load it"),
    ],
)
def test_configs_of_strangers(folder: Path, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RobustBenchError, match=reason):
        load_library_model(f"hf:{edit(folder / 'yolos', tmp_path / 'yolos', **changes)}")


def test_processors_of_strangers(folder: Path, tmp_path: Path) -> None:
    huge = {"size": {"shortest_edge": 10**6, "longest_edge": 10**6}}
    changed = edit(folder / "yolos", tmp_path / "a", "preprocessor_config.json", **huge)
    for trust, most in ((False, "2,048"), (True, "7,680")):
        with pytest.raises(
            DataError, match=f"'shortest_edge' is 1000000; the limit is {most}: set another size with --imgsz"
        ):
            load_library_model(f"hf:{changed}", InferenceConfig(trust_weights=trust))
    assert load_library_model(f"hf:{changed}", InferenceConfig(imgsz=64)).imgsz == 64
    other = {"image_processor_type": "ViTImageProcessor"}
    with pytest.raises(DataError, match="does not output boxes"):
        load_library_model(
            f"hf:{edit(folder / 'yolos', tmp_path / 'b', 'preprocessor_config.json', **other)}"
        )


def test_folders_of_strangers(folder: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder / "yolos", tmp_path / name))

    (copy("nothing") / "model.safetensors").unlink()
    pickled = copy("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    (copy("cut") / "model.safetensors").write_bytes((folder / "yolos/model.safetensors").read_bytes()[:-9])
    (copy("peft") / "adapter_config.json").write_text("{}")
    index = {"weight_map": {"a": "../yolos/model.safetensors"}}
    (copy("outside") / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy("alone") / "preprocessor_config.json").unlink()
    (copy("bare") / "config.json").write_text("[]")
    (copy("deep") / "config.json").write_text("[" * 10_000)
    for name, reason in (
        ("nothing", "has no model.safetensors; save_pretrained"),
        ("pickled", "pytorch_model.bin is not read without --trust-weights"),
        ("cut", "damaged"),
        ("peft", "an adapter"),
        ("outside", "names no files of its own folder"),
        ("alone", "has no preprocessor_config.json"),
        ("bare", "model_type is None"),
        ("deep", "config.json"),
    ):
        with pytest.raises(DataError, match=reason):
            load_library_model(f"hf:{tmp_path / name}")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "robustbench_sgdm.detectors.adapters.transformers", None)
    with pytest.raises(UsageError, match=r'pip install "robustbench-sgdm\[hf\]"'):
        load_library_model(f"hf:{folder / 'yolos'}")


def test_names_in_results(folder: Path) -> None:
    name = f"torchvision:{TORCHVISION}"
    entries = load_detectors([name, f"hf:{folder / 'yolos'}"], weights={name: folder / "ssd.pth"})
    assert list(entries) == [TORCHVISION, "yolos"]
    assert entries[TORCHVISION].weights == str(folder / "ssd.pth")
    assert entries["yolos"].weights == str(folder / "yolos")
    assert entries["yolos"].describe()["loader"] == f"hf:{folder / 'yolos'}"
