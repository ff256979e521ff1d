"""The options `--data` and `--images`."""

from pathlib import Path

from robustbench_sgdm.core import parsing


def resolve_paths(source: str, images: Path | None = None) -> tuple[str, Path | None]:
    """The options as the file system writes them."""
    return str(parsing.find_path(source) or source), images and (parsing.find_path(str(images)) or images)
