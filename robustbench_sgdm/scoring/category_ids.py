"""Which category of the data set a prediction is of, by id, by label, or by name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NoReturn

from robustbench_sgdm.config import CategoryIds
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.untrusted_input import short_list, short_repr
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.datasets.class_matching import match_classes
from robustbench_sgdm.scoring.image_ids import ImageMatch
from robustbench_sgdm.scoring.references import FileReferences, Reference, ReferenceCounts, has_generated_ids

_Numbering = Literal["id", "from-0", "from-1", "coco"]

COCO_IDS = tuple(n for n in range(1, 91) if n not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""The ids of COCO's 80 classes, in the order of their labels."""


def match_categories(
    files: Sequence[FileReferences], dataset: Dataset, how: CategoryIds, images: ImageMatch
) -> tuple[Mapping[Reference, int], list[str]]:
    """Find the category id of every reference, decided over all files together.

    Args:
        files: where they occur.
        dataset: whose categories they are. The classes of a dataset YAML have no ids; 0 to K - 1 and 1 to K are both in
            use, so what occurs decides.
        how: see `CategoryIds`.
        images: how images are referred to, which tells who wrote the files.

    Returns:
        The ids, -1 where the data set has no such class, and one sentence for each thing that a user should know.

    Raises:
        DataError: an id that the data set lacks, or ids that can be counted in two ways.
        UsageError: a numbering that the data set cannot have.
    """
    tally = ReferenceCounts((file.path, file.categories) for file in files)
    named = bool(tally.counts) and all(name is not None for _, name in tally.counts)
    if how == "name" or (how == "auto" and named and not _ids_agree(tally, dataset)):
        return _by_name(tally, dataset)
    return _Numbers(tally, dataset).match(how, images)


def alternative_readings(
    files: Sequence[FileReferences], dataset: Dataset
) -> list[tuple[str, dict[Reference, int]]]:
    """What else the numbers of categories could mean, each with what to do so that they are read so."""
    numbers = {r: r[0] for file in files for r in file.categories if isinstance(r[0], int)}
    known = {int(c["id"]) for c in dataset.categories}
    readings = [
        (f"give --category-ids {how}", {r: meant[n] for r, n in numbers.items() if n in meant})
        for how, meant in _meanings(dataset).items()
        if how != "id"
    ]
    readings += [
        (remedy, {r: n + step for r, n in numbers.items() if n + step in known})
        for remedy, step in (("add 1 to every category_id", 1), ("subtract 1 from every category_id", -1))
    ]
    return readings


def _meanings(dataset: Dataset) -> dict[_Numbering, dict[int, int]]:
    """The data's id of each number, by how it is counted."""
    ids = [int(c["id"]) for c in dataset.categories]
    return {
        "id": dict(zip(ids, ids, strict=True)),
        "from-0": dict(enumerate(ids)),
        "from-1": dict(enumerate(ids, 1)),
        "coco": dict(zip(COCO_IDS, ids, strict=True)) if len(ids) == len(COCO_IDS) else {},
    }


class _Numbers:
    """References as numbers, and what each numbering makes of them."""

    def __init__(self, tally: ReferenceCounts, dataset: Dataset) -> None:
        self._tally, self._dataset = tally, dataset
        self._own = not has_generated_ids(dataset)
        self._meant = _meanings(dataset)
        self._numbers: dict[Reference, int] = {}
        for reference in tally.counts:
            if not isinstance(reference[0], int):
                raise DataError(
                    f"{tally.first_use(reference)} has no category_id; add it, or give every prediction a category_name"
                )
            self._numbers[reference] = reference[0]
        self._present = sorted(set(self._numbers.values()))

    def match(self, how: CategoryIds, images: ImageMatch) -> tuple[dict[Reference, int], list[str]]:
        """As `match_categories`."""
        if how == "coco" and not self._meant["coco"]:
            raise UsageError(
                f"--category-ids coco needs data of 80 classes; {self._dataset.name} has {len(self._meant['id'])}"
            )
        if how == "auto":
            chosen, notes = self._by_ids(images) if self._own else self._by_labels(images)
        else:
            chosen, notes = next(n for n in self._meant if n == how), []
        meant = self._meant[chosen]
        lost = [r for r, value in self._numbers.items() if value not in meant]
        if lost and (chosen != "id" or len(lost) == len(self._numbers)):
            self._refuse(meant, [f"--category-ids {chosen} reads {min(meant)} to {max(meant)}"])
        if lost:
            notes.append(
                f"{self._tally.count(lost):,} of {self._tally.total:,} predictions are left out: {self._dataset.name} "
                f"has no category {short_list(str(self._numbers[r]) for r in lost)}"
            )
        if self._own and chosen != "id":
            names = {c["id"]: c["name"] for c in self._dataset.categories}
            listed = short_list((f"{n} is {names[meant[n]]}" for n in self._present), 10)
            notes.append(f"category_id is read in the order of {self._dataset.name}'s ids: {listed}")
        return {r: meant.get(value, -1) for r, value in self._numbers.items()}, notes

    def _fits(self, numbering: _Numbering) -> bool:
        return all(value in self._meant[numbering] for value in self._present)

    def _by_ids(self, images: ImageMatch) -> tuple[_Numbering, list[str]]:
        """The data set has ids, and they hold; what only looks like them is refused."""
        if not self._fits("id"):
            count = len(self._meant["id"])
            looks: dict[_Numbering, str] = {
                "from-0": f"labels counted from 0, 0 to {count - 1}",
                "from-1": f"labels counted from 1, 1 to {count}",
                "coco": "COCO's ids, 1 to 90 with gaps",
            }
            hints = [
                f"they look like {what}: --category-ids {n} reads them so"
                for n, what in looks.items()
                if self._fits(n)
            ]
            self._refuse(self._meant["id"], hints or ["--category-ids id leaves out those that it lacks"])
        if (images.ids_are_stems or images.is_ultralytics_format) and self._may_be_labels():
            self._refuse_ambiguous(["id", "from-1"])
        return "id", []

    def _may_be_labels(self) -> bool:
        """Whether ids that fit can as well be label + 1, as Ultralytics writes it for all data but COCO."""
        boxes = {a["category_id"] for a in self._dataset.annotations}
        # An id 0 without boxes is Roboflow's root, no class.
        own = [i for i in self._meant["id"] if i or i in boxes]
        labels = dict(enumerate(own, 1))
        fit = all(value in labels for value in self._present)
        return fit and any(labels[value] != value for value in self._present) and tuple(own) != COCO_IDS

    def _by_labels(self, images: ImageMatch) -> tuple[_Numbering, list[str]]:
        """The data set has labels alone, counted from 0 or from 1 or, if they are COCO's, written as COCO's ids."""
        count = len(self._dataset.classes)
        ends = (self._dataset.classes[0].casefold(), self._dataset.classes[-1].casefold())
        numberings: list[_Numbering] = ["from-0", "from-1"]
        if ends == ("person", "toothbrush"):
            numberings.append("coco")
        choices = [n for n in numberings if self._fits(n)]
        if not choices:
            both = dict.fromkeys(range(count + 1), 0)
            self._refuse(
                both, [f"its labels are 0 to {count - 1}, or 1 to {count} as Ultralytics writes them"]
            )
        certain = len(choices) == 1
        if images.is_ultralytics_format and not certain:
            choices = [n for n in choices if n != "from-0"]
        if len({tuple(self._meant[n][value] for value in self._present) for n in choices}) > 1:
            self._refuse_ambiguous(choices)
        if certain or choices[0] == "from-0" or not self._present:
            return choices[0], []
        note = (
            f"category_id is read as label + 1, 1 to {count}, as Ultralytics writes it; if it is the label itself, give "
            "--category-ids from-0"
        )
        return choices[0], [note]

    def _refuse(self, known: Mapping[int, int], hints: Sequence[str]) -> NoReturn:
        """Refuse the first id that is not known, or the largest, with what the ids look like."""
        high = self._present[-1]
        first = next(
            (r for r, value in self._numbers.items() if value not in known),
            next(r for r, value in self._numbers.items() if value == high),
        )
        raise DataError(
            f"{self._tally.first_use(first)} is of category {short_repr(self._numbers[first])}, which "
            f"{self._dataset.name} does "
            "not have; " + "; ".join([f"the predictions have {self._range()}", *hints])
        )

    def _range(self) -> str:
        return f"{short_repr(self._present[0])} to {short_repr(self._present[-1])}"

    def _refuse_ambiguous(self, choices: Sequence[_Numbering]) -> NoReturn:
        meanings: dict[_Numbering, str] = {
            "id": f"an id of {self._dataset.name}",
            "from-0": "a label counted from 0",
            "from-1": "a label counted from 1, as Ultralytics writes it",
            "coco": "COCO's id, 1 to 90 with gaps",
        }
        raise DataError(
            f"{self._tally.first_use(next(iter(self._numbers)))} has category_id {self._present[0]}, which can be "
            f"{' or '.join(meanings[n] for n in choices)}, and the predictions do not decide (they have "
            f"{self._range()}); give {' or '.join(f'--category-ids {n}' for n in choices)}"
        )


def _ids_agree(tally: ReferenceCounts, dataset: Dataset) -> bool:
    """Whether every id is the data set's own, and every name that it knows is the name of that id."""
    names = list(dict.fromkeys(name for _, name in tally.counts if name is not None))
    places = zip(names, match_classes(names, dataset.classes), strict=True)
    meant = {name: dataset.categories[place]["id"] for name, place in places if place >= 0}
    known = {c["id"] for c in dataset.categories}
    return (
        bool(meant)
        and all(value in known for value, _ in tally.counts)
        and all(meant[name] == value for value, name in tally.counts if name in meant)
    )


def _by_name(tally: ReferenceCounts, dataset: Dataset) -> tuple[dict[Reference, int], list[str]]:
    names = list(dict.fromkeys(name for _, name in tally.counts if name is not None))
    if unnamed := [r for r in tally.counts if r[1] is None]:
        raise DataError(
            f"{tally.first_use(unnamed[0])} has no category_name, which --category-ids name needs"
        )
    counts = Counter(value for value, _ in tally.counts)
    if twice := [r for r in tally.counts if r[0] is not None and counts[r[0]] > 1]:
        other = next(r for r in twice[1:] if r[0] == twice[0][0])
        raise DataError(
            f"{tally.first_use(other)} calls category {short_repr(other[0])} {short_repr(other[1])}, which an earlier "
            "one calls "
            f"{short_repr(twice[0][1])}; correct one of them, or give --category-ids id where the ids hold"
        )
    places = match_classes(names, dataset.classes)
    ids = {n: int(dataset.categories[p]["id"]) if p >= 0 else -1 for n, p in zip(names, places, strict=True)}
    categories = {r: ids[r[1]] for r in tally.counts if r[1] is not None}
    lost = [r for r, category in categories.items() if category < 0]
    if len(lost) == len(categories) and lost:
        raise DataError(
            f"{tally.first_use(lost[0])} has category_name {short_repr(lost[0][1])}; {dataset.name} has no class that a "
            f"prediction names: it has {short_list(dataset.classes)}, they name {short_list(names)}. Where "
            "category_id holds, give "
            "--category-ids id"
        )
    notes = ["classes are matched by category_name, not by category_id"]
    if lost:
        notes.append(
            f"{tally.count(lost):,} of {tally.total:,} predictions are left out: {dataset.name} has no class called "
            f"{short_list(n for n in names if ids[n] < 0)}"
        )
    return categories, notes
