"""Overview: the verdict, the leaderboard, what can be downloaded."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from robustbench_sgdm import content
from robustbench_sgdm.errors import RobustBenchError
from robustbench_sgdm.store import held
from robustbench_sgdm.tables import number, p_text, time_ratio, words

if TYPE_CHECKING:
    from app import controls, processes, stored
    from app.stored import Shown
else:
    controls = content.load_file(content.root() / "app" / "controls.py")
    stored = content.load_file(content.root() / "app" / "stored.py")
    processes = content.load_file(content.root() / "app" / "processes.py")
    Shown = stored.Shown

EVERY = "all"
SIZES = {"small": "AP_S", "medium": "AP_M", "large": "AP_L"}  # of all objects it is the run's own
NO_VERDICT = "cells are missing, or the images hold no such objects; no verdict yet."
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
    family, size, beside = _filters(shown)
    metric = SIZES.get(size) or stored.headline(shown)
    with st.container(key="verdict"):
        verdict = st.empty()
    board = st.empty()
    if not stored.warm(shown, metric):  # the scores alone are quick
        _draw(shown, family, metric, beside, verdict, board, None)
    _draw(shown, family, metric, beside, verdict, board, stored.intervals(shown, metric))
    if not (stored.kept(shown) and (shown.run.path / "report.pdf").is_file()):
        _offer_report(shown)
    _downloads(shown, results)


def _state(shown: Shown) -> None:
    data, corruptions = shown.run.plan["data"], shown.run.plan["corruptions"]
    missing = stored.missing(shown)
    total = len(shown.run.plan["cells"])
    text = (
        f"{controls.plain(data['name'])} · {data['images']:,} images · {data['boxes']:,} objects · "
        f"{len(corruptions)} corruption{'s' * (len(corruptions) != 1)} · seed {shown.run.plan['settings'].get('seed', 0)}"
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
    st.info(f"{done} This command makes the rest:", icon=":material/hourglass_top:")
    st.code(shown.run.plan["command"], language="bash", wrap_lines=True)


def _filters(shown: Shown) -> tuple[str, str, list[str]]:
    families = list(dict.fromkeys(f for f in stored.families(shown).values() if f))
    with st.container(horizontal=True, gap="medium"):
        family = controls.choose("Corruptions", [EVERY, *families], "family") if families else EVERY
        size = controls.choose("Objects", [EVERY, *SIZES], "size")
        others = [n for n in stored.listed() if n != shown.name]
        beside = (
            controls.picks("Beside it, the runs", others, "beside", default=[], placeholder="none", width=320)
            if others
            else []
        )
    return family, size, beside


def _draw(
    shown: Shown,
    family: str,
    metric: str,
    beside: list[str],
    verdict: Any,
    board: Any,
    table: pd.DataFrame | None,
) -> None:
    over = _over(shown, family)
    frame = _leaderboard(shown, metric, over)
    with verdict.container():
        _verdict(shown, metric, over, frame, table)
    frames = [_with_intervals(frame, table, over)]
    with board.container():
        frames += [other for name in beside if (other := _other(name, family, metric)) is not None]
        frame = pd.concat(frames).sort_values("mPC", ascending=False, ignore_index=True)
        differ = [name for name in FACTS if frame[name].nunique() > 1]
        if differ:
            names = ", ".join(FACTS[name].lower() for name in differ)
            st.warning(
                f"The rows differ in more than the model: {names}. Their scores do not compare.",
                icon=":material/compare_arrows:",
            )
        _table(frame, metric, [*(["run"] if len(frames) > 1 else []), *differ])


def _over(shown: Shown, family: str) -> str | None:
    """The name of the set that means are taken over: the benchmark or all that was run, or one family."""
    sets = stored.families(shown)
    found = [name for name, f in sets.items() if f == family] or list(sets)
    return found[0] if found else None


def _leaderboard(shown: Shown, metric: str, over: str | None) -> pd.DataFrame:
    """A row per model: clean score, mPC, rPC, AP_S, latency and its ratio in words, parameters, `FACTS`."""
    frame = stored.summary(shown, metric)
    small = stored.summary(shown, "AP_S").drop_duplicates("model").set_index("model")["P"]
    results = stored.results(shown)
    clean = results[results["corruption"] == "clean"].set_index("model")
    rows = frame[frame["over"] == over].set_index("model")
    took = shown.run.latency().set_index("model")
    plan = shown.run.plan
    facts = {
        "data": plan["data"]["name"],
        "images": plan["data"]["images"],
        "corruptions": ", ".join(map(words, sorted(plan["corruptions"]))),
        "severities": ", ".join(f"{s:g}" for s in sorted({cell.severity for cell in shown.run.cells})),
    }
    return pd.DataFrame(
        {
            "run": shown.name,
            "model": model,
            "clean": clean[metric].get(model),
            "mPC": rows["mPC"].get(model),
            "rPC": rows["rPC"].get(model),
            "AP_S": small.get(model, clean["AP_S"].get(model)),
            "latency": took["milliseconds"].get(model),
            "ratio": _ratio(took.loc[model]) if model in took.index else None,
            "parameters": about.get("parameters", float("nan")) / 1e6,
            **facts,
            "imgsz": about.get("imgsz"),
        }
        for model, about in plan["models"].items()
    ).sort_values("mPC", ascending=False, ignore_index=True)


def _ratio(row: Any) -> str:
    if row["low"] == row["high"] == 1:
        return "1"  # the model that the others are timed against
    return time_ratio(row["ratio"], row["low"], row["high"])


def _with_intervals(frame: pd.DataFrame, table: pd.DataFrame | None, over: str | None) -> pd.DataFrame:
    frame = frame.copy()
    if table is None:
        return frame
    own = table[table["baseline"] == ""]
    for column, statistic, name in (("clean", "P", ""), ("mPC", "mPC", over), ("rPC", "rPC", over)):
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
    st.dataframe(
        frame,
        hide_index=True,
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
            "run": st.column_config.TextColumn("Run"),
            **FACTS,
            **{
                f"{c} 95 %": st.column_config.TextColumn("95 %", help="Bootstrap over images.")
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


def _verdict(
    shown: Shown, metric: str, over: str | None, frame: pd.DataFrame, table: pd.DataFrame | None
) -> None:
    """In words: does the module help under these corruptions, and how sure is that."""
    rows = frame.set_index("model")
    for baseline, model in shown.run.pairs:
        kept = [rows["rPC"].get(m) for m in (model, baseline)]
        change = rows["mPC"].get(model, float("nan")) - rows["mPC"].get(baseline, float("nan"))
        if pd.isna(change):
            st.markdown(f"**{controls.plain(model)} against {controls.plain(baseline)}:** {NO_VERDICT}")
            continue
        sure = None if table is None else _difference(table, baseline, model, over)
        st.markdown(f"### {_headline(model, baseline, change, sure)}")
        text = f"Mean {metric} under corruption (mPC) changes by **{change:+.2f} points**"
        if pd.notna(kept).all():  # of a clean score of 0 nothing can be kept
            text = f"It keeps {kept[0]:.1f} % of its clean {metric}, the baseline {kept[1]:.1f} %. {text}"
        if sure is not None:
            text += f", 95 % interval {controls.span(sure['low'], sure['high'], signed=True)}, p = {p_text(sure['p'])}"
        st.markdown(text.replace("_", r"\_") + ".")
    if not shown.run.pairs:
        best, score = frame.iloc[0], controls.plain(metric)
        name = controls.plain(best["model"])
        if pd.isna(best["mPC"]):
            st.markdown(f"**{name}:** {NO_VERDICT}")
            return
        st.markdown(f"### {name}: mean {score} under corruption of {number(best['mPC'])}")
        if pd.notna(best["rPC"]):
            st.markdown(f"It keeps {best['rPC']:.1f} % of its clean {score}.")


def _headline(model: str, baseline: str, change: float, sure: Any) -> str:
    names = controls.plain(model), controls.plain(baseline)
    if sure is not None and sure["low"] <= 0 <= sure["high"]:
        return f"No difference between {names[0]} and {names[1]} under corruption could be shown"
    if sure is None:
        word = "higher" if change > 0 else "lower"
        return (
            f"Under corruption {names[0]} scores {word} than {names[1]}; whether by chance is not known yet"
        )
    return f"Under corruption {names[0]} does {'better' if change > 0 else 'worse'} than {names[1]}"


def _difference(table: pd.DataFrame, baseline: str, model: str, over: str | None) -> Any:
    rows = table[(table["model"] == model) & (table["baseline"] == baseline)]
    rows = rows[(rows["statistic"] == "mPC") & (rows["over"] == over)]
    return rows.iloc[0] if len(rows) and pd.notna(rows.iloc[0]["low"]) else None


def _offer_report(shown: Shown) -> None:
    """What a run leaves at its end and this one lacks: resampling takes a while, so it is asked for."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("This run has no intervals or no report yet: its images have to be resampled.")
        if st.button("Make intervals and report", icon=":material/casino:"):
            with st.spinner("Resampling the images and drawing, a minute or more", show_time=True):
                done = processes.call("report", str(shown.run.path))
            if done.returncode:
                st.error(controls.plain(done.stderr.strip()[-500:]), icon=":material/error:")
            else:
                st.rerun()


def _downloads(shown: Shown, results: pd.DataFrame) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Results, CSV",
            results.to_csv(index=False),
            "results.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        for name, mime, kind in (
            ("report.pdf", "application/pdf", "PDF"),
            ("report.html", "text/html", "HTML"),
        ):
            path = shown.run.path / name
            if path.is_file():
                of = f" of {_made(path)}" if stored.missing(shown) else ""  # the cells may have changed since
                st.download_button(
                    f"Report{of}, {kind}",
                    path.read_bytes,
                    name,
                    mime,
                    icon=":material/description:",
                    on_click="ignore",
                )


def _made(path: Path) -> str:
    return f"{datetime.fromtimestamp(path.stat().st_mtime):%d %B %Y, %H:%M}"
