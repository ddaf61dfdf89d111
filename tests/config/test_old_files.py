"""Configuration files of PySlowFast and STFM, as they were published, load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from slowfast.config import compat
from slowfast.config.load import load_config
from slowfast.models import MODEL_REGISTRY
from slowfast.utils.errors import UserError
from tests.config.test_recipes import trains_only
from tests.conftest import ROOT

DATA = Path(__file__).parent.parent / "data"
RECIPES = json.loads((DATA / "stfm_exp.json").read_text())
# The values of the released recipes that ours change, each for a reason.
OURS = {
    # The released code accumulates, clips and autocasts without a key, and reads BGR.
    "SOLVER.ACCUM_STEPS",
    "SOLVER.CLIP_GRAD_L2NORM",
    "SOLVER.NO_DECAY_BY_NAME",
    "TRAIN.MIXED_PRECISION",
    "DATA.INPUT_FORMAT",
    "STFM.ENABLE",
    "STFM.NUM_TOKENS",
    # Frames repeat the folder's name there; v1 lists were named by the fork's default.
    "DATA.IMAGE_TEMPLATE",
    "DATA.LABEL_PATH_TEMPLATE",
    # Places of the authors' machines.
    "OUTPUT_DIR",
    "TEST.CHECKPOINT_FILE_PATH",
    "DATA.PATH_TO_DATA_DIR",
    "DATA.PATH_PREFIX",
    "NUM_SHARDS",
    "MODEL.ARCH",
}


def nested(flat: dict) -> dict:
    tree: dict = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def not_in_tests(key: str, cfg) -> bool:
    """Keys that the release repeats in test.yaml although no test depends on them."""
    unread = key == "DATA.TRAIN_JITTER_SCALES" and cfg.TEST.DATASET == "sth"
    return trains_only(key) or unread


def published(name: str, kind: str) -> dict:
    files, script = {"train": ("config.yaml", "run.sh"), "test": ("test.yaml", "test.sh")}[kind]
    recipe = RECIPES[name]
    return recipe[files] | recipe.get(script, {}).get("overrides", {})


@pytest.mark.parametrize("name", RECIPES)
def test_experiment_folder_has_the_published_values(name):
    folder = ROOT / "exp" / name
    assert {"run.sh", "test.sh", "config.yaml"} <= {p.name for p in folder.iterdir()}
    kinds = ["train"] + (["test"] if (folder / "test.yaml").exists() else [])
    for kind in kinds:
        file = folder / ("config.yaml" if kind == "train" else "test.yaml")
        ours = load_config([file])
        for key, value in published(name, kind).items():
            if key in OURS or value == "<path>" or (kind == "test" and not_in_tests(key, ours)):
                continue
            got = ours.lookup(key)
            if key == "UNIFORMER.PRETRAIN_NAME":
                value = value.removesuffix(".pth")
            assert (float(value) if isinstance(got, float) else value) == got, key
        assert ours.SOLVER.ACCUM_STEPS == 4 and ours.STFM.ENABLE


def test_29_experiments():
    assert len(RECIPES) == 29
    assert {p.name for p in (ROOT / "exp").glob("uniformer_*")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_released_yaml_loads(name, tmp_path):
    for kind in ("config.yaml", "test.yaml"):
        if kind in RECIPES[name]:
            file = tmp_path / kind
            file.write_text(yaml.safe_dump(nested(RECIPES[name][kind])))
            cfg = load_config([file])
            assert RECIPES[name][kind]["UNIFORMER.DEPTH"] == cfg.UNIFORMER.DEPTH


def test_pyslowfast_mvit_yaml_fails_only_for_its_model(tmp_path):
    """A file of a model that is not here: one problem, the model's name."""
    file = tmp_path / "MVIT.yaml"
    file.write_text(
        "TRAIN: {DATASET: kinetics, BATCH_SIZE: 16, MIXED_PRECISION: True}\n"
        "DATA: {NUM_FRAMES: 16, DECODING_BACKEND: torchvision, INPUT_CHANNEL_NUM: [3]}\n"
        "MVIT: {DEPTH: 16, DIM_MUL: [[1, 2.0]], CLS_EMBED_ON: True}\n"
        "RESNET: {DEPTH: 50}\nPREFETCH: {ENABLE: False}\nDETECTION: {ENABLE: False}\n"
        "SOLVER: {OPTIMIZING_METHOD: mt_adamw, LARS_ON: False}\n"
        "MODEL: {MODEL_NAME: NoSuchModel, ARCH: mvit, DROPCONNECT_RATE: 0.0}\n"
    )
    with pytest.raises(UserError) as caught:
        load_config([file])
    assert [p.key for p in caught.value.problems] == ["MODEL.MODEL_NAME"]


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What the translation of old files warns of."""
    texts: list[str] = []
    monkeypatch.setattr(compat.logger, "warning", lambda text, *args: texts.append(text % args))
    return texts


@pytest.mark.parametrize("name", ["ContrastiveModel", "PTVResNet"])
def test_networks_of_pyslowfast_that_are_missing(name):
    """No other network is proposed in their place."""
    with pytest.raises(UserError) as caught:
        load_config(overrides={"MODEL.MODEL_NAME": name, "RESNET.DEPTH": 101})
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"{name} is ") and "docs/migration.md" in problem.remedy
    assert "did you mean" not in str(problem) and "ResNet3D" not in str(problem)


def test_a_network_that_takes_such_a_name_is_used(monkeypatch):
    monkeypatch.setitem(MODEL_REGISTRY._objects, "PTVX3D", MODEL_REGISTRY.get("FrameAverage"))
    assert load_config(overrides={"MODEL.MODEL_NAME": "PTVX3D"}).MODEL.MODEL_NAME == "PTVX3D"


def test_sections_that_no_network_here_reads(warnings):
    load_config(overrides={"MASK.DECODER_DEPTH": 0, "BENCHMARK.NUM_EPOCHS": 5, "AVA.BGR": False})
    assert warnings == []  # PySlowFast's defaults: a full dump of its configuration
    load_config(overrides={"MASK.DECODER_DEPTH": 1, "MASK.MAE_ON": True, "AVA.BGR": True})
    assert len(warnings) == 1 and warnings[0].startswith(
        "MASK.DECODER_DEPTH (overrides), MASK.MAE_ON (overrides), AVA.BGR (overrides): set "
        "without effect: neither MODEL.MODEL_NAME Uniformer nor"
    )


@pytest.mark.parametrize(
    "key, near", [("RESNET.DEPHT", "RESNET.DEPTH"), ("DEMO.INPUT_VIDO", "DEMO.INPUT_VIDEO")]
)
def test_typos_in_such_sections(key, near):
    with pytest.raises(UserError, match=f"did you mean {near}"):
        load_config(overrides={key: 3})


def test_a_typo_is_found_in_every_section():
    """Also in those that no network here reads: no key passes because of its section's name."""
    names = {*compat.upstream_defaults(), *compat.foreign_keys()}
    typos = {f"{name.rpartition('.')[0]}.NO_SUCH_KEY": 1 for name in names if "." in name}
    assert {"DEMO", "MASK", "MULTIGRID", "AVA"} <= {t.split(".")[0] for t in typos}
    with pytest.raises(UserError) as caught:
        load_config(overrides=typos)
    assert {problem.key for problem in caught.value.problems} == set(typos)


def test_the_defaults_of_pyslowfast_pass_key_for_key(warnings):
    """A dump of its whole configuration, as people keep it in their run folders."""
    defaults = compat.upstream_defaults() | compat.foreign_keys()
    load_config(overrides={key: values[0] for key, values in defaults.items() if values})
    assert warnings == []


def test_the_last_value_counts_and_all_problems_are_told_at_once(tmp_path):
    file = tmp_path / "fine_tune.yaml"
    file.write_text(
        "DATA: {SSL_MOCOV2_AUG: True, TRAIN_JITTER_SCALES: [100, 200]}\nSOLVER: {LARS_ON: True}\n"
    )
    with pytest.raises(UserError) as caught:
        load_config([file])
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["DATA.SSL_MOCOV2_AUG", "SOLVER.LARS_ON", "DATA.TRAIN_JITTER_SCALES"]
    mended = {"DATA.SSL_MOCOV2_AUG": False, "DATA.TRAIN_JITTER_SCALES": [256, 320]}
    load_config([file], mended | {"SOLVER.LARS_ON": False})


def test_keys_left_out():
    load_config(overrides=["DATA.DECODING_SHORT_SIZE", "256", "SOLVER.LARS_ON", "False"])
    with pytest.raises(UserError, match=r"only its default \(False\) is accepted"):
        load_config(overrides=["SOLVER.LARS_ON", "True"])


@pytest.mark.parametrize(
    "old, key, value",
    [
        (["DATA.DECODING_BACKEND", "torchvision"], "DATA.DECODING_BACKEND", "pyav"),
        (["SOLVER.OPTIMIZING_METHOD", "mt_adamw"], "SOLVER.OPTIMIZING_METHOD", "adamw"),
        (["MODEL.TEMPORAL_SCALE", "3"], "MODEL.TEMPORAL_SCALE", [3]),
        (["TEST.NUM_ENSEMBLE_VIEWS", "-1"], "TEST.NUM_TEMPORAL_CLIPS", [1, 3, 5, 7, 10]),
        (["SOLVER.CLIP_GRADIENT", "20"], "SOLVER.CLIP_GRAD_L2NORM", 20.0),
        (["MODEL.FINETUNING", "True"], "MODEL.FINETUNNING", True),
        (["MODEL.FINETUNNING", "True"], "MODEL.FINETUNNING", True),
        (["FEWSHOT.TRAIN_TASKS", "7"], "FEWSHOT.TRAIN_EPISODES", 7),
        (["FEWSHOT.VAL_TASKS", "7"], "FEWSHOT.VAL_EPISODES", 7),
        (["FEWSHOT.TEST_TASKS", "7"], "FEWSHOT.TEST_EPISODES", 7),
    ],
)
def test_old_names_and_values(old, key, value):
    assert load_config(overrides=old).lookup(key) == value


@pytest.mark.parametrize("load, expected", [(True, "w.pyth"), (False, "")])
def test_custom_load_of_uniformer(load, expected):
    """CUSTOM_LOAD_FILE counts if CUSTOM_LOAD is on, in whatever order they stand."""
    words = ["TRAIN.CUSTOM_LOAD_FILE", "w.pyth", "TRAIN.CUSTOM_LOAD", str(load)]
    assert expected == load_config(overrides=words).TRAIN.CHECKPOINT_FILE_PATH


def test_caffe2_weights_are_recognised():
    """The key has no effect: the file says what it is."""
    load_config(overrides=["TRAIN.CHECKPOINT_TYPE", "caffe2", "TEST.CHECKPOINT_TYPE", "caffe2"])
