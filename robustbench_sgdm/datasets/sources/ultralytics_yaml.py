"""An Ultralytics dataset YAML."""

from robustbench_sgdm.datasets import ultralytics_yaml
from robustbench_sgdm.datasets.base import DatasetSource

SOURCE = DatasetSource(
    name="Ultralytics dataset YAML",
    description="path of a YAML with path, train, val and names",
    load=lambda request: ultralytics_yaml.load_ultralytics_yaml(request.path, request.split),
    suffixes=(".yaml", ".yml"),
    splits=("train", "val", "test"),
)
