"""Which images are shown, in which order: counted anew from the stored detections."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import robustness
from robustbench_sgdm.dashboard import image_selection, run_data
from robustbench_sgdm.dashboard.image_selection import Filters
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.store import Run

MODELS = ("base", "base-sgdm")
NOISE = "gaussian_noise"


@pytest.fixture(scope="module")
def shown(project: Path) -> RunView:
    return run_data.open_run("complete", project / "complete")


def counted(run: Run, severity: float) -> pd.DataFrame:
    """A row per object and false box of either model: image_id, category_id, size, kind."""
    truth, parts = run.ground_truth(), []
    for cell in run.cells:
        if cell.corruption == NOISE and cell.severity == severity:
            found = robustness.match_outcomes(truth, run.store.read_detections(cell))
            false = found.detections[found.detections["outcome"] == "false"]
            false = false.assign(area=(false["x2"] - false["x1"]) * (false["y2"] - false["y1"]))
            parts += [found.objects, false]
    rows = pd.concat(parts)
    return rows.assign(size=pd.cut(rows["area"], [0, 32**2, 96**2, 1e9], labels=["small", "medium", "large"]))


@pytest.mark.parametrize("outcome", ["any", "matched", "missed", "false"])
@pytest.mark.parametrize(("category", "size"), [(None, "all"), (2, "all"), (None, "small"), (3, "large")])
def test_images_that_pass_the_filters(
    shown: RunView, complete: Run, outcome: str, category: int | None, size: str
) -> None:
    rows = counted(complete, 5)
    rows = rows[(rows["category_id"] == category) | (category is None)]
    rows = rows[(rows["size"] == size) | (size == "all")]
    rows = rows[(rows["outcome"] == outcome) | (outcome == "any")]
    filters = Filters(category=category, size=size, outcome=outcome)
    chosen = image_selection.select(shown, MODELS, NOISE, 5, "as in the data", filters)
    assert chosen.ids == sorted(set(rows["image_id"]))


@pytest.mark.parametrize(("order", "kind"), [("most missed", "missed"), ("most false positives", "false")])
def test_orders_by_what_is_missed_or_invented(shown: RunView, complete: Run, order: str, kind: str) -> None:
    rows = counted(complete, 3)
    numbers = rows[rows["outcome"] == kind]["image_id"].value_counts().reindex(range(1, 13), fill_value=0)
    chosen = image_selection.select(shown, MODELS, NOISE, 3, order, Filters())
    assert [numbers[i] for i in chosen.ids] == sorted(numbers, reverse=True) and len(set(numbers)) > 2
    assert f"In {(numbers > 0).sum()} of 12 images" in chosen.remark


def test_flips_of_a_class(shown: RunView, complete: Run) -> None:
    """The ranking counts the class alone."""
    flips = robustness.find_flips(complete, *MODELS, only=[(NOISE, 3)]).objects
    own = flips[flips["category_id"] == 4]
    chosen = image_selection.select(
        shown, MODELS, NOISE, 3, "most different", Filters(category=4, outcome="flip")
    )
    numbers = own["image_id"].value_counts()
    assert set(chosen.ids) == set(own["image_id"]) and len(own)
    assert [numbers[i] for i in chosen.ids] == sorted(numbers, reverse=True)
    assert len(chosen.ids) < flips["image_id"].nunique()


def test_a_search_finds_names_and_ids(shown: RunView, complete: Run) -> None:
    def found(text: str) -> list[int]:
        return image_selection.select(shown, MODELS, NOISE, 3, "as in the data", Filters(text)).ids

    assert (
        found("12") == [12]
        and found("001.PNG") == [2, 6, 10]
        and found("(") == []
        and found("") == list(range(1, 13))
    )


def test_severities_that_only_one_model_has(shown: RunView) -> None:
    """What is counted is at the nearest severity that both have."""
    chosen = image_selection.select(shown, MODELS, NOISE, 3.9, "most different", Filters())
    assert chosen.severity == 3 and "at severity 3" in chosen.remark and set(chosen.cells) == set(MODELS)


@pytest.mark.parametrize("show", ["Viewer", "Gallery"])
def test_an_address_whose_filters_exclude_everything(
    view: Callable[..., AppTest], project: Path, show: str
) -> None:
    address = {"search": "no such image", "class": "dog", "outcome": "flip", "show": show}
    test = view("images", "--", project / "complete", **address)
    assert not test.exception and "No image passes" in "".join(m.value for m in test.markdown)
    (clear,) = [b for b in test.button if b.label == "Clear the filters"]
    test = clear.click().run()
    assert not test.exception and not [b for b in test.button if b.label == "Clear the filters"]
    assert test.selectbox(key="class").value == "any class" and test.get("bidi_component")
