"""Files, KEY VALUE words and what a person is told about mistakes."""

from __future__ import annotations

import pkgutil
import re

import pytest

from slowfast.config.defaults import get_cfg
from slowfast.config.load import explain_key, load_config, reference_page, render_config
from slowfast.config.schema import SECTIONS, all_keys
from slowfast.utils.errors import UserError


def problems_of(*args, **kwargs) -> dict[str, str]:
    with pytest.raises(UserError) as caught:
        load_config(*args, **kwargs)
    return {p.key: str(p) for p in caught.value.problems}


def write(path, text):
    path.write_text(text)
    return path


def test_order_and_origins(tmp_path):
    base = write(
        tmp_path / "base.yaml", "DATA:\n  NUM_FRAMES: 4\n  SAMPLING_RATE: 2\nNUM_GPUS: 0\n"
    )
    file = write(tmp_path / "c.yaml", "_BASE_: base.yaml\nDATA:\n  NUM_FRAMES: 6\n")
    cfg = load_config([file], ["DATA.TARGET_FPS", "25"])
    assert (cfg.DATA.NUM_FRAMES, cfg.DATA.SAMPLING_RATE, cfg.DATA.TARGET_FPS) == (6, 2, 25)
    assert cfg.origins["DATA.NUM_FRAMES"] == f"{file}:3"
    assert cfg.origins["DATA.SAMPLING_RATE"] == f"{base}:3"
    assert cfg.origins["DATA.TARGET_FPS"] == "command line"
    assert cfg.origins["DATA.MEAN"] == "default"
    line = next(r for r in render_config(cfg).splitlines() if r.startswith("DATA.NUM_FRAMES "))
    assert line.split() == ["DATA.NUM_FRAMES", "6", "#", f"{file}:3"]


def test_later_base_wins(tmp_path):
    write(tmp_path / "a.yaml", "NUM_GPUS: 0\nLOG_PERIOD: 3\n")
    write(tmp_path / "b.yaml", "LOG_PERIOD: 4\n")
    file = write(tmp_path / "c.yaml", "_BASE_: [a.yaml, b.yaml]\n")
    cfg = load_config([file])
    assert (cfg.NUM_GPUS, cfg.LOG_PERIOD) == (0, 4)


def test_frozen():
    cfg = load_config(overrides=["NUM_GPUS", "0"])
    with pytest.raises(AttributeError, match=r"NUM_FRAMES cannot be set to 3.*cfg\.clone\(\)"):
        cfg.DATA.NUM_FRAMES = 3
    copy = cfg.clone()
    copy.defrost()
    copy.DATA.NUM_FRAMES = 3
    assert (copy.DATA.NUM_FRAMES, cfg.DATA.NUM_FRAMES) == (3, 8)


@pytest.mark.parametrize(
    "overrides",
    [
        {"DATA.NUM_FRAMES": 6, "DATA.MEAN": (0, 0.5, 1), "NUM_GPUS": 0},
        {"DATA": {"NUM_FRAMES": 6, "MEAN": [0.0, 0.5, 1.0]}, "NUM_GPUS": 0},
    ],
)
def test_overrides_as_a_mapping(overrides):
    cfg = load_config(overrides=overrides)
    assert (cfg.DATA.NUM_FRAMES, cfg.DATA.MEAN, cfg.NUM_GPUS) == (6, [0.0, 0.5, 1.0], 0)
    assert cfg.origins["DATA.NUM_FRAMES"] == "overrides"


def test_mapping_is_checked_as_words_are():
    found = problems_of(overrides={"DATA": {"NUM_FRAME": 6}, "TRAIN.BATCH_SIZE": "many"})
    assert "did you mean DATA.NUM_FRAMES" in found["DATA.NUM_FRAME"]
    assert "must be a whole number" in found["TRAIN.BATCH_SIZE"]


def test_last_value_counts(tmp_path):
    """A value that is refused in a file may be replaced on the command line."""
    text = "DATA: {NUM_FRAMES: many, SSL_MOCOV2_AUG: True}\nMODEL: {LOSS_FUNC: bce}\n"
    file = write(tmp_path / "c.yaml", text)
    assert set(problems_of([file])) == {"DATA.NUM_FRAMES", "DATA.SSL_MOCOV2_AUG", "MODEL.LOSS_FUNC"}
    words = ["DATA.NUM_FRAMES", "4", "DATA.SSL_MOCOV2_AUG", "False"]
    cfg = load_config([file], [*words, "MODEL.LOSS_FUNC", "bce_logit"])
    assert cfg.DATA.NUM_FRAMES == 4 and cfg.MODEL.LOSS_FUNC == "bce_logit"
    found = problems_of(overrides=["LOG_PERIOD", "5", "LOG_PERIOD", "often"])
    assert "is 'often'" in found["LOG_PERIOD"]


def test_published_configurations_by_name(tmp_path, monkeypatch):
    """From any folder, without ending; a file of one's own comes first."""
    monkeypatch.chdir(tmp_path)
    for name in ("Kinetics/UNIFORMER_B", "configs/Kinetics/UNIFORMER_B.yaml"):
        assert load_config([name]).UNIFORMER.DEPTH == [5, 8, 20, 7]
    assert load_config(["exp/uniformer_b16x4_k400"]).STFM.ENABLE
    assert load_config([write(tmp_path / "m.yaml", "_BASE_: Kinetics/UNIFORMER_B\n")])
    (tmp_path / "Kinetics").mkdir()
    write(tmp_path / "Kinetics/UNIFORMER_B.yaml", "LOG_PERIOD: 99\n")
    assert load_config(["Kinetics/UNIFORMER_B"]).LOG_PERIOD == 99
    found = problems_of(["Kinetics/UNIFORMER_Z"])
    assert "there is no configuration file Kinetics/UNIFORMER_Z" in found["--cfg"]


def test_all_problems_at_once(tmp_path):
    file = write(tmp_path / "c.yaml", "DATA:\n  NUM_FRAME: 4\nTRAIN:\n  BATCH_SIZE: many\n")
    words = ["SOLVER.BASE_LRR", "1", "MODEL.LOSS_FUNC", "[1]", "TASK", "detect", "LOG_PERIOD", "0"]
    found = problems_of([file], words)
    assert "did you mean DATA.NUM_FRAMES" in found["DATA.NUM_FRAME"]
    assert f"{file}:2" in found["DATA.NUM_FRAME"]
    assert "must be a whole number, is 'many'" in found["TRAIN.BATCH_SIZE"]
    assert "SOLVER.BASE_LR" in found["SOLVER.BASE_LRR"] and "MODEL.LOSS_FUNC" in found
    assert "no task is called 'detect'" in found["TASK"]
    assert "known: fewshot, recognition" in found["TASK"]
    assert "at least 1" in found["LOG_PERIOD"] and len(found) == 6


@pytest.mark.parametrize(
    "words, key, text",
    [
        (["DATA.NUM_FRAMES", "0"], "DATA.NUM_FRAMES", "at least 1"),
        (["MODEL.LOSS_FUNC", "cross_entropie"], "MODEL.LOSS_FUNC", "did you mean cross_entropy"),
        (["DATA.ENSEMBLE_METHOD", "summ"], "DATA.ENSEMBLE_METHOD", "did you mean sum?"),
        (["DATA.SAMPLING", "clips"], "DATA.SAMPLING", "no frame sampler is called 'clips'"),
        (["MODEL.MODEL_NAME", "Unifromer"], "MODEL.MODEL_NAME", "did you mean Uniformer"),
        (["TRAIN.DATASET", "kinetic"], "TRAIN.DATASET", "did you mean kinetics"),
        (["TRAIN.BATCH_SIZE", "7", "NUM_GPUS", "2"], "TRAIN.BATCH_SIZE", "use 6 or 8"),
        (["SOLVER.COSINE_END_LR", "1"], "SOLVER.COSINE_END_LR", "not below SOLVER.BASE_LR"),
        (["SHARD_ID", "1"], "SHARD_ID", "number machines from 0"),
        (["DATA.TRAIN_CROP_SIZE", "16"], "DATA.TRAIN_CROP_SIZE", "multiple of 32"),
        (["STFM.ENABLE", "True", "DATA.NUM_FRAMES", "7"], "DATA.NUM_FRAMES", "even number"),
        (["STFM.ENABLE", "True"], "DATA.TEST_CROP_SIZE", "set both to the same size"),
        (["UNIFORMER.HEAD_DIM", "48"], "UNIFORMER.HEAD_DIM", "heads of 48"),
        (["MIXUP.ENABLE", "True", "TRAIN.BATCH_SIZE", "1"], "MIXUP.ENABLE", "at least two clips"),
        (["AUG.ENABLE", "True", "AUG.AA_TYPE", "rand-q4"], "AUG.AA_TYPE", "not understood"),
        (["DATA.TRAIN_JITTER_SCALES", "[100, 120]"], "DATA.TRAIN_JITTER_SCALES", "as large as"),
        (["TRAIN.MIXED_PRECISION", "yes"], "TRAIN.MIXED_PRECISION", "True or False"),
        (["DETECTION.ENABLE", "True"], "DETECTION.ENABLE", "detection is not part"),
    ],
)
def test_one_problem(words, key, text):
    found = problems_of(overrides=words)
    assert text in found[key]


def test_values_are_converted():
    cfg = load_config(
        overrides=[
            "SOLVER.COSINE_END_LR",
            "1e-6",
            "SOLVER.BETAS",
            "(0.9, 0.98)",
            "UNIFORMER.MLP_RATIO",
            "4",
            "SOLVER.CLIP_GRAD_L2NORM",
            "1",
            "DATA.PATH_LABEL_SEPARATOR",
            ",",
            "TRAIN.ENABLE",
            "false",
        ]
    )
    assert cfg.SOLVER.COSINE_END_LR == 1e-6 and cfg.SOLVER.BETAS == [0.9, 0.98]
    assert cfg.UNIFORMER.MLP_RATIO == 4.0 and cfg.SOLVER.CLIP_GRAD_L2NORM == 1.0
    assert cfg.DATA.PATH_LABEL_SEPARATOR == "," and cfg.TRAIN.ENABLE is False


def test_yaml_numbers_that_yaml_takes_for_text(tmp_path):
    file = write(tmp_path / "c.yaml", "SOLVER:\n  COSINE_END_LR: 1e-6\n")
    assert load_config([file]).SOLVER.COSINE_END_LR == 1e-6


def test_files_that_cannot_be_read(tmp_path):
    assert "no configuration file" in problems_of([tmp_path / "no.yaml"])["--cfg"]
    broken = write(tmp_path / "b.yaml", "DATA: [1,\n")
    assert "not valid YAML" in problems_of([broken])["--cfg"]
    circle = write(tmp_path / "circle.yaml", "_BASE_: circle.yaml\n")
    assert "includes itself" in problems_of([circle])["_BASE_"]


def test_pairs_of_words():
    with pytest.raises(UserError, match="'7' is left over"):
        load_config(overrides=["NUM_GPUS", "0", "7"])


def test_learning_rates_scale_with_shards():
    words = ["SOLVER.BASE_LR_SCALE_NUM_SHARDS", "True", "SOLVER.BASE_LR", "0.1"]
    cfg = load_config(overrides=words, num_shards=4, shard_id=1)
    assert pytest.approx(0.4) == cfg.SOLVER.BASE_LR
    assert (cfg.NUM_SHARDS, cfg.SHARD_ID) == (4, 1)
    assert cfg.origins["SOLVER.BASE_LR"] == "command line x NUM_SHARDS"


def test_upstream_interface():
    """What PySlowFast users call."""
    cfg = get_cfg()
    cfg.merge_from_list(["DATA.NUM_FRAMES", 12])
    assert cfg.DATA.NUM_FRAMES == 12
    with pytest.raises(UserError, match="did you mean"):
        cfg.merge_from_list(["DATA.NUM_FRAMEZ", 12])


# Sections that stand in the files of their networks and methods.
OWNED = ("CLIP", "FEWSHOT", "STFM", "MVIT", "RESNET3D", "STAM", "TIMESFORMER", "TSN")
LEANING = re.compile(r"(its|their|that|this|those|the same|how many|of|used for)\b", re.I)


def leans_on_its_neighbour(name: str, text: str) -> bool:
    """Whether a help text needs the one above it."""
    return len(re.findall(r"[\w-]{2,}", text)) < 3 or bool(LEANING.match(text))


def test_every_key_is_explained():
    get_cfg()
    for name, key in all_keys().items():
        section = name.rpartition(".")[0]
        assert name in explain_key(name)
        if section not in OWNED:
            assert not leans_on_its_neighbour(name, key.help), f"{name}: {key.help}"
    assert "one of: 'sum', 'max'" in explain_key("DATA.ENSEMBLE_METHOD")
    assert "STFM.NUM_TOKENS" in explain_key("STFM")
    with pytest.raises(UserError, match="did you mean STFM.NUM_TOKENS"):
        explain_key("STFM.NUM_TOKEN")


@pytest.mark.parametrize("text", ["Its heads.", "How many.", "Blocks.", "That of mlp.", "Epochs."])
def test_help_texts_that_lean_are_found(text):
    assert leans_on_its_neighbour("A.KEY", text)


@pytest.mark.parametrize(
    "key, registry",
    [
        ("TASK", "slowfast.engine.tasks.base:TASK_REGISTRY"),
        ("MODEL.MODEL_NAME", "slowfast.models:MODEL_REGISTRY"),
        ("MODEL.LOSS_FUNC", "slowfast.engine.losses:LOSS_REGISTRY"),
        ("SOLVER.LR_POLICY", "slowfast.engine.schedule:LR_POLICY_REGISTRY"),
        ("DATA.SAMPLING", "slowfast.video.sampler:FRAME_SAMPLER_REGISTRY"),
        ("TRAIN.DATASET", "slowfast.datasets.base:DATASET_REGISTRY"),
        ("TEST.DATASET", "slowfast.datasets.base:DATASET_REGISTRY"),
        ("DATA.TRANSFORMS_BEFORE", "slowfast.video.transforms:TRANSFORM_REGISTRY"),
    ],
)
def test_registered_names_are_the_choices(key, registry, monkeypatch):
    get_cfg()
    registry = pkgutil.resolve_name(registry)
    monkeypatch.setitem(registry._objects, "brand_new", object())
    assert "'brand_new'" in explain_key(key) and "`brand_new`" in reference_page()
    assert not all_keys()[key].limits(key, "brand_new")
    for name in registry:
        assert repr(name) in explain_key(key)


def test_defaults_are_valid():
    for name, key in all_keys().items():
        assert not key.limits(name, key.default), name
        assert key.coerce(key.default) == key.default, name


def test_reference_page_is_up_to_date():
    from tests.conftest import ROOT

    get_cfg()
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference_page(), "run python tools/config_reference.py"
    assert {s for s in SECTIONS if s} >= {"DATA", "UNIFORMER", "STFM"}
