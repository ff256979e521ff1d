"""Writes the pages of the reference that repeat what the code says: commands, corruptions, figures, files, errors.

`make docs` calls it, so these pages are never older than the code. By itself:

    python tools/reference.py [FOLDER]
"""

import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image
from skimage import data as photographs

from robustbench_sgdm import cli, config, corruption, figures
from robustbench_sgdm.core import errors
from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.robustness.measures import MEASURES
from robustbench_sgdm.store import schema

DOCS = Path(__file__).parents[1] / "docs"
DATA = DOCS / "data"

RECORDS = (
    *("Manifest", "RecordedConfig", "ModelInfo", "DatasetInfo", "CorruptionInfo", "Settings", "Cell"),
    *("CellScores", "ErrorAnalysis", "TrainingResult", "Recipe", "ComparisonRecipe", "DashboardJob"),
)
"""Of `store.schema`: every json and YAML file that a run or a training writes."""

SEVERITIES = range(1, corruption.MAX_SEVERITY + 1)

WIDTH = 226
"""Of one picture in a sheet, px: half of the photograph, which is corrupted at its full size."""


def write_pages(folder: Path) -> None:
    """Write every page, and the sheets of pictures under `sheets/`.

    Args:
        folder: made if it is not there.
    """
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text(page(), "utf-8")
    for one in corruption.load_corruptions():
        draw_sheet(one).save(folder / "sheets" / f"{one.name}.jpg", quality=88)


def cli_page() -> str:
    """Every command and option, in the words of its own help."""
    head = """# Commands

`robustbench COMMAND --help` prints the same. Lists take commas and repeats. [Exit codes](exit-codes.md) tell scripts
how a command ended.
"""
    return head + "".join(_command_section(command, context) for command, context in commands())


def commands() -> Iterator[tuple[Any, Any]]:
    """Each command of `robustbench` with its context, those of `robustbench list` too."""
    group: Any = typer.main.get_command(cli.app)
    pending = [(group, group.make_context("robustbench", [], resilient_parsing=True))]
    while pending:
        command, context = pending.pop(0)
        if not hasattr(command, "commands"):
            yield command, context
        else:
            pending[:0] = [
                (one, one.make_context(name, [], parent=context, resilient_parsing=True))
                for name, one in command.commands.items()
            ]


def _command_section(command: Any, context: Any) -> str:
    usage = command.get_usage(context).removeprefix("Usage: ")
    about = escape(inspect.cleandoc(command.help or "").replace("\b", ""))
    records = [one.get_help_record(context) for one in command.params]
    rows = [[f"`{names.strip()}`", escape(text)] for names, text in filter(None, records)]
    return (
        f"\n## {context.command_path}\n\n{about}\n\n    {usage}\n\n{_table(['option', 'what it does'], rows)}"
    )


def corruptions_page() -> str:
    """Every corruption: what it does, its strengths, its source, how it looks and what it costs in PSNR and SSIM."""
    registry = corruption.load_corruptions()
    quality = pd.read_csv(DATA / "image_quality.csv").set_index(["corruption", "severity"])
    families = list(dict.fromkeys(one.family for one in registry))
    groups = "\n".join(f"* `{name}`: {_members(registry, name)}" for name in corruption.GROUPS)
    head = f"""# Corruptions

`--noise` takes these names, their aliases, families and groups, joined by commas. `robustbench list corruptions`
prints the strengths, and `robustbench list corruptions --measure --data DATA` measures them on images of your
own.

Severity 0 is the clean image. 1 to 5 are the published levels; strengths between them are interpolated. Each
picture shows a photograph (451 x 300 px, corrupted at that size) clean and at severities 1 to 5. PSNR and
SSIM are means over four photographs of scikit-image ({", ".join(corruption.PHOTOGRAPHS)}).

Boxes are never moved. elastic\\_transform, zoom\\_blur, motion\\_blur, hand\\_shake and rolling\\_shutter
displace what they frame, as in the published benchmark.

[How pixels are fixed](../../explanation/pixels.md) explains why every machine makes the same pixels.
[Parity with the reference](corruption-parity.md) compares ours with the published code.

## Groups

{groups}
"""
    parts = [head]
    for family in families:
        parts.append(f"\n## Family {family}\n")
        parts += [_corruption_section(one, quality) for one in registry if one.family == family]
    return "".join(parts) + _placement()


def _members(registry: corruption.CorruptionRegistry, group: str) -> str:
    names = [one.name for one in registry.select([group])]
    return f"all {len(names)}" if len(names) == len(registry.names) else ", ".join(f"`{n}`" for n in names)


def _corruption_section(one: Corruption, quality: pd.DataFrame) -> str:
    strengths = [
        [f"`{p.name}`", *(f"{value:g}" for value in p.strengths), escape(p.unit), escape(p.meaning)]
        for p in one.parameters
    ]
    measured = quality.loc[one.name]
    rows = [
        *strengths,
        ["PSNR", *(f"{measured.psnr[s]:.1f}" for s in SEVERITIES), "dB", "against the clean image"],
        ["SSIM", *(f"{measured.ssim[s]:.2f}" for s in SEVERITIES), "", "1 is the clean image"],
    ]
    drawn = "random" if one.random else "not random"
    aliases = f"Aliases: {', '.join(f'`{a}`' for a in one.aliases)}. " if one.aliases else ""
    heads = ["strength", *(f"severity {s}" for s in SEVERITIES), "unit", "meaning"]
    return f"""
### {one.name}

{escape(one.summary)}

![A cat under {one.name}: clean, then severities 1 to 5](sheets/{one.name}.jpg)

{_table(heads, rows)}
{aliases}Version {one.version}; {drawn}. Source: {escape(one.source)}.
"""


def _placement() -> str:
    return """
## How our own severities were chosen

halo and block\\_edges have the PSNR of gaussian\\_noise at each severity. ringing, aliasing and
chromatic\\_fringes have a higher PSNR, because at 10.6 dB nothing of an image would be left (its mean colour alone has
14.6 dB). Their severities were chosen by what a detector still finds. YOLOv8n has this AP on 128 images of COCO val2017,
and 43.0 on the clean ones:

| corruption | severity 1 | severity 2 | severity 3 | severity 4 | severity 5 |
| --- | --- | --- | --- | --- | --- |
| gaussian\\_noise | 31.0 | 24.1 | 13.2 | 5.6 | 2.2 |
| ringing | 25.9 | 19.4 | 11.4 | 4.8 | 2.4 |
| aliasing | 22.9 | 6.4 | 1.7 | 1.4 | 0.7 |
| chromatic\\_fringes | 36.7 | 30.8 | 24.1 | 17.5 | 12.1 |
| halo | 35.8 | 32.5 | 26.2 | 20.6 | 13.9 |
| block\\_edges | 18.4 | 16.0 | 12.4 | 11.8 | 9.1 |

Corruptions of equal PSNR can cost a detector more or less. sensor\\_noise, low\\_light, banding and bit\\_depth have the
PSNR of gaussian\\_noise. lens\\_aberration, hand\\_shake and rolling\\_shutter only displace content. As ringing does,
they have a higher PSNR.
"""


def parity_page() -> str:
    """How far our corruptions are from the published code, as `tools/measure_corruptions.py` measured."""
    frame = pd.read_csv(DATA / "pixel_parity.csv")
    wide = frame.pivot_table(
        index=["corruption", "compared"], columns="severity", values="result", aggfunc="first", sort=False
    )
    rows = [[name, how, *map(str, wide.loc[(name, how)])] for name, how in wide.index.tolist()]
    heads = [f"severity {s}" for s in SEVERITIES]
    detector = pd.read_csv(DATA / "detector_parity.csv")
    drawn = detector.dropna(subset="error")
    table = [
        [
            str(row.corruption),
            f"{row.torch:.2f}",
            f"{row.imgaug:.2f}",
            str(row.draws),
            f"{row.difference:+.2f}",
            "" if math.isnan(error := float(str(row.error))) else f"{error:.2f}",
            "yes" if row.same else "no",
        ]
        for row in detector.itertuples()
    ]
    pixels = [[escape(cell) for cell in row] for row in rows if row[1] != "law"]
    laws = [[escape(row[0]), *row[2:]] for row in rows if row[1] == "law"]
    columns = ["corruption", "torch", "imgaug", "draws", "difference", "standard error", "within the draw"]
    mean, together = drawn["difference"].mean(), (drawn["error"] ** 2).sum() ** 0.5 / len(drawn)
    where = "within" if abs(mean) <= 2 * together else "outside"
    return f"""# Parity with the reference corruptions

`python tools/measure_corruptions.py` measured the pixels, `python tools/detector_parity.py` the AP. The reference is
imgaug's `imgcorruptlike`, or `imagecorruptions`.

## Pixels

Share of values that are more than one grey level from the reference, and in brackets the largest distance in levels.
At most 0.1 % is tolerated. Photographs of scikit-image and COCO.

{_table(["corruption", "compared", *heads], pixels)}
The reference computes in double precision and truncates. Where a rounding of 1e-14 falls below a whole number,
its value is one level lower; ours allows 0.001 levels for that. Random corruptions are given the field that the
reference draws at its
seed. Only shot\\_noise and impulse\\_noise take a byte from one number, where the reference counts photons, or
draws a mask and a coin. They are compared in law.

## Noise in law

Two independent results on one photograph: differences of the mean, the variance, the histogram, the correlation between
channels (5 tolerated), and the autocorrelation at its worst lag (6.5 tolerated). Each is in standard deviations of a
draw.

{_table(["corruption", *heads], laws)}
## AP of a detector

AP in percent of YOLOv8n on 128 images of COCO val2017 at severity 3, means over independent draws. The standard
error is of the spread of the draws of all random corruptions. A difference is within the draw below three
standard errors; without a
draw, below 0.1.

{_table(columns, [[escape(cell) for cell in row] for row in table])}
Random ones together: {mean:+.2f}, standard error {together:.2f}: 0 lies {where} two standard errors. Every draw is in
`docs/data/detector_parity_draws.csv`.

These are draws of version 2 of the random corruptions, by Philox4x32-10. Six draws of version 1, from torch's own
generators, gave -0.37 with a standard error of 0.13 for the random ones together. frost (-1.04) and
elastic\\_transform (-0.96, standard error 0.43 each) were lowest then.
"""


def draw_sheet(one: Corruption) -> Image.Image:
    """A photograph clean and at severities 1 to 5, side by side."""
    image = np.ascontiguousarray(photographs.chelsea())  # type: ignore[no-untyped-call]
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    shown = [
        corruption.apply_corruption(one, batch, severity, seed=0, image_ids=[0])[0].permute(1, 2, 0).numpy()
        for severity in (0, *SEVERITIES)
    ]
    height = round(image.shape[0] * WIDTH / image.shape[1])
    sheet = Image.new("RGB", ((WIDTH + 4) * len(shown) - 4, height), "white")
    for place, picture in enumerate(shown):
        sheet.paste(
            Image.fromarray(picture).resize((WIDTH, height), Image.Resampling.LANCZOS),
            (place * (WIDTH + 4), 0),
        )
    return sheet


def figures_page() -> str:
    """Every figure: what it shows, and its section of the report."""
    rows = [[f"`{f.name}`", escape(f.description), f"`{f.section}`"] for f in figures.all_figures().values()]
    return f"""# Figures

    robustbench figure NAME RUN --out FILE.svg

The suffix of `--out` decides the format: SVG, PDF or PNG. `run.figure(NAME).save(FILE)` is the same in Python.
Every figure has one colour per model, a caption in words, and a CSV with its numbers
([columns](../files.md#figures)).

{_table(["name", "shows", "section of the report"], rows)}"""


def measures_page() -> str:
    """The measures beside COCO's, in the words of the code."""
    rows = [
        [
            f"`{name}`",
            escape(one.description),
            "lower" if one.lower_is_better else "higher",
            "yes" if one.needs_confidence else "no",
        ]
        for name, one in MEASURES.items()
    ]
    return f"""# Measures in use

`robustbench compare RUN --metrics NAME,NAME` takes these names. The [metrics page](../metrics.md) has formulas
and references.

{_table(["name", "what it is", "better", "at the operating confidence"], rows)}"""


def manifest_page() -> str:
    """Every field of every json and YAML file, from the docstrings of `store.schema`, which checks them."""
    head = """# Fields of manifests and records

`robustbench_sgdm/store/schema.py` checks every json and YAML file when it is read; this page is made from it. A file of
another schema is rejected with a one-line error. A field that this version does not know is kept and not used.
"""
    return head + "".join(_record_section(getattr(schema, name)) for name in RECORDS)


def _record_section(record: type) -> str:
    about, _, _ = (inspect.getdoc(record) or "").partition("\n")
    rows = [[f"`{name}`", text] for name, text in attributes(record)]
    return f"\n## {record.__name__}\n\n{about}\n\n{_table(['field', 'what it is'], rows)}"


def attributes(record: type) -> Iterator[tuple[str, str]]:
    """The fields that a record's docstring lists, and what it says of each."""
    _, _, listed = (inspect.getdoc(record) or "").partition("Attributes:\n")
    listed, _, _ = listed.partition("\n\n")
    for match in re.finditer(r"^    (\w+): (.+(?:\n {8}.+)*)", listed, re.MULTILINE):
        yield match[1], " ".join(match[2].split())


def config_page() -> str:
    """Every configuration: the settings that functions and commands take."""
    head = """# Settings

`rb.evaluate`, `rb.train`, ... take the fields of these classes as arguments. Commands have an option for each.
"""
    names = sorted(name for name in vars(config) if name.endswith("Config"))
    return head + "".join(_record_section(getattr(config, name)) for name in names)


def exit_codes_page() -> str:
    """What each exit code means, and which errors end in it."""
    classes: list[type[errors.RobustBenchError]] = [errors.RobustBenchError]
    for one in classes:
        classes += one.__subclasses__()
    own = [one for one in classes if one.__module__ == errors.__name__]
    rows = [
        [f"`{one.__name__}`", str(one.exit_code), escape((inspect.getdoc(one) or "").partition("\n")[0])]
        for one in own
    ]
    return f"""# Exit codes and errors

| code | meaning |
| --- | --- |
| 0 | The command succeeded. |
| 1 | It failed: a file is missing or damaged, cells are missing at the end, or `checks` found a problem. |
| 2 | The command was wrong: an unknown option or name, or an impossible value. |
| 3 | `compare`: a threshold of `--fail-under` or `--max-drop` failed. |
| 130 | The user or the system stopped it (Ctrl-C, SIGTERM). The same command resumes; `train` needs `--resume`. |

A wrong command prints one line, `error: ...`, and no traceback. In Python the same errors are exceptions of
`robustbench_sgdm`:

{_table(["error", "exit code", "when"], rows)}"""


def schema_json() -> str:
    """The JSON schema of `manifest.json`, for programs."""
    return json.dumps(schema.Manifest.model_json_schema(), indent=1)


def escape(text: str) -> str:
    """Text as Markdown that shows it, code in backticks and options as code."""
    text = re.sub(r"(?<![`\w-])(--[a-z][\w-]*)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\1`", text)
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(one if one.startswith("`") else re.sub(r"([\\|<>*_\[\]])", r"\\\1", one) for one in parts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |\n" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "cli": cli_page,
    "corruptions": corruptions_page,
    "corruption-parity": parity_page,
    "figures": figures_page,
    "measures": measures_page,
    "manifest": manifest_page,
    "settings": config_page,
    "exit-codes": exit_codes_page,
}
"""Names of pages and what writes each."""


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]) if sys.argv[1:] else DOCS / "reference" / "generated")
