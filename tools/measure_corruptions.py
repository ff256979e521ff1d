"""Measures the corruptions, for the reference: `docs/data/image_quality.csv` and `docs/data/pixel_parity.csv`.

    python tools/measure_corruptions.py

A few minutes: PSNR and SSIM on four photographs, and a run of the parity tests.
"""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd

from robustbench_sgdm import corruption

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data"


def main() -> None:
    """Measure, and write both tables."""
    registry, pictures = corruption.load_corruptions(), corruption.photographs()
    quality = [
        (one.name, severity, f"{psnr:.1f}", f"{ssim:.2f}")
        for one in registry
        for severity, (psnr, ssim) in enumerate(corruption.measure_image_quality(one, pictures), 1)
    ]
    columns = ["corruption", "severity", "psnr", "ssim"]
    pd.DataFrame(quality, columns=columns).to_csv(
        DATA / "image_quality.csv", index=False, lineterminator="\n"
    )
    parity = pd.DataFrame(_properties(), columns=["corruption", "severity", "compared", "result"])
    place = parity["corruption"].map(registry.names.index)
    parity = parity.assign(is_law=parity["compared"] == "law", place=place).sort_values(
        ["is_law", "place", "compared", "severity"]
    )
    columns = ["corruption", "compared", "severity", "result"]
    parity[columns].to_csv(DATA / "pixel_parity.csv", index=False, lineterminator="\n")


def _properties() -> list[tuple[str, int, str, str]]:
    """(corruption, severity, how compared, result) that the parity tests record."""
    tests = ROOT / "tests" / "corruptions"
    files = [str(tests / name) for name in ("test_parity.py", "test_fields.py")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        options = ["-q", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        subprocess.run([sys.executable, "-m", "pytest", *options, *files], check=True, cwd=ROOT)
        found = ET.parse(report).iterfind(".//property[@name='parity']")
        return [tuple(json.loads(entry.attrib["value"])) for entry in found]


if __name__ == "__main__":
    main()
