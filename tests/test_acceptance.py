"""The numbers against independent ones, on genuine COCO images with a genuine detector."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.datasets.export import to_yolo
from robustbench_sgdm.datasets.image_decoding import read_image
from robustbench_sgdm.detectors import DetectorEntry, load_detector
from robustbench_sgdm.scoring import Scorer, read_predictions
from robustbench_sgdm.store import Run, Settings
from robustbench_sgdm.sweep import make_plan, run_sweep


@pytest.fixture(scope="module")
def run(coco_json: Path, coco_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Clean and gaussian noise at severity 3 on 128 images."""
    return evaluated([0, 3], coco_json, coco_weights, tmp_path_factory.mktemp("runs"))


def evaluated(severities: list[float], coco_json: Path, coco_weights: Path, folder: Path) -> Run:
    models = {"yolov8n": DetectorEntry(load_detector("yolov8n", weights=coco_weights), str(coco_weights))}
    noise = corruption.load_corruptions().select(["gaussian"])
    plan = make_plan(
        models, datasets.load_dataset(str(coco_json)), noise, severities, Settings("cpu", "torch", 0, 4)
    )
    opened = Run.create_or_resume(folder, "acceptance", plan.to_manifest())
    run_sweep(plan, opened.store)
    return opened


def ap(run: Run) -> dict[float, float]:
    frame = run.results()
    return dict(zip(frame["severity"], frame["AP"], strict=True))


def test_clean_ap_is_that_of_ultralytics_val(
    run: Run, coco_json: Path, coco_weights: Path, tmp_path: Path
) -> None:
    """Within 0.1: Ultralytics rounds boxes to 1/1000 px and scores to 1e-5 in its json."""
    from ultralytics.models.yolo.detect import DetectionValidator

    data = datasets.load_dataset(str(coco_json))
    to_yolo(data, tmp_path)
    described = {
        "path": str(tmp_path),
        "train": "images",
        "val": "images",
        "names": dict(enumerate(data.classes)),
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(described))
    settings = {
        "model": str(coco_weights), "data": str(tmp_path / "data.yaml"), "imgsz": 640, "batch": 4, "rect": False,
        "conf": 0.001, "iou": 0.7, "save_json": True, "plots": False, "workers": 0, "device": "cpu",
        "project": str(tmp_path), "name": "val", "verbose": False,
    }  # fmt: skip
    validator = DetectionValidator(args=settings)
    validator(model=str(coco_weights))
    found = json.loads((Path(validator.save_dir) / "predictions.json").read_text())
    # What `score --data data.yaml` makes of them, untouched.
    own = datasets.load_dataset(str(tmp_path / "data.yaml"))
    read = read_predictions(Path(validator.save_dir) / "predictions.json", own)
    names = {image.path.name: image.id for image in own.images}
    told = [(names[d["file_name"]], d["category_id"] - 1, d["score"]) for d in found]
    assert sorted(told) == sorted(zip(read["image_id"], read["category_id"], read["score"], strict=True))
    ids = {f"{n:03d}-{i.path.stem}": i.id for n, i in enumerate(data.images)}
    categories = [int(c["id"]) for c in data.categories]
    rows = [
        [ids[str(d["image_id"])], *d["bbox"], d["score"], categories[d["category_id"] - 1]] for d in found
    ]
    theirs = Scorer(data, "pycocotools").score([np.array(rows)]).metrics
    ours = run.results().iloc[0]
    for metric in ("AP", "AP50", "AP_S", "AP_M", "AP_L"):
        expected = theirs[metric]
        assert expected is not None and ours[metric] == pytest.approx(expected, abs=0.1)


INDEPENDENT = {0: 42.98, 1: 31.1, 3: 13.1, 5: 2.0}
"""AP by severity of imagecorruptions, Ultralytics' network and pycocotools; other draws differ by about 1."""


def test_scores_under_noise_are_those_of_an_independent_pipeline(run: Run) -> None:
    assert ap(run)[0] == pytest.approx(INDEPENDENT[0], abs=0.1)
    assert ap(run)[3] == pytest.approx(INDEPENDENT[3], abs=1.5)


@pytest.mark.slow
def test_scores_at_other_severities(coco_json: Path, coco_weights: Path, tmp_path: Path) -> None:
    found = ap(evaluated([1, 5], coco_json, coco_weights, tmp_path))
    assert found == {severity: pytest.approx(INDEPENDENT[int(severity)], abs=1.5) for severity in (1, 5)}


def test_pycocotools_gives_the_same_twelve_numbers(run: Run, coco_json: Path) -> None:
    data = datasets.load_dataset(str(coco_json))
    for cell in run.cells:
        frame = run.store.read_detections(cell)
        boxes = frame[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
        rows = np.column_stack(
            [
                frame["image_id"],
                boxes[:, :2],
                boxes[:, 2:] - boxes[:, :2],
                frame["score"],
                frame["category_id"],
            ]
        )
        assert dict(Scorer(data, "pycocotools").score([rows]).metrics) == run.store.read_scores(cell).metrics


def test_grafted_at_gamma_zero_detects_the_same(coco_json: Path, coco_weights: Path) -> None:
    images = [
        torch.from_numpy(read_image(i).transpose(2, 0, 1).copy())
        for i in datasets.load_dataset(str(coco_json)).images[:3]
    ]
    plain, grafted = (
        load_detector(name, weights=coco_weights).predict(images) for name in ("yolov8n", "yolov8n-sgdm")
    )
    for a, b in zip(plain, grafted, strict=True):
        # Folding the graft rounds its additions to zero.
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-2)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
