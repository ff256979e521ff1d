"""Classes by name: one to one whatever the names, equal names first, and nothing guessed."""

import random
import unicodedata

import pytest

from robustbench_sgdm.datasets.class_matching import match_classes


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (["person", "chair"], ["person", "chair"], [0, 1]),
        (["Chair", "chair"], ["Chair", "chair"], [0, 1]),
        (["chair", "Chair"], ["Chair", "chair"], [1, 0]),
        (["Chair", "chair"], ["chair"], [-1, 0]),  # the equal one alone
        (["chair"], ["Chair", "CHAIR"], [-1]),  # either could be meant
        (["CHAIR", "Chair"], ["chair"], [-1, -1]),
        (["Chair", "chair"], ["chair", "CHAIR"], [-1, 0]),
        (["Person"], ["person"], [0]),
        (["traffic_light", "stop-sign", " Hair   drier "], ["Hair Drier", "traffic light", "stop sign"], [1, 2, 0]),
        (["traffic_light", "traffic-light"], ["traffic light"], [-1, -1]),
        (["trafficlight"], ["traffic light"], [-1]),
        (["O", "O-"], ["O-", "O"], [1, 0]),
        (["O"], ["O-"], [-1]),
        (["-1"], ["1"], [-1]),
        ([unicodedata.normalize("NFD", "Café")], ["café"], [0]),
        (["STRASSE"], ["straße"], [0]),
        (["a", "a"], ["a"], [-1, -1]),  # a detector that has a name twice
        (["a", "b", "a"], ["a", "b", "a"], [0, 1, 2]),  # trained on these very data
        (["tv", "sofa", "aeroplane"], ["tvmonitor", "couch", "airplane"], [-1, -1, -1]),
        ([], ["a"], []),
        (["a"], [], [-1]),
    ],
)  # fmt: skip
def test_matches(names: list[str], classes: list[str], expected: list[int]) -> None:
    assert match_classes(names, classes) == expected


def test_one_to_one_in_any_order_and_both_ways() -> None:
    rng = random.Random(0)
    pool = ["a b", "a_b", "A B", "a-B", "A_b", "c", "C", " c", "d", "é", "e\u0301", "É", "o-", "o", "O-"]
    for _ in range(2000):
        names = rng.sample(pool, rng.randint(0, 8))
        classes = rng.sample(pool, rng.randint(0, 8))
        found = match_classes(names, classes)
        taken = [place for place in found if place >= 0]
        assert len(set(taken)) == len(taken)
        pairs = {(name, classes[place]) for name, place in zip(names, found, strict=True) if place >= 0}
        assert {(name, name) for name in set(names) & set(classes)} <= pairs
        back = match_classes(classes, names)
        assert pairs == {(names[place], one) for one, place in zip(classes, back, strict=True) if place >= 0}
        rng.shuffle(names)
        rng.shuffle(classes)
        again = match_classes(names, classes)
        assert pairs == {(n, classes[p]) for n, p in zip(names, again, strict=True) if p >= 0}
        assert match_classes(names, names) == list(range(len(names)))
