"""The experiments' scripts: the commands they run, and one real run per network and task.

Values of all recipes: tests/config/test_recipes.py; generated files: tests/analysis/test_experiments.py.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from slowfast.config.load import load_config
from slowfast.engine.run import main
from slowfast.models import MODEL_REGISTRY
from tests.conftest import ROOT, TINY, words

SCRIPTS = sorted((ROOT / "exp").glob("*/*.sh"))
# Several runs, one table: tests/cli/test_zeroshot.py.
PROTOCOLS = {"stdd_vitb16_zeroshot", "stdd_vitb16_b2n"}
EXPERIMENTS = sorted({p.parent.name for p in (ROOT / "exp").glob("*/config.yaml")} - PROTOCOLS)

# The recipe stays what it is but for sizes, places, and what needs many videos or many GPUs.
SMALL = {k: v for k, v in TINY.items() if k.startswith(("NUM_", "LOG_", "DATA_L", "DATA.TRAIN_J"))}
SMALL |= {
    "MODEL.NUM_CLASSES": 4,
    "STFM.NUM_TOKENS": 2,
    "STFM.DENSE": False,
    "MODEL.PRETRAINED_DIR": "",
    "TRAIN.DATASET": "moving_shapes",
    "TEST.DATASET": "moving_shapes",
    "TRAIN.BATCH_SIZE": 8,
    "SOLVER.MAX_EPOCH": 1,
    "SOLVER.STEPS": [0],
    "SOLVER.LRS": [1],
    "SOLVER.WARMUP_EPOCHS": 0,
    "TEST.NUM_ENSEMBLE_VIEWS": 1,
    "TEST.SHORT_SIDE": 0,
    "BN.NUM_BATCHES_PRECISE": 1,
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [],
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": [],
    "DATA.PATH_PREFIX": "''",
    "TENSORBOARD.ENABLE": False,
    "DATA.TEXT_AUG": False,
}
FROM_SCRATCH = {
    "Uniformer": "UNIFORMER.PRETRAIN_NAME",
    "TimeSformer": "TIMESFORMER.PRETRAINED_MODEL",
    "STAM": "STAM.PRETRAIN_NAME",
    "MViT": "MVIT.PRETRAIN_NAME",
    "TSN": "TSN.PRETRAIN_NAME",
    "ResNet3D": "RESNET3D.PRETRAIN_NAME",
    "TemporalClipVideo": "TRAIN.CLIP_ORI_PATH",
    "SlowFast": "TRAIN.CHECKPOINT_FILE_PATH",
    "ResNet": "TRAIN.CHECKPOINT_FILE_PATH",
    "X3D": "TRAIN.CHECKPOINT_FILE_PATH",
}
# Few-shot recipes keep their protocol; the published lists give way to the embedded one.
FEWSHOT = {
    "FEWSHOT.SPLIT": "",
    "FEWSHOT.TRAIN_EPISODES": 2,
    "FEWSHOT.VAL_EPISODES": 2,
    "FEWSHOT.TEST_EPISODES": 3,
    "FEWSHOT.SHOT": 1,
    "SOLVER.ACCUM_STEPS": 1,
}


def command_of(script: str, folder: Path, *args: str, **env: str) -> list[str]:
    """What the script would run: its interpreter is one that writes its arguments down."""
    recorder = folder / "python"
    recorder.write_text(f'#!/bin/bash\nprintf "%q " "$@" > {folder}/words\n')
    recorder.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "exp" / script), *args],
        cwd="/",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": str(recorder)} | env,
    )
    assert done.returncode == 0, done.stderr
    tool, *arguments = shlex.split((folder / "words").read_text())
    assert tool == str(ROOT / "tools" / "run_net.py")
    return arguments


# An experiment of each network, with and without STFM, and task.
RUNS = {
    ("Uniformer", True, ""): "uniformer_s16_sthv2_prek400",
    ("MViT", False, ""): "mvit_b16x4_k400",
    ("MViT", True, ""): "mvitv2_stfm_s16_sthv2",
    ("TimeSformer", False, ""): "timesformer_b8_sthv2",
    ("TimeSformer", True, ""): "timesformer_stfm_b8x32_k400",
    ("STAM", False, ""): "stam_16_k400",
    ("TSN", False, ""): "jester_squeezenet_mlp_8",
    ("ResNet3D", False, "fewshot"): "staf_r3d50_hmdb_5w1s",
    ("TemporalClipVideo", False, ""): "stdd_vitb16_k400",
    ("SlowFast", False, ""): "slowfast_4x16_r50_k400",
    ("ResNet", False, ""): "i3d_nln_8x8_r50_k400",
    ("X3D", False, ""): "x3d_xs_k400",
}


def test_scripts_are_valid_and_can_be_run():
    common = [ROOT / "exp" / name for name in ("_common.sh", "_finetune.sh", "_help.sh")]
    done = subprocess.run(
        ["bash", "-c", 'for file in "$@"; do bash -n "$file" || exit 1; done', "-", *SCRIPTS]
        + common,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(SCRIPTS) == 2 * 124 + 14
    assert [script for script in SCRIPTS if not os.access(script, os.X_OK)] == []


@pytest.mark.parametrize(
    "name, tested",
    [("uniformer_s16x4_k400", "test.yaml"), ("jester_squeezenet_mlp_8", "config.yaml")],
)
def test_the_command_of_a_script(name, tested, tmp_path):
    """From another folder, with paths of the environment and with words that win over them."""
    folder = ROOT / "exp" / name
    run = command_of(f"{name}/run.sh", tmp_path, "NUM_GPUS", "0", CHECKPOINT="not of a training")
    places = ["OUTPUT_DIR", f"output/{name}"]
    assert run == ["--cfg", str(folder / "config.yaml"), *places, "NUM_GPUS", "0"]
    env = {"DATA_DIR": "/my lists", "DATA_PREFIX": "/videos", "OUTPUT_DIR": "/out"}
    test = command_of(f"{name}/test.sh", tmp_path, "A", "b c", CHECKPOINT="/w.pth", **env)
    assert test == [
        *("--cfg", str(folder / tested), "OUTPUT_DIR", "/out"),
        *("DATA.PATH_TO_DATA_DIR", "/my lists", "DATA.PATH_PREFIX", "/videos"),
        *("TRAIN.ENABLE", "False", "TEST.CHECKPOINT_FILE_PATH", "/w.pth", "A", "b c"),
    ]


def test_help_of_scripts():
    """The head of the configuration, the variables; of a script of its own: its own head."""

    def help_of(script: str, option: str) -> str:
        command = ["bash", str(ROOT / "exp" / script), "NUM_GPUS", "0", option]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    text = help_of("uniformer_s16x4_k400/run.sh", "--help")
    head = "UniFormer-S + STFM, Kinetics-400, 16 frames x 4: the published values.\n"
    assert text.startswith(head) and "bash exp/uniformer_s16x4_k400/run.sh [" in text
    for variable in ("DATA_DIR", "DATA_PREFIX", "CHECKPOINT", "OUTPUT_DIR"):
        assert f"\n  {variable} " in text
    assert help_of("stdd_vitb16_b2n/test.sh", "-h").startswith("Base to novel: tests of the base")
    for name in ("quickstart", "quickstart_fewshot", "quickstart_zeroshot", "evidence_zeroshot"):
        assert f"bash exp/{name}/run.sh" in help_of(f"{name}/run.sh", "--help")


def test_every_network_has_a_run():
    kinds = {}
    for name in EXPERIMENTS:
        cfg = load_config([ROOT / "exp" / name / "config.yaml"])
        kinds[name] = (cfg.MODEL.MODEL_NAME, cfg.STFM.ENABLE, cfg.TASK)
    assert set(kinds.values()) == set(RUNS)
    assert all(kinds[name] == kind for kind, name in RUNS.items())


@pytest.mark.parametrize("name", RUNS.values())
def test_trains_and_tests(name, shapes, compositions, tmp_path):
    """Both scripts: the test of the training's checkpoint repeats the figures of its own test."""
    cfg = load_config([ROOT / "exp" / name / "config.yaml"], ["NUM_GPUS", "0"])
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)
    tiny = model.spec.test_overrides | SMALL | {FROM_SCRATCH[cfg.MODEL.MODEL_NAME]: "''"}
    if any(places for stage in cfg.NONLOCAL.LOCATION for places in stage):
        tiny["NONLOCAL.LOCATION"] = [[[]], [[1]], [[1]], [[]]]  # of fewer blocks
    if cfg.MODEL.MODEL_NAME == "MViT":  # published grids of blocks are not tiny ones
        tiny |= {"MVIT.POOL_KV_STRIDE": [], "MVIT.SEP_POS_EMBED": False}
    out = tmp_path / "out"
    env = {"DATA_DIR": str(shapes), "OUTPUT_DIR": str(out)}
    if cfg.TASK == "fewshot":
        del tiny["DATA.PATH_PREFIX"]
        tiny |= FEWSHOT
        env |= {"DATA_DIR": str(compositions), "DATA_PREFIX": str(compositions / "videos")}
    run = command_of(f"{name}/run.sh", tmp_path, **env)
    assert main([*run, *words(tiny)]) == 0
    lines = stats(out)
    assert {"train_epoch", "val_epoch", "test_final"} <= {line["_type"] for line in lines}
    (checkpoint,) = (out / "checkpoints").glob("*checkpoint_epoch_00001.pyth")
    if cfg.TEST.USE_CHECKPOINT == "best":
        checkpoint = out / "checkpoints" / "checkpoint_best.pyth"
    env |= {"OUTPUT_DIR": str(tmp_path / "test"), "CHECKPOINT": str(checkpoint)}
    test = command_of(f"{name}/test.sh", tmp_path, **env)
    assert main([*test, *words(tiny)]) == 0
    again = stats(tmp_path / "test")
    assert "train_epoch" not in {line["_type"] for line in again}
    assert again[-1] == lines[-1] and lines[-1]["_type"] == "test_final"


def stats(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
