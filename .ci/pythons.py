"""The oldest and the newest supported Python of this machine: says which they are, and tries the package on each.

With an environment of its own, which `--install` makes for the newest where the disk has room, a Python runs a
selection of tests. Without one it compiles every file and prints the command line's help, with the packages of the
environment that runs this, of which those that the command line loads at its start have no compiled parts.

    python .ci/pythons.py [--install]
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = ("tests/core", "tests/test_config.py", "tests/cli/test_help.py", "tests/golden")
"""Tests that every Python runs: draws, files, settings, and what every corruption makes of one picture."""

ROOM = 40 * 2**30
"""Bytes that `--install` wants free: an environment takes 9 GB with CUDA's libraries, its wheels 4, the tests some."""

CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python of the environment that runs this."""


def find_python(version: str) -> Path | None:
    """The interpreter of a version, such as 3.13: this one, or one on the path or among pyenv's."""
    if version == CURRENT:
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [
        shutil.which(f"python{version}"),
        *sorted(map(str, pyenv.glob(f"{version}.*/bin/python{version}"))),
    ]
    for path in filter(None, found):
        asked = [
            path,
            "-c",
            "import sys; print('%d.%d' % sys.version_info[:2])",
        ]  # a shim may have none behind it
        if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == version:
            return Path(path)
    return None


def supported_versions() -> list[str]:
    """The versions of Python that the package says it supports, oldest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in project["classifiers"]
    )
    return sorted((match[1] for match in named if match), key=lambda version: int(version.partition(".")[2]))


def try_package(version: str, python: Path) -> int:
    """Run the package on one Python; gives the exit code."""
    if version == CURRENT:
        print(f"Python {version} ({sys.prefix}): `make test` runs every test on it", flush=True)
        return 0
    own = ROOT / f".venv-{version}" / "bin" / "python"
    if own.is_file():
        print(f"Python {version} ({own}): {', '.join(SMOKE)}", flush=True)
        return _run(own, ["pytest", "-q", "-n", "0", *SMOKE], str(ROOT))
    print(
        f"Python {version} ({python}, no environment of its own): compiles every file, prints the help",
        flush=True,
    )
    compiled = _run(
        python, ["compileall", "-q", "robustbench_sgdm", "app", "corruptions", "tests"], str(ROOT)
    )
    packages = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    return compiled or _run(python, ["robustbench_sgdm.cli", "--help"], packages)


def _run(python: Path, module: list[str], path: str) -> int:
    """Run a module, warnings as errors; what is compiled goes nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": folder}
        words = [str(python), *(["-W", "error"] if module[0] != "pytest" else []), "-m", *module]
        output = None if module[0] == "pytest" else subprocess.DEVNULL
        return subprocess.run(words, cwd=ROOT, env=environment, stdout=output, check=False).returncode


def install_newest(version: str, python: Path) -> int:
    """Make an environment for a Python that is not this one; gives the exit code."""
    environment = f".venv-{version}"
    free = shutil.disk_usage(ROOT).free
    if version == CURRENT:
        return 0
    if free < ROOM:
        short = f"{free / 2**30:.0f} GiB of disk are free, {ROOM / 2**30:.0f} are wanted"
        print(f"no environment for Python {version}: {short}", file=sys.stderr)
        return 0
    words = ["make", f"VENV={environment}", f"PYTHON={python}", f"{environment}/installed"]
    return subprocess.run(words, cwd=ROOT, check=False).returncode


def main() -> int:
    """Try the oldest and the newest; gives the exit code."""
    here = {version: python for version in supported_versions() if (python := find_python(version))}
    newest = next(reversed(here))
    if "--install" in sys.argv[1:]:
        return install_newest(newest, here[newest])
    missing = [version for version in supported_versions() if version not in here]
    print(f"supported Pythons on this machine: {', '.join(here)}; not here: {', '.join(missing) or 'none'}")
    tried = dict.fromkeys([next(iter(here)), newest])
    return max(try_package(version, here[version]) for version in tried)


if __name__ == "__main__":
    sys.exit(main())
