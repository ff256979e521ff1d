"""What figures and reports are made from: a run's frames, each made when first asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from robustbench_sgdm import robustness
from robustbench_sgdm.core import errors, resources
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.progress import Progress, make_counter, no_progress
from robustbench_sgdm.robustness import Intervals, Over
from robustbench_sgdm.store import Log, Run, read_logs
from robustbench_sgdm.tables import Verdict, verdicts, words

Shown = tuple[str, float, int]
"""A picture beside its clean one: corruption, severity, image id."""


@dataclass(frozen=True, eq=False)
class Material:
    """A run, what to show of it, and its frames.

    Attributes:
        run: read only.
        metric: of COCO's; empty for the one that the data set is reported by.
        images: ids for side-by-side figures; empty for those that flip most.
        noise: (corruption, severity) of side-by-side figures; None for where flips are greatest.
        most: images in a side-by-side figure for each direction.
        confidence: least score of a box that counts as shown.
        resamples: of the bootstrap.
        progress: called with (what, done, total) while statistics are made that are not kept yet.
        models: (baseline, model) of side-by-side figures, which are single trainings; None for the run's first pair.
    """

    run: Run
    metric: str = ""
    images: Sequence[int] = ()
    noise: tuple[str, float] | None = None
    most: int = 4
    confidence: float = 0.25
    resamples: int = 1000
    progress: Progress = no_progress
    models: tuple[str, str] | None = None

    @cached_property
    def results(self) -> pd.DataFrame:
        """Rows as in `results.csv`, of networks: the means over the trainings of one.

        Raises:
            DataError: no cell is complete.
        """
        frame = self.run.results()
        if frame.empty:
            raise DataError(f"{self.run.path} has no complete cell; run again to finish it")
        return robustness.average_trainings(frame, self.run.groups)

    @cached_property
    def score(self) -> str:
        """The metric shown.

        Raises:
            UsageError: COCO has no such metric.
        """
        if self.metric and self.metric not in METRICS:
            raise errors.unknown_name_error("metric", self.metric, METRICS)
        return self.metric or robustness.headline(self.run)

    @property
    def resampled_score(self) -> str:
        """`score`, where there are intervals of it.

        Raises:
            DataError: there are none.
        """
        if self.score not in robustness.METRICS:
            known = ", ".join(robustness.METRICS)
            raise DataError(
                f"{self.score} is not resampled, so it has no intervals; --metric takes {known} here"
            )
        return self.score

    @cached_property
    def bootstrap(self) -> Intervals:
        """Of the run.

        Raises:
            DataError: the run keeps no ground truth, or its detections do not give its scores.
        """
        update = make_counter(self.progress, "resampling", len(self.results))
        return robustness.bootstrap(self.run, resamples=self.resamples, progress=update)

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """`Intervals.table()` of the run; raises as `bootstrap`."""
        return self.bootstrap.table()

    @cached_property
    def identical(self) -> dict[tuple[str, str], str]:
        """The pairs whose models put out the same, and why."""
        return robustness.identical(self.run)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One for each pair of the run; raises as `bootstrap`."""
        over = self.whole if self.sets else None
        return verdicts(self.intervals, self.run.pairs, self.score, over, self.identical)

    @cached_property
    def half_lives(self) -> pd.DataFrame:
        """Where each model has lost half of its clean score.

        Raises:
            DataError: as `bootstrap`; or the metric is not resampled.
        """
        return robustness.half_lives(self.bootstrap, self.resampled_score)

    @cached_property
    def sets(self) -> dict[Over, str]:
        """The sets of corruptions that means are taken over, the widest first; the family that each is."""
        return robustness.sets(self.run)

    @property
    def whole(self) -> Over:
        """The widest set.

        Raises:
            DataError: the run has no corruption.
        """
        if not self.sets:
            raise DataError(f"{self.run.path} has clean cells only: there is nothing to compare them with")
        return next(iter(self.sets))

    @cached_property
    def names(self) -> dict[str, str]:
        """A short name for the widest set and each family, or for the corruptions where there is one family."""
        families = {over.name: family for over, family in self.sets.items() if family}
        single = {o.name: words(o.corruptions[0]) for o in self.sets if len(o.corruptions) == 1}
        first = {self.whole.name: short(self.whole)}
        rest = families if len(families) > 1 else single
        return first | {name: text for name, text in rest.items() if name not in first}

    @property
    def title(self) -> str:
        """The widest set in few words, with its severities where they are not the published five."""
        few = self.names[self.whole.name] if self.whole.name else "the benchmark"
        return f"{few} {self.whole.at}".strip()

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Error types of each cell."""
        update = make_counter(self.progress, "telling errors apart", len(self.results))
        found = robustness.error_types(self.run, progress=update)
        return robustness.average_trainings(found, self.run.groups)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Calibration errors of each cell."""
        update = make_counter(self.progress, "measuring calibration", len(self.results))
        found = robustness.calibration(self.run, progress=update)
        return robustness.average_trainings(found, self.run.groups)

    @cached_property
    def damage(self) -> pd.DataFrame:
        """Results whose PSNR was measured, with their family.

        Raises:
            DataError: the run measured none.
        """
        family = {c: about.get("family", "") for c, about in self.run.plan["corruptions"].items()}
        joined = self.results[self.results["psnr"].notna()]
        if joined.empty:
            raise DataError(f"{self.run.path} has no measured PSNR; start it again with the same command")
        return joined.assign(family=joined["corruption"].map(family))

    @cached_property
    def drops(self) -> pd.DataFrame:
        """Each class's AP: model, class, clean, corrupted (mean over the widest set), drop; percent.

        Raises:
            DataError: cells are missing.
        """
        found = robustness.summary(self.run, over=[self.whole], by_class=True)
        frame = found.rename(columns={"P": "clean", "mPC": "corrupted"})
        frame = frame.assign(drop=frame["clean"] - frame["corrupted"])
        frame = frame[["model", "class", "clean", "corrupted", "drop"]].dropna()
        if not self.has_clean:
            raise DataError(
                f"{self.run.path} has no clean images, and AP lost by class is counted from them; add 0 to --severity"
            )
        if frame.empty:
            raise DataError(f"{self.run.path} lacks cells that means by class need; run again to finish it")
        return frame

    @cached_property
    def pair(self) -> tuple[str, str]:
        """(baseline, model) of side-by-side figures.

        Raises:
            DataError: none was named, and the run has none.
            UsageError: a model that is not in the run.
        """
        if self.models is None:
            if not self.run.pairs:
                raise DataError(f"{self.run.path} holds one model only; there is nothing to compare")
            return self.run.trained_pairs[0]
        for name in self.models:
            if name not in self.run.plan["models"]:
                raise errors.unknown_name_error("model", name, self.run.plan["models"])
        return self.models

    @cached_property
    def by_pair(self) -> list["Material"]:
        """The same for each pair of the run, together with about as many images as one pair alone has.

        Of networks that were trained from several seeds, the first training that both have.
        """
        most = max(1, self.most // max(len(self.run.pairs), 1))
        return [replace(self, models=self.run.trainings(*pair)[0], most=most) for pair in self.run.pairs]

    @property
    def sampled(self) -> str:
        """What intervals are over, in words: trainings too, where every network compared was trained several times."""
        groups = self.run.groups
        compared = {name for pair in self.run.pairs for name in pair} or set(groups)
        return "images and trainings" if all(len(groups[name]) > 1 for name in compared) else "images"

    @property
    def has_clean(self) -> bool:
        """Whether the run was asked for clean images too."""
        return any(cell.corruption == CLEAN for cell in self.run.cells)

    @cached_property
    def _flips(self) -> robustness.Flips:
        baseline, model = self.pair
        count = sum(cell.model == model and cell.corruption != CLEAN for cell in self.run.cells)
        update = make_counter(self.progress, "finding flips", count)
        return robustness.flips(self.run, baseline, model, confidence=self.confidence, progress=update)

    @property
    def flips(self) -> pd.DataFrame:
        """Images by corruption and severity, with the objects that the model finds and its baseline does not."""
        return self._flips.images

    @cached_property
    def shown(self) -> dict[str, list[Shown]]:
        """Pictures of side-by-side figures: those named, or the greatest flips in each direction, an image once.

        Raises:
            DataError: there is no flip.
            UsageError: an image or a corruption that the run does not have.
        """
        if self.images:
            return {"named": [self._named(i) for i in self.images]}
        flips = self.flips
        if self.noise is not None:
            corruption, severity = self._noise()
            flips = flips[(flips["corruption"] == corruption) & (flips["severity"] == severity)]
        baseline, model = self.pair
        used: set[int] = set()
        found = {}
        for keeper, sign in ((model, 1), (baseline, -1)):
            net, most = sign * flips["net"], flips[["kept", "lost"]].max(axis=1)
            ranked = flips.assign(net=net, most=most)[net > 0].sort_values(
                ["net", "most", "severity", "corruption", "image_id"],
                ascending=[False, False, True, True, True],
            )
            ranked = ranked[~ranked["image_id"].isin(used)].drop_duplicates("image_id").head(self.most)
            used |= set(ranked["image_id"])
            columns = ranked[["corruption", "severity", "image_id"]]
            found[keeper] = [(str(c), float(s), int(i)) for c, s, i in columns.itertuples(index=False)]
        if self._flips.counts.empty:
            raise DataError(
                f"{self.run.path} has no corrupted cell with the detections of both {baseline} and {model}; scores "
                "alone do not say which objects are found"
            )
        if not used:
            raise DataError(
                f"{self.run.path} has no object that only one of {baseline} and {model} finds under noise"
            )
        return {keeper: pictures for keeper, pictures in found.items() if pictures}

    def _named(self, image_id: int) -> Shown:
        ids = self.run.truth().images["image_id"]
        if image_id not in set(ids):
            raise errors.UsageError(
                f"image {image_id} is not in {self.run.path}; its ids begin with {', '.join(map(str, ids[:5]))}"
            )
        return (*self._noise(), image_id)

    def _noise(self) -> tuple[str, float]:
        cells = [(c.corruption, c.severity) for c in self.run.cells if c.corruption != CLEAN]
        if not cells:
            raise DataError(f"{self.run.path} has clean cells only: there is nothing to compare them with")
        if self.noise is None:
            return max(cells, key=lambda cell: cell[1])
        if self.noise not in cells:
            known = dict.fromkeys(f"{c}:{s:g}" for c, s in cells)
            raise errors.unknown_name_error(
                "corruption and severity", f"{self.noise[0]}:{self.noise[1]:g}", known
            )
        return self.noise

    @property
    def pictures(self) -> list[Shown]:
        """All the pictures that side-by-side figures and the contact sheet need, clean ones included."""
        chosen = [picture for pictures in self.shown.values() for picture in pictures]
        return [version for c, s, i in chosen for version in ((CLEAN, 0.0, i), (c, s, i))]

    @property
    def sheet(self) -> list[Shown]:
        """The pictures of the contact sheet: the first of the data set's images under every corruption."""
        first = int(self.run.truth().images["image_id"].iloc[0])
        cells = dict.fromkeys((c.corruption, c.severity) for c in self.run.cells if c.corruption != CLEAN)
        return [(CLEAN, 0.0, first), *((c, s, first) for c, s in cells)]

    @cached_property
    def logs(self) -> list[Log]:
        """Training logs of the run's weights, where they lie beside them.

        Raises:
            DataError: no model has one.
        """
        found = []
        for model, about in self.run.plan["models"].items():
            for path in _logs(model, str(about.get("weights", ""))):
                found += [replace(log, model=model) for log in read_logs([path])]
        if not found:
            raise DataError(f"no training log lies beside the weights of {self.run.path}")
        return found


def short(over: Over) -> str:
    """A set of corruptions in few words.

    >>> short(Over.of(["fog"])), short(Over.of(["fog", "snow"]))
    ('fog', '2 corruptions')
    """
    if not over.name:
        return "benchmark"
    few = over.corruptions
    return words(few[0]) if len(few) == 1 else f"{len(few)} corruptions"


def _logs(model: str, weights: str) -> list[Path]:
    if weights == "embedded":
        file = Path(resources.__file__).parent / "weights" / f"{model}.csv"
        return [file] if file.is_file() else []
    folder = Path(weights).parent
    places = [folder / "results.csv", folder.parent / "results.csv"]  # ours; Ultralytics' weights/best.pt
    return [place for place in places if weights and place.is_file()][:1]
