"""A COCO json."""

from robustbench_sgdm.datasets import coco
from robustbench_sgdm.datasets.base import DatasetSource

SOURCE = DatasetSource(
    name="COCO json",
    description="path of a json with images, annotations and categories",
    load=lambda request: coco.load_coco(request.path, request.images),
    suffixes=(".json",),
    takes_images=True,
)
