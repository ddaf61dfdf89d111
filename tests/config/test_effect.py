"""Keys that were set without effect are said, and no others."""

from __future__ import annotations

import ast

import pytest

from slowfast.config.effect import conditions, describe_idle_keys, idle_keys
from slowfast.config.load import explain_key, load_config
from slowfast.config.schema import SECTIONS, Other, all_keys
from slowfast.engine.run import main
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.errors import UserError
from tests.config.test_recipes import CONFIGS, EXPERIMENTS, load
from tests.conftest import ROOT, words


def idle_of(given: dict) -> dict[str, str]:
    return idle_keys(load_config(overrides={"DATA.TEST_CROP_SIZE": 224} | given))


@pytest.mark.parametrize(
    "given, idle",
    [
        ({"MIXUP.ALPHA": 0.5}, {"MIXUP.ALPHA": "MIXUP.ENABLE is False"}),
        ({"MIXUP.ALPHA": 0.5, "MIXUP.ENABLE": True}, {}),
        ({"MIXUP.ALPHA": 0.8}, {}),  # the default
        ({"MVIT.DEPTH": 3}, {"MVIT.DEPTH": "MODEL.MODEL_NAME is 'Uniformer'"}),
        ({"MVIT.DEPTH": 3, "MODEL.MODEL_NAME": "MViT"}, {}),
        (
            {
                "MVIT.DEPTH": 3,
                "MODEL.MODEL_NAME": "TemporalClipVideo",
                "CLIP.VISUAL_TOWER": "MViT",
                "DATA.CLASS_NAMES": ["left", "right"],
            },
            {},
        ),
        ({"AUG.COLOR_JITTER": 0.9, "AUG.ENABLE": True}, {"AUG.COLOR_JITTER": "no value has one"}),
        ({"AUG.COLOR_JITTER": None}, {"AUG.COLOR_JITTER": "no value has one"}),
        ({"FEWSHOT.WAY": 3}, {"FEWSHOT.WAY": "TASK is not set"}),
        ({"FEWSHOT.WAY": 3, "TASK": "fewshot"}, {}),
        (
            {"FEWSHOT.TRX_DIM": 8, "TASK": "fewshot"},
            {"FEWSHOT.TRX_DIM": "FEWSHOT.METHOD is 'staf'"},
        ),
        ({"STFM.ENABLE": True}, {}),
        (
            {"STFM.ENABLE": True, "MODEL.MODEL_NAME": "STAM"},
            {"STFM.ENABLE": "MODEL.MODEL_NAME is 'STAM'"},
        ),
        ({"STFM.NUM_TOKENS": 4}, {"STFM.NUM_TOKENS": "STFM.ENABLE is False"}),
        ({"SOLVER.NESTEROV": False}, {}),
        (
            {"SOLVER.MOMENTUM": 0.5, "SOLVER.OPTIMIZING_METHOD": "adamw"},
            {"SOLVER.MOMENTUM": "SOLVER.OPTIMIZING_METHOD is 'adamw'"},
        ),
        ({"SOLVER.MOMENTUM": 0.5, "SOLVER.OPTIMIZING_METHOD": "rmsprop"}, {}),
        (
            {"SOLVER.WARMUP_START_LR": 0.1},
            {"SOLVER.WARMUP_START_LR": "SOLVER.WARMUP_EPOCHS is 0.0"},
        ),
        ({"TRAIN.EARLY_STOPPING_PATIENCE": 2, "CALLBACKS": ["early_stopping"]}, {}),
        (
            {"TRAIN.EARLY_STOPPING_PATIENCE": 2},
            {"TRAIN.EARLY_STOPPING_PATIENCE": "CALLBACKS is []"},
        ),
        (
            {"TEST.NUM_ENSEMBLE_VIEWS": 4, "TEST.NUM_TEMPORAL_CLIPS": [1, 2]},
            {"TEST.NUM_ENSEMBLE_VIEWS": "TEST.NUM_TEMPORAL_CLIPS is [1, 2]"},
        ),
        ({"BN.NUM_SYNC_DEVICES": 2}, {"BN.NUM_SYNC_DEVICES": "BN.NORM_TYPE is 'batchnorm'"}),
        ({"DATA.SAMPLING_RATE": 3, "DATA.SAMPLING": "strided"}, {}),
        (
            {"DATA.SAMPLING_RATE": 3, "DATA.SAMPLING": "segment"},
            {"DATA.SAMPLING_RATE": "DATA.SAMPLING is 'segment'"},
        ),
        (
            {"RESNET.DEPTH": 18, "MODEL.MODEL_NAME": "X3D"},
            {"RESNET.DEPTH": "MODEL.MODEL_NAME is 'X3D'"},
        ),
        ({"RESNET.ZERO_INIT_FINAL_BN": True, "MODEL.MODEL_NAME": "X3D"}, {}),
        ({"TUNE_HEAD": True}, {"TUNE_HEAD": "MODEL.MODEL_NAME is 'Uniformer'"}),
    ],
)
def test_keys_without_effect(given, idle):
    assert idle_of(given) == idle


def test_one_sentence_names_them_by_reason():
    cfg = load_config(overrides={"MIXUP.ALPHA": 0.5, "MIXUP.PROB": 0.5, "AUG.RE_SPLIT": True})
    assert describe_idle_keys(cfg) == (
        "set without effect: AUG.RE_SPLIT (no value has one); MIXUP.ALPHA, MIXUP.PROB "
        "(MIXUP.ENABLE is False)"
    )
    assert describe_idle_keys(load_config()) == ""


def test_channels_other_than_three_are_refused():
    with pytest.raises(UserError, match=r"DATA.INPUT_CHANNEL_NUM: must be at least 3, is \[1\]"):
        load_config(overrides={"DATA.INPUT_CHANNEL_NUM": [1]})


def test_shipped_files_set_nothing_without_effect():
    files = [f for f in CONFIGS if f.parent.name != "_base"] + EXPERIMENTS
    idle = {str(f.relative_to(ROOT)): describe_idle_keys(load(f)) for f in files}
    assert len(idle) > 150
    assert {name: text for name, text in idle.items() if text} == {}


def test_what_a_base_sets_is_not_said(tmp_path):
    """Who switches mixup off in a file of their own did not set its parameters."""
    (tmp_path / "base.yaml").write_text("MIXUP: {ENABLE: True, ALPHA: 0.3}\n")
    own = tmp_path / "own.yaml"
    own.write_text("_BASE_: base.yaml\nMIXUP: {ENABLE: False}\n")
    assert idle_keys(load_config([own])) == {}
    own.write_text("_BASE_: base.yaml\nMIXUP: {ENABLE: False, PROB: 0.5}\n")
    assert set(idle_keys(load_config([own]))) == {"MIXUP.PROB"}


def test_networks_from_outside_and_subclasses_may_read_the_section(monkeypatch):
    derived = type("Derived", (MODEL_REGISTRY.get("MViT"),), {"__module__": "slowfast.models.x"})
    monkeypatch.setitem(MODEL_REGISTRY._objects, "Derived", derived)
    outside = type("Outside", (MODEL_REGISTRY.get("STAM"),), {"__module__": "mypaper"})
    monkeypatch.setitem(MODEL_REGISTRY._objects, "Outside", outside)
    for name in ("Derived", "Outside"):
        assert idle_of({"MODEL.MODEL_NAME": name, "MVIT.DEPTH": 3}) == {}
    assert set(idle_of({"MODEL.MODEL_NAME": "Derived", "STAM.DEPTH": 3})) == {"STAM.DEPTH"}


def test_conditions_name_keys_and_values_that_exist():
    keys = all_keys()
    for section in SECTIONS.values():
        for name, key in section.dotted().items():
            for other, wanted in conditions(section, name, key).items():
                values = wanted.values if isinstance(wanted, Other) else wanted
                for value in values if isinstance(values, tuple) else (values,):
                    of_list = isinstance(keys[other].default, list) and not isinstance(value, list)
                    assert keys[other].is_choice(other, value), (name, other, value)
                    assert of_list or keys[other].coerce(value) == value, (name, other, value)


def test_the_condition_is_explained():
    assert "Read only if MIXUP.ENABLE is True." in explain_key("MIXUP.ALPHA")
    assert "Read only if" not in explain_key("MIXUP.ENABLE")


def test_a_run_says_so_in_its_log(tiny_words):
    given = {"SOLVER.MAX_EPOCH": 1, "MIXUP.ALPHA": 0.5, "TEST.ENABLE": False}
    config = str(ROOT / "configs/quickstart/uniformer.yaml")
    assert main(["--cfg", config, *words(tiny_words | given)]) == 0
    with open(f"{tiny_words['OUTPUT_DIR']}/stdout.log") as log:
        said = [line for line in log if "set without effect" in line]
    assert len(said) == 1 and "MIXUP.ALPHA (MIXUP.ENABLE is False)" in said[0]


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_run_with_nothing_to_do_is_refused(tiny_words, option):
    config = str(ROOT / "configs/quickstart/uniformer.yaml")
    given = words(tiny_words | {"TRAIN.ENABLE": False, "TEST.ENABLE": False})
    with pytest.raises(UserError, match="TRAIN.ENABLE and TEST.ENABLE are False"):
        main(["--cfg", config, *option, *given])
    assert main(["--cfg", config, "--print-config", *given]) == 0


def test_sections_of_networks_say_which_networks_read_them():
    silent = []
    for file in (ROOT / "slowfast/models").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Section":
                given = {keyword.arg for keyword in node.keywords}
                silent += [] if "only_if" in given else [f"{file.name}:{node.lineno}"]
    assert silent == []
