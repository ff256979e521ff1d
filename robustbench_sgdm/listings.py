"""What is available: models, corruptions, data sets, figures, runs, and the installation itself, as tables."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pandas as pd

from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.progress import Progress, make_counter, no_progress
from robustbench_sgdm.core.untrusted_input import short_repr

_LOG = logging.getLogger(__name__)


def list_models(progress: Progress = no_progress) -> pd.DataFrame:
    """The zoo: name, parameters, gflops (80 classes, 640 px, BatchNorm folded), bundled (weights), sources."""
    from robustbench_sgdm.detectors import bundled_weights
    from robustbench_sgdm.detectors.ultralytics import zoo

    names, rows = zoo.model_names(), []
    update = make_counter(progress, "counting", len(names))
    for name in names:
        summary = zoo.model_cost(name, classes=80)
        rows.append(
            (
                name,
                summary.parameters,
                summary.gflops,
                bool(bundled_weights(name)),
                tuple(zoo.model_sources(name)),
            )
        )
        update(1)
    return pd.DataFrame(rows, columns=["name", "parameters", "gflops", "bundled", "sources"])


def list_corruptions(folders: Sequence[Path] = ()) -> pd.DataFrame:
    """The corruptions: name, family, aliases, strengths (a text for each parameter)."""
    from robustbench_sgdm import corruption

    rows = [
        (one.name, one.family, tuple(one.aliases), tuple(p.describe() for p in one.parameters))
        for one in corruption.load_corruptions(folders).select(["all"])
    ]
    return pd.DataFrame(rows, columns=["name", "family", "aliases", "strengths"])


def corruption_groups() -> tuple[str, ...]:
    """The names of groups of corruptions, for `noise`."""
    from robustbench_sgdm import corruption

    return tuple(corruption.GROUPS)


def measure_corruptions(
    folders: Sequence[Path] = (),
    data: str | None = None,
    limit: int = 8,
    progress: Progress = no_progress,
) -> tuple[Mapping[str, Sequence[tuple[float, float]]], str]:
    """PSNR (dB) and SSIM of every corruption at severities 1 to 5, and the images in words.

    Args:
        folders: with corruptions of the user's own. Their code is run.
        data: a data set; four photographs of scikit-image if None.
        limit: of its images, the first ones.
        progress: called with the corruptions measured.
    """
    import torch

    from robustbench_sgdm import corruption, datasets
    from robustbench_sgdm.datasets import image_decoding

    registry = corruption.load_corruptions(folders)
    if data is None:
        pictures, where = corruption.photographs(), f"scikit-image's {', '.join(corruption.PHOTOGRAPHS)}"
    else:
        dataset = datasets.load_dataset(data, progress=progress)
        for note in dataset.notes:
            _LOG.warning("%s", note)
        arrays = [image_decoding.read_image(image) for image in dataset.images[:limit]]
        pictures = [torch.from_numpy(array.transpose(2, 0, 1).copy()) for array in arrays]
        where = f"{len(pictures)} images of {data}"
    scores = {}
    update = make_counter(progress, "measuring", len(registry))
    for one in registry:
        scores[one.name] = corruption.measure_image_quality(one, pictures)
        update(1)
    return scores, where


def list_datasets() -> pd.DataFrame:
    """The data sets that are known by name: name, description, splits, state, folder."""
    from robustbench_sgdm import datasets

    rows = []
    for source in datasets.dataset_sources():
        state, folder = source.status() if source.status else ("", "")
        rows.append((source.name, source.description, tuple(source.splits), state, str(folder)))
    return pd.DataFrame(rows, columns=["name", "description", "splits", "state", "folder"])


def list_figures() -> pd.DataFrame:
    """The figures of a run: name, description."""
    from robustbench_sgdm.figures import all_figures

    rows = [(one.name, one.description) for one in all_figures().values()]
    return pd.DataFrame(rows, columns=["name", "description"])


def list_runs(project: Path) -> pd.DataFrame:
    """The run directories of a folder: name, state, done, cells, models, data; unreadable ones are logged."""
    from robustbench_sgdm import store

    rows = []
    for path in store.list_runs(project):
        try:
            rows.append(_describe_run(path))
        except RobustBenchError as error:
            _LOG.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - whatever one run raises must not hide the others
            _LOG.warning("%s cannot be read (%s: %s)", path, type(error).__name__, short_repr(str(error)))
    return pd.DataFrame(rows, columns=["name", "state", "done", "cells", "models", "data"])


def _describe_run(path: Path) -> tuple[str, str, int, int, tuple[str, ...], str]:
    from robustbench_sgdm.store import Run, describe_state

    run = Run.open(path)
    state, done = describe_state(run)
    return path.name, state, done, len(run.cells), tuple(run.manifest.models), run.manifest.data.name


def clean_runs(project: Path, names: Sequence[str] | None = None, *, remove: bool = False) -> pd.DataFrame:
    """List, or remove, what no run needs: half-written files, left-over shards, outdated cells.

    Args:
        project: folder of run directories.
        names: of run directories; all if None.
        remove: instead of only listing.

    Returns:
        Columns run, kind, files, bytes. Runs that a process works on are skipped and logged.

    Raises:
        UsageError: no such project.
        DataError: no such run.
    """
    from robustbench_sgdm.store import remove_stale_files

    rows = []
    for path in _run_directories(project, names):
        try:
            files = remove_stale_files(path, dry=not remove)
        except RobustBenchError as error:
            _LOG.warning("%s is not cleaned: %s", path, error)
            continue
        for kind in dict.fromkeys(one.kind for one in files):
            sizes = [one.size for one in files if one.kind == kind]
            rows.append((path.name, kind, len(sizes), sum(sizes)))
    return pd.DataFrame(rows, columns=["run", "kind", "files", "bytes"])


def _run_directories(project: Path, names: Sequence[str] | None) -> list[Path]:
    if not project.is_dir():
        raise UsageError(f"--project {project} is not a directory")
    if names is None:
        return sorted(p for p in project.glob("*") if p.is_dir() and not p.is_symlink())
    for name in names:
        if not name or Path(name).name != name or not (project / name).is_dir():
            raise DataError(f"{project / name} is not a run directory; see `robustbench list runs`")
    return [project / name for name in names]


def check_installation() -> tuple[pd.DataFrame, list[str]]:
    """Versions and devices (item, value), and what is missing."""
    missing, rows = _unmet_requirements(), []
    if not missing:
        import torch

        from robustbench_sgdm.core.versions import installed_versions
        from robustbench_sgdm.detectors import bundled_weights
        from robustbench_sgdm.detectors.runtimes.packages import version as optional

        rows += list(installed_versions().items())
        rows += [(f"{name} (optional)", optional(name)) for name in ("onnxruntime", "openvino", "tensorrt")]
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        rows.append(("GPU", ", ".join(gpus) or "none: everything runs on the CPU"))
        missing += [f"bundled weights of {n}" for n in ("yolov8n", "yolov8n-sgdm") if not bundled_weights(n)]
    rows.append(("CPU cores", str(os.cpu_count())))
    rows.append(("free disk here", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB"))
    return pd.DataFrame(rows, columns=["item", "value"]), missing


def _unmet_requirements() -> list[str]:
    """The package's requirements that are missing or have another version."""
    from packaging.requirements import Requirement

    unmet = []
    for requirement in map(Requirement, requires("robustbench-sgdm") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                unmet.append(f"{requirement} (found {version(requirement.name)})")
        except PackageNotFoundError:
            unmet.append(str(requirement))
    return unmet
