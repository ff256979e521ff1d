"""The main job, its report and the dashboard where there is no network at all: none is asked for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_sgdm.core import resources
from robustbench_sgdm.datasets import scenes

ROOT = resources.root()

# Begins in a namespace of its own, where even the machine itself is reached only once its loopback is up.
NO_ROUTE = """
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
    try:
        probe.connect(("192.0.2.1", 9))
        sys.exit("there is a route")
    except OSError:
        pass
"""

INSIDE = """
import os, socket, subprocess, sys, urllib.request
from pathlib import Path
job = [sys.executable, "-m", "robustbench_sgdm.cli"]
run = [*job, "run", "--model", "yolov8n", "--noise", "gaussian", "--severity", "0,1", "--data", sys.argv[1]]
subprocess.run([*run, "--imgsz", "64", "--workers", "1", "--project", "runs", "--name", "r"], check=True)
from robustbench_sgdm.core import resources
serving = resources.import_file(Path(os.environ["ROOT"]) / "benchmarks/support/serving.py").Serving(Path("runs"))
with serving as (address, process):
    assert b"<html" in urllib.request.urlopen(address).read()
    # A page of another site: where it comes from is checked, and Streamlit would ask Amazon for our address to do so.
    host = address.removeprefix("http://")
    lines = ["GET /_stcore/stream HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    for origin, expected in (("http://" + host, b" 101 "), ("http://elsewhere.example", b" 403 ")):
        with socket.create_connection(host.split(":"), timeout=120) as line:
            line.sendall("\\r\\n".join([*lines, f"Origin: {origin}", "", ""]).encode())
            found = line.recv(100)
        assert expected in found, (origin, found)
"""

# Every Python process of the test starts with this: who asks for a name or another machine is written down.
WATCH = """
import os, sys
HERE = (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "192.0.2.1")
def hook(event, arguments):
    if event == "socket.getaddrinfo":
        place = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        place = arguments[1][0]
    else:
        return
    if place not in HERE:
        with open(os.environ["ASKED"], "a") as file:
            file.write(f"{sys.argv} {event} {place}\\n")
sys.addaudithook(hook)
"""


@pytest.fixture
def alone() -> list[str]:
    """The command that runs another one without a route; nothing where the machine lets nobody make a namespace."""
    found = shutil.which("unshare") or ""
    for flags in ("-rn", "-n") if found else ():
        if subprocess.run([found, flags, "true"], capture_output=True, check=False).returncode == 0:
            return [found, flags]
    return []


def test_nothing_asks_for_a_network(alone: list[str], tmp_path: Path) -> None:
    data = scenes.write_split(tmp_path / "data", "val", 4)
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    asked = tmp_path / "asked"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO", "STREAMLIT"))}
    environment |= {"PYTHONPATH": f"{tmp_path / 'watch'}{os.pathsep}{ROOT}", "ROOT": str(ROOT)}
    environment |= {"HOME": str(tmp_path), "ASKED": str(asked)}
    done = subprocess.run(
        [*alone, sys.executable, "-c", NO_ROUTE * bool(alone) + INSIDE, str(data)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/r/report.pdf").is_file()
    assert not asked.exists(), asked.read_text()
