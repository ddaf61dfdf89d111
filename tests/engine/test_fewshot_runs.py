"""Few-shot runs on real video: train, resume, several processes, test, cache, comparison."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.datasets.episodes import FewShotClips
from slowfast.engine.feature_cache import open_cache
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.engine.tasks import build_task
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import run_tool, words
from tests.engine.processes import Run, assert_same_state, stats

FEWSHOT = {
    "NUM_GPUS": 0,
    "TASK": "fewshot",
    "LOG_PERIOD": 1,
    "LOG_MODEL_INFO": False,
    "MODEL.MODEL_NAME": "ResNet3D",
    "RESNET3D.DEPTH": 10,
    "RESNET3D.WIDEN_FACTOR": 0.125,
    "RESNET3D.CONV1_T_SIZE": 3,
    "DATA.NUM_FRAMES": 4,
    "DATA.TRAIN_JITTER_SCALES": [32, 36],
    "DATA.TRAIN_CROP_SIZE": 32,
    "DATA.TEST_CROP_SIZE": 32,
    "DATA.RANDOM_FLIP": False,
    "DATA_LOADER.NUM_WORKERS": 0,
    "TENSORBOARD.ENABLE": False,
    "RNG_SEED": 3,
    "FEWSHOT.WAY": 3,
    "FEWSHOT.QUERY_CLASSES": "all",
    "FEWSHOT.TRAIN_EPISODES": 6,
    "FEWSHOT.VAL_EPISODES": 5,
    "FEWSHOT.TEST_EPISODES": 24,
    "SOLVER.ACCUM_STEPS": 2,
    "SOLVER.MAX_EPOCH": 2,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.WARMUP_EPOCHS": 0,
    "TRAIN.EVAL_PERIOD": 1,
    "TRAIN.CHECKPOINT_PERIOD": 1,
    "EMA.ENABLE": True,
}


def values_of(compositions, out, **extra):
    data = {"DATA.PATH_TO_DATA_DIR": compositions, "DATA.PATH_PREFIX": compositions / "videos"}
    return FEWSHOT | data | {"OUTPUT_DIR": out} | extra


def run(compositions, out, **extra) -> Path:
    launch(load_config(overrides=words(values_of(compositions, out, **extra))), run_job)
    return Path(out)


def accuracies(out: Path) -> dict[int, float]:
    with open(out / "tasks.csv", newline="") as file:
        return {int(row["task"]): float(row["accuracy"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def finished(compositions, tmp_path_factory) -> Path:
    """A finished run: two epochs of three steps of two tasks, and a test of 24."""
    return run(compositions, tmp_path_factory.mktemp("run") / "out")


def test_what_a_run_leaves(finished):
    lines = stats(finished)
    kinds = [line["_type"] for line in lines]
    assert kinds.count("train_iter") == 6 and kinds.count("val_epoch") == 2
    assert kinds[-1] == "test_final"
    step = lines[0]
    assert step["loss"] == pytest.approx(step["loss_global"] + step["loss_episode"], abs=1e-4)
    last = lines[-1]
    assert last["protocol"] == "3-way 1-shot, 1 queries of every class" and last["tasks"] == 24
    found = accuracies(finished)
    assert sorted(found) == list(range(24))
    mean, spread = statistics.mean(found.values()), statistics.pstdev(found.values())
    assert float(last["top1_acc"]) == pytest.approx(mean, abs=0.01)
    assert float(last["interval"]) == pytest.approx(1.96 * spread / 24**0.5, abs=0.01)
    with open(finished / "classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["queries"]) for row in rows) == 72 and len(rows) == 8
    weighed = sum(int(r["queries"]) * float(r["accuracy"]) for r in rows) / 72
    assert weighed == pytest.approx(mean, abs=0.01)
    names = sorted(p.name for p in (finished / "checkpoints").iterdir())
    assert names[0] == "checkpoint_best.pyth"
    content = read_checkpoint(finished / "checkpoints" / names[-1])
    assert names[-1] == "fewshot_checkpoint_epoch_00002.pyth"
    assert len(content["class_names"]) == 22


def test_a_killed_run_ends_the_same(compositions, finished, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")
    extra = {"TRAIN.CHECKPOINT_STEPS": 1, "TEST.ENABLE": False, "SOLVER.MAX_EPOCH": 2}
    whole = run(compositions, tmp_path / "whole", **extra)
    values = values_of(compositions, tmp_path / "stopped", **extra)
    first = Run(config, values)
    out = tmp_path / "stopped"
    assert first.wait_for(lambda: sum(s["_type"] == "train_iter" for s in stats(out)) >= 4)
    first.process.kill()
    first.process.join()
    again = Run(config, values)
    assert again.wait() == 0, again.console[-2000:]
    assert "resuming from" in again.console
    paths = [o / "checkpoints" / "fewshot_checkpoint_epoch_00002.pyth" for o in (whole, out)]
    assert_same_state(*map(read_checkpoint, paths))


def test_two_processes_do_the_tasks_of_one(compositions, finished, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = str(listener.getsockname()[1])
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    # Batch normalisation sees single tasks: the two differ in the order of statistics only.
    extra = {"MODEL.FROZEN_BN": True, "SOLVER.OPTIMIZING_METHOD": "sgd", "EMA.ENABLE": False}
    values = values_of(compositions, tmp_path / "two", **extra, **{"SOLVER.ACCUM_STEPS": 1})
    runs = [
        Run(config, values, env=common | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)
    ]
    one = run(compositions, tmp_path / "one", **extra)
    for process in runs:
        assert process.wait(120) == 0, process.console[-3000:]
    two = tmp_path / "two"
    assert accuracies(one).keys() == accuracies(two).keys()
    states = [
        read_checkpoint(o / "checkpoints/fewshot_checkpoint_epoch_00002.pyth")["model_state"]
        for o in (one, two)
    ]
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), atol=1e-4), name
    assert accuracies(one) == accuracies(two)


# -- the cache -------------------------------------------------------------------------------------


def evaluated(compositions, finished, tmp_path, **extra):
    checkpoint = finished / "checkpoints" / "fewshot_checkpoint_epoch_00002.pyth"
    given = {"TRAIN.ENABLE": False, "TEST.CHECKPOINT_FILE_PATH": checkpoint} | extra
    return run(compositions, tmp_path, **given)


@pytest.mark.parametrize("method", [{}, {"FEWSHOT.QUERY_CLASSES": "one", "FEWSHOT.SHOT": 2}])
def test_cached_and_decoded_give_the_same(compositions, finished, tmp_path, method):
    plain = evaluated(compositions, finished, tmp_path / "plain", **method)
    cached = evaluated(
        compositions, finished, tmp_path / "cached", **method, **{"FEWSHOT.CACHE": tmp_path / "c"}
    )
    assert accuracies(plain) == accuracies(cached) and len(accuracies(plain)) == 24
    (place,) = (tmp_path / "c").iterdir()
    before = (place / "features.npy").stat().st_mtime_ns
    evaluated(
        compositions, finished, tmp_path / "twice", **method, **{"FEWSHOT.CACHE": tmp_path / "c"}
    )
    assert (place / "features.npy").stat().st_mtime_ns == before


def test_the_cache_follows_weights_and_frames(compositions, finished, tmp_path):
    cache = {"FEWSHOT.CACHE": tmp_path / "c"}
    for number, extra in enumerate(
        (
            {},
            {"DATA.NUM_FRAMES": 3},
            {"DATA.MEAN": [0.1, 0.1, 0.1]},
            {
                "TEST.CHECKPOINT_FILE_PATH": finished
                / "checkpoints/fewshot_checkpoint_epoch_00001.pyth"
            },
        )
    ):
        evaluated(compositions, finished, tmp_path / str(number), **cache, **extra)
        assert len(list((tmp_path / "c").iterdir())) == number + 1


def test_an_unreadable_cache_is_named(compositions, finished, tmp_path):
    cache = {"FEWSHOT.CACHE": tmp_path / "c"}
    evaluated(compositions, finished, tmp_path / "a", **cache)
    (place,) = (tmp_path / "c").iterdir()
    (place / "features.npy").write_bytes(b"half")
    with pytest.raises(UserError, match="remove it, it is built again"):
        evaluated(compositions, finished, tmp_path / "b", **cache)


def test_two_may_build_it_at_once(compositions, tmp_path):
    cfg = load_config(
        overrides=words(values_of(compositions, tmp_path, **{"FEWSHOT.CACHE": tmp_path / "c"}))
    )
    task = build_task(cfg, Runtime(torch.device("cpu")))
    network, clips = task.build_model().eval(), FewShotClips(cfg, "test")

    def build(_: int) -> np.ndarray:
        with torch.inference_mode():
            return open_cache(
                cfg, network, clips, lambda v: network.embed(task.embed_input(v))
            ).features

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(build, range(3)))
    assert all(np.array_equal(made[0], other) for other in made) and made[0].any()
    assert len(list((tmp_path / "c").iterdir())) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_bad_clips_with_and_without_a_cache(compositions, finished, tmp_path, count):
    """Of a class's three clips one cannot be read, or two: too many for tasks with queries."""
    folder = tmp_path / "set"
    shutil.copytree(compositions, folder)
    name = (folder / "test.txt").read_text().split("/")[0]
    for number in range(count):
        broken = folder / "videos" / name / f"{number:04d}.mp4"
        broken.write_bytes(b"")
    extra = {"DATA.MAX_ERROR_SHARE": 0.5}
    plain = evaluated(folder, finished, tmp_path / "a", **extra)
    cached = evaluated(
        folder, finished, tmp_path / "b", **extra, **{"FEWSHOT.CACHE": tmp_path / "c"}
    )
    assert accuracies(plain) == accuracies(cached)
    assert (len(accuracies(plain)) == 24) == (count == 1)
    counts = [stats(out)[-1]["bad_items"] for out in (plain, cached)]
    assert counts[0] == counts[1] > 0
    assert str(broken.parent) in (plain / "bad_items.tsv").read_text()
    assert "the file is empty" in (cached / "bad_items.tsv").read_text()


# -- results ---------------------------------------------------------------------------------------


def test_compare_runs(compositions, finished, tmp_path):
    first = finished / "checkpoints" / "fewshot_checkpoint_epoch_00001.pyth"
    other = evaluated(
        compositions, finished, tmp_path / "b", **{"TEST.CHECKPOINT_FILE_PATH": first}
    )
    done = run_tool("compare_runs.py", finished, other)
    assert done.returncode == 0, done.stderr
    a, b = accuracies(finished), accuracies(other)
    difference = statistics.mean(b[n] - a[n] for n in a)
    assert f"difference over 24 tasks: {difference:.2f} ±" in done.stdout
    shorter = evaluated(compositions, finished, tmp_path / "c", **{"RNG_SEED": 4})
    wrong = run_tool("compare_runs.py", finished, shorter)
    assert wrong.returncode == 2 and "RNG_SEED: is 3 in" in wrong.stderr


def test_tasks_are_listed_on_request(compositions, finished, tmp_path):
    out = evaluated(compositions, finished, tmp_path, **{"FEWSHOT.EPISODES_FILE": "tasks.jsonl"})
    lines = [json.loads(line) for line in (out / "tasks.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and all(len(set(line["classes"])) == 3 for line in lines)


def test_selection_on_the_test_list_is_said(compositions, tmp_path):
    out = run(compositions, tmp_path, **{"FEWSHOT.SELECT_ON": "test", "FEWSHOT.TEST_JITTER": True})
    protocol = stats(out)[-1]["protocol"]
    assert protocol.endswith("frames drawn at random, selected on test")


def test_weights_that_know_the_test_classes(compositions, finished, tmp_path, caplog):
    content = read_checkpoint(finished / "checkpoints" / "checkpoint_best.pyth")
    names = (compositions / "test.txt").read_text().splitlines()
    content["class_names"] = [names[0].split("/")[0], "else"]
    torch.save(content, tmp_path / "w.pyth")
    evaluated(
        compositions,
        finished,
        tmp_path / "out",
        **{"TEST.CHECKPOINT_FILE_PATH": tmp_path / "w.pyth"},
    )
    log = (tmp_path / "out" / "stdout.log").read_text()
    assert "trained on 1 of the test classes" in log


def test_shared_classes_stop_a_run(compositions, tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.txt").write_text((compositions / f"{split}.txt").read_text())
    with open(tmp_path / "val.txt", "a") as file:
        file.write((compositions / "test.txt").read_text())
    with pytest.raises(UserError, match="8 classes are in val and test"):
        run(compositions, tmp_path / "out", **{"DATA.PATH_TO_DATA_DIR": tmp_path})


def test_the_tools_know_tasks(compositions, tmp_path):
    """show_data draws a task, check_data looks into its lists, --dry-run tries it."""
    config = tmp_path / "run.yaml"
    config.write_text("TASK: fewshot\n")
    given = ["--cfg", config, *words(values_of(compositions, tmp_path / "out"))]
    for split in ("train", "test"):
        sheet = tmp_path / f"{split}.png"
        drawn = run_tool("show_data.py", "--split", split, "--videos", "6", "--out", sheet, *given)
        assert drawn.returncode == 0 and sheet.stat().st_size > 1000, drawn.stderr
    checked = run_tool("check_data.py", "--out", tmp_path / "c", "--workers", "1", *given)
    assert checked.returncode == 0 and "test: 24 videos, 0 bad" in checked.stdout, checked.stderr
    tried = run_tool("run_net.py", *given[:2], "--dry-run", *given[2:], "FEWSHOT.CACHE", tmp_path)
    assert tried.returncode == 0 and "first batch of embeddings" in tried.stdout, tried.stderr
