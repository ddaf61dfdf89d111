"""Commands over many videos: shares and their join, and a cluster that loses a machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_tool
from tests.inference.test_predictor import trained
from tests.ray_cluster import is_working, started


def files_of(folder: Path) -> dict[str, bytes]:
    """The files below a folder, without what shares keep for themselves."""
    names = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {n: p.read_bytes() for n, p in names.items() if "shares/" not in n}


@pytest.fixture(scope="module")
def place(shapes, tmp_path_factory) -> Path:
    """A folder with a set of videos, one of them broken."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "set").symlink_to(shapes)
    (folder / "videos").mkdir()
    for path in sorted((shapes / "videos").rglob("*.mp4")):
        os.link(path, folder / "videos" / f"{path.parent.name}_{path.name}")
    (folder / "videos/bad.mp4").write_bytes(b"no video")
    return folder


LISTS = ["set/train.csv", "set/val.csv", "--prefix", "set", "--out"]
# Command -> its words before and after the place to write to, and what it writes there.
COMMANDS = {
    "resize_videos": (["videos"], ["--short-side", "32"], "val_up_0000.mp4"),
    "extract_frames": (
        ["set"],
        ["--lists", "train.csv", "val.csv"],
        "videos/val/up_0000/00001.jpg",
    ),
    "check_data": (LISTS, [], "summary.json"),
    "make_shards": (LISTS, ["--megabytes", "0.01"], "train/index.tsv"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_shares_that_are_joined_are_one_run(name, place, tmp_path):
    before, after, made = COMMANDS[name]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_tool(f"{name}.py", *before, whole, *after, "--workers", "1", cwd=place)
    words = (f"{name}.py", *before, parts, *after, "--workers", "1")
    for number in (1, 3):
        done = run_tool(*words, "--shard", f"{number}/3", cwd=place)
        assert done.returncode in (0, 1), done.stderr
    early = run_tool(*words, "--merge", cwd=place)
    assert early.returncode == 2 and "--shard 2/3 again" in early.stderr, early.stderr
    run_tool(*words, "--shard", "2/3", cwd=place)
    joined = run_tool(*words, "--merge", cwd=place)
    assert joined.returncode == (name == "resize_videos"), joined.stderr  # of a broken video
    expected = files_of(whole)
    assert files_of(parts) == expected and made in expected


@pytest.mark.parametrize(
    "words, text",
    [
        (["--shard", "0/3"], "'0/3' is no share"),
        (["--shard", "4/3"], "'4/3' is no share"),
        (["--shard", "2"], "--shard 2/8"),
        (["--shard", "1/2", "--merge"], "--merge: a shard cannot join"),
        (["--anew", "--merge"], "--merge: there would be nothing"),
        (["--workers", "0"], "--workers: is 0"),
    ],
)
def test_what_is_refused(words, text, place, tmp_path):
    done = run_tool("resize_videos.py", "videos", tmp_path / "out", *words, cwd=place)
    assert done.returncode == 2 and text in done.stderr
    assert not (tmp_path / "out").exists()


def test_other_options_need_a_word(place, tmp_path):
    words = ("resize_videos.py", "set/videos/test", tmp_path, "--workers", "1")
    assert run_tool(*words, "--short-side", "32", cwd=place).returncode == 0
    before = files_of(tmp_path)
    refused = run_tool(*words, "--short-side", "24", cwd=place)
    assert refused.returncode == 2 and "short_side 32, now 24" in refused.stderr
    assert files_of(tmp_path) == before
    assert run_tool(*words, "--short-side", "24", "--anew", cwd=place).returncode == 0
    assert files_of(tmp_path) != before


def test_answers_of_shares_and_of_one_run(shapes, place, tmp_path):
    network = trained(shapes, tmp_path / "run", {})
    words = ("predict.py", network, "videos", "--top", "2", "--out")
    whole = run_tool(*words, "whole.jsonl", cwd=place)
    for number in (1, 2):
        part = run_tool(*words, "parts.jsonl", "--shard", f"{number}/2", cwd=place)
        assert part.returncode in (0, 1) and not (place / "parts.jsonl").exists(), part.stderr
    joined = run_tool(*words, "parts.jsonl", "--merge", cwd=place)
    assert (whole.returncode, joined.returncode) == (1, 1), joined.stderr
    assert "33 videos, 1 of them unreadable" in joined.stderr
    rows, expected = (
        [json.loads(line) for line in (place / name).read_text().splitlines()]
        for name in ("parts.jsonl", "whole.jsonl")
    )
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    for row, other in zip(rows, expected):
        assert row.get("error") == other.get("error") and row.get("labels") == other.get("labels")
        # the batches are others, which the last digits show
        assert row.get("probabilities") == pytest.approx(other.get("probabilities"), abs=2e-6)
    again = run_tool(*words, "parts.jsonl", "--merge", "--window", "1", cwd=place)
    assert again.returncode == 2 and "window 0.0, now 1.0" in again.stderr


def test_a_cluster_that_loses_a_machine(place, tmp_path):
    """The same files as undisturbed, and nothing else."""
    pytest.importorskip("ray", reason="Ray (extra ray) is not installed")
    whole, target = tmp_path / "whole", tmp_path / "target"
    words = ["--short-side", "32"]
    run_tool("resize_videos.py", "videos", whole, *words, "--workers", "1", cwd=place)
    command = [sys.executable, ROOT / "tools/resize_videos.py", "videos", target, *words]
    journal = target / "journal.jsonl"
    with started() as cluster, open(tmp_path / "log", "w") as log:
        machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
        process = subprocess.Popen(
            [*map(str, command), "--ray", cluster.address], cwd=place, stdout=log, stderr=log
        )
        try:
            lost = None
            while lost is None and process.poll() is None:
                begun = journal.exists() and len(journal.read_text().splitlines()) > 3
                lost = next((m for m in machines if begun and is_working(m)), None)
                time.sleep(0.02)
            cluster.remove_node(lost, allow_graceful=False)
            done = len(journal.read_text().splitlines())
            assert process.wait(300) == 1, (tmp_path / "log").read_text()  # a broken video
        finally:
            process.kill()
    assert done < 30, "it was lost too late to matter"
    assert files_of(target) == files_of(whole)
    assert "32 of 33 videos" in (tmp_path / "log").read_text()
