"""The report of a stored run: valid, whole, accessible; what it prints reads back as what is stored."""

import base64
import html
import io
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import html5lib
import pandas as pd
import pyarrow.parquet as pq
import pypdf
import pytest

from robustbench_sgdm import api, cli, corruption, leaderboard, report, tables
from robustbench_sgdm.core import glossary
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.report.sections import make_sections
from robustbench_sgdm.report.table_width import split_to_page
from robustbench_sgdm.store import Run, runs
from robustbench_sgdm.sweep import make_corrupted_images
from robustbench_sgdm.tables import Table
from tests.support.doc_pages import documented_columns
from tests.support.synthetic_runs import changed

MODEL = "base-sgdm[razor=0.25,a<b]"


@pytest.fixture(scope="module")
def written(complete_run: Run) -> Run:
    """A run with its report."""
    analysis = RunAnalysis(complete_run, resamples=200, max_images=2)
    make_corrupted_images(
        complete_run,
        [*analysis.image_refs, *analysis.contact_sheet],
        {c.name: c for c in corruption.load_corruptions()},
    )
    report.write_report(analysis)
    return complete_run


def text_of(run: Run) -> str:
    return (run.path / "report.html").read_text("utf-8")


def test_it_is_one_valid_file_that_needs_no_network(written: Run) -> None:
    text = text_of(written)
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<script" not in text and not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert not re.search(r"url\((?!.?data:)", text)
    identifiers = re.findall(r'\sid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(identifiers)
    assert all(re.search(r'alt="[^"]{30,}"', tag) for tag in re.findall(r"<img[^>]*>", text))


def test_odd_names_are_escaped(written: Run) -> None:
    text = text_of(written)
    assert "<b>bold" not in text and "&lt;b&gt;bold&lt;/b&gt; &amp;" in text
    assert "a&lt;b]" in text and "[razor=0.25,a<b]" not in text


def test_classes_without_a_counterpart_and_notes_are_named(written: Run) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", text_of(written)))
    assert "base does not know fire hydrant, which count as AP 0" in text
    assert "base knows <u>zebra, dog, which" in text and "base: read <so>" in text
    paper = " ".join(page.extract_text() for page in pypdf.PdfReader(written.path / "report.pdf").pages)
    assert "zebra, dog" in " ".join(paper.split())


def test_the_same_run_gives_the_same_file(written: Run) -> None:
    before = text_of(written)
    report.write_report(RunAnalysis(written, resamples=200, max_images=2))
    assert text_of(written) == before


def test_results_csv_terminal_latex_and_report_agree(written: Run, command: Callable[..., str]) -> None:
    """Every score of every cell, as `results` prints it."""
    stored = pd.read_csv(written.path / "results.csv")
    shown = tables_of(text_of(written))["AP, AP50 and AP_S of every cell"]
    words = ("results", str(written.path), "--resamples", "200", "--all")
    terminal, latex = command(*words), latex_tables(command(*words, "--format", "latex"))
    models = list(dict.fromkeys(stored["model"]))
    for name in ("gaussian_noise", "fog"):
        rows = stored[stored["corruption"].isin(["clean", name])]
        printed, document = terminal_rows(terminal, tables.humanize(name)), latex[tables.humanize(name)]
        severities = sorted(set(rows["severity"]))
        for severity, line, texed in zip(severities, printed, document, strict=True):
            at = f"{severity:g}" if severity else "0 (clean)"
            cell = f"{tables.humanize(name)} {at}" if severity else "clean"
            assert line[0] == at == texed[0]
            own = rows[rows["severity"] == severity].set_index("model")
            # Of AP two scores, the difference, its interval and p; of the others no interval.
            for metric, place in zip(tables.METRICS_SHOWN, (1, 6, 9), strict=True):
                said = [f"{own.loc[model, metric]:.2f}" for model in models]
                assert line[place : place + 2] == texed[place : place + 2] == said
                assert [shown[cell][f"{metric}{model}"] for model in models] == said


def terminal_rows(text: str, title: str) -> list[list[str]]:
    """The rows of a table that the terminal shows."""
    table = re.split(rf"^ *{re.escape(title)} *$", text, maxsplit=1, flags=re.MULTILINE)[1]
    rows = re.split("─ *\n", table, maxsplit=1)[1]
    lines = itertools.takewhile(str.strip, rows.splitlines())
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


def latex_tables(text: str) -> dict[str, list[list[str]]]:
    """Caption -> rows of cells, of a LaTeX document."""
    found = {}
    for table in text.split(r"\begin{table}")[1:]:
        caption = re.search(r"\\caption{(.*)}\n", table)
        assert caption
        rows = table.partition("\\midrule\n")[2].partition("  \\bottomrule")[0].splitlines()
        cells = [[cell.strip() for cell in row.removesuffix("\\\\").split(" & ")] for row in rows]
        found[re.sub(r"\\text\w+{}|\\", "", caption[1])] = cells
    return found


def tables_of(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Every table of an HTML page: caption -> row -> column -> cell."""
    found = {}
    for table in html5lib.parse(text, namespaceHTMLElements=False).iter("table"):
        heads = ["".join(head.itertext()) for head in table.findall("thead/tr/th")]
        rows = [["".join(cell.itertext()) for cell in row] for row in table.findall("tbody/tr")]
        found[table.findtext("caption")] = {row[0]: dict(zip(heads, row, strict=True)) for row in rows}
    return found


_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def test_html_csv_latex_and_pdf_have_the_same_numbers(written: Run, command: Callable[..., str]) -> None:
    page = html5lib.parse(text_of(written), namespaceHTMLElements=False)
    whole = "".join(p.extract_text() + "\n" for p in pypdf.PdfReader(written.path / "report.pdf").pages)
    paper = " ".join(whole.split())
    blocks = [one for one in page.iter("div") if (one.get("class") or "").split()[:1] == ["table"]]
    assert len(blocks) >= 12
    latex = latex_tables(
        command("results", str(written.path), "--resamples", "200", "--format", "latex", "--all")
    )
    shown: dict[str, list[list[str]]] = {}
    for block in blocks:
        (table,), (link,) = list(block.iter("table")), list(block.iter("a"))
        rows = [["".join(cell.itertext()) for cell in row] for row in table.findall("tbody/tr")]
        kind, _, content = link.get("href").partition(";base64,")
        assert kind == "data:text/csv;charset=utf-8" and link.get("download").endswith(".csv")
        stored = pd.read_csv(io.BytesIO(base64.b64decode(content)), dtype=str, keep_default_na=False)
        numbers = [_NUMBER.findall(" ".join(row[1:])) for row in rows]
        heads = [" ".join(head.itertext()) for head in table.findall("thead/tr/th")]
        parts = len(split_to_page(Table("", heads, rows)))
        for row, (_, csv), own in zip(rows, stored.iterrows(), numbers, strict=True):
            assert _NUMBER.findall(" ".join(csv.iloc[1:])) == own, row
            assert parts_in(row[1:], paper) <= parts, row
        shown[table.findtext("caption") or ""] = numbers
    in_both = shown.keys() & latex.keys()
    assert len(in_both) >= 10
    for caption in in_both:
        plain = [re.sub(r"\\text\w+{}", " ", " ".join(row[1:])) for row in latex[caption]]
        assert [_NUMBER.findall(text) for text in plain] == shown[caption], caption


def parts_in(cells: list[str], paper: str) -> int:
    """Into how many parts, each as long as it can be, a row must be cut to be found on paper."""
    words, parts = [" ".join(cell.split()) for cell in cells], 0
    while words:
        found = [k for k in range(1, len(words) + 1) if " ".join(words[:k]) in paper]
        assert found, words
        words, parts = words[found[-1] :], parts + 1
    return parts


def told(analysis: RunAnalysis) -> list[tables.Verdict]:
    """The verdicts on the material's intervals as they are now."""
    return tables.verdicts(
        analysis.intervals, analysis.run.baseline_pairs, analysis.metric_name, analysis.primary_set
    )


def test_the_words_of_the_verdict_come_from_the_one_rule(complete_run: Run) -> None:
    analysis = RunAnalysis(complete_run, resamples=200)
    frame = analysis.intervals
    chosen = (frame["statistic"] == "mPC") & (frame["baseline"] == "base") & (frame["metric"] == "AP")
    for low, high, said in (
        (
            0.9,
            3.3,
            f"{MODEL} scores higher than base under gaussian noise and fog at severities 1, 3, 5: +2.10 mPC, 95 % "
            "interval +0.90 to +3.30",
        ),
        (-3.3, -0.1, f"{MODEL} scores lower than base under gaussian noise and fog at severities 1, 3, 5: "),
        (
            -0.1,
            3.3,
            f"No difference between {MODEL} and base could be shown under gaussian noise and fog at severities 1, 3, 5: ",
        ),
    ):
        frame.loc[chosen, ["estimate", "low", "high"]] = (low + high) / 2, low, high
        frame.loc[chosen, "significant"] = low * high > 0
        (verdict,) = told(analysis)
        assert verdict.headline.startswith(said)


def test_the_verdict_names_families_that_differ_either_way(complete_run: Run) -> None:
    """A mean may hide opposite families; p is corrected over them."""
    analysis = RunAnalysis(complete_run, resamples=200)
    frame = analysis.intervals
    chosen = (frame["statistic"] == "mPC") & (frame["baseline"] == "base") & (frame["metric"] == "AP")
    columns = ["estimate", "low", "high", "p_holm", "significant"]
    frame.loc[chosen & (frame["family"] == "noise"), columns] = -1.29, -2.4, -0.19, 0.02, True
    frame.loc[chosen & (frame["family"] == "weather"), columns] = 2.5, 1.34, 3.46, 0.002, True
    (verdict,) = told(analysis)
    assert verdict.details[0] == (
        f"By family {MODEL} scores lower under noise (-1.29, 95 % interval -2.40 to -0.19, p 0.020); higher under "
        "weather (+2.50, 95 % interval +1.34 to +3.46, p 0.002); p is corrected by Holm over the 2 families, "
        "intervals are not"
    )
    frame.loc[chosen, "significant"] = False
    assert not any("By family" in d for d in told(analysis)[0].details)


def test_a_verdict_is_the_stored_statistics(written: Run) -> None:
    rows = RunAnalysis(written, resamples=200).intervals
    (row,) = rows[
        (rows["statistic"] == "mPC") & (rows["baseline"] == "base") & (rows["metric"] == "AP")
    ].to_dict("records")[:1]
    found = re.search(
        r'<p class="said">.*?: (\S+) mPC, 95\u00a0% interval (\S+) to (\S+)\.</p>', text_of(written)
    )
    assert found
    assert found.groups() == tuple(f"{row[k]:+.2f}" for k in ("estimate", "low", "high"))


def test_half_lives_calibration_and_mce_are_told(written: Run) -> None:
    shown, analysis = tables_of(text_of(written)), RunAnalysis(written, resamples=200)
    halves = shown["Severity at which half of the clean AP is lost"]
    for row in analysis.half_severities.to_dict("records"):
        said = "> 5" if row["severity"] > 5 else f"{row['severity']:.2f} ["
        assert halves[tables.humanize(row["corruption"])][row["model"]].startswith(said)
    means = analysis.calibration.groupby(["model", "severity"])["ece"].mean().reset_index()
    told = shown["Calibration error of confidence (points)"]
    for row in means.to_dict("records"):
        at = "clean" if row["severity"] == 0 else f"severity {row['severity']:g}"
        assert told[f"{row['model']}, {at}"]["expected"] == f"{100 * row['ece']:.2f}"
    frame = analysis.intervals
    errors = frame[(frame["statistic"] == "mCE") & (frame["metric"] == "AP")].set_index("over")["estimate"]
    assert shown["Means of AP at severities 1, 3, 5"]["mCE, weather"][MODEL].startswith(
        f"{errors['fog at 1, 3, 5']:.2f} ["
    )


def test_a_time_differs_only_where_its_interval_leaves_out_one() -> None:
    rows = [("a", 10.0, 1.0, 1.0, 1.0), ("b", 9.0, 0.893, 0.645, 1.162), ("c", 13.0, 1.3, 1.25, 1.4)]
    frame = pd.DataFrame(rows, columns=["model", "milliseconds", "ratio", "low", "high"])
    assert tables.latency_summary(frame) == [
        "a 10.0 ms",
        "b 9.0 ms, not distinguishable from a: 0.89 [0.65, 1.16]",
        "c 13.0 ms, 1.30 [1.25, 1.40] of a's time",
    ]
    assert tables.latency_summary(frame.head(0)) == []
    assert not tables.are_distinguishable(float("nan"), float("nan"))


@pytest.mark.parametrize("shared", [True, False])
def test_a_difference_by_seed_beside_means_of_other_seeds_is_explained(shared: bool) -> None:
    results = pd.DataFrame({"model": ["a", "b"], "corruption": "fog", "severity": 1.0, "AP": [20.0, 23.0]})
    of = {"statistic": "score", "baseline": "a", "model": "b", "corruption": "fog", "severity": 1.0}
    numbers = {"estimate": 3.0 if shared else 5.0, "low": 1.0, "high": 9.0, "p_holm": 0.01}
    intervals = pd.DataFrame([{**of, "metric": "AP", **numbers, "significant": True}])
    (table,) = tables.corruption_tables(results, [("a", "b")], ["AP"], intervals)
    assert table.rows[0][3] == ("+3.00*" if shared else "+5.00*")
    assert any("b minus a over the seeds that both" in note for note in table.notes) != shared


def test_on_paper_what_was_run_is_on_one_page(written: Run) -> None:
    pages = [page.extract_text() for page in pypdf.PdfReader(written.path / "report.pdf").pages]
    assert any("What was run" in p and "of model, corruption and severity" in p for p in pages)


def test_a_heading_stays_with_what_follows_it(written: Run) -> None:
    made = html5lib.parse(text_of(written), namespaceHTMLElements=False)
    for section in made.iter("section"):
        (lead,) = section.findall("div[@class='lead']")
        heading, *rest = lead
        assert heading.tag == "h2" and rest and section[0] is lead


def test_facts_are_in_words(written: Run) -> None:
    repeat = text_of(written).partition('id="provenance"')[2].partition("</section>")[0]
    assert repeat and not re.search(r"\b(None|False|True)\b", repeat)


def test_every_pair_is_shown_side_by_side(written: Run) -> None:
    models = {"base": {"baseline": MODEL}, MODEL: {"baseline": "base"}}
    analysis = RunAnalysis(
        Run(written.path, changed(written.manifest, models=models)), resamples=200, max_images=2
    )
    (section,) = (s for s in make_sections(analysis) if s.id == "detections")
    assert [p.title for p in section.figures] == [
        *(f"where {a} finds more than {b}" for a, b in (("base", MODEL), (MODEL, "base"))),
        *(f"where {a} finds more than {b}" for a, b in ((MODEL, "base"), ("base", MODEL))),
    ]


def test_without_an_interval_nothing_is_said(complete_run: Run) -> None:
    analysis = RunAnalysis(complete_run, resamples=200)
    frame = analysis.intervals
    frame.loc[frame["baseline"] == "base", ["low", "high", "p"]] = float("nan")
    (verdict,) = told(analysis)
    assert "no verdict, because there is no interval" in verdict.headline
    assert not any(word in verdict.headline for word in ("higher", "lower", "cells are missing"))


def test_the_pdf_has_text_pages_bookmarks_and_links(written: Run) -> None:
    document = pypdf.PdfReader(written.path / "report.pdf")
    texts = [page.extract_text() for page in document.pages]
    whole = " ".join(texts)
    assert f"{MODEL} against base" in whole.replace("\n", " ") and "How to reproduce it" in whole
    assert f"1 / {len(texts)}" in texts[0] and f"{len(texts)} / {len(texts)}" in texts[-1]
    assert all("against base on" in text for text in texts)  # the running head
    places = {
        str(entry.title): document.get_destination_page_number(entry)
        for entry in document.outline
        if not isinstance(entry, list)
    }
    for title, number in places.items():
        assert number is not None and (title in texts[number] or title == "Summary")
        assert re.search(rf"{re.escape(title)}\s+{number + 1}\b", texts[1]), f"{title} in the contents"
    assert next(iter(places)) == "Summary" and places["Summary"] == 0 and len(places) >= 9
    assert document.metadata and str(document.metadata.title).endswith("robustness report")
    links = [a for a in document.pages[1].get("/Annots", []) if a.get_object()["/Subtype"] == "/Link"]
    assert len(links) >= len(places)


def test_what_the_pdf_tells_a_screen_reader(written: Run) -> None:
    """Title and language; of tags links alone, which the documentation says. If the library does more, change that."""
    document = pypdf.PdfReader(written.path / "report.pdf")
    root: Any = document.trailer["/Root"]
    assert root["/Lang"] == "en" and root["/ViewerPreferences"]["/DisplayDocTitle"]
    tags: set[str] = set()
    waiting = [root["/StructTreeRoot"]]
    while waiting:
        node = waiting.pop().get_object()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            tags |= {str(node["/S"])} if "/S" in node else set()
            waiting += [node["/K"]] if "/K" in node else []
    assert tags == {"/Link"} and "/MarkInfo" not in root


def test_nothing_is_clipped_and_no_heading_is_orphaned(written: Run) -> None:
    document = pypdf.PdfReader(written.path / "report.pdf")
    titles = {str(e.title) for e in document.outline if not isinstance(e, list)}
    for page in document.pages:
        lines, right = placed(page)
        assert right < float(page.mediabox.width) - 30
        body = [line for line in lines if not re.fullmatch(r"\d+ / \d+", line)]
        assert body[-1] not in titles


def placed(page: Any) -> tuple[list[str], float]:
    """The texts of a page, and where the last of them to the right begins, in points."""
    lines: list[str] = []
    starts = [0.0]

    def visit(text: str, _: Any, matrix: Any, *__: Any) -> None:
        if text.strip():
            lines.append(text.strip())
            starts.append(matrix[4])

    page.extract_text(visitor_text=visit)
    return lines, max(starts)


def test_the_figures_and_their_numbers_lie_beside(written: Run) -> None:
    named = set(re.findall(r"<code>figures/([\w-]+)\.csv</code>", text_of(written)))
    assert {"severity", "differences", "means", "sizes", "errors", "classes", "side-by-side-1"} <= named
    for name in named:
        assert len(pd.read_csv(written.path / "figures" / f"{name}.csv"))
        drawn = {path.suffix for path in (written.path / "figures").glob(f"{name}.*")}
        assert drawn == {".csv", ".svg"}


def test_a_section_without_data_is_left_out(written: Run) -> None:
    text = text_of(written)
    assert 'id="errors"' in text and 'id="training"' not in text and 'id="image-quality"' not in text
    assert "None</" not in text and not re.search(r"\bnan\b", re.sub(r'src="[^"]*"', "", text))


def test_accessibility_in_a_browser(written: Run, browser: Any) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((written.path / "report.html").as_uri())
        found = axe.Axe().run(page).response["violations"]
        assert [
            (v["id"], v["nodes"][0]["html"][:99]) for v in found if v["impact"] in ("serious", "critical")
        ] == []
        page.close()


def test_the_page_allows_nothing_but_itself(written: Run, browser: Any, tmp_path: Path) -> None:
    """What got into it all the same would neither run, nor be fetched, nor change its looks."""
    text = text_of(written)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert html.unescape(policy).startswith(
        "default-src 'none'; img-src data:; font-src data:; style-src 'sha256-"
    )
    forged = (
        "<script>document.title = 'ran'</script><img src='http://away.invalid/a.png' onerror=\"document.title='ran'\">"
        "<style>h1 { color: rgb(1, 2, 3) !important }</style><iframe src='http://away.invalid/'></iframe>"
        "<link rel=stylesheet href='http://away.invalid/a.css'><base href='http://away.invalid/'>"
        "<h2 style='color: rgb(1, 2, 3)'>x</h2><form action='http://away.invalid/'><button>send</button></form>"
    )
    (tmp_path / "forged.html").write_text(text.replace("<h1 ", f"{forged}<h1 "), "utf-8")
    assert leaderboard._is_inert(text.encode()), "the leaderboard copies it"
    assert not leaderboard._is_inert((tmp_path / "forged.html").read_bytes())
    for file in (written.path / "report.html", tmp_path / "forged.html"):
        page = browser.new_page()
        told: list[str] = []
        away: list[str] = []
        page.on("console", lambda message, told=told: told.append(message.text))
        page.on(
            "request",
            lambda request, away=away, file=file: (
                away.append(request.url) if request.url.startswith("http") else None
            ),
        )
        page.goto(file.as_uri())
        assert page.title() != "ran"
        looks = page.eval_on_selector_all("h1, h2", "all => all.map(e => getComputedStyle(e).color)")
        assert "rgb(1, 2, 3)" not in looks
        # Its own style is used.
        assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
        assert page.evaluate("[...document.querySelectorAll('figure img')].every(i => i.naturalWidth > 0)")
        if file == written.path / "report.html":
            assert told == [] and away == []
        else:
            page.evaluate("document.forms[0].submit()")
            page.wait_for_timeout(200)
            assert page.url == file.as_uri() and any("Content Security Policy" in line for line in told)
        page.close()


def test_it_reads_without_javascript_and_on_a_telephone(written: Run, browser: Any) -> None:
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 390, "height": 800}, offline=True
    )
    page = context.new_page()
    page.goto((written.path / "report.html").as_uri())
    assert page.locator("h1").is_visible() and page.locator("figure img").count() >= 8
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_an_empty_run_is_refused_and_a_partial_one_says_so(small_run: Run) -> None:
    (small_run.store.folder(small_run.cells[-1]) / "scores.json").unlink()
    report.write_report(RunAnalysis(small_run))
    text = text_of(small_run)
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<strong>Incomplete:</strong> 1 of 6" in text
    assert "No intervals, so no verdict" in text and "&lt;script&gt;" in text
    assert "Intervals cover" not in text and "Intervals: images" not in text
    assert text.count(tables.WITHOUT_INTERVALS) == 2  # on the first page, and under Limits
    for cell in small_run.cells[:-1]:
        (small_run.store.folder(cell) / "scores.json").unlink()
    with pytest.raises(DataError, match="no complete cell"):
        report.write_report(RunAnalysis(small_run))


def test_without_fonts_the_pdf_still_has_text(written: Run, tmp_path: Path) -> None:
    config = tmp_path / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig></fontconfig>'
    )
    script = (
        "import sys; from pathlib import Path; from robustbench_sgdm import report; "
        "from robustbench_sgdm.figures import RunAnalysis; from robustbench_sgdm.store import Run; "
        "report.write_report(RunAnalysis(Run.open(Path(sys.argv[1])), resamples=200, max_images=2), "
        "summary_only=True)"
    )
    environment = os.environ | {"FONTCONFIG_FILE": str(config)}
    subprocess.run(
        [sys.executable, "-c", script, str(written.path)], check=True, env=environment, timeout=300
    )
    document = pypdf.PdfReader(written.path / "summary.pdf")
    assert "Limits:" in " ".join(page.extract_text() for page in document.pages)


def test_the_command_ends_with_the_paths(
    written: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["robustbench", "report", str(written.path), "--summary", "--resamples", "200"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    lines = capsys.readouterr().err.splitlines()
    said = re.search(r'<p class="said">(.*?)\.</p>', (written.path / "summary.html").read_text("utf-8"))
    assert said and html.unescape(said[1]).replace("\u00a0%", " %") in lines[-3]
    assert [line.split()[-1] for line in lines[-2:]] == [
        str(written.path / "summary.html"),
        str(written.path / "summary.pdf"),
    ]


def test_quiet_prints_nothing_but_warnings(written: Run, command: Callable[..., str]) -> None:
    words = ("report", str(written.path), "--summary", "--resamples", "200")
    assert command(*words, "-q") == ""
    assert command(*words).splitlines()[-1].endswith("summary.pdf")


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (None, "has no manifest.json"),
        ('{"schema": 99}', "has schema 99, and this version reads 2: update"),
        ('{"a": [', "cannot be read"),
    ],
)
def test_a_foreign_directory_is_told(
    tmp_path: Path,
    plan: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if plan:
        (tmp_path / "manifest.json").write_text(plan)
    monkeypatch.setattr(sys, "argv", ["robustbench", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1 and said in capsys.readouterr().err


def test_terms_are_explained_in_the_glossary_s_words(written: Run) -> None:
    page = html.unescape((written.path / "report.html").read_text("utf-8"))
    listed = dict(
        re.findall(r"<dt>(.+?)</dt><dd>(.+?)</dd>", page.partition('id="glossary"')[2].partition("</dl>")[0])
    )
    assert len(listed) > 10 and listed == {name: glossary.define(name) for name in listed}
    assert f"mPC: {glossary.define_briefly('mPC')}." in page


def test_every_column_of_a_run_is_in_the_reference(written: Run) -> None:
    """Of a run with every figure, as `report` leaves it, section by section."""
    for name, known in (
        ("results.csv", runs.RESULTS),
        ("latency.csv", runs.LATENCY),
        ("image_quality.csv", runs.IMAGE_QUALITY),
    ):
        assert documented_columns(name) == {"": set(known)}
    detections = next(written.path.rglob("detections.parquet"))
    assert documented_columns("detections.parquet") == {"": set(pq.read_schema(detections).names)}
    truth = documented_columns("ground_truth")
    assert {path.name for path in (written.path / "ground_truth").glob("*.parquet")} == set(truth)
    for name, columns in truth.items():
        stored = set(pq.read_schema(written.path / "ground_truth" / name).names)
        assert stored <= columns and columns - stored <= {"upright"}, name
    statistics = documented_columns("statistics")
    stored_files = [path for path in (written.path / "statistics").rglob("*.*") if path.is_file()]
    assert len(stored_files) > 5
    for path in stored_files:
        name = re.sub(r"found-.*\.parquet", "found-CONFIDENCE.parquet", path.name)
        assert name in statistics, name
        if path.suffix == ".parquet" and name not in ("class_AP.parquet", "measures.parquet"):
            columns = {c for c in pq.read_schema(path).names if c not in METRICS}
            assert columns == statistics[name] - set(METRICS) - {"..."}, name


def test_every_column_of_a_figure_is_in_the_reference(written: Run) -> None:
    drawn = sorted((written.path / "figures").glob("*.csv"))
    assert len(drawn) > 14
    figures = documented_columns("figures")
    for path in drawn:
        own = figures.get(re.sub(r"-\d+\.csv$", "-N.csv", path.name), set())
        columns = set(pd.read_csv(path, nrows=0).columns)
        assert columns <= own | figures["every one"], path.name
        assert own <= columns, path.name


def test_every_column_of_a_comparison_is_in_the_reference(written: Run) -> None:
    comparison = api.compare(
        [api.Run.open(written.path)], metrics=["AP", "recall", "first-failure"], by_class=True, resamples=200
    )
    assert documented_columns("compare --format csv") == {"": set(comparison.rows().columns)}
