"""Exit codes and messages of a command."""

from __future__ import annotations

import io
import signal
import sys

import pytest

from slowfast.utils.cli import run_command
from slowfast.utils.errors import Interrupted, RunFailure, UserError, VideoError


def run(main, debug: bool | None = False) -> int:
    with pytest.raises(SystemExit) as ended:
        run_command(main, debug)
    return ended.value.code


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize("result, code", [(None, 0), (0, 0), (3, 3)])
def test_the_result_is_the_exit_code(result, code):
    assert run(lambda: result) == code


@pytest.mark.parametrize(
    "error, code, text",
    [
        (UserError("is 3", "use 4", "A.B"), 2, "error: A.B: is 3\n    -> use 4\n"),
        (RunFailure("memory ran out"), 1, "error: memory ran out\n"),
        (VideoError("a.mp4", "no stream"), 2, "error: a.mp4: no stream\n"),
        (Interrupted(signal.SIGTERM, "c.pyth"), 143, "stopped by SIGTERM; c.pyth continues it"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_expected_errors_are_one_message(error, code, text, capsys):
    assert run(raising(error)) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(text) and captured.out == ""
    assert "Traceback" not in captured.err


def test_debug_raises_the_error():
    with pytest.raises(UserError, match="is 3"):
        run_command(raising(UserError("is 3")), debug=True)


def test_debug_may_be_a_word_of_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", "--debug"])
    with pytest.raises(UserError):
        run_command(raising(UserError("is 3")))


def test_faults_of_the_program_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_a_reader_that_has_gone_is_no_error(capfd, monkeypatch):
    """``tool | head``: exit code 0 and no message."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # it gets closed
    assert run(raising(BrokenPipeError())) == 0
    assert capfd.readouterr().err == ""
