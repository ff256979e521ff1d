"""The pages say what is there: commands parse, links lead somewhere, and all that exists is documented."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import robustbench_sgdm as rb
from robustbench_sgdm import corruption, figures
from robustbench_sgdm.core import constants, errors, resources
from robustbench_sgdm.robustness.measures import MEASURES
from robustbench_sgdm.store import schema
from tests.support.doc_pages import DOCS, ROOT, blocks, pages, words

REFERENCE = DOCS / "reference"
TOOLS = ROOT / "tools"
reference = resources.import_file(TOOLS / "reference.py")
results = resources.import_file(TOOLS / "results.py")
COMMANDS = {context.command_path: command for command, context in reference.commands()}
PAGES = pages()


def _page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _own_commands(page: Path) -> Iterator[str]:
    """Every `robustbench ...` that a page shows, in blocks and in lines of build servers' files."""
    for block in blocks(page):
        lines = block.commands
        if block.language == "yaml":
            lines = [
                " ".join(line.removeprefix("-").split()) for line in _strings(yaml.safe_load(block.text))
            ]
        yield from (line for line in lines if line.startswith("robustbench "))


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for one in content.values() if isinstance(content, dict) else content:
            yield from _strings(one)


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_command_parses(page: Path) -> None:
    for line in _own_commands(page):
        given = words(line)
        path = " ".join(given[:3]) if given[1] == "list" else " ".join(given[:2])
        assert path in COMMANDS, line
        COMMANDS[path].make_context(path, given[len(path.split()) :])


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_option_in_the_text_exists(page: Path) -> None:
    known = {
        name
        for command in COMMANDS.values()
        for one in command.params
        for name in [*one.opts, *one.secondary_opts]
    }
    others = {
        "--hypothesis-profile",
        "--format-only",
        "--gpus-per-node",
        "--install",
        "--no-deps",
        "--target",
        "--out",
    }
    others |= {
        "--version",
        "--help",
        "--dest",
        "--no-index",
        "--find-links",
        "--wheel-dir",
        "--entrypoint-num-gpus",
        "--threads",
        "--repeats",
    }
    text = "\n".join(re.findall(r"`([^`\n]+)`", page.read_text("utf-8")))
    own = [
        line
        for line in text.splitlines()
        if not line.startswith(("python ", "pip ", "uvx ", "ray ", "sbatch ", "benchmarks/"))
    ]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join(own))) <= known | others


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_block_is_of_its_language(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "rb"
                ):
                    assert node.attr in rb.__all__, node.attr
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustbench_sgdm"):
                    for alias in node.names:
                        module = importlib.import_module(node.module or "")
                        if not hasattr(module, alias.name):
                            importlib.import_module(f"{node.module}.{alias.name}")
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "json":
            json.loads(block.text)
        assert block.language in ("", "python", "yaml", "json", "bash", "text", "toml"), block.language


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Also where no site is built, as on a forge; generated pages are there once it is."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"https?:|mailto:", target) or "generated/" in path:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            anchors = {
                _anchor(head) for head in re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            }
            anchors |= set(re.findall(r"^\((.+)\)=$", linked.read_text("utf-8"), re.MULTILINE))
            assert anchor in anchors, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_readme_fits_on_a_screen_and_begins_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 90
    assert lines[2].split()[:2] == ["make", "run"] and lines[3].split()[:2] == ["make", "test"]
    shown = re.findall(r"!\[[^\]]{20,}\]\((docs/images/[\w.]+)\)", "\n".join(lines))
    assert len(set(shown)) == len(shown) == 1 + 4  # the first, and what one gets


def test_the_reference_has_every_command_and_option() -> None:
    page = reference.cli_page()
    for path, command in COMMANDS.items():
        section = page.split(f"\n## {path}\n")[1].split("\n## ")[0]
        for one in command.params:
            assert all(name in section for name in one.opts), (path, one.opts)
            assert getattr(one, "help", None) or one.name == "help", (path, one.name)


def test_the_reference_has_every_corruption_with_its_measurements() -> None:
    page, quality = reference.corruptions_page(), pd.read_csv(DOCS / "data/image_quality.csv")
    names = corruption.load_corruptions().names
    shown = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(names) == sorted(set(quality["corruption"]))
    for one in corruption.load_corruptions():
        section = page.split(f"### {one.name}\n")[1].split("\n### ")[0]
        assert all(f"`{p.name}`" in section for p in one.parameters)
        assert "PSNR" in section and f"sheets/{one.name}.jpg" in section
    assert len(quality) == 5 * len(names)


def test_a_sheet_shows_the_clean_image_and_five_severities() -> None:
    sheet = reference.draw_sheet(corruption.load_corruptions().get("brightness"))
    parts = [
        sheet.crop(((reference.WIDTH + 4) * i, 0, (reference.WIDTH + 4) * i + reference.WIDTH, sheet.height))
        for i in range(6)
    ]
    means = [sum(part.convert("L").histogram()[i] * i for i in range(256)) for part in parts]
    assert means == sorted(means) and len(set(means)) == 6


def test_the_reference_has_every_figure_error_and_metric() -> None:
    assert all(f"`{name}`" in reference.figures_page() for name in figures.all_figures())
    codes = reference.exit_codes_page()
    assert all(f"`{name}`" in codes for name in rb.__all__ if name.endswith("Error"))
    assert all(hasattr(errors, name) for name in re.findall(r"`(\w+Error)`", codes))
    metrics = (REFERENCE / "metrics.md").read_text("utf-8")
    assert all(f"`{name}`" in metrics for name in [*constants.METRICS, *MEASURES, "first-failure"])
    assert all(f"`{name}`" in reference.measures_page() for name in MEASURES)


def test_the_reference_has_every_public_name() -> None:
    text = (REFERENCE / "api.md").read_text("utf-8")
    shown = set(re.findall(r"auto\w+:: (\w+)(?:\(.+\))?$", text, re.MULTILINE)) | set(
        re.findall(r"\[`(\w+)`\]", text)
    )
    assert shown == set(rb.__all__) - {"__version__"}


def test_every_field_of_a_record_is_in_the_reference() -> None:
    page = reference.manifest_page()
    records = {one.__name__ for one in schema.Record.__subclasses__() if one.__module__ == schema.__name__}
    assert records | {"Cell", "Settings", "ComparisonRecipe"} == set(reference.RECORDS)
    for name in reference.RECORDS:
        record: Any = getattr(schema, name)
        own = set(getattr(record, "model_fields", None) or record.__dataclass_fields__)
        inherited = {"versions"} if name == "ComparisonRecipe" else set()
        assert {field for field, _ in reference.attributes(record)} == own - inherited, name
        assert all(f"| `{field}` |" in page for field in own - inherited)


def test_every_environment_variable_is_in_the_reference() -> None:
    page = (REFERENCE / "environment.md").read_text("utf-8")
    used = set()
    files = [
        *(ROOT / "robustbench_sgdm").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(DOCS / "cluster").iterdir(),
    ]
    for path in files:
        text = path.read_text("utf-8")
        used |= set(re.findall(r"ROBUSTBENCH_[A-Z]+(?:_[A-Z]+)*", text))
        if "robustbench_sgdm" in path.parts:
            used |= set(re.findall(r"environ(?:\.get|\.setdefault|\.pop)?[(\[]\s*\"([A-Z_]+)\"", text))
    assert not [name for name in sorted(used) if f"`{name}`" not in page]


def test_what_the_environment_page_names_is_used() -> None:
    page = (REFERENCE / "environment.md").read_text("utf-8")
    folders = ("robustbench_sgdm", "tests", "docs/cluster")
    text = "".join(
        p.read_text("utf-8")
        for f in folders
        for p in (ROOT / f).rglob("*")
        if p.suffix in (".py", ".sh", ".yaml")
    )
    assert not [
        name
        for name in re.findall(r"^\| (.+?) \|", page, re.MULTILINE)[1:]
        for name in re.findall(r"`(\w+)`", name)
        if name not in text
    ]


def test_the_results_are_those_of_their_csv() -> None:
    tables = results.tables(results.DATA)
    pages = [path.read_text("utf-8") for path in results.PAGES]
    for page in pages:
        assert results.filled(page, tables) == page
    for name in tables:
        assert sum(f"<!-- table: {name} -->" in page for page in pages) == 1


def test_every_benchmark_is_in_the_one_table_with_its_date() -> None:
    """But the one that the page on interruptions has, and those that measure no speed: a study, and estimates."""
    page = (DOCS / "explanation" / "speed.md").read_text("utf-8")
    dated = re.findall(
        r"^\| `benchmarks/(\w+\.py)[^`]*` \| \d{4}-\d\d-\d\d \| (?:idle|busy) \|", page, re.MULTILINE
    )
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert sorted(dated) == sorted(scripts - {"driver.py", "evidence.py", "progress.py"})
    measured = pd.read_csv(DOCS / "data/speed_corruptions.csv")
    assert sorted(measured["corruption"]) == sorted(corruption.load_corruptions().names)
