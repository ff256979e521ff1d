from math import floor
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.ultralytics import flops, library_models, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import build_meta, detection_head, head_widths
from robustbench_sgdm.modules import MODULES, SGDM

# The paper's models at 80 classes: parameters, then GFLOPs by its rule and at true 640.
PAPER = {
    "yolov5n-sgdm": (2.840, 8.08, 8.03),
    "yolov5s-sgdm": (9.830, 25.06, 24.96),
    "yolov6n-sgdm": (4.554, 13.18, 13.16),
    "yolov6s-sgdm": (16.638, 45.11, 45.06),
    "yolov8n-sgdm": (3.343, 9.09, 9.05),
    "yolov8s-sgdm": (11.844, 29.66, 29.56),
}
# What its table prints; two parameter counts are cut off, not rounded.
PRINTED = {
    "yolov5n-sgdm": (2.8, 8.1),
    "yolov5s-sgdm": (9.8, 25.1),
    "yolov6n-sgdm": (4.5, 13.2),
    "yolov6s-sgdm": (16.6, 45.1),
    "yolov8n-sgdm": (3.3, 9.1),
    "yolov8s-sgdm": (11.8, 29.7),
}
BASELINES = {
    ("yolov5n", 20): (2.512, 7.20),
    ("yolov5s", 80): (9.153, 24.21),
    ("yolov6n", 80): (4.500, 13.11),
    ("yolov6s", 80): (16.452, 44.87),
    ("yolov8s", 80): (11.167, 28.82),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_table_is_reproduced(name: str) -> None:
    summary = zoo.model_cost(name, classes=80)
    millions = summary.parameters / 1e6
    assert (round(millions, 3), round(summary.gflops_paper, 2), round(summary.gflops_thop, 2)) == PAPER[name]
    printed, gflops = PRINTED[name]
    assert printed in (round(millions, 1), floor(millions * 10) / 10)
    assert round(summary.gflops_paper, 1) == gflops


@pytest.mark.parametrize(("name", "classes"), BASELINES)
def test_the_papers_baselines_are_reproduced(name: str, classes: int) -> None:
    summary = zoo.model_cost(name, classes)
    found = (round(summary.parameters / 1e6, 3), round(summary.gflops_paper, 2))
    assert found == BASELINES[name, classes]


def test_yolov8n_is_printed_fused() -> None:
    fused = zoo.build_model("yolov8n", 80).fuse(verbose=False)  # type: ignore[no-untyped-call]
    assert round(sum(p.numel() for p in fused.parameters()) / 1e6, 3) == 3.152
    assert round(zoo.model_cost("yolov8n").gflops, 3) == 8.744


@pytest.mark.parametrize("name", ["yolov5n-sgdm+odconv", "yolov5on-ca", "yolo12n", "yolov8-efficientvit_m0"])
def test_counts_from_shapes_are_those_of_an_image(name: str) -> None:
    """Attention (YOLO12, EfficientViT) included, whose cost grows faster than the area."""
    model = zoo.build_model(name, 3).eval()
    with FlopCounterMode(display=False) as counter, flops.count_by_thop_rule(model) as macs, torch.no_grad():
        model(torch.rand(1, 3, 224, 224))
    summary = zoo.model_cost(name, 3, 224)
    assert round(summary.gflops * 1e9) == counter.get_total_flops()
    assert round(summary.gflops_thop * 1e9) == 2 * sum(macs)


def test_the_paper_rule_takes_the_stride_where_that_is_more() -> None:
    """A stride of 64 cannot see 32 x 32: Ultralytics extrapolates from 64 x 64."""
    summary = zoo.model_cost("yolov8n-p6")
    assert summary.gflops_paper == pytest.approx(zoo.model_cost("yolov8n-p6", imgsz=64).gflops_thop * 100)


def test_summary_counts_what_is_built() -> None:
    built = zoo.build_model("yolov8n-sgdm", 4)
    assert zoo.model_cost("yolov8n-sgdm", 4).parameters == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("name", zoo.model_names())
def test_every_name_is_a_detector_for_its_classes(name: str) -> None:
    entry = zoo.resolve_model(name)
    config = zoo.model_config(name, 7)
    head = detection_head(build_meta(config))
    assert (entry.name, config["nc"], head.nc) == (name, 7, 7)
    assert entry.baseline in (None, *zoo.model_names())
    assert head_widths(head) == head_widths(
        detection_head(build_meta(zoo.model_config(entry.baseline or name, 80)))
    )


def test_names_cross_families_scales_and_modules() -> None:
    assert {"yolov5n", "yolov5s-sgdm", "yolov6n-sgdm", "yolov6s", "yolov8n", "yolov8s-sgdm"} <= set(
        zoo.model_names()
    )
    assert {"yolov8n-sgdm+odconv", "yolov5on-sgdm", "yolov8-fasternet_t0-sgdm"} <= set(zoo.model_names())
    assert len(set(zoo.model_names())) == len(zoo.model_names())
    assert len(zoo.model_names()) > len(zoo.FAMILIES) * len(zoo.SCALES) * (1 + len(MODULES))


@pytest.mark.parametrize("name", library_models.library_model_names())
def test_ultralytics_models_go_by_their_own_names(name: str) -> None:
    entry = zoo.resolve_model(name)
    assert (entry.base_model, entry.module) == (name, None)
    assert zoo.model_config(name, 7)["nc"] == 7
    if "rtdetr" in name:
        return
    grafted = zoo.resolve_model(f"{name}-sgdm+dcd")
    assert (grafted.base_model, grafted.module, grafted.baseline) == (name, "sgdm+dcd", name)


@pytest.mark.parametrize(
    "name", ["yolo11n", "yolo12n", "yolo26n", "yolov10n", "yolov9t", "yolov8n-p2", "yolov8m"]
)
def test_ultralytics_models_are_grafted_and_detect(name: str) -> None:
    levels = detection_head(build_meta(zoo.model_config(name, 7))).nl
    grafted = build_meta(zoo.model_config(f"{name}-sgdm", 7))
    assert sum(isinstance(layer, SGDM) for layer in grafted) == levels


def test_every_name_says_where_it_comes_from() -> None:
    assert zoo.model_sources("yolov8n") == ["Ultralytics yolov8n.yaml"]
    detector, module = zoo.model_sources("yolov8-fasternet_t0-sgdm+odconv[split=0.2]")
    assert "timm fasternet_t0" in detector and "Omni-Dimensional" in module
    assert "ultralytics/yolov5 repository" in zoo.model_sources("yolov5on")[0]


def test_options_in_brackets() -> None:
    entry = zoo.resolve_model("yolov8n-sgdm[razor=0.25, strip=11,spatial=channel]")
    assert entry.options == {"razor": 0.25, "strip": 11, "spatial": "channel"}
    assert (entry.baseline, entry.module) == ("yolov8n", "sgdm")
    sgdm = build_meta(zoo.model_config(entry.name, 80, strip=9))[22]
    assert sgdm.rd.strip_h.kernel_size == (1, 9)  # type: ignore[union-attr]
    assert sgdm.rd.intrinsic == 4  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolov8q", "did you mean yolov8"),
        ("yolov8n-sgmd", "did you mean yolov8n-sgdm"),
        ("yolov8n[razor=1]", "has no module"),
        ("yolov8n-sgdm[rasor=0.5]", "did you mean razor"),
        ("yolov8n-sgdm[razor=7]", "razor is 7"),
        ("yolov8n-sgdm[razor=x]", "razor is 'x', must be a number"),
        ("yolov8n-sgdm[razor=True]", "razor is True, must be a number"),
        ("yolov8n-sgdm[kernels=4.5]", "kernels is 4.5, must be a whole number"),
        ("yolov8n-sgdm[hidden=x]", "hidden is 'x', must be a whole number; its default is None"),
        ("yolov8n-sgdm[gamma=x]", "gamma is 'x', must be a number"),
        ("yolov8n-sgdm[spatial=3]", "spatial is 3, must be a word"),
        ("yolov8n-rdconv[guided=1]", "guided is 1, must be True or False"),
        ("rtdetr-l-sgdm", "rtdetr-l ends in RTDETRDecoder"),
        ("yolo8n", "did you mean yolov8n or "),
        ("yolov8n-sgdm[razor]", "not option=value"),
        ("yolov8n-sgdm[razor=0.5,razor=0.25]", "twice"),
        ("yolov8n-sgdm[", "unknown model"),
        ("yolov8n-sgdm[channels=3]", "unknown option"),
        ("yolov8n-sgdm[kernels=99999999999999999999]", "size beyond what can be computed"),
        ("yolov8n-sgdm[hidden=9999999999999999]", "size beyond what can be computed"),
        ("yolov8n-sgdm[razor=1e-320]", "size beyond what can be computed"),
    ],
)
def test_wrong_names_say_what_would_be_right(name: str, says: str) -> None:
    for use in (zoo.resolve_model, lambda n: zoo.model_config(n, 80)):
        with pytest.raises(UsageError, match=says):
            use(name)


def test_an_option_that_fits_no_real_width_is_refused() -> None:
    with pytest.raises(UsageError, match="razor"):
        zoo.model_config("yolov6n-sgdm[razor=0.05]", 80)
    assert zoo.model_config("yolov8s-sgdm[razor=0.05]", 80)["nc"] == 80


def test_a_baseline_takes_no_options() -> None:
    with pytest.raises(UsageError, match="has no module"):
        zoo.model_config("yolov8n", 80, razor=0.5)


def test_pooling_layers_count_as_in_thop() -> None:
    """An operation an element of the output; table 2's 30.3 G of YOLOv5s with RFAConv is 30.25 with it."""
    pooled = 2 * (128 * 80**2 + 256 * 40**2 + 512 * 20**2)
    assert round(zoo.model_cost("yolov5s-rfaconv").gflops_paper * 1e9) == 30_247_987_200 + pooled


ABLATION = "yolov8n-sgdm[razor=0.25,strip=11,split=0.2]"


def test_a_model_yaml_of_ones_own_is_a_model(tmp_path: Path) -> None:
    """Whatever it is called: Ultralytics would take its own yolov8.yaml for this name."""
    path = tmp_path / "yolov8n.yaml"
    path.write_text(yaml.safe_dump(zoo.model_config(ABLATION, 3)))
    entry = zoo.resolve_model(str(path))
    assert (entry.module, entry.baseline) == (None, None)
    own, named = (zoo.build_model(name, 5).state_dict() for name in (str(path), ABLATION))
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in named.items()}
    assert zoo.model_sources(str(path)) == [str(path)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read as a model YAML"),
        ("[", "cannot be read as a model YAML"),
        ("- 1", "holds a list, not a mapping"),
        ("names: [a]", "no model config"),
        ("backbone: []\nhead: [[-1, 1, Classify, [nc]]]", "must be a detection head"),
        ("backbone: [[-1, 1, nope, []]]\nhead: [[[0], 1, Detect, [nc]]]", "'nope'"),
        ("backbone: [[-1, 1, SGDM, [3]]]\nhead: [[[0], 1, Detect, [nc]]]", "channels is 3"),
    ],
)
def test_a_model_yaml_that_is_none_is_one_line(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        zoo.build_model(str(path), 2)
    assert "\n" not in str(caught.value)
