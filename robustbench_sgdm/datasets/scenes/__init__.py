"""The embedded data set `scenes`: rendered detection images in COCO form, the same wherever they are made."""

from robustbench_sgdm.datasets.scenes.render import CLASSES, VERSION, Scene, render_scene
from robustbench_sgdm.datasets.scenes.writer import write_split

__all__ = ["CLASSES", "VERSION", "Scene", "render_scene", "write_split"]
