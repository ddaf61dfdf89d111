"""The files that PySlowFast ships: classification files key for key, the others with their reason.

``tests/data/pyslowfast_files.json`` holds their values as written; of files that are refused only
those that matter.
"""

from __future__ import annotations

import json

import pytest
import torch

from slowfast.analysis.results import read_stats
from slowfast.config import compat
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.launch import launch
from slowfast.engine.multigrid import TrainingPlan, norm_parts
from slowfast.engine.run import run_job
from slowfast.models.build import build_model
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import ROOT, words

FILES = json.loads((ROOT / "tests" / "data" / "pyslowfast_files.json").read_text())
# Part of the name of a file, or a value -> what the message says.
ABSENT = {
    "AVA/": "AVA detection",
    "finetune_ava": "AVA detection",
    "contrastive_ssl/BYOL": "contrastive pre-training",
    "contrastive_ssl/MoCo": "contrastive pre-training",
    "contrastive_ssl/SimCLR": "contrastive pre-training",
    "contrastive_ssl/SwAV": "contrastive pre-training",
    "_PT": "masked pre-training",
    "CSN": "a network of PyTorchVideo (CSN), which is not here",
    "R2PLUS1D": "a network of PyTorchVideo (R(2+1)D), which is not here",
    "pytorchvideo/": "is the same network under PySlowFast's names",
    "C2D_NOPOOL": "no network of PySlowFast",
}
# Values that have another form here: what a test of equality leaves out.
TRANSLATED = {"TASK", "DATA.DECODING_BACKEND", "NUM_GPUS"}


def reason(name: str) -> str:
    return next((text for part, text in ABSENT.items() if part in name), "")


ACCEPTED = [name for name in FILES if not reason(name)]
REFUSED = [name for name in FILES if reason(name)]


def test_every_file_is_of_one_kind():
    assert len(FILES) == 108 and len(ACCEPTED) > 60  # one more is not valid YAML


def load(name: str) -> CfgNode:
    return load_config(overrides=FILES[name] | {"NUM_GPUS": 0})


@pytest.mark.parametrize("name", ACCEPTED)
def test_classification_files_are_accepted_key_for_key(name):
    """Keys that are not ours belong to a pre-training that is over, and are said to be unread."""
    cfg = load(name)
    flat, unread = cfg.flat(), compat.foreign_keys()
    for key, value in FILES[name].items():
        assert key in flat or key in unread or key in compat.upstream_defaults(), key
        if key in flat and key not in TRANSLATED:
            assert same(flat[key], value, cfg), f"{key}: {flat[key]!r}, not {value!r}"


def same(ours, theirs, cfg) -> bool:
    """Whether a value is that of the file: numbers, lists and None may be written as texts."""
    if theirs in (None, "None"):
        return ours in (None, "")
    if isinstance(theirs, str):
        try:
            theirs = float(theirs) if not theirs.startswith("(") else list(eval(theirs))
        except ValueError:
            return ours == theirs
    if isinstance(theirs, (int, float)) and not isinstance(theirs, bool):
        # Learning rates are multiplied by the number of machines where the file says so.
        scale = cfg.NUM_SHARDS if cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS else 1
        return ours in (theirs, pytest.approx(theirs * scale))
    return ours == theirs


# What our files leave to the user (weights to start from, machines), or name otherwise.
OPEN = {"TRAIN.CHECKPOINT_FILE_PATH", "TRAIN.CHECKPOINT_TYPE"}
ONE_MACHINE = {"NUM_GPUS": 0, "NUM_SHARDS": 1}
EXCEPT = {
    # Our network has no class token. MODEL.ARCH has no effect on it.
    "Kinetics/REV_MVIT_B_16x4_CONV": {"MVIT.CLS_EMBED_ON", "MODEL.ARCH"},
    # PySlowFast says ResNet_nopool, which it does not have either.
    "Kinetics/c2/C2D_NOPOOL_8x8_R50": {"MODEL.MODEL_NAME", "MODEL.ARCH"},
}
OURS = [name for name in FILES if (ROOT / "configs" / f"{name}.yaml").is_file()]


def test_every_convolutional_recipe_of_pyslowfast_is_shipped():
    kinds = ("Kinetics/", "SSv2/", "Charades/")
    expected = {name for name in ACCEPTED if name.startswith(kinds)}
    assert expected < set(OURS) and len(OURS) > 40


@pytest.mark.parametrize("name", OURS)
def test_our_file_has_the_published_values(name):
    """Every key, also those that the published file leaves at PySlowFast's default."""
    leave = EXCEPT.get(name, set())
    values = {key: value for key, value in FILES[name].items() if key not in leave}
    theirs = load_config(overrides=values | ONE_MACHINE)
    ours = load_config([str(ROOT / "configs" / f"{name}.yaml")], words(ONE_MACHINE))
    found, expected = ours.flat(), theirs.flat()
    different = {key for key in expected if found[key] != expected[key]}
    assert different <= OPEN | leave, {key: (found[key], expected[key]) for key in different}


MULTIGRID = [name for name in FILES if FILES[name].get("MULTIGRID.LONG_CYCLE")]


def test_the_schedules_of_multigrid_files():
    """Epochs, first and last batches of clips, their normalisation on eight GPUs."""
    found = {}
    for name in MULTIGRID:
        cfg = load_config(overrides=FILES[name] | {"NUM_GPUS": 8})
        plan = TrainingPlan.from_cfg(cfg)
        runtime = Runtime(torch.device("cpu"), 0, 8, 0, 8)
        ends = [plan.phases[0], plan.phases[-1]]
        factors = [[shape.factor for shape in phase.shapes] for phase in ends]
        found[name] = plan.epochs, factors, [norm_parts(cfg, phase, runtime) for phase in ends]
    factors = [[16, 8, 8], [4, 2, 1]]
    assert found == {
        "Charades/SLOWFAST_16x8_R50_multigrid": (86, factors, [(2, 1), (1, 4)]),
        "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid": (358, factors, [(8, 1), (1, 1)]),
        "SSv2/SLOWFAST_16x8_R50_multigrid": (33, factors, [(2, 1), (1, 4)]),
    }


@pytest.mark.parametrize("name", MULTIGRID)
def test_multigrid_files_train(name, tmp_path, shapes):
    """As written, on the embedded clips, with fewer channels, pixels, frames and epochs."""
    several, charades = "MULTI_LABEL" in str(FILES[name]), name.startswith("Charades")
    values = FILES[name] | {
        "NUM_GPUS": 0,
        "OUTPUT_DIR": str(tmp_path),
        "TRAIN.CHECKPOINT_FILE_PATH": "",
        "TRAIN.BATCH_SIZE": 1,
        "TEST.BATCH_SIZE": 8,
        "TEST.NUM_ENSEMBLE_VIEWS": 1,
        "TEST.NUM_SPATIAL_CROPS": 1,
        "DATA_LOADER.NUM_WORKERS": 0,
        "DATA.NUM_FRAMES": 16,
        "DATA.TRAIN_JITTER_SCALES": [36, 40],
        "DATA.TRAIN_CROP_SIZE": 32,
        "DATA.TEST_CROP_SIZE": 32,
        "DATA.RANDOM_FLIP": False,
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "MODEL.NUM_CLASSES": 4,
        "RESNET.DEPTH": 18,
        "RESNET.WIDTH_PER_GROUP": 8,
        "BN.NUM_BATCHES_PRECISE": 1,
        "SOLVER.STEPS": [0, 2],
        "SOLVER.MAX_EPOCH": 3,
        "SOLVER.WARMUP_EPOCHS": 0.5,
        "MULTIGRID.EVAL_FREQ": 1,
        "TRAIN.MIXED_PRECISION": False,
        "REPORT.ENABLE": False,
    }
    kind = "kinetics" if several and charades else "moving_shapes"
    if kind == "kinetics":  # lists of videos with several labels
        for split in ("train", "val", "test"):
            lines = (shapes / f"{split}.csv").read_text().replace("videos/", f"{shapes}/videos/")
            (tmp_path / f"{split}.csv").write_text(lines)
        values["DATA.PATH_TO_DATA_DIR"] = str(tmp_path)
    values |= {"TRAIN.DATASET": kind, "TEST.DATASET": kind}
    launch(load_config(overrides=values), run_job)
    lines = read_stats(tmp_path)
    steps = [line for line in lines if line["_type"] == "train_epoch"]
    assert len(steps) == 4 and lines[-1]["_type"] == "test_final"


def test_networks_without_a_name_are_slowfast():
    """PySlowFast's default; ours is another network."""
    for name in ("Charades/SLOWFAST_16x8_R50", "SSv2/SLOWFAST_16x8_R50"):
        assert "MODEL.MODEL_NAME" not in FILES[name]
        assert load(name).MODEL.MODEL_NAME == "SlowFast"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_here_says_so(name):
    """In words that propose no other network, except the counterpart of a builder's name."""
    with pytest.raises(UserError) as caught:
        load_config(overrides=FILES[name])
    text = str(caught.value)
    assert reason(name) in text and "docs/migration.md" in text
    assert "did you mean" not in text and "ResNet3D" not in text


def test_fine_tuning_is_a_training_like_any_other(caplog):
    cfg = load("contrastive_ssl/finetune_ucf_Slow_R50_syn8")
    assert cfg.TASK == "recognition"
    assert "DATA.SSL_COLOR_JITTER" in caplog.text and "set without effect" in caplog.text


@pytest.mark.parametrize(
    "name", ["Kinetics/REV_MVIT_B_16x4_CONV", "ImageNet/REV_VIT_S", "ImageNet/MVITv2_T"]
)
def test_networks_are_built(name):
    model = build_model(load(name), "meta")
    assert sum(p.numel() for p in model.parameters()) > 15e6
