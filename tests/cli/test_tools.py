"""The tools as commands: what they print, what they write, and their exit codes."""

from __future__ import annotations

import json
import re
import shutil

import cv2

from slowfast.analysis.stress.resume import state_differences
from slowfast.models.weights.read import read_checkpoint
from tests.conftest import TINY, run_tool, words


def test_check_data(shapes, tmp_path):
    lists = [str(shapes / "train.csv"), str(shapes / "val.csv"), "--prefix", str(shapes)]
    good = run_tool("check_data.py", *lists, "--out", tmp_path / "a", "--workers", "1")
    assert good.returncode == 0, good.stderr
    assert "train: 16 videos, 0 bad" in good.stdout
    assert re.search(r"frames +24 \.\. 24 \.\. 24", good.stdout)
    folder = tmp_path / "set"
    shutil.copytree(shapes, folder)
    (folder / "videos/train/left_0001.mp4").write_bytes(b"")
    broken = run_tool(
        "check_data.py",
        folder / "train.csv",
        "--prefix",
        folder,
        "--out",
        tmp_path / "b",
        "--workers",
        "1",
    )
    assert broken.returncode == 1 and "left_0001.mp4: the file is empty" in broken.stdout
    assert len((tmp_path / "b" / "good_train.csv").read_text().splitlines()) == 15
    absent = run_tool("check_data.py", tmp_path / "no.csv")
    assert absent.returncode == 2 and "there is no file" in absent.stderr


def test_check_data_of_a_configuration(shapes, tmp_path):
    done = run_tool(
        "check_data.py",
        "--cfg",
        "configs/quickstart/stfm.yaml",
        "--out",
        tmp_path,
        "DATA.PATH_TO_DATA_DIR",
        shapes,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {k: v["videos"] for k, v in summary["lists"].items()} == {
        "train": 16,
        "val": 8,
        "test": 8,
    }


def test_from_a_folder_to_a_tested_network(shapes, tmp_path):
    """make_lists, then its YAML file as it is, but for a tiny network."""
    for path in (shapes / "videos/train").iterdir():
        target = tmp_path / "mine" / path.name.split("_")[0]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    made = run_tool(
        "make_lists.py",
        "folder",
        tmp_path / "mine",
        "--out",
        tmp_path / "lists",
        "--base",
        "configs/quickstart/uniformer.yaml",
    )
    assert made.returncode == 0, made.stderr
    assert "4 classes; videos: 8 train, 4 val, 4 test" in made.stdout
    keep = ("SOLVER", "UNIFORMER", "DATA_L", "LOG_", "NUM_GPUS")
    quick = {k: v for k, v in TINY.items() if k.startswith(keep)} | {"TRAIN.BATCH_SIZE": 2}
    command = made.stdout.splitlines()[-1].split()
    assert command[:2] == ["python", "tools/run_net.py"]
    done = run_tool(
        "run_net.py",
        *command[2:],
        *words(quick),
        "OUTPUT_DIR",
        tmp_path / "out",
        "SOLVER.MAX_EPOCH",
        "1",
    )
    assert done.returncode == 0, done.stderr
    assert '"videos": 4' in done.stdout.splitlines()[-1]


def test_make_lists_says_what_is_missing(tmp_path):
    wrong = run_tool("make_lists.py", "kinetics", "--out", tmp_path)
    assert wrong.returncode == 2 and "needs --annotations and --videos" in wrong.stderr
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\na,b,0,1,train\n"
    )
    (tmp_path / "videos").mkdir()
    none = run_tool(
        "make_lists.py",
        "kinetics",
        "--annotations",
        tmp_path / "train.csv",
        "--videos",
        tmp_path / "videos",
        "--out",
        tmp_path,
    )
    assert none.returncode == 2 and "holds no videos" in none.stderr


def test_show_data(shapes, tmp_path):
    done = run_tool(
        "show_data.py",
        "--cfg",
        "configs/quickstart/stfm.yaml",
        "--videos",
        "3",
        "--out",
        tmp_path / "sheet.png",
        "DATA.PATH_TO_DATA_DIR",
        shapes,
        "MODEL.NUM_CLASSES",
        "4",
    )
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (3 * (18 + 66), 8 * 66, 3)


def test_make_shards(shapes, tmp_path):
    lists = [str(shapes / f"{split}.csv") for split in ("train", "val", "test")]
    words = ("--prefix", str(shapes), "--out", tmp_path / "out", "--megabytes", "0.03")
    done = run_tool("make_shards.py", *lists, *words)
    assert done.returncode == 0 and "train: 16 videos in 3 shards" in done.stdout, done.stderr
    assert (tmp_path / "out/classes.txt").read_text() == (shapes / "classes.txt").read_text()
    again = run_tool("make_shards.py", "--index", tmp_path / "out/val")
    assert again.stdout.startswith("8 videos in 2 shards"), again.stderr
    check = run_tool(
        "check_data.py",
        *("--cfg", "configs/quickstart/stfm.yaml", "--out", tmp_path / "check", "--workers", "1"),
        *("TRAIN.DATASET", "shards", "TEST.DATASET", "shards", "MODEL.NUM_CLASSES", "4"),
        *("DATA.PATH_TO_DATA_DIR", str(tmp_path / "out"), "NUM_GPUS", "0"),
    )
    assert "train: 16 videos, 0 bad" in check.stdout, check.stderr
    wrong = run_tool("make_shards.py", "--out", tmp_path / "none")
    assert wrong.returncode == 2 and "no list is given" in wrong.stderr


def test_make_shards_of_a_configuration(shapes, tmp_path):
    words = ("--cfg", "configs/quickstart/stfm.yaml", "--out", tmp_path / "out")
    keys = ("DATA.PATH_TO_DATA_DIR", str(shapes), "MODEL.NUM_CLASSES", "4")
    done = run_tool("make_shards.py", *words, *keys)
    assert done.returncode == 0 and "test: 8 videos in 1 shards" in done.stdout, done.stderr
    index = (tmp_path / "out/train/index.tsv").read_text().splitlines()
    listed = (shapes / "train.csv").read_text().splitlines()
    assert [line.split("\t")[4] for line in index[2:]] == [line.split()[0] for line in listed]


def test_check_env():
    done = run_tool("check_env.py")
    assert done.returncode == 0 and done.stdout.startswith("ok      python")
    assert "NUM_GPUS 0" in done.stdout or "CUDA" in done.stdout


def test_resize_videos_goes_on(shapes, tmp_path):
    source, target = tmp_path / "s", tmp_path / "t"
    shutil.copytree(shapes / "videos/val", source / "val")
    (source / "val/left_0000.mp4").rename(source / "val/up_0000.avi")
    first = run_tool("resize_videos.py", source, target, "--short-side", "48", "--workers", "1")
    assert first.returncode == 0 and first.stdout.startswith("8 of 8 videos"), first.stderr
    times = {p: p.stat().st_mtime_ns for p in target.rglob("*.mp4")}
    assert len(times) == 8 and target / "val/up_0000.avi.mp4" in times
    (target / "val/right_0000.mp4").unlink()
    (source / "val/bad.mp4").write_bytes(b"no video")
    again = run_tool("resize_videos.py", source, target, "--short-side", "48", "--workers", "1")
    assert again.returncode == 1 and "failed: val/bad.mp4" in again.stdout
    assert "bad.mp4" in (target / "failed.tsv").read_text()
    after = {p: p.stat().st_mtime_ns for p in target.rglob("*.mp4")}
    changed = [p.name for p in after if after[p] != times.get(p)]
    assert changed == ["right_0000.mp4"]


def test_convert_checkpoint(shapes, tmp_path):
    values = TINY | {
        "TRAIN.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "OUTPUT_DIR": str(tmp_path),
        "SOLVER.MAX_EPOCH": 1,
        "TEST.ENABLE": False,
        "EMA.ENABLE": True,
    }
    cfg = ["--cfg", "configs/quickstart/uniformer.yaml"]
    done = run_tool("run_net.py", *cfg, *words(values))
    assert done.returncode == 0, done.stderr
    file = tmp_path / "checkpoints" / "checkpoint_best.pyth"
    shown = run_tool("convert_checkpoint.py", "inspect", file)
    facts = json.loads(shown.stdout)
    assert shown.returncode == 0 and facts["model"] == "Uniformer" and facts["average"]
    assert facts["classes"] == ["left", "right", "up", "down"] and "shapes" not in facts
    small = tmp_path / "small.safetensors"
    stripped = run_tool("convert_checkpoint.py", "strip", file, small, "--average")
    assert stripped.returncode == 0 and small.stat().st_size < file.stat().st_size / 3
    tested = run_tool(
        "run_net.py",
        *cfg,
        *words(values),
        "TRAIN.ENABLE",
        "False",
        "TEST.ENABLE",
        "True",
        "TEST.CHECKPOINT_FILE_PATH",
        small,
        "TEST.DATASET",
        "moving_shapes",
    )
    assert tested.returncode == 0, tested.stderr
    converted = run_tool(
        "convert_checkpoint.py", "convert", small, tmp_path / "c.pyth", *cfg, *words(values)
    )
    assert converted.returncode == 0 and "100.0 % of the parameters" in converted.stdout
    folder, back = tmp_path / "best.dcp", tmp_path / "back.pyth"
    for source, target in ((file, folder), (folder, back)):
        done = run_tool("convert_checkpoint.py", "repack", source, target)
        assert done.returncode == 0, done.stderr
    assert state_differences(read_checkpoint(file), read_checkpoint(back)) == []
    shown = json.loads(run_tool("convert_checkpoint.py", "inspect", folder).stdout)
    assert shown | {k: facts[k] for k in ("file", "bytes")} == facts
    from_folder = tmp_path / "small_2.safetensors"
    assert run_tool("convert_checkpoint.py", "strip", folder, from_folder, "--average").stdout
    ours, theirs = read_checkpoint(small), read_checkpoint(from_folder)
    assert ours["model_state"].keys() == theirs["model_state"].keys()
    for wrong in (
        ["inspect", tmp_path / "none"],
        ["strip", file],
        ["strip", file, "x.onnx"],
        ["repack", file, tmp_path / "x.pyth"],
        ["convert", file, "x.pyth"],
    ):
        assert run_tool("convert_checkpoint.py", *wrong).returncode == 2


def test_stress():
    """The campaign itself, short: real processes, killed once."""
    done = run_tool("stress.py", "--stops", "1", "SOLVER.MAX_EPOCH", "4")
    result = json.loads(done.stdout[done.stdout.index("{") :])
    assert done.returncode == 0 and result["differences"] == [] and result["stops"] >= 1
    assert result["exit_codes"] == [-9]


def test_model_table_of_all_configurations_has_views():
    done = run_tool("model_table.py", "configs/quickstart/uniformer.yaml", "DATA.NUM_FRAMES", "4")
    head, _, row = done.stdout.splitlines()
    assert "views (crops x clips)" in head and "| 3 x 1 |" in row


def test_extract_frames_and_train_on_them(shapes, tmp_path):
    target = tmp_path / "frames"
    made = run_tool(
        "extract_frames.py",
        shapes,
        target,
        "--short-side",
        "40",
        "--workers",
        "1",
        "--lists",
        "train.csv",
        "val.csv",
        "test.csv",
    )
    assert made.returncode == 0, made.stderr
    assert "32 of 32 videos, 768 images" in made.stdout
    assert (target / "val.csv").read_text().splitlines()[0].endswith(" 24 0")
    config = ("--cfg", "configs/quickstart/heads.yaml")
    times = {p: p.stat().st_mtime_ns for p in target.rglob("00001.jpg")}
    again = run_tool("extract_frames.py", shapes, target, "--short-side", "40", "--workers", "1")
    assert again.returncode == 0 and times == {p: p.stat().st_mtime_ns for p in times}
    tiny = TINY | {
        "DATA.PATH_TO_DATA_DIR": target,
        "DATA.PATH_PREFIX": target,
        "DATA.SAMPLING": "tsn",
        "SOLVER.MAX_EPOCH": 1,
        "TSN.CONSENSUS": "TSN",
    }
    done = run_tool("run_net.py", *config, "OUTPUT_DIR", tmp_path / "out", *words(tiny))
    assert done.returncode == 0 and '"bad_items": 0' in done.stdout.splitlines()[-1]
    (target / "videos/test/left_0000/00009.jpg").write_bytes(b"no image")
    test = run_tool(
        "run_net.py",
        *config,
        "OUTPUT_DIR",
        tmp_path / "out",
        *words(tiny),
        "TRAIN.ENABLE",
        "False",
        "DATA.NUM_FRAMES",
        "24",
        "DATA.MAX_ERROR_SHARE",
        "1.0",
    )
    assert "00009.jpg is not a readable image" in test.stdout + test.stderr
    assert '"bad_items": 1' in test.stdout, test.stderr


def test_extract_frames_of_unlisted_videos(shapes, tmp_path):
    (tmp_path / "v").mkdir()
    shutil.copy(next((shapes / "videos/test").iterdir()), tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "list.csv").write_text("b.mp4 0\n")
    done = run_tool(
        "extract_frames.py", tmp_path / "v", tmp_path / "f", "--lists", "list.csv", "--workers", "1"
    )
    assert (
        done.returncode == 2 and "names 'b.mp4', which is not a video of the folder" in done.stderr
    )
