"""Texts, exit codes and pickling of errors."""

from __future__ import annotations

import pickle
import signal

import pytest

from slowfast.utils.errors import Interrupted, Problem, RunFailure, UserError, VideoError


@pytest.mark.parametrize(
    "problem, text",
    [
        (Problem("is wrong"), "is wrong"),
        (Problem("is 3", key="A.B"), "A.B: is 3"),
        (Problem("is 3", "use 4", "A.B", "c.yaml:7"), "A.B: is 3 (from c.yaml:7)\n    -> use 4"),
    ],
)
def test_text_of_a_problem(problem, text):
    assert str(problem) == text
    assert str(UserError(problem)) == text == str(UserError([problem]))


def test_several_problems_are_numbered():
    error = UserError([Problem("one", key="A"), Problem("two", "do it")])
    assert str(error) == "2 problems:\n  1. A: one\n  2. two\n    -> do it"
    assert [problem.message for problem in error.problems] == ["one", "two"]


def test_words_make_one_problem():
    error = UserError("is 3", "use 4", "A.B")
    assert error.problems == [Problem("is 3", "use 4", "A.B")]


def test_exit_codes():
    assert UserError("x").exit_code == 2 and RunFailure("x").exit_code == 1
    assert isinstance(RunFailure("x"), UserError)


@pytest.mark.parametrize(
    "error",
    [
        UserError([Problem("one", key="A"), Problem("two")]),
        RunFailure("memory", "use less", "TRAIN.BATCH_SIZE"),
        VideoError("a.mp4", "no stream"),
    ],
)
def test_errors_travel_between_processes(error):
    """A loader worker's error reaches the main process with its class and its parts."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_a_video_error_names_the_video():
    error = VideoError("a.mp4", "no stream")
    assert (error.path, error.cause, str(error)) == ("a.mp4", "no stream", "a.mp4: no stream")


def test_an_interruption_says_how_to_go_on():
    stop = Interrupted(signal.SIGTERM)
    assert str(stop) == "stopped by SIGTERM" and stop.exit_code == 143
    stop = Interrupted(signal.SIGINT, "out/checkpoint.pyth")
    assert str(stop) == (
        "stopped by SIGINT; out/checkpoint.pyth continues it: repeat the same command"
    )
    assert stop.exit_code == 130
