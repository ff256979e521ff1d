"""Checkpoints that releases of Ultralytics wrote run as the networks that they hold."""

import io
import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

from robustbench_sgdm import detectors
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.ultralytics import weights
from tests.data.checkpoints.make import image, output

FOLDER = Path(__file__).parents[2] / "data/checkpoints"
# Ultralytics 8.3 put identities in the place of a branch that it had dropped; 8.4 itself cannot run that.
UNREADABLE_BY_ULTRALYTICS = {("8.3.200", "yolov10-fused"), ("8.3.200", "yolov10x-fused")}


@cache
def contents(release: str) -> dict[str, bytes]:
    with tarfile.open(FOLDER / f"ultralytics-{release}.tar.xz") as archive:
        files = [(entry.name, archive.extractfile(entry)) for entry in archive.getmembers()]
        return {name.removesuffix(".pt"): file.read() for name, file in files if file is not None}


RELEASES = sorted(
    (path.name.removeprefix("ultralytics-").removesuffix(".tar.xz") for path in FOLDER.glob("*.xz")),
    key=Version,
)
CASES = [(r, name) for r in RELEASES for name in contents(r) if not name.endswith(".output")]


def marked(cases: Iterable[tuple[str, str]], *quick: str) -> list[Any]:
    """Some releases in every run of the tests, the others in `make test-slow`."""
    return [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] not in quick)) for case in cases]


@pytest.mark.parametrize(("release", "name"), marked(CASES, RELEASES[0], RELEASES[-1]))
def test_the_network_is_the_one_that_the_file_holds(release: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(contents(release)[name])
    found = weights.read_weights(path)
    assert found.classes == ("cat", "dog", "traffic light")
    assert (found.imgsz, found.meta["version"]) == (64, release)
    ours, own = weights.copy_network(found), torch.load(path, weights_only=False)["model"].float().eval()
    before: Any = torch.load(io.BytesIO(contents(release)[f"{name}.output"]))
    if name == "rtdetr" and before.shape[-1] == 4 + len(found.classes):
        before = best_queries(before)
    compared = 0
    for end2end in (False, True):
        for network in (ours, own):
            network.end2end = end2end
        got = output(ours)
        if (release, name) not in UNREADABLE_BY_ULTRALYTICS:
            # Pixels of up to some hundred; fused layers are computed in another order.
            torch.testing.assert_close(got, output(own), rtol=1e-5, atol=1e-4 if "fused" in name else 0)
        if got.shape == before.shape:
            compared += bool(torch.allclose(got, before, rtol=1e-5, atol=2e-4))
    assert compared  # with what the release itself put out, at the one of the two branches that it took


def best_queries(scored: torch.Tensor) -> torch.Tensor:
    """The n best of boxes with a score for each class, (1, n, 4 + classes), which RT-DETR put out until 8.3."""
    count, classes = scored.shape[1], scored.shape[2] - 4
    scores, at = scored[0, :, 4:].flatten().topk(count)
    boxes = scored[0, at // classes, :4]
    return torch.cat((boxes, scores[:, None], (at % classes)[:, None].float()), 1)[None]


@pytest.mark.parametrize("name", [name for release, name in CASES if release == RELEASES[-1]])
@pytest.mark.slow
def test_a_network_that_has_run_before_it_was_saved_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(contents(RELEASES[-1])[name])
    whole = torch.load(tmp_path / "best.pt", weights_only=False)
    # As `val` does: heads then hold what they worked out for this size.
    whole["model"].float().eval()(image())
    torch.save(whole, tmp_path / "run.pt")
    wanted, found = (
        output(weights.read_weights(tmp_path / f"{stem}.pt").network) for stem in ("best", "run")
    )
    assert torch.equal(wanted, found)


@pytest.mark.parametrize(
    ("release", "name"),
    marked((case for case in CASES if case not in UNREADABLE_BY_ULTRALYTICS), RELEASES[-1]),
)
def test_a_network_that_has_run_is_the_same(release: str, name: str, tmp_path: Path) -> None:
    """Heads keep what they work out for a size; Ultralytics' training validates its model before it saves it."""
    checkpoint = torch.load(io.BytesIO(contents(release)[name]), weights_only=False)
    network = checkpoint["model"].float().eval()
    before = weights.read_weights(saved(tmp_path / "before.pt", network)).layers
    with torch.inference_mode():
        network(torch.rand(1, 3, 96, 64))
    assert weights.read_weights(saved(tmp_path / "after.pt", network)).layers == before


def saved(path: Path, network: Any) -> Path:
    torch.save({"model": network}, path)
    return path


def test_every_release_and_family_is_there() -> None:
    assert {"8.3.0", "8.3.200", "8.4.60", "8.4.120", "8.4.190"} <= set(RELEASES)
    families = {name for name in contents(RELEASES[-1]) if not name.endswith((".output", "-fused"))}
    assert {
        "yolov5",
        "yolov6",
        "yolov8",
        "yolov9",
        "yolov10",
        "yolo11",
        "yolo12",
        "yolo26",
        "rtdetr",
    } <= families


@pytest.mark.parametrize("name", ["yolov10", "yolo26"])
def test_end_to_end_is_chosen_as_by_val_or_by_the_user(name: str, tmp_path: Path) -> None:
    for stem in (name, f"{name}-fused"):
        (tmp_path / f"{stem}.pt").write_bytes(contents("8.4.60")[stem])
    load = detectors.load_detector
    whole, fused = tmp_path / f"{name}.pt", tmp_path / f"{name}-fused.pt"
    assert [load(whole, InferenceConfig(end2end=e)).settings.end2end for e in (None, False, True)] == [
        False,
        False,
        True,
    ]
    assert (
        load(whole).fingerprint
        == load(whole, InferenceConfig(end2end=False)).fingerprint
        != load(whole, InferenceConfig(end2end=True)).fingerprint
    )
    assert load(fused).settings.end2end is True  # the other branch is gone
    with pytest.raises(UsageError, match="one-to-many branch was removed"):
        load(fused, InferenceConfig(end2end=False))


def test_a_head_without_a_second_branch_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(contents("8.4.190")["yolov8"])
    with pytest.raises(UsageError, match="no one-to-one branch"):
        detectors.load_detector(tmp_path / "m.pt", InferenceConfig(end2end=True))


@pytest.mark.parametrize("name", ["yolov6", "yolov8"])
def test_a_fused_checkpoint_can_be_grafted(name: str, tmp_path: Path) -> None:
    states = []
    for stem in (name, f"{name}-fused"):
        (tmp_path / "m.pt").write_bytes(contents("8.4.120")[stem])
        states.append(set(weights.read_weights(tmp_path / "m.pt").state))
    assert states[0] == states[1]
