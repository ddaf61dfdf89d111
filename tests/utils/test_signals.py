"""Signals are recorded during a step; a person may insist."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from slowfast.utils import signals
from slowfast.utils.signals import StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_recorded(number):
    with StopRequest() as stop:
        assert stop.number == 0
        send(number)
        assert stop.number == number


def test_the_first_signal_counts():
    with StopRequest() as stop:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert stop.number == signal.SIGTERM


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ValueError), StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[1]
        raise ValueError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    """The launcher's copy of the first one does not count; a later one is a person's."""
    now = [0.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with StopRequest() as stop:
        send(signal.SIGINT)
        now[0] = 0.5
        send(signal.SIGINT)
        assert stop.number == signal.SIGINT
        now[0] = 2.5
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_other_threads_set_no_handlers():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGTERM) == before, stop.number))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, 0)]
