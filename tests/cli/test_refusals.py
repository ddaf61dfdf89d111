"""No tool writes over what it reads, whatever names are given to the two."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from slowfast.datasets.lists import read_path_list
from slowfast.datasets.moving_shapes import ShapesSpec, generate
from tests.conftest import run_tool


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    generate(folder / "set", ShapesSpec(2, 2, 1, 1), workers=1, progress=False)
    (folder / "run/checkpoints").mkdir(parents=True)
    for epoch in (1, 2, 3):
        content = {"model_state": {"weight": torch.ones(3)}, "optimizer_state": {"a": 1}}
        torch.save(content, folder / f"run/checkpoints/checkpoint_epoch_{epoch:05d}.pyth")
    row = {"_type": "test", "split": "test_final", "top1_acc": 50.0}
    (folder / "run/stats.jsonl").write_text(json.dumps(row) + "\n")
    save_file({"weight": torch.ones(3)}, folder / "net.safetensors")
    (folder / "classes.txt").write_text("x\n")
    (folder / "classes.json").write_text('["x"]')
    (folder / "official").mkdir()
    row = "run,left_0000,0,1,train\n"
    (folder / "official/train.csv").write_text("label,youtube_id,time_start,time_end,split\n" + row)
    shutil.copytree(folder / "set/videos/train", folder / "classes/run")
    shutil.copytree(folder / "set/videos/train", folder / "classes/jump")
    (folder / "tiny.yaml").write_text(
        "NUM_GPUS: 0\nTRAIN: {DATASET: moving_shapes}\nMODEL: {NUM_CLASSES: 2}\n"
        "DATA: {PATH_TO_DATA_DIR: set, NUM_FRAMES: 2}\n"
    )
    shutil.copy(folder / "tiny.yaml", folder / "tiny.png")
    return folder


@pytest.fixture
def place(original, tmp_path):
    return shutil.copytree(original, tmp_path / "place")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


CHECKPOINT = "run/checkpoints/checkpoint_epoch_00001.pyth"
KINETICS = ["kinetics", "--annotations", "official/train.csv", "--videos", "set/videos"]

# What is read, tool and words; {} is where it writes, which is the same as what is read.
FOLDERS = {
    "resize_videos": ("set/videos", ["set/videos", "{}", "--short-side", "32", "--workers", "1"]),
    "extract_frames": ("set/videos", ["set/videos", "{}", "--workers", "1"]),
}
FILES = {
    "convert_checkpoint": (CHECKPOINT, ["strip", CHECKPOINT, "{}"]),
    "export": ("net.safetensors", ["net.safetensors", "{}"]),
    "average_weights": (CHECKPOINT, ["run", "{}", "--start", "2", "--end", "3"]),
    "text_prompts": ("classes.json", ["askg", "classes.json", "{}"]),
    "show_data": ("tiny.png", ["--cfg", "tiny.png", "--out", "{}"]),
    "protocol_table": ("run/stats.jsonl", ["A=run", "--out", "{}"]),
    "report": ("run/stats.jsonl", ["run", "--out", "{}"]),
}


@pytest.mark.parametrize("tool", FOLDERS)
@pytest.mark.parametrize("how", ["same", "link", "inside", "link inside", "hard links"])
def test_folders_that_meet(tool, how, place):
    source, words = FOLDERS[tool]
    target = place / "target"
    if how == "same":
        target = Path(source)
    elif how == "inside":
        target = Path(source, "small")
    elif how == "link":
        target.symlink_to(source)
    elif how == "link inside":
        target.mkdir()
        (target / "train").symlink_to(place / source / "train")
    elif tool == "extract_frames":
        pytest.skip("it makes no videos")
    else:
        shutil.copytree(place / source, target, copy_function=os.link)
    before = files_of(place)
    done = run_tool(f"{tool}.py", *(w.replace("{}", str(target)) for w in words), cwd=place)
    assert done.returncode == 2 and "TARGET: " in done.stderr, done.stderr
    assert files_of(place) == before


@pytest.mark.parametrize("tool", FILES)
@pytest.mark.parametrize("how", ["same", "link", "hard link"])
def test_files_that_meet(tool, how, place):
    source, words = FILES[tool]
    target = place / f"target{Path(source).suffix}"
    if how == "same":
        target = Path(source)
    elif how == "link":
        target.symlink_to(source)
    else:
        os.link(place / source, target)
    before = files_of(place)
    words = [word.replace("{}", str(target)) for word in words]
    done = run_tool(f"{tool}.py", *words, cwd=place, env=os.environ | {"OPENAI_API_KEY": "k"})
    assert done.returncode == 2 and "it would be overwritten" in done.stderr, done.stderr
    assert files_of(place) == before


def test_lists_are_not_written_over_annotations_and_lists(place):
    done = run_tool("make_lists.py", *KINETICS, "--out", "official", cwd=place)
    assert done.returncode == 2 and "official/train.csv, is read" in done.stderr, done.stderr
    shutil.copy(place / "set/train.csv", place / "good_val.csv")
    shutil.copy(place / "set/val.csv", place / "val.csv")
    before = files_of(place)
    words = ("val.csv", "good_val.csv", "--prefix", "set", "--out", ".", "--workers", "1")
    done = run_tool("check_data.py", *words, cwd=place)
    assert done.returncode == 2 and "good_val.csv, is read" in done.stderr, done.stderr
    assert files_of(place) == before


@pytest.mark.parametrize("tool", ["make_lists", "resize_videos", "extract_frames"])
def test_names_that_no_list_holds(tool, place):
    shutil.copy(place / "set/videos/train/left_0000.mp4", place / "classes/run/line\nbreak.mp4")
    words = ["folder", "classes", "--out", "out"] if tool == "make_lists" else ["classes", "out"]
    done = run_tool(f"{tool}.py", *words, cwd=place)
    assert done.returncode == 2 and "cannot stand in a list" in done.stderr, done.stderr
    assert "rename them" in done.stderr and not (place / "out").exists()


AWKWARD = [
    "two  spaces",
    " leading",
    "trailing ",
    'quo"te',
    '"quoted"',
    "comma,5",
    "nbsp\u00a0",
    "5 7",
]
AWKWARD += [
    "\ufeffmark",
    "dash -5",
    "ünï",
    "semi;colon",
    "#hash",
    "path label",
    "'single'",
    "\u2028",
]


def test_awkward_names_are_read_as_they_were_written(place, caplog):
    """make_lists -> the reader of lists -> check_data and back."""
    folder = place / "awkward"
    for number, name in enumerate([*AWKWARD, "plain"]):
        (folder / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        source = place / "set/videos/train/left_0000.mp4"
        shutil.copy(source, folder / f"class{number % 2}/{name}.mp4")
        shutil.copy(source, folder / f"class{number % 2}/{name} 12.mp4")
    done = run_tool(
        "make_lists.py", "folder", folder, "--out", "out", "--val", 0, "--test", 0, cwd=place
    )
    assert done.returncode == 0, done.stderr
    expected = {str(path) for path in folder.rglob("*.mp4")}
    assert {item.path for item in read_path_list(place / "out/train.csv", " ", "", "K")} == expected
    words = ("out/train.csv", "--out", "checked", "--workers", "1")
    assert run_tool("check_data.py", *words, cwd=place).returncode == 0
    checked = read_path_list(place / "checked/good_train.csv", " ", "", "K")
    assert {item.path for item in checked} == expected


def test_links_are_followed_when_asked(place):
    (place / "classes/etc").symlink_to(place / "set/videos/train")
    done = run_tool("make_lists.py", "folder", "classes", "--out", "out", "--test", "0", cwd=place)
    assert done.returncode == 0 and "2 classes" in done.stdout, done.stderr
    assert "1 links lead out of it" in done.stderr + done.stdout
    words = ("folder", "classes", "--out", "out", "--test", "0", "--follow-links")
    assert "3 classes" in run_tool("make_lists.py", *words, cwd=place).stdout


def test_shards_are_not_written_over_videos(place):
    shutil.copytree(place / "set/videos/train", place / "out/train")
    os.link(place / "set/videos/train/left_0000.mp4", place / "out/train/000000.tar")
    before = files_of(place)
    done = run_tool("make_shards.py", "set/train.csv", "--prefix", "set", "--out", "out", cwd=place)
    assert done.returncode == 2 and "it would be overwritten" in done.stderr, done.stderr
    assert files_of(place) == before
