"""The embedded data set `scenes`: rendered detection images in COCO form, the same wherever they are made."""

from .coco import make
from .render import CLASSES, VERSION, Scene, render

__all__ = ["CLASSES", "VERSION", "Scene", "make", "render"]
