"""Every figure of a run: listed, drawn from a real run, with caption, words and data; and what refuses to be drawn."""

import base64
import io
import re
import shutil
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as Pillow

from robustbench_sgdm import cli, corruption, figures
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.datasets import image_decoding
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.figures.crops import crop_middle
from robustbench_sgdm.figures.error_types import KINDS
from robustbench_sgdm.figures.style import PAGE
from robustbench_sgdm.report.sections import make_sections
from robustbench_sgdm.robustness import OBJECT_OUTCOMES
from robustbench_sgdm.store import Run, has_image, image_path, write_image
from robustbench_sgdm.sweep import make_corrupted_images
from tests.support.synthetic_runs import changed

# The run measured no PSNR, its weights have no log beside them, and it was run on no other data.
WITHOUT = {"psnr", "losses", "shift"}


@pytest.fixture(scope="module")
def analysis(complete_run: Run) -> RunAnalysis:
    made = RunAnalysis(complete_run, resamples=50, max_images=2)
    make_corrupted_images(
        complete_run,
        [*made.image_refs, *made.contact_sheet],
        {c.name: c for c in corruption.load_corruptions()},
    )
    return made


def test_each_belongs_to_a_section_of_the_report(analysis: RunAnalysis) -> None:
    results = ["severity", "differences", "means"]
    assert [one.name for one in figures.all_figures().values() if one.section == "results"] == results
    made = {section.id for section in make_sections(analysis)}
    assert {one.section for one in figures.all_figures().values()} - made <= {
        "training",
        "image-quality",
        "shift",
    }  # without data here
    assert list(KINDS) == [f"{what}_percent" for what in OBJECT_OUTCOMES]


@pytest.mark.parametrize("name", [n for n in figures.all_figures() if n not in WITHOUT])
def test_each_is_drawn_with_words_and_data(analysis: RunAnalysis, name: str) -> None:
    before = dict(mpl.rcParams)
    drawn = figures.draw(name, analysis)
    assert dict(mpl.rcParams) == before
    assert drawn.caption.endswith((".", "…")) and len(drawn.alt) > 30 and not drawn.data.empty
    wide, high = drawn.figure.get_size_inches()
    assert wide <= PAGE + 0.01 and high < 11  # a page holds it
    text = figures.encode_svg(drawn.figure, photographs=drawn.photographs)
    assert ("data:image/jpeg" in text) == drawn.photographs
    again = figures.draw(name, analysis)
    assert text == figures.encode_svg(again.figure, photographs=again.photographs)


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_what_the_run_lacks_is_said(analysis: RunAnalysis, name: str) -> None:
    with pytest.raises(DataError, match=r"no measured PSNR|no training log|no shifted data"):
        figures.draw(name, analysis)


def test_an_unknown_figure_or_metric_is_named(analysis: RunAnalysis) -> None:
    with pytest.raises(UsageError, match="unknown figure 'severty'; did you mean severity"):
        figures.draw("severty", analysis)
    with pytest.raises(UsageError, match="unknown metric 'mAP'"):
        figures.draw("severity", RunAnalysis(analysis.run, metric="mAP"))


def test_flips_are_shown_in_both_directions_and_an_image_once(analysis: RunAnalysis) -> None:
    shown = analysis.selected_images
    assert set(shown) == set(analysis.pair)
    images = [image for pictures in shown.values() for _, _, image in pictures]
    assert len(images) == len(set(images))
    flips = analysis.flips.set_index(["corruption", "severity", "image_id"])["net"]
    baseline, model = analysis.pair
    assert all(flips[picture] > 0 for picture in shown[model])
    assert all(flips[picture] < 0 for picture in shown[baseline])
    assert flips[shown[model][0]] == flips.max() and flips[shown[baseline][0]] == flips.min()


def test_a_contact_sheet_shows_the_image_with_most_contrast_and_keeps_it(
    analysis: RunAnalysis, tmp_path: Path
) -> None:
    images = list(analysis.run.ground_truth().dataset_images().values())[::2]
    contrast = {i.id: crop_middle(image_decoding.read_image(i)).mean(axis=2).std() for i in images}
    most, least = (end(contrast, key=contrast.__getitem__) for end in (max, min))
    assert {image for _, _, image in analysis.contact_sheet} == {most}
    copy = Run.open(shutil.copytree(analysis.run.path, tmp_path / "copy"))
    shutil.rmtree(copy.path / "images")
    for name, severity, _ in analysis.contact_sheet:
        write_image(copy, name, severity, least, np.zeros((9, 9, 3), np.uint8))
    assert {image for _, _, image in RunAnalysis(copy).contact_sheet} == {least}


def test_any_two_models_may_be_shown(analysis: RunAnalysis) -> None:
    baseline, model = analysis.pair
    turned = RunAnalysis(analysis.run, max_images=2, models=(model, baseline))
    assert {k: set(v) for k, v in turned.selected_images.items()} == {
        k: set(v) for k, v in analysis.selected_images.items()
    }
    assert list(turned.selected_images) == list(analysis.selected_images)[::-1]
    assert figures.draw("side-by-side", turned).data["model"].iloc[0] == model
    with pytest.raises(UsageError, match="did you mean base"):
        _ = RunAnalysis(analysis.run, models=("bas", model)).pair


def test_every_pair_of_a_run_has_its_share_of_images(analysis: RunAnalysis) -> None:
    baseline, model = analysis.pair
    models = {
        m: {"baseline": other}
        for m, other in zip(analysis.run.manifest.models, (model, baseline), strict=True)
    }
    both = RunAnalysis(Run(analysis.run.path, changed(analysis.run.manifest, models=models)), max_images=4)
    assert [one.pair for one in both.by_pair] == [(model, baseline), (baseline, model)]
    assert all(len(pictures) <= 2 for one in both.by_pair for pictures in one.selected_images.values())


def test_counts_below_a_panel_are_the_outcomes(analysis: RunAnalysis) -> None:
    drawn = figures.draw("side-by-side", analysis)
    texts = [axis.get_xlabel() for axis in drawn.figure.axes]
    rows = drawn.data.to_dict("records")
    assert [text.rpartition(": ")[2] for text in texts] == [
        f"{r['found']} of {r['found'] + r['missed']}"
        + (f" found, {r['false']} false" if r["shown"] == "corrupted" else "")
        for r in rows
    ]
    assert all(text[:4] == r["model"][:4] for text, r in zip(texts, rows, strict=True))  # long names are cut
    objects = analysis.run.ground_truth().annotations.groupby("image_id").size().to_dict()
    assert all(r["found"] + r["missed"] == objects[r["image_id"]] for r in rows)


def test_the_user_may_name_images_and_noise(complete_run: Run) -> None:
    named = RunAnalysis(complete_run, images=[3, 5], noise=("fog", 3.0))
    assert named.selected_images == {"chosen": [("fog", 3.0, 3), ("fog", 3.0, 5)]}
    with pytest.raises(UsageError, match="image 99 is not in"):
        _ = RunAnalysis(complete_run, images=[99]).selected_images
    with pytest.raises(UsageError, match=r"unknown corruption and severity 'fog@2'"):
        _ = RunAnalysis(complete_run, noise=("fog", 2.0)).selected_images


def test_a_kept_picture_is_what_the_detectors_saw_and_others_are_not_mistaken(analysis: RunAnalysis) -> None:
    run = analysis.run
    corruption_, severity, image = next(iter(analysis.selected_images.values()))[0]
    assert has_image(run, corruption_, severity, image)
    other = Run(run.path, changed(run.manifest, settings={"seed": 1}))
    assert not has_image(other, corruption_, severity, image)
    altered = Run(run.path, changed(run.manifest, corruptions={corruption_: {"fingerprint": "x"}}))
    with pytest.raises(DataError, match="changed since the run"):
        make_corrupted_images(
            altered, [(corruption_, severity, image)], {c.name: c for c in corruption.load_corruptions()}
        )
    assert image_path(run, corruption_, severity, image).stat().st_size < 200_000


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_command(
    analysis: RunAnalysis, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"f.{ending}"
    words = [
        "robustbench",
        "figure",
        "side-by-side",
        str(analysis.run.path),
        "--out",
        str(out),
        "--rows",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code and out.stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["severty", "RUN"], 2, "did you mean severity"),
        (["severity", "RUN", "--out", "x.gif"], 2, "must end in .svg, .pdf, .png"),
        (["severity", "nowhere"], 1, "nowhere is not a run directory"),
        (["side-by-side", "RUN", "--image", "a"], 2, "must be image ids"),
        (["side-by-side", "RUN", "--noise", "fog"], 2, "must be corruption@severity"),
        (["side-by-side", "RUN", "--model", "base"], 2, "has no baseline in this run"),
        (["side-by-side", "RUN", "--model", "base", "--baseline", "base"], 2, "name another model"),
        (["side-by-side", "RUN", "--model", "bas", "--baseline", "base"], 2, "did you mean base"),
        (["psnr", "RUN"], 1, "no measured PSNR"),
    ],
)
def test_mistakes_are_told(
    complete_run: Run,
    words: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(complete_run.path) if w == "RUN" else w for w in words]
    monkeypatch.setattr(sys, "argv", ["robustbench", "figure", *given])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == code and said in capsys.readouterr().err


def test_a_figure_of_nothing_but_noise_becomes_a_jpeg() -> None:
    figure = Figure(figsize=(3, 3))
    figure.figimage(np.random.default_rng(0).integers(0, 256, (450, 450, 3), np.uint8))
    text = figures.encode_svg(figure, photographs=True)
    (found,) = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", text)
    written = base64.b64decode(found)
    assert len(written) > 450 * 450  # the more than a byte per pixel at which optimising fails
    assert Pillow.open(io.BytesIO(written)).size == (450, 450)
