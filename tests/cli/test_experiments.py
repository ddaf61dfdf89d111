"""Every experiment's scripts, as they are, with a tiny network for two steps."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from slowfast.config.load import load_config
from slowfast.engine.run import main
from slowfast.models import MODEL_REGISTRY
from tests.conftest import ROOT, TINY, words

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


def command_of(script: str, folder, **env: str) -> list[str]:
    """What the script would run: its interpreter is one that writes its arguments down."""
    recorder = folder / "python"
    recorder.write_text(f'#!/bin/bash\nprintf "%q " "$@" > {folder}/words\n')
    recorder.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "exp" / script)],
        cwd="/",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": str(recorder)} | env,
    )
    assert done.returncode == 0, done.stderr
    tool, *arguments = shlex.split((folder / "words").read_text())
    assert tool == str(ROOT / "tools" / "run_net.py")
    return arguments


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_trains_and_tests(name, shapes, compositions, tmp_path):
    cfg = load_config([ROOT / "exp" / name / "config.yaml"], ["NUM_GPUS", "0"])
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)
    tiny = model.spec.test_overrides | SMALL | {FROM_SCRATCH[cfg.MODEL.MODEL_NAME]: "''"}
    if cfg.MODEL.MODEL_NAME == "MViT":  # published grids of blocks are not tiny ones
        tiny |= {"MVIT.POOL_KV_STRIDE": [], "MVIT.SEP_POS_EMBED": False}
    out = tmp_path / "out"
    env = {"DATA_DIR": str(shapes), "OUTPUT_DIR": str(out)}
    if cfg.TASK == "fewshot":
        del tiny["DATA.PATH_PREFIX"]
        tiny |= FEWSHOT
        env |= {"DATA_DIR": str(compositions), "DATA_PREFIX": str(compositions / "videos")}
    run = command_of(f"{name}/run.sh", tmp_path, **env)
    assert main([*run, *words(tiny), "TRAIN.ENABLE", "True"]) == 0
    log = (out / "stdout.log").read_text()
    assert '"_type": "train_epoch"' in log and '"split": "test_final"' in log
    (checkpoint,) = (out / "checkpoints").glob("*checkpoint_epoch_00001.pyth")
    env |= {"OUTPUT_DIR": str(tmp_path / "test"), "CHECKPOINT": str(checkpoint)}
    test = command_of(f"{name}/test.sh", tmp_path, **env)
    assert main([*test, *words(tiny)]) == 0
    log = (tmp_path / "test" / "stdout.log").read_text()
    assert "train_epoch" not in log and log.splitlines()[-1].count('"split": "test_final"') == 1
