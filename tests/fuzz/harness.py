"""Damages sound files in ways that strangers' files are damaged, and watches what reading them does.

Every input is a function of the random draws of one Hypothesis example, so that it is found again and shrunk.
"""

import ctypes
import io
import math
import os
import random
import re
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from robustbench_sgdm.core import safe_directory
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.detectors.runtimes import trial

COUNT = int(os.environ.get("ROBUSTBENCH_FUZZ", "0"))
"""Inputs for each reader; 0 for the few that every test run tries, the same ones each time."""

FEW = 40
_LONGEST_WAIT = 20
"""Times the seconds of a bound that may pass by the clock, on a busy machine or while a child process reads."""

SPARE = 4 * 2**30
"""Bytes of addresses beyond the bound, from which memory is refused: what a reader takes is measured until then."""


@dataclass(frozen=True)
class Bound:
    """What reading one small file may cost: megabytes (2**20 bytes) of memory more than before, and seconds of the
    processor, which do not depend on what else the machine does."""

    megabytes: int
    seconds: float


BOUNDS = {
    "data sets, predictions": Bound(1200, 30),
    "pixel manifests": Bound(500, 30),
    "pictures": Bound(1500, 30),
    "model YAMLs, weights": Bound(2500, 30),
    "models of other libraries": Bound(1000, 30),
    "exported models": Bound(1500, 120),
    "run and training directories": Bound(500, 30),
}
"""By kind of file, of at most a megabyte; `SECURITY.md` has the same table."""

WEIRD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 255, 2**31, 2**53, 2**63, -(2**64), 10**30, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *(
        "",
        " ",
        "1",
        "nan",
        ".",
        "..",
        "../x",
        "../../etc/passwd",
        "/etc/passwd",
        "/",
        "a/b",
        "a\\b",
        "C:\\x",
        "~",
    ),
    *(
        "a" * 300,
        "a" * 5000,
        "\0",
        "a\0b",
        "\ud800",
        "\x1b[2J",
        "\n",
        "é" * 130,
        "<script>",
        "$\\frac{$",
        "%s{0}",
        "[b]",
    ),
    *(
        "nc",
        "args",
        "nn.SiLU()",
        "__import__('os').system('x')",
        "nn.Linear(99999, 99999)",
        "Detect",
        "clean",
    ),
    *([], {}, [[]], [None], {"a": 1}, {"": ""}, [1, 2, 3, 4], [0, 0, 1, 1], [1e999] * 4, {1: 2, "1": 3}),
)
_MARKS = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\x80",
    b"\r",
    b"\n",
    b'"',
    b"]",
)


class Refused(BaseException):
    """A reader did what it must not; not an `Exception`, which a reader may turn into an error of its own."""


def deep(depth: int) -> list[Any]:
    """A list within a list within a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def weird(rng: random.Random) -> Any:
    """A value that few readers expect."""
    return _copied(rng.choice(WEIRD)) if rng.random() < 0.97 else deep(rng.choice((20, 200)))


def damaged_tree(value: Any, rng: random.Random) -> Any:
    """Nested plain values with one to four of them replaced, removed, doubled or moved."""
    holder = [value]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(holder))
        box, key = rng.choice(places)
        act = rng.randint(0, 5)
        if act <= 2:
            box[key] = weird(rng)
        elif act == 3 and box is not holder:
            del box[key]
        elif act == 4 and isinstance(box, list):
            box.insert(key, box[key])
        else:
            other, where = rng.choice(places)
            box[key] = _copied(other[where])
    return holder[0]


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to six places changed, cut, doubled or overwritten."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 6))):
        at = rng.randint(0, len(found))
        act = rng.randint(0, 5)
        if act == 0 and at < len(found):
            found[at] ^= 1 << rng.randint(0, 7)
        elif act == 1:
            mark = rng.choice(_MARKS)
            found[at : at + len(mark)] = mark
        elif act == 2:
            found[at:at] = rng.choice(_MARKS) * rng.choice((1, 2, 64))
        elif act == 3:
            del found[at : at + rng.choice((1, 4, 100))]
        elif act == 4:
            found[at:at] = found[at : at + rng.choice((4, 100))]
        elif rng.random() < 0.3:
            del found[at:]
    return bytes(found)


NUMBERS = (
    *(
        "0x" + "f" * 20_000,
        "-0x" + "9a" * 9_000,
        "0b" + "10" * 9_000,
        "0" + "7" * 20_000,
        "9" * 20_000,
        "1" * 4_300,
    ),
    *(
        "1:" * 20_000 + "1",
        "1:" * 9 + "1",
        "1:" * 9_000 + "1.5",
        "190:20:30",
        "1_000_000",
        "0x_1",
        "9" * 21,
        "1" * 19,
    ),
    *(
        "1e999",
        "-1e999",
        "1.0e+999",
        "1e-999",
        "0." + "0" * 9_000 + "1",
        ".inf",
        "-.Inf",
        ".NaN",
        "NaN",
        "-Infinity",
    ),
    *(
        "2001-12-14",
        "2001-12-14t21:59:43.10-05:00",
        "2001-99-99",
        "0001-01-01 00:00:00 +23:59",
        "-0",
        "0o17",
        "+1",
    ),
)
"""Numbers and dates as json and YAML may write them, some of which only one of the two reads."""

_YAML = (
    *(
        "&a [*a]",
        "*a",
        "{<<: {a: 1}}",
        "{? [a]: b}",
        "{? {a: b}: c}",
        "!!binary aGk=",
        "!!set {a}",
        "!!omap [a: 1]",
    ),
    *(
        "!!timestamp 2001-01-01",
        "!!python/object:os.system x",
        "!!int '0x" + "f" * 9_000 + "'",
        "=",
        "!!float 1_0",
    ),
    *(
        "[" * 60 + "]" * 60,
        "!!str {a: b}",
        "!!map [a]",
        "!<x> y",
        "|\n  a",
        "{" + ",".join(map(str, range(3000))) + "}",
    ),
)


def odd_yaml(text: str, rng: random.Random) -> str:
    """YAML with the value of one of its lines replaced by what few expect there."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    head = re.match(r"^(\s*(?:- )*[^:]*:|\s*-)\s", lines[at] + " ")
    lines[at] = (head[1] if head else "") + " " + rng.choice(NUMBERS + _YAML)
    return "\n".join(lines) + "\n"


def odd_json(text: str, rng: random.Random) -> str:
    """Json with one of its numbers written in another way."""
    places = list(re.finditer(r"(?<=[\[ :,])-?\d[\d.e+-]*(?=[\],} ])", text))
    if not places:
        return text
    found = rng.choice(places)
    return text[: found.start()] + rng.choice(NUMBERS) + text[found.end() :]


def copied(value: Any) -> Any:
    """Nested plain values of one's own."""
    return _copied(value)


def fuzz(
    name: str,
    root: Path,
    damage: Callable[[random.Random], Path],
    use: Callable[[Path], object],
    bound: Bound,
) -> None:
    """Try a reader on many damaged inputs and say how many it read and refused.

    Args:
        name: of what is read, for the count.
        root: the only folder in which files may be written, made or removed while reading.
        damage: makes a damaged file or folder below `root`.
        use: reads it; may raise errors of ours alone.
        bound: what it may cost.
    """
    tried = {"read": 0, "refused": 0}
    slowest = largest = 0.0

    @settings(
        max_examples=COUNT or FEW,
        derandomize=not COUNT,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # the file that failed is left where it lies; shrinking it takes minutes
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def one(rng: random.Random) -> None:
        nonlocal slowest, largest
        path = damage(rng)
        before = fresh_peak()
        began = time.process_time()
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            watched(root),
            limited(bound),
        ):
            warnings.simplefilter("ignore")
            try:
                use(path)
                tried["read"] += 1
            except RobustBenchError as error:
                assert error.exit_code in (1, 2)
                assert len(str(error)) < 5000, f"a message of {len(str(error))} characters"
                tried["refused"] += 1
            except Refused as error:  # raised at any place, whose traceback pytest may not be able to print
                raise AssertionError(f"{error}; reading {path}") from None
        slowest = max(slowest, time.process_time() - began)
        grown = (status("VmHWM") - before) / 2**20
        largest = max(largest, grown)
        assert grown < bound.megabytes, f"{grown:.0f} MB, may take {bound.megabytes}; reading {path}"

    one()
    total = sum(tried.values())
    print(
        f"fuzz {name}: {total} inputs, {tried['read']} read, {tried['refused']} refused, slowest {slowest:.2f} s, "
        f"largest {largest:.0f} MB"
    )
    assert total >= (COUNT or FEW)


def _places(box: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(box) if isinstance(box, dict) else range(len(box)):
        yield box, key
        if isinstance(box[key], dict | list):
            yield from _places(box[key])


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where an event's arguments have a path that is changed, and the folder that it is relative to.
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
}
_RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"} | {
    f"socket.{name}" for name in ("connect", "getaddrinfo", "gethostbyname", "sendto", "sendmsg", "bind")
}
_root: Path | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses what reading a file must not do, wherever it is tried; Python has no way to remove such a hook."""
    if _root is None or (event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITES)):
        return
    changed = [
        (arguments[at], -1 if beside is None else arguments[beside]) for at, beside in _CHANGES.get(event, ())
    ]
    if event == "open" and (frame := sys._getframe(1)).f_code is safe_directory._Folder.open.__code__:
        changed = [(arguments[0], frame.f_locals["self"].handle)]  # the event does not name the folder
    if event == "subprocess.Popen" and arguments[1][-1] == trial.__file__:
        return  # what bounds a runtime that reads a file of strangers
    if event in _RUNS or not all(_allowed(path, beside, event == "open") for path, beside in changed):
        raise Refused(f"{event} {arguments}")


def _allowed(path: Any, beside: int, follow: bool) -> bool:
    if isinstance(path, int):  # open already
        return True
    name = (Path(f"/proc/self/fd/{beside}").readlink() if beside >= 0 else Path()) / os.fsdecode(path)
    found = name.resolve() if follow else name.parent.resolve() / name.name
    return str(name) == os.devnull or (_root is not None and found.is_relative_to(_root))


sys.addaudithook(_hook)


@contextmanager
def watched(root: Path) -> Iterator[None]:
    global _root
    _root = root.resolve()
    try:
        yield
    finally:
        _root = None


def fresh_peak() -> int:
    """Bytes in memory now, after which the peak is counted anew; 0 where the system cannot say."""
    if sys.platform != "linux":
        return 0
    ctypes.CDLL(None).malloc_trim(0)  # else what the last input left would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024


@contextmanager
def limited(bound: Bound) -> Iterator[None]:
    def late(signum: int, frame: FrameType | None) -> None:
        raise Refused(f"over {bound.seconds} s")

    def waiting(signum: int, frame: FrameType | None) -> None:
        raise Refused(f"waits for over {_LONGEST_WAIT * bound.seconds} s")

    before = [
        (name, signal.signal(name, use)) for name, use in ((signal.SIGPROF, late), (signal.SIGALRM, waiting))
    ]
    signal.setitimer(signal.ITIMER_PROF, bound.seconds)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_WAIT * bound.seconds)
    addresses = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        most = status("VmSize") + bound.megabytes * 2**20 + SPARE
        resource.setrlimit(resource.RLIMIT_AS, (most, addresses[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, addresses)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for name, use in before:
            signal.signal(name, use)
