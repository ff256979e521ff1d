"""`robustbench clean`: what killed runs left behind, and what newer code replaces."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.common import RUNS, ProjectOption
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError


def clean(
    project: ProjectOption = RUNS,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Run directory; may be repeated. Default: all of them.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove what is listed; without, nothing is touched.")
    ] = False,
) -> None:
    """List, and with --yes remove, what no run needs: half-written files, left-over shards, outdated cells.

    Complete cells are never removed, and neither are shards that the same command goes on from. Runs that
    a process works on are left alone. Locks need no cleaning: the system frees them with their process.
    """
    from robustbench_sgdm.cli.console import note, show
    from robustbench_sgdm.store import remove_litter
    from robustbench_sgdm.tables import Table

    rows, total, left = [], 0, 0
    for path in _runs(project, name):
        try:
            found = remove_litter(path, dry=not yes)
        except RobustBenchError as error:
            note(f"left as it is: {error}")
            left += 1
            continue
        for kind in dict.fromkeys(one.kind for one in found):
            sizes = [one.size for one in found if one.kind == kind]
            rows.append([path.name, kind, str(len(sizes)), _bytes(sum(sizes))])
            total += sum(sizes)
    if not rows:
        note(f"nothing {'else ' if left else ''}to remove in {project}")
        return
    done = f"{_bytes(total)} removed" if yes else f"{_bytes(total)}; nothing is removed yet: add --yes"
    show(
        Table(
            f"{'removed from' if yes else 'to remove in'} {project}",
            ["run", "what", "files", "size"],
            rows,
            [done],
        )
    )


def _runs(project: Path, names: list[str] | None) -> list[Path]:
    if not project.is_dir():
        raise UsageError(f"--project {project} is no folder")
    if names is None:
        return sorted(p for p in project.glob("*") if p.is_dir() and not p.is_symlink())
    for name in names:
        if not name or Path(name).name != name or not (project / name).is_dir():
            raise DataError(f"{project / name} is no run directory; see `robustbench list runs`")
    return [project / name for name in names]


def _bytes(count: int) -> str:
    """A size as people say it.

    >>> _bytes(812), _bytes(48_300_000)
    ('812 B', '48.3 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
