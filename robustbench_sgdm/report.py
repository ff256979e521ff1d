"""The report of a run: one self-contained HTML file from the template in `reports/`."""

from pathlib import Path

import jinja2

from robustbench_sgdm import __version__, atomic, content, figures, tables
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.store import Run


def write_html(run: Run) -> Path:
    """Write `report.html`: what was run, results by corruption, definitions, provenance; no network needed.

    Raises:
        DataError: no cell of the run is complete.
    """
    results = run.results()
    if results.empty:
        raise DataError(f"{run.path} has no complete cell to report; run again to finish it")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(content.root() / "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        run=run,
        plan=run.plan,
        tables=tables.corruption_tables(results, run.pairs),
        figure=figures.svg(figures.severity_curves(results)) if results["severity"].max() > 0 else None,
        missing=[str(c) for c in run.missing()],
        version=__version__,
    )
    path = run.path / "report.html"
    atomic.write_text(path, html)
    return path
