"""The scripts under exp/ and the main command, as people run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, TINY, run_tool, words


def script(name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(ROOT / "exp" / name), *arguments],
        env=os.environ | {"PYTHON": sys.executable} | env,
        capture_output=True,
        text=True,
        cwd="/",
    )


TINY_EXPERIMENT = {
    k: v for k, v in TINY.items() if not k.startswith(("DATA.SAMPLING", "MODEL"))
} | {
    "MODEL.NUM_CLASSES": 4,
    "UNIFORMER.PRETRAIN_NAME": "''",
    "STFM.NUM_TOKENS": 2,
    "STFM.DENSE": False,
    "TRAIN.DATASET": "moving_shapes",
    "TEST.DATASET": "moving_shapes",
    "DATA.PATH_PREFIX": "''",
    "TRAIN.BATCH_SIZE": 8,
    "SOLVER.MAX_EPOCH": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "TENSORBOARD.ENABLE": False,
    "TEST.NUM_ENSEMBLE_VIEWS": 1,
}


def test_published_recipe_trains_and_tests(shapes, tmp_path):
    """The published recipe itself, two iterations of a tiny network on real video."""
    name = "uniformer_b16_sthv2_prek400"
    env = {"DATA_DIR": str(shapes), "OUTPUT_DIR": str(tmp_path / "out")}
    done = script(f"{name}/run.sh", *words(TINY_EXPERIMENT), "TEST.ENABLE", "False", **env)
    assert done.returncode == 0, done.stderr[-2000:]
    log = (tmp_path / "out" / "stdout.log").read_text()
    assert '"_type": "train_epoch"' in log
    env = {"DATA_DIR": str(shapes), "OUTPUT_DIR": str(tmp_path / "test")}
    env["CHECKPOINT"] = str(tmp_path / "out" / "checkpoints" / "checkpoint_epoch_00001.pyth")
    done = script(f"{name}/test.sh", *words(TINY_EXPERIMENT), **env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"split": "test_final"' in done.stdout.splitlines()[-1]


def test_words_after_the_script_win(tmp_path):
    done = script(
        "uniformer_s8x8_k400/test.sh",
        "--print-config",
        "NUM_GPUS",
        "0",
        "OUTPUT_DIR",
        str(tmp_path),
        DATA_DIR="/lists",
        DATA_PREFIX="/videos",
    )
    assert done.returncode == 0, done.stderr
    shown = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert shown["OUTPUT_DIR"] == f"'{tmp_path}'" and shown["NUM_GPUS"] == "0"
    assert shown["DATA.PATH_TO_DATA_DIR"] == "'/lists'" and shown["TRAIN.ENABLE"] == "False"
    assert shown["DATA.PATH_PREFIX"] == "'/videos'" and shown["STFM.NUM_TOKENS"] == "16"


@pytest.fixture
def installed(tmp_path) -> dict[str, str]:
    """Variables of an active environment in which everything is installed, and of small data."""
    active = tmp_path / "env" / "bin"
    active.mkdir(parents=True)
    (active / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (active / "python").chmod(0o755)
    sums = subprocess.run(
        "cat pyproject.toml constraints.txt | cksum", shell=True, cwd=ROOT, capture_output=True
    ).stdout.decode()
    for extra in ("", "-plot"):
        (tmp_path / "env" / f".slowfast-installed{extra}").write_text(f"{ROOT} {sums.strip()}\n")
    return {
        "VIRTUAL_ENV": str(tmp_path / "env"),
        "DATA_DIR": str(tmp_path / "data"),
        "OUTPUT_DIR": str(tmp_path / "out"),
        "SHAPES": "--train 2 --val 1 --test 1",
        "CLIPS": "--train 3 --test 3",
        "SEEDS": "0",
    }


COMPARISONS = [
    ("compare_heads", {"HEADS": "TSN MLP"}, ["TRAIN.BATCH_SIZE", "8"], ["TSN", "MLP"]),
    (
        "compare_families",
        {"NETWORKS": "stam timesformer"},
        ["TRAIN.BATCH_SIZE", "8", "TIMESFORMER.DEPTH", "1", "STAM.DEPTH", "1"],
        ["stam", "timesformer"],
    ),
    (
        "compare_convolutions",
        {"NETWORKS": "c2d x3d"},
        ["TRAIN.BATCH_SIZE", "8", "TEST.BATCH_SIZE", "8"],
        ["c2d", "x3d"],
    ),
    (
        "quickstart_fewshot",
        {"METHODS": "fewshot fewshot_otam"},
        ["FEWSHOT.TRAIN_EPISODES", "2", "FEWSHOT.VAL_EPISODES", "2", "FEWSHOT.TEST_EPISODES", "5"],
        ["fewshot", "fewshot_otam"],
    ),
]


@pytest.mark.parametrize("name, chosen, quick, rows", COMPARISONS, ids=lambda v: str(v)[:18])
def test_comparisons_end_with_a_table(name, chosen, quick, rows, installed, tmp_path):
    """The scripts themselves, from data to plot, with one epoch of little data."""
    words = ["SOLVER.MAX_EPOCH", "1", *quick]
    done = script(f"{name}/run.sh", *words, **installed, **chosen)
    assert done.returncode == 0, done.stderr[-2000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [line.split("|")[1].strip() for line in table] == rows
    assert (tmp_path / "out" / "table.md").read_text().strip().endswith(table[-1])
    assert (tmp_path / "out" / "plot.png").stat().st_size > 1000


def real_clips(folder, shapes) -> str:
    """Lists and clips in the form of MIRACL-VC1, of a moving_shapes set."""
    folder.mkdir()
    shutil.copytree(shapes / "videos", folder / "videos")
    for split in ("train", "test"):
        (folder / f"phrases_{split}.csv").write_text((shapes / f"{split}.csv").read_text())
    names = [f"phrase {number}" for number in range(10)]
    (folder / "phrases_classes.txt").write_text("\n".join(names))
    return str(folder)


REAL_EVIDENCE = [("evidence_stfm", "UniFormer", "real/"), ("evidence_families", "SlowFast", "")]


@pytest.mark.parametrize("name, row, place", REAL_EVIDENCE)
def test_evidence_of_one_row(name, row, place, installed, shapes, tmp_path):
    """The scripts, with little data: one row, then what there is gathered into tables and plots."""
    env = installed | {"MIRACL": real_clips(tmp_path / "clips", shapes)}
    env |= {"FRAMES": str(tmp_path / "frames"), "THREADS": "1"}
    words = ["SOLVER.MAX_EPOCH", "1", "TRAIN.BATCH_SIZE", "4"]
    for extra in ({"ROWS": row}, {"GATHER": "1"}):
        done = script(f"{name}/run.sh", *words, **env, **extra)
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"| {row} |" in done.stdout
    out = tmp_path / "out" / place
    for file in ("runs.csv", "means.csv", "table.md", "gflops.png", "confusion.png"):
        assert (out / file).stat().st_size > 50
    without = script("evidence_families/run.sh", **installed)
    assert without.returncode == 2 and "set MIRACL to the folder" in without.stderr


EVIDENCE = [
    ("evidence_starts", ["STAM"], ["STAM.DEPTH", "1"]),
    (
        "evidence_fewshot",
        ["otam", "otam, 5 shots"],
        ["FEWSHOT.TRAIN_EPISODES", "2", "FEWSHOT.VAL_EPISODES", "2", "FEWSHOT.TEST_EPISODES", "5"],
    ),
    ("evidence_zeroshot", ["resnet3d seen", "vit seen"], ["CLIP.LAYERS", "1"]),
]


@pytest.mark.parametrize("name, rows, quick", EVIDENCE, ids=[name for name, *_ in EVIDENCE])
def test_evidence_makes_some_of_its_rows(name, rows, quick, installed):
    """Rows that start from the weights of an earlier run as well."""
    words = ["SOLVER.MAX_EPOCH", "1", "LOG_MODEL_INFO", "False", *quick]
    env = installed | {"ROWS": "\n".join(rows), "CLIPS": "--train 3 --test 6"}
    done = script(f"{name}/run.sh", *words, **env)
    assert done.returncode == 0, done.stderr[-2000:]
    table = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line[:1] == "|"]
    assert table[-len(rows) :] == rows


def test_quickstart_runs_in_an_active_environment(installed):
    """The whole script but for the installation: small set, one epoch, twice."""
    quick = ["SOLVER.MAX_EPOCH", "1", "LOG_MODEL_INFO", "False"]
    first = script("quickstart/run.sh", *quick, **installed)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "installing" not in first.stdout and ": made" in first.stdout
    last = [line for line in first.stdout.splitlines() if line.startswith("json_stats")][-1]
    final = json.loads(last.removeprefix("json_stats: "))
    assert final["split"] == final["_type"] == "test_final" and "top1_acc" in final
    second = script("quickstart/run.sh", *quick, **installed)
    assert "already complete" in second.stdout and '"test_final"' in second.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--cfg", "no.yaml"], "--cfg: there is no configuration file no.yaml"),
        (
            ["--cfg", "configs/quickstart/stfm.yaml", "DATA.NUM_FRAMS", "8"],
            "did you mean DATA.NUM_FRAMES",
        ),
        (
            ["--cfg", "configs/quickstart/stfm.yaml", "TRAIN.BATCH_SIZE", "x"],
            "must be a whole number",
        ),
        (
            ["--cfg", "configs/quickstart/stfm.yaml", "DATA.NUM_FRAMES", "7"],
            "an even number of frames",
        ),
        (
            ["--cfg", "configs/quickstart/stfm.yaml", "DATA.PATH_TO_DATA_DIR", "/no"],
            "holds no moving_shapes set",
        ),
        (
            [
                "--cfg",
                "configs/quickstart/stfm.yaml",
                "TRAIN.DATASET",
                "kinetics",
                "DATA.PATH_TO_DATA_DIR",
                "/no",
            ],
            "DATA.PATH_TO_DATA_DIR: there is no file /no/train.csv",
        ),
    ],
)
def test_mistakes_give_one_message_and_exit_2(arguments, message, tmp_path):
    out = ["OUTPUT_DIR", str(tmp_path)] if len(arguments) > 2 else []
    done = run_tool("run_net.py", *arguments, *out)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")


def test_two_processes_are_one_with_the_same_batch(shapes, tmp_path):
    """torchrun on the CPU: the weights of one process, every test video counted once."""
    import torch

    values = TINY | {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "SOLVER.OPTIMIZING_METHOD": "sgd",
        "UNIFORMER.DROP_DEPTH_RATE": 0,
        "SOLVER.MAX_EPOCH": 1,
        "MODEL.FROZEN_BN": True,
        "TEST.BATCH_SIZE": 18,
        "TRAIN.BATCH_SIZE": 8,
    }
    states = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc_per_node={processes}",
                "tools/run_net.py",
                "--cfg",
                "configs/quickstart/uniformer.yaml",
                *words(values | {"OUTPUT_DIR": str(out)}),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        final = json.loads((out / "stats.jsonl").read_text().splitlines()[-1])
        assert final["videos"] == 8
        path = out / "checkpoints" / "checkpoint_epoch_00001.pyth"
        states.append(torch.load(path, weights_only=True)["model_state"])
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-4), name


def test_debug_shows_the_traceback():
    done = run_tool("run_net.py", "--cfg", "no.yaml", "--debug")
    assert done.returncode != 0 and "Traceback" in done.stderr


def test_old_path_lines_do_no_harm(tmp_path):
    """Old scripts put ./slowfast itself on the path; neither that nor another folder harms."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}/slowfast"}
    done = run_tool("run_net.py", "--explain", "STFM.ENABLE", cwd=tmp_path, env=env)
    assert done.returncode == 0 and "Put the module into the network" in done.stdout


def test_benchmarks_print_json(tmp_path):
    quick = ["NUM_GPUS", "0", "STFM.NUM_TOKENS", "2"]
    for what in ("model", "train"):
        done = run_tool(
            "benchmark.py",
            what,
            "--cfg",
            "configs/quickstart/stfm.yaml",
            "--rounds",
            "1",
            "--batch",
            "2",
            *quick,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["model"] == "Uniformer" and result["clips_per_s"] > 0


def test_convolutions_beside_plain_ones():
    """The reference computes in float32, whatever ours does."""
    config = ["--cfg", "configs/quickstart/x3d.yaml", "--rounds", "1", "--clock", "cpu"]
    words = ["NUM_GPUS", "0", "TRAIN.MIXED_PRECISION", "True", "DATA.NUM_FRAMES", "4"]
    done = run_tool("benchmark.py", "model", "--plain", "convolutions", *config, *words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["plain"] == "convolutions" and result["dtype"] == "bfloat16"
    assert result["forward_ratio"] > 0 and result["forward_backward_ratio"] > 0


def test_clip_benchmark():
    """Every kind of temporal modelling beside plain CLIP, and found texts."""
    done = run_tool(
        "benchmark.py",
        "clip",
        "--cfg",
        "configs/quickstart/zeroshot_vit.yaml",
        "--rounds",
        "1",
        "DATA.CLASS_NAMES",
        "['a']",
        "CLIP.LAYERS",
        "1",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["None"]["forward_ratio"] == result["None"]["saved_ratio"] == 1.0
    # 16 patches: 17 tokens, and for each of two temporal scales half of them with the class token.
    assert result["stcross_attend"]["tokens"] == {"queries": 35, "keys": 35}
    assert result["expand_temporal_view"]["tokens"] == {"queries": 17, "keys": 51}
    assert result["stcross_attend"]["saved_mib"] > result["None"]["saved_mib"] > 0
    assert result["texts"]["count"] == 28 * 20


def test_predict_benchmark(video, tmp_path):
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text("TRAIN: {DATASET: moving_shapes}\nTEST: {DATASET: moving_shapes}\n")
    few = ["--rounds", "1", "--batch", "2", "--video", str(video)]
    done = run_tool("benchmark.py", "predict", "--cfg", cfg, *few, "--", *words(TINY))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["views"] == 6 and figures["windows"] == 1
    assert all(value > 0 for value in figures.values())


def test_data_benchmark(video):
    done = run_tool("benchmark.py", "data", "--rounds", "3", "--video", str(video))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)[str(video)]
    assert result["frames"] == 50
    for part in ("train", "train_randaugment_x2", "test_4x3"):
        assert result[part]["ratio"] > 0


def test_model_table():
    done = run_tool("model_table.py", "configs/quickstart/uniformer.yaml", "DATA.NUM_FRAMES", "4")
    row = done.stdout.splitlines()[-1]
    assert row.startswith("| configs/quickstart/uniformer.yaml | 4 x 64² | 0.75 |")


def test_embed_and_search_benchmarks(video, tmp_path):
    pytest.importorskip("pyarrow")
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text("TRAIN: {DATASET: moving_shapes}\nTEST: {DATASET: moving_shapes}\n")
    few = ["--rounds", "1", "--batch", "2", "--video", str(video)]
    done = run_tool("benchmark.py", "embed", "--cfg", cfg, *few, "--", *words(TINY))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["windows"] == 2 and figures["dimension"] == 32
    assert all(value > 0 for value in figures.values())
    sizes = ["--vectors", "3000", "--dimension", "24", "--rounds", "1"]
    done = run_tool("benchmark.py", "search", *sizes)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["vectors"] == 3000 and figures["engines_agree"] is True
