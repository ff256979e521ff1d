"""What `--data` takes: each file here declares one `SOURCE`, and a new file adds one."""

import pkgutil
from functools import cache
from importlib import import_module

from robustbench_sgdm.datasets.base import DatasetSource


@cache
def dataset_sources() -> tuple[DatasetSource, ...]:
    """All of them; names before kinds of files."""
    modules = [import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)]
    sources: list[DatasetSource] = [module.SOURCE for module in modules]
    return tuple(sorted(sources, key=lambda source: (bool(source.suffixes), source.name)))
