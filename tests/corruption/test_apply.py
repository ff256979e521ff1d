"""What `apply_corruption` accepts, what it refuses, and the errors that users' functions cause."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.corruption import BENCHMARK, Corruption, apply_corruption, load_corruptions

REGISTRY = load_corruptions()
GAUSSIAN = REGISTRY.get("gaussian")
HEAD = """
import torch
from robustbench_sgdm.corruption import Parameter, corruption
from robustbench_sgdm.core.errors import UsageError

@corruption(family="edge", parameters=(Parameter("k", (1, 2, 3, 4, 5), "px"),), source="me")
def mine(images, strength, rng):
    '''Mine.'''
"""


@pytest.fixture
def images(photographs: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack([p[:64, :80] for p in photographs[:2]])).permute(0, 3, 1, 2).contiguous()


def mine(folder: Path, body: str) -> Corruption:
    (folder / "mine.py").write_text(f"{HEAD}    {body}\n")
    return load_corruptions([folder]).get("mine")


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 8, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 0, 8, dtype=torch.uint8),
    ],
    ids=["float", "3-D", "grey", "channels last", "empty"],
)
def test_images_must_be_a_batch_of_bytes(wrong: Tensor) -> None:
    with pytest.raises(UsageError, match=r"images must be uint8 \(B, 3, H, W\), not "):
        apply_corruption(GAUSSIAN, wrong, 1, seed=0, image_ids=[1])


@pytest.mark.parametrize("severity", [-1, 5.1, float("nan"), float("inf")])
def test_severity_has_bounds(images: Tensor, severity: float) -> None:
    for engine in ("torch", "imgaug"):
        with pytest.raises(UsageError, match=r"severity .* is not in \[0, 5\]"):
            apply_corruption(GAUSSIAN, images, severity, seed=0, image_ids=[1, 2], engine=engine)


def test_ids_and_engine_are_checked(images: Tensor) -> None:
    with pytest.raises(UsageError, match="2 images need as many image ids, not 1"):
        apply_corruption(GAUSSIAN, images, 1, seed=0, image_ids=[1])
    with pytest.raises(UsageError, match="unknown engine 'imgag'; did you mean imgaug"):
        apply_corruption(GAUSSIAN, images, 1, seed=0, image_ids=[1, 2], engine="imgag")


def test_an_empty_batch_stays_empty(images: Tensor) -> None:
    assert apply_corruption(GAUSSIAN, images[:0], 3, seed=0, image_ids=[]).shape == (0, 3, 64, 80)


def test_a_fixed_strength_is_applied(images: Tensor) -> None:
    weak, strong = (REGISTRY.get(f"gaussian[sigma={sigma}]") for sigma in (0.01, 0.3))
    spread = [
        (apply_corruption(c, images, 1, seed=0, image_ids=[1, 2]).float() - images).std().item()
        for c in (weak, strong)
    ]
    assert spread[0] < 4 < 40 < spread[1]
    with pytest.raises(UsageError, match="has one strength"):
        apply_corruption(weak, images, 2, seed=0, image_ids=[1, 2])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return images.float()",
            r"returned float32 .* it must return uint8 \(2, 3, 64, 80\)",
        ),
        ("return images[:, :, 1:]", r"returned uint8 \(2, 3, 63, 80\)"),
        ("return images.to('meta')", "returned .* on meta; it must return .* on cpu"),
        ("return images.numpy()", "returned ndarray, not a tensor"),
        ("pass", "returned NoneType, not a tensor"),
        ("return images.zero_()", "changed its input; work on a copy"),
        ("images.numpy()[:] = 0; return images.clone()", "changed its input"),
        ("return images / strength['kk']", "raised KeyError: 'kk'"),
    ],
)
def test_a_broken_function_is_named(tmp_path: Path, images: Tensor, body: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"mine\.py: mine {message}"):
        apply_corruption(mine(tmp_path, body), images, 2, seed=0, image_ids=[1, 2])


def test_the_original_error_is_chained(tmp_path: Path, images: Tensor) -> None:
    with pytest.raises(DataError) as caught:
        apply_corruption(mine(tmp_path, "return images[9]"), images, 2, seed=0, image_ids=[1, 2])
    assert isinstance(caught.value.__cause__, IndexError)


RAISED = [("UsageError('no')", UsageError), ("torch.OutOfMemoryError", torch.OutOfMemoryError)]


@pytest.mark.parametrize(("raised", "kind"), RAISED)
def test_errors_that_mean_something_pass_through(
    tmp_path: Path, images: Tensor, raised: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        apply_corruption(mine(tmp_path, f"raise {raised}"), images, 2, seed=0, image_ids=[1, 2])


def test_the_result_shares_no_memory(tmp_path: Path, images: Tensor) -> None:
    out = apply_corruption(mine(tmp_path, "return images"), images, 2, seed=0, image_ids=[1, 2])
    assert torch.equal(out, images)
    assert out.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("name", [name for name in BENCHMARK if name in REGISTRY.names])
def test_imgaug_depends_on_seed_and_image_only(images: Tensor, name: str) -> None:
    corruption = REGISTRY.get(name)
    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    both = apply_corruption(corruption, images, 3, seed=0, image_ids=[1, 2], engine="imgaug")
    alone = apply_corruption(corruption, images[1:], 3, seed=0, image_ids=[2], engine="imgaug")
    assert both.dtype == torch.uint8
    assert both.is_contiguous()
    assert torch.equal(both[1:], alone)
    other = apply_corruption(corruption, images, 3, seed=1, image_ids=[1, 2], engine="imgaug")
    assert torch.equal(both, other) != corruption.random
    assert np.array_equal(state, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def test_imgaug_says_what_it_lacks(images: Tensor) -> None:
    def run(name: str, severity: float, some: Tensor = images) -> Tensor:
        ids = range(len(some))
        return apply_corruption(REGISTRY.get(name), some, severity, seed=0, image_ids=ids, engine="imgaug")

    with pytest.raises(UsageError, match="has no 'ringing', only gaussian_noise, shot_noise"):
        run("ringing", 1)
    with pytest.raises(UsageError, match=r"severities 1 to 5, not 2\.5"):
        run("gaussian", 2.5)
    with pytest.raises(UsageError, match=r"32 px a side, not 80 x 31"):
        run("gaussian", 2, images[:, :, :31])
    with pytest.raises(UsageError, match=r"published strengths only, not gaussian_noise\[sigma=0.1\]"):
        run("gaussian[sigma=0.1]", 1)
    assert torch.equal(run("gaussian", 0), images)
