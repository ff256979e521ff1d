"""List options: commas, repeats, ranges, brackets, and files that are called anything."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_sgdm.config import check_severities
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import UsageError

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}(\[[a-z]=[0-9](,[a-z]=[0-9]){0,2}\])?", fullmatch=True)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.lists(NAMES, unique=True, max_size=6))
def test_commas_and_repeats_are_the_same(names: list[str]) -> None:
    assert parsing.split_list(names) == parsing.split_list([",".join(names)]) == names


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (["0-5"], [0, 1, 2, 3, 4, 5]),
        (["1,3"], [1, 3]),
        (["3", "1", "1"], [1, 3]),
        (["0-1,2.5"], [0, 1, 2.5]),
        (["0"], [0]),
    ],
)
def test_severities(given_: list[str], expected: list[float]) -> None:
    assert check_severities(parsing.parse_severities(given_)) == tuple(expected)


@pytest.mark.parametrize("bad", ["6", "-1", "x", "5-0", "nan", "inf", "1e9", "0-9", "1-"])
def test_bad_severities_name_the_bound(bad: str) -> None:
    with pytest.raises(UsageError, match=r"outside \[0, 5\]|neither a number|is reversed"):
        check_severities(parsing.parse_severities([bad]))


def test_unbalanced_brackets() -> None:
    for bad in ("a[b", "a]b", "a]["):
        with pytest.raises(UsageError, match="unbalanced"):
            parsing.split_list([bad])


def test_weights_by_order_and_by_name(tmp_path: Path) -> None:
    models = ["a", "b[x=1]"]
    assert parsing.parse_weights(["w.pt"], models) == {"a": Path("w.pt"), "b[x=1]": Path("w.pt")}
    assert parsing.parse_weights(["1.pt,2.pt"], models) == {"a": Path("1.pt"), "b[x=1]": Path("2.pt")}
    assert parsing.parse_weights(["b[x=1]=2.pt"], models) == {"b[x=1]": Path("2.pt")}
    with pytest.raises(UsageError, match="'c' is not a model"):
        parsing.parse_weights(["c=w.pt"], models)
    with pytest.raises(UsageError, match="3 --weights for 2 models"):
        parsing.parse_weights(["1.pt,2.pt,3.pt"], models)


Form = Literal["NFC", "NFD"]
PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters=",[]/\0", exclude_categories=["Cs"]), min_size=1
)
ANY = st.text(st.sampled_from("a,=[]\\ @%é漢'\"*;:{}()-."), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and name == name.strip()
)


@settings(deadline=None)
@given(st.lists(PLAIN.map(str.strip).filter(bool), unique=True, max_size=5))
def test_joined_names_come_apart_again(names: list[str]) -> None:
    assert parsing.split_list([",".join(names)]) == names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, empty."""
    made, before = tmp_path_factory.mktemp("named"), Path.cwd()
    os.chdir(made)
    yield made
    os.chdir(before)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=ANY, other=ANY)
def test_an_existing_file_is_one_item(folder: Path, name: str, other: str) -> None:
    """Alone, beside names of the zoo, in folders, and as weights of a model or of all."""
    inside = folder / "runs" / other
    inside.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"x{name}.pt", inside / f"{name}.pt"]
    for path in paths:
        path.touch()
    try:
        for path in (*paths, paths[0].relative_to(folder), paths[1].relative_to(folder)):
            text = str(path)
            assert parsing.parse_models([text]) == [text]
            assert parsing.parse_models([f"yolov8n,{text},v[a=1,b=2]"]) == ["yolov8n", text, "v[a=1,b=2]"]
            assert parsing.parse_weights([text], ["m", "n"]) == {"m": path, "n": path}
            assert parsing.parse_weights([f"m={text}", f"v[a=1,b=2]={text}"], ["m", "v[a=1,b=2]"]) == {
                "m": path,
                "v[a=1,b=2]": path,
            }
            assert parsing.parse_weights([f"n={text},m={text}"], ["m", "n"]) == {"m": path, "n": path}
        both = ",".join(map(str, paths))
        assert parsing.parse_weights([both], ["m", "n"]) == {"m": paths[0], "n": paths[1]}
    finally:
        for path in paths:
            path.unlink()


def test_a_files_letters_may_be_in_either_form(folder: Path) -> None:
    pairs: list[tuple[Form, Form]] = [("NFD", "NFC"), ("NFC", "NFD")]
    for on_disk, typed in pairs:
        path = Path(unicodedata.normalize(on_disk, f"é-{on_disk}/modèle 한글.pt"))
        path.parent.mkdir()
        path.touch()
        text = unicodedata.normalize(typed, str(path))
        assert parsing.parse_models([text]) == [str(path)]
        assert parsing.parse_weights([f"m={text}"], ["m"]) == {"m": path}
        assert parsing.find_path(unicodedata.normalize(typed, str(path.parent))) == path.parent
    both = [unicodedata.normalize("NFC", "ü.pt"), unicodedata.normalize("NFD", "ü.pt")]
    for name in both:
        Path(name).touch()
    assert parsing.parse_models(both) == both
    assert parsing.parse_weights(
        [unicodedata.normalize("NFC", "modèle=w.pt")], [unicodedata.normalize("NFD", "modèle")]
    )


def test_what_is_not_plain_is_told(folder: Path) -> None:
    for name in ("m=w.pt", "w.pt"):
        Path(name).touch()
    with pytest.raises(UsageError, match=r"write \./m=w\.pt for the first, or m=\./w\.pt"):
        parsing.parse_weights(["m=w.pt"], ["m"])
    assert parsing.parse_weights(["./m=w.pt"], ["m"]) == {"m": Path("m=w.pt")}
    assert parsing.parse_weights(["m=./w.pt"], ["m"]) == {"m": Path("w.pt")}
    with pytest.raises(UsageError, match="two files for m"):
        parsing.parse_weights(["m=1.pt", "m=2.pt"], ["m"])
    with pytest.raises(UsageError, match=r"'runs/a'.*the name of an existing file"):
        parsing.parse_models(["runs/a,b/best.pt"])
    with pytest.raises(UsageError, match="no such file, and '/data/x' is not a model"):
        parsing.parse_weights(["/data/x=1/best.pt"], ["m"])
    # One path: told of where it is opened.
    assert parsing.parse_models(["missing/best.pt"]) == ["missing/best.pt"]


def test_weights_in_order_may_repeat() -> None:
    assert list(parsing.parse_weights(["1.pt,2.pt,1.pt"], ["a", "b", "c"]).values()) == [
        Path("1.pt"),
        Path("2.pt"),
        Path("1.pt"),
    ]


def test_hostile_names_are_no_files() -> None:
    for name in ("a" * 300 + "é", "é\0", "é/" * 3000, "\udc80"):
        assert parsing.find_path(name) is None
    assert len(parsing.parse_models([",".join(map(str, range(1500)))])) == 1500
