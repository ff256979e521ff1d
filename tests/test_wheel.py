"""The wheel: one name in site-packages, content inside it, and not shadowed by somebody else's folders."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(words, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    """The wheel's content, as pip would lay it into site-packages."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return site


@pytest.mark.parametrize(
    "words",
    [["twine", "check", "--strict"], ["check_wheel_contents", "--no-config", "--ignore", "W002"]],
    ids=lambda words: words[0],
)
def test_an_index_takes_it(wheel: Path, words: list[str]) -> None:
    """Its description can be shown, and it holds no stray or compiled file.

    W002 is of doubled files: the fonts' licences stand beside the fonts and among the licences.
    """
    done = subprocess.run([sys.executable, "-m", *words, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_name_and_everything_in_it(unpacked: Path) -> None:
    names = {p.name for p in unpacked.iterdir() if not p.name.endswith(".dist-info")}
    assert names == {"robustbench_sgdm"}
    package = unpacked / "robustbench_sgdm"
    for relative in (
        "py.typed",
        "_content/app/main.py",
        "_content/app/.streamlit/config.toml",
        "_content/app/viewer/viewer.js",
        "_content/reports/report.html.j2",
        "_content/reports/fonts/DroidSansFallback.ttf",
        "_content/reports/fonts/OFL.txt",
        "_content/corruptions/noise.py",
        "_content/docs/glossary.md",
    ):
        assert (package / relative).is_file()
    assert {p.name for p in (package / "weights").glob("*.safetensors")} == {
        "yolov8n.safetensors",
        "yolov8n-sgdm.safetensors",
    }


def test_the_main_job_runs_beside_somebody_elses_folders(unpacked: Path, tmp_path: Path) -> None:
    for name in ("app", "corruptions", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('shadowed')")
    script = (
        "from robustbench_sgdm import cli; from robustbench_sgdm.core import resources; "
        "print(resources.root()); cli.main()"
    )
    words = ["run", "--model", "yolov8n-sgdm", "--noise", "ringing", "--severity", "3", "--fraction", "0.02"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *words, "--name", "wheel"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(unpacked) in done.stdout and "ringing" in done.stdout
    assert len((tmp_path / "runs/robustness/wheel/results.csv").read_text().splitlines()) == 3
    assert (tmp_path / "runs/robustness/wheel/report.html").stat().st_size > 1000
