"""`robustbench paper`, on the tables that need no network built where one will do."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from robustbench_sgdm import cli


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["robustbench", "paper", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_csv_goes_to_standard_output_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--table", "6", "--table", "8", "--format", "csv") == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(frame["table"]) == {6, 8} and frame["verdict"].notna().all()


def test_a_pipe_gets_rows_unfolded_and_options_in_brackets() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    words = [sys.executable, "-m", "robustbench_sgdm.cli", "paper", "--table", "7"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "yolov8n-sgdm[strip=11]" in done.stdout


def test_a_file_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--table", "8", "--format", "markdown", "--out", str(tmp_path / "p.md")) == 0
    assert capsys.readouterr().out == ""
    assert r"| yolov8n-sgdm\[split=0.3\] |" in (tmp_path / "p.md").read_text("utf-8")


def test_an_unknown_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--table", "9") == 2
    assert "use --table 2 to 8" in capsys.readouterr().err


@pytest.mark.slow
def test_latency_takes_the_place_of_what_was_to_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--table", "3", "--latency", "--rounds", "6", "--format", "csv") == 0
    times = pd.read_csv(io.StringIO(capsys.readouterr().out)).query("quantity == 'time'")
    assert len(times) == 10 and set(times["verdict"]) <= {"equal", "differs"}
    assert (times["value"] > 0.5).all() and times["why"].str.contains(
        "cpu, batch 1, 6 rounds interleaved"
    ).all()
