"""Names, groups, brackets, users' folders and what a corruption says of itself."""

import pickle
from pathlib import Path

import pytest

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.corruption import BENCHMARK, HOLDOUT, CorruptionRegistry, Parameter, load_corruptions
from robustbench_sgdm.corruption.definition import normalized_code

DIMMED = '''
"""A user's file."""
from robustbench_sgdm.corruption import Parameter, corruption

@corruption(
    family="weather",
    parameters=(Parameter("share", (0.1, 0.2, 0.3, 0.4, 0.5), "of light"),),
    source="me",
)
def NAME(images, strength, rng):
    """Less light."""
    return (images * (1 - strength["share"])).to(images.dtype)
'''


@pytest.fixture(scope="module")
def registry() -> CorruptionRegistry:
    return load_corruptions()


def folder(root: Path, **files: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    return root


def test_order_is_coco_cs_then_the_others(registry: CorruptionRegistry) -> None:
    coco = [name for name in (*BENCHMARK, *HOLDOUT) if name in registry.names]
    assert registry.names[: len(coco)] == coco
    assert "ringing" in registry.names[len(coco) :]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("gaussian", "gaussian_noise"),
        ("shot", "shot_noise"),
        ("impulse", "impulse_noise"),
        ("speckle", "speckle_noise"),
        ("defocus", "defocus_blur"),
        ("motion", "motion_blur"),
        ("jpeg", "jpeg_compression"),
    ],
)
def test_aliases(registry: CorruptionRegistry, alias: str, name: str) -> None:
    assert registry.get(alias) == registry.get(name)


def test_groups(registry: CorruptionRegistry) -> None:
    assert registry.group("all") == list(registry)
    assert [c.name for c in registry.group("benchmark")] == list(BENCHMARK)
    assert [c.name for c in registry.group("holdout")] == list(HOLDOUT)
    assert {c.family for c in registry.group("edge")} == {"edge"}
    assert registry.get("gaussian_blur").family == "blur"
    assert registry.get("gaussian_blur") in registry.group("holdout")
    assert registry.get("gaussian_blur") not in registry.group("benchmark")
    with pytest.raises(UsageError, match="unknown group 'blurs'"):
        registry.group("blurs")


def test_a_selection_is_a_union_in_the_registrys_order(registry: CorruptionRegistry) -> None:
    chosen = registry.select(["jpeg", "blur", "gaussian", "motion_blur", "gaussian_noise"])
    assert len(set(chosen)) == len(chosen)
    blurs = [c.name for c in registry.group("blur")]
    assert [c.name for c in chosen] == [
        n for n in registry.names if n in {*blurs, "gaussian_noise", "jpeg_compression"}
    ]
    assert registry.select(["all", "noise"]) == list(registry)
    assert registry.select([]) == []


def test_an_unknown_name_lists_what_there_is(registry: CorruptionRegistry) -> None:
    with pytest.raises(UsageError, match="did you mean gaussian_noise") as caught:
        registry.select(["gausian_noise"])
    assert all(word in str(caught.value) for word in ("shot_noise", "benchmark", "blur", "jpeg"))


def test_brackets_fix_a_strength(registry: CorruptionRegistry) -> None:
    fixed = registry.get("gaussian[ sigma = 0.150 ]")
    assert fixed.name == "gaussian_noise[sigma=0.15]"
    assert fixed.strength(1) == {"sigma": 0.15}
    assert fixed.strength(0) == {"sigma": 0}
    assert fixed.fingerprint() != registry.get("gaussian").fingerprint()
    with pytest.raises(UsageError, match=r"gaussian_noise\[sigma=0.15\] has one strength"):
        fixed.strength(3)
    assert registry.get("motion_blur[sigma=4,radius=7]").name == "motion_blur[radius=7,sigma=4]"
    chosen = registry.select(["shot", "gaussian[sigma=0.2]", "gaussian", "gaussian_noise[sigma=0.20]"])
    assert [c.name for c in chosen] == ["gaussian_noise[sigma=0.2]", "gaussian_noise", "shot_noise"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gaussian[sigma=x]", "sigma must be a number, not 'x'"),
        ("gaussian[sigma=nan]", "must be a number"),
        ("gaussian[sigma]", "must be a number"),
        ("gaussian[]", "unknown parameter of gaussian_noise"),
        ("gaussian[sgma=1]", "did you mean sigma"),
        ("gaussian[sigma=-1]", r"must lie in \[0, inf\] of full scale"),
        ("jpeg[quality=101]", r"must lie in \[1, 100\] of 100"),
        ("gaussian_blur[sigma=0]", r"must lie in \[0.01, inf\] px"),
        ("gaussian[sigma=1,sigma=2]", "gives sigma twice"),
        ("motion[radius=3]", r"lacks sigma: radius 10 15 15 15 20 px"),
        ("gaussian[sigma=1", "unknown corruption"),
        ("fuzzy[sigma=1]", "unknown corruption 'fuzzy'"),
        ("noise[sigma=1]", "noise is a group of 4 corruptions"),
        ("gaussian[sigma=1][sigma=1]", "unknown corruption"),
    ],
)
def test_brackets_that_do_not_fit(registry: CorruptionRegistry, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        registry.get(text)


@pytest.mark.parametrize("severity", [-0.1, 5.01, float("nan"), float("inf")])
def test_severities_have_bounds(registry: CorruptionRegistry, severity: float) -> None:
    with pytest.raises(UsageError, match=r"is not in \[0, 5\]"):
        registry.get("shot").strength(severity)


def test_strengths_between_the_published(registry: CorruptionRegistry) -> None:
    assert registry.get("gaussian").strength(1.5)["sigma"] == pytest.approx(0.10)
    assert registry.get("gaussian").strength(0.5)["sigma"] == pytest.approx(0.04)
    assert registry.get("shot").strength(0.5)["photons"] == pytest.approx(120)
    assert registry.get("shot").strength(4.5)["photons"] == pytest.approx(3.75)


def test_a_users_folder_is_added(tmp_path: Path) -> None:
    extra = folder(tmp_path / "mine", dusk=DIMMED.replace("NAME", "dusk"), _draft="not python")
    both = load_corruptions([extra])
    assert both.names[-1] == "dusk"
    assert load_corruptions([extra, extra / "../mine"]).names == both.names
    assert both.get("dusk").summary == "Less light."
    assert [c.name for c in both.group("weather")][-1] == "dusk"
    assert pickle.loads(pickle.dumps(both.get("dusk"))) == both.get("dusk")


def test_a_name_twice_names_both_places(tmp_path: Path) -> None:
    extra = folder(tmp_path / "mine", again=DIMMED.replace("NAME", "shot_noise"))
    with pytest.raises(
        DataError, match=r"'shot_noise' is declared twice, in .*noise.py \(shot_noise\) and .*again.py"
    ):
        load_corruptions([extra])


def test_an_alias_or_group_cannot_be_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'gaussian' is declared twice"):
        load_corruptions([folder(tmp_path / "a", one=DIMMED.replace("NAME", "gaussian"))])
    with pytest.raises(DataError, match="'weather' is reserved"):
        load_corruptions([folder(tmp_path / "b", one=DIMMED.replace("NAME", "weather"))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", r"file.py cannot be loaded: SyntaxError"),
        ("1 / 0", r"file.py cannot be loaded: ZeroDivisionError"),
        ("x = 1", "declares no corruption; decorate a function"),
        (DIMMED.replace("NAME", "dusk").replace('"""Less light."""', ""), "dusk needs a docstring"),
        (DIMMED.replace("NAME", "dusk").replace('"weather"', '"wether"'), "did you mean weather"),
        (DIMMED.replace("0.1, 0.2", "float('nan'), 0.2"), "share needs 5 finite strengths, not .nan, 0.2"),
        (DIMMED.replace("0.1, 0.2", "0.2"), "share needs 5 finite strengths"),
        (
            DIMMED.replace('"of light"', '"x", identity_value=float("inf")'),
            "share needs a finite identity_value, not inf",
        ),
        (DIMMED.replace('"of light"', '"x", scale="reciprocal"'), "reciprocal scale, so no value may be 0"),
        (DIMMED.replace("NAME", "dusk") + "\ndusk.__qualname__ = 'make.<locals>.dusk'", "at the top level"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_corruptions([folder(tmp_path / "mine", file=text)])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        load_corruptions([tmp_path / "nowhere"])


def test_an_imported_corruption_is_not_collected_again(tmp_path: Path) -> None:
    again = "from robustbench_sgdm.corruption import load_corruptions\nshot = load_corruptions().get('shot').function\n"
    extra = folder(tmp_path / "mine", one=again + DIMMED.replace("NAME", "dusk") + "\nalso = dusk\n")
    assert load_corruptions([extra]).names.count("dusk") == 1


def test_it_pickles_as_a_reference(registry: CorruptionRegistry) -> None:
    for corruption in (*registry, registry.get("jpeg[quality=50]")):
        stored = pickle.dumps(corruption)
        assert pickle.loads(stored) == corruption
        assert corruption.summary.encode() not in stored
        assert str(corruption.path).encode() not in stored, "ours must be found on another machine"


def test_a_fingerprint_is_of_what_runs(tmp_path: Path) -> None:
    text = DIMMED.replace("NAME", "dusk")
    variants = {
        "same": text.replace("Less light.", "Darker.").replace('"me"', '"you"') + "\n# done\n",
        "code": text.replace("1 - strength", "2 - strength"),
        "strength": text.replace("0.5)", "0.6)"),
    }
    prints = {}
    for name, variant in {"base": text, **variants}.items():
        prints[name] = load_corruptions([folder(tmp_path / name, dusk=variant)]).get("dusk").fingerprint()
    assert prints["base"] == prints["same"]
    assert len(set(prints.values())) == 3
    assert all(len(value) == 64 for value in prints.values())


def test_fingerprints_differ_by_corruption_and_engine(registry: CorruptionRegistry) -> None:
    prints = [c.fingerprint(engine) for c in registry for engine in ("torch", "imgaug")]
    assert len(set(prints)) == len(prints)
    with pytest.raises(UsageError, match="unknown engine 'imaug'; did you mean imgaug"):
        registry.get("shot").fingerprint("imaug")


def test_code_keeps_no_wording(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    lines = ['"""Doc."""', '@corruption(family="x")', "@other", "def f():", '    """Doc."""', "x = 1"]
    path.write_text("\n".join(lines))
    assert normalized_code(path) == "@other\ndef f():\n    pass\nx = 1"


def test_a_parameter_describes_itself() -> None:
    assert Parameter("a", (1, 2.5, 3, 4, 5), "px", "width").describe() == "a 1 2.5 3 4 5 px (width)"
    assert "sigma 0.08 0.12 0.18 0.26 0.38 of full scale" in load_corruptions().get("gaussian").describe()
