"""`robustbench corrupt --manifest` and `--verify`: what they hold, and manifests that are not what they should be."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import robustbench_sgdm as rb
from robustbench_sgdm import cli
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.versions import installed_versions

DOCUMENTED = Path(__file__).parents[2] / "docs" / "data" / "scenes_pixels.json"
Command = Callable[..., tuple[object, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["robustbench", "corrupt", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, "".join(capsys.readouterr())

    return run


@pytest.fixture
def written(tiny_coco: Path, tmp_path: Path, command: Command) -> Path:
    path = tmp_path / "pixels.json"
    words = ("--noise", "fog+gaussian_noise,contrast", "--severity", "0,2,3.5", "--seed", 4, "--limit", 3)
    assert not command("--data", tiny_coco, *words, "--manifest", path)[0]
    return path


def test_it_holds_the_hash_of_every_image(written: Path, tiny_coco: Path) -> None:
    manifest = json.loads(written.read_text())
    assert (manifest["data"], manifest["seed"], manifest["images"]) == ("val", 4, [1, 2, 3])
    cells = [(cell["corruption"], cell["severity"]) for cell in manifest["cells"]]
    assert cells == [(name, s) for name in ("contrast", "fog+gaussian_noise") for s in (0, 2, 3.5)]
    for place, image_id in enumerate(manifest["images"]):
        clean = np.asarray(Image.open(tiny_coco.parents[1] / f"images/val/{image_id:03d}.png"))
        assert manifest["clean"][place] == hashlib.sha256(clean.tobytes()).hexdigest()
        for cell in manifest["cells"]:
            noisy = rb.corrupt(
                clean, cell["corruption"], severity=cell["severity"], seed=4, image_id=image_id
            )
            assert cell["sha256"][place] == hashlib.sha256(noisy.tobytes()).hexdigest()


def test_this_machine_makes_the_same(
    written: Path, tiny_coco: Path, command: Command, tmp_path: Path
) -> None:
    code, text = command("--data", tiny_coco, "--verify", written)
    assert (code, "all 18 corrupted images are the same here" in text) == (0, True)
    assert not list(tmp_path.glob("runs*"))
    assert rb.verify_pixels(written, tiny_coco).different == []


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_what_differs_is_named(written: Path, tiny_coco: Path, command: Command) -> None:
    change(written, lambda m: (m["cells"][2]["sha256"].reverse(), m["versions"].update(numpy="1.2.3")))
    code, text = command("--data", tiny_coco, "--verify", written)
    assert code == 1
    assert "2 of 18 corrupted images differ: contrast at severity 3.5 (first image 1)" in text
    assert "numpy 1.2.3, here" in text


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other images": (lambda m: m["clean"].reverse(), "was made from other images (val): image 1, "),
    "ids that are not there": (lambda m: m.update(images=[1, 2, 77]), "val has no image 77"),
    "other code": (
        lambda m: m["cells"][0].update(fingerprint="0"),
        "was made with another version of contrast",
    ),
    "unknown corruption": (lambda m: m["cells"][0].update(corruption="mist"), "unknown corruption 'mist'"),
    "a path": (lambda m: m["cells"][0].update(corruption="../x"), "must be a plain folder name"),
    "unknown engine": (lambda m: m.update(engine="cuda"), "unknown engine 'cuda'"),
    "a severity it lacks": (lambda m: m["cells"][0].update(severity=7), "cells[0].severity is 7"),
    "another format": (lambda m: m.update(pixels=2), "pixels"),
    "too few hashes": (
        lambda m: m["cells"][0]["sha256"].pop(),
        "must have a sha256 for each of 3 images, not 2",
    ),
    "an image twice": (lambda m: m.update(images=[1, 1, 2]), "images must be there once each"),
    "a cell twice": (lambda m: m["cells"].append(m["cells"][0]), "cells must be there once each"),
    "short hashes": (lambda m: m.update(clean=["ab"] * 3), "clean[0] is 'ab', must be a sha256"),
    "no images": (lambda m: m.update(images=[], clean=[]), "images"),
    "no cells": (lambda m: m.update(cells=[]), "cells"),
    "a huge seed": (lambda m: m.update(seed=10**40), "seed"),
    "a name of control characters": (
        lambda m: m["cells"][0].update(corruption="fog\x1b[2J"),
        "plain folder name",
    ),
}


@pytest.mark.parametrize(("edit", "message"), MISTAKES.values(), ids=MISTAKES)
def test_manifests_of_others_are_named(
    written: Path, tiny_coco: Path, command: Command, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(written, edit)
    code, text = command("--data", tiny_coco, "--verify", written)
    assert code == 1
    assert message in " ".join(text.split())
    assert "Traceback" not in text and "\x1b[2J" not in text


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"{", b"\xff\xfe\x00", b'{"pixels": 1}', b"[" * 10**5]
)
def test_damaged_manifests_are_refused(
    tiny_coco: Path, tmp_path: Path, command: Command, content: bytes
) -> None:
    path = tmp_path / "pixels.json"
    path.write_bytes(content)
    code, text = command("--data", tiny_coco, "--verify", path)
    assert (code, "Traceback" in text) == (1, False)


def test_a_large_manifest_is_not_read(tiny_coco: Path, tmp_path: Path, command: Command) -> None:
    path = tmp_path / "pixels.json"
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    code, text = command("--data", tiny_coco, "--verify", path)
    assert code == 1
    assert "has" in text and "bytes" in text


def test_options_that_would_do_nothing_are_refused(written: Path, tiny_coco: Path, command: Command) -> None:
    code, text = command("--data", tiny_coco, "--verify", written, "--severity", "3")
    assert (code, "--severity cannot be combined with --verify" in text) == (2, True)
    code, text = command("--data", tiny_coco, "--manifest", written, "--format", "jpg")
    assert (code, "--format cannot be combined with --manifest" in text) == (2, True)
    assert command("--data", tiny_coco, "--verify", written.with_name("none.json"))[0] == 1


def test_the_documented_pixels_are_made_here(tmp_path: Path) -> None:
    manifest = json.loads(DOCUMENTED.read_text())
    here = installed_versions()
    if any(here[name] != manifest["versions"][name] for name in ("numpy", "torch", "opencv-python")):
        pytest.skip("the promise is for equal versions")
    manifest["cells"] = manifest["cells"][::3]
    for part in (manifest, *manifest["cells"]):
        for key in ("images", "clean", "sha256"):
            if key in part:
                part[key] = part[key][:2]
    path = tmp_path / "pixels.json"
    path.write_text(json.dumps(manifest))
    try:
        rb.verify_pixels(path, "scenes").check()
    except DataError as error:
        if "before it is corrupted" not in str(error):
            raise
        pytest.skip("this processor rounds scenes otherwise")  # see docs/explanation/pixels.md
