"""Where the units of a run are worked on, and how that stops."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from robustbench_sgdm.errors import Stopped, UsageError, unknown

if TYPE_CHECKING:
    from robustbench_sgdm.sweep import Crew, Executor

_PLACES = ("local", "ray")


def check(on: str, address: str | None, gpus: float, device: str, *, connect: bool) -> None:
    """Refuse what does not go together, or cannot be reached.

    Raises:
        UsageError: `on` is no such place, an option belongs to Ray, or Ray does not take it.
        RobustBenchError: no cluster answers.
    """
    if on not in _PLACES:
        raise unknown("place (--on)", on, _PLACES)
    if on == "local" and (address is not None or gpus != 1):
        raise UsageError("--address and --gpus go with --on ray")
    if on == "ray":
        from robustbench_sgdm.sweep import check_ray

        check_ray(address, device=device, gpus=gpus, connect=connect)


def executor(
    on: str, workers: int, threads: int, *, device: str, address: str | None, gpus: float
) -> "AbstractContextManager[Executor]":
    """What does the units; for Ray, the context connects to the cluster.

    Args:
        on: `local` or `ray`.
        workers: processes; 0 takes threads of this one, or all that the cluster has room for.
        threads: how many of those.
        device, address, gpus: see `on_ray`.
    """
    from robustbench_sgdm.sweep import Processes, Threads, on_ray

    if on == "ray":
        return on_ray(address, workers=workers, device=device, gpus=gpus)
    return nullcontext(Processes(workers) if workers else Threads(threads))


def crew(on: str, workers: int, threads: int, *, device: str, address: str | None, gpus: float) -> "Crew":
    """Who would do the units; arguments as `executor`'s. Of a cluster whose size is not known, a single worker."""
    import torch

    from robustbench_sgdm.sweep import Crew, cores

    if on == "local":
        return Crew(workers or threads, start=bool(workers))
    if device == "cpu":
        return Crew(workers or (1 if address else cores()), elsewhere=bool(address), start=True)
    room = 1 if address else max(int(torch.cuda.device_count() / gpus + 1e-9), 1)
    return Crew(workers or room, gpus=gpus, elsewhere=bool(address), start=True)


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command with what is kept, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; what is finished is kept, and the same command goes on from there") from None
