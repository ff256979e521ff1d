"""A static leaderboard of any number of runs: one folder that any web server shows, and that opens without one.

Runs that can be compared (same data, corruptions, severities, engine and seed) are ranked together over the same
resampled images; the others stand apart. Runs and their reports may come from strangers: a run that cannot be read is
named with the reason, and a report is copied only if it begins with a policy by which no browser runs anything in it.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm import __version__, robustness, tables
from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.core.constants import CLEAN, REPORT_POLICY
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.progress import Progress, make_counter, no_progress
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import escape_control_chars, short_repr
from robustbench_sgdm.report.templates import load_template
from robustbench_sgdm.robustness import BootstrapSamples, CorruptionSet, Intervals
from robustbench_sgdm.store import ModelInfo, Run, is_run, list_runs

_MEAN = CorruptionSet((("mean", 1.0),))  # stands for the set of a group, whose mean is one cell here
_MOST_REPORT = 64 * 2**20  # bytes
# Byte by byte: after any other character before the policy, a browser would have begun the page's body, and would
# not follow a policy there.
_REPORT = re.compile(
    rb'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" '
    rb'content="([^"]*)">'
)
_POLICY = re.compile(re.escape(REPORT_POLICY).replace(r"\{\}", r"'sha256-[\w+/=]+'"), re.ASCII)
# What a policy does not stop: redirects, and connections that a link prepares. A value may be written in entities,
# a name not.
_REACHES = re.compile(rb"http-equiv|<link", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Entry:
    """A network of one run or of several that hold the same cells of it.

    Attributes:
        model: its name.
        keys: of its cells.
        trainings: the samples of each, by model; none where cells are missing.
        seeds: of the trainings, where known.
        info: of its first training.
        runs: that it is in.
    """

    model: str
    keys: tuple[str, ...]
    trainings: Mapping[str, BootstrapSamples]
    seeds: Mapping[str, int]
    info: ModelInfo
    runs: list[Run]


@dataclass(frozen=True, eq=False)
class Group:
    """Networks that can be compared.

    Attributes:
        first: the run that was read first.
        corruption_set: that mPC is over; None if only clean images were run.
        metric: of the ranking.
        entries: networks; of two whose cells have the same keys, the numbers differ, or one lacks cells.
    """

    first: Run
    corruption_set: CorruptionSet | None
    metric: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The data and the corruptions, in words."""
        what = tables.describe_set(self.corruption_set) if self.corruption_set else "clean images"
        return f"{self.first.manifest.data.name}: {what}"

    @property
    def facts(self) -> str:
        """What the runs share, in words."""
        data, settings = self.first.manifest.data, self.first.manifest.settings
        return (
            f"{data.images:,} images, engine {settings.engine}, seed {settings.seed}, {self.metric} in percent, data "
            f"{data.fingerprint[:8]}"
        )

    def add(self, entry: Entry) -> None:
        """Add a network; if it is there with the same numbers, its run is noted.

        A run says itself which keys its cells have: networks are one only if their numbers are equal too.
        """
        for place, known in enumerate(self.entries):
            if known.keys == entry.keys and _have_same_numbers(known, entry):
                self.entries[place] = replace(known, runs=[*known.runs, *entry.runs])
                return
        self.entries.append(entry)

    def sound_table(self) -> tuple[pd.DataFrame, list[str]]:
        """The table without the networks that none can be made with, and why they are left out, a line each."""
        try:
            return self.table(), []
        except Exception:  # noqa: BLE001 - found out one by one
            whole, table, reasons = replace(self, entries=[]), pd.DataFrame(), list[str]()
        for entry in self.entries:
            longer = replace(whole, entries=[*whole.entries, entry])
            try:
                whole, table = longer, longer.table()
            except Exception as error:  # noqa: BLE001 - whatever one run raises must not hide the others
                where = " and ".join(str(run.path) for run in entry.runs)
                reasons.append(f"{entry.model} of {where} cannot be ranked ({_describe(error)})")
        return table, reasons

    def table(self) -> pd.DataFrame:
        """A row for each network, the best first, those without a rank last: `entry`, `why`, `_COLUMNS`."""
        column = robustness.METRICS.index(self.metric)
        ranked = {f"{number}": entry for number, entry in enumerate(self.entries) if entry.trainings}
        intervals = Intervals(
            {
                f"{name}/{model}": {
                    (CLEAN, 0.0): _only(samples, column),
                    _MEAN.cells[0]: _only(samples, len(robustness.METRICS) + column),
                }
                for name, entry in ranked.items()
                for model, samples in entry.trainings.items()
            },
            {_MEAN: ""},
            [],
            {name: [f"{name}/{model}" for model in entry.trainings] for name, entry in ranked.items()},
            {f"{name}/{model}": s for name, entry in ranked.items() for model, s in entry.seeds.items()},
            metrics=[self.metric],
        )
        ranks = robustness.rank_networks(intervals, self.metric, _MEAN if self.corruption_set else None)
        numbers = intervals.table(sets=[_MEAN]).set_index(["model", "statistic"])
        rows = []
        for rank in ranks.to_dict("records"):
            row = {key: rank[key] for key in ("place", "first", "last")}
            row |= {"entry": ranked[rank["model"]], "why": ""}
            for statistic in ("mPC", "P", "rPC"):
                one = numbers.loc[(rank["model"], statistic)]
                row |= {f"{statistic}{suffix}": one[key] for suffix, key in _NUMBERS.items()}
            rows.append(row)
        shown = [row["entry"] for row in rows]
        rows += [
            {"entry": entry, "why": f"no {self.metric} in some cells" if entry.trainings else _MISSING}
            for entry in self.entries
            if entry not in shown
        ]
        return pd.DataFrame(rows, columns=["entry", "why", *_COLUMNS])


_PRINTED = 0.005  # percent: half of the last digit that is printed
_MISSING = "cells are missing; run the same command again to resume"
_NUMBERS = {"": "estimate", "_low": "low", "_high": "high"}
_COLUMNS = ["place", "first", "last", *(f"{s}{end}" for s in ("mPC", "P", "rPC") for end in _NUMBERS)]


def write_leaderboard(
    paths: Sequence[Path], out: Path, *, resamples: int = 1000, progress: Progress = no_progress
) -> tuple[Path, list[str]]:
    """Write `index.html`, `leaderboard.csv` and the runs' reports into a folder.

    Args:
        paths: run directories, or folders of such.
        out: the folder; files of an earlier leaderboard in it are replaced. If it holds another site, such as a
            documentation, the leaderboard becomes its part `leaderboard/`.
        resamples: of the images, behind every interval; statistics that are not cached yet are computed.
        progress: called with the number of runs read.

    Returns:
        The page, and why runs are not on it, a line each.

    Raises:
        DataError: no run can be read.
        UsageError: `out` holds another site, and so does `leaderboard/` in it.
    """
    out = _own_folder(out)
    chosen = _run_directories(paths)
    groups: dict[tuple[Any, ...], Group] = {}
    reasons: list[str] = []
    update = make_counter(progress, "reading runs", len(chosen))
    for path in chosen:
        try:
            add_run(groups, Run.open(path), resamples)
        except RobustBenchError as error:
            reasons.append(str(error))
        except Exception as error:  # noqa: BLE001 - whatever one run raises must not hide the others
            reasons.append(f"{path} cannot be read ({_describe(error)})")
        update(1)
    shown = []
    for group in groups.values():
        table, broken = group.sound_table()
        reasons += broken
        shown += [(group, table.to_dict("records"))] if len(table) else []
    if not shown:
        why = "; ".join(reasons) or "there is none"
        raise DataError(f"no run can be shown: {why}; name run directories of `robustbench run`")
    reports: dict[Path, str] = {}
    files = SafeDirectory(out)  # which may lie among runs of somebody else's
    unread = list(reasons)
    shown.sort(key=lambda one: -len(one[1]))
    for _, rows in shown:
        for row in rows:
            for run in row["entry"].runs:
                if run.path not in reports:
                    reports[run.path] = _copy_report(run, files, len(reports), reasons)
            row["links"] = [(run.path.name, reports[run.path]) for run in row["entry"].runs]
    files.write_text("leaderboard.csv", escaping.csv(_frame(shown)))
    files.write_text("index.html", _page(shown, unread))
    return out / "index.html", reasons


def _own_folder(out: Path) -> Path:
    """The folder itself, or `leaderboard/` in it where it has an index.html of its own."""
    inside = out / "leaderboard"
    for folder in (out, inside):
        is_other = (folder / "index.html").exists() and not (folder / "leaderboard.csv").exists()
        if not is_other and not (folder is inside and inside.is_symlink()):
            return folder
    raise UsageError(f"--out {out} holds another site, and so does {inside}; name a new folder")


def _run_directories(paths: Sequence[Path]) -> list[Path]:
    """The runs among paths and directly below them, each once; a path that is neither is kept, to be named."""
    found: dict[Path, Path] = {}
    for path in paths:
        below = [] if is_run(path) else sorted(list_runs(path))
        for one in below or [path]:
            found.setdefault(one.resolve(), one)
    return list(found.values())


def add_run(groups: dict[tuple[Any, ...], Group], run: Run, resamples: int) -> None:
    """Add a run's networks to the group that it can be compared with, or to a new one."""
    manifest = run.manifest
    first = next(iter(robustness.corruption_sets(run)), None)
    metric = robustness.primary_metric(run)
    means = robustness.load_means(run, first, resamples=resamples)
    key = (
        manifest.data.fingerprint,
        run.ground_truth().digest,
        manifest.settings.engine,
        manifest.settings.seed,
        metric,
        frozenset((c, s, manifest.corruptions[c].fingerprint) for c, s in (first.cells if first else ())),
    )
    group = groups.setdefault(key, Group(run, first, metric))
    for network, members in run.groups.items():
        keys = tuple(sorted(cell.key for cell in run.cells if cell.model in members))
        complete = {m: means[m] for m in members if m in means}
        entry = Entry(
            network,
            keys,
            complete if len(complete) == len(members) else {},
            {m: seed for m, seed in run.seeds.items() if m in members},
            manifest.models[members[0]],
            [run],
        )
        group.add(entry)


def _have_same_numbers(one: Entry, other: Entry) -> bool:
    """Whether two networks have all their cells, and numbers that print alike, whatever their trainings are called.

    Two machines may differ in the last bits of a score.
    """
    trainings = [
        sorted(entry.trainings.values(), key=lambda samples: samples.estimate.tolist())
        for entry in (one, other)
    ]
    return len(trainings[0]) == len(trainings[1]) > 0 and all(
        first.shape == second.shape and np.allclose(first, second, rtol=0, atol=_PRINTED, equal_nan=True)
        for pair in zip(*trainings, strict=True)
        for first, second in zip(*map(_arrays, pair), strict=True)
    )


def _arrays(samples: BootstrapSamples) -> tuple[NDArray[np.float64], ...]:
    return samples.estimate, samples.resamples, samples.jackknife


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {short_repr(str(error))}"


def _only(samples: BootstrapSamples, column: int) -> BootstrapSamples:
    return BootstrapSamples.map(lambda values: values[..., column : column + 1], samples)


def _copy_report(run: Run, files: SafeDirectory, number: int, reasons: list[str]) -> str:
    """Copy a run's report into the page's folder; gives its address there, or nothing with a reason."""
    try:
        content = run.files.read_bytes("report.html", _MOST_REPORT + 1)
        if len(content) > _MOST_REPORT or not _is_inert(content):
            raise DataError(f"{run.path / 'report.html'} is not a report of this version")
    except Exception as error:  # noqa: BLE001 - as for runs
        why = str(error) if isinstance(error, RobustBenchError) else _describe(error)
        if isinstance(error, FileNotFoundError):
            why = "it has none"
        reasons.append(f"{run.path} is without its report: {why}; `robustbench report` writes it")
        return ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.path.name).strip(".-")[:80]
    files.write_bytes(f"reports/{number + 1}-{name}.html", content, sync=False)
    return f"reports/{number + 1}-{name}.html"


def _is_inert(content: bytes) -> bool:
    """Whether a page begins with a report's policy, by which no browser runs, sends or fetches anything."""
    match = _REPORT.match(content)
    if match is None or _REACHES.search(content, match.end()):
        return False
    return bool(_POLICY.fullmatch(html.unescape(match[1].decode("latin-1"))))


def _frame(shown: Sequence[tuple[Group, Sequence[Mapping[Any, Any]]]]) -> pd.DataFrame:
    """All networks as one table."""
    rows = [
        {
            "group": number,
            "data": group.first.manifest.data.name,
            "over": tables.describe_set(group.corruption_set) if group.corruption_set else "clean images",
            "metric": group.metric,
            "model": row["entry"].model,
            "runs": ", ".join(name for name, _ in row["links"]),
            **{column: row[column] for column in _COLUMNS},
            "parameters": row["entry"].info.parameters,
        }
        for number, (group, rows) in enumerate(shown, 1)
        for row in rows
    ]
    return pd.DataFrame(rows)


def _page(shown: Sequence[tuple[Group, Sequence[Mapping[Any, Any]]]], reasons: Sequence[str]) -> str:
    template = load_template("leaderboard.html.j2", {"interval": _interval, "number": tables.format_number})
    source = {
        kind: (resources.root() / "reports" / f"leaderboard.{kind}").read_text("utf-8")
        for kind in ("css", "js")
    }
    text = template.render(
        groups=shown,
        reasons=reasons,
        version=__version__,
        source=source,
        digest={kind: _digest(text) for kind, text in source.items()},
    )
    return escape_control_chars(text, "\n\t")


def _digest(text: str) -> str:
    """As a content security policy names a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _interval(row: Mapping[Any, Any], statistic: str) -> str:
    return tables.format_interval(row[statistic], row[f"{statistic}_low"], row[f"{statistic}_high"])
