"""configs/finetune: every file can be trained as it stands, from weights, on one machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from slowfast.config.load import load_config
from slowfast.config.yaml_file import read_yaml
from slowfast.engine.network import build_network
from slowfast.engine.optim import build_optimizer
from slowfast.models import MODEL_REGISTRY
from slowfast.models.weights.loader import find_pretrained
from slowfast.utils.errors import UserError
from tests.cli.test_experiments import command_of
from tests.conftest import ROOT, words

FILES = sorted((ROOT / "configs/finetune").glob("*.yaml"))
NO_ORIGINAL = {"TRAIN.CLIP_ORI_PATH": "''", "TRAIN.LINEAR_CONNECT_CLIMB": False}
NAMES = {"DATA.CLASS_NAMES": ["a", "b", "c"], "MODEL.NUM_CLASSES": 3}


def test_every_family_has_a_recipe():
    assert {file.stem for file in FILES} == {
        *("uniformer_s", "uniformer_b", "uniformer_s_stfm", "timesformer", "timesformer_stfm"),
        *("mvitv2_s", "mvitv2_b", "mvit_b", "stam", "tsn", "resnet3d", "clip"),
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recipe(file):
    """Short, small rates, light augmentation, one machine, from weights; its optimizer, layer decay
    included, suits a small network of the family."""
    cfg = load_config([file], words(NAMES))
    solver, model = cfg.SOLVER, MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)
    written = {entry.key: entry.value for entry in read_yaml(file)}
    assert written["NUM_GPUS"] == -1 and cfg.TRAIN.BATCH_SIZE <= 8 and solver.ACCUM_STEPS == 1
    assert solver.MAX_EPOCH == 30 and 0 < solver.WARMUP_EPOCHS <= 3 and solver.LR_BATCH_SIZE == 16
    assert solver.BASE_LR <= 1e-3 and solver.COSINE_END_LR < solver.BASE_LR / 10
    assert not cfg.MIXUP.ENABLE and cfg.AUG.NUM_SAMPLE == 1 and cfg.AUG.RE_PROB == 0
    assert cfg.TRAIN.DATASET == cfg.TEST.DATASET == "kinetics" and not cfg.DATA.PATH_TO_DATA_DIR
    name = model.spec.initial_weights(cfg)
    with pytest.raises(UserError, match=Path(name).stem) as missing:
        find_pretrained(name, "nowhere", model.spec.weights_key)
    assert "->" in str(missing.value)
    small = load_config(
        [file], words(NAMES | {"NUM_GPUS": 0} | NO_ORIGINAL | model.spec.test_overrides)
    )
    optimizer = build_optimizer(small, build_network(small))
    if solver.LAYER_DECAY < 1:
        assert (
            len({group["lr_scale"] for group in optimizer.param_groups if "lr_scale" in group}) != 1
        )


def test_the_command_of_the_script(tmp_path, shapes):
    """Lists as they are, with the number of their classes; words of the user come last."""
    weights = tmp_path / "my weights.pyth"
    weights.touch()
    env = {"DATA": str(shapes), "WEIGHTS": str(weights), "OUTPUT_DIR": "/out"}
    run = command_of("finetune/run.sh", tmp_path, "NUM_GPUS", "0", MODEL="mvit_b", **env)
    assert run == [
        *("--cfg", str(ROOT / "configs/finetune/mvit_b.yaml"), "OUTPUT_DIR", "/out"),
        *("DATA.PATH_TO_DATA_DIR", str(shapes), "MODEL.NUM_CLASSES", "4"),
        *("TRAIN.CHECKPOINT_FILE_PATH", str(weights), "NUM_GPUS", "0"),
    ]
    test = command_of("finetune/test.sh", tmp_path, "A", "b c", DATA=str(shapes), CHECKPOINT="w")
    assert test[1] == str(ROOT / "configs/finetune/uniformer_s.yaml")
    last = ["TRAIN.ENABLE", "False", "TEST.CHECKPOINT_FILE_PATH", "//w", "A", "b c"]  # from "/"
    assert test[-6:] == last and test[3] == "output/finetune_uniformer_s"


@pytest.mark.parametrize(
    "env, message",
    [
        ({}, "DATA is not set"),
        ({"DATA": "/nowhere"}, "DATA: there is no folder /nowhere"),
        ({"DATA": "/", "WEIGHTS": "/no.pth"}, "WEIGHTS: there is no file /no.pth"),
        ({"DATA": "/", "MODEL": "unet"}, "MODEL: there is no recipe unet"),
    ],
)
def test_what_the_script_refuses(env, message):
    done = subprocess.run(
        ["bash", str(ROOT / "exp/finetune/run.sh")],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in ("DATA", "WEIGHTS", "MODEL")} | env,
    )
    assert done.returncode == 2 and message in done.stderr and "->" in done.stderr
