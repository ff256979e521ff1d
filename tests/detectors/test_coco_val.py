"""COCO's archives: what arrives is the file that is meant, or it is not unpacked."""

import hashlib
import importlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from robustbench_sgdm.errors import RobustBenchError

# The package's attribute of this name is the function.
module: Any = importlib.import_module("robustbench_sgdm.detectors.coco_val")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of an archive on this machine, and its MD5."""
    (tmp_path / "served").mkdir()
    archive = tmp_path / "served/a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("annotations/instances_val2017.json", "x" * 2000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.zip", hashlib.md5(archive.read_bytes()).hexdigest()
    server.shutdown()
    server.server_close()


def test_the_published_archive_is_unpacked(served: tuple[str, str], tmp_path: Path) -> None:
    module._fetch(*served, tmp_path / "coco")
    assert [p.name for p in (tmp_path / "coco").rglob("*") if p.is_file()] == ["instances_val2017.json"]


def test_another_archive_is_not_unpacked(served: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(RobustBenchError, match="it is not unpacked"):
        module._fetch(served[0], "0" * 32, tmp_path / "coco")
    assert not [p for p in (tmp_path / "coco").rglob("*") if p.is_file()]
