"""Writes `corruptions.md`, beside this file, from the registry, a measurement and a run of the parity tests.

    python docs/corruptions.py

The table of a detector's AP is made from `detector_parity.csv`, which `detector_parity.py` writes.
"""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pandas as pd

from robustbench_sgdm import corruption, tables
from robustbench_sgdm.tables import Table, format_number, to_markdown

HERE = Path(__file__).parent

CAVEAT = (
    "Made with the draws of before: version 1 of the random corruptions, from torch's own generators. "
    "The draws are of seeds 3 to 5, made to be judged on their own after those of seeds 0 to 2 had looked unlike chance: "
    "snow and fog had failed a first rule, which was widened then, and the random ones together gave -0.54, standard "
    "error 0.19. Fresh, snow, fog and motion_blur show nothing. Over all six draws the random ones together give -0.37, "
    "standard error 0.13; frost (-1.04) and elastic_transform (-0.96, standard error 0.43 each) are lowest, in both "
    "halves: a twentieth of their loss of AP, which nothing in their pixels explains and these draws do not rule out."
)

EDGES = (
    "halo and block_edges are placed where their PSNR is that of gaussian_noise. ringing, aliasing and chromatic_fringes "
    "end above it: what is left at 10.6 dB is no image (its mean colour alone has 14.6 dB). They are placed by what they "
    "leave of an object instead: YOLOv8n on the 128 COCO images below has 31.0, 24.1, 13.2, 5.6, 2.2 AP under "
    "gaussian_noise, 25.9, 19.4, 11.4, 4.8, 2.4 under ringing, 22.9, 6.4, 1.7, 1.4, 0.7 under aliasing, 36.7, 30.8, "
    "24.1, 17.5, 12.1 under chromatic_fringes, 35.8, 32.5, 26.2, 20.6, 13.9 under halo, 18.4, 16.0, 12.4, 11.8, "
    "9.1 under block_edges, and 43.0 on clean ones: equal PSNR is not equal harm."
)

CAMERA = (
    "sensor_noise, low_light, banding and bit_depth are placed at the PSNR of gaussian_noise. lens_aberration, "
    "hand_shake and rolling_shutter only move content about and end above it, as ringing does."
)

HEAD = """# Corruptions

Written by `docs/corruptions.py`; `robustbench list corruptions` shows the strengths at each severity and
`robustbench list corruptions --measure --data ...` measures on images of your own.

Boxes are never moved: elastic_transform, zoom_blur, motion_blur, hand_shake and rolling_shutter displace what they frame,
as in the published benchmark.

## The same pixels

What is drawn depends on (seed, corruption, severity, image id) and on nothing else: Philox4x32-10, a counter-based
generator in integers, with tables of quantiles, gives the same draws on every processor and every GPU. What is left is
rounding of arithmetic:

* The four noises and zoom_blur are equal to the bit everywhere: they round as IEEE 754 says, step by step.
* All others are equal to the bit between x86-64 processors with AVX2, with and without AVX-512, given the same versions
  of NumPy, OpenCV and torch. On other processors OpenCV and torch may fuse a multiplication with an addition, or not.
* Elsewhere, GPUs included, a value may differ by one grey level, and at most 0.1 % of the values do. The tests hold every
  corruption to that: the tensor operations that a GPU runs against the CPU's own code.

Two machines are compared by a manifest, which holds the sha256 of each image's H x W x 3 RGB bytes, clean and corrupted:

    robustbench corrupt --data coco --noise benchmark --severity 1-5 --manifest coco.json     # on one
    robustbench corrupt --data coco --verify coco.json                                        # on the other

`robustbench corrupt --data scenes --verify docs/scenes_pixels.json` compares yours with ours: the first eight images of
`scenes` under the benchmark's 15 corruptions and 5 severities. All images go through the same code, so few are enough to
tell machines apart. `scenes` itself is drawn on your machine; the manifest holds its clean images too, and `--verify`
says which differ.

"""


def main() -> None:
    """Measure on scikit-image's photographs and run the parity tests, a few minutes, and write the page."""
    registry, pictures = corruption.load_corruptions(), corruption.photographs()
    measured = {one.name: corruption.measure_image_quality(one, pictures) for one in registry}
    damage = tables.image_quality_table(measured, f"scikit-image's {', '.join(corruption.PHOTOGRAPHS)}")
    damage = replace(damage, notes=[*damage.notes, EDGES, CAMERA])
    shown = [to_markdown(table) for table in (damage, *_parity(registry.names), _detector_parity())]
    about = [
        f"* **{one.name}** ({one.family}): {one.summary}\n  {one.describe()}.\n  {one.source}."
        for one in registry
    ]
    text = HEAD + "\n".join(shown) + "\n## What they are\n\n" + "\n".join(about) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, "utf-8")


def _parity(order: list[str]) -> tuple[Table, Table]:
    """What the parity tests measured: pixels apart, and laws of noise."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for name, severity, how, result in _properties():
        found.setdefault((name, how), {})[severity] = result
    rows = [
        (how, [name, *([how] if how != "law" else []), *(results[s] for s in range(1, 6))])
        for (name, how), results in sorted(found.items(), key=lambda item: order.index(item[0][0]))
        if len(results) == 5
    ]
    severities = [f"severity {s}" for s in range(1, 6)]
    pixels = Table(
        "Parity of pixels",
        ["corruption", "compared", *severities],
        [row for how, row in rows if how != "law"],
        [
            "Share of values more than a grey level from imgaug's `imgcorruptlike` or `imagecorruptions`, and the "
            "largest distance in levels, on photographs of scikit-image and COCO; at most 0.1 % is tolerated.",
            "The reference computes in double precision and truncates, which lowers a value by a level where "
            "a rounding of 1e-14 falls below a whole number; ours allows 0.001 levels for that.",
            "Random ones are given the field that the reference draws at its seed. Only shot_noise and impulse_noise "
            "take a byte's outcome from one number where the reference counts photons, or draws a mask and a coin; "
            "they are compared in law, below.",
        ],
    )
    laws = Table(
        "Parity of noise in law",
        ["corruption", *severities],
        [row for how, row in rows if how == "law"],
        [
            "Two independent results on one photograph, apart in their mean, variance, histogram, correlation between "
            "channels (5 tolerated) and autocorrelation at the worst of all lags, whose transform is the power "
            "spectrum (6.5 tolerated); each in standard deviations of a draw.",
        ],
    )
    return pixels, laws


def _properties() -> list[tuple[str, int, str, str]]:
    """(corruption, severity, how compared, result) that the parity tests record."""
    tests = HERE.parent / "tests" / "corruptions"
    files = [str(tests / name) for name in ("test_parity.py", "test_fields.py")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        options = ["-q", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        subprocess.run([sys.executable, "-m", "pytest", *options, *files], check=True, cwd=HERE.parent)
        found = ET.parse(report).iterfind(".//property[@name='parity']")
        return [tuple(json.loads(entry.attrib["value"])) for entry in found]


def _detector_parity() -> Table:
    frame = pd.read_csv(HERE / "detector_parity.csv")
    drawn = frame.dropna(subset="error")
    rows = [
        [
            row.corruption,
            format_number(row.torch),
            format_number(row.imgaug),
            str(row.draws),
            format_number(row.difference, signed=True),
            format_number(row.error),
            "yes" if row.same else "no",
        ]
        for row in frame.itertuples()
    ]
    return Table(
        "Parity of a detector's AP",
        ["corruption", "torch", "imgaug", "draws", "difference", "standard error", "within the draw"],
        rows,
        [
            "AP in percent of YOLOv8n on 128 images of COCO val2017 at severity 3, means over independent draws. The "
            "standard error is of the spread of the draws of all random ones. Within the draw: closer than three "
            "standard errors; without a draw, than 0.1, which one grey level here and there can exceed.",
            f"Random ones together: {drawn['difference'].mean():+.2f}, standard error "
            f"{(drawn['error'] ** 2).sum() ** 0.5 / len(drawn):.2f}.",
            CAVEAT,
        ],
    )


if __name__ == "__main__":
    main()
