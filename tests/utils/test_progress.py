"""The time of steps, with a clock of the test's own, and the lines of an epoch."""

from __future__ import annotations

import pytest

from slowfast.utils.logging import setup_logging
from slowfast.utils.progress import ProgressBar, StepTimer


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def step(timer: StepTimer, clock: Clock, wait: float, compute: float, clips: int) -> None:
    clock.now += wait
    timer.data_ready()
    clock.now += compute
    timer.step_done(clips)


def test_waiting_and_computing(clock):
    timer = StepTimer(clock=clock)
    step(timer, clock, wait=1.0, compute=3.0, clips=8)
    assert (timer.step, timer.wait, timer.compute) == (4.0, 1.0, 3.0)
    assert timer.wait_share == 0.25 and timer.clips_per_second == 2.0
    assert timer.figures == {"dt": 4.0, "dt_data": 1.0, "dt_net": 3.0, "wait": 0.25}
    step(timer, clock, wait=3.0, compute=1.0, clips=24)
    assert (timer.step, timer.wait, timer.compute) == (4.0, 2.0, 2.0)
    assert timer.wait_share == 0.5 and timer.clips_per_second == 4.0


def test_shares_are_of_the_time_not_of_the_steps(clock):
    timer = StepTimer(clock=clock)
    step(timer, clock, wait=1.0, compute=0.0, clips=1)
    step(timer, clock, wait=0.0, compute=9.0, clips=1)
    assert timer.wait_share == pytest.approx(0.1)


def test_only_the_last_steps_count(clock):
    timer = StepTimer(window=2, clock=clock)
    step(timer, clock, wait=50.0, compute=50.0, clips=1)
    for _ in range(2):
        step(timer, clock, wait=0.0, compute=2.0, clips=4)
    assert (timer.step, timer.wait_share, timer.clips_per_second) == (2.0, 0.0, 2.0)


def test_a_step_begins_where_the_last_one_ended(clock):
    """Whatever happens between two steps (a validation, a log line) is time of the next one."""
    timer = StepTimer(clock=clock)
    step(timer, clock, 1.0, 1.0, 1)
    clock.now += 10.0
    step(timer, clock, 0.0, 1.0, 1)
    assert timer.step == (2.0 + 11.0) / 2 and timer.wait == (1.0 + 10.0) / 2


def test_before_the_first_step(clock):
    timer = StepTimer(clock=clock)
    assert (timer.step, timer.wait, timer.wait_share, timer.clips_per_second) == (0, 0, 0, 0)


def test_the_line(clock):
    timer = StepTimer(clock=clock)
    step(timer, clock, 0.5, 1.5, 25)
    assert timer.describe(1.26, 31) == "12.5 clips/s  wait 25%  mem 1.3G  eta 0:01:02"


def test_a_line_every_few_steps_and_at_the_end(tmp_path, capsys):
    setup_logging(tmp_path)
    progress = ProgressBar("train 1/3", total=11, log_every=4)
    for done in range(1, 12):
        progress.update(done, f"loss {done}")
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "train 1/3  4/11  loss 4",
        "train 1/3  8/11  loss 8",
        "train 1/3 11/11  loss 11",
    ]


def test_a_terminal_shows_a_bar_and_the_file_lines(tmp_path, capsys, monkeypatch):
    setup_logging(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = ProgressBar("val", total=2, log_every=1)
    progress.update(1, "top1 50")
    progress.update(2, "top1 75")
    progress.close()
    out = capsys.readouterr().out
    assert "val: " in out and "val 1/2  top1 50" not in out
    assert (tmp_path / "stdout.log").read_text().count(" val ") == 2


def test_other_ranks_show_no_bar(tmp_path, capsys, monkeypatch):
    setup_logging(tmp_path, is_main=False, rank=1)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = ProgressBar("val", total=1, log_every=1)
    progress.update(1, "text")
    progress.close()
    assert capsys.readouterr().out == ""
