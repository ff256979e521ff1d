"""The static leaderboard: comparable runs ranked together, others apart, broken ones named, strangers' texts inert."""

import html
import math
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import robustbench_sgdm as rb
from robustbench_sgdm import leaderboard, robustness
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError, UnsafeFileError, UsageError
from robustbench_sgdm.robustness import CorruptionSet
from robustbench_sgdm.store import Run
from tests.support.doc_pages import documented_columns
from tests.support.synthetic_runs import make_run, rewrite, write_samples

LEVELS = {"gaussian_noise": [1, 3], "fog": [3]}
POLICY = "default-src 'none'; img-src data:; font-src data:; style-src 'sha256-x'; base-uri 'none'; form-action 'none'"
HEAD = '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" '


def report(policy: str = POLICY, body: str = "") -> bytes:
    return f'{HEAD}content="{html.escape(policy)}">\n</head><body>{body}</body></html>'.encode()


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two runs that can be compared and share a model, and one of another severity."""
    project = tmp_path / "runs"
    made = [
        make_run(project, "one", ["a", "b"], LEVELS, images=6, resamples=True),
        make_run(project, "two", ["a", "c"], LEVELS, images=6, resamples=True),
        make_run(project, "other", ["a"], {"fog": [5]}, images=6, resamples=True),
    ]
    made[0].files.write_bytes("report.html", report())
    return made


def tables(page: Path) -> list[pd.DataFrame]:
    """The tables of a page, texts in their cells."""
    tree = html5lib.parse(page.read_text("utf-8"), namespaceHTMLElements=False)
    lines = [
        [["".join(cell.itertext()).strip() for cell in row] for row in one.iter("tr")]
        for one in tree.iter("table")
    ]
    return [pd.DataFrame([dict(zip(head, row, strict=False)) for row in rows]) for head, *rows in lines]


def test_comparable_runs_are_ranked_together_and_others_apart(
    runs: list[Run], tmp_path: Path, command: Callable[..., str]
) -> None:
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "manifest.json").write_text("{")
    said = command("leaderboard", str(tmp_path / "runs"), "--out", "site", "--resamples", "1000")
    assert "leaderboard site/index.html" in said and "broken" in said and "two is without its report" in said
    page = tmp_path / "site/index.html"
    together, apart = tables(page)
    assert together["Model"].tolist() == ["b", "c", "a"] and apart["Model"].tolist() == ["a"]
    assert together["Runs and reports"].tolist() == ["one", "two", "one, two"]
    text = page.read_text("utf-8")
    assert "broken" in text.partition("Not shown")[2] and "without its report" not in text
    assert re.findall(r'href="(reports/[^"]+)"', text) == ["reports/1-one.html"] * 2
    assert (tmp_path / "site/reports/1-one.html").read_bytes() == report()
    joined = robustness.bootstrap_intervals(runs[:2]).table(["AP"])
    own = joined[(joined["statistic"] == "mPC") & (joined["baseline"] == "")]
    first = own[own["over"] == own["over"].iloc[0]].set_index("model")
    rows = pd.read_csv(tmp_path / "site/leaderboard.csv").query("group == 1").set_index("model")
    assert documented_columns("leaderboard.csv") == {"": {"group", "model", *rows.columns}}
    for model, name in (("b", "b"), ("c", "c"), ("a", "a@one")):
        for column, key in (("mPC", "estimate"), ("mPC_low", "low"), ("mPC_high", "high")):
            assert rows.loc[model, column] == pytest.approx(first.loc[name, key], abs=1e-9)
        shown = dict(zip(together["Model"], together["mPC"], strict=True))[model]
        assert shown.split()[0] == f"{first.loc[name, 'estimate']:.2f}"


def test_a_run_that_claims_the_cells_of_another_has_a_row_of_its_own(runs: list[Run], tmp_path: Path) -> None:
    """Its keys are the same and its numbers are not; neither replaces the other."""
    false = shutil.copytree(runs[0].path, tmp_path / "runs/false")
    run = Run.open(false)
    for cell in run.cells:
        write_samples(run, cell, 90.0)
    page, _ = rb.write_leaderboard([false, runs[0].path], tmp_path / "site")
    (table,) = tables(page)
    assert sorted(table["Model"]) == ["a", "a", "b", "b"]
    assert sorted(table["Runs and reports"]) == ["false", "false", "one", "one"]


def test_numbers_that_differ_in_their_last_bits_are_of_one_network(runs: list[Run]) -> None:
    groups: dict[tuple[Any, ...], leaderboard.Group] = {}
    leaderboard.add_run(groups, runs[0], 1000)
    (group,) = groups.values()
    entry = group.entries[0]
    for shift, count in ((1e-9, 2), (0.1, 3)):
        moved = {
            name: robustness.BootstrapSamples.map(lambda values, by=shift: values + by, samples)
            for name, samples in entry.trainings.items()
        }
        group.add(replace(entry, trainings=moved, runs=[runs[1]]))
        assert len(group.entries) == count


def test_a_run_of_other_data_with_the_same_fingerprint_stands_apart(runs: list[Run], tmp_path: Path) -> None:
    """And cannot be joined: what counts is the ground truth itself."""
    other = make_run(tmp_path / "runs", "forged", ["a"], LEVELS, images=7, resamples=True)
    assert other.manifest.data.fingerprint == runs[0].manifest.data.fingerprint
    page, _ = rb.write_leaderboard([runs[0].path, other.path], tmp_path / "site")
    assert len(tables(page)) == 2
    with pytest.raises(DataError, match="the digest of the ground truth is"):
        rb.join_runs([runs[0].path, other.path], tmp_path / "both")


def test_a_network_that_no_table_takes_hides_no_other(runs: list[Run]) -> None:
    """Its samples have another form than those of the others."""
    groups: dict[tuple[Any, ...], leaderboard.Group] = {}
    leaderboard.add_run(groups, runs[0], 1000)
    (group,) = groups.values()
    table, reasons = group.sound_table()
    assert table.equals(group.table()) and reasons == []
    (name, samples), *_ = group.entries[0].trainings.items()
    short = robustness.BootstrapSamples.map(lambda values: values[..., :1], samples)
    group.add(replace(group.entries[0], model="short", keys=("x",), trainings={name: short}, runs=[runs[1]]))
    table, reasons = group.sound_table()
    assert sorted(entry.model for entry in table["entry"]) == ["a", "b"]
    assert len(reasons) == 1 and reasons[0].startswith(f"short of {runs[1].path} cannot be ranked (")


def test_another_site_is_not_overwritten(runs: list[Run], tmp_path: Path) -> None:
    """It gets the leaderboard as a part of it, unless that place is taken too."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("documentation")
    for _ in range(2):
        page, _ = rb.write_leaderboard([runs[0].path], tmp_path / "site")
        assert page == tmp_path / "site/leaderboard/index.html" and page.is_file()
    assert [path.name for path in (tmp_path / "site").glob("*.*")] == ["index.html"]
    assert (tmp_path / "site/index.html").read_text() == "documentation"
    (tmp_path / "site/leaderboard/leaderboard.csv").unlink()
    with pytest.raises(UsageError, match=r"holds another site, and so does .*; name a new folder"):
        rb.write_leaderboard([runs[0].path], tmp_path / "site")
    shutil.move(tmp_path / "site/leaderboard", tmp_path / "outside")
    (tmp_path / "outside/index.html").unlink()
    (tmp_path / "site/leaderboard").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="name a new folder"):
        rb.write_leaderboard([runs[0].path], tmp_path / "site")


def test_means_are_cached_and_computed_again_when_cells_change(runs: list[Run]) -> None:
    run = runs[0]
    chosen = CorruptionSet.from_product(["fog"], [3])
    before = robustness.load_means(run, chosen)
    (cell,) = [cell for cell in run.cells if cell.model == "b" and cell.corruption == "fog"]
    run.files.remove_folder(run.statistics_folder(cell))  # the mean needs it no more
    again = robustness.load_means(run, chosen)
    assert {m: one.estimate.tolist() for m, one in again.items()} == {
        m: one.estimate.tolist() for m, one in before.items()
    }
    keys = [replace(cell, key="changed" + cell.key) for cell in run.cells]
    assert robustness.load_means(rewrite(run, cells=keys), chosen) == {}


def test_a_model_without_all_its_cells_is_named_without_a_rank_until_a_run_has_them(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one", ["a", "b"], LEVELS, images=6, resamples=True, leave=1)
    page, _ = rb.write_leaderboard([tmp_path / "runs"], tmp_path / "site")
    (table,) = tables(page)
    assert table["Model"].tolist() == ["a", "b"] and "cells are missing" in table["Place"].tolist()[1]
    make_run(tmp_path / "runs", "two", ["a", "b"], LEVELS, images=6, resamples=True)
    page, _ = rb.write_leaderboard([tmp_path / "runs" / name for name in ("one", "two")], tmp_path / "site")
    (table,) = tables(page)
    assert table["Model"].tolist() == ["b", "a", "b"]
    # Not "one, two" for b: a run without its scores lends them no name.
    assert table["Runs and reports"].tolist()[:2] == ["two", "one, two"]
    with pytest.raises(DataError, match="no run can be shown"):
        rb.write_leaderboard([tmp_path / "nothing"], tmp_path / "site")


@pytest.mark.parametrize(
    "content",
    [
        b"<script>alert(1)</script>",
        report(POLICY.replace("base-uri 'none'; ", "")),
        report(f"{POLICY}; script-src 'unsafe-inline'"),
        report(f"default-src * 'unsafe-inline'; {POLICY}"),  # of two, the first counts
        report(f"default-src\t*; {POLICY}"),
        report("\xa0" + POLICY),  # no directive of this name
        report(POLICY.replace("img-src data:", "img-src example.org")),
        report(POLICY.replace("'sha256-x'", "'sha256-x' 'self'")),
        report().replace(b"<!doctype html>\n", b"<!doctype html>\v"),  # which begins the body
        report().replace(b"<head>\n", b"<head>\xc2\xa0"),
        report(body='<LINK rel="preconnect" href="//example.org">'),
        report(POLICY.replace("data:", "https:")),
        report(body='<meta http-equiv="refresh" content="0;url=//x">'),
        report(body='<meta http-equiv="&#114;efresh" content="0;url=//x">'),
    ],
)
def test_a_report_that_a_browser_could_run_is_not_copied(
    runs: list[Run], tmp_path: Path, content: bytes
) -> None:
    runs[0].files.write_bytes("report.html", content)
    page, reasons = rb.write_leaderboard([runs[0].path], tmp_path / "site")
    assert "is not a report of this version" in reasons[0]
    assert 'href="reports' not in page.read_text("utf-8") and not (page.parent / "reports").exists()


@pytest.mark.parametrize("name", ["reports", "index.html"])
def test_no_link_in_the_folder_is_followed(runs: list[Run], tmp_path: Path, name: str) -> None:
    """The folder may lie among runs of somebody else's."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / name).symlink_to(tmp_path / "outside" / ("index.html" if "." in name else ""))
    with suppress(UnsafeFileError):  # of a folder; a file is replaced
        rb.write_leaderboard([runs[0].path], tmp_path / "site")
        assert not (tmp_path / "site" / name).is_symlink()
    assert not [*(tmp_path / "outside").iterdir()]


def claim(run: Run, other: Run, model: str, score: float | None) -> Run:
    """The run says that its model has the cells of another run's, and these scores of them."""
    keys = {(c.corruption, c.severity): c.key for c in other.cells if c.model == model}
    cells = [replace(c, key=keys[c.corruption, c.severity]) if c.model == model else c for c in run.cells]
    changed = rewrite(run, cells=cells)
    for cell in changed.cells:
        if cell.model == model:
            changed.store.commit(cell, dict.fromkeys(METRICS, score), detections=None)
    return changed


def test_a_network_without_a_value_is_named(tmp_path: Path) -> None:
    project = tmp_path / "runs"
    run = make_run(project, "one", ["a", "b"], LEVELS, images=6, resamples=True)
    claim(run, run, "b", None)
    page, _ = rb.write_leaderboard([project], tmp_path / "site")
    (table,) = tables(page)
    assert table["Model"].tolist() == ["a", "b"] and table["Place"].tolist()[1] == "no AP in some cells"


@pytest.mark.parametrize("value", [math.inf, -1e308])
def test_cached_numbers_that_no_score_has_are_computed_again(
    runs: list[Run], tmp_path: Path, value: float
) -> None:
    before, _ = rb.write_leaderboard([runs[0].path], tmp_path / "before")
    cached = [*runs[0].path.rglob("means.parquet")]
    for file in cached:
        table = pq.read_table(file, partitioning=None)
        pq.write_table(table.set_column(1, table.schema.field(1), pa.array([value] * len(table))), file)
    after, _ = rb.write_leaderboard([runs[0].path], tmp_path / "after")
    written = [page.with_name("leaderboard.csv").read_bytes() for page in (before, after)]
    assert cached and written[0] == written[1]


def test_names_of_strangers_are_texts(runs: list[Run], tmp_path: Path, browser: Any) -> None:
    name = '<img src=x onerror="alert(1)">\u202e'
    rewrite(runs[0], data={"name": name})
    page, _ = rb.write_leaderboard([run.path for run in runs], tmp_path / "site")
    with browser.new_page(java_script_enabled=True) as shown:
        problems: list[str] = []
        shown.on("dialog", lambda dialog: problems.append(dialog.message))
        shown.on("console", lambda message: problems.append(message.text))
        shown.goto(page.as_uri())
        assert '<img src=x onerror="alert(1)">\\u202e' in shown.inner_text("main") and not problems


def test_the_page_sorts_and_filters(runs: list[Run], tmp_path: Path, browser: Any) -> None:
    short = make_run(tmp_path / "runs", "short", ["a", "z"], LEVELS, images=6, resamples=True, leave=1)
    rewrite(short, models={"z": {"parameters": 9_000_000}})  # z lacks a cell: no place, but a size
    page, _ = rb.write_leaderboard([*(run.path for run in runs), short.path], tmp_path / "site")

    def names(shown: Any) -> list[str]:
        return [row.inner_text() for row in shown.locator("tbody th").all() if row.is_visible()]

    with browser.new_page() as shown:
        errors: list[str] = []
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.goto(page.as_uri())
        assert names(shown) == ["b", "c", "a", "z", "a"]
        head = shown.locator("section").first.get_by_role("button", name="mPC")
        head.click()
        assert names(shown)[0] == "a" and names(shown)[3] == "z"
        head.click()
        assert names(shown)[2:4] == ["a", "z"]
        assert shown.locator("th[aria-sort=descending]").count() == 1
        size = shown.locator("section").first.get_by_role("button", name="Parameters")
        size.click()
        assert (names(shown)[0], names(shown)[3]) == ("a", "z")
        size.click()
        assert (names(shown)[0], names(shown)[3]) == ("z", "a")
        shown.fill("#filter", "severity 5")
        assert names(shown) == ["a"] and shown.inner_text("#count") == "1 shown"
        shown.fill("#filter", "")
        assert len(names(shown)) == 5 and not errors
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(page.as_uri())
    assert names(plain) == ["b", "c", "a", "z", "a"] and not plain.is_visible("#filter")
    plain.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_for_all_and_on_a_telephone(
    runs: list[Run], tmp_path: Path, browser: Any, scheme: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    page, _ = rb.write_leaderboard([run.path for run in runs], tmp_path / "site")
    with browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800}) as shown:
        shown.goto(page.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        found = axe.Axe().run(shown).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"][:99]) for v in serious] == []
        ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
