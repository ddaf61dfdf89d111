"""Few-shot runs on real video: train, resume, several processes, test, cache."""

from __future__ import annotations

import json
import shutil
import socket
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.analysis.compare import compare_runs, read_accuracies
from slowfast.analysis.contact_sheet import contact_sheet
from slowfast.analysis.results import tests_of
from slowfast.config.load import load_config
from slowfast.datasets.probe import check_lists
from slowfast.engine.launch import launch
from slowfast.engine.resume import changed_keys
from slowfast.engine.run import run_job
from slowfast.engine.tasks import build_task, read_configured_lists
from slowfast.engine.tasks.fewshot import FewShotTask
from slowfast.models.fewshot_heads import FEWSHOT_REGISTRY, EpisodeOutput, FewShotHead
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.map import Where
from slowfast.utils.runtime import Runtime
from tests.conftest import run_tool, words
from tests.engine.processes import Run, assert_same_state, stats
from tests.fewshot import TINY_FEWSHOT

FEWSHOT = TINY_FEWSHOT | {
    "LOG_PERIOD": 1,
    "LOG_MODEL_INFO": False,
    "DATA_LOADER.NUM_WORKERS": 0,
    "TENSORBOARD.ENABLE": False,
    "RNG_SEED": 3,
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


def configure(compositions, out, **extra):
    return load_config(overrides=words(values_of(compositions, out, **extra)))


def run(compositions, out, **extra) -> Path:
    launch(configure(compositions, out, **extra), run_job)
    return Path(out)


@pytest.fixture(scope="module")
def finished(compositions, tmp_path_factory) -> Path:
    """A finished run: two epochs of three steps of two episodes, and a test of 24."""
    return run(compositions, tmp_path_factory.mktemp("run") / "out")


def test_what_a_run_leaves(finished, compositions):
    lines = stats(finished)
    kinds = [line["_type"] for line in lines]
    assert kinds.count("train_iter") == 6 and kinds.count("val_epoch") == 2
    assert kinds[-1] == "test_final"
    step = lines[0]
    assert step["loss"] == pytest.approx(step["loss_global"] + step["loss_episode"], abs=1e-4)
    last = lines[-1]
    assert last["protocol"] == "3-way 1-shot, 1 queries of every class"
    assert last["episodes"] == 24
    accuracies = read_accuracies(finished)
    assert sorted(accuracies) == list(range(24))
    (test,) = tests_of(finished)
    assert test.name == f"{compositions.name}-test-3w1s" and test.is_fewshot
    assert (test.path / "episodes.csv").read_text().startswith("episode,accuracy\n")
    mean, spread = statistics.mean(accuracies.values()), statistics.pstdev(accuracies.values())
    assert float(last["top1_acc"]) == pytest.approx(mean, abs=0.01)
    assert float(last["interval"]) == pytest.approx(1.96 * spread / 24**0.5, abs=0.01)
    rows = test.class_rows()
    assert test.class_means()["queries"] == "72" and [row["name"] for row in rows] == test.classes
    assert test.figures["top1_acc"] == pytest.approx(mean) and test.figures["episodes"] == 24
    assert test.facts["task"] == "fewshot" and len(test.facts["checkpoint"]["classes"]) == 22
    assert test.config()["FEWSHOT.WAY"] == 3
    assert sum(int(row["queries"]) for row in rows) == 72 and len(rows) == 8
    weighted = sum(int(r["queries"]) * float(r["accuracy"]) for r in rows) / 72
    assert weighted == pytest.approx(mean, abs=0.01)
    names = sorted(p.name for p in (finished / "checkpoints").iterdir())
    assert names[0] == "checkpoint_best.pyth"
    content = read_checkpoint(finished / "checkpoints" / names[-1])
    assert names[-1] == "fewshot_checkpoint_epoch_00002.pyth"
    assert len(content["class_names"]) == 22


def test_old_names_of_keys_count_when_a_run_resumes(compositions, finished, tmp_path):
    """A checkpoint of an older version has FEWSHOT.TRAIN_TASKS."""
    cfg = configure(compositions, finished)
    saved = read_checkpoint(finished / "checkpoints" / "fewshot_checkpoint_epoch_00002.pyth")["cfg"]
    assert "  TRAIN_EPISODES: 6\n" in saved
    old = saved.replace("_EPISODES:", "_TASKS:")
    assert changed_keys(cfg, old) == changed_keys(cfg, saved) == {}
    longer = configure(compositions, finished, **{"FEWSHOT.TRAIN_EPISODES": 7})
    assert changed_keys(longer, old) == {"FEWSHOT.TRAIN_EPISODES": (6, 7)}


def test_a_run_of_an_older_version_resumes(compositions, finished, tmp_path):
    """Its checkpoint has the old keys; the command that continues it may have them, too."""
    out = tmp_path / "out"
    folder = out / "checkpoints"
    folder.mkdir(parents=True)
    name = "fewshot_checkpoint_epoch_00001.pyth"
    content = read_checkpoint(finished / "checkpoints" / name)
    content["cfg"] = content["cfg"].replace("_EPISODES:", "_TASKS:")
    torch.save(content, folder / name)
    values = {k.replace("_EPISODES", "_TASKS"): v for k, v in FEWSHOT.items()}
    values |= {"DATA.PATH_TO_DATA_DIR": compositions, "OUTPUT_DIR": out}
    values |= {"DATA.PATH_PREFIX": compositions / "videos", "TEST.ENABLE": False}
    more = words(values | {"FEWSHOT.TRAIN_TASKS": 8})
    with pytest.raises(UserError, match="FEWSHOT.TRAIN_EPISODES: is 8, was 6"):
        launch(load_config(overrides=more), run_job)
    launch(load_config(overrides=words(values)), run_job)
    last = "fewshot_checkpoint_epoch_00002.pyth"
    assert_same_state(*(read_checkpoint(o / "checkpoints" / last) for o in (finished, out)))


def test_a_killed_run_ends_the_same(compositions, finished, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")
    extra = {"TRAIN.CHECKPOINT_STEPS": 1, "TEST.ENABLE": False}
    values = values_of(compositions, tmp_path / "stopped", **extra)
    first = Run(config, values)
    out = tmp_path / "stopped"
    assert first.wait_for(lambda: sum(s["_type"] == "train_iter" for s in stats(out)) >= 4)
    first.process.kill()
    first.process.join()
    again = Run(config, values)
    assert again.wait() == 0, again.console[-2000:]
    assert "resuming from" in again.console
    paths = [o / "checkpoints" / "fewshot_checkpoint_epoch_00002.pyth" for o in (finished, out)]
    assert_same_state(*map(read_checkpoint, paths))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_do_the_episodes_of_one(compositions, finished, tmp_path, strategy):
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
    # Batch normalisation sees single episodes: its statistics would differ in their order.
    extra = {"MODEL.FROZEN_BN": True, "SOLVER.OPTIMIZING_METHOD": "sgd", "EMA.ENABLE": False}
    of_two = {"SOLVER.ACCUM_STEPS": 1, "DIST.STRATEGY": strategy}
    values = values_of(compositions, tmp_path / "two", **extra, **of_two)
    runs = [
        Run(config, values, env=common | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)
    ]
    one = run(compositions, tmp_path / "one", **extra)
    for process in runs:
        assert process.wait(120) == 0, process.console[-3000:]
    two = tmp_path / "two"
    assert read_accuracies(one).keys() == read_accuracies(two).keys()
    states = [
        read_checkpoint(o / "checkpoints/fewshot_checkpoint_epoch_00002.pyth")["model_state"]
        for o in (one, two)
    ]
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), atol=1e-4), name
    assert read_accuracies(one) == read_accuracies(two)


# -- the cache -------------------------------------------------------------------------------------


def evaluated(compositions, finished, out, **extra):
    checkpoint = finished / "checkpoints" / "fewshot_checkpoint_epoch_00002.pyth"
    tested = {"TRAIN.ENABLE": False, "TEST.CHECKPOINT_FILE_PATH": checkpoint}
    return run(compositions, out, **(tested | extra))


@pytest.mark.parametrize("method", [{}, {"FEWSHOT.QUERY_CLASSES": "one", "FEWSHOT.SHOT": 2}])
def test_cached_and_decoded_give_the_same(compositions, finished, tmp_path, method):
    plain = evaluated(compositions, finished, tmp_path / "plain", **method)
    cached = evaluated(
        compositions, finished, tmp_path / "cached", **method, **{"FEWSHOT.CACHE": tmp_path / "c"}
    )
    assert read_accuracies(plain) == read_accuracies(cached) and len(read_accuracies(plain)) == 24
    (folder,) = (tmp_path / "c").iterdir()
    before = (folder / "features.npy").stat().st_mtime_ns
    evaluated(
        compositions, finished, tmp_path / "twice", **method, **{"FEWSHOT.CACHE": tmp_path / "c"}
    )
    assert (folder / "features.npy").stat().st_mtime_ns == before


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
    (folder,) = (tmp_path / "c").iterdir()
    (folder / "features.npy").write_bytes(b"half")
    with pytest.raises(UserError, match="remove it, it is built again"):
        evaluated(compositions, finished, tmp_path / "b", **cache)


def test_several_may_build_it_at_once(compositions, tmp_path):
    cfg = configure(compositions, tmp_path, **{"FEWSHOT.CACHE": tmp_path / "c"})
    task = build_task(cfg, Runtime(torch.device("cpu")))
    network = task.module.build_model()

    def build(_: int) -> np.ndarray:
        (test,) = task.tests(network)
        return test.loader.dataset.embeddings

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(build, range(3))
    assert first.any() and all(np.array_equal(first, other) for other in others)
    assert len(list((tmp_path / "c").iterdir())) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_bad_clips_with_and_without_a_cache(compositions, finished, tmp_path, count):
    """Of a class's three clips one cannot be read, or two: too many for an episode with queries."""
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
    assert read_accuracies(plain) == read_accuracies(cached)
    assert (len(read_accuracies(plain)) == 24) == (count == 1)
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
    a, b = read_accuracies(finished), read_accuracies(other)
    difference = statistics.mean(b[n] - a[n] for n in a)
    assert f"difference over 24 episodes: {difference:.2f} ±" in done.stdout
    shorter = evaluated(compositions, finished, tmp_path / "c", **{"RNG_SEED": 4})
    with pytest.raises(UserError, match="RNG_SEED: is 3 in"):
        compare_runs(finished, shorter)


def test_episodes_are_listed_on_request(compositions, finished, tmp_path):
    out = evaluated(compositions, finished, tmp_path, **{"FEWSHOT.EPISODES_FILE": "listed.jsonl"})
    lines = [json.loads(line) for line in (out / "listed.jsonl").read_text().splitlines()]
    assert [line["episode"] for line in lines] == list(range(24))
    assert all(len(set(line["classes"])) == 3 for line in lines)


def test_selection_on_the_test_list_is_reported(compositions, tmp_path):
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


# -- tools and rules -------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_contact_sheet_shows_an_episode(compositions, tmp_path, split):
    sheet = contact_sheet(configure(compositions, tmp_path), split, videos=6)
    assert sheet.ndim == 3 and sheet.shape[0] == 6 * (32 + 18 + 2) and sheet.std() > 10


def test_lists_are_checked(compositions, tmp_path):
    lists = read_configured_lists(configure(compositions, tmp_path))
    report = check_lists(lists, tmp_path / "journal.jsonl", where=Where(workers=1))
    assert report.is_clean and report.summary()["lists"]["test"]["videos"] == 24


def test_a_dry_run_computes_no_cache(compositions, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("TASK: fewshot\n")
    values = values_of(compositions, tmp_path / "out", **{"FEWSHOT.CACHE": tmp_path / "cache"})
    process = Run(config, values, options=["--dry-run"])
    assert process.wait() == 0, process.console[-2000:]
    assert "test: first batch" in process.console and not (tmp_path / "cache").exists()
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_chance_follows_the_number_of_classes(compositions, tmp_path):
    assert FewShotTask.chance_level(configure(compositions, tmp_path)) == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"FEWSHOT.METHOD": "trx", "FEWSHOT.TRX_TUPLES": [2, 9]}, "cannot be tuples"),
        ({"FEWSHOT.CACHE": "c", "FEWSHOT.TEST_JITTER": True}, "draws other frames"),
        ({"DATA.BATCH_SAMPLER": "class_balanced"}, "drawn by class already"),
        ({"TEST.METRICS": ["mean_class_accuracy"]}, "no effect on TASK fewshot"),
        ({"AUG.NUM_SAMPLE": 2}, "2 copies of a clip cannot be part of an episode"),
    ],
)
def test_impossible_configurations(compositions, tmp_path, extra, message):
    with pytest.raises(UserError, match=message):
        configure(compositions, tmp_path, **extra)
    configure(compositions, tmp_path, **(extra | {"TASK": "recognition"}))


def test_a_misspelt_method_is_corrected(compositions, tmp_path):
    with pytest.raises(UserError, match=r"(?s)FEWSHOT.METHOD: .*'otan'.*did you mean otam"):
        configure(compositions, tmp_path, **{"FEWSHOT.METHOD": "otan"})


def test_a_method_of_a_user_trains_and_is_tested(compositions, tmp_path):
    @FEWSHOT_REGISTRY.register("farthest")
    class FarthestClip(FewShotHead):
        """The class whose farthest support clip is nearest."""

        embedding_type = "vectors"

        def forward(self, support, queries):
            pairs = support[:, None] - queries[:, :, None, None]
            return EpisodeOutput(-pairs.norm(dim=-1).amax(-1))

    try:
        out = run(compositions, tmp_path, **{"FEWSHOT.METHOD": "farthest", "FEWSHOT.SHOT": 2})
    finally:
        FEWSHOT_REGISTRY._objects.pop("farthest")
    lines = stats(out)
    assert lines[0]["loss"] == pytest.approx(lines[0]["loss_episode"], abs=1e-4)
    assert lines[-1]["episodes"] == 24
