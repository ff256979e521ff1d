"""Writes `corruptions.md`, beside this file, from the registry and a measurement.

python docs/corruptions.py
"""

from pathlib import Path

from robustbench_sgdm import corruption, tables
from robustbench_sgdm.tables import to_markdown

HEAD = """# Corruptions

Written by `docs/corruptions.py`; `robustbench list corruptions` shows the strengths at each severity and
`robustbench list corruptions --measure --data ...` measures on images of your own.

Boxes are never moved: elastic_transform, zoom_blur and motion_blur displace what they frame, as in the
published benchmark.

"""


def main() -> None:
    """Measure on scikit-image's photographs, about 20 s, and write the page."""
    registry, pictures = corruption.load(), corruption.photographs()
    measured = {one.name: corruption.damage(one, pictures) for one in registry}
    damage = tables.damage_table(measured, f"scikit-image's {', '.join(corruption.PHOTOGRAPHS)}")
    about = [
        f"* **{one.name}** ({one.family}): {one.summary}\n  {one.describe()}.\n  {one.source}."
        for one in registry
    ]
    text = f"{HEAD}{to_markdown(damage)}\n## What they are\n\n" + "\n".join(about) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
