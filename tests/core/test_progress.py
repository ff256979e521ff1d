"""The clock of a job of several parts: elapsed, and what is left."""

from collections.abc import Iterator

import pytest

from robustbench_sgdm.core.progress import JobClock

PARTS = {"predictions": 100.0, "latency of the models": 10.0, "PSNR and SSIM": 10.0, "report": 30.0}


def run_job(pace: dict[str, float]) -> Iterator[tuple[float, float | None]]:
    """Seconds that are really left, and what the clock says, second by second; parts take their pace times as long."""
    now = 0.0
    clock = JobClock(lambda: now)
    whole = sum(PARTS[name] * pace[name] for name in PARTS)
    yield whole, clock.remaining()
    clock.expect(PARTS)
    for name, expected in PARTS.items():
        seconds = expected * pace[name]
        counts = 50 if name in ("predictions", "PSNR and SSIM") else 1
        clock(name, 0, counts)
        for second in range(round(seconds)):
            now += 1.0
            clock(
                name if counts > 1 else "drawing",
                int(counts * (second + 1) / seconds) if counts > 1 else 0,
                counts,
            )
            yield whole - now, clock.remaining()


@pytest.mark.parametrize("pace", [0.4, 1.0, 2.5])
def test_what_is_left_is_known_after_a_tenth(pace: float) -> None:
    """On a machine that is slower or faster than expected in every part."""
    (_, unknown), *later = run_job(dict.fromkeys(PARTS, pace))
    assert unknown is None
    whole = later[0][0] + 1
    for left, said in later:
        if left < 0.9 * whole:
            assert said == pytest.approx(left, rel=0.3, abs=0.05 * whole)


def test_one_part_that_takes_longer_is_noticed() -> None:
    *_, (left, said) = run_job(dict.fromkeys(PARTS, 1.0) | {"latency of the models": 3.0})
    assert left == 0 and said is not None and said < 10


def test_a_job_of_which_nothing_is_known_says_so() -> None:
    clock = JobClock(lambda: 5.0)
    clock("resampling", 1, 10)
    assert clock.remaining() is None and clock.share == 0 and clock.counts == "1/10"


def test_an_estimate_may_be_replaced_while_the_job_runs() -> None:
    clock = JobClock(lambda: 5.0)
    clock.expect({"predictions": 60, "report": 20})
    clock("predictions", 1, 2)
    clock.expect({"report": 20})
    assert clock.remaining() is None
    clock("report", 0, 1)
    assert clock.remaining() == 20
