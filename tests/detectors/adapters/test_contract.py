"""What every adapter must keep: images by themselves, threads, empty results, odd sizes, fingerprints, pickles."""

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import robustbench_sgdm as rb
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.parsing import LIBRARIES
from robustbench_sgdm.detectors import Detector, load_library_model
from tests.detectors.adapters.conftest import CLASSES, TORCHVISION, save_torchvision, save_transformers


class Bright(torch.nn.Module):
    """A box around the brightest pixel, as sure as it is bright; nothing in a black image."""

    def __init__(self, side: float) -> None:
        super().__init__()
        self.side = torch.nn.Parameter(torch.tensor(side))

    def forward(self, images: list[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        found = []
        for image in images:
            grey = image.mean(2)
            y, x = np.unravel_index(int(grey.argmax()), grey.shape)
            side = float(self.side.detach())
            boxes = np.array([[x - side, y - side, x + side, y + side]])[: int(grey.max() > 0)]
            scores = np.full(len(boxes), grey.max() / 255)
            found.append({"boxes": boxes, "scores": scores, "labels": np.zeros(len(boxes))})
        return found


def callable_detector(folder: Path, seed: int, config: InferenceConfig) -> Detector:
    return rb.wrap_detector(Bright(4.0 + seed), CLASSES, imgsz=config.imgsz)


def torchvision_detector(folder: Path, seed: int, config: InferenceConfig) -> Detector:
    save_torchvision(folder / f"{seed}.pth", seed)
    return load_library_model(f"torchvision:{TORCHVISION}", config, weights=folder / f"{seed}.pth")


def transformers_detector(folder: Path, seed: int, config: InferenceConfig) -> Detector:
    save_transformers(folder / f"yolos{seed}", seed)
    return load_library_model(f"hf:{folder / f'yolos{seed}'}", config)


ADAPTERS: dict[str, Callable[[Path, int, InferenceConfig], Detector]] = {
    "callable": callable_detector,
    "torchvision": torchvision_detector,
    "transformers": transformers_detector,
}


@pytest.fixture(scope="module", params=ADAPTERS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Detector]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, ADAPTERS[request.param](folder, 0, InferenceConfig())


def images() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    sizes = [(60, 80), (47, 95), (60, 80), (150, 50)]
    found = [torch.from_numpy(rng.integers(0, 256, (3, *size), np.uint8)) for size in sizes]
    found[2][:, :30] = 255
    return found


def same(one: Detections, other: Detections) -> bool:
    parts = (("xyxy", 0.05), ("scores", 1e-4), ("labels", 0))
    return len(one) == len(other) and all(
        np.allclose(getattr(one, part), getattr(other, part), rtol=0, atol=most) for part, most in parts
    )


def test_every_library_is_walked() -> None:
    assert set(LIBRARIES.values()) <= set(ADAPTERS)


def test_it_is_a_detector_and_says_what_it_is(made: tuple[str, Path, Detector]) -> None:
    _, _, detector = made
    assert isinstance(detector, Detector) and detector.classes == CLASSES
    about = json.loads(json.dumps(detector.describe()))
    assert about["fingerprint"] == detector.fingerprint and about["parameters"] == detector.parameters > 0


def test_images_are_looked_at_by_themselves(made: tuple[str, Path, Detector]) -> None:
    _, _, detector = made
    together = detector.predict(images())
    alone = [detector.predict([image])[0] for image in images()]
    assert all(map(same, together, alone)) and all(len(one) for one in alone)
    assert not same(alone[0], alone[2])


def test_threads_share_it(made: tuple[str, Path, Detector]) -> None:
    _, _, detector = made
    alone = [detector.predict([image])[0] for image in images()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: detector.predict([image])[0], images() * 3))
    assert all(map(same, found, alone * 3))


def test_nothing_and_odd_sizes(made: tuple[str, Path, Detector]) -> None:
    _, _, detector = made
    assert detector.predict([]) == []
    for size in ((1, 1), (9, 90), (90, 9)):
        (found,) = detector.predict([torch.zeros((3, *size), dtype=torch.uint8)])
        assert not len(found) or (found.xyxy.min() >= 0 and found.xyxy[:, [0, 2]].max() <= size[1])
        assert (np.diff(found.scores) <= 0).all()
    for wrong in (torch.zeros((3, 8, 8)), torch.zeros((1, 8, 8), dtype=torch.uint8)):
        with pytest.raises(UsageError, match=r"must be a uint8 \(3, H, W\)"):
            detector.predict([wrong])


def test_fingerprints_follow_weights_and_settings(made: tuple[str, Path, Detector]) -> None:
    name, folder, detector = made
    again, other = (ADAPTERS[name](folder, seed, InferenceConfig()) for seed in (0, 1))
    resized = ADAPTERS[name](folder, 0, InferenceConfig(imgsz=320))
    assert again.fingerprint == detector.fingerprint
    assert len({detector.fingerprint, other.fingerprint, resized.fingerprint}) == 3
    assert not same(detector.predict(images()[:1])[0], other.predict(images()[:1])[0])


def test_it_travels_to_worker_processes(made: tuple[str, Path, Detector]) -> None:
    _, _, detector = made
    there = pickle.loads(pickle.dumps(detector))
    assert there.fingerprint == detector.fingerprint
    assert all(map(same, there.predict(images()), detector.predict(images())))
