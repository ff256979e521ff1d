"""Where the suite keeps what it can make again: rendered scenes, labels in another format."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder, which need not exist yet.

    `$ROBUSTBENCH_CACHE`, else `$XDG_CACHE_HOME/robustbench-sgdm`, else `~/.cache/robustbench-sgdm`.
    Everything in it may be deleted at any time.
    """
    if own := os.environ.get("ROBUSTBENCH_CACHE"):
        return Path(own).expanduser().resolve()
    shared = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification has a relative value ignored.
    base = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
    return base / "robustbench-sgdm"
