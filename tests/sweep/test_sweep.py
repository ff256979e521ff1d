"""The engine: nothing but the plan decides what is stored, and nothing finished is computed again."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.core import versions
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import CorruptionError, DataError, UsageError
from robustbench_sgdm.core.versions import scoring_version
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import DetectorEntry
from robustbench_sgdm.store import IMAGE_QUALITY, CellStore, Run, Settings
from robustbench_sgdm.sweep import (
    Plan,
    ThreadExecutor,
    count_measurements,
    make_plan,
    map_classes,
    match_detector,
    measure_image_quality,
    pending_units,
    run_sweep,
)
from robustbench_sgdm.sweep.executors.scheduler import PREFETCH_PER_WORKER, run_scheduled
from robustbench_sgdm.sweep.executors.worker_process import UnitResult
from robustbench_sgdm.sweep.image_quality import sample_evenly
from robustbench_sgdm.sweep.plan import Task, WorkUnit
from robustbench_sgdm.sweep.worker import DecodedImages, Worker

FRAGILE = """
from robustbench_sgdm.corruption import Parameter, corruption

@corruption(family="digital", parameters=(Parameter("k", (1, 2, 3, 4, 5), "px"),), source="me")
def fragile(images, strength, rng):
    "Cannot do what is bright."
    if images.float().mean() > 100:
        raise ValueError("too bright")
    return images.clone()
"""


class PixelDetector:
    """Boxes that are a hash of the pixels: any change of any pixel shows in what is stored.

    A network's rounding can depend on the batch; this arithmetic cannot, so equality is exact.
    """

    imgsz, parameters = 64, 0

    def __init__(self, name: str = "pixels", classes: tuple[str, ...] = ("person", "cat")) -> None:
        self.name, self.classes, self.fingerprint = name, classes, f"{name}{classes}"
        self.seen = 0

    def describe(self) -> dict[str, Any]:
        return {"parameters": 0, "fingerprint": self.fingerprint}

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        self.seen += len(images)
        return [self._one(image) for image in images]

    def _one(self, image: Tensor) -> Detections:
        digest = np.frombuffer(hashlib.sha256(image.cpu().numpy().tobytes()).digest(), np.uint8).reshape(8, 4)
        xyxy = np.sort(digest.astype(np.float32).reshape(8, 2, 2), axis=1).reshape(8, 4)
        return Detections(xyxy, np.linspace(1, 0.1, 8, dtype=np.float32), np.arange(8) % len(self.classes))


@pytest.fixture
def forty(
    tmp_path: Path, photographs: list[NDArray[np.uint8]], coco_of: Callable[..., Path]
) -> datasets.Dataset:
    """Forty images, so that there are several shards."""
    pictures = [np.roll(photographs[i % 4], 17 * i, axis=1)[:200, :200] for i in range(40)]
    return datasets.load_dataset(str(coco_of(tmp_path / "forty", pictures)))


def plan(data: datasets.Dataset, *detectors: PixelDetector, batch: int = 4, **changes: Any) -> Plan:
    settings: dict[str, Any] = {"device": "cpu", "engine": "torch", "seed": 0, "batch": batch, **changes}
    models = {d.name: DetectorEntry(d, "none") for d in detectors or (PixelDetector(),)}
    chosen = corruption.load_corruptions().select(["gaussian_noise", "gaussian_blur"])
    return make_plan(models, data, chosen, [0, 1, 3.5], Settings(**settings))


def run(directory: Path, made: Plan, **how: Any) -> Run:
    opened = Run.create_or_resume(directory, "r", made.to_manifest())
    run_sweep(made, opened.store, **how)
    opened.write_results()
    return opened


def stored(run: Run) -> dict[str, bytes]:
    """Every file of a run but its plan, which tells the command and the settings."""
    files = (p for p in run.path.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {str(p.relative_to(run.path)): p.read_bytes() for p in files}


def test_batch_workers_and_order_change_nothing(tmp_path: Path, forty: datasets.Dataset) -> None:
    reference = stored(run(tmp_path / "a", plan(forty)))
    assert stored(run(tmp_path / "b", plan(forty, batch=1), executor=ThreadExecutor(3))) == reference
    assert stored(run(tmp_path / "c", plan(forty, batch=13), executor=ThreadExecutor(2))) == reference


def test_another_seed_changes_random_cells_only(tmp_path: Path, forty: datasets.Dataset) -> None:
    one, two = (run(tmp_path / str(s), plan(forty, seed=s)) for s in (0, 1))
    for a, b in zip(one.cells, two.cells, strict=True):
        same = one.store.read_detections(a).equals(two.store.read_detections(b))
        assert same == (a.corruption != "gaussian_noise")


def test_all_models_see_the_same_pixels_and_clean_is_stored_once(
    tmp_path: Path, forty: datasets.Dataset
) -> None:
    done = run(tmp_path, plan(forty, PixelDetector("a"), PixelDetector("b")))
    cells = {(c.model, c.corruption, c.severity): done.store.read_detections(c) for c in done.cells}
    assert len(cells) == 2 * (1 + 2 * 2) and not done.missing_cells()
    for (model, name, severity), frame in cells.items():
        pd.testing.assert_frame_equal(frame, cells["b" if model == "a" else "a", name, severity])
    assert [c.severity for c in done.cells if c.corruption == CLEAN] == [0, 0]


def test_stopped_anywhere_it_goes_on_from_there(tmp_path: Path, forty: datasets.Dataset) -> None:
    reference = stored(run(tmp_path / "whole", plan(forty)))
    for stop in (1, 33, 70, 130, 199):
        detector = PixelDetector()
        made = plan(forty, detector)
        opened = Run.create_or_resume(tmp_path / f"stopped{stop}", "r", made.to_manifest())

        def interrupt(_: int, detector: PixelDetector = detector, stop: int = stop) -> None:
            if detector.seen >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_sweep(made, opened.store, progress=interrupt)
        kept = 200 - sum(u.size for u in pending_units(made, opened.store))
        detector.seen = 0
        assert stored(run(tmp_path / f"stopped{stop}", made)) == reference
        # Shards of 3, two severities at a time.
        assert detector.seen == 200 - kept and kept >= stop - 3 * 2 * 2


def test_a_second_run_computes_nothing(tmp_path: Path, forty: datasets.Dataset) -> None:
    detector = PixelDetector()
    run(tmp_path, plan(forty, detector))
    detector.seen = 0
    run(tmp_path, plan(forty, detector))
    assert detector.seen == 0


def test_stopped_between_the_last_shard_and_the_scores(tmp_path: Path, forty: datasets.Dataset) -> None:
    detector = PixelDetector()
    done = run(tmp_path, plan(forty, detector))
    cell = done.cells[1]
    frame, reference = (
        done.store.read_detections(cell),
        (done.store.folder(cell) / "detections.parquet").read_bytes(),
    )
    (done.store.folder(cell) / "scores.json").unlink()
    for number, start in enumerate(range(0, 40, 3)):
        part = frame[frame.image_id.isin([i.id for i in forty.images[start : start + 3]])]
        done.store.write_shard(cell, number, {str(c): part[c].to_numpy() for c in part})
    detector.seen = 0
    again = run(tmp_path, plan(forty, detector))
    assert detector.seen == 0 and not again.missing_cells()
    assert (done.store.folder(cell) / "detections.parquet").read_bytes() == reference


def test_stopped_before_the_shards_of_a_scored_cell_were_gone(
    tmp_path: Path, forty: datasets.Dataset
) -> None:
    done = run(tmp_path, plan(forty))
    reference = stored(done)
    frame = done.store.read_detections(done.cells[1]).head(3)
    done.store.write_shard(done.cells[1], 6, {str(c): frame[c].to_numpy() for c in frame})
    assert stored(done) != reference
    assert stored(run(tmp_path, plan(forty))) == reference


def test_other_scoring_scores_stored_detections_anew(
    tmp_path: Path, forty: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And predicts nothing: the detector would raise."""
    reference = stored(run(tmp_path, plan(forty)))
    opened = Run.open(tmp_path / "r")
    for cell in opened.cells[1:]:
        file = opened.store.folder(cell) / "scores.json"
        scores = json.loads(file.read_text())
        assert scores["scoring"].startswith(f"{versions.SCORING}; hotcoco ")
        scores["scoring"], scores["metrics"]["AP"] = "0; hotcoco 0.1", 1.0
        file.write_text(json.dumps(scores))
    assert not opened.missing_cells() and all(
        opened.store.has_outdated_scores(c, scoring_version()) for c in opened.cells[1:]
    )
    monkeypatch.setattr(PixelDetector, "predict", lambda *_: pytest.fail("predicted again"))
    assert stored(run(tmp_path, plan(forty))) == reference


def test_a_damaged_image_stops_the_run_and_keeps_the_rest(tmp_path: Path, forty: datasets.Dataset) -> None:
    bad = forty.images[35].path
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    made = plan(forty)
    opened = Run.create_or_resume(tmp_path, "r", made.to_manifest())
    with pytest.raises(DataError, match=r"036\.png cannot be decoded"):
        run_sweep(made, opened.store)
    assert any(opened.store.stored_shards(c) >= set(range(11)) for c in made.cells)
    assert opened.results().empty


def test_a_broken_corruption_costs_the_others_nothing(tmp_path: Path, forty: datasets.Dataset) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "fragile.py").write_text(FRAGILE)
    chosen = corruption.load_corruptions([folder]).select(["fragile", "gaussian_noise"])
    settings = Settings(device="cpu", engine="torch", seed=0, batch=4)
    made = make_plan({"p": DetectorEntry(PixelDetector(), "none")}, forty, chosen, [0, 1, 2], settings)
    opened = Run.create_or_resume(tmp_path, "r", made.to_manifest())
    (failure,) = run_sweep(made, opened.store, executor=ThreadExecutor(2))
    assert "fragile.py: fragile raised ValueError: too bright" in str(failure)
    assert {c.corruption for c in opened.missing_cells()} == {"fragile"}
    assert len(opened.results()) == 3


class Cramped(PixelDetector):
    """Has memory for two images at a time."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__()
        self.error = error

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        if len(images) > 2:
            raise self.error
        return super().predict(images)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch(
    tmp_path: Path, forty: datasets.Dataset, error: RuntimeError, caplog: pytest.LogCaptureFixture
) -> None:
    reference = stored(run(tmp_path / "a", plan(forty)))
    done: list[int] = []
    small = run(tmp_path / "b", plan(forty, Cramped(error), batch=8), progress=done.append)
    assert stored(small) == reference and sum(done) == 200
    assert [r.message for r in caplog.records] == ["out of memory on cpu: batches of 2 from here on"]


class Faulty(PixelDetector):
    """A GPU that fails the second batch it is given, once."""

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        if self.seen == 3:
            self.seen += 1
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with ...")
        return super().predict(images)


def test_a_device_error_costs_its_unit_only(tmp_path: Path, forty: datasets.Dataset) -> None:
    reference = stored(run(tmp_path / "a", plan(forty)))
    made = plan(forty, Faulty())
    opened = Run.create_or_resume(tmp_path / "b", "r", made.to_manifest())
    (failure,) = run_sweep(made, opened.store)
    assert str(failure) == (
        "cpu failed: RuntimeError: CUDA error: an illegal memory access was encountered (1 units)"
    )
    assert [c.corruption for c in opened.missing_cells()] == [CLEAN] and len(opened.results()) == 4
    detector = PixelDetector()
    assert stored(run(tmp_path / "b", plan(forty, detector))) == reference
    assert detector.seen == 3, "one shard of three images"


def test_out_of_memory_in_a_corruption_halves_the_batch_too(
    tmp_path: Path, forty: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = stored(run(tmp_path / "a", plan(forty)))
    apply = corruption.apply_corruption

    def cramped(one: corruption.Corruption, images: Tensor, *rest: Any, **how: Any) -> Tensor:
        if len(images) > 1:
            try:
                raise MemoryError("cannot allocate 3 GiB")
            except MemoryError as error:
                raise CorruptionError("raised MemoryError") from error
        return apply(one, images, *rest, **how)

    monkeypatch.setattr(corruption, "apply_corruption", cramped)
    assert stored(run(tmp_path / "b", plan(forty))) == reference


def test_a_slow_disk_holds_the_workers_up(forty: datasets.Dataset, tmp_path: Path) -> None:
    """What is computed and not yet stored stays bounded, however long the disk takes."""
    made, most, flying = plan(forty), 0, 0
    units = pending_units(made, CellStore(tmp_path))
    worker = Worker({"pixels": PixelDetector()}, {}, made.settings)
    lock, events = threading.Lock(), SimpleQueue[Any]()

    class Pool:
        workers, loss_errors = 2, (BrokenExecutor,)

        def has_capacity(self) -> bool:
            return True

        def submit(self, _: Task) -> Future[UnitResult]:
            nonlocal flying, most
            with lock:
                flying += 1
                most = max(most, flying)
            done: Future[UnitResult] = Future()
            done.set_result(UnitResult({}, 4))
            return done

    class Sink:
        def should_run(self, unit: WorkUnit) -> bool:
            return True

        store: Any = None
        scorer: Any = None

        def submit(self, unit: WorkUnit, outcome: Any) -> list[Any]:
            nonlocal flying
            time.sleep(0.01)
            with lock:
                flying -= 1
            return []

        def score(self, cell: Any) -> None:
            raise AssertionError

    run_scheduled(units, Pool(), worker, Sink(), events)
    assert len(units) > 30 and flying == 0 and most <= (PREFETCH_PER_WORKER + 1) * Pool.workers


def test_classes_are_matched_by_name(tmp_path: Path, forty: datasets.Dataset) -> None:
    swapped = PixelDetector("swapped", ("Cat", "zebra", "person"))
    done = run(tmp_path, plan(forty, swapped))
    found = done.store.read_detections(done.cells[0]).groupby("image_id")["category_id"].apply(list)
    assert found[1] == [2, 1, 2, 1, 2]  # labels 0 1 2 0 1 2 0 1: cat is category 2, zebra is nobody's
    about = Run.open(done.path).manifest.models["swapped"]
    assert about.unmatched == ("zebra",) and not about.unfound and "Cat for cat" in about.notes[0]
    with pytest.raises(UsageError, match="share no class name"):
        run(tmp_path, plan(forty, PixelDetector("other", ("dog", "zebra"))))


def test_two_classes_never_become_one(
    tmp_path: Path, photographs: list[NDArray[np.uint8]], coco_of: Callable[..., Path]
) -> None:
    classes = [{"id": 1, "name": "chair"}, {"id": 2, "name": "Chair"}, {"id": 5, "name": "tvmonitor"}]
    data = datasets.load_dataset(str(coco_of(tmp_path / "chairs", photographs, categories=classes)))
    assert map_classes(PixelDetector("d", ("Chair", "chair")), data).tolist() == [2, 1]
    assert map_classes(PixelDetector("d", ("CHAIR", "chair", "tv")), data).tolist() == [-1, 1, -1]
    lone = match_detector(PixelDetector("d", ("chair", "CHAIR", "tv")), data)
    assert (lone.unmatched, lone.unfound, lone.alike) == (["CHAIR", "tv"], ["Chair", "tvmonitor"], [])
    known, lost = lone.notes("d", "chairs")
    assert known == "chairs lacks 2 classes of d, whose boxes are dropped: CHAIR, tv"
    assert lost.startswith("d cannot find 2 classes of chairs,") and lost.endswith(": Chair, tvmonitor")


def test_the_manifest_rebuilds_the_run(tmp_path: Path, forty: datasets.Dataset) -> None:
    done = run(tmp_path, plan(forty))
    saved = Run.open(done.path).manifest
    assert saved.corruptions["gaussian_noise"].strengths["1"] == "sigma=0.08"
    assert saved.corruptions["gaussian_noise"].strengths["3.5"] == "sigma=0.22"
    assert saved.versions["torch"] == torch.__version__.partition("+")[0]
    assert saved.data.images == 40 and len(saved.cells) == 5
    scores = json.loads((done.store.folder(done.cells[0]) / "scores.json").read_text())
    assert scores["key"] == done.cells[0].key and scores["detections"] == 320


def test_a_fixed_strength_has_one_level(forty: datasets.Dataset) -> None:
    fixed = corruption.load_corruptions().select(["gaussian_noise[sigma=0.15]"])
    made = make_plan(
        {"a": DetectorEntry(PixelDetector("a"), "none")},
        forty,
        fixed,
        [0, 2, 4],
        Settings("cpu", "torch", 0, 4),
    )
    assert [(c.corruption, c.severity) for c in made.cells] == [(CLEAN, 0), ("gaussian_noise[sigma=0.15]", 1)]


def test_damage_is_measured_on_evenly_spread_images_with_the_runs_pixels(
    tmp_path: Path, forty: datasets.Dataset
) -> None:
    made = plan(forty, seed=7)
    opened = Run.create_or_resume(tmp_path, "r", made.to_manifest())
    assert opened.read_image_quality().empty and list(opened.read_image_quality()) == list(IMAGE_QUALITY)
    done: list[int] = []
    assert not measure_image_quality(made, opened, workers=2, progress=done.append)
    frame = opened.read_image_quality()
    assert sum(done) == 4 * 16 and (frame["images"] == 16).all() and not count_measurements(made, opened)
    chosen = [forty.images[i * 40 // 16] for i in range(16)]
    pictures = [torch.from_numpy(decoding.read_image(image).transpose(2, 0, 1).copy()) for image in chosen]
    for name, part in frame.groupby("corruption"):
        expected = corruption.measure_image_quality(
            made.corruptions[str(name)], pictures, [1, 3.5], seed=7, image_ids=[i.id for i in chosen]
        )
        np.testing.assert_allclose(part[["psnr", "ssim"]], expected)


def test_damage_is_measured_where_it_is_missing_only(tmp_path: Path, forty: datasets.Dataset) -> None:
    few = plan(forty)
    opened = Run.create_or_resume(tmp_path, "r", few.to_manifest())
    measure_image_quality(few, opened)
    before = opened.read_image_quality()
    more = replace(few, severities=[1, 2, 3.5])
    done: list[int] = []
    measure_image_quality(more, opened, progress=done.append)
    frame = opened.read_image_quality()
    assert sum(done) == 2 * 16 and len(frame) == 6
    pd.testing.assert_frame_equal(frame[: len(before)], before)
    stored = (opened.path / "image_quality.csv").stat()
    measure_image_quality(more, opened)
    assert (opened.path / "image_quality.csv").stat().st_mtime_ns == stored.st_mtime_ns
    measure_image_quality(plan(forty, seed=1), opened)
    assert not set(opened.read_image_quality()["key"]) & set(frame["key"])
    for text in ("", "not,a,damage\n1,2,3\n"):
        (opened.path / "image_quality.csv").write_text(text)
        assert opened.read_image_quality().empty


def test_a_broken_corruption_has_no_damage(tmp_path: Path, forty: datasets.Dataset) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/fragile.py").write_text(FRAGILE)
    chosen = corruption.load_corruptions([tmp_path / "mine"]).select(["fragile", "gaussian_noise"])
    settings = Settings(device="cpu", engine="torch", seed=0, batch=4)
    made = make_plan({"p": DetectorEntry(PixelDetector(), "none")}, forty, chosen, [0, 1], settings)
    opened = Run.create_or_resume(tmp_path, "r", made.to_manifest())
    (failure,) = measure_image_quality(made, opened)
    assert "fragile raised ValueError: too bright" in str(failure)
    assert opened.read_image_quality()["corruption"].tolist() == ["gaussian_noise"]


@pytest.mark.parametrize(
    ("count", "cells", "expected"), [(3, 5, 3), (40, 5, 16), (5000, 75, 4), (5000, 20, 12)]
)
def test_images_for_damage_are_spread(forty: datasets.Dataset, count: int, cells: int, expected: int) -> None:
    images = [replace(forty.images[0], id=number) for number in range(count)]
    ids = [image.id for image in sample_evenly(images, cells)]
    assert len(set(ids)) == len(ids) == expected
    assert max(np.diff([*ids, count])) - min(np.diff([*ids, count])) <= 1


def test_decoded_images_are_kept_while_there_is_room(
    tiny_coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the first images that fit are decoded once, and none after memory has run out."""
    decoded: list[int] = []
    read = decoding.read_image

    def read_and_count(image: datasets.Image) -> NDArray[np.uint8]:
        decoded.append(image.id)
        return read(image)

    monkeypatch.setattr(decoding, "read_image", read_and_count)
    first, second, third = datasets.load_dataset(tiny_coco).images[:3]
    kept = DecodedImages("cpu", room=3 * (first.height * first.width + second.height * second.width))
    for _ in range(2):
        for image in (first, second, third):
            assert torch.equal(kept.read(image), torch.from_numpy(read(image)).permute(2, 0, 1))
    assert decoded == [i.id for i in (first, second, third, third)]
    assert kept.clear() and not kept.clear()
    kept.read(first)
    kept.read(first)
    assert decoded[-2:] == [first.id, first.id]
