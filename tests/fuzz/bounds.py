"""What reading a small file may cost, by kind; SECURITY.md has the same table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """Megabytes (2**20 bytes) that memory may grow by while a file of at most a megabyte is read, and seconds."""

    megabytes: int
    seconds: float


BOUNDS = {
    "data set and prediction files": Bound(1100, 30),
    "pictures": Bound(1500, 30),
    "model YAMLs and weights": Bound(2500, 30),
    "run and training directories": Bound(500, 30),
}
