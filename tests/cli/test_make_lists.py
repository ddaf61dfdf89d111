"""make_lists as people run it: what it says, and what its YAML file does in any folder."""

from __future__ import annotations

import shutil

import pytest
import torch

from slowfast.config.load import load_config
from tests.conftest import ROOT, TINY, run_tool, words
from tests.models.helpers import build

KEEP = ("SOLVER", "UNIFORMER", "DATA_L", "LOG_", "STFM")
QUICK = {k: v for k, v in TINY.items() if k.startswith(KEEP)} | {"STFM.NUM_TOKENS": 2}


@pytest.fixture
def mine(shapes, tmp_path):
    """Four class folders of four videos, and what people have beside them."""
    for path in (shapes / "videos/train").iterdir():
        target = tmp_path / "mine" / path.name.split("_")[0]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tmp_path / "mine/left/notes.txt").touch()
    (tmp_path / "mine/unused").mkdir()
    return tmp_path / "mine"


def test_it_says_what_it_left_out_and_what_the_recipe_is(mine, tmp_path):
    done = run_tool("make_lists.py", "folder", "mine", "--out", "lists", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "4 classes; videos: 8 train, 4 val, 4 test"
    assert "note: class folders without videos are left out: unused" in lines
    assert "in no class: 1 .txt; e.g. mine/left/notes.txt" in done.stdout
    assert "note: TRAIN.BATCH_SIZE is 8, since there are 8 training videos" in lines
    assert "trains a small network from random weights, for a first try" in done.stdout
    assert lines[-1] == "python tools/run_net.py --cfg lists/config.yaml"


def test_the_recipe_runs_in_another_folder_without_warnings(mine, tmp_path):
    made = run_tool("make_lists.py", "folder", "mine", "--out", "lists", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "lists/config.yaml"
    options = words(QUICK | {"SOLVER.MAX_EPOCH": 1, "OUTPUT_DIR": "out"})
    done = run_tool("run_net.py", "--cfg", config, *options, cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "elsewhere/out/stdout.log").read_text().splitlines()
    warnings = [line for line in log if "[WARNING]" in line]
    assert len(warnings) == 1 and "turns 'left' into 'right'" in warnings[0]  # these classes' own


def test_the_base_is_found_by_name_or_refused_at_once(mine, tmp_path):
    words = ["folder", "mine", "--out", "lists", "--base"]
    done = run_tool("make_lists.py", *words, "Kinetics/NO_SUCH", cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "lists").exists()
    assert "there is no configuration file Kinetics/NO_SUCH" in done.stderr
    done = run_tool("make_lists.py", *words, "Kinetics/UNIFORMER_S", cwd=tmp_path)
    assert done.returncode == 0 and "first try" not in done.stdout
    config = (tmp_path / "lists/config.yaml").read_text()
    assert config.startswith("_BASE_: configs/Kinetics/UNIFORMER_S.yaml\nNUM_GPUS: -1\n")


def test_labels_of_a_checkpoint_or_of_other_lists_are_kept(mine, tmp_path):
    names = ["up", "still", "left", "down", "right"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    torch.save({"model_state": {"w": torch.zeros(1)}, "class_names": names}, tmp_path / "net.pyth")
    for file in ("names.txt", "net.pyth"):
        words = ["folder", "mine", "--out", "lists", "--classes", file]
        done = run_tool("make_lists.py", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "lists/classes.txt").read_text().split() == names
        rows = (tmp_path / "lists/train.csv").read_text().splitlines()
        labels = {row.rpartition(" ")[2] for row in rows if "/left/" in row}
        assert labels == {"2"}
        assert "has no videos of 1 of 5 classes: still" in done.stdout
    done = run_tool("make_lists.py", *words, "--out", ".", "--classes", "classes.txt", cwd=tmp_path)
    assert done.returncode == 2 and "there is no file classes.txt" in done.stderr


def save_network(name, path):
    path.parent.mkdir(exist_ok=True)
    torch.save(build(name)[1].state_dict(), path)


def test_released_weights_that_are_there_are_proposed(mine, tmp_path):
    save_network("STAM", tmp_path / "pretrained/stam.pth")
    (tmp_path / "pretrained/a broken.pth").touch()
    done = run_tool("make_lists.py", "folder", "mine", "--out", "lists", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = "MODEL=stam WEIGHTS=pretrained/stam.pth DATA=mine bash exp/finetune/run.sh"
    assert command in done.stdout and "for a first try" in done.stdout


def test_weights_decide_on_the_recipe(mine, tmp_path):
    save_network("MViT", tmp_path / "net.pth")
    words = ["folder", "mine", "--out", "lists", "--weights", "net.pth"]
    done = run_tool("make_lists.py", *words, cwd=tmp_path)
    assert done.returncode == 0 and "first try" not in done.stdout, done.stderr
    cfg = load_config([tmp_path / "lists/config.yaml"])
    assert cfg.MODEL.MODEL_NAME == "MViT"
    assert str(tmp_path / "net.pth") == cfg.TRAIN.CHECKPOINT_FILE_PATH
    save_network("FrameAverage", tmp_path / "net.pth")
    done = run_tool("make_lists.py", *words, cwd=tmp_path)
    assert done.returncode == 2 and "weights of an unknown network" in done.stderr


def test_weights_that_are_not_there_are_refused_at_once(mine, tmp_path):
    words = ["folder", "mine", "--out", "lists", "--weights", "absent.pth"]
    done = run_tool("make_lists.py", *words, cwd=tmp_path)
    assert done.returncode == 2 and "there is no file absent.pth" in done.stderr
    assert not (tmp_path / "lists").exists()


def test_the_help_names_published_bases():
    assert (ROOT / "configs/quickstart/stfm.yaml").is_file()
    assert "quickstart/stfm" in run_tool("make_lists.py", "--help").stdout
