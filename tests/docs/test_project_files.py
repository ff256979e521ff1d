"""Files about the project are what their readers take: citation, issue forms, containers."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import robustbench_sgdm
from tests.support.doc_pages import ROOT

FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
CHANGES = {f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}
INSTRUCTIONS = {"FROM", "RUN", "USER", "WORKDIR", "COPY", "CMD"}


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == robustbench_sgdm.__version__
    assert (
        "AGPL-3.0-or-later"
        in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license"]
    )
    assert citation["license"] == "AGPL-3.0-or-later"


def test_issue_forms_ask_for_something() -> None:
    forms = [
        yaml.safe_load(path.read_text("utf-8")) for path in FORMS.glob("*.yml") if path.name != "config.yml"
    ]
    assert len(forms) == 2
    for form in forms:
        assert {"name", "description", "body"} <= set(form)
        ids = [part["id"] for part in form["body"]]
        assert len(set(ids)) == len(ids) and all(part["attributes"]["label"] for part in form["body"])
        assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_containers_have_a_supported_python_and_install_by_the_makefile() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {line[0] for line in lines} <= INSTRUCTIONS and lines[0][0] == "FROM"
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    for image in (lines[0][1], container["image"]):
        version = re.search(r":3\.(\d+)-", image)
        assert version and 11 <= int(version[1]) <= 13
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert (
        container["postCreateCommand"] == "make .venv/installed" and ["RUN", "make .venv/installed"] in lines
    )
    assert (
        "$(VENV)/installed:" in makefile
        and "docs:" in makefile
        and "site" in (ROOT / ".gitignore").read_text("utf-8")
    )


def test_continuous_integration_skips_nothing_that_it_can_run() -> None:
    """The browser is required, the oldest Ultralytics is there, the site is built and looked at."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = script.splitlines()
    order = (
        "ROBUSTBENCH_BROWSER=required",
        "ROBUSTBENCH_ULTRALYTICS=",
        "make docs",
        "check_site.py",
        "make pythons",
        ") >build/documentation_and_pythons.log 2>&1 &",
        "background=$!",
        "make test",
        "wait $background",
    )
    places = [next(i for i, line in enumerate(lines) if part in line) for part in order]
    assert places == sorted(places)
    assert "set -euo pipefail" in lines and lines[-1] == "wait $background"  # a failure there is CI's
    oldest = subprocess.run(
        ["bash", "-c", f"{next(line for line in lines if line.startswith('oldest='))}; echo $oldest"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", oldest.stdout)


def test_the_changelog_is_in_the_form_that_its_head_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^#+ .+$", text, re.MULTILINE)
    assert headings[:2] == ["# Changelog", "## Unreleased"]
    for heading in headings[2:]:
        assert re.fullmatch(r"## \d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", heading) or heading in CHANGES, heading
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        _, *entries = re.split(r"^### .+$", section, flags=re.MULTILINE)
        assert entries and not re.search(r"^\*", section.partition("###")[0], re.MULTILINE)
        assert all(re.match(r"\n\n\* [A-Z`]", entry) for entry in entries)


def test_the_dockerfile_passes_its_linter() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint (the extra [dev]) is not installed")
    done = subprocess.run([linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
