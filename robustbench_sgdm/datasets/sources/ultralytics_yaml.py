"""An Ultralytics dataset YAML."""

from robustbench_sgdm.datasets import yolo
from robustbench_sgdm.datasets.base import Source

SOURCE = Source(
    name="Ultralytics dataset YAML",
    description="path of a YAML with path, train, val and names",
    load=lambda request: yolo.load(request.path, request.split),
    suffixes=(".yaml", ".yml"),
    splits=("train", "val", "test"),
)
