"""Time of a report with kept statistics: 15 corruptions x 5 severities x 2 models on 5,000 images, to HTML and PDF.

The denominator is what the libraries need for the same files: saving the finished figures, and printing the
finished HTML twice. What the ratio leaves over one is reading, statistics, layout of figures and the template.
Four cells are made, scored and resampled for real; the others are copies of them, since only the time counts.

    python benchmarks/report.py [--images 5000] [--resamples 1000]
"""

import argparse
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_sgdm import figures, report
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, CLEAN
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.report import paper
from robustbench_sgdm.report.sections import make_sections
from robustbench_sgdm.store import Cell, GroundTruth, Manifest, Run, cell_key, write_image

MODELS = {"yolov8n": None, "yolov8n-sgdm": "yolov8n"}
SIZE = 640, 640

Seconds = tuple[float, float]
"""By the clock, and of the processors, which hardly depends on what else the machine does."""

RUNS = resources.import_file(resources.root() / "tests/support/synthetic_runs.py")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = made(Path(folder), options.images, options.resamples)
        analysis = RunAnalysis(run, resamples=options.resamples)
        taken, (html, paper) = timed(lambda: report.write_report(analysis))
        bare = bare_seconds(analysis, html)
        sizes = f"HTML {html.stat().st_size / 1e6:.1f} MB, PDF {paper.stat().st_size / 1e6:.1f} MB"
    print(
        f"{len(run.cells)} cells on {options.images} images, {options.resamples} resamples kept; {sizes} (aim: 6)"
    )
    print(f"  libraries alone  {bare[0]:6.1f} s, {bare[1]:6.1f} s of processors")
    print(f"  report           {taken[0]:6.1f} s, {taken[1]:6.1f} s of processors (aim: 10)")
    print(f"  ratio: {taken[1] / bare[1]:.2f} of processor time; load {os.getloadavg()[0]:.1f}")


def made(folder: Path, images: int, resamples: int) -> Run:
    """A complete run whose statistics and pictures are kept."""
    synthetic = _synthetic()
    rng = np.random.default_rng(0)
    truth: GroundTruth = synthetic.truth_of(images, rng)
    severities = {CLEAN: [0.0], **{c: [1.0, 2.0, 3.0, 4.0, 5.0] for c in BENCHMARK}}
    cells = [
        Cell(m, c, s, cell_key(model=m, clean=c == CLEAN))
        for m in MODELS
        for c, v in severities.items()
        for s in v
    ]
    few = [c for c in cells if c.corruption in (CLEAN, BENCHMARK[0]) and c.severity <= 1]
    run = RUNS.write_run(
        folder, "small", _manifest(images, few), truth, lambda _: synthetic.detections_of(truth, rng)
    )
    small = RunAnalysis(run, resamples=resamples)
    _ = small.intervals, small.error_types, small.flips, small.measures, small.class_intervals
    whole = Run.create_or_resume(folder, "whole", _manifest(images, cells), ground_truth=truth)
    for cell in cells:
        like = next(c for c in few if c.key == cell.key)
        for part in ("cells", "statistics"):
            _copy(run.path / part / like.folder, whole.path / part / cell.folder)
    analysis = RunAnalysis(whole, resamples=resamples)
    for picture in {*analysis.image_refs, *analysis.summary_images, *analysis.contact_sheet}:
        noise = (
            rng.normal(128, 25 * picture[1] / 5 + 1, (*SIZE, 3))
            + 60 * np.sin(np.arange(SIZE[0]) / 40)[:, None]
        )
        write_image(whole, *picture, noise.clip(0, 255).astype(np.uint8))
    return whole


def _manifest(images: int, cells: list[Cell]) -> Manifest:
    about = {"summary": "As in COCO-C.", "source": "benchmark"}
    strengths = {f"{s}": f"sigma={s}" for s in range(1, 6)}
    names = dict.fromkeys(c.corruption for c in cells if c.corruption != CLEAN)
    families = ("noise", "blur", "weather", "digital")
    manifest: Manifest = RUNS.make_manifest(
        cells,
        command="robustbench run",
        models={m: {"baseline": b} for m, b in MODELS.items()},
        data={"name": "synthetic", "source": "x", "images": images},
        corruptions={
            c: {**about, "family": families[i % 4], "strengths": strengths} for i, c in enumerate(names)
        },
    )
    return manifest


def _synthetic() -> Any:
    """The other benchmark's data: COCO's counts."""
    spec = importlib.util.spec_from_file_location("bootstrap", Path(__file__).with_name("bootstrap.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _copy(source: Path, target: Path) -> None:
    for file in (f for f in source.rglob("*") if f.is_file()):
        path = target / file.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            shutil.copyfile(file, path)


def bare_seconds(analysis: RunAnalysis, html: Path) -> Seconds:
    """What matplotlib and plutoprint need for the finished figures and the finished page."""
    drawn = [picture.result for section in make_sections(analysis) for picture in section.figures]
    text = html.read_text("utf-8")
    saving, _ = timed(
        lambda: [
            [figures.encode_svg(one.figure, photographs=one.photographs)]
            + [figures.encode_jpeg(one.figure)] * one.photographs
            for one in drawn
        ]
    )
    printing, _ = timed(lambda: [paper.render_pdf(text) for _ in range(2)])
    return saving[0] + printing[0], saving[1] + printing[1]


def timed(call: Callable[[], Any]) -> tuple[Seconds, Any]:
    start = time.perf_counter(), time.process_time()
    result = call()
    return (time.perf_counter() - start[0], time.process_time() - start[1]), result


if __name__ == "__main__":
    main()
