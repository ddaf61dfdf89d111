"""Where messages go, and the json_stats lines that PySlowFast's tools read."""

from __future__ import annotations

import json
import logging
import math

import pytest

from slowfast.utils.logging import (
    close_logging,
    format_eta,
    format_json_stats,
    get_logger,
    log_json_stats,
    setup_logging,
)

logger = get_logger("slowfast.tests")


def read(folder, name: str) -> str:
    return (folder / name).read_text()


def test_json_stats_line():
    """Keys sorted, floats with five decimals, other values as JSON has them."""
    stats = {"lr": 1e-4, "_type": "train_iter", "epoch": "1/3", "loss": 2.0, "n": 3, "ok": True}
    assert format_json_stats(stats | {"none": None}) == (
        'json_stats: {"_type": "train_iter", "epoch": "1/3", "loss": 2.00000, "lr": 0.00010, '
        '"n": 3, "none": null, "ok": true}'
    )


@pytest.mark.parametrize(
    "value, text",
    [
        (1 / 3, "0.33333"),
        (2.000005, "2.00000"),  # the nearest double is below
        (-0.000001, "-0.00000"),
        (123456.789, "123456.78900"),
        (1e22, "10000000000000000000000.00000"),
        (math.nan, '"nan"'),  # JSON has no such number
        (math.inf, '"inf"'),
        (-math.inf, '"-inf"'),
        (1e31, '"1e+31"'),
        ([1.5, {"a": math.nan}], '[1.5, {"a": "nan"}]'),
    ],
)
def test_floats_of_json_stats(value, text):
    line = format_json_stats({"x": value})
    assert line == f'json_stats: {{"x": {text}}}'
    json.loads(line.removeprefix("json_stats: "))


def test_the_main_process_writes_console_and_file(tmp_path, capsys):
    setup_logging(tmp_path)
    logger.info("%d videos", 3)
    logger.debug("too fine")
    logger.warning("careful")
    assert capsys.readouterr().out == "3 videos\ncareful\n"
    lines = read(tmp_path, "stdout.log").splitlines()
    assert len(lines) == 2 and "[WARNING]" in lines[1] and "test_logging.py" in lines[0]
    assert lines[0].endswith("3 videos")


def test_other_ranks_write_warnings_to_a_file_of_their_own(tmp_path, capsys):
    setup_logging(tmp_path, is_main=False, rank=3)
    logger.info("not here")
    assert list(tmp_path.iterdir()) == []  # no file without a warning
    logger.warning("memory")
    assert capsys.readouterr().out == ""
    assert "memory" in read(tmp_path, "stdout_rank3.log")
    assert "not here" not in read(tmp_path, "stdout_rank3.log")


def test_a_second_setup_replaces_the_first(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        setup_logging(tmp_path / name)
    logger.info("once")
    assert capsys.readouterr().out == "once\n"
    assert read(tmp_path / "a", "stdout.log") == "" and "once" in read(tmp_path / "b", "stdout.log")


def test_without_a_folder_nothing_is_written(capsys):
    setup_logging(None)
    logger.info("console only")
    assert capsys.readouterr().out == "console only\n"


def test_handlers_of_the_root_logger_print_nothing_twice(caplog):
    setup_logging(None)
    logger.warning("of the run")
    close_logging()
    logger.warning("after the run")
    assert caplog.messages == ["after the run"]


def test_closing_restores_the_state_before(tmp_path):
    package = logging.getLogger("slowfast")
    close_logging()
    before = (package.propagate, package.level, list(package.handlers))
    setup_logging(tmp_path)
    assert (package.propagate, package.level) == (False, logging.INFO)
    close_logging()
    assert (package.propagate, package.level, list(package.handlers)) == before == (True, 0, [])


def test_stats_go_to_their_files(tmp_path, capsys):
    setup_logging(tmp_path)
    log_json_stats({"_type": "train_iter", "loss": 0.5}, tmp_path)
    log_json_stats({"_type": "val_epoch", "top1_err": 12.5}, tmp_path)
    iteration, epoch = read(tmp_path, "stats.jsonl").splitlines()
    assert json.loads(iteration) == {"_type": "train_iter", "loss": 0.5}
    assert read(tmp_path, "json_stats.log") == f"json_stats: {epoch}\n"
    # not on a terminal: the console shows both
    assert capsys.readouterr().out.count("json_stats: ") == 2
    assert read(tmp_path, "stdout.log").count("json_stats: ") == 2


def test_a_terminal_shows_no_iteration_lines(tmp_path, capsys, monkeypatch):
    setup_logging(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    log_json_stats({"_type": "train_iter", "loss": 0.5})
    log_json_stats({"_type": "train_epoch", "loss": 0.25})
    out = capsys.readouterr().out
    assert "train_epoch" in out and "train_iter" not in out
    assert "train_iter" in read(tmp_path, "stdout.log")


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0:00:00"),
        (61.9, "0:01:01"),
        (3600, "1:00:00"),
        (90000, "1 day, 1:00:00"),
        (-5, "0:00:00"),
    ],
)
def test_eta(seconds, text):
    assert format_eta(seconds) == text
