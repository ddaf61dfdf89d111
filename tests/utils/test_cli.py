"""Exit codes and messages of a command."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from slowfast.utils import cli
from slowfast.utils.cli import exit_code, run_command
from slowfast.utils.console import printing
from slowfast.utils.errors import Interrupted, RunFailure, UserError, VideoError
from tests.scripts import CONTEXT, enter_process, spoil_output


def run(main, debug: bool | None = False) -> int:
    return exit_code(main, debug)


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
        exit_code(raising(UserError("is 3")), debug=True)


def test_debug_may_be_a_word_of_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", "--debug"])
    with pytest.raises(UserError):
        exit_code(raising(UserError("is 3")))


def test_faults_of_the_program_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)


def say() -> None:
    """A command that prints and has an effect, too."""
    sys.stdout.write("é\n")


def show() -> None:
    """A command that does nothing but print."""
    with printing():
        sys.stdout.write("é\n")


def in_process(main, output: str, errors: str) -> None:
    enter_process(dict(os.environ), os.devnull, errors)
    spoil_output(output)
    run_command(main, debug=False)


@pytest.mark.parametrize(
    "main, output, code, text",
    [
        (say, "closed", 1, "error: cannot write the standard output: Bad file descriptor"),
        (say, "full", 1, "error: cannot write the standard output: No space left on device"),
        (say, "pipe", 1, "error: cannot write the standard output: Broken pipe"),
        (say, "ascii", 0, ""),
        (show, "full", 1, "error: cannot write the standard output: No space left on device"),
        (show, "pipe", 0, ""),  # tool | head
    ],
)
def test_output_that_cannot_be_written(main, output, code, text, tmp_path):
    errors = tmp_path / "errors.txt"
    process = CONTEXT.Process(target=in_process, args=(main, output, str(errors)))
    process.start()
    process.join(60)
    assert process.exitcode == code
    assert errors.read_text().startswith(text) and bool(errors.read_text()) == bool(text)
    assert "Traceback" not in errors.read_text()


def test_errors_of_the_system_are_one_message(capsys):
    assert run(lambda: os.open("/nowhere/a.txt", os.O_RDONLY)) == 1
    text = "error: cannot read or write /nowhere/a.txt: No such file or directory"
    assert capsys.readouterr().err.startswith(text)


def linger(errors: str) -> None:
    """A failed command whose thread does not let the interpreter end."""
    enter_process(dict(os.environ), os.devnull, errors)
    cli._END_S = 0.2
    threading.Thread(target=time.sleep, args=(600,)).start()
    run_command(raising(UserError("is 3")), debug=False)


def test_a_failed_command_ends_whatever_its_threads_do(tmp_path):
    process = CONTEXT.Process(target=linger, args=(str(tmp_path / "errors.txt"),))
    process.start()
    process.join(60)
    assert process.exitcode == 2
