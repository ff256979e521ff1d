"""What the commands do with a file that somebody gives them, each as one function, and a sound sample of each file."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image as Pillow

from robustbench_sgdm import api, datasets, robustness, tables
from robustbench_sgdm.cli import lists, results
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core import resources
from robustbench_sgdm.corruption import load_corruptions
from robustbench_sgdm.datasets import Image, image_decoding
from robustbench_sgdm.datasets.export import to_yolo
from robustbench_sgdm.detectors import load_library_model
from robustbench_sgdm.detectors.runtimes import load_exported
from robustbench_sgdm.detectors.ultralytics import adapter, architecture, layer_settings
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.leaderboard import write_leaderboard
from robustbench_sgdm.robustness import unique_model_names
from robustbench_sgdm.scoring import Scorer, coco_rows, read_predictions
from robustbench_sgdm.store import Run, join_runs
from robustbench_sgdm.sweep import external_predictions
from robustbench_sgdm.sweep.metadata import dataset_info, ground_truth
from robustbench_sgdm.sweep.pixel_manifest import verify_manifest, write_manifest
from tests.support import synthetic_runs

adapters: Any = resources.import_file(resources.root() / "tests/detectors/adapters/conftest.py")
exports: Any = resources.import_file(resources.root() / "tests/detectors/runtimes/models.py")

COCO: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{c}.png", "width": 24, "height": 24} for n, c in enumerate("abc", 1)],
    "annotations": [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [2, 2, 9.5, 8], "area": 76.0, "iscrowd": 0}
        for n in (1, 2, 3)
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}],
}
YOLO: dict[str, Any] = {"path": ".", "val": ["val.txt", "images/val"], "names": {0: "dog", 1: "cat"}}
FOUND = [
    {"image_id": n, "category_id": 1 + n % 2, "bbox": [2, 2, 9, 8], "score": 0.1 * n} | more
    for n, more in (
        (1, {}),
        (2, {"file_name": "b.png"}),
        (3, {"image_id": "c", "file_name": "images/val/c.png"}),
    )
]
DESCRIBED = {
    "images": COCO["images"],
    "categories": COCO["categories"],
    "annotations": [{"image_id": 1, "category_id": 2, "bbox": [2, 2, 9, 8], "score": 0.5}],
}
NESTED = {"fog": {1: {"bbox": {"AP": 0.5, "APs": -1}}, 3: {"bbox": {"AP": 0.25}}}}
_BOXES = np.array([[2, 2, 11, 10, 0.5], [1, 1, 9, 9, 0.25]], np.float32)
MMDETECTION_2: list[Any] = [
    [_BOXES, _BOXES[:0].copy()],
    [_BOXES[:1].copy(), _BOXES],
    [_BOXES[:0], _BOXES[1:]],
]
_MAKERS: tuple[Any, ...] = (torch.tensor, torch.tensor, np.array)
MMDETECTION_3: list[Any] = [
    {
        "img_id": n,
        "img_path": f"images/val/{c}.png",
        "pred_instances": {
            "bboxes": (whole := make(_BOXES))[:, :4],
            "scores": whole[:, 4],
            "labels": make(np.array([1, 0])),
        },
    }
    for n, c, make in zip((1, 2, 3), "abc", _MAKERS, strict=True)
]
NESTED_PICKLED = {"fog": {0: {"bbox": {"AP": np.float64(0.5), "APs": "-1"}}, 3: {"bbox": {"AP": 0.25}}}}
CLASSES = ["cat", "dog"]
# A detector in small: every kind of row that the large ones have.
MINI: dict[str, Any] = {
    "nc": 2,
    "scale": "n",
    "scales": {"n": [0.5, 0.5, 64]},
    "activation": "nn.ReLU()",
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 2, "C2f", [16, True]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "SGDM", [32]],
        [[7, 4], 1, "Detect", ["nc"]],
    ],
}


def folder(root: Path) -> Path:
    """A data set of three pictures, as COCO and as YOLO have it."""
    for part in ("images/val", "labels/val", "out"):
        (root / part).mkdir(parents=True)
    for name in "abc":
        (root / f"images/val/{name}.png").write_bytes(picture())
        rows = "0 .1 .1 .3 .1 .3 .5 .1 .5\n" if name == "b" else "1 0.5 0.5 0.2 0.4\n0 .3 .3 .2 .2\n"
        (root / f"labels/val/{name}.txt").write_text(rows)
    (root / "val.txt").write_text(f"./images/val/a.png\nimages/val/b.png\n{root}/images/val/c.png\n")
    inside = [image | {"file_name": f"images/val/{image['file_name']}"} for image in COCO["images"]]
    (root / "sound.json").write_text(json.dumps(COCO | {"images": inside}))
    return root


def picture(side: int = 24, kind: str = "PNG", mode: str = "RGB", **how: Any) -> bytes:
    """A picture of noise in some format."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(buffer, kind, **how)
    return buffer.getvalue()


_TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
PICTURES: tuple[Callable[[], bytes], ...] = (
    picture,
    lambda: picture(mode="P"),
    lambda: picture(mode="I;16"),
    lambda: picture(kind="JPEG"),
    lambda: picture(kind="JPEG", mode="CMYK"),
    lambda: picture(kind="JPEG", progressive=True, exif=_TURNED),
    lambda: picture(kind="WEBP"),
    lambda: picture(kind="GIF"),
    lambda: picture(kind="BMP"),
    lambda: picture(kind="TIFF"),
    lambda: picture(kind="TIFF", compression="tiff_lzw"),
    lambda: picture(kind="JPEG2000"),
    lambda: picture(kind="PPM"),
    lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n",
)


def mini() -> Any:
    """The small detector."""
    return architecture.build_network(MINI, CLASSES).eval()


def layers() -> layer_settings.Layers:
    """What its layers are set to."""
    return layer_settings.from_network(mini().get_submodule("model"))


def checkpoint() -> bytes:
    """The detector as Ultralytics saves one."""
    buffer = io.BytesIO()
    torch.save({"model": mini(), "ema": None, "license": "AGPL-3.0"}, buffer)
    return buffer.getvalue()


def sound_run(project: Path) -> Path:
    """A complete run with its statistics."""
    run = synthetic_runs.make_run(project, "r", ["base", "base-sgdm"], {"fog": [1, 3]}, images=6)
    (run.path / "image_quality.csv").write_text(
        "corruption,severity,psnr,ssim,images,key\nfog,1.0,20.5,0.5,6,k\n"
    )
    (run.path / "latency.csv").write_text("model,milliseconds,ratio,low,high,device\nbase,1.5,1,1,1,cpu\n")
    use_run(run.path)
    path: Path = run.path
    return path


def use_dataset(path: Path) -> None:
    """As `run` and `train` do; what is written goes into `out` beside the file."""
    data = datasets.load_dataset(str(path))
    dataset_info(data)
    ground_truth(data).write(path.parent / "out/truth", data.fingerprint)
    Scorer(data).score([])
    to_yolo(data, path.parent / "out/yolo")


def use_predictions(path: Path) -> None:
    """As `score` does, of the data set beside the file."""
    data = datasets.load_dataset(str(path.parent / "sound.json"))
    Scorer(data).score([coco_rows(read_predictions(path, data))])


def pixel_manifest(root: Path) -> bytes:
    """Hashes of the data set's images under two corruptions."""
    registry, dataset = load_corruptions(), datasets.load_dataset(str(root / "sound.json"))
    versions = [(registry.get(name), severity) for name in ("fog", "gaussian_noise") for severity in (1, 3)]
    write_manifest(root / "out/pixels.json", dataset, versions, seed=0, engine="torch")
    return (root / "out/pixels.json").read_bytes()


def use_pixel_manifest(path: Path) -> None:
    """As `corrupt --verify` does, with the data set beside the file."""
    dataset = datasets.load_dataset(str(path.parent / "sound.json"))
    verify_manifest(path, dataset, load_corruptions()).check()


def use_nested(path: Path) -> None:
    """mmdetection's."""
    external_predictions.discover_predictions(str(path))


def use_picture(path: Path) -> None:
    """As a data set's image and as an upload."""
    image_decoding.read_header(path)
    pixels = image_decoding.read_image(Image(1, path, 24, 24))
    assert pixels.shape == (24, 24, 3) and pixels.dtype == np.uint8
    image_decoding.decode_image(path.read_bytes())


def use_weights(path: Path) -> None:
    """What `robustbench run --model FILE` does with it before it sees an image."""
    adapter.load_detector(path, InferenceConfig(imgsz=64))


def onnx_model() -> bytes:
    """A small detector as an ONNX file."""
    found: bytes = exports.raw()
    return found


def openvino_model(path: Path) -> Path:
    """The same as an OpenVINO folder."""
    found: Path = exports.openvino_folder(path)
    return found


def use_export(path: Path) -> None:
    """What `robustbench run --model FILE` does with an exported model before it sees an image."""
    load_exported(path)


def transformers_folder(path: Path) -> Path:
    """A small YOLOS with its image processor."""
    adapters.save_transformers(path)
    return path


def use_transformers(path: Path) -> None:
    """What `robustbench run --model hf:FOLDER` does with it, and with a small picture."""
    detector = load_library_model(f"hf:{path}", InferenceConfig(classes="cat,dog"))
    detector.predict([torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 24, 32), np.uint8))])


def use_run(path: Path) -> None:
    """What the commands and the dashboard read of a run; what is made of it goes beside it."""
    lists.runs(path.parent)
    run = Run.open(path)
    opened = api.Run(run, resamples=4)
    results.results_record(opened)
    opened.model_index()
    shutil.rmtree(joined := path.parent / "made/joined", ignore_errors=True)  # of another state of the run
    join_runs([run], unique_model_names([run]), joined)
    tables.corruption_tables(run.results(), run.baseline_pairs)
    run.read_latency()
    run.write_results()
    analysis = RunAnalysis(run, resamples=4)
    robustness.summary(run, metrics=["AP"])
    robustness.error_types(run)
    _ = analysis.intervals
    for baseline, model in run.training_pairs:
        robustness.find_flips(run, baseline, model)
    _ = analysis.verdicts


def use_runs(path: Path) -> None:
    """As a leaderboard does, on which a run beside it stays."""
    page, _ = write_leaderboard([path, path.parent / "sound"], path.parent / "made/site", resamples=4)
    assert "sound" in page.with_name("leaderboard.csv").read_text()


def yaml_of(value: Any) -> bytes:
    """YAML text."""
    return yaml.safe_dump(value).encode()
