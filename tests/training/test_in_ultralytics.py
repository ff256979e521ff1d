"""A checkpoint of every module in plain Ultralytics, two of them trained: its own predict, val and export.

Each release runs in a fresh process that imports nothing but `ultralytics`; what the checkpoint needs, its pickle
imports. `ROBUSTBENCH_ULTRALYTICS` names folders of further releases, as `pip install --no-deps --target` fills them:
these are given checkpoints of SGDM alone, of both kinds of banks, new and old; `make test-slow` gives them all.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from robustbench_sgdm import detectors
from robustbench_sgdm.api import train
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.detectors.ultralytics import weights, zoo
from robustbench_sgdm.modules import MODULES
from robustbench_sgdm.modules.dynamic import BankedConv
from robustbench_sgdm.training import TrainingData, initialization
from robustbench_sgdm.training.comparison import run_name

INSTALLED = "installed"
RELEASES = [INSTALLED, *filter(None, os.environ.get("ROBUSTBENCH_ULTRALYTICS", "").split(os.pathsep))]
NAMES = {  # a module that starts as the identity would hardly be one after a step
    name: f"yolov8n-{name}" + "[gamma=1.0]" * spec.can_start_as_identity for name, spec in MODULES.items()
}
OLD = [name for name in MODULES if name in ("sgdm", "sgdm+odconv")]  # banks of both kinds, as pickled before
SIZE = 64

ALONE = """
import json, sys
from pathlib import Path
import numpy as np, torch, ultralytics
from ultralytics import YOLO
from ultralytics.utils.benchmarks import benchmark

folder, data, pictures, out = map(Path, sys.argv[1:5])
ultralytics.settings["runs_dir"] = str(out / "runs")  # by default it lies in the repository around Ultralytics
chosen, benchmarked = sys.argv[5].split(","), sys.argv[6]
images = sorted(map(str, pictures.glob("*.png")))[:2]
options = {"imgsz": 64, "device": "cpu", "verbose": False}
found = {"file": ultralytics.__file__, "faults": {}, "boxes": {}}


def raw(model, name):
    results = model.predict(images, conf=0.0, batch=2, **options)
    found["boxes"][name] = [len(result) for result in results]
    batch = np.stack([ultralytics.utils.patches.imread(image)[..., ::-1].transpose(2, 0, 1) for image in images])
    with torch.inference_mode():
        output = model.predictor.model(torch.from_numpy(np.ascontiguousarray(batch)).float() / 255)
    np.save(out / f"{name}.npy", np.asarray(output[0] if isinstance(output, (list, tuple)) else output))


def check(path, name):
    raw(YOLO(path), name)
    YOLO(path).predict(images[0], **{**options, "imgsz": 96})
    YOLO(path).info()
    YOLO(path).val(data=data, plots=False, workers=0, rect=True, batch=2, **options)
    exported = YOLO(path).export(format="onnx", simplify=False, dynamic=True, **options)
    raw(YOLO(exported, task="detect"), f"{name}.onnx")
    if name == benchmarked:  # it exports and validates once more, which takes as long as all before
        YOLO(path).val(data=data, plots=False, workers=0, rect=False, batch=3, **options)
        benchmark(model=path, data=data, imgsz=64, device="cpu", format="torchscript", verbose=True)


for name in chosen:
    try:
        check(folder / name / "weights" / "best.pt", name)
    except Exception as error:
        found["faults"][name] = f"{type(error).__name__}: {error}"
found["ours"] = sorted(name for name in sys.modules if name.startswith("robustbench_sgdm."))
(out / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, boxes: Callable[[Path], TrainingData]) -> Path:
    """A comparison's folder of SGDM with banks of both kinds, each also as an earlier version pickled it.

    The other modules are beside them as they start: to train each for an epoch would take a minute.
    """
    root = tmp_path_factory.mktemp("modules")
    base = base_that_sees(root / "base.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTBENCH_CACHE", str(root / "cache"))
        runs = train(
            [NAMES[name] for name in OLD],
            data=boxes(root / "data"),
            init=base,
            epochs=1,
            imgsz=SIZE,
            batch=4,
            fraction=0.4,
            project=root,
            name="all",
            report=lambda _: None,
        )
    for run, name in zip(runs, OLD, strict=True):
        old = run.folder.parent / f"old-{name}" / "weights" / "best.pt"
        old.parent.mkdir(parents=True)
        torch.save(with_five_axes(run.folder / "weights" / "best.pt"), old)
    start = weights.read_weights(base)
    for name in set(NAMES) - set(OLD):
        path = root / "all" / run_name(NAMES[name], 0) / "weights" / "best.pt"
        path.parent.mkdir(parents=True)
        network = initialization.initialize_model(NAMES[name], ["box"], 0, start).model
        torch.save({"model": network.half().eval().requires_grad_(False)}, path)
    (root / "pictures").mkdir()
    for number in range(2):  # of the network's size, so that nothing is resized
        picture = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Pillow.fromarray(picture).save(root / "pictures" / f"{number}.png")
    return root


def base_that_sees(path: Path) -> Path:
    """A YOLOv8n of one class with random weights, whose BatchNorms have seen images.

    As initialised, they take an image's every trace from layer to layer, and any two images give the same output.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = zoo.build_model("yolov8n", 1, ["box"])
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    weights.write_weights(path, network.state_dict(), zoo.model_config("yolov8n", 1), ["box"])
    return path


def with_five_axes(path: Path) -> dict[str, Any]:
    """A checkpoint whose banks are stored (K, o, i, k, k), as they were once."""
    content: dict[str, Any] = torch.load(path, weights_only=False)
    for part in content["model"].modules():
        if isinstance(part, BankedConv):
            part.bank = torch.nn.Parameter(part.bank_kernels().detach().clone(), requires_grad=False)
            del part._bank_shape
    return content


FOLDERS = {
    **{run_name(model, 0): name for name, model in NAMES.items()},
    **{f"old-{name}": name for name in OLD},
}
SGDM = run_name(NAMES["sgdm"], 0)


def is_quick(release: str, folder: str) -> bool:
    """Whether every run of the tests gives a release this checkpoint."""
    return release == INSTALLED or FOLDERS[folder] in OLD


EACH = pytest.mark.parametrize(
    ("release", "folder"),
    [
        pytest.param(release, folder, marks=[pytest.mark.slow] * (not is_quick(release, folder)))
        for release in RELEASES
        for folder in FOLDERS
    ],
)


@pytest.fixture(scope="module")
def alone(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of what a release of Ultralytics put out for a checkpoint, on its own.

    It runs once for the quick checkpoints and once for the others.
    """

    @cache
    def put_out_all(release: str, quick: bool) -> Path:
        chosen = [folder for folder in FOLDERS if is_quick(release, folder) == quick]
        return put_out(release, chosen, trained, tmp_path_factory.mktemp("alone"))

    return lambda release, folder=SGDM: put_out_all(release, is_quick(release, folder))


def put_out(release: str, chosen: list[str], trained: Path, out: Path, benchmarked: str = "") -> Path:
    (out / "script.py").write_text(ALONE)
    paths = [str(Path(__file__).parents[2]), *([] if release == INSTALLED else [release])]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO", "PYTEST"))}
    environment |= {
        "PYTHONPATH": os.pathsep.join(reversed(paths)),
        "YOLO_CONFIG_DIR": str(out),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "OMP_NUM_THREADS": "1",
    }
    places = [trained / "all", trained / "all" / "data.yaml", trained / "pictures", out]
    arguments = [*places, ",".join(chosen), benchmarked]
    command = [sys.executable, str(out / "script.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True, check=False)
    assert (out / "found.json").is_file(), done.stderr[-3000:]
    assert release == INSTALLED or found(out)["file"].startswith(release)
    return out


def found(out: Path) -> Any:
    return json.loads((out / "found.json").read_text())


@EACH
def test_it_predicts_validates_and_exports(alone: Callable[..., Path], release: str, folder: str) -> None:
    told = found(alone(release, folder))
    assert told["faults"].get(folder) is None and all(count > 0 for count in told["boxes"][folder])


@pytest.mark.slow
def test_ultralytics_benchmarks_it(trained: Path, tmp_path: Path) -> None:
    told = found(put_out(INSTALLED, [SGDM], trained, tmp_path, benchmarked=SGDM))
    assert told["faults"] == {}


@EACH
def test_it_puts_out_what_our_own_loader_does(
    alone: Callable[..., Path], trained: Path, release: str, folder: str
) -> None:
    """Boxes to 0.1 px and scores to 0.001: Ultralytics sums in another order, which random weights amplify."""
    detector = detectors.load_detector(
        trained / "all" / folder / "weights" / "best.pt", InferenceConfig(imgsz=SIZE)
    )
    pictures = [np.asarray(Pillow.open(path)) for path in sorted((trained / "pictures").glob("*.png"))]
    batch = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())
    ours = detector.forward(batch).numpy()
    assert np.abs(ours[0] - ours[1]).max() > 1  # two images that the network tells apart
    for name in (folder, f"{folder}.onnx"):
        theirs = np.load(alone(release, folder) / f"{name}.npy")
        np.testing.assert_allclose(theirs[:, :4], ours[:, :4], rtol=0, atol=0.1)
        np.testing.assert_allclose(theirs[:, 4:], ours[:, 4:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_of_ours_is_needed_but_the_modules(alone: Callable[..., Path], release: str) -> None:
    allowed = ("robustbench_sgdm.modules", "robustbench_sgdm.core.errors")
    ours = [name for name in found(alone(release))["ours"] if name != "robustbench_sgdm.core"]
    assert [name for name in ours if not name.startswith(allowed)] == []


@pytest.mark.parametrize("name", OLD)
def test_files_of_five_axes_load_to_the_same_bank(trained: Path, name: str, tmp_path: Path) -> None:
    """As `.pt`, and as the `.safetensors` that an earlier version wrote."""
    new = weights.read_weights(trained / "all" / run_name(NAMES[name], 0) / "best.safetensors")
    old = weights.read_weights(trained / "all" / f"old-{name}" / "weights" / "best.pt")
    assert weights.hash_tensors(old.state) == weights.hash_tensors(new.state)
    shapes = {
        f"model.{key}.bank": part._bank_shape
        for key, part in new.network.get_submodule("model").named_modules()
        if isinstance(part, BankedConv)
    }
    state = {key: value.view(shapes.get(key, value.shape)) for key, value in new.state.items()}
    weights.write_weights(tmp_path / "old.safetensors", state, new.config, new.classes, layers=new.layers)
    assert len(shapes) == 3
    assert weights.hash_tensors(
        weights.read_weights(tmp_path / "old.safetensors").state
    ) == weights.hash_tensors(new.state)


@pytest.mark.parametrize("name", MODULES)
def test_no_tensor_lacks_a_channels_last_format(name: str) -> None:
    """Ultralytics turns whole networks into it on CUDA for training, and on the CPU to predict."""
    network = zoo.build_model(f"yolov8n-{name}", 2)
    network.to(memory_format=torch.channels_last)
    assert {t.ndim for t in [*network.parameters(), *network.buffers()]} <= {0, 1, 2, 3, 4}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgdm", "sgdm+odconv", "cbam"])
def test_ultralytics_optimizer_of_long_trainings_takes_every_tensor(
    name: str, tmp_path: Path, boxes: Callable[[Path], TrainingData]
) -> None:
    options: dict[str, Any] = {"epochs": 1, "imgsz": SIZE, "batch": 4, "fraction": 0.4}
    options["arguments"] = {"optimizer": "MuSGD"}
    (run,) = train(
        [f"yolov8n-{name}"], data=boxes(tmp_path / "d"), project=tmp_path, report=lambda _: None, **options
    )
    assert all(tensor.isfinite().all() for tensor in weights.read_weights(run.weights).state.values())
