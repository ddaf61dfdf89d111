"""Zero-shot recognition as people run it: the quickstart, and protocols of several tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from slowfast.analysis.results import tests_of
from slowfast.engine.run import main
from slowfast.models import MODEL_REGISTRY
from tests.cli.test_scripts import installed, script  # noqa: F401  (a fixture)
from tests.conftest import ROOT, TINY, run_tool, words
from tests.models.helpers import build

TINY_CLIP = (
    {k: v for k, v in TINY.items() if not k.startswith(("UNIFORMER", "MODEL."))}
    | {
        k: v
        for k, v in MODEL_REGISTRY.get("TemporalClipVideo").spec.test_overrides.items()
        if "CLASS_NAMES" not in k
    }
    | {
        "MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend",
        "TRAIN.CLIP_ORI_PATH": "''",
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_EPOCHS": 0,
        "TEST.NUM_SPATIAL_CROPS": 1,
        "DATA.SAMPLING": "linspace",
        "TENSORBOARD.ENABLE": False,
        "SOLVER.COSINE_END_LR": 1e-5,
        "TRAIN.MIXED_PRECISION": False,
    }
)


@pytest.fixture
def weights(tmp_path):
    """A trained tiny network under the names of a released checkpoint."""
    _, model = build("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"})
    torch.save({"model_state": model.state_dict()}, tmp_path / "trained.pyth")
    return tmp_path / "trained.pyth"


def table_of(done: subprocess.CompletedProcess) -> list[list[str]]:
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_quickstart(installed, tmp_path):  # noqa: F811
    """The script itself with few clips: training, seen and unseen classes, one table."""
    stamp = (tmp_path / "env" / ".slowfast-installed").read_text()
    (tmp_path / "env" / ".slowfast-installed-clip").write_text(stamp)
    quick = ["SOLVER.MAX_EPOCH", "1", "LOG_MODEL_INFO", "False"]
    done = script("quickstart_zeroshot/run.sh", *quick, **installed)
    ((name, base, novel, harmonic),) = table_of(done)
    assert name == "compositions" and 0 <= float(base) <= 100 and 0 <= float(novel) <= 100
    (seen,), (unseen,) = (tests_of(tmp_path / "out" / part) for part in ("seen", "unseen"))
    assert (seen.facts["split"], unseen.facts["split"]) == ("val", "test")
    assert len(seen.predictions()) == 28 and len(unseen.predictions()) == 8 * 3
    assert len(unseen.classes) == 8 and len(unseen.facts["checkpoint"]["classes"]) == 28
    assert {"top1_acc", "top5_acc", "mean_class_accuracy"} <= set(unseen.figures)
    named = {row["prediction_name"] for row in unseen.predictions()}
    classes = json.loads((tmp_path / "data" / "zeroshot" / "test_classes.json").read_text())
    assert named <= set(classes.values())
    same = [
        row["label_name"].split()[1] == row["prediction_name"].split()[1]
        for row in unseen.predictions()
    ]
    rows = [f"compositions={tmp_path / 'out' / 'unseen'}"]
    ((_, paths, _),) = table_of(run_tool("protocol_table.py", "--word", "2", *rows))
    assert float(paths) == pytest.approx(100 * sum(same) / len(same), abs=0.01)
    done = run_tool("protocol_table.py", "--word", "4", *rows)
    assert done.returncode == 2 and "has no word 4" in done.stderr


def test_protocol_over_splits(compositions, weights, tmp_path):
    """Three splits of each set; the class map of Kinetics-600 is that of the split."""
    rows = (compositions / "zeroshot" / "test.csv").read_text()
    for split in (1, 2, 3):
        for name in ("ucf101_split", "k600_split"):
            folder = tmp_path / "lists" / f"{name}{split}"
            folder.mkdir(parents=True)
            (folder / "test.csv").write_text("".join(rows.splitlines(True)[split:]))
            names = {str(n): f"motion {n} of {split}" for n in range(8)}
            (folder / "k600-openset-index2cls.json").write_text(json.dumps(names))
    env = {
        "LISTS": str(tmp_path / "lists"),
        "UCF101": str(compositions / "videos"),
        "K600": str(compositions / "videos"),
        "CHECKPOINT": str(weights),
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    done = script("stdd_vitb16_zeroshot/test.sh", *words(TINY_CLIP), **env)
    found = table_of(done)
    assert [row[0] for row in found] == ["UCF101", "Kinetics-600"]
    for row in found:
        each = [float(value) for value in row[2].split(",")]
        assert len(each) == 3 and " ± " in row[1]
        assert float(row[1].split(" ± ")[0]) == pytest.approx(sum(each) / 3, abs=0.01)
    (test,) = tests_of(tmp_path / "out" / "k600_split2")
    assert test.name == "k600_split2-test-" + test.facts["views"]
    assert "motion 3 of 2" in test.classes
    assert {row["label_name"] for row in test.predictions()} <= set(test.classes)
    assert (tmp_path / "out" / "table.md").read_text().count("\n") == 4


def test_protocol_without_videos_says_so(tmp_path):
    done = script("stdd_vitb16_zeroshot/test.sh", OUTPUT_DIR=str(tmp_path))
    assert done.returncode == 2 and "name a folder of videos: UCF101=" in done.stderr


def test_base_to_novel(compositions, tmp_path):
    """Training on base classes, tests of both halves, harmonic mean."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for ours, name in (("train", "train"), ("val", "val"), ("test", "test")):
        text = (compositions / "zeroshot" / f"{ours}.csv").read_text()
        (lists / f"{name}.csv").write_text(text)
    for part in ("train", "test"):
        text = (compositions / "zeroshot" / f"{part}_classes.json").read_text()
        (lists / f"raw_{part}_idx2cls.json").write_text(text)
    env = {
        "DATA_DIR": str(lists),
        "DATA_PREFIX": str(compositions / "videos"),
        "SET": "mine",
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    early = script("stdd_vitb16_b2n/test.sh", **env)
    assert early.returncode == 2 and "holds no checkpoint: train first" in early.stderr
    done = script("stdd_vitb16_b2n/run.sh", *words(TINY_CLIP), **env)
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(
        tmp_path / "out/mine/checkpoints/checkpoint_epoch_00001.pyth", weights_only=True
    )["model_state"]
    assert any(name.startswith("raw_model.") for name in state)  # distilled, as published
    ((name, base, novel, harmonic),) = table_of(
        script("stdd_vitb16_b2n/test.sh", *words(TINY_CLIP), **env)
    )
    base, novel, harmonic = float(base), float(novel), float(harmonic)
    expected = 2 * base * novel / (base + novel) if base and novel else 0
    assert name == "mine" and harmonic == pytest.approx(expected, abs=0.01)


def test_your_own_class_names(compositions, tmp_path):
    """CLIP's weights, a map of names, a list of videos: nothing else is needed."""
    _, clip = build("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": ""})
    state = {n.removeprefix("model."): v for n, v in clip.state_dict().items()}
    torch.save(state, tmp_path / "clip.pt")
    (tmp_path / "my.json").write_text('{"0": "feeding a cat", "1": "washing a dog"}')
    rows = (compositions / "zeroshot" / "test.csv").read_text().splitlines()[:6]
    (tmp_path / "test.csv").write_text(
        "".join(f"{row.rsplit(',', 1)[0]},{n % 2}\n" for n, row in enumerate(rows))
    )
    values = TINY_CLIP | {
        "TRAIN.ENABLE": False,
        "TEST.CLIP_ORI_PATH": tmp_path / "clip.pt",
        "DATA.INDEX_LABEL_MAPPING_FILE": tmp_path / "my.json",
        "OUTPUT_DIR": tmp_path / "out",
        "DATA.PATH_TO_DATA_DIR": tmp_path,
        "DATA.PATH_PREFIX": compositions / "videos",
    }
    assert main(["--cfg", str(ROOT / "exp/stdd_vitb16_zeroshot/config.yaml"), *words(values)]) == 0
    (test,) = tests_of(tmp_path / "out")
    rows = test.predictions()
    assert len(rows) == 6 and rows[0]["label_name"] == "feeding a cat"
    assert {row["prediction_name"] for row in rows} <= {"feeding a cat", "washing a dog"}
    both = [float(row["probability"]) + float(row["top2_probability"]) for row in rows]
    assert both == pytest.approx([1.0] * 6, abs=2e-5)


def test_stopped_training_ends_as_if_left_alone(compositions, tmp_path):
    """Masks, shuffles, templates and shares are drawn from the run's generator: a run that goes on
    after its first epoch ends with the same bits."""
    _, clip = build("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": ""})
    torch.save(
        {n.removeprefix("model."): v for n, v in clip.state_dict().items()}, tmp_path / "clip.pt"
    )
    values = TINY_CLIP | {
        "SOLVER.MAX_EPOCH": 2,
        "TRAIN.CLIP_ORI_PATH": tmp_path / "clip.pt",
        "MODEL.KEEP_RAW_MODEL": True,
        "MODEL.RAW_MODEL_DISTILLATION": True,
        "TRAIN.LINEAR_CONNECT_CLIMB": True,
        "MODEL.SPATIAL_REPEAT": False,
        "CLIP.TRAINED": ["visual", "text", "text_projection", "logit_scale"],
        "CLIP.TEMPLATES": ["a {}", "the {}", "moving {}"],
        "TEST.ENABLE": False,
        "DATA.PATH_TO_DATA_DIR": compositions / "zeroshot",
        "TRAIN.CHECKPOINT_PERIOD": 1,
        "DATA.PATH_PREFIX": compositions / "videos",
        "TRAIN.EVAL_PERIOD": 1,
        "DATA.INDEX_LABEL_MAPPING_FILE": compositions / "zeroshot" / "train_classes.json",
    }
    cfg = ["--cfg", str(ROOT / "configs/quickstart/zeroshot_vit.yaml")]
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert main([*cfg, *words(values | {"OUTPUT_DIR": whole})]) == 0
    first = "checkpoints/checkpoint_epoch_00001.pyth"
    (again / "checkpoints").mkdir(parents=True)
    shutil.copy(whole / first, again / first)
    assert main([*cfg, *words(values | {"OUTPUT_DIR": again})]) == 0
    states = [
        torch.load(folder / "checkpoints/checkpoint_epoch_00002.pyth", weights_only=True)
        for folder in (whole, again)
    ]
    assert all(
        torch.equal(v, states[1]["model_state"][n]) for n, v in states[0]["model_state"].items()
    )
    before = torch.load(whole / first, weights_only=True)["model_state"]
    mean = tmp_path / "mean.pyth"
    run_tool(
        "average_weights.py",
        whole,
        mean,
        "--start",
        0,
        "--end",
        2,
        "--original",
        tmp_path / "clip.pt",
    )
    averaged = torch.load(mean, weights_only=True)["model_state"]
    original = clip.state_dict()["model.visual.proj"]
    three = (original, before["model.visual.proj"], states[0]["model_state"]["model.visual.proj"])
    assert torch.allclose(averaged["model.visual.proj"], sum(three) / 3, atol=1e-6)
    assert torch.allclose(averaged["raw_model.visual.proj"], original)
    assert averaged.keys() == before.keys()
    assert not torch.equal(
        before["model.visual.proj"], states[0]["model_state"]["model.visual.proj"]
    )


def test_lists_of_the_published_protocols():
    """Counts of the published lists, labels within their maps."""
    folder = ROOT / "slowfast" / "datasets" / "zero_shot"
    counts = {
        "ucf101_split1": 3783,
        "ucf101_split2": 3734,
        "ucf101_split3": 3696,
        "hmdb_split1": 1530,
        "k600_split1": 7276,
        "k600_split2": 7226,
        "k600_split3": 7261,
    }
    for name, count in counts.items():
        rows = (folder / name / "test.csv").read_text().splitlines()
        assert len(rows) == count
        labels = {int(row.rsplit(",", 1)[1]) for row in rows}
        classes = {"u": 101, "h": 51, "k": 160}[name[0]]
        assert labels == set(range(classes))
        if name[0] == "k":
            names = json.loads((folder / name / "k600-openset-index2cls.json").read_text())
            assert len(names) == 160
    for name in ("ucf101", "hmdb", "ssv2", "k400_s1"):
        for part, lists in (("train", ("train", "val")), ("test", ("test",))):
            names = json.loads((folder / f"B2N_{name}" / f"raw_{part}_idx2cls.json").read_text())
            for file in lists:
                rows = (folder / f"B2N_{name}" / f"{file}.csv").read_text().splitlines()
                assert {int(row.rsplit(",", 1)[1]) for row in rows} <= set(range(len(names)))


def test_table_of_unknown_runs(tmp_path):
    done = run_tool("protocol_table.py", f"UCF101={tmp_path}")
    assert done.returncode == 1 and "holds no result of a test" in done.stderr
    done = run_tool("protocol_table.py", "UCF101")
    assert done.returncode == 2 and "'UCF101' is not NAME=DIR" in done.stderr


def test_training_with_two_processes(compositions, tmp_path):
    """Distillation, linear connection and the frozen copy over two processes: one set of weights
    that one process tests."""
    _, clip = build("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": ""})
    torch.save(
        {n.removeprefix("model."): v for n, v in clip.state_dict().items()}, tmp_path / "clip.pt"
    )
    values = TINY_CLIP | {
        "TRAIN.CLIP_ORI_PATH": tmp_path / "clip.pt",
        "TRAIN.LINEAR_CONNECT_CLIMB": True,
        "MODEL.KEEP_RAW_MODEL": True,
        "MODEL.RAW_MODEL_DISTILLATION": True,
        "DATA.PATH_TO_DATA_DIR": compositions / "zeroshot",
        "OUTPUT_DIR": tmp_path / "out",
        "DATA.PATH_PREFIX": compositions / "videos",
        "TEST.ENABLE": False,
        "DATA.INDEX_LABEL_MAPPING_FILE": compositions / "zeroshot" / "train_classes.json",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "tools/run_net.py",
            "--cfg",
            "configs/quickstart/zeroshot_vit.yaml",
            *words(values),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(r) for r in (tmp_path / "out/stats.jsonl").read_text().splitlines()]
    (epoch,) = [row for row in rows if row["_type"] == "train_epoch"]
    assert {"loss_distillation", "loss_connection"} <= epoch.keys()
