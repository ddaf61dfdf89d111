"""Sums by hand, files of constants, and the tables in docs/scale.md."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from slowfast.analysis.scale import needs
from slowfast.analysis.scale.needs import GPUS, VIDEOS, Constants, Needs
from slowfast.utils.errors import UserError
from tests.conftest import ROOT

FILE = Path(needs.__file__).with_name("constants.yaml")
ROUND = Constants(
    gpu_clips_per_second=100,
    read_seconds=0.05,
    megabytes_per_clip=2,
    requests_per_clip=3,
    megabytes_per_video=4,
    list_bytes_per_video=100,
    checkpoint_megabytes=800,
    checkpoint_megabytes_per_second=100,
    copy_megabytes_per_second=1000,
    restart_seconds=50,
    gpus_per_node=8,
    node_hours_between_failures=100,
)


def test_needs_by_hand():
    need = Needs(ROUND, 20)  # three nodes
    assert need.nodes == 3 and need.clips_per_second == 2000 and need.cores == 100
    assert need.megabytes_per_second == 4000 and need.requests_per_second == 6000
    assert need.hours_between_failures == pytest.approx(100 / 3)
    assert need.stall_seconds("file") == 8
    assert need.stall_seconds("sharded") == 0.4
    assert need.stall_seconds("asynchronous") == pytest.approx(0.04)
    # sqrt(2 * 8 s * 120000 s); stalls 8 / 1385.6 of the time, half an interval and 50 s per failure
    assert need.checkpoint_seconds("file") == pytest.approx(1385.64, abs=0.01)
    assert need.lost_share("file") == pytest.approx(0.0057735 + (692.82 + 50) / 120000, abs=1e-6)


def test_the_best_interval_loses_least():
    need = Needs(ROUND, 64)
    best = need.checkpoint_seconds("file")
    assert all(
        need.lost_share("file", factor * best) > need.lost_share("file") for factor in (0.8, 1.25)
    )


def test_tables():
    assert (
        needs.gpus_table(ROUND, [20]).splitlines()[-1]
        == "| 20 | 2,000 | 100 | 5.0 | 4.00 | 6,000 | 33 |"
    )
    line = needs.videos_table(ROUND, [7_200_000], [20]).splitlines()[-1]
    assert line == "| 7,200,000 | 28.8 | 0.72 | 1.00 |"
    first = needs.checkpoints_table(ROUND, [20]).splitlines()[2]
    assert first == "| 20 | file | 8.000 | 23.1 | 2.1 | 1.20 |"


def test_the_page_has_the_tables_of_the_command():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    constants = Constants.read(FILE)
    assert needs.gpus_table(constants, GPUS) in text
    assert needs.videos_table(constants, VIDEOS, GPUS) in text
    assert needs.checkpoints_table(constants, GPUS) in text


def test_constants_are_read_and_words_win(tmp_path):
    constants = Constants.read(FILE, ["read_seconds", "0.1"])
    assert constants == replace(Constants.read(FILE), read_seconds=0.1)
    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in asdict(ROUND).items()))
    assert Constants.read(file) == ROUND


@pytest.mark.parametrize(
    "text, words, message",
    [
        ("read_second: 1", [], "there is no constant read_second.*did you mean read_seconds"),
        ("read_seconds: 1", [], "lacks gpu_clips_per_second"),
        ("- 1", [], "has no names and numbers"),
        ("", [], "has no names"),
        (None, ["read_seconds", "-1"], "'-1' is no positive number"),
        (None, ["read_seconds", "fast"], "'fast' is no positive number"),
        (None, ["gpus_per_node", "0.5"], "gpus_per_node: 0.5 is no whole number"),
        ("- 1", [], "see docs/scale.md"),
    ],
)
def test_what_is_wrong_is_named(text, words, message, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(FILE.read_text() if text is None else text)
    with pytest.raises(UserError, match=f"(?s){message}"):
        Constants.read(file, words)
