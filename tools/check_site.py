"""Looks at the built site in a browser: nothing is fetched, axe has no serious finding, pages are whole without scripts.

    python tools/check_site.py [--all] [site]

Looks at one page of each kind, or with --all at every page, which takes minutes. Needs Chromium and playwright; without
Chromium it says so, and ends with 1 if ROBUSTBENCH_BROWSER=required.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Literal

SAMPLE = (
    "index",
    "tutorials/first-run",
    "how-to/datasets",
    "reference/generated/corruptions",
    "reference/api",
    "explanation/speed",
    "glossary",
)
"""One page of each kind."""

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def main(folder: Path, *, every: bool) -> int:
    """Check the pages; gives the exit code."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    pages = list_pages(folder) if every else [folder / f"{name}.html" for name in SAMPLE]
    if not pages:
        print(f"{folder} has no page; run `make docs`")
        return 1
    if found is None:
        print("no Chromium here: the site was not looked at")
        return int(os.environ.get("ROBUSTBENCH_BROWSER") == "required")
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        plain = browser.new_context(java_script_enabled=False).new_page()
        page = browser.new_page()
        page.on(
            "request", lambda request: problems.append(request.url) if _is_elsewhere(request.url) else None
        )
        for path in pages:
            name, address = path.relative_to(folder), path.resolve().as_uri()
            serious = []
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                page.goto(address)
                serious += [
                    f"{name}, {scheme}: {one['id']}: {one['nodes'][0]['html'][:80]}"
                    for one in Axe().run(page).response["violations"]
                    if one["impact"] in ("serious", "critical")
                ]
            plain.goto(address)
            same = plain.inner_text("article") == page.inner_text("article")
            problems += serious + ([] if same else [f"{name}: other text without scripts"])
        browser.close()
    print(
        "\n".join(problems)
        or f"{len(pages)} pages, {' and '.join(SCHEMES)}: whole without scripts, nothing fetched, no serious finding"
    )
    return min(len(problems), 1)


def list_pages(folder: Path) -> list[Path]:
    """Sphinx's pages with a text of their own: not the index of names, nor the search, which needs scripts."""
    found = sorted(folder.rglob("*.html"))
    return [
        path
        for path in found
        if path.stem not in ("genindex", "search") and not path.is_relative_to(folder / "leaderboard")
    ]


def _is_elsewhere(address: str) -> bool:
    return not address.startswith(("file:", "data:"))


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--all"]
    sys.exit(main(Path(words[0] if words else "site"), every="--all" in sys.argv[1:]))
