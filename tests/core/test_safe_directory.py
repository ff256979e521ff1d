"""Files of a run directory: nothing but its own is read, written or removed, whatever is planted or swapped there."""

import ast
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from robustbench_sgdm.core import resources, safe_directory
from robustbench_sgdm.core.errors import RobustBenchError, UnsafeFileError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store.locks import exclusive_lock, is_locked

SECRET = b"what is outside"


@pytest.fixture(params=["handles", "names"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SafeDirectory:
    """A run directory with a file in a folder; opened by handles, and as where the system has none for folders."""
    monkeypatch.setattr(safe_directory, "_HAS_HANDLES", request.param == "handles")
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/file").write_bytes(SECRET)
    (tmp_path / "outside/b/file").write_bytes(SECRET)
    root = SafeDirectory(tmp_path / "run")
    root.write_bytes("a/b/file", b"ours")
    return root


def plant(kind: str, path: Path, target: Path) -> str:
    """Put something else in the place of a path; gives what an error says of it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if kind in ("link", "dangling link"):
        path.symlink_to(target if kind == "link" else target / "nowhere")
        return "is a link"
    if kind == "hard link":
        path.hardlink_to(target)
        return "is a hard link: its file has 2 names"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            short = Path(f"/tmp/{os.getpid()}.sock")  # a socket's own path cannot be long
            one.bind(str(short))
        shutil.move(short, path)
    elif kind == "device":
        if os.getuid():
            pytest.skip("only root makes devices")
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "directory":
        path.mkdir()
    return f"is a {kind}, not a regular file"


FILES = ("link", "dangling link", "hard link", "pipe", "socket", "device", "directory")


@pytest.fixture(params=FILES)
def planted(request: pytest.FixtureRequest, root: SafeDirectory, tmp_path: Path) -> str:
    return plant(request.param, root.path / "a/b/file", tmp_path / "outside/file")


def outside(tmp_path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted((tmp_path / "outside").rglob("*")) if p.is_file()}


def test_what_is_no_file_of_its_own_is_not_opened(root: SafeDirectory, planted: str, tmp_path: Path) -> None:
    before = outside(tmp_path)
    uses: list[Callable[[], object]] = [
        lambda: root.open("a/b/file"),
        lambda: root.open("a/b/file", "r+b"),
        lambda: root.open("a/b/file", "a+b"),
        lambda: root.read_bytes(root.path / "a/b/file"),
        lambda: root.read_text("a/b/file"),
        lambda: root.stat("a/b/file"),
        lambda: root.rename("a/b/file", "other"),
        root.check,
    ]
    for use in uses[: None if "directory" not in planted else -1]:
        with pytest.raises(UnsafeFileError, match=planted):
            use()
    assert outside(tmp_path) == before


def test_what_is_written_takes_its_place(root: SafeDirectory, planted: str, tmp_path: Path) -> None:
    before = outside(tmp_path)
    if "directory" in planted:
        with pytest.raises(RobustBenchError, match="cannot write"):
            root.write_bytes("a/b/file", b"new")
    else:
        root.write_bytes("a/b/file", b"new")
        assert root.read_bytes("a/b/file") == b"new"
    assert outside(tmp_path) == before and root.names("a/b") == ["file"]


def test_what_is_removed_is_the_name(root: SafeDirectory, planted: str, tmp_path: Path) -> None:
    before = outside(tmp_path)
    if "directory" in planted:
        root.remove_folder("a/b/file")
    else:
        root.unlink("a/b/file")
    assert outside(tmp_path) == before and root.names("a/b") == []


@pytest.mark.parametrize("where", ["a", "a/b"])
def test_no_folder_is_a_link(root: SafeDirectory, tmp_path: Path, where: str) -> None:
    plant("link", root.path / where, tmp_path / "outside")
    before = outside(tmp_path)
    path = f"{where}/{'b/' if where == 'a' else ''}file"
    uses: list[Callable[[], object]] = [
        lambda: root.open(path),
        lambda: root.open(path, "a+b"),
        lambda: root.write_bytes(path, b"x"),
        lambda: root.write_bytes(f"{where}/new/file", b"x"),
        lambda: root.stat(path),
        lambda: root.unlink(path),
        lambda: root.names(where),
        root.check,
    ]
    for use in uses:
        with pytest.raises(UnsafeFileError, match=f"{where} is a link, and links within"):
            use()
    root.remove_folder(where)
    assert outside(tmp_path) == before
    assert [path for path, _ in root.walk()] == [root.path / where]  # not what lies behind it


def test_names_do_not_leave_it(root: SafeDirectory, tmp_path: Path) -> None:
    for path in ("../outside/file", str(tmp_path / "outside/file"), root.path / "a/../../outside/file"):
        with pytest.raises(ValueError, match="does not lie in"):
            root.open(path)


@pytest.mark.parametrize("name", [".", "file", "a", "..", "/"])
def test_a_text_is_a_place_in_it_and_a_path_begins_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also where a directory is called as a file in it, or is the current one, the one above or the first of all."""
    (tmp_path / "file/a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / ("file/a" if name == ".." else "."))
    root = SafeDirectory(Path(name))
    if name == "/":
        assert root.read_bytes(Path(__file__)) == Path(__file__).read_bytes()
        return
    root.write_bytes("file", b"ours") if name != "." else root.write_bytes("a/file", b"ours")
    inner = "a/file" if name == "." else "file"
    assert root.read_bytes(inner) == root.read_bytes(Path(name) / inner) == (Path(name) / inner).read_bytes()
    assert set(root.names()) == set(root.names(root.path)) == {path.name for path in Path(name).iterdir()}
    with pytest.raises(ValueError, match="does not lie in"):
        root.is_file(Path("elsewhere/file") if name != "." else Path("../file"))


def test_it_may_be_reached_through_a_link_and_stays_the_same(root: SafeDirectory, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(root.path)
    named = SafeDirectory(tmp_path / "named")
    assert named.read_bytes("a/b/file") == b"ours"
    (tmp_path / "named").unlink()
    (tmp_path / "named").symlink_to(tmp_path / "outside")
    for use in (lambda: named.read_bytes("file"), lambda: named.write_bytes("file", b"x")):
        with pytest.raises(UnsafeFileError, match="was replaced while it was in use"):
            use()
    assert (tmp_path / "outside/file").read_bytes() == SECRET


def test_what_is_not_there(tmp_path: Path) -> None:
    root = SafeDirectory(tmp_path / "run")
    assert root.stat("a/b") is None and root.names() == [] and not root.is_file("x") and [*root.walk()] == []
    root.unlink("a/b")
    root.remove_folder("a")
    with pytest.raises(FileNotFoundError):
        root.open("a")
    with root.open("logs/log", "a+b") as file:
        file.write(b"one")
    with root.open("logs/log", "a+b") as file:
        file.write(b"two")
    assert root.read_bytes("logs/log") == b"onetwo" and root.read_bytes("logs/log", 3) == b"one"


def test_a_tree_without_end(tmp_path: Path) -> None:
    root = SafeDirectory(tmp_path)
    (tmp_path / "/".join("a" * 40)).mkdir(parents=True)
    with pytest.raises(UnsafeFileError, match="nested deeper than 32"):
        root.check()


def test_a_lock_is_a_file_of_its_own(tmp_path: Path) -> None:
    """Older libraries of locks emptied what they opened."""
    mine = tmp_path / "mine"
    mine.write_bytes(SECRET)
    for kind in ("link", "dangling link", "hard link", "pipe", "device" if not os.getuid() else "pipe"):
        (tmp_path / "r").mkdir(exist_ok=True)
        plant(kind, tmp_path / "r/.lock", mine)
        with pytest.raises(UnsafeFileError, match=r"\.lock is a"), exclusive_lock(tmp_path / "r"):
            pass
        with pytest.raises(UnsafeFileError, match=r"\.lock is a"):
            is_locked(tmp_path / "r")
        assert mine.read_bytes() == SECRET and not (mine.parent / "nowhere").exists()


@pytest.fixture
def swapping(tmp_path: Path) -> Iterator[SafeDirectory]:
    """A run directory in which a folder is a link to the outside every other moment."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(SECRET)
    root = SafeDirectory(tmp_path / "run")
    root.write_bytes("a/b/file", b"ours")
    folder, away, link = root.path / "a/b", root.path / "a/away", root.path / "a/link"
    stopped = threading.Event()

    def swap() -> None:
        while not stopped.is_set():
            with suppress(OSError):  # a writer may have made the folder anew
                link.symlink_to(tmp_path / "outside")
                folder.rename(away)
                link.rename(folder)
                time.sleep(0)
            link.unlink(missing_ok=True)
            if away.exists():
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):
                    away.rename(folder)

    thread = threading.Thread(target=swap)
    thread.start()
    yield root
    stopped.set()
    thread.join()


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(swapping: SafeDirectory, tmp_path: Path) -> None:
    written = refused = 0
    for number in range(1000):
        try:
            swapping.write_bytes(f"a/b/{number}", b"x" * 100, sync=False)
            written += 1
            assert swapping.read_bytes("a/b/file") == b"ours"
            with swapping.open("a/b/log", "a+b") as file:
                file.write(b"line\n")
            swapping.unlink(f"a/b/{number}")
        except (UnsafeFileError, FileNotFoundError):  # as it is at that moment
            refused += 1
        except RobustBenchError as error:  # the folder went while its file was written
            assert "cannot write" in str(error)
            refused += 1
    assert written and refused, (written, refused)
    assert [p.name for p in (tmp_path / "outside").iterdir()] == ["file"]
    assert (tmp_path / "outside/file").read_bytes() == SECRET


# What opens, makes, lists or removes files by path. `files` is always a `SafeDirectory`, `file` is an open one.
_METHODS = {
    *(
        "open",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "iterdir",
        "glob",
        "rglob",
        "walk",
        "touch",
    ),
    *(
        "mkdir",
        "rmdir",
        "unlink",
        "rename",
        "symlink_to",
        "hardlink_to",
        "chmod",
        "is_file",
        "exists",
        "is_symlink",
    ),
}
_FUNCTIONS = {
    *(
        "open",
        "os.open",
        "os.remove",
        "os.unlink",
        "os.rename",
        "os.replace",
        "os.mkdir",
        "os.makedirs",
        "os.rmdir",
    ),
    *(
        "os.listdir",
        "os.scandir",
        "os.walk",
        "os.removedirs",
        "os.truncate",
        "os.link",
        "os.symlink",
        "os.stat",
    ),
    *("shutil.rmtree", "shutil.copy", "shutil.copyfile", "shutil.copytree", "shutil.move", "FileLock"),
    *(
        "pq.read_table",
        "pq.read_schema",
        "pq.read_metadata",
        "pq.ParquetFile",
        "pq.write_table",
        "pq.ParquetWriter",
    ),
    *("pd.read_csv", "pd.read_parquet", "pd.read_json", "Pillow.open", "torch.save", "torch.load", "np.load"),
    *(
        "np.save",
        "np.savetxt",
        "np.loadtxt",
        "zipfile.ZipFile",
        "zipfile.is_zipfile",
        "safetensors.safe_open",
    ),
    *(
        "cv2.imread",
        "cv2.imwrite",
        "read_plain",
        "open_checkpoint",
        "weights.read_weights",
        "weights.write_weights",
    ),
    *(
        "atomic_io.write",
        "atomic_io.write_bytes",
        "atomic_io.write_text",
        "read_bytes",
        "read_json",
        "read_yaml",
    ),
}
_SAVERS = {"savefig", "to_csv", "to_parquet", "to_json", "tofile", "save"}  # of frames, figures, pictures
_OPEN_ALREADY = {"file", "new", "content", "buffer", "io.BytesIO", "io.StringIO(text)"}
_OTHERS = {
    "Run",
    "api.Run",
    "Directory",
    "cls",
    "figures",
    "checkpoint",
    "tables",
    "paper",
}  # whose functions are called as those of files are

# Code that a run directory, a training run or a comparison passes through.
_ROOMS = ("store", "robustness", "report", "figures", "tables", "sweep", "training", "cli", "dashboard")

ALLOWED = {
    # A project, which holds runs. A run in it may be a link, as one that is named.
    "store/runs.py list_runs project.iterdir",
    "evaluation.py expand_shifts folder.glob",  # data that the user names
    "store/runs.py _can_take path.exists",
    "listings.py _run_directories project.glob",
    "listings.py _run_directories p.is_symlink",
    "dashboard/jobs.py started_runs project.glob",
    "app/views/training.py _read_logs folder.glob",
    "app/views/training.py _read_logs path.glob",
    "app/views/training.py _read_logs (path / 'results.csv').is_file",
    "dashboard/jobs.py start path.exists",
    "dashboard/jobs.py _launch path.mkdir",
    "training/runner.py free_folder project.mkdir",
    "training/runner.py free_folder folder.mkdir",
    # Named on the command line, or by code that called us: links are followed.
    "core/parsing.py find_path path.exists",
    "core/parsing.py find_path (place / part).exists",
    "core/parsing.py _same_in_any_form folder.iterdir",
    "core/parsing.py find_file path.is_file",
    "core/parsing.py _find_model path.is_file",
    "sweep/pixel_manifest.py write_manifest atomic_io.write_text",
    "sweep/pixel_manifest.py verify_manifest read_json",
    "figures/style.py save_figure atomic_io.write",
    "figures/style.py _png_to_jpeg Pillow.open",  # of a figure of ours, in memory
    "cli/figure.py figure drawn.save",
    "cli/compare.py _print atomic_io.write_text",
    "cli/compare.py _check atomic_io.write_text",
    "cli/results.py results atomic_io.write_text",
    "leaderboard.py _own_folder (folder / 'index.html').exists",
    "leaderboard.py _own_folder (folder / 'leaderboard.csv').exists",
    "leaderboard.py _own_folder inside.is_symlink",
    "store/joining.py join_runs out.exists",
    "store/joining.py join_runs out.iterdir",
    "dashboard/sources.py input_files os.scandir",  # the folders that the dashboard may offer
    "dashboard/sources.py input_files entry.is_symlink",
    "sweep/corrupted_copies.py _write_versions atomic_io.write_bytes",
    "sweep/corrupted_copies.py write_copies atomic_io.write_text",
    "sweep/corrupted_copies.py write_copies _json_path(dataset, config.out, version).unlink",
    "cli/paper.py paper atomic_io.write_bytes",
    "store/training_logs.py _files path.is_file",
    "sweep/external_predictions.py _digest one.path.read_bytes",
    "sweep/external_predictions.py _mmdetection read_yaml",
    "sweep/external_predictions.py _subfolders folder.iterdir",
    "sweep/external_predictions.py _prediction_files folder.iterdir",
    "sweep/external_predictions.py discover_predictions Path(source).exists",
    "sweep/external_predictions.py discover_predictions path.is_file",
    "sweep/external_predictions.py unread_files root.rglob",
    "training/runner.py train weights.read_weights",
    "training/make_bundled_weights.py install_weights weights.read_weights",
    "training/make_bundled_weights.py install_weights weights.write_weights",
    "training/make_bundled_weights.py install_weights atomic_io.write_text",
    # Weights are data and are read by path, wherever a manifest says they lie. Those of a comparison, and the log beside
    # weights, are looked at through the comparison's files first.
    "training/runner.py _check weights.read_weights",
    "training/runner.py _keep weights.read_weights",
    "training/training_state.py strip_checkpoint weights.read_weights",
    "figures/run_analysis.py _log_files path.is_file",
    # Images of the data set, and data that are exported for Ultralytics into the cache.
    "sweep/executors/ray.py _read image.path.read_bytes",
    "training/data.py load_training_data Path(train).exists",
    "training/data.py _split path.is_file",
    "training/data.py _split bundled.is_file",
    "training/data.py _split (coco_folder() / 'train2017.txt').is_file",
    "training/data.py _split (coco_folder() / 'annotations' / 'instances_train2017.json').is_file",
    "training/data.py _export_dataset draft.rename",
    "training/data.py _export_dataset shutil.rmtree",
    # `SafeDirectory` itself, after a check.
    "store/sharing.py unlink super().unlink",
    # What a worker is sent and its own new folder, a system's file, files of the package.
    "sweep/executors/worker_process.py _file_digest path.read_bytes",
    "sweep/executors/worker_process.py _code_digest package.rglob",
    "sweep/executors/worker_process.py _code_digest path.read_bytes",
    "sweep/executors/worker_process.py _load_worker torch.load",
    "sweep/executors/worker_process.py make_payload torch.save",
    "sweep/executors/worker_process.py _run_unit path.write_bytes",
    "sweep/plan.py _processor Path('/proc/cpuinfo').read_text",
    "figures/fonts.py _fonts FOLDER.glob",
    "dashboard/pages.py load_pages folder.glob",
    "dashboard/server.py protected_app (script.parent / 'views').glob",
    "figures/run_analysis.py _log_files file.is_file",
    "dashboard/components.py register (folder / f'{name}.css').read_text",
    "dashboard/components.py register (folder / f'{name}.js').read_text",
    "app/views/paper.py _printed file.read_text",
    "leaderboard.py _page (resources.root() / 'reports' / f'leaderboard.{kind}').read_text",
    "app/main.py main (APP / 'icon.png').read_bytes",
    "dashboard/paper_tables.py _code_key (package / folder).rglob",
    "dashboard/paper_tables.py _code_key file.read_bytes",
    "dashboard/paper_tables.py _count _folder().mkdir",  # the cache
    "dashboard/jobs.py estimate_cost _estimates().mkdir",
    "app/views/training.py _read_logs (Path(robustbench_sgdm.__file__).parent / 'weights').glob",
    # No file.
    "dashboard/run_data.py _bare_class_scores (sides[0] - sides[1] if baseline else sides[0]).rename",
    "figures/compact_map.py _by_severity values.rename",
    "dashboard/differences.py cell_differences (wide[pair[1]] - wide[pair[0]]).dropna().rename",
}


def calls(path: Path) -> Iterator[tuple[str, str]]:
    """(function, call) of a module that could open something by path."""
    tree = ast.parse(path.read_text("utf-8"))
    owner: dict[ast.AST, str] = {}
    for node in ast.walk(tree):  # outer functions first
        if isinstance(node, ast.FunctionDef):
            owner |= dict.fromkeys(ast.walk(node), node.name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, arguments = ast.unparse(node.func), [ast.unparse(one) for one in node.args]
        receiver, _, method = name.rpartition(".")
        is_root = (
            receiver.rpartition(".")[2] == "files"
            or receiver.startswith("SafeDirectory(")
            or "files_of(" in receiver
        )
        if name in _FUNCTIONS:
            safe = bool(_OPEN_ALREADY & {*arguments[:2]}) or any(
                "files" in a or "SafeDirectory(" in a for a in arguments
            )
            safe = safe or any(key.arg == "files" for key in node.keywords)
        elif receiver in _OTHERS or (method == "rename" and node.keywords):
            safe = True
        elif method in _METHODS:
            safe = is_root
        elif method in _SAVERS:
            safe = not receiver or not arguments or arguments[0] in _OPEN_ALREADY
        else:
            continue
        if not safe:
            yield owner.get(node, "module"), name


def test_files_of_runs_are_opened_in_no_other_way() -> None:
    package = Path(safe_directory.__file__).parents[1]
    modules = [p for room in _ROOMS for p in sorted((package / room).rglob("*.py"))]
    modules += [*package.glob("*.py"), package / "core/parsing.py"]
    modules += sorted(package.glob("*.py"))
    found = {f"{p.relative_to(package)} {where} {call}" for p in modules for where, call in calls(p)}
    app = resources.root() / "app"
    found |= {
        f"app/{p.relative_to(app)} {w} {call}" for p in sorted(app.rglob("*.py")) for w, call in calls(p)
    }
    assert sorted(found - ALLOWED) == []
    assert sorted(ALLOWED - found) == []
