"""Atheris on one reader: bytes that reach new lines of its code are kept and damaged further.

    python tests/fuzz/guided.py pictures -runs=10000

Ends with exit code 0, or with another one, the traceback and the input where a reader lets out what it should not.
"""

import contextlib
import json
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).parents[2]
# Not what numba compiles: it does not know the calls that atheris puts in.
COMPILED = [
    f"robustbench_sgdm.robustness.{p.stem}" for p in (ROOT / "robustbench_sgdm/robustness").glob("*.py")
]

with atheris.instrument_imports(include=["robustbench_sgdm", "yaml", "PIL"], exclude=COMPILED):
    from robustbench_sgdm.core import resources
    from robustbench_sgdm.core.errors import RobustBenchError
    from robustbench_sgdm.detectors.runtimes import onnx_file

    readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))


def main() -> None:
    """Fuzz the reader that the command line names."""
    name = sys.argv.pop(1)
    root = Path(tempfile.mkdtemp(prefix="robustbench-fuzz-"))
    path, seeds, use = TARGETS[name](root)
    for number, seed in enumerate(seeds):
        (root / "seeds").mkdir(exist_ok=True)
        (root / "seeds" / str(number)).write_bytes(seed)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with warnings.catch_warnings(), contextlib.suppress(RobustBenchError):
            warnings.simplefilter("ignore")
            use(path)

    options = ["-timeout=10", "-rss_limit_mb=6000", "-max_len=200000", f"-artifact_prefix={root}/"]
    atheris.Setup([*sys.argv, *options, str(root / "seeds")], one)
    atheris.Fuzz()


Target = tuple[Path, list[bytes], Callable[[Path], object]]


def dataset_jsons(root: Path) -> Target:
    """COCO ground truth."""
    return (
        readers.folder(root / "data") / "val.json",
        [json.dumps(readers.COCO).encode()],
        readers.use_dataset,
    )


def dataset_yamls(root: Path) -> Target:
    """Ultralytics' dataset YAMLs."""
    seeds = [readers.yaml_of(readers.YOLO), b"path: .\nval: images/val\nnames: [dog, cat]\n"]
    return readers.folder(root / "data") / "data.yaml", seeds, readers.use_dataset


def pixel_manifests(root: Path) -> Target:
    """What `robustbench corrupt --verify` reads."""
    folder = readers.folder(root / "data")
    return folder / "pixels.json", [readers.pixel_manifest(folder)], readers.use_pixel_manifest


def predictions(root: Path) -> Target:
    """COCO results."""
    return (
        readers.folder(root / "data") / "p.json",
        [json.dumps(readers.FOUND).encode()],
        readers.use_predictions,
    )


def pickled_predictions(root: Path) -> Target:
    """Test results of mmdetection 2 and 3."""
    seeds = [pickle.dumps(one, 2) for one in (readers.MMDETECTION_2, readers.MMDETECTION_3)]
    return readers.folder(root / "data") / "p.pkl", seeds, readers.use_predictions


def pictures(root: Path) -> Target:
    """Images."""
    return root / "d.png", [make() for make in readers.PICTURES], readers.use_picture


def manifests(root: Path) -> Target:
    """The manifest of a run directory."""
    path: Path = readers.sound_run(root) / "manifest.json"
    return path, [path.read_bytes()], lambda file: readers.use_run(file.parent)


def checkpoints(root: Path) -> Target:
    """Ultralytics' `.pt`."""
    return root / "m.pt", [readers.checkpoint()], readers.use_weights


def onnx_models(root: Path) -> Target:
    """ONNX files, as far as they are looked at here: a trial of each would take a process."""
    return root / "m.onnx", [readers.onnx_model()], onnx_file.read_onnx


def model_yamls(root: Path) -> Target:
    """The header of weights, around sound tensors."""
    import safetensors.torch

    tensors = dict(readers.mini().state_dict())
    header = {"config": readers.MINI, "classes": readers.CLASSES, "meta": {}, "layers": readers.layers()}

    def use(path: Path) -> None:
        text = path.read_bytes().decode("utf-8", "replace")
        safetensors.torch.save_file(tensors, root / "m.safetensors", {"robustbench_sgdm": text})
        readers.use_weights(root / "m.safetensors")

    return root / "header.json", [json.dumps(header).encode()], use


TARGETS: dict[str, Callable[[Path], Target]] = {
    made.__name__: made
    for made in (
        dataset_jsons,
        dataset_yamls,
        pixel_manifests,
        predictions,
        pickled_predictions,
        pictures,
        manifests,
        checkpoints,
        onnx_models,
        model_yamls,
    )
}

if __name__ == "__main__":
    main()
