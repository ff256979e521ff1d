"""Overview: the verdict, the leaderboard, what can be downloaded."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.robustness import CorruptionSet
from robustbench_sgdm.store import held, repeat_command
from robustbench_sgdm.tables import (
    describe_set,
    format_number,
    format_time_ratio,
    humanize,
    identical_sentence,
    verdicts,
)

if TYPE_CHECKING:
    from app import controls, processes, stored
    from app.stored import Shown
else:
    controls = resources.import_file(resources.root() / "app" / "controls.py")
    stored = resources.import_file(resources.root() / "app" / "stored.py")
    processes = resources.import_file(resources.root() / "app" / "processes.py")
    Shown = stored.Shown

EVERY = "all"
SIZES = {"small": "AP_S", "medium": "AP_M", "large": "AP_L"}  # of all objects it is the run's own
FACTS = {  # what scores depend on beside the model, and how runs may differ
    "data": "Data",
    "images": "Images",
    "corruptions": "Corruptions",
    "severities": "Severities",
    "imgsz": "Image size",
}


def page(shown: Shown) -> None:
    """One run's verdict and the leaderboard of its models, beside those of other runs if asked."""
    results = stored.results(shown)
    _state(shown)
    if results.empty:
        controls.nothing("Nothing measured yet", "Its first cells appear here as soon as they are complete.")
        return
    shown, family, size, beside = _filters(shown)
    metric = SIZES.get(size) or stored.headline(shown)
    with st.container(key="verdict"):
        verdict = st.empty()
    board = st.empty()
    if not stored.warm(shown, metric):  # the scores alone are quick
        _board(shown, family, metric, beside, board, None)
    table = stored.intervals(shown, metric)
    with verdict.container():
        _verdict(shown, metric, _over(shown, family), table)
    _board(shown, family, metric, beside, board, table)
    if not (stored.kept(shown) and shown.run.files.is_file("report.pdf")):
        _offer_report(shown)
    _downloads(shown, results)


def _state(shown: Shown) -> None:
    data, corruptions = shown.run.plan["data"], shown.run.plan["corruptions"]
    missing = stored.missing(shown)
    total = len(shown.run.plan["cells"])
    text = (
        f"{controls.plain(data['name'])} · {data['images']:,} images · {data['boxes']:,} objects · "
        f"{len(corruptions)} corruption{'s' * (len(corruptions) != 1)} · seed {shown.run.plan['settings']['seed']:d}"
    )
    st.caption(text)
    if truth := data.get("truth"):
        st.caption(controls.plain(truth))
    if not missing:
        return
    done = f"{total - missing} of {total} cells are complete; what follows is about those."
    if held(shown.run.path):
        st.info(f"{done} A process works on the rest.", icon=":material/hourglass_top:")
        return
    try:
        command = repeat_command(shown.run)
    except DataError as error:
        st.info(
            f"{done} No command can be made of its plan: {controls.plain(error)}.",
            icon=":material/hourglass_top:",
        )
        return
    st.info(f"{done} This command makes the rest:", icon=":material/hourglass_top:")
    st.code(command, language="bash", wrap_lines=True)


def _filters(shown: Shown) -> tuple[Shown, str, str, list[str]]:
    families = list(dict.fromkeys(f for f in stored.sets(shown).values() if f))
    with st.container(horizontal=True, gap="medium"):
        compared = controls.against(shown)
        family = controls.choose("Corruptions", [EVERY, *families], "family") if families else EVERY
        size = controls.choose("Objects", [EVERY, *SIZES], "size")
        others = [n for n in stored.listed() if n != shown.name]
        beside = (
            controls.picks("Compare with runs", others, "beside", default=[], placeholder="none", width=320)
            if others
            else []
        )
    return compared, family, size, beside


def _board(
    shown: Shown, family: str, metric: str, beside: list[str], board: Any, table: pd.DataFrame | None
) -> None:
    over = _over(shown, family)
    frames = [_with_intervals(_leaderboard(shown, metric, over), table, over)]
    with board.container():
        frames += [other for name in beside if (other := _other(name, family, metric)) is not None]
        frame = pd.concat(frames).sort_values("mPC", ascending=False, ignore_index=True, kind="stable")
        differ = [name for name in FACTS if frame[name].nunique() > 1]
        if differ:
            names = ", ".join(FACTS[name].lower() for name in differ)
            st.warning(
                f"The rows differ in more than the model: {names}. Their scores do not compare.",
                icon=":material/compare_arrows:",
            )
        seeds = ["seeds"] if (frame["seeds"] > 1).any() else []
        _table(frame, metric, [*seeds, *(["run"] if len(frames) > 1 else []), *differ])


def _over(shown: Shown, family: str) -> CorruptionSet | None:
    """The set that means are taken over: the benchmark or all that was run, or one family."""
    sets = stored.sets(shown)
    return next(iter([*(over for over, f in sets.items() if f == family), *sets]), None)


def _leaderboard(shown: Shown, metric: str, over: CorruptionSet | None) -> pd.DataFrame:
    """A row per network: clean score, mPC, rPC, AP_S, seeds, latency and its ratio in words, parameters, `FACTS`."""
    frame = stored.summary(shown, metric)
    small = stored.summary(shown, "AP_S").drop_duplicates("model").set_index("model")["P"]
    scores = stored.scores(shown)
    clean = scores[scores["corruption"] == CLEAN].set_index("model")
    rows = frame[frame["over"] == (over.name if over else None)].set_index("model")
    took = shown.run.latency().set_index("model")
    plan = shown.run.plan
    facts = {
        "data": plan["data"]["name"],
        "images": plan["data"]["images"],
        "corruptions": ", ".join(map(humanize, sorted(plan["corruptions"]))),
        "severities": ", ".join(f"{s:g}" for s in sorted({cell.severity for cell in shown.run.cells})),
    }
    board = []
    for name, trainings in shown.networks.items():
        about = plan["models"][trainings[0]]
        timed = next((m for m in trainings if m in took.index), None)
        board.append(
            {
                "run": shown.name,
                "model": name,
                "clean": clean[metric].get(name),
                "mPC": rows["mPC"].get(name),
                "rPC": rows["rPC"].get(name),
                "AP_S": small.get(name, clean["AP_S"].get(name)),
                "seeds": len(trainings),
                "latency": took["milliseconds"].get(timed),
                "ratio": _ratio(took.loc[timed]) if timed else None,
                "parameters": about.get("parameters", float("nan")) / 1e6,
                **facts,
                "imgsz": about.get("imgsz"),
            }
        )
    return pd.DataFrame(board).sort_values("mPC", ascending=False, ignore_index=True, kind="stable")


def _ratio(row: Any) -> str:
    if row["low"] == row["high"] == 1:
        return "1"  # the model that the others are timed against
    return format_time_ratio(row["ratio"], row["low"], row["high"])


def _with_intervals(
    frame: pd.DataFrame, table: pd.DataFrame | None, over: CorruptionSet | None
) -> pd.DataFrame:
    frame = frame.copy()
    if table is None:
        return frame
    own = table[table["baseline"] == ""]
    mean = over.name if over else ""
    for column, statistic, name in (("clean", "P", ""), ("mPC", "mPC", mean), ("rPC", "rPC", mean)):
        rows = own[(own["statistic"] == statistic) & (own["over"] == name)].set_index("model")
        frame[f"{column} 95 %"] = [
            controls.span(rows["low"][m], rows["high"][m]) if m in rows.index else "–" for m in frame["model"]
        ]
    return frame


def _other(name: str, family: str, metric: str) -> pd.DataFrame | None:
    """The leaderboard of another run; one that cannot be read says so and is left out."""
    try:
        other = stored.show(name, stored.listed()[name])
        over = _over(other, family)
        return _with_intervals(_leaderboard(other, metric, over), stored.intervals(other, metric), over)
    except (RobustBenchError, OSError, LookupError, TypeError, ValueError) as error:
        st.warning(f"{controls.plain(name)} is left out: {controls.plain(error)}", icon=":material/error:")
        return None


def _table(frame: pd.DataFrame, metric: str, more: list[str]) -> None:
    column = st.column_config.NumberColumn
    order = ["model", *(c for base in ("clean", "mPC", "rPC") for c in (base, f"{base} 95 %") if c in frame)]
    controls.table(
        frame,
        column_order=[
            *order,
            *(["AP_S"] if metric != "AP_S" else []),
            *(c for c in ("ratio", "latency", "parameters") if frame[c].notna().any()),
            *more,
        ],
        column_config={
            "model": st.column_config.TextColumn("Model", pinned=True),
            "clean": column(f"{metric}, clean", format="%.2f", help="On the images as they are, percent."),
            "mPC": column(format="%.2f", help="Mean score under corruption, percent."),
            "rPC": column("rPC, %", format="%.2f", help="What is kept of the clean score: mPC / clean."),
            "AP_S": column("AP_S, clean", format="%.2f", help="Of objects under 32 x 32 px."),
            "ratio": st.column_config.TextColumn(
                "Time, ratio", help="Over the run's first model in the same round: median and 95 % interval."
            ),
            "latency": column("ms / image", format="%.1f", help="One image, pixels to boxes."),
            "parameters": column("Parameters, M", format="%.2f"),
            "seeds": column(
                "Seeds", help="Trainings whose mean is shown; intervals are over images and trainings."
            ),
            "run": st.column_config.TextColumn("Run"),
            **FACTS,
            **{
                f"{c} 95 %": st.column_config.TextColumn(
                    "95 %", help="Bootstrap over images, and over trainings where there are several."
                )
                for c in ("clean", "mPC", "rPC")
            },
        },
        placeholder="–",
        alt="Leaderboard: a row per model, the best under corruption first",
    )
    if frame["latency"].notna().any():
        st.caption(
            "Milliseconds were measured once, on the machine of the run and with whatever else it did; "
            "the ratio of times, taken in turns, is what carries over."
        )


def _verdict(shown: Shown, metric: str, over: CorruptionSet | None, table: pd.DataFrame | None) -> None:
    """In words: does the module help under these corruptions, and how sure is that."""
    same = stored.identical(shown)
    if table is None:
        for pair, why in same.items():
            st.markdown(f"### {controls.plain(identical_sentence(*pair, why))}.")
        if len(same) < len(shown.run.pairs):
            st.markdown(
                "**No verdict yet:** it needs intervals, and the images of this run have not been resampled. "
                "The button below does it."
            )
    else:
        for verdict in verdicts(table, shown.run.pairs, metric, over, same):
            st.markdown(f"### {controls.plain(verdict.headline)}.")
            if verdict.details:
                st.markdown("\n".join(f"* {controls.plain(detail)}." for detail in verdict.details))
    if not shown.run.pairs:
        _alone(_leaderboard(shown, metric, over).iloc[0], metric, over)


def _alone(row: Any, metric: str, over: CorruptionSet | None) -> None:
    """The scores of a run's only network in words; there is nothing to compare."""
    name, score = controls.plain(row["model"]), controls.plain(metric)
    if over is None or pd.isna(row["mPC"]):
        lack = (
            "only clean images were run"
            if over is None
            else "cells are missing, or no image has such objects"
        )
        st.markdown(f"**{name}:** no mean under corruption: {lack}.")
        return
    st.markdown(
        f"### {name}: mean {score} of {format_number(row['mPC'])} under {controls.plain(describe_set(over))}"
    )
    if pd.notna(row["rPC"]):  # of a clean score of 0 nothing can be kept
        st.markdown(f"It keeps {format_number(row['rPC'])} % of its clean {score}.")


def _offer_report(shown: Shown) -> None:
    """What a run leaves at its end and this one lacks: resampling takes a while, so it is asked for."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("This run has no intervals or no report yet: its images have to be resampled.")
        if st.button("Make intervals and report", icon=":material/casino:"):
            with st.spinner("Resampling the images and drawing, a minute or more", show_time=True):
                done = processes.call("report", "--", str(shown.run.path))
            if done.returncode:
                st.error(controls.plain(done.stderr.strip()[-500:]), icon=":material/error:")
            else:
                st.rerun()


def _downloads(shown: Shown, results: pd.DataFrame) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Results, CSV",
            escaping.csv(results),
            "results.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        for name, mime, kind in (
            ("report.pdf", "application/pdf", "PDF"),
            ("report.html", "text/html", "HTML"),
        ):
            if about := shown.run.files.stat(name):
                of = (
                    f" of {_made(about.st_mtime)}" if stored.missing(shown) else ""
                )  # the cells may have changed since
                st.download_button(
                    f"Report{of}, {kind}",
                    partial(shown.run.files.read_bytes, name),
                    name,
                    mime,
                    icon=":material/description:",
                    on_click="ignore",
                )


def _made(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%d %B %Y, %H:%M}"
