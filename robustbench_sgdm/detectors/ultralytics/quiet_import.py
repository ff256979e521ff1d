"""Ultralytics without its chatter: what it decides from the environment, decided before its first import."""

import os
from types import MappingProxyType

import numpy as np

DEFAULTS = MappingProxyType(
    {
        "YOLO_AUTOINSTALL": "false",  # else a checkpoint or an export can pip-install packages
        "YOLO_OFFLINE": "true",  # no update check, analytics or crash report, whatever its settings say
        "YOLO_VERBOSE": "false",  # its logger at ERROR: no banners, no progress bars
    }
)


def import_ultralytics() -> None:
    """Import Ultralytics so that it installs nothing, reports nothing, prints nothing and slows nothing down.

    Variables the user has set win. The user's Ultralytics settings file is read, never changed (Ultralytics
    itself creates it where there is none). Downloads that a caller asks for by address still work.
    If Ultralytics was imported earlier by someone else, it stays as they have it.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    threads = os.environ.get("OMP_NUM_THREADS")
    # Ultralytics sets OMP_NUM_THREADS=1 and NumPy's print width for the whole process. Importing torch first
    # keeps its threads; the variable goes back so that worker processes keep theirs.
    import torch

    torch.get_num_threads()
    with np.printoptions():
        import ultralytics  # noqa: F401
    if threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)
