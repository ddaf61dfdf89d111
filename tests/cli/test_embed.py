"""`embed` and `search` as commands: from videos to results, killed in the middle, refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowfast.inference.embeddings.space import Space
from tests.conftest import ROOT, run_tool
from tests.inference.test_export import predictor_of

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def made(shapes, tmp_path_factory) -> Path:
    """A CLIP with random weights, videos, and their embeddings."""
    place = tmp_path_factory.mktemp("embedded")
    predictor_of(place, "TemporalClipVideo")
    shutil.copytree(shapes / "videos/test", place / "videos")
    done = run_tool(
        "embed.py", "w.pyth", "videos", "--device", "cpu", "--window", "1", "--per-file", "3",
        cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 videos, 16 windows in 3 files of embeddings" in done.stdout
    return place


@pytest.fixture
def place(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "place")
    return tmp_path / "place"


def test_a_text_and_its_page(place):
    words = ["--top", "4", "--out", "a.json", "--page", "pages/a.html", "--device", "cpu"]
    done = run_tool("search.py", "a person running", "--checkpoint", "w.pyth", *words, cwd=place)
    assert done.returncode == 0, done.stderr
    rows = json.loads((place / "a.json").read_text())
    lines = done.stdout.splitlines()
    assert lines[-1] == "page: pages/a.html" and len(lines) == 6
    assert [line.split()[-1] for line in lines[1:5]] == [row["path"] for row in rows]
    similar = [row["similarity"] for row in rows]
    assert similar == sorted(similar, reverse=True)
    page = (place / "pages/a.html").read_text()
    assert "a person running" in page and f"../{rows[0]['path']}#t=" in page


def test_a_clip_and_a_table(place):
    words = ["--start", "1", "--top", "2", "--out", "a.csv", "--device", "cpu"]
    done = run_tool("search.py", "videos/up_0000.mp4", "--checkpoint", "w.pyth", *words, cwd=place)
    assert done.returncode == 0, done.stderr
    with open(place / "a.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["path"], first["start"]) == ("videos/up_0000.mp4", "1.000")
    assert float(first["similarity"]) > 0.999


def test_a_video_that_cannot_be_read_is_named(place):
    (place / "videos/broken.mp4").write_bytes(b"no video")
    done = run_tool("embed.py", "w.pyth", "videos", "--device", "cpu", "--out", "new", cwd=place)
    assert done.returncode == 1 and "unreadable: videos/broken.mp4: " in done.stderr
    assert (place / "new/failed.tsv").read_text().startswith("videos/broken.mp4\t")
    assert Space([place / "new"]).rows == 8


@pytest.mark.parametrize(
    "tool, words, message",
    [
        ("embed", ["w.pyth", "videos"], "holds embeddings of other videos"),
        ("embed", ["w.pyth", "videos", "--window", "-1"], "--window: is -1"),
        ("embed", ["w.pyth", "videos", "--per-file", "0"], "--per-file: is 0"),
        ("embed", ["w.pyth", "0"], "0 is a camera or stream"),
        ("embed", ["w.pyth", "videos", "--out", "w.pyth"], "w.pyth is a file"),
        ("embed", ["w.pyth", "videos", "--out", "new", "--shard", "9/8"], "no share of a list"),
        ("search", ["x", "--vectors", "absent"], "there is no file absent"),
        ("search", ["x", "--vectors", "w.pyth"], "w.pyth is damaged or no Parquet file"),
        ("search", ["x", "--out", "a.txt"], "a.txt is no .json or .csv file"),
        ("search", ["x", "--page", "a.pdf"], "a.pdf is no .html file"),
        ("search", ["x", "--top", "0"], "--top: is 0"),
        ("search", ["absent.mp4"], "there is no video absent.mp4"),
        ("search", ["x", "--start", "1"], "a text has no times"),
    ],
)
def test_what_is_refused(tool, words, message, place):
    if tool == "embed" and "--out" not in words:
        shutil.copy(place / "videos/up_0000.mp4", place / "videos/added.mp4")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    done = run_tool(f"{tool}.py", *words, "--device", "cpu", cwd=place)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_killed_call_goes_on(made, place):
    """Killed when the first file is done: the same files as undisturbed, none half written."""
    (place / "list.txt").write_text("".join(f"{v}\n" for v in listed(made) for _ in range(5)))
    words = ["w.pyth", "list.txt", "--device", "cpu", "--window", "1", "--per-file", "8"]
    command = [sys.executable, str(ROOT / "tools/embed.py"), *words, "--out", "killed"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.DEVNULL)
    first, journal = place / "killed/part-00000.parquet", place / "killed/journal.jsonl"
    while process.poll() is None and not (journal.exists() and '"windows"' in journal.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = first.stat().st_mtime_ns
    assert len(list((place / "killed").glob("part-*.parquet"))) < 5
    assert run_tool("embed.py", *words, "--out", "killed", cwd=place).returncode == 0
    assert run_tool("embed.py", *words, "--out", "whole", cwd=place).returncode == 0
    files = [
        {path.name: path.read_bytes() for path in (place / folder).glob("part-*.parquet")}
        for folder in ("killed", "whole")
    ]
    assert files[0] == files[1] and len(files[0]) == 5 and first.stat().st_mtime_ns == before
    assert not [p for p in (place / "killed").iterdir() if p.name.endswith(".tmp")]


def listed(place: Path) -> list[str]:
    return (place / "embeddings/videos.txt").read_text().splitlines()
