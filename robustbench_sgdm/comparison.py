"""A comparison of the models of runs: tables, verdicts and thresholds, each computed on first use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from robustbench_sgdm import gate, robustness, tables
from robustbench_sgdm.config import ComparisonConfig
from robustbench_sgdm.core.errors import DataError, UsageError, unknown_name_error
from robustbench_sgdm.core.progress import make_counter
from robustbench_sgdm.robustness import COCO_SIZES, FirstFailures, Intervals, Sizes
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import ScoreTables, Table, Verdict

FIRST_FAILURE = "first-failure"
"""What `first_failures` is called among metrics."""

Pair = tuple[str, str]
"""Baseline and model."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The models of runs side by side. In a notebook it shows itself as a table.

    Attributes:
        config: what to compare.
        runs: each once.
        sizes: of objects.
    """

    config: ComparisonConfig
    runs: Sequence[Run]
    sizes: Sizes = COCO_SIZES

    @classmethod
    def create(cls, config: ComparisonConfig, runs: Sequence[Run]) -> "Comparison":
        """Check what can be checked before anything is resampled.

        Raises:
            UsageError: an unknown metric, sizes that none of the metrics has, or a confidence that is outside [0, 1]
                or that none of them depends on.
            DataError: a run without a complete cell.
        """
        sizes = COCO_SIZES if config.sizes is None else Sizes.parse(config.sizes)
        metrics = [_metric(name, sizes) for name in config.metrics]
        if metrics and config.sizes is not None:
            metrics = _add_sizes(metrics, sizes)
        config = replace(config, metrics=metrics)
        if config.confidence is not None:
            _check_confidence(config.confidence, metrics, sizes)
        for run in runs:
            if len(run.missing_cells()) == len(run.cells):
                raise DataError(f"{run.path} has no complete cell to compare; run the same command again")
        return cls(config, list({run.path.resolve(): run for run in runs}.values()), sizes)

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that are compared, the first one for verdicts."""
        if not self.config.metrics:
            small = [f"AP_{name}" for name in self.sizes.names[: 1 if self.sizes == COCO_SIZES else None]]
            return list(dict.fromkeys([self.primary_metric, *small]))
        return [m for m in self.config.metrics if m != FIRST_FAILURE] or [self.primary_metric]

    @property
    def known_metrics(self) -> list[str]:
        """Every metric that could be compared with these sizes."""
        return _known_metrics(self.sizes)

    @property
    def primary_metric(self) -> str:
        """The metric that the data set is reported by."""
        return robustness.primary_metric(self.runs[0])

    @cached_property
    def intervals(self) -> Intervals:
        """The bootstrap of all runs.

        Raises:
            UsageError: too few resamples, an impossible level, or an impossible group.
            DataError: the runs cannot be compared, have no ground truth, or are damaged.
        """
        config = self.config
        return robustness.bootstrap_intervals(
            self.runs,
            resamples=config.resamples,
            seed=config.seed,
            level=config.level,
            groups=config.seed_groups,
            metrics=self.metrics,
            confidence=config.confidence,
            sizes=self.sizes,
            progress=make_counter(config.progress, "resampling", self._done),
        )

    @cached_property
    def first_failures(self) -> FirstFailures | None:
        """When each model first loses what it finds on clean images, if that was asked for."""
        if FIRST_FAILURE not in self.config.metrics:
            return None
        config = self.config
        return robustness.first_failures(
            self.intervals,
            self.pairs,
            confidence=config.confidence,
            resamples=config.resamples,
            seed=config.seed,
        )

    @cached_property
    def by_class(self) -> list[pd.DataFrame]:
        """A frame for each metric of classes, if that was asked for; see `robustness.class_intervals`."""
        if not self.config.by_class:
            return []
        config, intervals = self.config, replace(self.intervals, pairs=self.pairs)
        metrics = [m for m in self.metrics if m in robustness.CLASS_METRICS] or ["AP"]
        return [
            robustness.class_intervals(
                intervals,
                metric,
                confidence=config.confidence,
                resamples=config.resamples,
                seed=config.seed,
                progress=make_counter(config.progress, f"resampling {metric} by class", self._done),
            )
            for metric in metrics
        ]

    @property
    def _done(self) -> int:
        """The number of complete cells."""
        return sum(len(run.cells) - len(run.missing_cells()) for run in self.runs)

    @cached_property
    def confidences(self) -> dict[str, float]:
        """The confidence from which each model's boxes count, where something that is compared depends on it."""
        if not _needs_confidence(self.config.metrics, self.sizes):
            return {}
        by_run = {
            run.path: robustness.operating_confidences(run, self.config.confidence) for run in self.runs
        }
        return {name: by_run[run.path][own] for name, (run, own) in self.intervals.sources.items()}

    @cached_property
    def pairs(self) -> list[Pair]:
        """The compared pairs.

        Raises:
            UsageError: an unknown model, one without a baseline, or a model that is its own baseline.
        """
        models, baseline, found = self.config.models, self.config.baseline, self.intervals
        for name in [*models, *([baseline] if baseline else [])]:
            if name not in found.groups:
                raise unknown_name_error("model", name, found.groups)
        if baseline is None:
            for name in models:
                if name not in {model for _, model in found.pairs}:
                    raise UsageError(f"{name} has no baseline in these runs; choose one with --baseline")
            return [pair for pair in found.pairs if not models or pair[1] in models]
        if set(models) == {baseline}:
            raise UsageError(f"--model and --baseline are both {baseline}; name another model")
        return [(baseline, name) for name in models or found.groups if name != baseline]

    @cached_property
    def models(self) -> list[str]:
        """The models that are shown: all, or those of the chosen pairs."""
        if self.config.baseline or self.config.models:
            return list(dict.fromkeys(name for pair in self.pairs for name in pair))
        return list(self.intervals.groups)

    @property
    def default_baseline(self) -> str | None:
        """The baseline, if it is only the first model because nobody chose one."""
        baselines = {baseline for baseline, _ in self.pairs}
        if (
            self.config.baseline
            or len(baselines) != 1
            or not all(run.has_default_baseline for run in self.runs)
        ):
            return None
        return baselines.pop()

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every score and every difference with its interval and p-value; see `robustness.Intervals.table`."""
        return self.intervals.table(self.metrics, pairs=self.pairs)

    @cached_property
    def half_severities(self) -> pd.DataFrame:
        """The severity at which each model has lost half of its clean score; no row for a measure of errors."""
        found = robustness.half_severities(self.intervals, self.metrics[0], self.models)
        return found[:0] if robustness.lower_is_better(self.metrics[0]) else found

    @cached_property
    def flips(self) -> dict[Pair, pd.DataFrame]:
        """Counts of flips for the pairs of trainings that are in one run, which has both models' boxes."""
        counts = {}
        trainings = [one for pair in self.pairs for one in self.intervals.trainings(*pair)]
        for trained in trainings:
            (run, baseline), (other, model) = (self.intervals.sources[name] for name in trained)
            if run is not other:
                continue
            total = sum(cell.model == model for cell in run.cells)
            update = make_counter(self.config.progress, f"flips of {model}", total)
            flips = robustness.find_flips(run, baseline, model, level=self.config.level, progress=update)
            if len(flips.counts):
                counts[trained] = flips.counts
        return counts

    @cached_property
    def identical(self) -> dict[Pair, str]:
        """The pairs with the same outputs, and why."""
        sources, trainings = self.intervals.sources, self.intervals.trainings
        reasons = {
            pair: robustness.why_identical((sources[one], sources[two]) for one, two in trainings(*pair))
            for pair in self.pairs
        }
        return {pair: why for pair, why in reasons.items() if why}

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """A verdict for each pair."""
        primary = next(iter(self.intervals.sets), None)
        return tables.verdicts(
            self.table, self.pairs, self.metrics[0], primary, self.identical, level=self.config.level
        )

    @cached_property
    def score_tables(self) -> ScoreTables:
        """What the terminal shows at first."""
        sets = list(self.intervals.sets)
        shown = replace(self.intervals, groups={m: self.intervals.groups[m] for m in self.models})
        ranks = {}
        if len(self.models) > 2:
            first = next(iter(sets), None)
            ranks = {m: robustness.rank_networks(shown, m, first) for m in self.metrics}
        verdicts = [] if ranks and self.default_baseline else self.verdicts  # nobody asked about these pairs
        leaders = robustness.compare_leaders(shown, next(iter(sets), None), ranks)
        return ScoreTables(
            self.table, self.models, self.pairs, sets, ranks, verdicts, leaders, self.config.level
        )

    def short_tables(self) -> list[list[Table]]:
        """What the terminal shows at first, most important first; each table in several widths, the widest first."""
        score_tables, families = self.score_tables, self.intervals.sets
        shown = []
        for metric in self.metrics:
            shown.append([score_tables.ranking(metric) or score_tables.means(metric, families)])
            if metric == self.metrics[0]:
                shown.append(score_tables.metric_tables(metric))
        return shown + [[table] for table in self._requested_tables()]

    def _requested_tables(self) -> list[Table]:
        """Tables that only a setting asks for."""
        shown: list[Table] = []
        if self.first_failures is not None:
            shown += tables.first_failure_tables(self.first_failures.table, self.config.level)
        shown += [tables.class_interval_table(frame, self.config.level) for frame in self.by_class]
        return shown + ([tables.confidence_table(self.confidences)] if self.confidences else [])

    def rows(self) -> pd.DataFrame:
        """Everything, as a row per number; see `tables.comparison_rows`."""
        failures = None if self.first_failures is None else self.first_failures.table
        rows = tables.comparison_rows(self.table, self.half_severities, self.flips, failures)
        return (
            pd.concat([rows, *self.by_class], ignore_index=True).fillna({"class": ""})
            if self.by_class
            else rows
        )

    def tables(self) -> list[Table]:
        """Everything, as tables for people."""
        shown = tables.comparison_tables(self.table, self.config.level, self.identical)
        shown += self._requested_tables()
        shown += [tables.half_severity_table(self.half_severities)] if len(self.half_severities) else []
        return shown + [tables.flip_table(counts, *pair) for pair, counts in self.flips.items()]

    def check(
        self, thresholds: Sequence[gate.Threshold], *, significant: bool = True
    ) -> list[gate.ThresholdResult]:
        """Check thresholds; see `gate.check_thresholds`.

        Raises:
            UsageError: a threshold without any number to check.
        """
        metrics = list(dict.fromkeys(threshold.metric for threshold in thresholds))
        if not set(metrics) <= set(self.intervals.metrics):
            raise UsageError(
                f"a threshold is about {', '.join(m for m in metrics if m not in self.intervals.metrics)}, which is not "
                "compared; name it with --metrics too"
            )
        table = self.intervals.table(metrics, pairs=self.pairs)
        return gate.check_thresholds(table, thresholds, significant=significant)

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False, max_rows=60))


def _metric(name: str, sizes: Sizes) -> str:
    """A metric's name, whatever its capitals.

    Raises:
        UsageError: it is unknown.
    """
    known = [*_known_metrics(sizes), FIRST_FAILURE]
    by_name = {one.lower(): one for one in known}
    if name.lower() not in by_name:
        raise unknown_name_error("metric", name, known)
    return by_name[name.lower()]


def _add_sizes(metrics: Sequence[str], sizes: Sizes) -> list[str]:
    """The metrics, each that objects have by size followed by it for every size, unless they name some themselves.

    Raises:
        UsageError: none of them has sizes.
    """
    by_size = {m: [f"{m}_{name}" for name in sizes.names] for m in ("AP", "recall")}
    named = {one for ones in by_size.values() for one in ones}
    if named & set(metrics):
        return list(metrics)
    if not set(by_size) & set(metrics):
        if set(sizes.metrics) & set(metrics):  # resampled together: a threshold may name one by size
            return list(metrics)
        raise UsageError(
            f"sizes are not used by {', '.join(metrics)}; add AP, recall or {by_size['AP'][0]} to metrics"
        )
    return [one for metric in metrics for one in (metric, *by_size.get(metric, ()))]


def _needs_confidence(metrics: Sequence[str], sizes: Sizes) -> bool:
    known = robustness.measures(sizes)
    return FIRST_FAILURE in metrics or any(known[m].needs_confidence for m in metrics if m in known)


def _check_confidence(confidence: float, metrics: Sequence[str], sizes: Sizes) -> None:
    robustness.check_confidence(confidence)
    if not _needs_confidence(metrics, sizes):
        raise UsageError(
            f"confidence is not used by {', '.join(metrics) or 'AP'}; add recall, precision, F1 or first-failure to "
            "metrics"
        )


def _known_metrics(sizes: Sizes) -> list[str]:
    return [*sizes.metrics, *robustness.measures(sizes)]


def comparison_names(runs: Sequence[Run]) -> set[str]:
    """The names of all models and groups when these runs are compared; a model of several runs is `name@run`."""
    return {name for names in robustness.unique_model_names(runs) for name in names.values()}
