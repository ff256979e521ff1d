"""`robustbench clean`: remove what no run needs."""

from typing import Annotated

import typer

from robustbench_sgdm.cli.shared_options import RUNS, FormatOption, ProjectOption


def clean(
    project: ProjectOption = RUNS,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Run directory; may be repeated. Default: all of them.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove what is listed; without it, nothing is removed.")
    ] = False,
    form: FormatOption = "table",
) -> None:
    """List, and with --yes remove, what no run needs: half-written files, left-over shards, outdated cells.

    Other complete cells are never removed, nor are shards from which the same command resumes. Runs in use by a process
    are skipped. Locks need no cleaning: the system frees them when their process ends.
    """
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import info, print_as
    from robustbench_sgdm.tables import Table

    frame = listings.clean_runs(project, name, remove=yes)
    if frame.empty:
        info(f"nothing to remove in {project}")
        return
    size = _format_bytes(int(frame["bytes"].sum()))
    summary = f"{size} removed" if yes else f"{size}; nothing is removed yet: add --yes to remove it"
    rows = [
        [r, kind, str(files), _format_bytes(size)] for r, kind, files, size in frame.itertuples(index=False)
    ]
    title = f"{'removed from' if yes else 'to remove in'} {project}"
    print_as(Table(title, ["run", "kind", "files", "size"], rows, [summary], text=["kind"]), form)


def _format_bytes(count: int) -> str:
    """A size as people say it.

    >>> _format_bytes(812), _format_bytes(48_300_000)
    ('812 B', '48.3 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
