"""What CONTRIBUTING shows to add is added in one file each, and works."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import robustbench_sgdm as rb
from robustbench_sgdm import datasets, figures
from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.dashboard.pages import load_pages
from robustbench_sgdm.datasets import dataset_sources
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.figures.registry import all_figures
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
    all_figures.cache_clear()
    dataset_sources.cache_clear()


def test_every_kind_is_shown() -> None:
    assert [str(Path(name).parent) for name in FILES] == [
        "corruptions",
        ".",
        "robustbench_sgdm/datasets/sources",
        "robustbench_sgdm/figures",
        "app/views",
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
def test_a_figure(complete_run: Run, put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("robustbench_sgdm/figures/counts.py")
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(path.parent)])
    all_figures.cache_clear()
    drawn = figures.draw("counts", RunAnalysis(complete_run))
    assert drawn.data["cells"].sum() == len(complete_run.cells)
    from robustbench_sgdm.report.sections import make_sections

    results = next(
        section
        for section in make_sections(RunAnalysis(complete_run, resamples=20))
        if section.id == "results"
    )
    assert results.figures[-1].id == "counts"


def draw_page(name: str) -> None:
    from robustbench_sgdm.core import resources
    from robustbench_sgdm.dashboard import pages

    pages.show_page(pages.load_page(resources.root() / f"app/views/{name}.py"))


def test_a_page(complete_run: Run, put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the folder, in the menu and at its address; a file that cannot be loaded harms no other."""
    app = put("app/views/progress.py").parent
    views = app / "app/views"
    own, _ = load_pages(resources.root() / "app/views")
    shutil.copytree(resources.root() / "app", app / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "progress.py").rename(views / "progress.py")
    (views / "broken.py").write_text("import nothing_of_this_name")
    (views / "empty.py").write_text("")
    pages, problems = load_pages(views)
    (added,) = [page for page in pages if page.name == "progress"]
    assert pages[-1] is added and added.needs_run and len(pages) == len(own) + 1
    assert [Path(text.partition(" ")[0]).name for text in problems] == ["broken.py", "empty.py"]

    monkeypatch.setattr(resources, "root", lambda: app)
    monkeypatch.setattr(sys, "argv", ["main.py", "--", str(complete_run.path)])
    before = sys.modules["__main__"]
    try:
        shown = AppTest.from_file(app / "app/main.py", default_timeout=120).run()
        assert not shown.exception and [problem.value for problem in shown.error] == [
            escaping.markdown(text) for text in problems
        ]
        shown = AppTest.from_function(draw_page, args=(added.name,), default_timeout=120).run()
        assert not shown.exception and shown.metric[0].value == str(len(complete_run.cells))
    finally:
        sys.modules["__main__"] = before
