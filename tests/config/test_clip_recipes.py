"""Configurations and commands of STDD and Open-VCLIP, as they were published."""

from __future__ import annotations

import json

import pytest
import yaml

from slowfast.config.load import load_config
from slowfast.engine.run import parse_command
from tests.config.test_old_files import nested
from tests.conftest import ROOT

RECIPES = json.loads((ROOT / "tests/data/clip_recipes.json").read_text())
OURS = {
    "TRAIN.AUTO_RESUME",
    "OUTPUT_DIR",
    "DATA.DECODING_BACKEND",
    "DATA_LOADER.PIN_MEMORY",
    "AUG.RE_MODE",
    "AUG.RE_COUNT",
    "AUG.RE_SPLIT",
    "BN.NUM_BATCHES_PRECISE",
}


@pytest.fixture
def class_map(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({str(n): f"class {n}" for n in range(7)}))
    return path


def script_words(script: dict, class_map) -> list[str]:
    """A published script as KEY VALUE words; places of the authors' machines become ours."""
    places = {
        "DATA.INDEX_LABEL_MAPPING_FILE": class_map,
        "MODEL.NUM_CLASSES": 7,
        "TEST.PATCHING_RATIO": 0.5,
    }
    words = []
    for key, value in script["overrides"].items():
        given = places.get(key, f"/somewhere/{key}") if value == "<path>" else value
        words += [key, str(given)]
    return words


def write_yaml(path, flat: dict):
    path.write_text(yaml.safe_dump(nested(flat)))
    return path


@pytest.mark.parametrize("name", RECIPES["configs"])
def test_published_configurations_load(name, class_map, tmp_path):
    file = write_yaml(tmp_path / "c.yaml", RECIPES["configs"][name])
    cfg = load_config([file], ["DATA.INDEX_LABEL_MAPPING_FILE", str(class_map)])
    assert cfg.MODEL.MODEL_NAME == "TemporalClipVideo" and cfg.MODEL.NUM_CLASSES == 7


@pytest.mark.parametrize("name", RECIPES["scripts"])
def test_published_commands_are_accepted(name, class_map, tmp_path):
    """Key for key, as they were written: --cfg FILE --opts KEY VALUE …"""
    script = RECIPES["scripts"][name]
    known = RECIPES["configs"].get(f"Kinetics/{script['cfg']}")
    fallback = RECIPES["configs"]["Kinetics/TemporalCLIP_vitb16_8x16_STAdapter.yaml"]
    file = write_yaml(tmp_path / "c.yaml", known or fallback)
    _, files, words = parse_command(
        ["--cfg", str(file), "--opts", *script_words(script, class_map)]
    )
    cfg = load_config(files, words)
    renamed = {"TRAIN_FILE", "VAL_FILE", "TEST_FILE", "MODEL.NUM_CLASSES", "TEST.CUSTOM_LOAD"}
    for key, value in script["overrides"].items():
        if value == "torchvision":  # it decodes no video any more
            value = "pyav"
        if value != "<path>" and key not in renamed:
            assert cfg.lookup(key) == value, key
    if script["overrides"].get("TEST.CUSTOM_LOAD"):
        assert cfg.TEST.CHECKPOINT_FILE_PATH == "/somewhere/TEST.CUSTOM_LOAD_FILE"
    else:
        assert cfg.TEST.CHECKPOINT_FILE_PATH == ""
    if "TRAIN_FILE" in script["overrides"]:
        assert cfg.DATA.TRAIN_LIST == "/somewhere/TRAIN_FILE"


@pytest.mark.parametrize("arch", ["vitb16", "vitb32", "vitl14"])
def test_our_configurations_hold_the_published_values(arch, class_map):
    name = f"Kinetics/TemporalCLIP_{arch}_8x16_STAdapter.yaml"
    cfg = load_config(
        [ROOT / "configs" / name],
        ["DATA.INDEX_LABEL_MAPPING_FILE", str(class_map), "MODEL.NUM_CLASSES", "400"],
    )
    meant = {"stcross_attn": "stcross_attend", 2: [2]}
    for key, value in RECIPES["configs"][name].items():
        if key in OURS or key == "MODEL.NUM_CLASSES":
            continue
        if key in ("MODEL.TEMPORAL_MODELING_TYPE", "MODEL.TEMPORAL_SCALE"):
            value = meant.get(value if not isinstance(value, list) else None, value)
        got = cfg.lookup(key)
        assert got == (float(value) if isinstance(got, float) else value), key


def test_the_recipe_is_the_published_command():
    cfg = load_config([ROOT / "exp/stdd_vitb16_k400/config.yaml"])
    published = RECIPES["scripts"]["training/temporal_b16/train_tclip_k400.sh"]["overrides"]
    skipped = {"DATA.DECODING_BACKEND", "DATA_LOADER.NUM_WORKERS"}
    for key, value in published.items():
        if value != "<path>" and key not in skipped:
            assert cfg.lookup(key) == value, key
    assert cfg.lookup("MODEL.NUM_CLASSES") == 400
