"""`predict` as a command, and the mode DEMO of a run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import slowfast
from slowfast.config.load import load_config
from slowfast.utils.errors import UserError
from slowfast.video.source import open_video
from slowfast.video.writer import write_mp4
from tests.conftest import ROOT, SHARED_CLIPS, TINY, noise_clip, run_tool, words
from tests.fewshot import TINY_FEWSHOT
from tests.inference.test_predictor import trained


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory) -> Path:
    values = {"DATA.SAMPLING": "clip", "DATA.SAMPLING_RATE": 2, "TEST.NUM_ENSEMBLE_VIEWS": 1}
    return trained(shapes, tmp_path_factory.mktemp("run") / "out", values)


@pytest.fixture(scope="module")
def predictor(run):
    return slowfast.load(run, "cpu")


@pytest.fixture
def place(run, shapes, tmp_path):
    """A folder with a run, videos, a broken one, and something else."""
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(shapes / "videos/test", tmp_path / "videos")
    (tmp_path / "videos/broken.mp4").write_bytes(b"no video")
    (tmp_path / "videos/readme.md").write_text("hello")
    write_mp4(tmp_path / "long.mp4", noise_clip(100, 48, 64), fps=25, gop=50)
    return tmp_path


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_with_a_broken_video(place, predictor):
    done = run_tool("predict.py", "run", "videos", "--top", "2", cwd=place)
    assert done.returncode == 1, done.stderr
    rows = rows_of(done.stdout)
    assert [row["path"] for row in rows] == sorted(
        f"videos/{p.name}" for p in (place / "videos").glob("*.mp4")
    )
    bad = [row for row in rows if "error" in row]
    assert [row["path"] for row in bad] == ["videos/broken.mp4"]
    assert "unreadable: videos/broken.mp4: is not a readable video" in done.stderr
    assert "ignored 1 file: readme.md" in done.stderr
    assert "9 videos, 1 of them unreadable" in done.stderr
    first = next(row for row in rows if row["path"].endswith("left_0000.mp4"))
    answer = predictor.predict(place / "videos/left_0000.mp4", top=2)
    assert first["labels"] == answer.labels
    assert first["probabilities"] == pytest.approx(answer.probabilities, abs=1e-6)


def test_a_table_of_a_list_and_standard_input(place):
    (place / "list.txt").write_text("videos/up_0000.mp4\nvideos/left_0001.mp4\n")
    done = run_tool("predict.py", "run", "list.txt", "--out", "new/out.csv", cwd=place)
    assert done.returncode == 0 and not done.stdout, done.stderr
    with open(place / "new/out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["videos/up_0000.mp4", "videos/left_0001.mp4"]
    assert len(rows[0]) == 2 + 2 * 4 and float(rows[0]["probability"]) > 0.25
    # A second call replaces the file by the same one.
    before = (place / "new/out.csv").read_bytes()
    assert (
        run_tool("predict.py", "run", "list.txt", "--out", "new/out.csv", cwd=place).returncode == 0
    )
    assert (place / "new/out.csv").read_bytes() == before


def test_windows_timeline_and_annotated_video(place):
    options = ["--window", "1", "--stride", "0.4", "--timeline", "t.png", "--annotate", "a.mp4"]
    done = run_tool("predict.py", "run", "long.mp4", *options, cwd=place)
    assert done.returncode == 0, done.stderr
    rows = rows_of(done.stdout)
    spans = [(row["start"], row["end"]) for row in rows]
    assert spans == [(n / 10, min(n / 10 + 1, 4)) for n in range(0, 33, 4)]
    assert "1 video, 9 windows" in done.stderr
    assert (place / "t.png").read_bytes().startswith(b"\x89PNG")
    written = open_video(str(place / "a.mp4"))
    assert written.num_frames == 100 and written.fps == 25
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == [
        "a.mp4",
        "long.mp4",
        "t.png",
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["run", "videos", "--timeline", "t.png"], "--timeline: shows one video, there are 9"),
        (["run", "0", "--annotate", "a.mp4"], "--annotate: a stream is not kept"),
        (["run", "long.mp4", "--top", "0"], "--top: is 0"),
        (["run", "long.mp4", "--window", "-1"], "--window: is -1"),
        (["run", "long.mp4", "--window", "nan"], "--window: is nan"),
        (["run", "long.mp4", "--stride", "inf"], "--stride: is inf"),
        (["run", "0", "--limit", "-3"], "--limit: is -3"),
        (["run", "long.mp4", "--out", "videos", "--format", "csv"], "--out: videos is a folder"),
        (["run", "long.mp4", "--annotate", "a.avi"], "--annotate: a.avi is no .mp4 file"),
        (["run", "long.mp4", "--timeline", "t.txt"], "--timeline: t.txt is no .png file"),
        (["run", "0", "--limit", "0"], "--limit: is 0"),
        (["run", "long.mp4", "--out", "x.xlsx"], "x.xlsx is no jsonl or csv file"),
        (["run", "long.mp4", "--out", "x.csv", "--timeline", "x.csv"], "the same name"),
        (["run", "long.mp4", "--annotate", "long.mp4"], "it would be overwritten"),
        (["run", "videos", "--out", "videos/readme.md", "--format", "csv"], "would be overwritten"),
        (["run", "long.mp4", "--out", "run/checkpoints/checkpoint_best.pyth", "--format", "csv"],
         "would be overwritten"),
        (["run", "long.mp4", "--classes", "a,b"], "was trained with other class names"),
        (["run", "long.mp4", "--support", "videos"], "--support: videos holds no <class>"),
        (["long.mp4", "long.mp4"], "checkpoint: "),
        (["run", "long.mp4", "--device", "gpu"], "there is no device 'gpu'"),
    ],
)  # fmt: skip
def test_what_is_refused(words, message, place):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    done = run_tool("predict.py", *words, cwd=place)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_no_folder_of_frames_is_written_into(place):
    frames = place / "frames"
    frames.mkdir()
    for number in range(1, 3):
        shutil.copy(ROOT / "README.md", frames / f"{number:05d}.jpg")
    done = run_tool("predict.py", "run", "frames", "--out", "frames/out.csv", cwd=place)
    assert done.returncode == 2 and "it would be overwritten" in done.stderr


def test_overrides_reach_the_network(place):
    done = run_tool(
        "predict.py", "run", "long.mp4", "--opts", "TEST.NUM_SPATIAL_CROPS", "9", cwd=place
    )
    assert done.returncode == 2 and "TEST.NUM_SPATIAL_CROPS" in done.stderr


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_call_leaves_whole_lines_or_nothing(number, code, place):
    """Ctrl-C ends with the lines so far; a kill leaves no file; the same call repairs both."""
    videos = ["videos"] * 400
    command = [sys.executable, str(ROOT / "tools/predict.py"), "run", *videos, "--out", "out.jsonl"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:  # the first video was answered
        if line.startswith("unreadable"):
            break
    process.send_signal(number)
    told = process.stderr.read()
    assert process.wait(60) == code
    out = place / "out.jsonl"
    assert out.exists() == (number == signal.SIGINT)
    if out.exists():
        rows = rows_of(out.read_text())
        assert 0 < len(rows) < 3600
        count = re.search(r"^(\d+) videos?, .*seconds$", told, re.M)[1]
        assert abs(int(count) - len(rows)) <= 1 and " window" not in told
    done = run_tool("predict.py", "run", "videos", "--out", "out.jsonl", cwd=place)
    assert done.returncode == 1 and len(rows_of(out.read_text())) == 9
    assert not [path for path in place.iterdir() if path.name.endswith(".tmp")]


def test_a_reader_that_has_seen_enough(place):
    command = f"{sys.executable} {ROOT}/tools/predict.py run videos | head -n 1"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and len(rows_of(done.stdout)) == 1, done.stderr


def test_support_clips(compositions, tmp_path):
    values = TINY_FEWSHOT | {
        "FEWSHOT.METHOD": "prototype",
        "FEWSHOT.TRAIN_EPISODES": 1,
        "FEWSHOT.VAL_EPISODES": 1,
        "TEST.ENABLE": False,
        "SOLVER.MAX_EPOCH": 1,
        "DATA.PATH_TO_DATA_DIR": compositions,
        "DATA.PATH_PREFIX": compositions / "videos",
        "DATA_LOADER.NUM_WORKERS": 0,
        "OUTPUT_DIR": tmp_path / "out",
    }
    from slowfast.engine.launch import launch
    from slowfast.engine.run import run_job

    launch(load_config(overrides=words(values)), run_job)
    clips = sorted((compositions / "videos").rglob("*.mp4"))
    for number, name in enumerate(["first", "second", "third"]):
        (tmp_path / "support" / name).mkdir(parents=True)
        shutil.copy(clips[4 * number], tmp_path / "support" / name)
    done = run_tool("predict.py", "out", clips[0], "--support", "support", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = rows_of(done.stdout)
    assert row["labels"][0] == "first" and len(row["labels"]) == 3
    absent = run_tool("predict.py", "out", clips[0], cwd=tmp_path)
    assert absent.returncode == 2 and "give support=" in absent.stderr


@pytest.mark.skipif(not SHARED_CLIPS.is_dir(), reason="no real videos here")
def test_real_videos(run, tmp_path):
    videos = sorted(map(str, SHARED_CLIPS.glob("*.*4"))) + sorted(
        map(str, SHARED_CLIPS.glob("*.avi"))
    )
    done = run_tool("predict.py", run, *videos, cwd=tmp_path)
    assert done.returncode == 0 and len(rows_of(done.stdout)) == len(videos) > 4, done.stderr


# -- DEMO ----------------------------------------------------------------------------------------


def demo_words(run: Path, shapes: Path, out: Path, **values) -> list[str]:
    base = TINY | {
        "TRAIN.ENABLE": False,
        "TEST.ENABLE": False,
        "TEST.CHECKPOINT_FILE_PATH": run / "checkpoints/checkpoint_best.pyth",
        "DATA.SAMPLING": "clip",
        "DATA.SAMPLING_RATE": 5,
        "DEMO.ENABLE": True,
        "OUTPUT_DIR": out,
    }
    return words(base | {f"DEMO.{name}": value for name, value in values.items()})


def test_demo(run, shapes, tmp_path, predictor):
    """Clips of 20 frames that share 5, drawn above a threshold of 0: PySlowFast's keys."""
    write_mp4(tmp_path / "in.mp4", noise_clip(100, 48, 64), fps=25, gop=50)
    (tmp_path / "cfg.yaml").write_text("NUM_GPUS: 0\n")
    (tmp_path / "names.json").write_text('{"left": 0, "right": 1, "up": 2, "down": 3}')
    listed = demo_words(
        run,
        shapes,
        tmp_path / "out",
        INPUT_VIDEO=tmp_path / "in.mp4",
        OUTPUT_FILE=tmp_path / "seen.mp4",
        LABEL_FILE_PATH=tmp_path / "names.json",
        BUFFER_SIZE=5,
        UNCOMMON_CLASS_THRES=0.0,
        DISPLAY_WIDTH=320,
        DISPLAY_HEIGHT=240,
        OUTPUT_FPS=10,
        THREAD_ENABLE=True,
        NUM_VIS_INSTANCES=4,
    )
    done = run_tool("run_net.py", "--cfg", tmp_path / "cfg.yaml", *listed, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of((tmp_path / "out/demo.jsonl").read_text())
    starts = [row["start"] for row in rows]
    assert starts == pytest.approx([15 * n / 25 for n in range(7)], abs=0.001)
    assert rows[0]["end"] == 0.8 and rows[-1]["end"] == 4.0 and len(rows[0]["labels"]) == 4
    written = open_video(str(tmp_path / "seen.mp4"))
    assert written.fps == 10 and written.num_frames == 100
    assert written.frames([[0]])[0].shape[1:] == (240, 320, 3)


def test_demo_of_nothing(run, shapes, tmp_path):
    with pytest.raises(UserError, match="there is nothing to look at"):
        load_config(overrides=demo_words(run, shapes, tmp_path))
    with pytest.raises(UserError, match="11 is more than half of a clip of 20 frames"):
        load_config(overrides=demo_words(run, shapes, tmp_path, INPUT_VIDEO="x", BUFFER_SIZE=11))
    with pytest.raises(UserError, match="a camera's frames are not kept"):
        load_config(overrides=demo_words(run, shapes, tmp_path, WEBCAM=0, OUTPUT_FILE="o.mp4"))


def test_demo_of_an_absent_video(run, shapes, tmp_path):
    (tmp_path / "cfg.yaml").write_text("NUM_GPUS: 0\n")
    listed = demo_words(run, shapes, tmp_path / "out", INPUT_VIDEO="absent.mp4")
    done = run_tool("run_net.py", "--cfg", tmp_path / "cfg.yaml", *listed, cwd=tmp_path)
    assert done.returncode == 2 and "absent.mp4: No such file" in done.stderr


def test_which_classes_are_drawn():
    from slowfast.inference.demo import drawn_classes
    from slowfast.inference.prediction import Prediction

    answer = Prediction("x", ["walk", "run", "sit", "jump"], [0.6, 0.3, 0.07, 0.03])
    thresholds = {"DEMO.COMMON_CLASS_NAMES": ["walk"], "DEMO.UNCOMMON_CLASS_THRES": 0.05}
    options = load_config(overrides=thresholds).DEMO
    assert drawn_classes(options, answer) == [("run", 0.3), ("sit", 0.07)]
    options = load_config(overrides=thresholds | {"DEMO.COMMON_CLASS_THRES": 0.6}).DEMO
    assert [name for name, _ in drawn_classes(options, answer)] == ["walk", "run", "sit"]
    options = load_config(overrides={"DEMO.VIS_MODE": "top-k"}).DEMO
    assert [name for name, _ in drawn_classes(options, answer)] == answer.labels


def test_detection_is_said_to_have_no_effect(caplog):
    load_config(overrides={"DEMO.DETECTRON2_THRESH": 0.5})
    assert "DEMO.DETECTRON2_THRESH (overrides): set without effect" in caplog.text
