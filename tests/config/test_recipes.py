"""All configuration files of the project: they load, name known weights and published values."""

from __future__ import annotations

import fnmatch
import functools
from pathlib import Path

import pytest
import yaml

from slowfast.analysis.results import tests_of
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.config.yaml_file import read_yaml
from slowfast.engine.run import main
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.errors import UserError
from tests.conftest import ROOT, words

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
ROWS = [  # of sweeps; their networks stand in configurations
    *(ROOT / "exp").glob("*/variants.yaml"),
    *(ROOT / "exp/evidence_stfm").glob("*.yaml"),
]
EXPERIMENTS = sorted(set((ROOT / "exp").glob("*/*.yaml")) - set(ROWS))
TESTS = sorted((ROOT / "exp").glob("*/test.yaml"))
INDEX = yaml.safe_load((ROOT / "pretrained" / "index.yaml").read_text())
WEIGHTS = {name: entry for name, entry in INDEX.items() if not name.startswith("_")}

# What a test of given weights does not depend on: its result is the same for every value.
TRAINING_ONLY = (
    "SOLVER.*",
    "MIXUP.*",
    "AUG.*",
    "BN.*",
    "TRAIN.[!E]*",  # all but ENABLE, which decides whether there is a training
    "TRAIN.EVAL_PERIOD",
    "*DROP*",  # dropout and stochastic depth are off
    "DATA.RANDOM_FLIP",
    "DATA.TRAIN_CROP_*",
    "DATA.TRAIN_JITTER_*_RELATIVE",
    # DATA.TRAIN_JITTER_SCALES is missing here: its first value is the short side of a test with
    # one crop, except for Something-Something.
    "RNG_SEED",
)


def own_keys(file: Path) -> list[str]:
    """The keys that a file sets itself."""
    return [entry.key for entry in read_yaml(file) if entry.origin.startswith(f"{file}:")]


def trains_only(key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in TRAINING_ONLY)


@functools.cache
def load(file: Path) -> CfgNode:
    """The file as it stands; a network that reads class names gets some."""
    try:
        return load_config([file])
    except UserError as error:
        if {problem.key for problem in error.problems} != {"DATA.INDEX_LABEL_MAPPING_FILE"}:
            raise
    return load_config([file], ["DATA.INDEX_LABEL_MAPPING_FILE", "", "DATA.CLASS_NAMES", "['a']"])


def test_every_configuration_loads_with_its_own_values():
    problems = {}
    for file in [f for f in CONFIGS if f.parent.name != "_base"] + EXPERIMENTS:
        try:
            load(file)
        except UserError as error:
            problems[str(file.relative_to(ROOT))] = str(error)
    assert not problems
    assert len(CONFIGS) > 60 and len(EXPERIMENTS) > 110


def test_every_named_weight_is_in_the_index():
    """What a recipe starts from can be found: a name of the index, under pretrained/."""
    names = set()
    for file in EXPERIMENTS + CONFIGS:
        for entry in read_yaml(file):
            if entry.key.endswith(("PRETRAIN_NAME", "PRETRAINED_MODEL", "CLIP_ORI_PATH")):
                names.add(Path(entry.value).name.removesuffix(".pt"))
    names.discard("")
    assert len(names) > 12 and names <= set(WEIGHTS), names - set(WEIGHTS)


def test_every_entry_of_the_index_is_complete():
    for name, entry in WEIGHTS.items():
        assert (ROOT / entry["config"]).is_file(), name
        assert entry["source"].startswith("https://") and entry["licence"], name


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.parent.name)
def test_a_test_file_holds_only_what_a_test_reads(file):
    keys = own_keys(file)
    assert not [key for key in keys if trains_only(key)]
    assert "TRAIN.ENABLE" in keys and not load_config([file]).TRAIN.ENABLE
    cfg = load_config([file])
    if "DATA.TRAIN_JITTER_SCALES" in keys:  # it is read in no other case
        assert cfg.TEST.NUM_SPATIAL_CROPS == 1 and cfg.TEST.DATASET != "sth"


def test_a_test_does_not_depend_on_training_only_keys(tiny_words, tmp_path):
    """The values that the release repeated in its test files change no figure of a test."""
    args = words(tiny_words | {"OUTPUT_DIR": str(tmp_path / "run"), "SOLVER.MAX_EPOCH": 1})
    assert main(["--cfg", str(ROOT / "configs/quickstart/uniformer.yaml"), *args]) == 0
    repeated = {
        "SOLVER.BASE_LR": 0.0002,
        "SOLVER.MAX_EPOCH": 20,
        "SOLVER.WARMUP_EPOCHS": 5,
        "MIXUP.ENABLE": True,
        "MODEL.LOSS_FUNC": "soft_cross_entropy",
        "MODEL.DROPOUT_RATE": 0.9,
        "UNIFORMER.DROP_DEPTH_RATE": 0.9,
        "TRAIN.BATCH_SIZE": 2,
        "TRAIN.EVAL_PERIOD": 5,
        "AUG.NUM_SAMPLE": 2,
        "DATA.RANDOM_FLIP": False,
        "DATA.TRAIN_CROP_SIZE": 64,
        "DATA.TRAIN_JITTER_SCALES": [64, 72],
        "RNG_SEED": 7,
    }
    # three crops: the short side of a test is the crop, whatever TRAIN_JITTER_SCALES holds
    read_otherwise = {"MODEL.LOSS_FUNC", "DATA.TRAIN_JITTER_SCALES"}
    assert all(trains_only(key) for key in set(repeated) - read_otherwise)
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("checkpoint_epoch_*.pyth")
    tested = {"TRAIN.ENABLE": False, "TEST.CHECKPOINT_FILE_PATH": str(checkpoint)}
    predictions = []
    for name, extra in (("plain", {}), ("repeated", repeated)):
        out = {"OUTPUT_DIR": str(tmp_path / name)}
        args = words(tiny_words | tested | extra | out)
        assert main(["--cfg", str(ROOT / "configs/quickstart/uniformer.yaml"), *args]) == 0
        (test,) = tests_of(tmp_path / name)
        predictions.append((test.path / "predictions.csv").read_text())
    assert predictions[0] == predictions[1] and len(predictions[0].splitlines()) == 9


# -- published command lines -------------------------------------------------------------------

HEADS = {  # the last part of a folder's name: --consensus_type
    "tsn": "TSN",
    "mlp": "MLP",
    "trnmultiscale": "TRNmultiscale",
    "rnn_tanh": "RNN_TANH",
    "rnn_relu": "RNN_RELU",
    "lstm": "LSTM",
    "gru": "GRU",
    "blstm": "BLSTM",
    "fcn2d": "FCN2D",
    "fcn3d": "FCN3D",
    "convlstm": "CONVLSTM",
}
BACKBONES = {"bninception": "BNInception", "squeezenet": "squeezenet1_1"}
LISTS = {"jester": ("jester", 27), "something": ("ssv2", 174)}
# Defaults of stmodeling's main.py.
STMODELING = {
    "SOLVER.OPTIMIZING_METHOD": "sgd",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 0.0005,
    "SOLVER.MAX_EPOCH": 30,
    "SOLVER.STEPS": [0, 15, 25],
    "SOLVER.LRS": [1.0, 0.1, 0.01],
    "SOLVER.CLIP_GRAD_L2NORM": 20.0,
    "TRAIN.BATCH_SIZE": 16,
    "TRAIN.EVAL_PERIOD": 1,
    "TSN.FEATURE_DIM": 256,
    "TSN.HIDDEN_SIZE": 256,
    "TSN.DROPOUT": 0.3,
    "TSN.PARTIAL_BN": True,
    "DATA.RANDOM_FLIP": False,
    "DATA.TRAIN_MULTI_SCALE_CROP": [1.0, 0.875, 0.75, 0.66],
}


@pytest.mark.parametrize("data", LISTS)
def test_heads_over_frames_are_the_published_command(data):
    folders = sorted((ROOT / "exp").glob(f"{data}_*"))
    assert len(folders) == 22 + (data == "something")
    for folder in folders:
        _, backbone, rest = folder.name.split("_", 2)
        head, _, segments = rest.rpartition("_")
        cfg = load_config([folder / "config.yaml"])
        expected = STMODELING | {
            "TSN.CONSENSUS": HEADS[head],
            "TSN.BACKBONE": BACKBONES[backbone],
            "DATA.NUM_FRAMES": int(segments),
            "TRAIN.DATASET": LISTS[data][0],
            "TEST.DATASET": LISTS[data][0],
            "MODEL.NUM_CLASSES": LISTS[data][1],
        }
        assert {key: cfg.lookup(key) for key in expected} == expected, folder.name


SPLITS = {
    "hmdb": "hmdb51_arn",
    "ucf": "ucf101_arn",
    "kinetics": "kinetics_cmn",
    "ssv2_cmn": "ssv2_cmn",
    "ssv2_otam": "ssv2_otam",
}


def test_fewshot_recipes_are_the_published_command():
    """STAF_run.py --way 5 --shot S --tasks_per_batch 64 --training_iterations 128000 -lr 0.01 …"""
    folders = sorted((ROOT / "exp").glob("staf_r3d50_*"))
    assert len(folders) == 2 * len(SPLITS)
    for folder in folders:
        split, _, shots = folder.name.removeprefix("staf_r3d50_").rpartition("_5w")
        cfg = load_config([folder / "config.yaml"])
        expected = {
            "FEWSHOT.SPLIT": SPLITS[split],
            "FEWSHOT.SHOT": int(shots.removesuffix("s")),
            "FEWSHOT.WAY": 5,
            "FEWSHOT.QUERY": 1,
            "FEWSHOT.QUERY_TEST": 1,
            "FEWSHOT.TEST_EPISODES": 10000,
            "FEWSHOT.SELF_WEIGHT": 1.0,
            "SOLVER.ACCUM_STEPS": 64,
            "SOLVER.BASE_LR": 0.01,
            "SOLVER.MOMENTUM": 0.0,
            "DATA.NUM_FRAMES": 16,
            "DATA.TRAIN_CROP_SIZE": 224,
            "RESNET3D.PRETRAIN_NAME": "r3d50_KMS_200ep",
        }
        assert {key: cfg.lookup(key) for key in expected} == expected, folder.name
        assert cfg.SOLVER.MAX_EPOCH * cfg.FEWSHOT.TRAIN_EPISODES == 128000


def test_an_experiment_without_values_of_its_own_is_its_configuration():
    """TimeSformer, MViT and STAM: tests/models compares the files under configs/ with the release."""
    folders = [
        folder
        for family in ("mvit", "timesformer", "stam")
        for folder in sorted((ROOT / "exp").glob(f"{family}*"))
    ]
    assert len(folders) == 21
    for folder in folders:
        assert own_keys(folder / "config.yaml") == [], folder.name


def test_a_released_test_configuration_does_not_train():
    cfg = load_config([ROOT / "configs/Kinetics/MVITv2_L_40x3_test.yaml"])
    assert not cfg.TRAIN.ENABLE and cfg.TEST.ENABLE
    assert (cfg.TEST.NUM_ENSEMBLE_VIEWS, cfg.TEST.NUM_SPATIAL_CROPS) == (5, 3)


def test_networks_of_recipes_are_registered():
    used = {load(file).MODEL.MODEL_NAME for file in EXPERIMENTS}
    assert used <= set(MODEL_REGISTRY) and len(used) == 10
