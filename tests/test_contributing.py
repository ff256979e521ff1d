"""What CONTRIBUTING shows to add is added in one file each, and works."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import robustbench_sgdm as rb
from robustbench_sgdm import datasets, figures
from robustbench_sgdm.datasets import dataset_sources
from robustbench_sgdm.figures import Material
from robustbench_sgdm.figures.registry import figures as declared
from robustbench_sgdm.store import Run

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.+?)```", GUIDE, re.DOTALL))


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a file of the guide into an empty directory."""

    def write(name: str) -> Path:
        path = tmp_path / Path(name).name
        path.write_text(FILES[name], "utf-8")
        return path

    return write


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Registries that forget what a test has added."""
    yield
    declared.cache_clear()
    dataset_sources.cache_clear()


def test_every_kind_is_shown() -> None:
    assert [str(Path(name).parent) for name in FILES] == [
        "corruptions",
        ".",
        "robustbench_sgdm/datasets/sources",
        "robustbench_sgdm/figures",
    ]


def test_a_corruption_and_a_detector(
    put: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = put("corruptions/scanlines.py").parent
    put("my_detectors.py")
    monkeypatch.syspath_prepend(own)
    (own / "corruptions").mkdir()
    (own / "scanlines.py").rename(own / "corruptions/scanlines.py")
    run = rb.evaluate(
        "my_detectors:brightest",
        noise="scanlines",
        severity=[0, 3],
        fraction=0.02,
        corruptions=[own / "corruptions"],
        project=tmp_path / "runs",
    )
    assert run.results()["corruption"].tolist() == ["clean", "scanlines"]
    assert run.path.name == "find_scanlines_scenes-0.02"


@pytest.mark.usefixtures("_fresh")
def test_a_data_set(put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("robustbench_sgdm/datasets/sources/first_scenes.py")
    package = sys.modules["robustbench_sgdm.datasets.sources"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    dataset_sources.cache_clear()
    assert len(datasets.load_dataset("first-scenes")) == 10
    assert "first-scenes" in {one.name for one in dataset_sources()}


@pytest.mark.usefixtures("_fresh")
def test_a_figure(told_run: Run, put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("robustbench_sgdm/figures/counts.py")
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(path.parent)])
    declared.cache_clear()
    drawn = figures.draw("counts", Material(told_run))
    assert drawn.data["cells"].sum() == len(told_run.cells)
    from robustbench_sgdm.report.sections import sections

    results = next(
        section for section in sections(Material(told_run, resamples=20)) if section.id == "results"
    )
    assert results.pictures[-1].id == "counts"
