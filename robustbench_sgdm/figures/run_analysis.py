"""A run and everything that figures and reports show of it, computed on first use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from robustbench_sgdm import robustness
from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.progress import Progress, make_counter, no_progress
from robustbench_sgdm.datasets import Image, image_decoding
from robustbench_sgdm.figures.crops import crop_middle
from robustbench_sgdm.robustness import CorruptionSet, FirstFailures, Intervals, PooledBoxes
from robustbench_sgdm.store import Run, TrainingLog, has_image, read_logs
from robustbench_sgdm.tables import (
    METRICS_SHOWN,
    ScoreTables,
    Summary,
    Verdict,
    humanize,
    judged_pairs,
    model_costs,
    summarize,
    verdicts,
)

_SHEET_CANDIDATES = 12  # images that a contact sheet's is chosen from

ImageRef = tuple[str, float, int]
"""A corrupted image: corruption, severity, image id."""


@dataclass(frozen=True, eq=False)
class RunAnalysis:
    """A run, what to show of it, and its frames.

    Attributes:
        run: only read, but for statistics that it caches.
        metric: one of COCO's; empty for the data set's own.
        images: ids for side-by-side figures; empty for the images with most flips.
        noise: (corruption, severity) of side-by-side figures; None for where most objects flip.
        max_images: in a side-by-side figure, for each direction.
        confidence: least score of a box that is shown.
        resamples: of the bootstrap.
        progress: called with (what, done, total) while statistics are computed that are not cached yet.
        models: (baseline, model) of side-by-side figures, single trainings; None for the run's first pair.
    """

    run: Run
    metric: str = ""
    images: Sequence[int] = ()
    noise: tuple[str, float] | None = None
    max_images: int = 3
    confidence: float = 0.25
    resamples: int = 1000
    progress: Progress = no_progress
    models: tuple[str, str] | None = None
    _known_flips: dict[tuple[str, str, float], robustness.Flips] = field(default_factory=dict, repr=False)

    @cached_property
    def training_results(self) -> pd.DataFrame:
        """A row for each complete cell of each training, as in `results.csv`.

        Raises:
            DataError: no cell is complete.
        """
        frame = self.run.results()
        if frame.empty:
            raise DataError(f"{self.run.path} has no complete cell; run the same command again")
        return frame

    @cached_property
    def results(self) -> pd.DataFrame:
        """The same with the means over its trainings for a network trained from several seeds; raises as that."""
        return robustness.average_trainings(self.training_results, self.run.groups)

    def in_order(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame with the column `model`, sorted as `results` has the models, so that all figures colour them alike."""
        places = {model: i for i, model in enumerate(dict.fromkeys(self.results["model"]))}
        order = frame["model"].map(places).sort_values(kind="stable")
        return frame.loc[order.index].reset_index(drop=True)

    def by_network(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame of trainings with the network of each as `model` and its own name as `training`, in that order."""
        network = {name: group for group, members in self.run.groups.items() for name in members}
        return self.in_order(frame.assign(model=frame["model"].map(network), training=frame["model"]))

    @cached_property
    def metric_name(self) -> str:
        """The metric to show.

        Raises:
            UsageError: not a metric of COCO.
        """
        if self.metric and self.metric not in METRICS:
            raise errors.unknown_name_error("metric", self.metric, METRICS)
        return self.metric or robustness.primary_metric(self.run)

    @property
    def resampled_metric(self) -> str:
        """`metric_name`, if it has intervals.

        Raises:
            DataError: it has none.
        """
        if self.metric_name not in robustness.METRICS:
            known = ", ".join(robustness.METRICS)
            raise DataError(
                f"{self.metric_name} is not resampled, so it has no intervals; use --metric with one of {known}"
            )
        return self.metric_name

    @cached_property
    def bootstrap(self) -> Intervals:
        """The bootstrap of the run.

        Raises:
            DataError: the run has no ground truth, or its detections do not give its scores.
        """
        update = make_counter(self.progress, "resampling", len(self.results))
        return robustness.bootstrap_intervals(self.run, resamples=self.resamples, progress=update)

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """`Intervals.table()` of the run; raises as `bootstrap`."""
        return self.bootstrap.table()

    @cached_property
    def identical(self) -> dict[tuple[str, str], str]:
        """The pairs whose models have the same outputs, and why."""
        return robustness.find_identical_pairs(self.run)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One for each of `judged_pairs`; raises as `bootstrap`."""
        primary = self.primary_set if self.corruption_sets else None
        return verdicts(self.intervals, judged_pairs(self.run), self.metric_name, primary, self.identical)

    @cached_property
    def summary(self) -> Summary:
        """The run on one page."""
        return summarize(
            self.run,
            self.training_results,
            self.metric_name,
            lambda: self.bootstrap,
            partial(robustness.find_flips, self.run, confidence=self.confidence),
        )

    @cached_property
    def score_tables(self) -> ScoreTables:
        """The run as the terminal shows it; without intervals where there are none.

        Raises:
            DataError: no cell is complete.
        """
        sets, pairs = list(self.corruption_sets), self.run.baseline_pairs
        first = next(iter(sets), None)
        metrics = list(dict.fromkeys([self.metric_name, *METRICS_SHOWN]))
        models = list(dict.fromkeys(self.results["model"]))
        try:
            ranks = {m: robustness.rank_networks(self.bootstrap, m, first) for m in metrics[:1]}
            leaders = robustness.compare_leaders(self.bootstrap, first, ranks)
            return ScoreTables(self.intervals, models, pairs, sets, ranks, self.verdicts, leaders)
        except DataError as error:
            rows = robustness.point_estimates(
                self.training_results, self.run.groups, metrics, pairs, self.corruption_sets
            )
            return ScoreTables(rows, models, pairs, sets, {}, [], reason=str(error))

    @cached_property
    def half_severities(self) -> pd.DataFrame:
        """The severity at which each model has lost half of its clean score.

        Raises:
            DataError: as `bootstrap`; or the metric is not resampled.
        """
        return robustness.half_severities(self.bootstrap, self.resampled_metric)

    @cached_property
    def corruption_sets(self) -> dict[CorruptionSet, str]:
        """The sets of corruptions that means are taken over, the largest first, each with its family if it is one."""
        return robustness.corruption_sets(self.run)

    @property
    def primary_set(self) -> CorruptionSet:
        """The largest set.

        Raises:
            DataError: the run has no corruption.
        """
        if not self.corruption_sets:
            raise DataError(f"{self.run.path} has only clean cells: there is nothing to compare them with")
        return next(iter(self.corruption_sets))

    @cached_property
    def set_names(self) -> dict[str, str]:
        """A short name for the largest set and each family, or for each corruption where there is only one family."""
        families = {one.name: family for one, family in self.corruption_sets.items() if family}
        single = {s.name: humanize(s.corruptions[0]) for s in self.corruption_sets if len(s.corruptions) == 1}
        first = {self.primary_set.name: short_title(self.primary_set)}
        rest = families if len(families) > 1 else single
        return first | {name: text for name, text in rest.items() if name not in first}

    @property
    def title(self) -> str:
        """The largest set in a few words, with its severities where they are not the published five."""
        name = self.set_names[self.primary_set.name] if self.primary_set.name else "the benchmark"
        return f"{name} {self.primary_set.severity_text}".strip()

    @cached_property
    def error_types(self) -> pd.DataFrame:
        """The error types of each cell."""
        update = make_counter(self.progress, "analysing error types", len(self.results))
        by_cell = robustness.error_types(self.run, progress=update)
        return robustness.average_trainings(by_cell, self.run.groups)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Calibration errors of each cell."""
        update = make_counter(self.progress, "measuring calibration", len(self.results))
        by_cell = robustness.calibration(self.run, progress=update)
        return robustness.average_trainings(by_cell, self.run.groups)

    @cached_property
    def image_quality(self) -> pd.DataFrame:
        """The results whose PSNR was measured, with the family of their corruption.

        Raises:
            DataError: none was measured.
        """
        family = {name: one.family for name, one in self.run.manifest.corruptions.items()}
        joined = self.results[self.results["psnr"].notna()]
        if joined.empty:
            raise DataError(f"{self.run.path} has no measured PSNR; run the same command again")
        return joined.assign(family=joined["corruption"].map(family))

    @cached_property
    def class_intervals(self) -> pd.DataFrame:
        """AP of each class; see `robustness.class_intervals`."""
        update = make_counter(self.progress, "resampling classes", len(self.results))
        return robustness.class_intervals(self.bootstrap, resamples=self.resamples, progress=update)

    @cached_property
    def class_drops(self) -> pd.DataFrame:
        """The AP that each class loses over the largest set: model, class, objects, few, drop, low, high; points.

        Raises:
            DataError: cells are missing.
        """
        if not self.has_clean:
            raise DataError(
                f"{self.run.path} has no clean images to count the AP lost by class from; add 0 to --severity"
            )
        frame = self.class_intervals
        if frame.empty:
            raise DataError(f"{self.run.path}: no class of its data has an object")
        own = (frame["statistic"] == "loss") & (frame["baseline"] == "") & (frame["corruption"] == "")
        frame = frame[own & (frame["over"] == self.primary_set.name)].dropna(subset="estimate")
        if frame.empty:
            raise DataError(
                f"{self.run.path} lacks cells that the means by class need; run the same command again"
            )
        columns = ["model", "class", "objects", "few", "estimate", "low", "high"]
        return frame[columns].rename(columns={"estimate": "drop"}).reset_index(drop=True)

    @cached_property
    def pooled_boxes(self) -> PooledBoxes:
        """The boxes of every cell, pooled over corruptions."""
        update = make_counter(self.progress, "matching boxes", len(self.results))
        return robustness.pool_boxes(self.run, progress=update)

    @cached_property
    def known_confidences(self) -> dict[str, float]:
        """The operating confidence of each model that has one."""
        found = robustness.operating_confidences(self.run)
        return {model: value for model, value in found.items() if not math.isnan(value)}

    @cached_property
    def first_failures(self) -> FirstFailures:
        """When each model first loses what it finds on clean images; raises as `bootstrap`."""
        return robustness.first_failures(self.bootstrap, resamples=self.resamples)

    @cached_property
    def shifts(self) -> pd.DataFrame:
        """Clean against shifted images; see `robustness.shift_table`.

        Raises:
            DataError: the run has no shift, or none that can be read.
        """
        runs, reasons = self.run.open_shifts()
        if not runs:
            why = "; ".join(reasons.values()) or "it was run without --shift"
            raise DataError(f"{self.run.path} has no shifted data: {why}")
        update = make_counter(
            self.progress, "resampling shifted data", 2 * len(runs) * len(self.run.manifest.models)
        )
        return robustness.shift_table(self.run, runs, reasons, resamples=self.resamples, progress=update)

    @cached_property
    def measures(self) -> Intervals:
        """The measures at the operating confidence; raises as `bootstrap`."""
        update = make_counter(self.progress, "measuring", len(self.results))
        names = list(robustness.MEASURES)
        return robustness.bootstrap_intervals(
            self.run, resamples=self.resamples, metrics=names, progress=update
        )

    @cached_property
    def costs(self) -> dict[str, dict[str, float]]:
        """What networks cost: `latency_ms`, `parameters_m`, `gflops`, `file_mb`, each by network, where it is known."""
        found: dict[str, dict[str, float]] = {}
        for one in model_costs(self.run):
            for cost in ("latency_ms", "parameters_m", "gflops", "file_mb"):
                if (value := getattr(one, cost)) is not None:
                    found.setdefault(cost, {})[one.model] = float(value)
        return found

    @cached_property
    def pair(self) -> tuple[str, str]:
        """(baseline, model) of side-by-side figures.

        Raises:
            DataError: none was chosen, and the run has none.
            UsageError: a model that is not in the run.
        """
        if self.models is None:
            if not self.run.baseline_pairs:
                raise DataError(f"{self.run.path} has only one model; nothing to compare")
            return self.run.training_pairs[0]
        for name in self.models:
            if name not in self.run.manifest.models:
                raise errors.unknown_name_error("model", name, self.run.manifest.models)
        return self.models

    @cached_property
    def by_pair(self) -> list["RunAnalysis"]:
        """The same for each pair of the run, together with about as many images as a single pair has.

        A pair of networks that were trained from several seeds is shown by the first seed that both have.
        """
        count = max(1, self.max_images // max(len(self.run.baseline_pairs), 1))
        return [
            replace(self, models=self.run.match_trainings(*pair)[0], max_images=count)
            for pair in self.run.baseline_pairs
        ]

    @property
    def sampling_units(self) -> str:
        """What intervals are over: trainings too, where every compared network was trained several times."""
        groups = self.run.groups
        compared = {name for pair in self.run.baseline_pairs for name in pair} or set(groups)
        return "images and trainings" if all(len(groups[name]) > 1 for name in compared) else "images"

    @property
    def has_clean(self) -> bool:
        """Whether the run includes clean images."""
        return any(cell.corruption == CLEAN for cell in self.run.cells)

    @property
    def _flips(self) -> robustness.Flips:
        """The flips of the pair, found once: `replace` keeps them."""
        pair = self.pair
        key = (*pair, self.confidence)
        if key not in self._known_flips:
            count = sum(cell.model == pair[1] and cell.corruption != CLEAN for cell in self.run.cells)
            update = make_counter(self.progress, "finding flips", count)
            self._known_flips[key] = robustness.find_flips(
                self.run, *pair, confidence=self.confidence, progress=update
            )
        return self._known_flips[key]

    @property
    def flips(self) -> pd.DataFrame:
        """Images by corruption and severity, with the objects that only the model or only its baseline finds."""
        return self._flips.images

    @cached_property
    def selected_images(self) -> dict[str, list[ImageRef]]:
        """The images of side-by-side figures: the chosen ones, or those with most flips in each direction, each once.

        Raises:
            DataError: there is no flip.
            UsageError: an image or a corruption that is not in the run.
        """
        if self.images:
            return {"chosen": [self._image_ref(i) for i in self.images]}
        baseline, model = self.pair
        chosen = None if self.noise is None else [self._chosen_noise()]
        examples = self._flips.examples(self.max_images, chosen)
        selected = {
            name: [
                (str(c), float(s), int(i))
                for c, s, i in examples[side][["corruption", "severity", "image_id"]].itertuples(index=False)
            ]
            for side, name in (("model", model), ("baseline", baseline))
        }
        if self._flips.counts.empty:
            raise DataError(
                f"{self.run.path} has no corrupted cell with the detections of both {baseline} and {model}; scores "
                "alone do not tell which objects are found"
            )
        if not any(selected.values()):
            raise DataError(
                f"{self.run.path} has no object that only one of {baseline} and {model} finds under noise"
            )
        return {keeper: refs for keeper, refs in selected.items() if refs}

    def _image_ref(self, image_id: int) -> ImageRef:
        ids = self.run.ground_truth().images["image_id"]
        if image_id not in set(ids):
            raise errors.UsageError(
                f"image {image_id} is not in {self.run.path}; its first ids are {', '.join(map(str, ids[:5]))}"
            )
        return (*self._chosen_noise(), image_id)

    def _chosen_noise(self) -> tuple[str, float]:
        cells = [(c.corruption, c.severity) for c in self.run.cells if c.corruption != CLEAN]
        if not cells:
            raise DataError(f"{self.run.path} has only clean cells: there is nothing to compare them with")
        if self.noise is None:
            return max(cells, key=lambda cell: cell[1])
        if self.noise not in cells:
            known = dict.fromkeys(f"{c}@{s:g}" for c, s in cells)
            raise errors.unknown_name_error(
                "corruption and severity", f"{self.noise[0]}@{self.noise[1]:g}", known
            )
        return self.noise

    @property
    def image_refs(self) -> list[ImageRef]:
        """All images that side-by-side figures need, clean ones included."""
        selected = [ref for refs in self.selected_images.values() for ref in refs]
        return [version for c, s, i in selected for version in ((CLEAN, 0.0, i), (c, s, i))]

    @property
    def summary_images(self) -> list[ImageRef]:
        """The images of the summary."""
        return [(one.corruption, one.severity, one.image_id) for one in self.summary.flips]

    @cached_property
    def contact_sheet(self) -> list[ImageRef]:
        """The images of the contact sheet: one image under every corruption.

        Of a few it is the one that shows most contrast, where their files are still there; once its versions are stored,
        it stays.
        """
        cells = dict.fromkeys((c.corruption, c.severity) for c in self.run.cells if c.corruption != CLEAN)
        levels = [(CLEAN, 0.0), *cells]
        images = list(self.run.ground_truth().dataset_images().values())
        few = images[:: max(1, len(images) // _SHEET_CANDIDATES)][:_SHEET_CANDIDATES]
        chosen = next((i for i in few if all(has_image(self.run, c, s, i.id) for c, s in levels)), None)
        if chosen is None:
            contrast = {image.id: _contrast(image) for image in few}
            chosen = max(few, key=lambda image: contrast[image.id])
        return [(c, s, chosen.id) for c, s in levels]

    @cached_property
    def training_logs(self) -> list[TrainingLog]:
        """The training logs that are beside the run's weights.

        Raises:
            DataError: no model has one.
        """
        logs = []
        for name, model in self.run.manifest.models.items():
            for path in _log_files(name, model.weights):
                logs += [replace(log, model=name) for log in read_logs([path])]
        if not logs:
            raise DataError(f"no training log beside the weights of {self.run.path}")
        return logs


def _contrast(image: Image) -> float:
    """Of the part that a contact sheet shows; -1 if the file cannot be read."""
    try:
        return float(crop_middle(image_decoding.read_image(image)).mean(axis=2).std())
    except DataError:
        return -1.0


def short_title(corruption_set: CorruptionSet) -> str:
    """A set of corruptions in a few words.

    >>> short_title(CorruptionSet.from_product(["fog"])), short_title(CorruptionSet.from_product(["fog", "snow"]))
    ('fog', '2 corruptions')
    """
    if not corruption_set.name:
        return "benchmark"
    names = corruption_set.corruptions
    return humanize(names[0]) if len(names) == 1 else f"{len(names)} corruptions"


def _log_files(model: str, weights: str) -> list[Path]:
    if weights == "embedded":
        file = Path(__file__).parents[1] / "weights" / f"{model}.csv"
        return [file] if file.is_file() else []
    folder = Path(weights).parent
    candidates = [folder / "results.csv", folder.parent / "results.csv"]  # ours; Ultralytics' weights/best.pt
    return [path for path in candidates if weights and path.is_file()][:1]
