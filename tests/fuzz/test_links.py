"""Links, pipes and devices planted at every path of a run: no command shows or changes what lies outside."""

import contextlib
import io
import os
import random
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import corruption
from robustbench_sgdm.cli import clean, compare, figure, leaderboard, lists, results
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.dashboard import jobs
from robustbench_sgdm.store import Manifest, Run, join_runs
from tests.support import synthetic_runs
from tests.support.synthetic_runs import rewrite

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))

SECRET = "seen from outside"
COUNT = max(4 * harness.COUNT // 100, 4)
KINDS = ("link", "link", "hard link", "hard link", "dangling link", "pipe", "socket", "device")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that commands and the dashboard leave in one."""
    project = tmp_path_factory.mktemp("sound")
    known = {c.name: c.fingerprint() for c in corruption.load_corruptions() if c.name == "fog"}
    run = synthetic_runs.make_run(
        project, "r", ["base", "base-sgdm"], {"fog": [3]}, images=4, fingerprints=known
    )
    (run.path / "image_quality.csv").write_text(
        "corruption,severity,psnr,ssim,images,key\nfog,1.0,20.5,0.5,6,k\n"
    )
    (run.path / "latency.csv").write_text("model,milliseconds,ratio,low,high,device\nbase,1.5,1,1,1,cpu\n")
    (run.path / "dashboard.json").write_text('{"pid": 1, "started": 0, "arguments": ["x"]}')
    (run.path / "dashboard.log").write_text("a line\n")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        figure.report([run.path], resamples=4)
    with run.lock():
        pass
    run.store.write_shard(
        run.cells[0], 0, {str(c): run.store.read_detections(run.cells[0])[c] for c in COLUMNS}
    )
    path: Path = run.path
    return path


COLUMNS = ("image_id", "category_id", "score", "x1", "y1", "x2", "y2")


@pytest.fixture(scope="module")
def outside(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run elsewhere, in which every file that holds text says that it is another."""
    folder = tmp_path_factory.mktemp("outside") / "r"
    shutil.copytree(sound, folder)
    rewrite(Run.open(folder), data={"name": SECRET})
    for file in folder.rglob("*"):
        if file.suffix in (".csv", ".json"):
            file.write_text(
                file.read_text().replace("fog", SECRET).replace("cpu", SECRET).replace('"x"', f'"{SECRET}"')
            )
        if file.suffix in (".log", ".html", ".svg"):
            file.write_text(SECRET)
    names = folder / "ground_truth/categories.parquet"
    table = pq.read_table(names)
    said = pa.array([SECRET, *table["name"].to_pylist()[1:]])
    pq.write_table(table.set_column(1, table.schema.field(1), said), names)
    return folder


def plant(root: Path, outside: Path, rng: random.Random) -> str:
    """Put a link or something else in the place of a file or folder; says which."""
    path = rng.choice(sorted(root.rglob("*")))
    kind, target = rng.choice(KINDS), outside / path.relative_to(root)
    if path.is_dir():
        shutil.rmtree(path)
        path.symlink_to(target)
        return f"link {path.relative_to(root)}"
    path.unlink()
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(outside / "nowhere")
        case "hard link":
            path.hardlink_to(target)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            short = Path(f"/tmp/{os.getpid()}.sock")  # a socket's own path cannot be long
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(short))
            shutil.move(short, path)
        case "device" if not os.getuid():
            with contextlib.suppress(PermissionError):  # the root of a user namespace may not
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return f"{kind} {path.relative_to(root)}"


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """What must stay as it is; the number of names of a file may change."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        found[str(path)] = path.read_bytes() if path.is_file() else b"", about.st_mode, about.st_mtime_ns
    return found


def resume(path: Path) -> None:
    """As `run --exist-ok` does around what its detectors do, one cell of which is to be made again."""
    run = Run.create_or_resume(path.parent, path.name, manifest_of[0], exist_ok=True)
    with run.lock():
        for cell in run.cells[:2]:
            if run.store.verify(cell):
                continue
            run.store.merge_shards(cell, 1)
            run.store.commit(cell, dict.fromkeys(METRICS), detections=0)
        run.store.drop_shards(run.cells[0])
        run.write_results()


manifest_of: list[Manifest] = []
COMMANDS: dict[str, Callable[[Path], object]] = {
    "list": lambda path: lists.runs(path.parent),
    "clean": lambda path: clean.clean(path.parent, yes=True),
    "clean one": lambda path: clean.clean(path.parent, [path.name], yes=True),
    "compare": lambda path: compare.compare([path], resamples=4),
    "figure": lambda path: figure.figure("classes", path, path.parent / "x.svg", resamples=4),
    "pictures": lambda path: figure.figure("side-by-side", path, path.parent / "x.png", resamples=4),
    "report": lambda path: figure.report([path], resamples=4),
    "results": lambda path: results.results(path, resamples=4),
    "leaderboard": lambda path: leaderboard.leaderboard([path], path.parent / "site", resamples=4),
    "join": lambda path: join_runs([Run.open(path)], [{"base": "a", "base-sgdm": "b"}], path.parent / "both"),
    "resume": resume,
    "log": lambda path: print(jobs.read_log(path), jobs.is_running(path)),
}


def shown_below(root: Path) -> Iterator[Path]:
    """Files of the run's own that hold what lies outside."""
    for path in root.rglob("*"):
        if (
            not path.is_symlink()
            and path.is_file()
            and path.stat().st_nlink == 1
            and SECRET.encode() in path.read_bytes()
        ):
            yield path


_BOUND = harness.Bound(4000, 120)  # of whole commands, which load libraries and draw


def test_commands(tmp_path: Path, sound: Path, outside: Path) -> None:
    root, before = tmp_path / "root", snapshot(outside)
    rng = random.Random(0 if not harness.COUNT else None)
    manifest_of[:] = [Run.open(sound).manifest]
    tried = {"done": 0, "refused": 0}
    for number in range(COUNT * len(COMMANDS)):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(sound, root / "r")
        planted = plant(root / "r", outside, rng)
        name = [*COMMANDS][number % len(COMMANDS)]
        text = io.StringIO()
        try:
            with (
                redirect_stdout(text),
                redirect_stderr(text),
                harness.watched(root),
                harness.limited(_BOUND),
            ):
                COMMANDS[name](root / "r")
            tried["done"] += 1
        except RobustBenchError as error:
            assert "\n" not in str(error), (name, planted)
            text.write(str(error))
            tried["refused"] += 1
        except harness.Refused as error:
            raise AssertionError(f"{name} with {planted}: {error}") from None
        assert SECRET not in text.getvalue(), (name, planted)
        assert not [*shown_below(root)], (name, planted)
        assert snapshot(outside) == before, (name, planted)
    print(f"fuzz links: {tried}")
    assert tried["done"] and tried["refused"]


PAGES = sorted(path.stem for path in (resources.root() / "app/views").glob("*.py"))


def page(name: str) -> None:
    from robustbench_sgdm.core import resources
    from robustbench_sgdm.dashboard import pages, run_data, sources

    page = pages.load_page(resources.root() / "app/views" / f"{name}.py")
    with pages.errors_shown(page):
        runs = sources.available_runs().items() if page.needs_run else ()
        page.function(*[run_data.open_run(*run) for run in runs])


def test_pages(tmp_path: Path, sound: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(outside)
    rng, main = random.Random(1 if not harness.COUNT else None), sys.modules["__main__"]
    for number in range(max(2 * COUNT, len(PAGES))):
        root = tmp_path / f"{number}"
        shutil.copytree(sound, root / "r")
        planted = plant(root / "r", outside, rng)
        monkeypatch.setattr(sys, "argv", ["main.py", "--project", str(root), "--training", str(root)])
        name = PAGES[number % len(PAGES)]
        test = AppTest.from_function(page, default_timeout=120, args=(name,)).run()
        sys.modules["__main__"] = main
        assert not test.exception, (name, planted, test.exception)
        kinds = (test.markdown, test.error, test.code, test.caption, test.warning, test.info)
        said = "\n".join(str(e.value) for kind in kinds for e in kind)
        said += "\n".join(frame.value.to_csv() for frame in test.dataframe)
        assert SECRET not in said, (name, planted)
        assert snapshot(outside) == before and not [*shown_below(root)], (name, planted)
