"""Which image of the data set a prediction is of, by file name, by the stem of the file, or by id."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

from robustbench_sgdm.config import ImageIds
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import short_list, short_repr
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.scoring.references import (
    FileReferences,
    Reference,
    ReferenceCounts,
    has_generated_ids,
    parse_whole_number,
)


@dataclass(frozen=True)
class ImageMatch:
    """Which images the references mean.

    Attributes:
        ids: the data set's id of each.
        ids_are_stems: whether `image_id` proved to be the stem of the image's file, not its id.
        is_ultralytics_format: whether every prediction has `file_name` and its stem as `image_id`, as Ultralytics writes,
            with classes counted from 1, or as COCO's ids.
        notes: one sentence for each thing that a user should know.
    """

    ids: Mapping[Reference, int]
    ids_are_stems: bool
    is_ultralytics_format: bool
    notes: Sequence[str]


def match_images(files: Sequence[FileReferences], dataset: Dataset, how: ImageIds = "auto") -> ImageMatch:
    """Find the image of every reference, decided over all files together.

    A name decides; an `image_id` beside it must be the image's id or the stem of its file. Without a name,
    `image_id` is the data set's id or the stem, whichever all predictions can be read as.

    Raises:
        DataError: an image that the data set lacks, a name and an id that contradict each other, or ids that can mean
            either of two images; it names the prediction and the remedy.
    """
    tally = ReferenceCounts((file.path, file.images) for file in files)
    match = _Matching(_Index(dataset), tally, how)
    for file in files:
        match.refuse_merged(file)
    return match.result()


class _Index:
    """The images of a data set by everything that they can be called."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.images = {image.id: image for image in dataset.images}
        self._files: dict[str, list[int]] = defaultdict(list)
        self._stems: dict[str, list[int]] = defaultdict(list)
        self._numbers: dict[int, list[int]] = defaultdict(list)
        for image in dataset.images:
            stem = _nfc(image.path.stem)
            self._files[_nfc(image.path.name)].append(image.id)
            self._stems[stem].append(image.id)
            if (value := parse_whole_number(stem)) is not None:
                self._numbers[value].append(image.id)
        self._folders = {_nfc(image.path.parent.name) for image in dataset.images}
        self._repeated = len({stem.casefold() for stem in self._stems}) < len(self.images)

    def named(self, text: str) -> set[int]:
        """The images that a file name can mean, with or without folders and suffix, of any suffix."""
        parts = _parts(text)
        if not parts:
            return set()
        stem = PurePosixPath(parts[-1]).stem
        images = set(self._files.get(parts[-1]) or self._stems.get(parts[-1]) or self._stems.get(stem) or ())
        if self._repeated and len(stem) == 12:  # `robustbench corrupt` then names copies by their ids
            images |= self.with_id(stem)
        if len(parts) > 1 and parts[-2] in self._folders:
            images = {i for i in images if _nfc(self.images[i].path.parent.name) == parts[-2]}
        alike = {i: _common(parts[:-1], self.images[i]) for i in images}
        return {i for i in images if alike[i] == max(alike.values())}

    def with_stem(self, identity: int | str | None) -> set[int]:
        """The images whose file has a stem; Ultralytics writes `007` as 7."""
        if isinstance(identity, int):
            return set(self._numbers.get(identity, ()))
        return set() if identity is None else self.named(identity)

    def with_id(self, identity: int | str | None) -> set[int]:
        """The image of an id, as a set like the others."""
        value = parse_whole_number(identity) if isinstance(identity, str) else identity
        return {value} if value is not None and value in self.images else set()

    def show(self, images: Collection[int]) -> str:
        """The files of some images, for a message."""
        return short_list(sorted(str(self.images[i].path) for i in images), 3)


class _Matching:
    def __init__(self, index: _Index, tally: ReferenceCounts, how: ImageIds) -> None:
        self._index, self._tally, self._how = index, tally, how
        self._data = index.dataset.name
        self._ids: dict[Reference, int] = {}
        self._forms: Counter[str] = Counter()  # what the ids beside names proved to be
        self._misleading = 0
        self._by_stem = False
        self._notes: list[str] = []
        named = [r for r in tally.counts if r[1] is not None and how != "id"]
        unnamed = [r for r in tally.counts if r[1] is None or how == "id"]
        self._match_named(named)
        words: list[Reference] = []
        numbers: list[Reference] = []
        for reference in unnamed:
            text = how != "id" and isinstance(reference[0], str) and parse_whole_number(reference[0]) is None
            (words if text else numbers).append(reference)
        self._match_words(words)
        if numbers:
            self._match_numbers(numbers)
        if unknown := [r for r in tally.counts if r not in self._ids]:
            self._refuse_unknown(unknown)

    def result(self) -> ImageMatch:
        notes = list(self._notes)
        if self._misleading and not has_generated_ids(self._index.dataset):
            notes.append(
                "images are matched by file_name: image_id is its stem, as Ultralytics writes it, and the id of another "
                f"image in {self._misleading:,} of {self._tally.total:,} predictions"
            )
        written = all(name is not None and _is_stem(identity, name) for identity, name in self._tally.counts)
        return ImageMatch(self._ids, bool(self._forms["stem"]) or self._by_stem, written, notes)

    def refuse_merged(self, file: FileReferences) -> None:
        """Two files of two names cannot be one image: one of them is not in the data set."""
        names: dict[int, list[tuple[str, ...]]] = defaultdict(list)
        for reference in file.images if self._how != "id" else ():
            if reference[1] is not None:
                names[self._ids[reference]].append(_parts(reference[1]))
        for image, each in names.items():
            shortest = min(each, key=len)
            if other := [one for one in each if one[-len(shortest) :] != shortest]:
                raise DataError(
                    f"{file.path} has predictions of {short_repr('/'.join(shortest))} and of "
                    f"{short_repr('/'.join(other[0]))}; "
                    f"{self._data} has one such image, {self._index.images[image].path}. Leave out the predictions of "
                    "other images"
                )

    def _match_named(self, references: Sequence[Reference]) -> None:
        contrary = []
        for reference in references:
            identity, name = reference
            assert name is not None
            images, by_id = self._index.named(name), self._index.with_id(identity)
            is_stem = _is_stem(identity, name)
            if len(images) > 1 and not is_stem:  # a stem tells no more than the name
                images = images & by_id or images
            if len(images) > 1:
                raise DataError(
                    f"{self._tally.first_use(reference)} has file_name {short_repr(name)}, which {len(images)} images of "
                    f"{self._data} are called ({self._index.show(images)}); write file_name with its folders, or the "
                    "images' ids and --image-ids id"
                )
            if not images:
                continue
            (self._ids[reference],) = images
            if identity is None or self._how == "file-name":
                continue
            if is_stem or self._index.with_stem(identity) == images:
                self._forms["stem"] += by_id != images
                self._misleading += self._tally.counts[reference] * bool(by_id and by_id != images)
            elif by_id == images:
                self._forms["id"] += 1
            else:
                contrary.append(reference)
        if contrary:
            self._refuse_contrary(contrary)

    def _match_words(self, references: Sequence[Reference]) -> None:
        """Match what can be no id: the stem or the name of a file as text."""
        for reference in references:
            if images := self._index.with_stem(reference[0]):
                self._set(reference, images)
                self._forms["stem"] += 1

    def _match_numbers(self, references: Sequence[Reference]) -> None:
        """Match all by id, or all by stem."""
        ids = {r: self._index.with_id(r[0]) for r in references}
        stems = {r: self._index.with_stem(r[0]) for r in references}
        by_id, by_stem = (sum(map(bool, each.values())) for each in (ids, stems))
        differing = [r for r in references if stems[r] and not (ids[r] and ids[r] <= stems[r])]
        shown_by_others = [f for f, fit in (("id", by_id), ("stem", by_stem)) if fit and self._forms[f]]
        if self._how != "auto":
            stem = self._how == "file-name"
        elif len(shown_by_others) == 1:
            stem = shown_by_others == ["stem"]
        elif by_id == by_stem == len(references) and differing:
            odd = differing[0]
            raise DataError(
                f"{self._tally.first_use(odd)} has image_id {short_repr(odd[0])}, the id of {self._index.show(ids[odd])} "
                "and the "
                f"name of {self._index.show(stems[odd])}, and all can be read either way; add file_name to the "
                "predictions, or choose what image_id is: --image-ids id or --image-ids file-name"
            )
        else:
            stem = by_stem > by_id
        for reference, images in (stems if stem else ids).items():
            self._set(reference, images)
        if self._how == "auto" and 2 * len(differing) >= len(references):
            if not stem:
                self._notes.append(
                    f"image_id is read as an id of {self._data}, though {self._tally.count(differing):,} of "
                    f"{self._tally.total:,} predictions have the file name of another image there; if it is a file name, "
                    "give --image-ids file-name"
                )
            elif not has_generated_ids(self._index.dataset):
                self._notes.append(
                    f"image_id is read as the stem of the image's file, not as an id of {self._data}"
                )
        self._by_stem = stem and bool(differing)

    def _set(self, reference: Reference, images: set[int]) -> None:
        if len(images) > 1:
            raise DataError(
                f"{self._tally.first_use(reference)} has image_id {short_repr(reference[0])}, the stem of {len(images)} "
                "images "
                f"of {self._data} ({self._index.show(images)}); add file_name to the predictions"
            )
        if images:
            (self._ids[reference],) = images

    def _refuse_contrary(self, contrary: Sequence[Reference]) -> NoReturn:
        identity, name = contrary[0]
        meant = self._index.with_id(identity)
        other = f"the id of {self._index.show(meant)}" if meant else "neither its id nor its stem"
        raise DataError(
            f"{self._tally.first_use(contrary[0])} has file_name {short_repr(name)}, which is image "
            f"{self._ids[contrary[0]]} of "
            f"{self._data}, and image_id {short_repr(identity)}, which is {other}; {self._tally.count(contrary):,} of "
            f"{self._tally.total:,} predictions contradict themselves. Correct them, or choose what counts: --image-ids "
            "file-name or --image-ids id"
        )

    def _refuse_unknown(self, unknown: Sequence[Reference]) -> NoReturn:
        texts = [short_repr(r[0] if r[1] is None or self._how == "id" else r[1]) for r in unknown]
        known = self._how == "auto" and all(self._index.with_id(r[0]) for r in unknown)
        raise DataError(
            f"{self._tally.first_use(unknown[0])} is of image {texts[0]}, which {self._data} does not have; "
            f"{self._tally.count(unknown):,} of {self._tally.total:,} predictions are of {len(unknown):,} such images "
            f"({short_list(texts, 5)}). Leave them out, or give the data set that they were made on"
            + ("; --image-ids id takes image_id alone, which it has" if known else "")
        )


def _is_stem(identity: int | str | None, name: str) -> bool:
    """Whether an id is only the file's name again."""
    parts = _parts(name) or ("",)
    stem = PurePosixPath(parts[-1]).stem
    if isinstance(identity, int):
        return parse_whole_number(stem) == identity
    return identity is not None and _nfc(identity) in {stem, parts[-1], _nfc(name)}


def _common(folders: Sequence[str], image: Image) -> int:
    """How many of the innermost folders are the image's."""
    own = [_nfc(part) for part in image.path.parent.parts]
    same = 0
    while same < min(len(folders), len(own)) and folders[-1 - same] == own[-1 - same]:
        same += 1
    return same


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(_nfc(name).replace("\\", "/")).parts


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
