"""Images: one picture as two detectors saw it, side by side, in step."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import words

if TYPE_CHECKING:
    from app import controls, detecting, pictures, stored
    from app.stored import Shown
else:
    controls = resources.import_file(resources.root() / "app" / "controls.py")
    stored = resources.import_file(resources.root() / "app" / "stored.py")
    pictures = resources.import_file(resources.root() / "app" / "pictures.py")
    detecting = resources.import_file(resources.root() / "app" / "detecting.py")
    Shown = stored.Shown

MAX_DIFFERENT = "most different"
RIGHT_FINDS_MORE = "right finds more"
LEFT_FINDS_MORE = "left finds more"
AS_IN_THE_DATA = "as in the data"
ORDERS = {
    MAX_DIFFERENT: "only one of the two models",
    RIGHT_FINDS_MORE: "the right model",
    LEFT_FINDS_MORE: "the left model",
    AS_IN_THE_DATA: "",
}
KINDS = ("matched", "missed", "false")


def page(shown: Shown) -> None:
    """Choose models, corruption and severity; look; step through the images where the two differ."""
    cells = stored.cells(shown)
    if not cells:
        controls.nothing(
            "Nothing to look at yet",
            "Images appear as soon as the first cells are complete.",
            ":material/image:",
        )
        return
    left, right, corruption, order = _choose(shown, cells)
    levels = sorted({s for m, c, s in cells if m in (left, right) and c in (CLEAN, corruption)})
    if not levels:
        controls.nothing(
            "Nothing to look at yet", "Neither model has a complete cell; choose others.", ":material/image:"
        )
        return
    severity, live = _severity(shown, levels, corruption)
    ids, remark = _ranked(shown, left, right, corruption, severity, order)
    image_id = _current(ids)
    _view(shown, list(dict.fromkeys((left, right))), corruption, severity, live, ids, image_id, remark)


def _choose(shown: Shown, cells: Any) -> tuple[str, str, str, str]:
    """Two trainings, a corruption and the order of images."""
    networks = shown.networks
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        baseline = other = next(iter(networks))
        compared = controls.against(shown, own=False)
        if len(networks) > 1:
            baseline, first = compared.run.pairs[0]
            first = next((m for b, m in shown.run.pairs if b == baseline), first)
            other = controls.pick("Compared with it", list(networks), "right", default=first, width=200)
        left, right = _trainings(compared, baseline, other)
        corruptions = list(dict.fromkeys(c for m, c, _ in cells if m in (left, right) and c != CLEAN))
        corruption = controls.pick_corruption(corruptions or [CLEAN])
        order = AS_IN_THE_DATA
        if left != right:
            order = controls.pick("Order of images", list(ORDERS), "order", width=170)
    return left, right, corruption, order


def _trainings(shown: Shown, baseline: str, other: str) -> tuple[str, str]:
    """One training of each network, by default of the same seed; of one network its first and last."""
    ours, theirs = shown.networks[baseline], shown.networks[other]
    defaults = shown.run.trainings(baseline, other)[0] if baseline != other else (ours[0], ours[-1])
    chosen = []
    for label, trainings, key, default in (
        ("Left training", ours, "left", defaults[0]),
        ("Right training", theirs, "right_training", defaults[1]),
    ):
        if len(trainings) > 1:
            chosen.append(controls.pick(label, trainings, key, default=default, width=200))
        else:
            controls.asked(key, trainings, label)
            chosen.append(trainings[0])
    return chosen[0], chosen[1]


def _severity(shown: Shown, levels: list[float], corruption: str) -> tuple[float, bool]:
    """A stored severity, or with the detectors loaded any in [0, 5]."""
    weights = f"weights of {shown.run.path}"
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        live = controls.switch(
            "Any severity",
            "any",
            help="Loads the detectors, which takes a few seconds the first time, and runs them here.",
            on_change=controls.agree,
            args=(weights,),
        )
        if live:
            live = controls.is_agreed(
                weights,
                "The address asks for any severity, which loads the weights that this run names.",
                "Load the detectors",
            )
        if live and "[" not in corruption:
            return float(controls.slide("Severity", "exact", 0.0, 5.0, 2.5, 0.1)), True
        names = [f"{s:g}" for s in levels]
        if len(names) == 1:
            controls.asked("severity", names, "Severity")
            st.caption(f"Severity {names[0]} is the only one stored.")
            return levels[0], False
        chosen = controls.steps("Severity", names, "severity", default=names[len(names) // 2])
    return float(chosen), False


def _ranked(
    shown: Shown, left: str, right: str, corruption: str, severity: float, order: str
) -> tuple[list[int], str]:
    """Image ids in the order asked for, and what is known of those that come first."""
    every = [int(i) for i in stored.truth(shown).images["image_id"]]
    if order == AS_IN_THE_DATA or left == right:
        return every, ""
    cells = stored.cells(shown)
    name = CLEAN if severity == 0 else corruption
    levels = [s for m, c, s in cells if m == right and c == name and (left, c, s) in cells]
    if not levels:
        return every, "No severity is complete for both models, so the order is that of the data set."
    nearest = min(levels, key=lambda s: abs(s - severity))
    apart = _apart(shown.run, shown.stamp, left, right, name, nearest)
    if order == MAX_DIFFERENT:
        first = apart.sort_values(["either", "net"], ascending=False, kind="stable", key=abs)
    else:
        sign = 1 if order == RIGHT_FINDS_MORE else -1
        first = apart[sign * apart["net"] > 0].sort_values("net", ascending=sign < 0, kind="stable")
    ranked = [int(i) for i in first["image_id"]]
    known = set(ranked)
    finds = f"{'finds' if name == CLEAN else 'still finds'} {'some' if order == MAX_DIFFERENT else 'more'} objects"
    where = f"In {len(ranked)} of {len(every)} images" if ranked else "In no image"
    remark = f"{where} {ORDERS[order]} {finds} at severity {nearest:g}{'; they come first' * bool(ranked)}."
    return ranked + [i for i in every if i not in known], remark


@st.cache_data(max_entries=64, show_spinner="Ranking images by what only one of the models finds")
def _apart(_run: Run, stamp: str, left: str, right: str, corruption: str, severity: float) -> pd.DataFrame:
    """image_id, either (objects that only one model finds) and net (right's minus left's) of images that have such.

    Under corruption only objects count that both models find on clean images.
    """
    if corruption == CLEAN:
        truth, cells = _run.truth(), {c.model: c for c in _run.cells if c.corruption == CLEAN}
        found = [robustness.outcomes(truth, _run.store.detections(cells[m])).objects for m in (left, right)]
        matched = [(frame["outcome"] == "matched").to_numpy(int) for frame in found]
        each = pd.DataFrame({"image_id": found[0]["image_id"], "net": matched[1] - matched[0]})
    else:
        flips = robustness.flips(_run, left, right, only=(corruption, severity)).objects
        net = np.where(flips["keeper"] == "model", 1, -1)
        each = pd.DataFrame({"image_id": flips["image_id"], "net": net})
    each["either"] = each["net"].abs()
    sums = each.groupby("image_id", as_index=False)[["either", "net"]].sum()
    return sums[sums["either"] > 0]


def _current(ids: list[int]) -> int:
    asked = st.query_params.get("image")
    if asked is not None and asked not in map(str, ids):
        controls.asked("image", ids, "Image")
        del st.query_params["image"]
        asked = None
    return ids[0] if asked is None else int(asked)


def _view(
    shown: Shown,
    models: list[str],
    corruption: str,
    severity: float,
    live: bool,
    ids: list[int],
    image_id: int,
    remark: str,
) -> None:
    truth = stored.truth(shown)
    (row,) = pictures.rows(truth.images[truth.images["image_id"] == image_id])
    own = pictures.of_image(truth, image_id)
    picture = pictures.Picture.of(shown.run.plan, row, corruption, severity)
    image, note = _picture(shown, picture)
    where = ids.index(image_id)
    panes = []
    for model in models:
        try:
            found = _found(shown, model, corruption, severity, live, picture)
            panes.append({"title": model, "boxes": pictures.judged(own, found)})
        except RobustBenchError as error:
            st.warning(controls.plain(f"{model}: {error}"), icon=":material/error:")
            panes.append({"title": f"{model}: nothing stored", "boxes": []})

    def step() -> None:
        to = st.session_state["viewer"].get("step")
        if to is not None:
            st.query_params["image"] = str(ids[int(to) % len(ids)])

    st.caption(
        f"Image {where + 1} of {len(ids)} · {controls.plain(str(row.file).rsplit('/', 1)[-1])} · "
        f"{controls.plain(words(corruption))} at severity {severity:g}. {remark}"
    )
    pictures.viewer(
        f"{shown.name}:{image_id}",
        image,
        (picture.width, picture.height),
        panes,
        pictures.objects(own),
        KINDS,
        state=pictures.state(),
        key="viewer",
        place=(where, len(ids)),
        on_view_change=lambda: pictures.remember("viewer"),
        on_step_change=step,
    )
    if note:
        st.warning(controls.plain(note), icon=":material/image_not_supported:")
    _provenance(shown, live)


def _found(
    shown: Shown,
    model: str,
    corruption: str,
    severity: float,
    live: bool,
    picture: "pictures.Picture",
) -> pd.DataFrame:
    """A model's boxes in one image: stored ones where they are, else found now."""
    key = (model, CLEAN, 0.0) if severity == 0 else (model, corruption, severity)
    cell = stored.cells(shown).get(key)
    if cell is not None:
        frame = stored.detections(shown, cell)
        return frame[frame["image_id"] == picture.image_id]
    if not live:
        raise DataError(f"this cell is not complete; {model} has nothing stored at severity {severity:g}")
    detector = detecting.of_run(shown.run.plan, model)
    found = detecting.named(
        detecting.detect(detector, picture), detector.classes, stored.truth(shown).categories
    )
    return found.assign(image_id=picture.image_id)


def _picture(shown: Shown, picture: "pictures.Picture") -> tuple[str, str]:
    """A picture's data address, and what it lacks; none is read for an address that the visit began with."""
    if not controls.has_acted() and not controls.is_agreed(
        f"images of {shown.run.path}",
        "Boxes alone are shown. The images are read from the files that this run names.",
        "Show the images",
    ):
        return pictures.grey(picture.width, picture.height), ""
    try:
        return pictures.url(picture), ""
    except RobustBenchError as error:
        return _without(picture, error)


def _without(picture: "pictures.Picture", error: RobustBenchError) -> tuple[str, str]:
    """The clean picture where the noise cannot be made again, a grey one where the file is gone."""
    try:
        clean = dataclasses.replace(picture, corruption=CLEAN, severity=0.0)
        return pictures.url(clean), f"The picture is shown without its noise: {error}."
    except RobustBenchError:
        return pictures.grey(
            picture.width, picture.height
        ), f"The picture cannot be shown, only its boxes: {error}."


def _provenance(shown: Shown, live: bool) -> None:
    device = str(shown.run.plan["settings"].get("device", "cpu"))
    text = "Boxes are the run's own; the noise is made again from its seed, to the pixel."
    if live:
        text = "Boxes of severities that the run has are its own; others are found now, by its own detectors."
    if not device.startswith("cpu"):
        text += (
            f" The run drew its noise on {controls.plain(device)}, so noise made here differs in its grain."
        )
    st.caption(text)
