"""Tiny runs whose weights and test figures stay equal to the bit, whatever is reshaped.

``tests/data/fixed_runs.json`` holds what they gave at commit 78951b3, with the versions and the
processor that gave it. Floating-point results depend on both, so that there is a record for each
kind of machine; on any other, figures are compared instead of bits. A change that is meant to change
the numbers of a run removes it from the records and writes it anew
(``python -m tests.engine.test_fixed_runs NAME``), as precise batch norm did with ``tsn_trn``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from tests.conftest import ROOT, TINY, words

RECORD = ROOT / "tests" / "data" / "fixed_runs.json"
OLD_CHECKPOINT = ROOT / "tests" / "data" / "checkpoint_78951b3.pyth"
_FIGURES = ("top1_acc", "interval")  # the records also hold top-5 of four classes, always 100

COMMON = TINY | {
    "RNG_SEED": 0,
    "SOLVER.MAX_EPOCH": 5,
    "TRAIN.CHECKPOINT_PERIOD": 5,
    "TRAIN.EVAL_PERIOD": 3,
    "TENSORBOARD.ENABLE": False,
    "TEST.SAVE_RESULTS_PATH": "scores.pt",
}
SMALL_VIT = {"PATCH_SIZE": 8, "EMBED_DIM": 32, "DEPTH": 3, "NUM_HEADS": 2}
RUNS: dict[str, dict[str, Any]] = {
    "uniformer_stfm": {
        "STFM.ENABLE": True,
        "STFM.SELECTION": "straight_through",
        "STFM.NUM_TOKENS": 3,
        "STFM.SIMILAR_LOSS": True,
        "UNIFORMER.DROP_DEPTH_RATE": 0.2,
        "AUG.ENABLE": True,
        "MIXUP.ENABLE": True,
        "MODEL.LOSS_FUNC": "soft_cross_entropy",
        "EMA.ENABLE": True,
        "TEST.NUM_TEMPORAL_CLIPS": [1, 2],
    },
    "timesformer": {f"TIMESFORMER.{key}": value for key, value in SMALL_VIT.items()}
    | {"MODEL.MODEL_NAME": "TimeSformer", "SOLVER.ACCUM_STEPS": 2, "SOLVER.MAX_EPOCH": 10},
    "mvit": {
        "MODEL.MODEL_NAME": "MViT",
        "MVIT.DEPTH": 3,
        "MVIT.EMBED_DIM": 16,
        "MVIT.DIM_MUL": [[1, 2.0], [2, 2.0]],
        "MVIT.HEAD_MUL": [[1, 2.0], [2, 2.0]],
        "MVIT.POOL_Q_STRIDE": [[0, 1, 1, 1], [1, 1, 2, 2], [2, 1, 2, 2]],
        "MVIT.POOL_KV_STRIDE_ADAPTIVE": [1, 2, 2],
        "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
        "MVIT.PATCH_PADDING": [1, 3, 3],
        "MVIT.DIM_MUL_IN_ATT": True,
        "MVIT.REL_POS_SPATIAL": True,
        "MVIT.REL_POS_TEMPORAL": True,
        "MVIT.RESIDUAL_POOLING": True,
        "MVIT.USE_ABS_POS": False,
        "SOLVER.ZERO_WD_1D_PARAM": True,
        "SOLVER.LAYER_DECAY": 0.8,
    },
    "stam": {f"STAM.{key}": value for key, value in SMALL_VIT.items()}
    | {
        "MODEL.MODEL_NAME": "STAM",
        "STAM.TEMPORAL_LAYERS": 1,
        "STAM.TEMPORAL_HEADS": 2,
        "STAM.TEMPORAL_MLP_DIM": 64,
        "SOLVER.CLIP_GRAD_L2NORM": 1.0,
    },
    "tsn_trn": {
        "MODEL.MODEL_NAME": "TSN",
        "TSN.BACKBONE": "timm/test_efficientnet",
        "TSN.CONSENSUS": "TRNmultiscale",
        "TSN.FEATURE_DIM": 16,
        "DATA.SAMPLING": "tsn",
        "SOLVER.OPTIMIZING_METHOD": "sgd",
        "SOLVER.BASE_LR": 0.01,
        "BN.USE_PRECISE_STATS": True,
        "BN.NUM_BATCHES_PRECISE": 2,
    },
    "fewshot_staf": {
        "TASK": "fewshot",
        "MODEL.MODEL_NAME": "ResNet3D",
        "RESNET3D.DEPTH": 10,
        "RESNET3D.WIDEN_FACTOR": 0.125,
        "RESNET3D.CONV1_T_SIZE": 3,
        "DATA.SAMPLING": "auto",
        "DATA.RANDOM_FLIP": False,
        "FEWSHOT.WAY": 3,
        "FEWSHOT.QUERY_CLASSES": "all",
        "FEWSHOT.TRAIN_EPISODES": 8,
        "FEWSHOT.VAL_EPISODES": 4,
        "FEWSHOT.TEST_EPISODES": 12,
        "SOLVER.ACCUM_STEPS": 2,
        "SOLVER.BASE_LR": 0.01,
    },
    "clip": {
        "MODEL.MODEL_NAME": "TemporalClipVideo",
        "MODEL.ARCH": "custom",
        "MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend",
        "MODEL.CONTEXT_LENGTH": 16,
        "MODEL.CHANNEL_FOLD": 16,
        "MODEL.TEMPORAL_SCALE": [1, 2],
        "MODEL.KEEP_RAW_MODEL": True,
        "MODEL.RAW_MODEL_DISTILLATION": True,
        "MODEL.ENSEMBLE_PRED": True,
        "MODEL.ENSEMBLE_RAWMODEL_RATIO": 0.3,
        "TRAIN.LINEAR_CONNECT_CLIMB": True,
        "CLIP.PATCH_SIZE": 8,
        "CLIP.WIDTH": 64,
        "CLIP.LAYERS": 2,
        "CLIP.EMBED_DIM": 32,
        "CLIP.TEXT_WIDTH": 64,
        "CLIP.TEXT_LAYERS": 1,
        "CLIP.TEXT_CACHE": "",
        "CLIP.TRAINED": ["visual", "text", "text_projection"],
        "CLIP.TEMPLATES": ["a video of {}.", "a clip of {}."],
        "SOLVER.MAX_EPOCH": 3,
    },
}
# The run of the stored checkpoint: small, with all that a checkpoint can hold.
RESUMED = "frame_average"
RUNS[RESUMED] = {
    "MODEL.MODEL_NAME": "FrameAverage",
    "FRAME_AVERAGE.WIDTHS": [8, 16],
    "EMA.ENABLE": True,
    "MIXUP.ENABLE": True,
    "MODEL.LOSS_FUNC": "soft_cross_entropy",
}


def values_of(name: str, shapes: Path, compositions: Path, out: Path) -> dict[str, Any]:
    """KEY VALUE words of a run."""
    sets = {"TRAIN.DATASET": "moving_shapes", "TEST.DATASET": "moving_shapes"}
    folders = {"DATA.PATH_TO_DATA_DIR": shapes}
    if RUNS[name].get("TASK") == "fewshot":
        sets = {}
        folders = {
            "DATA.PATH_TO_DATA_DIR": compositions,
            "DATA.PATH_PREFIX": compositions / "videos",
        }
    if name == "clip":
        folders["TRAIN.CLIP_ORI_PATH"] = _original_clip(out.parent / "original.pt")
    return COMMON | sets | folders | RUNS[name] | {"OUTPUT_DIR": out}


def _original_clip(path: Path) -> Path:
    """Weights to start from: drawn from a seed, the same on every machine."""
    from slowfast.models.clip.sizes import ClipSizes
    from slowfast.models.clip.towers import CLIP

    sizes = ClipSizes(8, 64, 2, 32, resolution=32, context=16, text_width=64, text_layers=1)
    torch.manual_seed(5)
    torch.save(CLIP(sizes).state_dict(), path)
    return path


def digest(state: dict[str, torch.Tensor]) -> str:
    """Hash of all names and values."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode())
        found.update(state[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def result_of(out: Path) -> dict[str, Any]:
    """Hashes of the last checkpoint and figures of the tests of a run."""
    content = read_checkpoint(sorted((out / "checkpoints").glob("*checkpoint_epoch_*.pyth"))[-1])
    lines = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    scores = [torch.load(file, weights_only=True)["scores"] for file in out.rglob("scores.pt")]
    losses = [line["loss"] for line in lines if line["_type"] == "train_epoch"]
    return {
        "weights": digest(content["model_state"]),
        "average": digest(content["ema_state"]) if content["ema_state"] else "",
        "steps": content["iteration"],
        "loss": losses[-1],
        "scores": digest({"": scores[0]}) if scores else "",
        "tests": [
            {key: line[key] for key in _FIGURES if key in line}
            for line in lines
            if line["_type"] == "test_final"
        ],
    }


def run(values: dict[str, Any]) -> dict[str, Any]:
    """Train and test in this process, with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        launch(load_config(overrides=words(values)), run_job)
    finally:
        torch.set_num_threads(before)
    return result_of(Path(values["OUTPUT_DIR"]))


def here() -> dict[str, str]:
    """What results to the bit depend on besides the code."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (row.split(":")[1].strip() for row in text.splitlines() if "model name" in row), ""
    )
    return {
        "torch": torch.__version__.split("+")[0],
        "processor": model or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return json.loads(RECORD.read_text())


def assert_same_result(found: dict[str, Any], records: list[dict[str, Any]], name: str) -> None:
    records = [record for record in records if name in record["runs"]]
    same_machine = [record for record in records if record["here"] == here()]
    expected = dict((same_machine or records)[0]["runs"][name])
    expected["tests"] = [
        {key: line[key] for key in _FIGURES if key in line} for line in expected["tests"]
    ]
    assert found["steps"] == expected["steps"]
    if same_machine:
        assert found == expected
        return
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.02)
    assert len(found["tests"]) == len(expected["tests"])


@pytest.mark.parametrize("name", RUNS)
def test_run_is_the_same_to_the_bit(name, records, shapes, compositions, tmp_path):
    found = run(values_of(name, shapes, compositions, tmp_path / "out"))
    assert_same_result(found, records, name)


def test_old_checkpoint_resumes_and_is_tested(records, shapes, compositions, tmp_path):
    """A run stopped inside its third epoch by commit 78951b3 ends as if that had ended it."""
    folder = tmp_path / "out" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(OLD_CHECKPOINT, folder / "checkpoint_epoch_00002_iter_000002.pyth")
    found = run(values_of(RESUMED, shapes, compositions, tmp_path / "out"))
    # To the bit on the kind of machine that wrote it.
    assert_same_result(found, records[:1], RESUMED)
    lines = (tmp_path / "out" / "stats.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["_type"] == "resume" and json.loads(lines[0])["step"] == 10


def _write_record(names: list[str]) -> None:
    from slowfast.datasets.compositions import CompositionsSpec
    from slowfast.datasets.compositions import generate as write_compositions
    from slowfast.datasets.moving_shapes import ShapesSpec, generate

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        shapes, compositions = base / "shapes", base / "compositions"
        spec = ShapesSpec(classes=4, train=4, val=2, test=2)
        generate(shapes, spec, workers=1, progress=False)
        write_compositions(compositions, CompositionsSpec(3, 3), workers=1, progress=False)
        runs = {}
        for name in names or RUNS:
            (base / name).mkdir()
            runs[name] = run(values_of(name, shapes, compositions, base / name / "out"))
            sys.stdout.write(f"{name}: {runs[name]}\n")
    records = json.loads(RECORD.read_text())
    mine = next((record for record in records if record["here"] == here()), None)
    if mine is None:
        mine = {"here": here(), "runs": {}}
        records.append(mine)
    mine["runs"] |= runs
    RECORD.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    _write_record(sys.argv[1:])
