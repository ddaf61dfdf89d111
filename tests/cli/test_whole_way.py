"""The way of a new user, from a folder of real clips to a file that runs without this package."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SHARED_CLIPS, TINY, run_tool, words
from tests.inference.test_export import WITHOUT

PHRASES = SHARED_CLIPS / "miracl_vc1" / "phrases"
CLASSES = ("excuse_me", "good_bye", "thank_you")
VIDEOS = 8  # of each class
# Seconds instead of minutes; everything else is as the commands give it.
QUICK = {k: v for k, v in TINY.items() if k.startswith(("UNIFORMER", "DATA_L"))}
QUICK |= {"TRAIN.BATCH_SIZE": 4, "SOLVER.MAX_EPOCH": 1, "STFM.NUM_TOKENS": 2, "REPORT.VIDEOS": 4}


def call(folder: Path, tool: str, *args: object) -> str:
    """What the command prints; it must end with code 0."""
    done = run_tool(tool, *args, cwd=folder)
    assert done.returncode == 0, f"{tool} {args}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def of_video(row: dict[str, str]) -> tuple[str, ...]:
    """Class folder and name, whatever folder the path begins with."""
    return Path(row["path"]).parts[-2:]


@pytest.mark.skipif(not PHRASES.is_dir(), reason=f"no real clips in {PHRASES}")
def test_from_a_folder_of_videos_to_an_exported_network(tmp_path):
    for name in CLASSES:
        (tmp_path / "mine" / name).mkdir(parents=True)
        for video in sorted((PHRASES / name).iterdir())[:VIDEOS]:
            shutil.copy(video, tmp_path / "mine" / name)
    (tmp_path / "mine/thank_you/broken.mp4").write_bytes(b"no video")

    # Lists, and what is wrong with the videos.
    printed = call(tmp_path, "make_lists.py", "folder", "mine", "--out", "lists")
    assert "small" in printed, "a first try is called one"
    config = "lists/config.yaml"
    done = run_tool("check_data.py", "--cfg", config, "--out", "checked", cwd=tmp_path)
    assert done.returncode == 1 and "broken.mp4" in done.stdout + done.stderr
    (tmp_path / "mine/thank_you/broken.mp4").unlink()
    call(tmp_path, "make_lists.py", "folder", "mine", "--out", "lists")
    call(tmp_path, "check_data.py", "--cfg", config, "--out", "checked")

    # A training with its test and its page.
    call(tmp_path, "run_net.py", "--cfg", config, "OUTPUT_DIR", "run", *words(QUICK))
    (test,) = (tmp_path / "run/tests").iterdir()
    facts = json.loads((test / "test.json").read_text())
    assert facts["classes"] == list(CLASSES) and "top5_acc" not in facts["figures"]
    page = (tmp_path / "run/report.html").read_text()
    assert f"{facts['figures']['top1_acc']:.2f}" in page and "data:image/webp" in page

    # Fine-tuning of these weights.
    command = ["bash", str(ROOT / "exp/finetune/run.sh"), *words(QUICK)]
    paths = {"WEIGHTS": "run/checkpoints/checkpoint_best.pyth", "MODEL": config, "DATA": "lists"}
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OUTPUT_DIR": "tuned"}
    tuned = subprocess.run(command, cwd=tmp_path, env=env | paths, capture_output=True, text=True)
    assert tuned.returncode == 0, tuned.stderr[-3000:]
    assert (tmp_path / "tuned/report.html").is_file()

    # Answers, which are those of the test.
    call(tmp_path, "predict.py", "run", "mine", "--out", "answers.csv")
    answers = {of_video(row): row for row in rows_of(tmp_path / "answers.csv")}
    assert len(answers) == len(CLASSES) * VIDEOS
    tested = rows_of(test / "predictions.csv")
    assert tested
    for row in tested:
        answer = answers[of_video(row)]
        assert answer["prediction_name"] == row["prediction_name"]
        assert float(answer["probability"]) == pytest.approx(float(row["probability"]), abs=1e-4)

    # The network in a file, run without this package.
    printed = call(tmp_path, "export.py", "run", "mine.pt2")
    lines = printed.split("without this package:\n\n")[1]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT + lines], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0 and str(list(CLASSES)) in ran.stdout, ran.stderr
